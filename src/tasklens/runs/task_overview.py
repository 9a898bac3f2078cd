"""Measure how alike the measured tasks are, for the report."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tasklens.data.instances import Instances

#: Instructions, or texts, of a task that the overview shows.
EXAMPLES = 8


def tasks_among(instances: Mapping[str, Instances]) -> npt.NDArray[np.int64]:
    """Return the tasks that occur in any split, ascending, (K,)."""
    return np.unique(np.concatenate([known.task for known in instances.values()]))


def same_output(functions: list[Mapping[str, str]]) -> npt.NDArray[np.float64]:
    """Return the share of their common inputs that functions map to the same output, (K, K).

    It is NaN for a task without a function.
    """
    share = np.full((len(functions), len(functions)), np.nan)
    for i, f in enumerate(functions):
        for j, g in enumerate(functions):
            common = f.keys() & g.keys()
            if f and g:
                share[i, j] = sum(f[x] == g[x] for x in common) / max(1, len(common))
    return share


def same_symbols(instances: Mapping[str, Instances]) -> npt.NDArray[np.float64]:
    """Return the cosine of the tasks' mean counts of symbols, (K, K).

    They are those of the first split that has the task.
    """
    tasks = tasks_among(instances)
    means = []
    for task in tasks:
        known = next(each for each in instances.values() if (each.task == task).any())
        means.append(known.symbol_counts[known.task == task].mean(axis=0))
    length = np.linalg.norm(means, axis=1, keepdims=True)
    unit = np.array(means) / np.where(length > 0, length, 1)
    return unit @ unit.T
