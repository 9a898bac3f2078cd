"""KMeans with k-means++ starts and several seeds, from the distances between points.

All starts of a cell share one matrix of squared distances between its points, and Lloyd's
iterations run on that alone: the mean squared distance of a point to the members of a cluster, less
the cluster's variance, is the point's squared distance to the cluster's mean. When a point changes
cluster, its row of the matrix leaves one sum and enters another, so that an iteration costs what
changes in it, whatever the number of columns.
"""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from tasklens.clustering.compiling import MISSING, compiled
from tasklens.clustering.fallback import kmeans_once

#: Cells with more points go to scikit-learn: each process would hold a matrix of over 256 MB.
MOST_POINTS = 8_000

#: Up to so many columns, sums of distances are cheaper to make from a mean than to update.
FEW_COLUMNS = 4

#: Sums may be reordered into vector lanes and products fused; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}

#: A squared distance below this share of the two squared norms has lost too many digits.
CLOSE = np.float32(1e-3)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


def engine(n: int) -> str:
    """Return what clusters a cell of `n` points: "numba" or "scikit-learn"."""
    return "scikit-learn" if MISSING or n > MOST_POINTS else "numba"


def kmeans(
    x: Floats, k: int, *, seeds: Sequence[int], n_init: int, max_iter: int, tol: float
) -> tuple[npt.NDArray[np.int16], Doubles]:
    """Cluster the rows of `x` once for each seed, in one thread.

    Parameters
    ----------
    x : (N, D) float32 array
        Finite points.
    k : int
        Number of clusters; lowered to the number of distinct rows of `x`, as float32 tells them
        apart once their mean is subtracted.
    seeds : sequence of int
        S non-negative seeds.
    n_init, max_iter, tol
        As in `sklearn.cluster.KMeans`; `init` is k-means++, the algorithm Lloyd's.

    Returns
    -------
    labels : (S, N) int16 array
    inertia : (S,) float64 array
        Sums of squared distances to the mean of the point's own cluster. scikit-learn's are to the
        last centres: the same once labels repeat, slightly more where `tol` ended a start earlier.

    References
    ----------
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    # A power of two rounds nothing; with it no square overflows or vanishes.
    scale = np.float32(2.0 ** -max(int(np.frexp(np.abs(x).max())[1]), -126))
    centred = np.multiply(x, scale, order="C", dtype=np.float32)
    centred -= centred.mean(axis=0, dtype=np.float64).astype(np.float32)  # (N, D)
    points, weights, row = _distinct(centred)
    k = min(k, len(points))
    labels = np.empty((len(seeds), len(x)), dtype=np.int16)  # (S, N)
    inertia = np.empty(len(seeds), dtype=np.float64)  # (S,)
    if engine(len(x)) == "scikit-learn":
        for s, seed in enumerate(seeds):
            labels[s], inertia[s] = kmeans_once(
                x, k, seed=seed, n_init=n_init, max_iter=max_iter, tol=tol
            )
        return labels, inertia
    distances = _distances(points)  # (U, U)
    columns = np.ascontiguousarray(points.T)  # (D, U)
    tolerance = tol * float(np.mean(np.square(centred), dtype=np.float64))
    for s, seed in enumerate(seeds):
        uniforms = np.random.default_rng(seed).random((n_init, k, 2 + int(np.log(k))))
        best, least = np.empty(0, dtype=np.int32), np.inf
        for start in uniforms:
            centres = _plusplus(distances, weights, start)
            found, value = _lloyd(distances, columns, weights, centres, max_iter, tolerance)
            if value < least * (1 - 1e-9) or not len(best):  # less by more than rounding
                best, least = found, value
        labels[s] = best[row]
        inertia[s] = _inertia(points, weights, best, k) / float(scale) ** 2
    return labels, inertia


def _distinct(x: Floats) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Return the distinct rows, (U, D), how often each occurs, (U,), and which each is, (N,).

    Counts are weights in all that follows: equal rows stay together, and the states of 50 tokens
    cost what 50 points cost.
    """
    number: dict[bytes, int] = {}
    row = np.empty(len(x), dtype=np.intp)
    for i, values in enumerate(x + np.float32(0)):  # adding 0 makes -0 the same bytes as 0
        row[i] = number.setdefault(values.tobytes(), len(number))
    first = np.unique(row, return_index=True)[1]  # (U,)
    return x[first], np.bincount(row).astype(np.float32), row


@functools.cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looks for libraries, which takes milliseconds


