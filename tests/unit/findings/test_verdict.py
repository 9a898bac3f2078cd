"""Planted answers: every finding holds, or one is broken and is the one that fails."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from planted import (
    CONTROLS,
    GAPS,
    HIGH,
    LAST,
    LOW,
    Ari,
    final,
    planted_table,
    risen,
    sound,
    with_band,
)
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.findings.check import Check
from tasklens.findings.curves import Curves, curves_of_table
from tasklens.findings.rules import FINDINGS, INSTRUCTIONS, PAIRS, RULES, SEEN_AND_UNSEEN
from tasklens.findings.statistics import TRAIN
from tasklens.findings.verdict import Verdict, judge
from tasklens.findings.verdict_text import verdict_json
from tasklens.scoring.score_table import Row


def judged(ari: Ari = sound, metric: str = "ari", **what: Any) -> Verdict:
    return judge(curves_of_table(planted_table(ari, **what), metric))


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    """On the scores in which every finding holds."""
    return judged()


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {finding: verdict.outcome(finding) for finding in FINDINGS}


def failed(verdict: Verdict) -> set[str]:
    """Return the names of the statistics that fail."""
    return {check.rule.number.__name__ for check in verdict.checks if check.verdict == "fails"}


def checks(verdict: Verdict, statistic: str) -> dict[str, Check]:
    """Return the check of a statistic on each split."""
    return {c.split: c for c in verdict.checks if c.rule.number.__name__ == statistic}


# --- Every finding holds ---


def test_every_finding_holds_in_a_sound_network(verdict: Verdict) -> None:
    assert {check.verdict for check in verdict.checks} == {"holds"}
    assert outcomes(verdict) == dict.fromkeys(FINDINGS, "holds")
    assert verdict.holds
    assert finite_numbers(verdict_json(verdict).decode())["holds"] is True
    assert verdict_json(judged()) == verdict_json(verdict), "the bytes repeat"
    assert verdict.runs == (("planted", 0), ("planted", 1), ("planted", 2))
    assert judged(seeds=(7, 8)).holds, "two seeds are enough"
    assert judged(steps=tuple(range(0, LAST + 1, 200))).holds, "so are evenly spaced checkpoints"


def test_a_finding_that_is_none_is_refused(verdict: Verdict) -> None:
    with pytest.raises(InputError, match=r"^no finding 'saturated'; the nearest is 'saturation'$"):
        verdict.outcome("saturated")


def test_what_is_checked_is_what_was_planted(verdict: Verdict) -> None:
    """By the numbers that the planted course comes to, up to its noise."""
    ones = ["rank_with_step", "rank_with_layer", "rank_with_layer_below"]
    ones += ["depth_of_best", "depth_of_best_below", "generalisation_correlation"]
    expected: dict[str, Callable[[float], float]] = {
        **dict.fromkeys(ones, lambda _: 1),
        **dict.fromkeys(("late_drift", "embedding_range"), lambda _: 0),
        "upper_gain": lambda less: (HIGH - LOW - less) * (4 + 5 + 6) / 18,
        "best_final": lambda less: HIGH - less,
        "above_embedding": lambda less: HIGH - LOW - less,
        "above_embedding_below": lambda less: (HIGH - LOW - less) * 5 / 6,
        "embedding_final": lambda _: LOW,
        "generalisation_gap": lambda less: less,
        "largest_jump": lambda _: 200 / 900,
        "rise_duration": lambda _: 0.8 * 900 / LAST,
        "untrained_ratio": lambda less: LOW / (HIGH - less),
    }
    for statistic, value in expected.items():
        unseen = (PAIRS, INSTRUCTIONS)
        splits = unseen if statistic.startswith("generalisation") else SEEN_AND_UNSEEN
        assert tuple(checks(verdict, statistic)) == splits
        for split, check in checks(verdict, statistic).items():
            assert check.value == pytest.approx(value(GAPS[split]), abs=0.02), statistic
            assert check.value == pytest.approx(np.mean(check.each))
            half = 4.3027 * np.std(check.each, ddof=1) / 3**0.5  # Student's t
            ends = (check.value - half, check.value + half)
            assert (check.low, check.high) == pytest.approx(ends, abs=1e-5), "beyond the runs"
    others = [c for c in verdict.checks if c.rule.number.__name__ not in expected]
    ratios = [value / (HIGH - GAPS[s]) for value in (0.0, 0.1, 0.2) for s in SEEN_AND_UNSEEN]
    assert [check.value for check in others] == pytest.approx(ratios, abs=0.01)


# --- One finding is broken ---


def scaled(split: str, layer: int, share: float) -> float:
    """Return an ARI on the layer's way from `LOW` to its planted end."""
    return LOW + (final(split, layer) - LOW) * share


