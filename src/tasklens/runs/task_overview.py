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
    """Return the share of their common inputs that functions map to the same output, (K, K)."""
    share = np.zeros((len(functions), len(functions)))
    for i, f in enumerate(functions):
        for j, g in enumerate(functions):
            common = f.keys() & g.keys()
            share[i, j] = sum(f[x] == g[x] for x in common) / len(common) if common else 0.0
    return share


def same_symbols(instances: Mapping[str, Instances]) -> npt.NDArray[np.float64]:
    """Return the cosine of the tasks' mean counts of symbols, on the first split, (K, K)."""
    known = next(iter(instances.values()))
    tasks = tasks_among(instances)
    means = np.zeros((len(tasks), known.symbol_counts.shape[1]))  # (K, A)
    for i, task in enumerate(tasks):
        if (known.task == task).any():
            means[i] = known.symbol_counts[known.task == task].mean(axis=0)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    means /= np.where(length > 0, length, 1)
    return means @ means.T
