"""Timing: the step at which each layer's ARI, and the accuracy, is half way to its last value."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tasklens.findings.curves import Curves
from tasklens.findings.statistics import crossing
from tasklens.scoring.bootstrap import Floats, interval

#: A layer whose ARI rises by less is not timed.
LEAST_RISE = 0.2


@dataclasses.dataclass(frozen=True)
class Timing:
    """A step, in every run and on average, with its interval."""

    what: str
    """A layer, "accuracy", or "LAYER - accuracy": how much later than accuracy the layer is."""
    split: str
    each: tuple[float, ...]
    value: float
    """NaN if a run has no such step."""
    low: float
    high: float


def timings(runs: Sequence[Curves], split: str = "val_subset") -> list[Timing]:
    """Return when each layer's ARI and the accuracy are half way from their first to their last.

    Between checkpoints the curves are taken as straight, so that a step is no surer than their
    spacing. ARI is that of the states themselves (the space "raw"). First is each layer whose mean
    ARI rises by more than `LEAST_RISE`, from layer 0 up; then accuracy; then the differences. A
    negative difference says that the cluster comes first.
    """
    if not all(split in curves.accuracy and len(curves.steps) > 1 for curves in runs):
        return []
    skill = [half_way(curves.steps, curves.accuracy[split]) for curves in runs]
    layers, differences = [], []
    for layer in runs[0].layers:
        if not all((split, layer, "raw") in curves.ari for curves in runs):
            continue
        each = [curves.ari[split, layer, "raw"] for curves in runs]
        if np.mean([y[0, -1] - y[0, 0] for y in each]) > LEAST_RISE:
            steps = [half_way(c.steps, y) for c, y in zip(runs, each, strict=True)]
            layers.append(_timing(layer, split, steps))
            apart = [a - b for a, b in zip(steps, skill, strict=True)]
            differences.append(_timing(f"{layer} - accuracy", split, apart))
    name = runs[0].split_names.get(split, split)
    every = [*layers, _timing("accuracy", split, skill), *differences]
    return [dataclasses.replace(timing, split=name) for timing in every]


def half_way(steps: Sequence[int], y: Floats) -> Floats:
    """Return the step, (B,), at which curves (B, S) are half way from their first to last value.

    NaN for a curve that ends no higher than it began.
    """
    step = crossing(steps, y, (y[:, 0] + y[:, -1]) / 2)
    return np.where(y[:, -1] > y[:, 0], step, np.nan)


def _timing(what: str, split: str, values: Sequence[Floats]) -> Timing:
    each = tuple(float(v[0]) for v in values)
    if len(values) == 1 and len(values[0]) == 1:
        low = high = float("nan")
    else:
        low, high = interval(values, "timing", what, split)
    return Timing(what, split, each, float(np.mean(each)), low, high)
