"""Two runs against each other: known differences, and what cannot be compared."""

import numpy as np
import pytest

from tasklens.core.errors import InputError
from tasklens.findings.compare import Difference, compare_curves
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
    embed, block1 = compared.ari
    assert (embed.layer, embed.first) == ("embed", 0.1)
    assert embed.second == pytest.approx(0.3)
    assert block1.difference == pytest.approx(0.2)
    (accuracy,) = compared.accuracy
    assert (accuracy.split, accuracy.layer, accuracy.difference) == ("train_subset", "", 0.5)
    assert compared.best == (("block1", "raw"), ("block1", "raw"))


def test_noise_that_both_share_cancels_if_the_copies_are_paired() -> None:
    runs = curves(FINAL, NOISE), curves(FINAL, NOISE)
    (paired, _), (independent, _) = (
        compare_curves(*runs, paired=paired).ari for paired in (True, False)
    )
    assert (paired.low, paired.high) == (0.0, 0.0)
    # Independent: the standard deviation of the difference is 0.1 times the root of 2.
    expected = 1.96 * 0.1 * np.sqrt(2)
    assert [independent.low, independent.high] == pytest.approx([-expected, expected], abs=0.03)


def test_without_copies_there_is_no_interval() -> None:
    first, _ = compare_curves(curves(FINAL), curves(FINAL, NOISE), paired=False).ari
    assert first.difference == 0
    assert np.isnan([first.low, first.high]).all()


def test_splits_are_matched_by_the_names_of_the_runs() -> None:
    """A model run has other names for the splits that the findings are about."""
    own = curves({("train_subset", "block1"): 0.5}, names={"train_subset": "held_out"})
    trained = curves({("val_subset", "block1"): 0.4, **FINAL})
    with pytest.raises(InputError, match="share no split: one has train_subset, val_subset, the o"):
        compare_curves(trained, own, paired=False)
    same = curves({("train_subset", "block1"): 0.5}, names={"train_subset": "val_subset"})
    (only,) = compare_curves(trained, same, paired=False).ari
    assert (only.split, only.first, only.second) == ("val_subset", 0.4, 0.5)


def test_runs_that_share_no_hidden_state() -> None:
    other = curves({("train_subset", "block7"): 0.5})
    with pytest.raises(InputError, match="run and run share no hidden state that was scored"):
        compare_curves(curves(FINAL), other, paired=False)


def test_what_was_not_scored_at_the_end_is_left_out() -> None:
    one = curves(FINAL)
    one.ari["train_subset", "embed", "raw"][:, -1] = np.nan
    compared: tuple[Difference, ...] = compare_curves(one, curves(FINAL), paired=False).ari
    assert [d.layer for d in compared] == ["block1"]


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