def _distances(x: Floats) -> Floats:
    """Return the squared distances between the rows of `x`, whose mean is about 0: (U, U)."""
    with _threads().limit(limits=1, user_api="blas"):
        matrix: Floats = x @ x.T
    _to_distances(matrix, x)
    return matrix


@compiled(fastmath=FAST)
def _to_distances(matrix: Floats, x: Floats) -> None:
    """Turn inner products into squared distances, close ones anew from their differences."""
    n, d = x.shape
    square = np.empty(n, dtype=np.float32)  # (U,) squared norms
    for i in range(n):
        square[i] = matrix[i, i]
    for i in range(n):
        row, own = matrix[i], square[i]
        close = np.float32(0)  # a count; of this type, the loop is vectorised
        for m in range(n):
            both = own + square[m]
            row[m] = both - np.float32(2) * row[m]
            close += np.float32(1) if row[m] < CLOSE * both else np.float32(0)
        if close > 1:  # more than the point itself
            for m in range(n):
                if row[m] < CLOSE * (own + square[m]):
                    total = np.float32(0)
                    for c in range(d):
                        total += (x[i, c] - x[m, c]) ** 2
                    row[m] = total
        row[i] = 0


@compiled(fastmath=FAST)
def _plusplus(distances: Floats, weights: Floats, uniforms: Doubles) -> Ints:
    """Return k points, (k,), drawn by greedy k-means++ in the way of scikit-learn.

    `uniforms`, (k, trials), draw the candidates for each centre (one for the first) in proportion
    to weight times squared distance to the closest centre; the one that lowers their sum most wins.
    """
    k, trials = uniforms.shape
    n = len(distances)
    centres = np.empty(k, dtype=np.int32)
    closest = np.empty(n, dtype=np.float32)  # (U,) squared distance to the closest centre
    running = np.empty(n)  # (U,) sum of what points are drawn in proportion to
    potential = 0.0
    for i in range(n):
        closest[i] = np.inf
        potential += weights[i]
        running[i] = potential
    for j in range(k):
        best, least = 0, np.inf
        for t in range(trials if j > 0 else 1):
            target = uniforms[j, t] * potential
            drawn, high = 0, n - 1  # in between is the first whose running sum exceeds the target
            while drawn < high:
                middle = (drawn + high) >> 1
                if running[middle] > target:
                    high = middle
                else:
                    drawn = middle + 1
            total = 0.0
            for i in range(n):
                total += weights[i] * min(closest[i], distances[drawn, i])
            if total < least:
                best, least = drawn, total
        centres[j] = best
        potential = 0.0
        for i in range(n):
            closest[i] = min(closest[i], distances[best, i])
            potential += weights[i] * closest[i]
            running[i] = potential
    return centres


@compiled(fastmath=FAST)
def _assign(
    sums: Doubles, size: Doubles, variance: Doubles, nearest: Doubles, labels: Ints
) -> None:
    """Find the nearest centre of each point, the first of equals, and its squared distance."""
    k, n = sums.shape
    for i in range(n):
        nearest[i] = np.inf
        labels[i] = 0
    for j in range(k):
        a, b = 1 / size[j], variance[j]
        for i in range(n):
            distance = sums[j, i] * a - b
            closer = distance < nearest[i]
            nearest[i] = distance if closer else nearest[i]
            labels[i] = j if closer else labels[i]


@compiled(fastmath=FAST)
def _from_mean(sums: Doubles, columns: Floats, weights: Floats, members: Ints) -> None:
    """Raise a cluster's sums, (U,), from 0: size * (squared distance to the mean + variance)."""
    size = spread = 0.0
    for i in members:
        size += weights[i]
    for c in range(len(columns)):
        total = 0.0
        for i in members:
            total += weights[i] * columns[c, i]
        mean = total / size
        for i in range(len(sums)):
            sums[i] += (columns[c, i] - mean) ** 2
    for i in members:
        spread += weights[i] * sums[i]
    for i in range(len(sums)):
        sums[i] = size * sums[i] + spread


