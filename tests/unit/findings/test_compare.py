"""Two runs, or two checkpoints, against each other: known differences, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from tasklens.core.errors import InputError
from tasklens.findings.compare import BEST, ComparedSteps, compare_curves
from tasklens.findings.compare_text import steps_data, steps_summary, steps_text
from tasklens.findings.curves import Curves
from tasklens.scoring.bootstrap import Floats

COPIES = 2000
SPLITS = ("train_subset", "val_subset")


def curves(
    final: dict[tuple[str, str], float],
    noise: Floats | None = None,
    accuracy: float | None = None,
    names: dict[str, str] | None = None,
) -> Curves:
    """Return a run whose ARI ends at given values, with noise in the copies."""
    spread = np.zeros(1) if noise is None else np.append(0.0, noise)
    run = Curves("run", 0, (0, 10), split_names=names or {split: split for split in SPLITS})
    for (split, state), value in final.items():
        run.ari[split, state, "raw"] = np.stack([0 * spread, value + spread], axis=1)
    if accuracy is not None:
        run.accuracy["train_subset"] = np.stack([0 * spread, accuracy + spread], axis=1)
    return run


FINAL = {("train_subset", "embed"): 0.1, ("train_subset", "block1"): 0.5}
NOISE = np.random.default_rng(0).normal(0, 0.1, COPIES)


def test_the_difference_is_second_minus_first() -> None:
    other = {key: value + 0.2 for key, value in FINAL.items()}
    compared = compare_curves(curves(FINAL, NOISE, 0.25), curves(other, NOISE, 0.75), paired=True)
    best, embed, block1 = compared.ari
    assert (embed.layer, embed.first) == ("embed", 0.1)
    assert embed.second == pytest.approx(0.3)
    assert block1.difference == pytest.approx(0.2)
    (accuracy,) = compared.accuracy
    assert (accuracy.split, accuracy.layer, accuracy.difference) == ("train_subset", "", 0.5)
    assert compared.best == (("block1", "raw"), ("block1", "raw"))
    assert compared.best_layers == ("block1", "block1")
    assert replace(best, layer="block1") == replace(block1, low=best.low, high=best.high)


def test_noise_that_both_share_cancels_if_the_copies_are_paired() -> None:
    runs = curves(FINAL, NOISE), curves(FINAL, NOISE)
    (paired, *_), (independent, *_) = (
        compare_curves(*runs, paired=paired).ari for paired in (True, False)
    )
    assert (paired.low, paired.high) == (0.0, 0.0)
    # Independent: the standard deviation of the difference is 0.1 times the root of 2.
    expected = 1.96 * 0.1 * np.sqrt(2)
    assert [independent.low, independent.high] == pytest.approx([-expected, expected], abs=0.03)


def test_without_copies_there_is_no_interval() -> None:
    first, *_ = compare_curves(curves(FINAL), curves(FINAL, NOISE), paired=False).ari
    assert first.difference == 0
    assert np.isnan([first.low, first.high]).all()


def test_splits_are_matched_by_the_names_of_the_runs() -> None:
    """A model run has other names for the splits that the findings are about."""
    own = curves({("train_subset", "block1"): 0.5}, names={"train_subset": "held_out"})
    trained = curves({("val_subset", "block1"): 0.4, **FINAL})
    with pytest.raises(InputError, match="share no split: one has train_subset, val_subset, the o"):
        compare_curves(trained, own, paired=False)
    same = curves({("train_subset", "block1"): 0.5}, names={"train_subset": "val_subset"})
    _, only = compare_curves(trained, same, paired=False).ari
    assert (only.split, only.first, only.second) == ("val_subset", 0.4, 0.5)


def test_runs_that_share_no_hidden_state() -> None:
    other = curves({("train_subset", "block7"): 0.5})
    with pytest.raises(InputError, match="run and run share no hidden state that was scored"):
        compare_curves(curves(FINAL), other, paired=False)


def test_what_was_not_scored_at_the_end_is_left_out() -> None:
    one = curves(FINAL)
    one.ari["train_subset", "embed", "raw"][:, -1] = np.nan
    compared = compare_curves(one, curves(FINAL), paired=False).ari
    assert [d.layer for d in compared] == [BEST, "block1"]


def test_the_interval_contains_other_near_best_partitions() -> None:
    first = curves(FINAL, 0.01 * NOISE)
    low, high = (
        curves({key: value + change for key, value in FINAL.items()}, 0.01 * NOISE)
        for change in (-0.1, 0.3)
    )
    chosen = first.with_choices(low, high)
    for pair, ends in (
        ((first, chosen), (-0.1, 0.3)),
        ((chosen, first), (-0.3, 0.1)),
        ((chosen, chosen), (-0.4, 0.4)),
    ):
        for difference in compare_curves(*pair, paired=True).ari:
            assert difference.difference == 0
            assert [difference.low, difference.high] == pytest.approx(ends)


# --- Checkpoints of one run ---


def stages() -> Curves:
    """Return a run of two stages that share the noise of their copies.

    ``base`` has its best layer in block1 and ``sft`` in block2. There the ARI rises by 0.3, and the
    accuracy of the linear probe by 0.1.
    """
    spread = np.append(0.0, NOISE)
    of_states = {"embed": (0.1, 0.1), "block1": (0.5, 0.4), "block2": (0.3, 0.8)}
    run = Curves("run", 0, (1, 2))
    for split in SPLITS:
        for state, values in of_states.items():
            run.ari[split, state, "raw"] = np.add.outer(spread, values)
    for state, values in {"block1": (0.7, 0.2), "block2": (0.6, 0.8)}.items():
        run.decoded["val_subset", state] = np.add.outer(spread, values)
    run.accuracy["train_subset"] = np.add.outer(0 * spread, (0.25, 0.75))
    return run


def test_stages_are_compared_on_the_same_copies() -> None:
    both = [stages().at(step, run=name) for step, name in ((1, "base"), (2, "sft"))]
    assert [(each.run, each.steps) for each in both] == [("base", (1,)), ("sft", (2,))]
    compared = compare_curves(*both, paired=True)
    assert compared.best_layers == ("block1", "block2")
    changes = {(d.layer, d.split): d for d in compared.ari}
    assert len(changes) == 4 * len(SPLITS)
    for layer, change in {BEST: 0.3, "embed": 0, "block1": -0.1, "block2": 0.5}.items():
        for split in SPLITS:
            difference = changes[layer, split]
            ends = [difference.difference, difference.low, difference.high]
            assert ends == pytest.approx([change] * 3), "noise that both share cancels"
    best, block1, block2 = compared.decoded
    assert [best.layer, best.split] == [BEST, "val_subset"]
    assert [best.first, best.second] == pytest.approx([0.7, 0.8])
    assert [block1.difference, block2.difference] == pytest.approx([-0.5, 0.2])
    (accuracy,) = compared.accuracy
    assert accuracy.difference == 0.5


def test_a_stage_has_its_own_near_best_partitions() -> None:
    """A stage may be in any of its near-best partitions, whichever the other is in."""
    low, high = (
        replace(stages(), ari={key: y + change for key, y in stages().ari.items()})
        for change in (-0.1, 0.3)
    )
    chosen = stages().with_choices(low, high)
    one, two = (chosen.at(step, run="stage") for step in (1, 2))
    block1 = next(d for d in compare_curves(one, two, paired=True).ari if d.layer == "block1")
    assert [block1.low, block1.high] == pytest.approx([-0.5, 0.3])
    # The same model twice has one partition, and no difference at all.
    same = [replace(one, choices=())] * 2
    for difference in compare_curves(*same, paired=True).ari:
        assert [difference.difference, difference.low, difference.high] == [0, 0, 0]


def test_differences_of_stages_as_text_and_as_data() -> None:
    both = [stages().at(step, run=name) for step, name in ((1, "base"), (2, "sft"))]
    pair = ComparedSteps(("base", "sft"), (1, 2), compare_curves(*both, paired=True))
    lines = [" ".join(line.split()) for line in steps_text([pair]).splitlines()]
    assert lines[:2] == ["sft - base", "final ARI space split base sft difference"]
    assert "best layer raw train_subset 0.50 0.80 +0.30 [0.30, 0.30]" in lines
    assert "block1 raw val_subset 0.50 0.40 -0.10 [-0.10, -0.10]" in lines
    assert "block2 val_subset 0.60 0.80 +0.20 [0.20, 0.20]" in lines
    assert "accuracy train_subset 0.25 0.75 +0.50 [0.50, 0.50]" in lines
    assert "best layer: block1 | block2" in lines
    summary = [" ".join(line.split()) for line in steps_summary([pair]).splitlines()]
    assert summary == [
        "difference, same prompts split sft - base",
        "ARI, best layer train_subset +0.30 [0.30, 0.30]",
        "ARI, best layer val_subset +0.30 [0.30, 0.30]",
        "linear probe, best layer val_subset +0.10 [0.10, 0.10]",
        "accuracy train_subset +0.50 [0.50, 0.50]",
        "best layers: block1 of base, block2 of sft",
    ]
    (data,) = steps_data([pair])
    assert (data["first"], data["second"], data["steps"]) == ("base", "sft", (1, 2))
    assert [d["layer"] for d in data["ari"]][::2] == [BEST, "embed", "block1", "block2"]
