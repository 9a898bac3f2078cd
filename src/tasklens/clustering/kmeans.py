"""Run KMeans with k-means++ starts and several seeds, from the distances between points.

All starts of a cell share one matrix of squared distances between its points. Lloyd's iterations
use only this matrix. Take the mean squared distance of a point to the members of a cluster. Minus
the cluster's variance, it is the squared distance of the point to the cluster's mean. If a point
changes cluster, its row of the matrix moves from one sum to another. The time of an iteration
depends on the number of such points, and not on the number of columns.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.clustering import kmeans_kernels as kernels
from tasklens.clustering.numba_compile import MISSING, one_thread
from tasklens.clustering.sklearn_fallback import kmeans_starts, sum_of_squares
from tasklens.core.memory import check_sizes

#: A start is near-best if its inertia exceeds the least of all starts by at most this share.
NEAR_BEST = 0.01
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
    near_best: npt.NDArray[np.int16]
    """The distinct partitions of the near-best starts, (P, N), see `NEAR_BEST`. Each is numbered in
    the order of its first rows."""
    near_best_starts: int
    """The number of near-best starts, among those of all seeds."""


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
    points, weights, row = distinct(centred)
    k = min(k, len(points))
    check_starts(len(points), k, len(seeds), n_init)
    if not uses_numba(len(x)):
        return _by_scikit_learn(x, k, seeds=seeds, n_init=n_init, max_iter=max_iter, tol=tol)
    distances = _distances(points)  # (U, U)
    columns = np.ascontiguousarray(points.T)  # (D, U)
    tolerance = tol * float(np.mean(np.square(centred), dtype=np.float64))
    ends: list[npt.NDArray[np.int32]] = []  # labels of each start of each seed, (U,)
    kept, n_iter = [], []  # of each seed
    for seed in seeds:
        uniforms = np.random.default_rng(seed).random((n_init, k, 2 + int(np.log(k))))
        best, least, iterations = -1, np.inf, 0
        for start in uniforms:
            centres = kernels.plusplus(distances, weights, start)
            end = kernels.lloyd(distances, columns, weights, centres, max_iter, tolerance)
            if end[1] < least * (1 - 1e-9) or best < 0:  # less by more than rounding
                best, least, iterations = len(ends), end[1], end[2]
            ends.append(end[0])
        kept.append(best)
        n_iter.append(iterations)
    # Lloyd's sums are of distances to the last centres, which `tol` may have kept from the means.
    inertia = np.array([kernels.sum_of_squares(points, weights, end, k) for end in ends])
    near_best, n_near_best = _near_best(ends, inertia)
    return Result(
        np.stack([ends[i][row] for i in kept]).astype(np.int16),
        inertia[kept] / float(scale) ** 2,
        np.array(n_iter),
        near_best[:, row],
        n_near_best,
    )


def check_starts(n: int, k: int, n_seeds: int, n_init: int) -> None:
    """Raise InputError if the memory does not hold the starts of a cell of n points."""

    def n_bytes(sizes: Mapping[str, int]) -> int:
        starts, seeds = sizes["clusters.n_init"], sizes["clusters.cluster_seeds"]
        # The random numbers of a seed, and the labels of every start.
        return starts * (8 * k * (2 + int(np.log(k))) + 4 * n * seeds)

    sizes = {"clusters.n_init": n_init, "clusters.cluster_seeds": n_seeds}
    check_sizes("a clustering", sizes, n_bytes)


def renumbered(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return the same partition, (N,), with its clusters numbered in the order of first rows."""
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def _near_best(
    ends: Sequence[npt.NDArray[np.integer]], inertia: Doubles
) -> tuple[npt.NDArray[np.int16], int]:
    """Return the distinct partitions of the near-best starts, (P, N), and their number of starts.

    ``ends`` and ``inertia`` are the labels, (N,), and the sum of squares of each start.
    """
    near = inertia <= (1 + NEAR_BEST) * inertia.min()
    partitions = [renumbered(end) for end, is_near in zip(ends, near, strict=True) if is_near]
    distinct = {partition.tobytes(): partition for partition in partitions}
    return np.stack([*distinct.values()]).astype(np.int16), len(partitions)


def _by_scikit_learn(
    x: Floats, k: int, *, seeds: Sequence[int], n_init: int, max_iter: int, tol: float
) -> Result:
    """Cluster points by scikit-learn, see `kmeans`."""
    ends: list[npt.NDArray[np.int32]] = []
    kept: list[tuple[npt.NDArray[np.int32], float, int]] = []
    for seed in seeds:
        starts = kmeans_starts(x, k, seed=seed, n_init=n_init, max_iter=max_iter, tol=tol)
        best = starts[0]
        for start in starts[1:]:  # as scikit-learn chooses among its starts
            other = not np.array_equal(renumbered(start[0]), renumbered(best[0]))
            if other and start[1] < best[1]:
                best = start
        kept.append(best)
        ends += [labels for labels, *_ in starts]
    labels, inertia, n_iter = zip(*kept, strict=True)
    near_best, n_near_best = _near_best(ends, np.array([sum_of_squares(x, end) for end in ends]))
    return Result(
        np.stack(labels).astype(np.int16),
        np.array(inertia),
        np.array(n_iter),
        near_best,
        n_near_best,
    )


def distinct(x: Floats) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
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
