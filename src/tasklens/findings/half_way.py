"""Find the step at which the ARI of each layer, and the accuracy, is half way to its last value."""

from collections.abc import Callable, Sequence

import numpy as np

from tasklens.findings.curves import Curves
from tasklens.findings.measurement import Measurement, measured
from tasklens.findings.statistics import crossing
from tasklens.scoring.bootstrap import Floats

#: A layer whose ARI rises by less has no such step.
LEAST_RISE = 0.2


def timings(runs: Sequence[Curves], split: str = "val_subset") -> list[Measurement]:
    """Return the steps at which ARI and accuracy are half way from their first to their last value.

    Between checkpoints the curves are taken as straight, so that a step is as exact as their
    spacing. The ARI is that of the hidden states themselves, which is the space "raw". The order
    is: each layer whose mean ARI rises by more than `LEAST_RISE`, from `embed` up, the accuracy,
    the differences. A difference, "LAYER - accuracy", is the delay of the layer. If it is negative,
    clusters form before the accuracy rises.
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
            layers.append(measured(layer, split, of_layer(layer), runs, "timing"))
            what = f"{layer} - accuracy"
            differences.append(measured(what, split, delay(layer), runs, "timing"))
    return [*layers, measured("accuracy", split, skill, runs, "timing"), *differences]


def half_way(steps: Sequence[int], y: Floats) -> Floats:
    """Return the step, (B,), at which curves (B, S) are half way from their first to last value.

    It is NaN for a curve that does not end above its first value.
    """
    step = crossing(steps, y, (y[:, 0] + y[:, -1]) / 2)
    return np.where(y[:, -1] > y[:, 0], step, np.nan)
