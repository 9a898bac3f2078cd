"""Compute the statistics of a run's curves, (B,) each, that the rules of the findings use.

Each takes the curves of a run and the name of a split. It raises `MissingError` if the run does
not have the scores that it needs.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from tasklens.findings.curves import Curves
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.bootstrap import Floats

#: The smallest number of evenly spaced checkpoints for a statistic of the course.
MIN_CHECKPOINTS = 8
#: A curve is saturated once it has made this share of its way to its highest value.
SATURATED = 0.95
#: The duration of a rise is counted from this share of it to one minus this share.
TAIL = 0.1
#: The best layer is chosen on this split.
TRAIN = "train_subset"


class MissingError(Exception):
    """Raised if a run does not have the scores for a check."""


def _curve(curves: Curves, split: str, layer: str, space: str = "raw") -> Floats:
    """Return a layer's ARI at every checkpoint, (B, S)."""
    if (split, layer, space) not in curves.ari:
        raise MissingError(f"run {curves.run!r} has no scores of {split}")
    return curves.ari[split, layer, space]


def _course(curves: Curves) -> list[int]:
    """Return the evenly spaced checkpoints; MissingError if they are too few for a course."""
    even = evenly(curves.steps)
    if len(even) < MIN_CHECKPOINTS:
        raise MissingError(
            f"{len(even)} evenly spaced checkpoints are too few: at least {MIN_CHECKPOINTS}"
        )
    return even


def evenly(steps: Sequence[int]) -> list[int]:
    """Return the indices of checkpoints that are about evenly spaced, with the first and the last.

    Checkpoints at powers of two are dense during the warm-up, in which little happens. If each had
    the weight of a later checkpoint, they would outweigh the rest of training.
    """
    gaps = np.sort(np.diff(steps))
    # Half of training is in gaps that are at most this wide.
    spacing = gaps[np.searchsorted(np.cumsum(gaps), gaps.sum() / 2)] if len(gaps) else 0
    kept = [0]
    for i, step in enumerate(steps):
        if step - steps[kept[-1]] >= 0.75 * spacing and i not in kept:
            kept.append(i)
    if len(kept) > 1:
        kept[-1] = len(steps) - 1
    return kept


def judged_layer(curves: Curves, *, complete: bool, space: str | None = None) -> tuple[str, str]:
    """Return the layer and space with the highest final ARI on `train_subset`.

    See `tasklens.scoring.best_layer`. If ``complete``, only curves with a score at every checkpoint
    are candidates; with ``space``, only those in one space.
    """
    final = {
        (layer, each): values[0, -1]
        for (split, layer, each), values in curves.ari.items()
        if split == TRAIN
        and space in (None, each)
        and layer in curves.layers
        and not (complete and np.isnan(values[0]).any())
    }
    best = best_layer(final)
    if best is None:
        raise MissingError(f"run {curves.run!r} has no scores of {TRAIN} to choose a layer")
    return best


def best_curve(curves: Curves, split: str) -> Floats:
    """Return the ARI of the best layer at every checkpoint, (B, S)."""
    return _curve(curves, split, *judged_layer(curves, complete=True))