def flat(split: str, layer: int, step: int) -> float:
    return final(split, layer)


def high_before(split: str, layer: int, step: int) -> float:
    """Blocks 4 and 5 begin higher than they end, and the last rises for all three."""
    if layer not in (4, 5):
        return sound(split, layer, step)
    return final(split, layer) + 0.1 * (layer - 3) * (1 - risen(step))


def falls_late(split: str, layer: int, step: int) -> float:
    return scaled(split, layer, risen(step) * (1.15 - 0.15 * max(0.0, step - 1200) / 400))


def instructions_behind(split: str, layer: int, step: int) -> float:
    less = 0.15 * layer / 6 * risen(step)
    return sound(split, layer, step) - (less if split == INSTRUCTIONS else 0)


def jumps(split: str, layer: int, step: int) -> float:
    """From a tenth of the way at step 600 to nine tenths at 800."""
    return scaled(split, layer, step / 6000 if step < 800 else 0.9 + 0.1 * risen(step))


def falls_below_the_last(split: str, layer: int, step: int) -> float:
    """Blocks 4 and 5 come at once, go, and come back at the end."""
    if layer not in (4, 5) or step in (0, LAST):
        return sound(split, layer, step)
    return 0.9 if step < 500 else 0.3


def lower(split: str, layer: int, step: int) -> float:
    return scaled(split, layer, 0.65 * risen(step))


def still_rising(split: str, layer: int, step: int) -> float:
    return scaled(split, layer, step / LAST)


def last_turned_down(split: str, layer: int, step: int) -> float:
    if layer == 6:
        return LOW + 0.05 * risen(step)
    return LOW + (sound(split, layer, step) - LOW) * 1.2


def pairs_behind(split: str, layer: int, step: int) -> float:
    rise = {TRAIN: 0.98, PAIRS: 0.83}.get(split, 0.95) - LOW
    return LOW + rise * layer / 6 * risen(step)


def rises_at_once(split: str, layer: int, step: int) -> float:
    """In the first steps, a quarter at each power of two: no jump, but soon over."""
    early = np.interp(step, [8, 16, 32, 64, 128], [0, 0.23, 0.46, 0.69, 0.92])
    return scaled(split, layer, float(early) if step < 128 else 0.92 + 0.08 * step / LAST)


