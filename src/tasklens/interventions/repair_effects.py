"""Compute from kept arrays how many errors were repaired, and whether distance tells errors."""

from collections.abc import Iterator

import numpy as np

from tasklens.data.edited_prompts import Ints
from tasklens.interventions.cell import Arrays
from tasklens.interventions.repair import DISTANCE, REPAIR, REPAIR_RANDOM, repair_name
from tasklens.scoring.bootstrap import instance_weights
from tasklens.scoring.centroid_scores import auroc
from tasklens.scoring.centroids import Doubles

#: The metrics: the share of errors that become right, and the area under the ROC curve.
RIGHT, AUROC = "right", "auroc"


def repair_effects(
    arrays: Arrays, split: str, position: str, units: Ints, weights: Doubles
) -> Iterator[tuple[str, str, str, Doubles, Doubles]]:
    """Yield the state, the edit, the metric, the value in each copy, (B,), and each draw, (R,).

    The area under the ROC curve is the mean over families. ``units``, (U,), are ascending, and
    ``weights``, (B, U), their weights in each copy. The draws are as measured.
    """
    name = repair_name(split, position, "correct")
    if name not in arrays:
        return
    correct = arrays[name]
    known = correct >= 0
    family = arrays.get(repair_name(split, position, "family"), np.zeros(len(correct)))
    unit = arrays[repair_name(split, position, "unit")]
    of_instance = instance_weights(unit, units, weights)  # (B, N)
    of_error = of_instance[:, arrays[repair_name(split, position, "errors")]]  # (B, M)
    begin = repair_name(split, position) + "/"
    for each, array in arrays.items():
        parts = each.removeprefix(begin).split("/")
        if not each.startswith(begin) or len(parts) != 3:
            continue
        state, edit, _ = parts
        if edit in (REPAIR, REPAIR_RANDOM):
            n = of_error.sum(axis=1)
            sums = of_error @ array.mean(axis=0)
            share = np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)
            yield state, edit, RIGHT, share, array.mean(axis=1)
        elif edit == DISTANCE:
            areas = [
                auroc(array[rows], correct[rows] == 0, of_instance[:, rows])
                for rows in (known & (family == number) for number in np.unique(family))
            ]
            # Distances of two families have no common scale. A family without errors has no area.
            areas = [area for area in areas if np.isfinite(area[0])] or areas[:1]
            value = np.mean(areas, axis=0)
            yield state, edit, AUROC, value, value[:1]


def count_errors(arrays: Arrays, split: str, position: str) -> int:
    """Return how many errors were repaired; 0 if there were none, or it was not tried."""
    return len(arrays.get(repair_name(split, position, "errors"), ()))
