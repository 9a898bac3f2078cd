"""Locate the clusters of a model: the best layer, how surely it is the best, and its scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasklens.data.instances import JUDGED
from tasklens.findings.curves import Curves
from tasklens.findings.measurement import Measurement, measured
from tasklens.findings.one_model import ARI_OF_BEST
from tasklens.findings.rules import UNSEEN
from tasklens.findings.statistics import TRAIN
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.bootstrap import Floats

#: With what is measured, it names the random numbers of an interval.
PURPOSE = "location"


@dataclass(frozen=True)
class Location:
    """The place of the clusters in a model, which is stated and not judged."""

    layer: str
    """The best layer: that with the highest ARI on the first split, in the mean over runs."""
    split: str
    """The run's own name of the first split."""
    shares: tuple[tuple[str, float], ...]
    """In which share of the resampled copies each layer is the best, in 0 .. 1, the largest first.
    Empty without copies; layers that never are the best are left out."""
    alike: tuple[str, ...]
    """The other layers whose ARI is not distinguishable from that of the best layer."""
    measurements: tuple[Measurement, ...]
    """ARI of the best layer on each split, and the highest accuracy of the linear classifier."""


def location_of(runs: Sequence[Curves]) -> Location | None:
    """Return where the clusters of a model are; None if the first split has no scores.

    The layer is chosen on the first split, so that the scores of the others are free of selection.
    A layer is alike if the interval of its difference to the best layer contains 0.
    """
    layers = runs[0].layers
    if any((TRAIN, layer, "raw") not in curves.ari for curves in runs for layer in layers):
        return None
    profiles = [
        np.stack([curves.final(TRAIN, layer) for layer in layers], axis=1) for curves in runs
    ]  # (B, L + 1) each
    mean = np.mean([profile[0] for profile in profiles], axis=0)
    chosen = best_layer({(layer, "raw"): ari for layer, ari in zip(layers, mean, strict=True)})
    if chosen is None:
        return None
    best, _ = chosen
    splits = [s for s in JUDGED if all((s, best, "raw") in curves.ari for curves in runs)]
    of_best = [  # with the intervals of the checks
        measured(ARI_OF_BEST, s, _ari(best, s), runs, "clusters" if s == TRAIN else "unseen data")
        for s in splits
    ]
    return Location(
        best,
        runs[0].split_names[TRAIN],
        _shares(layers, profiles),
        tuple(layer for layer in layers if layer != best and _is_alike(runs, best, layer)),
        (*of_best, *_decodability(runs)),
    )


def _shares(layers: Sequence[str], profiles: Sequence[Floats]) -> tuple[tuple[str, float], ...]:
    """Return the share of the copies in which each layer is the best, see `Location.shares`."""
    copies = np.concatenate([profile[1:] for profile in profiles])
    copies = copies[np.isfinite(copies).all(axis=1)]  # a copy may have no pair of instances
    counts = np.bincount(copies.argmax(axis=1), minlength=len(layers))
    order = np.argsort(-counts, kind="stable")
    return tuple((layers[i], float(counts[i] / len(copies))) for i in order if counts[i])


def _is_alike(runs: Sequence[Curves], best: str, layer: str) -> bool:
    """Return whether the ARI of a layer is not distinguishable from that of the best."""

    def lead(curves: Curves) -> Floats:
        return curves.final(TRAIN, best) - curves.final(TRAIN, layer)

    return measured(f"{best} - {layer}", TRAIN, lead, runs, PURPOSE).low <= 0


def _decodability(runs: Sequence[Curves]) -> list[Measurement]:
    """Return the accuracy of the linear classifier in the layer with the highest one.

    The first unseen split chooses the layer, so that further ones are free of selection.
    """
    splits = [split for split in UNSEEN if all(split in curves.split_names for curves in runs)]
    means = {
        layer: np.mean([curves.decoded[splits[0], layer][0, -1] for curves in runs])
        for layer in runs[0].layers
        if splits and all((splits[0], layer) in curves.decoded for curves in runs)
    }
    if not means:
        return []
    highest = max(means, key=lambda layer: means[layer])
    what = f"linear classifier in {highest}, where it is highest"
    return [measured(what, s, _accuracy(highest, s), runs, PURPOSE) for s in splits]


def _ari(layer: str, split: str) -> Callable[[Curves], Floats]:
    return lambda curves: curves.final(split, layer)


def _accuracy(layer: str, split: str) -> Callable[[Curves], Floats]:
    return lambda curves: curves.decoded[split, layer][:, -1]