DEPTHS = "depth, depth below the last block"
ALL_DEPTHS = "rank_with_layer, depth_of_best, rank_with_layer_below, depth_of_best_below"
HARDLY = "above_embedding, above_embedding_below, embedding_final, embedding_range"
#: The ARI, the findings that fail, and the statistics that do.
BROKEN: dict[str, tuple[Ari, str, str]] = {
    "the upper layers come and go": (falls_below_the_last, "emergence", "rank_with_step"),
    "the upper layers were high before": (
        *(high_before, "emergence, not from the inputs", "upper_gain, untrained_ratio"),
    ),
    "it ends at 0.6": (lower, "saturation", "best_final"),
    "it still rises in the last quarter": (still_rising, "saturation", "late_drift"),
    "it falls again in the last quarter": (falls_late, "saturation", "late_drift"),
    "lower layers score higher": (
        lambda split, i, step: sound(split, 7 - i if i else 0, step),
        *(DEPTHS, ALL_DEPTHS),
    ),
    "the last block is turned down": (last_turned_down, "depth", "rank_with_layer"),
    # Even layer 0 is high, and each block is only a little higher than the one below.
    "layers hardly differ": (
        lambda _, i, step: LOW + (HIGH - 0.15 + 0.02 * i - LOW) * risen(step),
        *(f"{DEPTHS}, baseline", HARDLY),
    ),
    "layer 0 moves": (
        lambda split, i, step: sound(split, i, step) + (0 if i else 0.12 * risen(step)),
        *("baseline", "embedding_range"),
    ),
    "layer 0 is high": (
        lambda split, i, step: sound(split, i, step) if i else 0.25,
        *("baseline", "embedding_final"),
    ),
    "unseen pairs stay behind": (pairs_behind, "generalisation", "generalisation_gap"),
    "unseen instructions stay behind": (
        *(instructions_behind, "generalisation", "generalisation_gap"),
    ),
    # As high in the end, but they were so from the start.
    "unseen instructions take another course": (
        lambda split, i, step: (flat if split == INSTRUCTIONS else sound)(split, i, step),
        *("generalisation", "generalisation_correlation"),
    ),
    "a single jump": (jumps, "gradual", "largest_jump"),
    "the rise is over at once": (rises_at_once, "gradual", "rise_duration"),
    # Block 2, which is not judged by, is high before training and low after its first step.
    "an untrained network is as high": (
        lambda split, i, step: 0.6 * HIGH if (i, step) == (2, 0) else sound(split, i, step),
        *("not from the inputs", "untrained_ratio"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_fails_and_nothing_else(name: str) -> None:
    ari, findings, names = BROKEN[name]
    verdict = judged(ari)
    broken = dict.fromkeys(findings.split(", "), "fails")
    assert outcomes(verdict) == dict.fromkeys(FINDINGS, "holds") | broken
    assert failed(verdict) == set(names.split(", "))
    assert not verdict.holds


def test_flat_curves_fail_every_rule_on_a_course() -> None:
    verdict = judged(flat)
    # It is high in the end, but of no rise there is a share.
    others = {"saturation": "undecided", **dict.fromkeys(DEPTHS.split(", "), "holds")}
    assert outcomes(verdict) == dict.fromkeys(FINDINGS, "fails") | others
    assert failed(verdict) >= {"upper_gain", "largest_jump", "rise_duration", "untrained_ratio"}


@pytest.mark.parametrize("control", CONTROLS)
def test_inputs_that_score_as_high_fail(control: str) -> None:
    verdict = judged(controls={**CONTROLS, control: 0.6 * HIGH})
    wrong = [check for check in verdict.checks if check.verdict == "fails"]
    assert {check.rule.finding for check in wrong} == {"not from the inputs"}
    (statistic,) = {check.rule.statistic for check in wrong}
    name = {"control:length": "the instruction's length", "control:symbols": "the bag of symbols"}
    assert name.get(control, "the input token") in statistic
    assert [check.split for check in wrong] == [TRAIN, PAIRS]
    assert wrong[0].value == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("split", [TRAIN, PAIRS])
def test_each_split_is_judged(split: str) -> None:
    """Both splits must do well: one alone that does not is enough."""

    def late_on_one_split(name: str, layer: int, step: int) -> float:
        return (still_rising if name == split else sound)(name, layer, step)

    verdict = judged(late_on_one_split)
    assert verdict.outcome("saturation") == "fails"
    expected = dict.fromkeys((TRAIN, PAIRS), "holds") | {split: "fails"}
    assert {s: c.verdict for s, c in checks(verdict, "late_drift").items()} == expected


@pytest.mark.parametrize("seeds", [(0, 1, 2), (3, 4, 5), (6, 7, 8)])
def test_chance_fails(seeds: tuple[int, ...]) -> None:
    verdict = judged(metric="ari_shuffled", seeds=seeds)
    for finding in ("emergence", "saturation", "depth", "baseline", "generalisation", "gradual"):
        assert verdict.outcome(finding) == "fails", finding
    assert failed(verdict) >= {"upper_gain", "best_final", "above_embedding"}
    assert "generalisation_correlation" in failed(verdict)


# --- Undecided ---


def test_an_interval_across_the_threshold_is_undecided() -> None:
    runs = curves_of_table(planted_table())
    for curves, value in zip(runs, (0.14, 0.19, 0.24), strict=True):
        for split in SEEN_AND_UNSEEN:
            curves.ari[split, "embed", "raw"][:] = value
    verdict = judge(runs)
    for check in checks(verdict, "embedding_final").values():
        half = 4.3027 * 0.05 / 3**0.5  # Student's t
        assert (check.low, check.high) == pytest.approx((0.19 - half, 0.19 + half), abs=1e-5)
        assert check.value == pytest.approx(0.19)
        assert (check.verdict, check.note) == ("undecided", "")
    assert outcomes(verdict) == dict.fromkeys(FINDINGS, "holds") | {"baseline": "undecided"}
    assert not verdict.holds


def test_an_interval_around_a_range_is_undecided() -> None:
    runs = curves_of_table(planted_table())
    for curves, tilt in zip(runs, (-0.2, 0.0, 0.2), strict=True):
        late = np.maximum(np.array(curves.steps) - 1200, 0) / 400  # 0 .. 1 in the last quarter
        for values in curves.ari.values():
            values *= 1 + tilt * late
    verdict = judge(runs)
    for check in checks(verdict, "late_drift").values():
        assert check.low < -0.1 < 0.1 < check.high
        assert check.verdict == "undecided"


def test_a_finding_fails_if_one_check_fails_and_others_are_undecided() -> None:
    steps = (0, 400, 800, 1200, 1600)
    verdict = judged(BROKEN["it ends at 0.6"][0], steps=steps)
    assert {c.verdict for c in checks(verdict, "late_drift").values()} == {"undecided"}
    assert verdict.outcome("saturation") == "fails"


@pytest.mark.parametrize(
    ("gone", "undecided"),
    [(INSTRUCTIONS, {"generalisation"}), (PAIRS, set(FINDINGS)), (TRAIN, set(FINDINGS))],
)
def test_a_missing_split_is_named(gone: str, undecided: set[str]) -> None:
    splits = tuple(s for s in (TRAIN, PAIRS, INSTRUCTIONS) if s != gone)
    verdict = judged(splits=splits)
    assert {f for f, word in outcomes(verdict).items() if word == "undecided"} == undecided
    assert failed(verdict) == set()
    for check in verdict.checks:
        if check.split == gone:
            assert check.verdict == "undecided"
            missing = "control:" if "control" in check.note else "scores"
            assert check.note.startswith(f"run 'planted' has no {missing}")
            assert f" of {gone}" in check.note
            assert check.each == ()
            assert np.isnan([check.value, check.low, check.high]).all()


def test_a_single_table_of_one_run_has_no_interval(verdict: Verdict) -> None:
    alone = judged(seeds=(0,))
    assert outcomes(alone) == dict.fromkeys(FINDINGS, "undecided")
    for check, of_three in zip(alone.checks, verdict.checks, strict=True):
        assert check.note.startswith("no interval: a single table of scores")
        assert check.each == (check.value,)
        assert check.value == of_three.each[0], "the number is given all the same"
        assert np.isnan([check.low, check.high]).all()


def test_copies_of_one_run_make_an_interval() -> None:
    def copied(spread: float) -> Verdict:
        (curves,) = curves_of_table(planted_table(seeds=(0,)))
        random = stream(0, "copies")
        for key, values in curves.ari.items():
            noise = spread * random.normal(size=(200, 1))
            curves.ari[key] = np.concatenate([values, values + noise])
        for name, control in curves.controls.items():
            curves.controls[name] = np.repeat(control, 201)
        return judge([curves])

    assert copied(0.005).holds
    wide = copied(0.15)
    for check in checks(wide, "best_final").values():
        assert check.verdict == "undecided"
        assert check.low == pytest.approx(check.value - 1.96 * 0.15, abs=0.08)
        assert check.high == pytest.approx(check.value + 1.96 * 0.15, abs=0.08)
        assert check.value == check.each[0] == pytest.approx(HIGH, abs=0.035)


# --- What cannot be judged ---


def test_runs_that_cannot_be_judged_are_refused() -> None:
    runs = curves_of_table(planted_table())
    with pytest.raises(InputError, match=r"^no run to verify: give at least one$"):
        judge([])
    with pytest.raises(InputError, match=r"^run 'planted' with seed 1 is given twice$"):
        judge([*runs, runs[1]])
    for left in (["embed"], ["wte", "ln_f"], ["block1", "block2"]):
        table = planted_table(seeds=(0,))
        alone = curves_of_table(table.filter(pc.field("layer").isin(left)))
        with pytest.raises(InputError, match=r"^run 'planted': the layers are .*: should be embed"):
            judge(alone)


# --- What is written ---


def test_the_rules_are_complete() -> None:
    assert {rule.finding for rule in RULES} == set(FINDINGS)
    for rule in RULES:
        assert rule.above < rule.below
        assert np.isfinite([rule.above, rule.below]).any(), "a check can fail"
        assert rule.reason
        assert len({TRAIN, *rule.splits}) >= 2
    names = [(rule.finding, rule.statistic) for rule in RULES]
    assert len(set(names)) == len(names)


def finite_numbers(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("ari", [sound, flat, last_turned_down])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_verdict_as_json(ari: Ari, seeds: tuple[int, ...]) -> None:
    verdict = judged(ari, seeds=seeds, splits=SEEN_AND_UNSEEN)
    content = finite_numbers(verdict_json(verdict).decode())
    assert content["holds"] is verdict.holds is False, "unseen instructions are missing"
    assert content["runs"] == [{"run": "planted", "seed": seed} for seed in seeds]
    assert content["confidence"] == 0.95
    got = {f["finding"]: (f["sentence"], f["verdict"]) for f in content["findings"]}
    assert got == {f: (sentence, verdict.outcome(f)) for f, sentence in FINDINGS.items()}
    written = [check for finding in content["findings"] for check in finding["checks"]]
    for mine, check in zip(written, verdict.checks, strict=True):
        for name in ("split", "verdict", "note"):
            assert mine[name] == getattr(check, name)
        for name in ("statistic", "reason"):
            assert mine[name] == getattr(check.rule, name)
        values = [check.value, check.low, check.high, check.rule.above, check.rule.below]
        given = [mine[name] for name in ("value", "low", "high", "above", "below")] + mine["each"]
        assert given == [x if np.isfinite(x) else None for x in (*values, *check.each)]
        assert len(mine["each"]) in (0, len(seeds))


# --- In an interactive session ---


def test_a_verdict_and_curves_are_shown_in_a_line(verdict: Verdict) -> None:
    assert repr(verdict) == "Verdict(8 of 8 findings hold)"
    broken = judged(last_turned_down, splits=SEEN_AND_UNSEEN)
    assert repr(broken) == (
        "Verdict(6 of 8 findings hold; fails: depth; undecided: generalisation)"
    )
    (curves,) = curves_of_table(planted_table(seeds=(3,)))
    contents = f"{len(curves.steps)} checkpoints, 7 layers"
    assert repr(curves) == f"Curves(run 'planted', seed 3: {contents}, B = 1)"
    assert (
        repr(Curves("empty", 0, ()))
        == "Curves(run 'empty', seed 0: 0 checkpoints, 0 layers, B = 0)"
    )


# --- Near-best starts ---


def banded(low: float, high: float, only: str = "", **what: Any) -> Verdict:
    """Judge sound scores whose bands reach from `low` below to `high` above, on a split or all."""

    def end(change: float) -> Callable[[Row], float]:
        return lambda row: float(row["value"] or 0) + change * (only in ("", row["split"]))

    return judge(curves_of_table(with_band(planted_table(**what), end(-low), end(high))))


def test_without_a_choice_intervals_stay_as_they_were(verdict: Verdict) -> None:
    same = banded(0, 0)
    assert same.checks == verdict.checks
    assert same.timings == verdict.timings
    assert (verdict.over, same.over) == ("runs", "runs and near-best starts")


@pytest.mark.parametrize(("low", "high"), [(0.15, 0), (0, 0.15), (0.3, 0.02)])
def test_an_interval_contains_that_of_each_choice(
    verdict: Verdict, low: float, high: float
) -> None:
    for before, check in zip(verdict.checks, banded(low, high).checks, strict=True):
        assert check.each == before.each, "the kept clusters are judged"
        assert check.low <= before.low <= before.high <= check.high
    final = checks(banded(low, high), "best_final")
    for split, before in checks(verdict, "best_final").items():
        # Other partitions move the worst and the best run; Student's t is of the kept ones.
        assert final[split].low == pytest.approx(min(before.low, min(before.each) - low))
        assert final[split].high == pytest.approx(max(before.high, max(before.each) + high))


def test_a_finding_that_another_partition_would_break_is_undecided(verdict: Verdict) -> None:
    assert outcomes(verdict)["saturation"] == "holds"
    assert checks(banded(0.04, 0), "best_final")[PAIRS].verdict == "holds"
    assert outcomes(banded(0.3, 0))["saturation"] == "undecided"
    assert outcomes(banded(0.3, 0, PAIRS))["saturation"] == "undecided"
    assert checks(banded(0.3, 0, PAIRS), "best_final")[TRAIN].verdict == "holds"
    # What fails with every choice fails.
    for high, outcome in ((0.1, "fails"), (0.5, "undecided")):
        low = banded(0.1, high, ari=lambda split, layer, step: sound(split, layer, step) / 2)
        assert checks(low, "best_final")[PAIRS].verdict == outcome


def test_a_gap_contains_opposite_choices_on_the_two_splits() -> None:
    """All lowest and all highest partitions have the same gap; only a mixture shows it."""
    check = checks(banded(0.2, 0), "generalisation_gap")[PAIRS]
    assert check.verdict == "undecided"
    assert check.low < check.value - 0.1
    assert check.high > check.value + 0.1


def test_tables_with_and_without_a_band_are_judged_together(verdict: Verdict) -> None:
    plain, other = planted_table(seeds=(0,)), planted_table(seeds=(1, 2))
    wide = with_band(other, lambda row: 0.0, lambda row: 1.0)
    mixed = judge([*curves_of_table(plain), *curves_of_table(wide)])
    final = checks(mixed, "best_final")[TRAIN]
    assert final.each == checks(verdict, "best_final")[TRAIN].each
    assert (final.low, final.verdict) == (0, "undecided"), "two draws of the runs with a band"
    alone = judge(curves_of_table(with_band(plain, lambda row: 0.0, lambda row: 1.0)))
    assert {check.verdict for check in alone.checks} == {"undecided"}
    assert (alone.over, "no interval" in alone.checks[0].note) == ("", True)
