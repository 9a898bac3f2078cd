"""The group use: planted effects hold, or one is broken and is the one that fails."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planted import (
    CONTROL,
    LAST,
    PATCH,
    SHIFT,
    TEST_DRAWS,
    Effect,
    planted_runs,
    planted_table,
    used,
)
from tasklens.core.seeds import stream
from tasklens.data.instances import UNSEEN_KINDS
from tasklens.findings.check import Check
from tasklens.findings.curves import Curves, curves_of_table
from tasklens.findings.measurement import Measurement
from tasklens.findings.rules import FINDINGS, INSTRUCTIONS, PAIRS, UNSEEN
from tasklens.findings.statistics import TRAIN
from tasklens.findings.use import USE, USE_RULES, best_state, of_shuffled_labels, p_value
from tasklens.findings.verdict import Verdict, judge
from tasklens.findings.verdict_text import summary_text, verdict_document, verdict_text

CAVEAT = "earlier tokens still carry the own task"


def judged(effect: Effect = used, **what: Any) -> Verdict:
    return judge(planted_runs(effect, **what))


def outcomes(verdict: Verdict) -> dict[str, str]:
    """Return the worst outcome of each statistic."""
    order = ["holds", "undecided", "fails"]
    checks = verdict.checks_of("used")
    return {
        name: max((c.verdict for c in checks if c.rule.statistic == name), key=order.index)
        for name in dict.fromkeys(check.rule.statistic for check in checks)
    }


def numbers(verdict: Verdict) -> dict[tuple[str, str], Measurement]:
    return {(m.what, m.split): m for m in verdict.use.measurements}


NORMALISED, ABOVE, WITHIN, THIRD, SHUFFLED, P = (rule.statistic for rule in USE_RULES)


def test_a_network_that_uses_its_clusters_holds_by_the_planted_numbers() -> None:
    verdict = judged()
    assert outcomes(verdict) == dict.fromkeys((rule.statistic for rule in USE_RULES), "holds")
    assert verdict.outcome("used") == "holds"
    assert verdict.use.layers == ("block6",) * 3
    assert verdict.use.splits == UNSEEN
    expected = {
        NORMALISED: (SHIFT[6] - 0.01) / (PATCH[6] - 0.01),
        ABOVE: SHIFT[6] - 0.01,
        WITHIN: 0.02 / SHIFT[6],
        THIRD: 0.04 / SHIFT[6],
        SHUFFLED: 0.03 / SHIFT[6],
        P: 1 / (1 + TEST_DRAWS),
    }
    for check in verdict.checks_of("used"):
        assert check.value == pytest.approx(expected[check.rule.statistic]), check.rule.statistic
        assert check.low == pytest.approx(check.high), "the runs do not differ"


def changed(edit: str, value: float) -> Effect:
    return lambda e, layer, step: value if e == edit else used(e, layer, step)


def ignored(edit: str, layer: int, step: int) -> float:
    """Return the effects in a network that does not read the state: all are zero."""
    return 0.0


RATIOS = {WITHIN: "fails", THIRD: "fails", SHUFFLED: "fails"}
#: What is planted, and the statistics that then do not hold.
BROKEN: dict[str, tuple[Effect, dict[str, float], dict[str, str]]] = {
    "the state is not read": (
        ignored,
        {"largest": 0.0},
        {NORMALISED: "undecided", ABOVE: "fails", **RATIOS, P: "fails"},
    ),
    "a shift does nothing": (
        changed("shift", 0.0),
        {},
        {NORMALISED: "fails", ABOVE: "fails", **RATIOS, P: "fails"},
    ),
    "a shift does little of what a state of the other task does": (
        changed("shift", 0.15),
        {},
        {NORMALISED: "fails"},
    ),
    "a state of the other task does little": (
        lambda e, layer, step: {"shift": 0.09, "patch": 0.099}.get(e, 0.0),
        {},
        {NORMALISED: "undecided", ABOVE: "fails"},
    ),
    "any direction within a task does as much": (changed("within", 0.3), {}, {WITHIN: "fails"}),
    "the direction to a third task does as much": (changed("third", 0.3), {}, {THIRD: "fails"}),
    "shuffled labels do as much": (changed("shuffled", 0.3), {}, {SHUFFLED: "fails"}),
    "one random direction does as much": (used, {"largest": 0.4}, {P: "fails"}),
    "there are few random directions": (used, {"draws": 20}, {P: "undecided"}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_does_not_hold_and_all_the_rest_does(name: str) -> None:
    effect, what, expected = BROKEN[name]
    verdict = judged(effect, **what)
    assert {s: o for s, o in outcomes(verdict).items() if o != "holds"} == expected
    worst = "fails" if "fails" in expected.values() else "undecided"
    assert verdict.outcome("used") == worst
    assert verdict.holds, "it stands apart from the findings"


def test_shuffled_labels_fail() -> None:
    runs = [replace(c, effects=of_shuffled_labels(c.effects)) for c in planted_runs() if c.effects]
    verdict = judge(runs)
    assert verdict.outcome("used") == "fails"
    assert outcomes(verdict)[SHUFFLED] == "fails"
    (check, *_) = [c for c in verdict.checks_of("used") if c.rule.statistic == SHUFFLED]
    assert check.value == 1


def test_the_best_layer_is_chosen_by_the_ari_of_hidden_states_on_the_first_split() -> None:
    (curves, *_) = planted_runs()
    assert best_state(curves) == "block6"
    for split in UNSEEN:
        curves.ari[split, "block3", "raw"][:] = 1.0
    curves.ari[TRAIN, "block2", "tsne"] = np.ones_like(curves.ari[TRAIN, "block2", "raw"])
    assert best_state(curves) == "block6"
    curves.ari[TRAIN, "block4", "raw"][:, -1] = 0.95
    assert best_state(curves) == "block4"


# --- The p value ---


@pytest.mark.parametrize(("shift", "expected"), [(0.5, 1), (0.39, 2), (0.0, 11), (0.4, 2)])
def test_the_p_value_counts_draws_with_at_least_the_effect(shift: float, expected: int) -> None:
    (curves, *_) = planted_runs(changed("shift", shift), draws=10, largest=0.4)
    assert p_value(curves, PAIRS, ["block6"]) == pytest.approx(expected / 11)


def test_of_several_layers_the_largest_effect_is_compared_with_the_largest_of_each_draw() -> None:
    (curves, *_) = planted_runs()
    assert curves.effects
    drawn = {"block5": [0.1, 0.2, 0.3], "block6": [0.7, 0.0, 0.0, 0.9]}
    for state, values in drawn.items():
        curves.effects.draws[PAIRS, state, "random", "becomes_able"][-1] = np.array(values)
    # Shifts are 0.6 and 0.4; of the three draws that both have, the largest are 0.7, 0.2 and 0.3.
    assert p_value(curves, PAIRS, ["block5", "block6"]) == pytest.approx(2 / 4)
    assert p_value(curves, PAIRS, ["block5"]) == pytest.approx(1 / 4)
    assert p_value(curves, PAIRS, ["block6"]) == pytest.approx(3 / 5)


# --- Measurements ---


def test_measurements_are_the_planted_ones() -> None:
    got = numbers(judged())
    largest = "normalised effect of the shift in block4, the largest of all layers"
    share = (SHIFT[4] - 0.01) / (PATCH[4] - 0.01)
    assert got[largest, PAIRS].value == got[largest, INSTRUCTIONS].value == pytest.approx(share)
    p = got["p value of the largest effect of all layers among random directions", PAIRS]
    assert p.value == pytest.approx(1 / 21)
    # Effects by layer have the ranks 0 1 2 3 6 5 4: the squared differences are 4 + 0 + 4.
    assert got["rank correlation of effect and ARI, over layers", PAIRS].value == pytest.approx(
        1 - 6 * 8 / (7 * 48)
    )
    steps = {what.removeprefix("half way in steps: "): m for (what, _), m in got.items()}
    assert steps["ARI"].value == pytest.approx(550, abs=15), "up to the noise"
    assert steps["linear probe"].value == 200
    assert steps["effect"].value == 1000
    assert steps["effect - ARI"].value == pytest.approx(450, abs=15)
    assert steps["effect - linear probe"].value == 800
    assert steps["ARI"].low < steps["ARI"].value < steps["ARI"].high


def test_courses_are_compared_at_the_checkpoints_with_edits() -> None:
    """The ARI is moved at checkpoints without edits only, which changes nothing."""
    runs = planted_runs()
    before = judge(runs).use
    for curves in runs:
        for key, y in curves.ari.items():
            y[:, [step not in range(0, LAST + 1, 200) for step in curves.steps]] = 0.5
            assert np.isfinite(y).all(), key
    assert judge(runs).use == before


def test_without_a_linear_probe_only_its_numbers_are_missing() -> None:
    runs = planted_runs()
    every = {what for what, _ in numbers(judge(runs))}
    for curves in runs:
        curves.decoded.clear()
    rest = {what for what, _ in numbers(judge(runs))}
    assert {what for what in every if "probe" not in what} == rest


def test_repair_is_measured_on_unseen_instructions() -> None:
    runs = planted_runs()
    for curves in runs:
        assert curves.effects
        for edit, metric, value in (
            *(("repair", "right", 0.5), ("repair_random", "right", 0.1)),
            ("distance", "auroc", 0.8),
        ):
            course = np.full((1, len(curves.effects.steps)), value)
            curves.effects.effect[INSTRUCTIONS, "block6", edit, metric] = course
        curves.effects.n_errors[INSTRUCTIONS, LAST] = 7
    assert "can do, 21 errors\n" in verdict_text(judge(runs))
    got = {what: m.value for (what, split), m in numbers(judge(runs)).items() if split != PAIRS}
    assert got["errors that become right at their own task's centroid"] == 0.5
    assert got["the same, minus those by random directions"] == pytest.approx(0.4)
    assert got["AUROC of the distance to the own centroid, errors against hits"] == pytest.approx(
        0.8
    )


def test_edits_on_unseen_kinds_are_measured_beside_and_change_no_check() -> None:
    plain, runs = judge(planted_runs()), planted_runs()
    distribution, task = UNSEEN_KINDS
    for curves in runs:
        assert curves.effects
        effect = curves.effects.effect
        for split, shift in ((distribution, 0.7), (task, 0.3)):
            for edit, value in (("shift", shift), ("random", 0.1)):
                course = np.full((1, len(curves.effects.steps)), value)
                effect[split, "block6", edit, "becomes"] = course
        effect[distribution, "block6", "repair", "right"] = course + 0.5
        effect[distribution, "block6", "repair_random", "right"] = course
        curves.effects.n_pairs.update({distribution: 40, task: 50})
    verdict = judge(runs)
    assert verdict.checks == plain.checks
    assert verdict.use.splits == UNSEEN
    assert [(each.split, each.pairs) for each in verdict.use.edited[2:]] == [
        (distribution, 120),
        (task, 150),
    ]
    beside = {key: m.value for key, m in numbers(verdict).items() if key not in numbers(plain)}
    minus = "the same, minus those that follow random directions"
    assert beside == pytest.approx(
        {
            ("answers that follow a shift", distribution): 0.7,
            (minus, distribution): 0.6,
            ("errors that become right at their own task's centroid", distribution): 0.6,
            ("the same, minus those by random directions", distribution): 0.5,
            ("answers that follow a shift", task): 0.3,
            (minus, task): 0.2,
        }
    )


def test_the_interval_of_a_number_of_ari_and_effect_contains_other_partitions() -> None:
    """Both have more rows in the choices than in the kept curves."""
    (run, *_) = planted_runs()
    assert run.effects
    noise = stream(0, "copies").normal(scale=0.02, size=(30, 1))

    def copied(y: np.ndarray) -> np.ndarray:
        return np.concatenate([y, y + noise * (y > 0)])

    effects = replace(run.effects, effect={k: copied(y) for k, y in run.effects.effect.items()})
    decoded = {key: copied(y) for key, y in run.decoded.items()}
    ari = {key: copied(y) for key, y in run.ari.items()}
    kept = replace(run, ari=ari, decoded=decoded, effects=effects, controls={}, accuracy={})
    low = replace(kept, ari={key: y * 0.9 for key, y in ari.items()})
    chosen = kept.with_choices(low, kept)
    plain, wide = (numbers(judge([curves])) for curves in (kept, chosen))
    assert plain.keys() == wide.keys()
    for key, m in plain.items():
        assert wide[key].value == m.value
        if "ARI" not in key[0]:
            assert (wide[key].low, wide[key].high) == pytest.approx((m.low, m.high)), key
        else:
            assert wide[key].low <= m.low <= m.high <= wide[key].high


# --- Runs without edits, or with some only ---


def test_without_interventions_use_is_not_tested_in_one_line() -> None:
    for runs in (curves_of_table(planted_table()), [*planted_runs()[:2], *_bare()]):
        verdict = judge(runs)
        assert verdict.use.untested == "run 'planted' has no interventions"
        assert verdict.checks_of("used") == []
        for text in (verdict_text(verdict), summary_text(verdict)):
            lines = [line for line in text.splitlines() if "use" in line]
            assert lines == [
                "use: not tested: run 'planted' has no interventions; "
                "`tasklens intervene RUN` makes them"
            ]
        assert repr(verdict) == "Verdict(8 of 8 findings hold)"


def _bare() -> list[Curves]:
    return curves_of_table(planted_table(seeds=(2,)))


def test_a_run_that_holds_nothing_out_is_tested_on_its_only_split() -> None:
    verdict = judged(splits=(TRAIN,))
    assert {check.split for check in verdict.checks_of("used")} == {TRAIN}
    assert verdict.outcome("used") == "holds"
    untested = judge([replace(c, split_names={PAIRS: "x"}) for c in planted_runs()]).use.untested
    assert untested == "the runs have no edits on a split that all have"


def test_a_control_that_was_not_run_leaves_its_check_undecided() -> None:
    runs = planted_runs()
    for curves in runs:
        assert curves.effects
        for split in UNSEEN:
            del curves.effects.effect[split, "block6", "third", "becomes_able"]
    verdict = judge(runs)
    assert outcomes(verdict)[THIRD] == "undecided"
    (check, *_) = [c for c in verdict.checks_of("used") if c.rule.statistic == THIRD]
    assert check.note == "run 'planted' has no third of block6 on val_subset"


@pytest.mark.parametrize(
    ("n_tasks", "left_out"), [(2, {THIRD, SHUFFLED}), (3, {SHUFFLED}), (4, {SHUFFLED}), (5, set())]
)
def test_controls_without_meaning_for_few_tasks_are_left_out(
    n_tasks: int, left_out: set[str]
) -> None:
    verdict = judged(n_tasks=n_tasks)
    assert {rule.statistic for rule in USE_RULES} - outcomes(verdict).keys() == left_out
    assert verdict.outcome("used") == "holds"


def test_a_model_that_can_do_no_pair_is_undecided() -> None:
    runs = planted_runs(lambda e, layer, step: float("nan"))
    verdict = judge(runs)
    assert set(outcomes(verdict).values()) == {"undecided"}
    notes = {check.note for check in verdict.checks_of("used") if check.rule.statistic == ABOVE}
    assert notes == {"run 'planted' has no shift of block6 at its last edited step"}
    for curves in runs:
        assert curves.effects
        curves.effects.n_able.clear()
    verdict = judge(runs)
    notes = {check.note for check in verdict.checks_of("used") if check.rule.statistic == ABOVE}
    assert notes == {"there is no pair whose two tasks the model can do"}


def test_layers_and_checkpoints_without_edits_are_no_numbers() -> None:
    """Otherwise, a rank of nothing would count."""
    runs = planted_runs()
    for curves in runs:
        assert curves.effects
        for (_, state, edit, _), y in curves.effects.effect.items():
            if edit == "shift" and state in ("embed", "block5"):
                y[:] = np.nan
            if edit == "shift" and state == "block6":
                y[:, [0, 1, 4]] = np.nan
    got = numbers(judge(runs))
    # Effects of blocks 1 2 3 4 6 have the ranks 1 2 3 5 4.
    assert got["rank correlation of effect and ARI, over layers", PAIRS].value == pytest.approx(0.9)
    over_steps = got["rank correlation of effect and ARI, over steps", PAIRS]
    assert 0.7 < over_steps.value < 1
    # From step 400, where it is 0, to 0.4 at the end.
    assert got["half way in steps: effect", PAIRS].value == pytest.approx(1000)
    assert got["half way in steps: ARI", PAIRS].value == pytest.approx(700, abs=15)


# --- Texts ---


def test_use_stands_apart_in_text_and_json() -> None:
    verdict = judged()
    lines = verdict_text(verdict).splitlines()
    at = lines.index(f"use, apart from the findings, in the best layer, block6 ({CAVEAT}):")
    able = "270 of 300 pairs whose two tasks the model can do"
    assert [line.strip() for line in lines[at + 1 : at + 3]] == [f"{s}: {able}" for s in UNSEEN]
    assert lines[at + 3].startswith("holds      used                        0.39 > 0.2")
    assert lines[at + 4].strip() == USE["used"]
    assert lines[-1] == "8 findings: 8 holds, 0 fails, 0 undecided"
    (p,) = [line.split() for line in lines if line.startswith("               holds      val_sub")][
        -1:
    ]
    assert p == ["holds", "val_subset", "0.005", "<", "0.01", "[0.005,", "0.005]"]
    half = [line.split("  ") for line in lines if line.startswith("  half way in steps: effect  ")]
    assert [part.strip() for part in half[0] if part][-2:] == ["1000", "[1000, 1000]"]
    summary = summary_text(verdict).splitlines()
    assert summary[len(FINDINGS) :] == [lines[at], lines[at + 3], lines[-1]]
    document = verdict_document(verdict)
    assert [finding["finding"] for finding in document["findings"]] == [*FINDINGS]
    use = json.loads(json.dumps(document["use"]))
    assert [finding["finding"] for finding in use["findings"]] == [*USE]
    assert use["findings"][0]["verdict"] == "holds"
    assert use["layers"] == ["block6"] * 3
    assert use["untested"] == ""
    assert use["edited"] == [
        {"split": split, "pairs": 300, "able": 270, "errors": 0} for split in UNSEEN
    ]
    assert {"what", "split", "each", "value", "low", "high"} == set(use["measurements"][0])
    assert repr(verdict) == "Verdict(8 of 8 findings hold; used: holds)"


def test_a_number_that_a_run_lacks_is_none() -> None:
    verdict = judged(changed("shift", 0.0))
    lines = verdict_text(verdict).splitlines()
    assert any("half way in steps: effect  " in line and "none" in line for line in lines)


def test_each_check_is_of_the_group() -> None:
    checks: list[Check] = judged().checks_of("used")
    assert {check.rule for check in checks} == set(USE_RULES)
    assert {rule.finding for rule in USE_RULES} == set(USE)
    assert not set(USE) & set(FINDINGS)
    assert set(CONTROL) == {"random", "within", "third", "shuffled"}
