"""Find the step at which the ARI of each layer, and the accuracy, is half way to its last value."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tasklens.findings.choices import widened
from tasklens.findings.curves import Curves
from tasklens.findings.statistics import crossing
from tasklens.scoring.bootstrap import Floats

#: A layer whose ARI rises by less has no such step.
LEAST_RISE = 0.2


@dataclasses.dataclass(frozen=True)
class Timing:
    """The step at which a curve is half way: in each run, and the mean with its interval."""

    what: str
    """A layer, "accuracy", or "LAYER - accuracy", which is the delay of the layer in steps."""
    split: str
    each: tuple[float, ...]
    value: float
    """NaN if a run has no such step."""
    low: float
    high: float


def timings(runs: Sequence[Curves], split: str = "val_subset") -> list[Timing]:
    """Return the steps at which ARI and accuracy are half way from their first to their last value.

    Between checkpoints the curves are taken as straight, so that a step is as exact as their
    spacing. The ARI is that of the hidden states themselves, which is the space "raw". The order
    is: each layer whose mean ARI rises by more than `LEAST_RISE`, from `embed` up, the accuracy,
    the differences. If a difference is negative, clusters form before the accuracy rises.
    """
    if not all(split in curves.accuracy and len(curves.steps) > 1 for curves in runs):
        return []

    def of_layer(layer: str) -> Callable[[Curves], Floats]:
        return lambda curves: half_way(curves.steps, curves.ari[split, layer, "raw"])

    def skill(curves: Curves) -> Floats:
        return half_way(curves.steps, curves.accuracy[split])

    def delay(layer: str) -> Callable[[Curves], Floats]:
        return lambda curves: of_layer(layer)(curves) - skill(curves)

    layers, differences = [], []
    for layer in runs[0].layers:
        if not all((split, layer, "raw") in curves.ari for curves in runs):
            continue
        each = [curves.ari[split, layer, "raw"] for curves in runs]
        if np.mean([y[0, -1] - y[0, 0] for y in each]) > LEAST_RISE:
            layers.append(_timing(layer, split, of_layer(layer), runs))
            what = f"{layer} - accuracy"
            differences.append(_timing(what, split, delay(layer), runs))
    name = runs[0].split_names.get(split, split)
    every = [*layers, _timing("accuracy", split, skill, runs), *differences]
    return [dataclasses.replace(timing, split=name) for timing in every]


def half_way(steps: Sequence[int], y: Floats) -> Floats:
    """Return the step, (B,), at which curves (B, S) are half way from their first to last value.

    It is NaN for a curve that does not end above its first value.
    """
    step = crossing(steps, y, (y[:, 0] + y[:, -1]) / 2)
    return np.where(y[:, -1] > y[:, 0], step, np.nan)


def _timing(
    what: str, split: str, step: Callable[[Curves], Floats], runs: Sequence[Curves]
) -> Timing:
    """Return the mean of a step over runs, with its interval."""
    values = [step(curves) for curves in runs]
    each = tuple(float(v[0]) for v in values)
    if len(values) == 1 and len(values[0]) == 1:
        low = high = float("nan")
    else:
        low, high = widened(step, runs, "timing", what, split)
    return Timing(what, split, each, float(np.mean(each)), low, high)