@compiled(fastmath=FAST)
def _move(
    sums: Doubles,
    distances: Floats,
    columns: Floats,
    weights: Floats,
    old: Ints,
    labels: Ints,
    members: Ints,
) -> bool:
    """Bring `sums`, (k, U), from the labels `old` (-1: none) to `labels`; False if they are equal.

    They are float64, so that a row of large distances leaves no trace once it is subtracted.
    """
    k, n = sums.shape
    few = len(columns) <= FEW_COLUMNS
    moves = np.zeros(k, dtype=np.int32)
    changed = False
    for i in range(n):
        a, b = old[i], labels[i]
        if a != b:
            changed = True
            moves[b] += 1
            if a >= 0:
                moves[a] += 1
    anew, end = np.empty(k, dtype=np.bool_), np.empty(k, dtype=np.int32)
    r = 0
    for j in range(k):
        anew[j] = moves[j] >= (1 if few else members[j])  # where that is less work
        end[j] = r  # of the cluster's part in `rows`, to be filled
        r += members[j] if anew[j] else moves[j]
    rows, factors = np.empty(r, dtype=np.int32), np.empty(r)
    for i in range(n):
        a, b = old[i], labels[i]
        if a != b or anew[b]:
            rows[end[b]], factors[end[b]] = i, weights[i]
            end[b] += 1
        if a != b and a >= 0 and not anew[a]:
            rows[end[a]], factors[end[a]] = i, -weights[i]
            end[a] += 1
    r = 0
    for j in range(k):
        if anew[j]:
            for i in range(n):
                sums[j, i] = 0
            if few:
                _from_mean(sums[j], columns, weights, rows[r : end[j]])
                r = end[j]
        while r + 4 <= end[j]:  # four rows at a time: a quarter of the passes over `sums`
            a, b, c, d = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
            fa, fb, fc, fd = factors[r], factors[r + 1], factors[r + 2], factors[r + 3]
            for i in range(n):
                sums[j, i] += (fa * distances[a, i] + fb * distances[b, i]) + (
                    fc * distances[c, i] + fd * distances[d, i]
                )
            r += 4
        while r < end[j]:
            a, fa = rows[r], factors[r]
            for i in range(n):
                sums[j, i] += fa * distances[a, i]
            r += 1
    return changed


@compiled(fastmath=FAST)
def _lloyd(
    distances: Floats,
    columns: Floats,
    weights: Floats,
    centres: Ints,
    max_iter: int,
    tolerance: float,
) -> tuple[Ints, float]:
    """Run Lloyd's algorithm from the points `centres`, (k,), to where scikit-learn's stops.

    Returns labels, (U,), and the sum of squared distances to the last centres. `tolerance` is of
    the sum of the centres' squared shifts.
    """
    k, n = len(centres), len(distances)
    sums = np.empty((k, n))  # of the squared distances to a cluster's members
    size, variance, spread = np.ones(k), np.zeros(k), np.zeros(k)
    members = np.empty(k, dtype=np.int32)
    labels, old = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    nearest = np.empty(n)
    for j in range(k):
        for i in range(n):
            sums[j, i] = distances[centres[j], i]
    for i in range(n):
        old[i] = -1
    settled = False
    for iteration in range(max_iter + 1):
        _assign(sums, size, variance, nearest, labels)
        if settled or iteration == max_iter:
            break
        for j in range(k):
            members[j] = 0
        for i in range(n):
            members[labels[i]] += 1
        for j in range(k):
            if members[j] == 0:  # takes the point farthest from its centre, of those with company
                far = -1
                for i in range(n):
                    if members[labels[i]] > 1 and (far < 0 or nearest[i] > nearest[far]):
                        far = i
                members[labels[far]] -= 1
                members[j] = 1
                labels[far] = j
                nearest[far] = sums[j, far] / size[j] - variance[j]
        if not _move(sums, distances, columns, weights, old, labels, members):
            break
        for j in range(k):
            size[j] = variance[j] = spread[j] = 0
        for i in range(n):
            j = old[i] = labels[i]
            size[j] += weights[i]
            variance[j] += weights[i] * sums[j, i]
            spread[j] += weights[i] * nearest[i]
        shift = 0.0
        for j in range(k):
            variance[j] /= 2 * size[j] * size[j]
            # The mean squared distance to the old centre is that to the new one and the shift's.
            shift += max(spread[j] / size[j] - variance[j], 0.0)
        settled = shift <= tolerance
    inertia = 0.0
    for i in range(n):
        inertia += weights[i] * max(nearest[i], 0.0)
    return labels, inertia


@compiled(fastmath=FAST)
def _inertia(points: Floats, weights: Floats, labels: Ints, k: int) -> float:
    """Return the sum of squared distances of the points to the means of their clusters."""
    n, d = points.shape
    means, size = np.zeros((k, d)), np.zeros(k)
    for i in range(n):
        j = labels[i]
        size[j] += weights[i]
        for c in range(d):
            means[j, c] += weights[i] * points[i, c]
    total = 0.0
    for i in range(n):
        j = labels[i]
        part = 0.0
        for c in range(d):
            part += (points[i, c] - means[j, c] / size[j]) ** 2
        total += weights[i] * part
    return total
