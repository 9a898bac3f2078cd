"""Run KMeans with k-means++ starts and several seeds, from the distances between points.

All starts of a cell share one matrix of squared distances between its points. Lloyd's iterations
use only this matrix. Take the mean squared distance of a point to the members of a cluster. Minus
the cluster's variance, it is the squared distance of the point to the cluster's mean. If a point
changes cluster, its row of the matrix moves from one sum to another. The time of an iteration
depends on the number of such points, and not on the number of columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.clustering import kmeans_kernels as kernels
from tasklens.clustering.numba_compile import MISSING, one_thread
from tasklens.clustering.sklearn_fallback import kmeans_once

#: scikit-learn clusters cells with more points: the matrix of a process would exceed 256 MB.
MOST_POINTS = 8_000

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Result(NamedTuple):
    """Clusters of N points for S seeds."""

    labels: npt.NDArray[np.int16]
    """(S, N)."""
    inertia: Doubles
    """Sum of squared distances to the means of the clusters, (S,)."""
    n_iter: npt.NDArray[np.int64]
    """Iterations of the start that was kept, (S,)."""


def uses_numba(n: int) -> bool:
    """Return whether our kernels cluster a cell of `n` points; otherwise scikit-learn does."""
    return not MISSING and n <= MOST_POINTS


def kmeans(
    x: Floats, k: int, *, seeds: Sequence[int], n_init: int, max_iter: int, tol: float
) -> Result:
    """Cluster finite points (N, D) with S seeds.

    `n_init`, `max_iter` and `tol` are those of `sklearn.cluster.KMeans` with Lloyd's algorithm and
    k-means++ (Arthur and Vassilvitskii, SODA 2007). `k` is lowered to the number of rows that
    are distinct in float32 after their mean is subtracted. An inertia is the sum of squared
    distances to the means of the final clusters. In scikit-learn it is the sum of those to the last
    centres: the same if labels repeat, and slightly more if `tol` ended a start earlier.
    """
    # A power of two causes no rounding, and no square overflows or becomes zero.
    scale = np.float32(2.0 ** -max(int(np.frexp(np.abs(x).max())[1]), -126))
    centred = np.multiply(x, scale, order="C", dtype=np.float32)
    centred -= centred.mean(axis=0, dtype=np.float64).astype(np.float32)  # (N, D)
    points, weights, row = _distinct(centred)
    k = min(k, len(points))
    labels = np.empty((len(seeds), len(x)), dtype=np.int16)  # (S, N)
    inertia = np.empty(len(seeds), dtype=np.float64)  # (S,)
    n_iter = np.empty(len(seeds), dtype=np.int64)  # (S,)
    if not uses_numba(len(x)):
        for s, seed in enumerate(seeds):
            labels[s], inertia[s], n_iter[s] = kmeans_once(
                x, k, seed=seed, n_init=n_init, max_iter=max_iter, tol=tol
            )
        return Result(labels, inertia, n_iter)
    distances = _distances(points)  # (U, U)
    columns = np.ascontiguousarray(points.T)  # (D, U)
    tolerance = tol * float(np.mean(np.square(centred), dtype=np.float64))
    for s, seed in enumerate(seeds):
        uniforms = np.random.default_rng(seed).random((n_init, k, 2 + int(np.log(k))))
        best, least = np.empty(0, dtype=np.int32), np.inf
        for start in uniforms:
            centres = kernels.plusplus(distances, weights, start)
            end = kernels.lloyd(distances, columns, weights, centres, max_iter, tolerance)
            if end[1] < least * (1 - 1e-9) or not len(best):  # less by more than rounding
                best, least, n_iter[s] = end
        labels[s] = best[row]
        inertia[s] = kernels.sum_of_squares(points, weights, best, k) / float(scale) ** 2
    return Result(labels, inertia, n_iter)


def _distinct(x: Floats) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Return the distinct rows, (U, D), the count of each, (U,), and the index of each row, (N,).

    The counts are the weights of the points: N rows with 50 distinct values cost no more than 50
    points.
    """
    number: dict[bytes, int] = {}
    row = np.empty(len(x), dtype=np.intp)
    for i, values in enumerate(x + np.float32(0)):  # adding 0 makes -0 the same bytes as 0
        row[i] = number.setdefault(values.tobytes(), len(number))
    first = np.unique(row, return_index=True)[1]  # (U,)
    return x[first], np.bincount(row).astype(np.float32), row


def _distances(x: Floats) -> Floats:
    """Return the squared distances between the rows of `x`, whose mean is about 0: (U, U)."""
    with one_thread():
        matrix: Floats = x @ x.T
    kernels.to_distances(matrix, x)
    return matrix
