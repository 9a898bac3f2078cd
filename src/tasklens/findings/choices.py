"""Widen intervals by the choice among the near-best partitions of each cell.

KMeans does not prefer one of the near-best partitions by much (see `Clustering.near_best`), but
their ARI may differ. A finding should not depend on which of them KMeans has returned. Therefore
each number is computed again with other partitions in all cells, see
`tasklens.findings.curves.CHOICES`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tasklens.findings.curves import CHOICES, Curves
from tasklens.scoring.bootstrap import Floats, interval


def all_with_choices(runs: Sequence[Curves]) -> Sequence[Curves]:
    """Return all runs with choices if one has them: those without have one partition per cell."""
    if not any(curves.choices for curves in runs):
        return runs
    return [curves if curves.choices else curves.with_choices(curves, curves) for curves in runs]


def widened(
    number: Callable[[Curves], Floats], runs: Sequence[Curves], *purpose: str
) -> tuple[float, float]:
    """Return the interval of a number's mean over runs, whichever near-best partitions are chosen.

    It is the smallest interval that contains all of these: the intervals of the kept clusters and
    of each of `CHOICES`, and the means of the lowest and the highest without resampling.
    """
    ends = [interval([number(curves) for curves in runs], *purpose)]
    each = [curves.choices for curves in all_with_choices(runs)]
    for choice, chosen in zip(CHOICES, zip(*each, strict=True), strict=False):
        values = [number(curves) for curves in chosen]
        ends.append(interval([v[:-1] for v in values], *purpose))
        if choice != "drawn":
            measured = float(np.mean([v[-1] for v in values]))
            ends.append((measured, measured))
    lows, highs = zip(*ends, strict=True)
    return float(np.fmin.reduce(lows)), float(np.fmax.reduce(highs))