def upper_curve(curves: Curves, split: str) -> Floats:
    """Return the mean ARI of the blocks above the middle, with the last block, (B, S)."""
    blocks = curves.layers[1:]
    upper = blocks[len(blocks) // 2 :]
    return np.mean([_curve(curves, split, layer) for layer in upper], axis=0)  # type: ignore[no-any-return]


def _last_quarter(curves: Curves) -> npt.NDArray[np.bool_]:
    """Return which checkpoints are in the last quarter of training, (S,)."""
    return np.array(curves.steps) >= 0.75 * curves.steps[-1]


def _rise(curves: Curves, y: Floats) -> Floats:
    """Return the mean of a curve over the last quarter of training, minus its first value, (B,)."""
    return y[:, _last_quarter(curves)].mean(axis=1) - y[:, 0]  # type: ignore[no-any-return]


def _rank_correlation(x: npt.ArrayLike, y: Floats) -> Floats:
    """Spearman's correlation of x, (S,), with each row of y, (B, S); 0 for a flat row."""
    return row_rank_correlation(np.asarray(x)[None], y)


def row_rank_correlation(x: Floats, y: Floats) -> Floats:
    """Spearman's correlation of the rows of two arrays, (B, S), or of one row with each of them.

    It is 0 if one of two rows is flat.
    """
    return _correlation(rankdata(x, axis=1), rankdata(y, axis=1))


def _correlation(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of rows, (B,); 0 if one of them is flat."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), norm, out=np.zeros(len(y)), where=norm > 1e-12)  # type: ignore[no-any-return]


def crossing(steps: Sequence[int], y: Floats, level: Floats) -> Floats:
    """Return the step at which each curve first reaches a level, (B,); NaN if it never does.

    Curves, (B, S), are taken as straight between checkpoints. Each has a separate level, (B,).
    """
    reached = y >= level[:, None]
    i = np.maximum(reached.argmax(axis=1), 1)
    rows, x = np.arange(len(y)), np.array(steps, dtype=np.float64)
    below, above = y[rows, i - 1], y[rows, i]
    gap = above - below
    share = np.divide(level - below, gap, out=np.zeros(len(y)), where=gap > 0)
    at = x[i - 1] + np.clip(share, 0, 1) * (x[i] - x[i - 1])
    return np.where(reached[:, 0], x[0], np.where(reached.any(axis=1), at, np.nan))


def rank_with_step(curves: Curves, split: str) -> Floats:
    """Rank correlation with the step until saturation, over half of the checkpoints at least."""
    even = _course(curves)
    y = upper_curve(curves, split)[:, even]
    way = y[0] - y[0, 0]
    saturated = int(np.argmax(way >= SATURATED * way.max())) + 1
    n = max(saturated, len(way) // 2)
    return _rank_correlation(range(n), y[:, :n])


def upper_gain(curves: Curves, split: str) -> Floats:
    """Return the final minus the initial value."""
    if len(curves.steps) < 2:
        raise MissingError("a single checkpoint shows no rise")
    y = upper_curve(curves, split)
    return y[:, -1] - y[:, 0]


def best_final(curves: Curves, split: str) -> Floats:
    """Return the final ARI of the best layer, in the better space."""
    return _curve(curves, split, *judged_layer(curves, complete=False))[:, -1]


def late_drift(curves: Curves, split: str) -> Floats:
    """Return the fitted change over the last quarter of training, as a share of the rise."""
    _course(curves)
    y = best_curve(curves, split)
    inside = _last_quarter(curves)
    x = np.array(curves.steps, dtype=np.float64)[inside]
    centred = x - x.mean()
    slope = y[:, inside] @ centred / (centred @ centred)
    return share(slope * 0.25 * curves.steps[-1], _rise(curves, y))


def rank_with_layer(curves: Curves, split: str) -> Floats:
    """Return the rank correlation of the final ARI with the number of the layer."""
    return _rank_correlation(range(len(curves.layers)), _profile(curves, split))


def depth_of_best(curves: Curves, split: str) -> Floats:
    """Return the number of the layer with the highest final ARI, over that of the last layer."""
    return _profile(curves, split).argmax(axis=1) / (len(curves.layers) - 1)  # type: ignore[no-any-return]


def rank_with_layer_below(curves: Curves, split: str) -> Floats:
    """Return the rank correlation of final ARI and number of the layer, without the last."""
    return _rank_correlation(range(len(curves.layers) - 1), _profile_below(curves, split))


def depth_of_best_below(curves: Curves, split: str) -> Floats:
    """Return `depth_of_best` over all layers but the last."""
    return _profile_below(curves, split).argmax(axis=1) / (len(curves.layers) - 2)  # type: ignore[no-any-return]


def _profile(curves: Curves, split: str) -> Floats:
    """Return the final ARI of each layer, (B, L + 1)."""
    return np.stack([_curve(curves, split, layer)[:, -1] for layer in curves.layers], axis=1)


def _profile_below(curves: Curves, split: str) -> Floats:
    """Return the final ARI of each layer but the last, (B, L)."""
    if len(curves.layers) < 3:
        raise MissingError("a network of one block has no block below the last")
    return _profile(curves, split)[:, :-1]


def above_embedding(curves: Curves, split: str) -> Floats:
    """Return the highest final ARI, minus that of `embed`."""
    profile = _profile(curves, split)
    return profile.max(axis=1) - profile[:, 0]  # type: ignore[no-any-return]


def above_embedding_below(curves: Curves, split: str) -> Floats:
    """Return the highest final ARI of all layers except the last, minus that of `embed`."""
    profile = _profile_below(curves, split)
    return profile.max(axis=1) - profile[:, 0]  # type: ignore[no-any-return]


def embedding_final(curves: Curves, split: str) -> Floats:
    """Return the final ARI of `embed`."""
    return _profile(curves, split)[:, 0]


def embedding_range(curves: Curves, split: str) -> Floats:
    """Return the range of the ARI of `embed` through training, over that of the best layer."""
    _course(curves)
    embed, best = _curve(curves, split, curves.layers[0]), best_curve(curves, split)
    return share(np.ptp(embed, axis=1), np.ptp(best, axis=1))


def generalisation_gap(curves: Curves, split: str) -> Floats:
    """Return the final ARI of the best layer on `train_subset`, minus that on this split."""
    return best_curve(curves, TRAIN)[:, -1] - best_curve(curves, split)[:, -1]


def generalisation_correlation(curves: Curves, split: str) -> Floats:
    """Return the correlation of the best layer's curve with its curve on `train_subset`."""
    _course(curves)
    return _correlation(best_curve(curves, TRAIN), best_curve(curves, split))


def largest_jump(curves: Curves, split: str) -> Floats:
    """Largest rise between neighbouring checkpoints, as a share of the whole rise."""
    _course(curves)
    y = best_curve(curves, split)
    return share(np.diff(y, axis=1).max(axis=1), _rise(curves, y))


def rise_duration(curves: Curves, split: str) -> Floats:
    """Time from a tenth to nine tenths of the rise, as a share of training; 0 without a rise."""
    _course(curves)
    y = best_curve(curves, split)
    rise = _rise(curves, y)
    begin = crossing(curves.steps, y, y[:, 0] + TAIL * rise)
    end = crossing(curves.steps, y, y[:, 0] + (1 - TAIL) * rise)
    took = np.where(rise > 0, end - begin, 0.0)
    return np.nan_to_num(took) / curves.steps[-1]


def untrained_ratio(curves: Curves, split: str) -> Floats:
    """ARI of the untrained network's best layer, divided by the final ARI of the best layer."""
    layer, space = judged_layer(curves, complete=True)
    if curves.steps[0] != 0:
        raise MissingError(f"run {curves.run!r} has no checkpoint of step 0")
    initial = [_curve(curves, split, name, space)[:, 0] for name in curves.layers]
    return share(np.max(initial, axis=0), curves.final(split, layer, space))


def control_ratio(name: str) -> Callable[[Curves, str], Floats]:
    """Return the statistic: the ARI of a control, divided by the best layer's final ARI."""

    def ratio(curves: Curves, split: str) -> Floats:
        if (split, name) not in curves.controls:
            raise MissingError(f"run {curves.run!r} has no {name} of {split}")
        final = best_curve(curves, split)[:, -1]
        return share(curves.controls[split, name] + np.zeros_like(final), final)

    return ratio


def share(part: Floats, total: Floats) -> Floats:
    """Return part / total, which is infinite if the total is not positive, and NaN if it is NaN."""
    without = np.where(np.isnan(total), np.nan, np.inf)
    return np.divide(part, total, out=without, where=total > 1e-12)
