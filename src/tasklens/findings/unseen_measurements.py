"""Measure each split of unseen data: what is answered, clustered and decoded, and where it lies.

These numbers have intervals and no thresholds. They cannot fail: an unseen task has no right
answer, and nothing states where it should lie.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from tasklens.findings.curves import Curves
from tasklens.findings.measurement import Measurement, measured
from tasklens.findings.statistics import TRAIN, MissingError
from tasklens.findings.use import best_state
from tasklens.scoring.bootstrap import Floats

#: A number of a run and its copies on a split, (B,).
Number: TypeAlias = Callable[[Curves, str], Floats]


def unseen_measurements(runs: Sequence[Curves]) -> list[Measurement]:
    """Return `NUMBERS` of each split that all runs have, but the first, at the last checkpoint.

    The best layer is that of each run on the first split, so that these numbers are free of
    selection. Without the scores for a number, it is left out.
    """
    measurements = []
    splits = [split for split in runs[0].split_names if split != TRAIN]
    for split, (what, number) in product(splits, NUMBERS.items()):
        with contextlib.suppress(MissingError):
            measurements.append(measured(what, split, _on(split, number), runs, "unseen"))
    return measurements


def _on(split: str, number: Number) -> Callable[[Curves], Floats]:
    return lambda curves: number(curves, split)


def _accuracy(curves: Curves, split: str) -> Floats:
    return _last(curves.accuracy, split)


def _ari(curves: Curves, split: str) -> Floats:
    return _last(curves.ari, (split, best_state(curves), "raw"))


def _decoded(curves: Curves, split: str) -> Floats:
    return _last(curves.decoded, (split, best_state(curves)))


def _placed(metric: str) -> Number:
    def number(curves: Curves, split: str) -> Floats:
        return _last(curves.placed, (metric, split, best_state(curves)))

    return number


def _last(courses: Mapping[Any, Floats], key: object) -> Floats:
    """Return the last value of a course, (B,); MissingError if there is none."""
    if key not in courses or np.isnan(courses[key][0, -1]):
        raise MissingError(f"there is no score of {key}")
    return courses[key][:, -1]


#: What each number of a split is called.
NUMBERS: Mapping[str, Number] = {
    "accuracy": _accuracy,
    "ARI of the best layer": _ari,
    "linear probe in this layer": _decoded,
    "wrong answers": _placed("errors"),
    "AUROC of the distance to the own centroid, errors against hits": _placed("error_auroc"),
    "share of the state in the span of the known centroids": _placed("span_share"),
}
