"""Compile the kernels of KMeans: distances, k-means++, Lloyd's algorithm, inertia."""

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import compiled, total

#: A squared distance below this share of the two squared norms has lost too many digits.
CLOSE = np.float32(1e-3)

#: Up to this many columns, sums of distances are faster to compute from a mean than to update.
FEW_COLUMNS = 4

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


@compiled()
def to_distances(matrix: Floats, x: Floats) -> None:
    """Turn inner products into squared distances; small ones are computed from differences."""
    n, d = x.shape
    square = np.empty(n, dtype=np.float32)  # (U,) squared norms
    parts = np.empty(d, dtype=np.float32)
    for i in range(n):
        square[i] = matrix[i, i]
    for i in range(n):
        row, norm = matrix[i], square[i]
        for m in range(n):
            row[m] = norm + square[m] - np.float32(2) * row[m]
        row[i] = 0
        close = 0
        for m in range(i):
            close += row[m] < CLOSE * (norm + square[m])
        if close > 0:
            for m in range(i):
                if row[m] < CLOSE * (norm + square[m]):
                    for c in range(d):
                        parts[c] = (x[i, c] - x[m, c]) ** 2
                    row[m] = matrix[m, i] = total(parts)


@compiled()
def plusplus(distances: Floats, weights: Floats, uniforms: Doubles) -> Ints:
    """Return k points, (k,), drawn by greedy k-means++ as in scikit-learn.

    `uniforms`, (k, trials), draw the candidates for each centre (one for the first) in proportion
    to weight times squared distance to the closest centre; the one that lowers their sum most wins.
    """
    k, trials = uniforms.shape
    n = len(distances)
    centres = np.empty(k, dtype=np.int32)
    closest = np.empty(n, dtype=np.float32)  # (U,) squared distance to the closest centre
    running = np.empty(n)  # (U,) sum of the weights of the draws
    parts = np.empty(n)
    potential = 0.0
    for i in range(n):
        closest[i] = np.inf
        potential += weights[i]
        running[i] = potential
    for j in range(k):
        best, least = 0, np.inf
        for t in range(trials if j > 0 else 1):
            target = uniforms[j, t] * potential
            drawn, high = (
                0,
                n - 1,
            )  # the first point whose running sum exceeds the target is between
            while drawn < high:
                middle = (drawn + high) >> 1
                if running[middle] > target:
                    high = middle
                else:
                    drawn = middle + 1
            for i in range(n):
                parts[i] = weights[i] * min(closest[i], distances[drawn, i])
            potential_after = total(parts)
            if potential_after < least:
                best, least = drawn, potential_after
        centres[j] = best
        potential = 0.0
        for i in range(n):
            closest[i] = min(closest[i], distances[best, i])
            potential += weights[i] * closest[i]
            running[i] = potential
    return centres


@compiled(inline="always")
def assign(sums: Doubles, size: Doubles, variance: Doubles, nearest: Doubles, labels: Ints) -> None:
    """Find the nearest centre of each point, the first if equal, and its squared distance."""
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


@compiled(inline="always")
def from_mean(sums: Doubles, columns: Floats, weights: Floats, members: Ints) -> None:
    """Raise a cluster's sums, (U,), from 0: size * (squared distance to the mean + variance)."""
    n, parts = len(members), np.empty(len(members))
    for r in range(n):
        parts[r] = weights[members[r]]
    size = total(parts)
    for c in range(len(columns)):
        column = columns[c]
        for r in range(n):
            parts[r] = weights[members[r]] * column[members[r]]
        mean = total(parts) / size
        for i in range(len(sums)):
            sums[i] += (column[i] - mean) ** 2
    for r in range(n):
        parts[r] = weights[members[r]] * sums[members[r]]
    spread = total(parts)
    for i in range(len(sums)):
        sums[i] = size * sums[i] + spread


@compiled(inline="always")
def move(
    sums: Doubles,
    distances: Floats,
    columns: Floats,
    weights: Floats,
    old: Ints,
    labels: Ints,
    members: Ints,
) -> bool:
    """Bring `sums`, (k, U), from the labels `old` (-1: none) to `labels`; False if they are equal.

    They are float64, so that subtracting a row of large distances leaves no rounding error.
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
    renewed, end = np.empty(k, dtype=np.bool_), np.empty(k, dtype=np.int32)
    r = 0
    for j in range(k):
        renewed[j] = moves[j] >= (1 if few else members[j])  # if that is less work
        end[j] = r  # of the cluster's part in `rows`, to be filled
        r += members[j] if renewed[j] else moves[j]
    rows, factors = np.empty(r, dtype=np.int32), np.empty(r)
    for i in range(n):
        a, b = old[i], labels[i]
        if a != b or renewed[b]:
            rows[end[b]], factors[end[b]] = i, weights[i]
            end[b] += 1
        if a != b and a >= 0 and not renewed[a]:
            rows[end[a]], factors[end[a]] = i, -weights[i]
            end[a] += 1
    r = 0
    for j in range(k):
        if renewed[j]:
            for i in range(n):
                sums[j, i] = 0
            if few:
                from_mean(sums[j], columns, weights, rows[r : end[j]])
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


@compiled()
def lloyd(
    distances: Floats,
    columns: Floats,
    weights: Floats,
    centres: Ints,
    max_iter: int,
    tolerance: float,
) -> tuple[Ints, float, int]:
    """Run Lloyd's algorithm from the points `centres`, (k,), with scikit-learn's stopping rule.

    Returns labels, (U,), the sum of squared distances to the last centres, and the number of
    iterations. `tolerance` limits the sum of the centres' squared shifts.
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
        assign(sums, size, variance, nearest, labels)
        if settled or iteration == max_iter:
            break
        for j in range(k):
            members[j] = 0
        for i in range(n):
            members[labels[i]] += 1
        for j in range(k):
            if (
                members[j] == 0
            ):  # takes the point farthest from its centre, from a cluster of several
                far = -1
                for i in range(n):
                    if members[labels[i]] > 1 and (far < 0 or nearest[i] > nearest[far]):
                        far = i
                members[labels[far]] -= 1
                members[j] = 1
                labels[far] = j
                nearest[far] = sums[j, far] / size[j] - variance[j]
        if not move(sums, distances, columns, weights, old, labels, members):
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
            # The mean squared distance to the old centre is that to the new centre plus the shift.
            shift += max(spread[j] / size[j] - variance[j], 0.0)
        settled = shift <= tolerance
    for i in range(n):
        nearest[i] = weights[i] * max(nearest[i], 0.0)
    return labels, total(nearest), iteration


@compiled()
def sum_of_squares(points: Floats, weights: Floats, labels: Ints, k: int) -> float:
    """Return the sum of squared distances of the points to the means of their clusters."""
    n, d = points.shape
    means, size = np.zeros((k, d)), np.zeros(k)
    for i in range(n):
        j = labels[i]
        size[j] += weights[i]
        for c in range(d):
            means[j, c] += weights[i] * points[i, c]
    for j in range(k):
        for c in range(d):
            means[j, c] /= size[j]
    parts, squares = np.empty(n), np.empty(d)
    for i in range(n):
        mean = means[labels[i]]
        for c in range(d):
            squares[c] = (points[i, c] - mean[c]) ** 2
        parts[i] = weights[i] * total(squares)
    return float(total(parts))
