"""Ask whether an instance's neighbours in a hidden state have its task: task decodability."""

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import one_thread
from tasklens.core.seeds import stream
from tasklens.scoring.classifiers import NEIGHBOURS, majority

#: Most instances per task.
PER_TASK = 100

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def task_decodability(
    x: Floats, task: Ints, seed: int = 0, split: str = "", products: Doubles | None = None
) -> float:
    """Return the share of instances whose task is that of most of their ten nearest neighbours.

    The neighbours of an instance are all the others, in the Euclidean distance: Han, Song, Gore
    and Agrawal, "Emergence and Effectiveness of Task Vectors in In-Context Learning", ICML 2025
    (arXiv 2412.12276), section 4, "Task Decodability". As they do, take 100 instances per task: of
    a task with more, some are drawn, from ``seed`` and ``split``; of one with fewer, all count.
    They leave open what happens if several tasks have equally many votes; the first of them wins.

    ``x`` is (N, D), ``task`` (N,), in any numbers. ``products`` are those of
    the states with each other, (N, N), if they are known. It is NaN for a single instance.
    """
    number = np.unique(task, return_inverse=True)[1]  # (N,)
    rows = _sample(number, seed, split)
    if len(rows) < 2:
        return float("nan")
    if len(rows) < len(x):
        x, number = x[rows], number[rows]
        products = None if products is None else products[np.ix_(rows, rows)]
    others = _nearest_others(x, min(NEIGHBOURS, len(x) - 1), products)  # (N, 10)
    return float(np.mean(majority(number[others], int(number.max()) + 1) == number))


def _nearest_others(x: Floats, k: int, products: Doubles | None) -> Ints:
    """Return the indices of the `k` other rows of `x`, (N, D), that are nearest to each: (N, k).

    If distances differ by no more than rounding, the first row is the nearer one.
    """
    n, wide = len(x), x - x.mean(axis=0, dtype=np.float64)  # (N, D)
    square = (wide**2).sum(axis=1) if products is None else np.diag(products)  # (N,)
    # Distances become integers, to which the index is added: below 2**53, so exact in float64.
    unit = 4 * square.max() / (2**52 // n) or 1
    nearest = np.empty((n, k), np.int64)
    size = max(1, 2**22 // n)  # so that memory does not grow with N * N
    with one_thread():
        for part in (slice(first, first + size) for first in range(0, n, size)):
            near = wide[part] @ wide.T if products is None else products[part].copy()  # (m, N)
            near *= -2
            near += square
            near += square[part, None]
            near /= unit
            np.rint(near, out=near)
            near *= n
            near += np.arange(n)
            near[np.arange(len(near)), np.arange(n)[part]] = np.inf
            near.partition(k - 1, axis=1)
            nearest[part] = near[:, :k] % n
    return nearest


def _sample(number: Ints, seed: int, split: str) -> Ints:
    """Return the rows of at most `PER_TASK` instances of each task 0 .. T - 1, in their order."""
    sizes = np.bincount(number)
    if sizes.max() <= PER_TASK:
        return np.arange(len(number))
    order = stream(seed, "task decodability", split).permutation(len(number))
    order = order[np.argsort(number[order], kind="stable")]  # by task, in a random order
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the task
    return np.sort(order[rank < PER_TASK])
