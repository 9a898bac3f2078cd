"""Compile the descent of exact t-SNE: the forces between all pairs of points, and the steps.

All are in float32, with sums over all pairs in float64, and in one thread. `y` has one row per
coordinate, (2, N), so that the inner loops read contiguous vectors. The arguments `dense`, `first`,
`other` and `value` are those of `Affinities`.
"""

import math

import numpy as np

from tasklens.clustering.numba_compile import compiled, total
from tasklens.clustering.tsne_affinities import ONE, T1, ZERO, Floats, Indices, Offsets

#: Coordinate of points beyond the last: so far away that the square of a weight is 0.
AWAY = np.float32(1e18)

#: The bits of sqrt(1/2).
SQRT_HALF = np.int32(np.sqrt(np.float32(0.5)).view(np.int32))
# Series of log((1 + s) / (1 - s)) in odd powers: its remainder is below 1e-9 for s <= 0.172.
L1, L3, L5, L7, L9 = (np.float32(2 / k) for k in (1, 3, 5, 7, 9))


@compiled(inline="always")
def pair(dx: np.float32, dy: np.float32) -> tuple[np.float32, ...]:
    """Return the weight w of a pair of points, and w^2 (dx, dy)."""
    w = ONE / (ONE + (dx * dx + dy * dy))
    push = w * w
    return w, push * dx, push * dy


@compiled(inline="always")
def pulled(dx: np.float32, dy: np.float32, p: np.float32) -> tuple[np.float32, ...]:
    """Return the weight w of a pair of points, w^2 (dx, dy), and p w (dx, dy)."""
    w = ONE / (ONE + (dx * dx + dy * dy))
    pull, push = p * w, w * w
    return w, push * dx, push * dy, pull * dx, pull * dy


@compiled(inline="always")
def without_itself(before: Floats, weights: Floats, x: Floats, y: Floats) -> None:
    """Compute the weights of four points again, from those before, without a point and itself.

    Its weight of 1 would round those of distant points to 0.
    """
    for a in range(4):
        weight = before[a]
        for b in range(4):
            if a != b:
                dx, dy = x[a] - x[b], y[a] - y[b]
                weight += ONE / (ONE + (dx * dx + dy * dy))
        weights[a] = weight


@compiled()
def repel(y: Floats, repulsion: Floats) -> float:
    """Compute the repulsion between the points of `y`, (2, N), in place, and return Z.

    Let w = 1 / (1 + |yi - yj|^2). The repulsion is the sum over j of w^2 (yi - yj), and Z that of w
    over all pairs.
    """
    n = y.shape[1]
    rx, ry = repulsion[0], repulsion[1]
    repulsion[:] = 0
    weights, before = np.zeros(n + 3, dtype=np.float32), np.empty(4, dtype=np.float32)
    horizontal, vertical = np.full(n + 3, AWAY), np.full(n + 3, AWAY)
    horizontal[:n], vertical[:n] = y[0], y[1]
    for j in range(0, n, 4):  # four points at a time: a quarter of the passes over the sums
        x_a, x_b, x_c, x_d = xs = horizontal[j : j + 4]
        y_a, y_b, y_c, y_d = ys = vertical[j : j + 4]
        before[:] = weights[j : j + 4]
        for i in range(n):
            a = pair(horizontal[i] - x_a, vertical[i] - y_a)
            b = pair(horizontal[i] - x_b, vertical[i] - y_b)
            c = pair(horizontal[i] - x_c, vertical[i] - y_c)
            d = pair(horizontal[i] - x_d, vertical[i] - y_d)
            weights[i] += (a[0] + b[0]) + (c[0] + d[0])
            rx[i] += (a[1] + b[1]) + (c[1] + d[1])
            ry[i] += (a[2] + b[2]) + (c[2] + d[2])
        without_itself(before, weights[j : j + 4], xs, ys)
    return float(total(weights[:n].astype(np.float64)))


@compiled()
def repel_and_attract(p: Floats, y: Floats, attraction: Floats, repulsion: Floats) -> float:
    """Compute both forces from dense affinities, as `repel` and `attract` do, and return Z."""
    n = len(p)
    ax, ay, rx, ry = attraction[0], attraction[1], repulsion[0], repulsion[1]
    attraction[:] = repulsion[:] = 0
    weights, before = np.zeros(n + 3, dtype=np.float32), np.empty(4, dtype=np.float32)
    nothing = np.zeros(n, dtype=np.float32)
    horizontal, vertical = np.full(n + 3, AWAY), np.full(n + 3, AWAY)
    horizontal[:n], vertical[:n] = y[0], y[1]
    for j in range(0, n, 4):
        x_a, x_b, x_c, x_d = xs = horizontal[j : j + 4]
        y_a, y_b, y_c, y_d = ys = vertical[j : j + 4]
        row_a = p[j]
        row_b = p[j + 1] if j + 1 < n else nothing
        row_c = p[j + 2] if j + 2 < n else nothing
        row_d = p[j + 3] if j + 3 < n else nothing
        before[:] = weights[j : j + 4]
        for i in range(n):
            a = pulled(horizontal[i] - x_a, vertical[i] - y_a, row_a[i])
            b = pulled(horizontal[i] - x_b, vertical[i] - y_b, row_b[i])
            c = pulled(horizontal[i] - x_c, vertical[i] - y_c, row_c[i])
            d = pulled(horizontal[i] - x_d, vertical[i] - y_d, row_d[i])
            weights[i] += (a[0] + b[0]) + (c[0] + d[0])
            rx[i] += (a[1] + b[1]) + (c[1] + d[1])
            ry[i] += (a[2] + b[2]) + (c[2] + d[2])
            ax[i] += (a[3] + b[3]) + (c[3] + d[3])
            ay[i] += (a[4] + b[4]) + (c[4] + d[4])
        without_itself(before, weights[j : j + 4], xs, ys)
    return float(total(weights[:n].astype(np.float64)))


@compiled()
def attract(first: Offsets, other: Indices, value: Floats, y: Floats, attraction: Floats) -> None:
    """Compute the attraction from listed affinities, (2, N), in place: the sum of p w (yi - yj)."""
    n = y.shape[1]
    x, v, ax, ay = y[0], y[1], attraction[0], attraction[1]
    attraction[:] = 0
    fx, fy = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    for i in range(n):
        m = first[i + 1] - first[i]
        near, p = other[first[i] : first[i + 1]], value[first[i] : first[i + 1]]
        # Only the middle one of the three loops can be vectorised.
        for s in range(m):
            fx[s], fy[s] = x[i] - x[near[s]], v[i] - v[near[s]]
        for s in range(m):
            pull = p[s] / (ONE + (fx[s] * fx[s] + fy[s] * fy[s]))
            fx[s] *= pull
            fy[s] *= pull
        sum_x, sum_y = ZERO, ZERO
        for s in range(m):
            j = near[s]
            sum_x += fx[s]
            sum_y += fy[s]
            ax[j] -= fx[s]
            ay[j] -= fy[s]
        ax[i] += sum_x
        ay[i] += sum_y


@compiled()
def forces(
    dense: Floats,
    first: Offsets,
    other: Indices,
    value: Floats,
    y: Floats,
    attraction: Floats,
    repulsion: Floats,
) -> float:
    """Compute the forces between the points of `y`, (2, N) each, in place, and return Z.

    The gradient of the KL divergence is 4 (attraction - repulsion / Z).
    """
    if len(dense):
        return float(repel_and_attract(dense, y, attraction, repulsion))
    attract(first, other, value, y, attraction)
    return float(repel(y, repulsion))


@compiled(inline="always")
def log(u: np.float32) -> np.float32:
    """Return the natural logarithm of u >= 1; unlike math.log, it is vectorised."""
    bits = np.float32(u).view(np.int32)
    exponent = np.int32((bits - SQRT_HALF) >> np.int32(23))
    # u = 2^exponent m, and m is between sqrt(1/2) and sqrt(2).
    m = np.int32(bits - (exponent << np.int32(23))).view(np.float32)
    s = (m - ONE) / (m + ONE)
    q = s * s
    series = L1 + q * (L3 + q * (L5 + q * (L7 + q * L9)))
    value: np.float32 = np.float32(exponent) * T1 + s * series
    return value


@compiled()
def cross_entropy(
    dense: Floats, first: Offsets, other: Indices, value: Floats, y: Floats, z: float
) -> float:
    """Return - sum p log q: the KL divergence and a constant, the entropy of p."""
    n = y.shape[1]
    x, v = y[0], y[1]
    parts = np.zeros(n)
    for i in range(n):
        if len(dense):
            for j in range(i):
                dx, dy = x[j] - x[i], v[j] - v[i]
                parts[j] += dense[i, j] * log(ONE + (dx * dx + dy * dy))
        else:
            for s in range(first[i], first[i + 1]):
                dx, dy = x[other[s]] - x[i], v[other[s]] - v[i]
                parts[i] += value[s] * log(ONE + (dx * dx + dy * dy))
    return 2 * float(total(parts)) + math.log(z)


@compiled()
def descend(
    dense: Floats,
    first: Offsets,
    other: Indices,
    value: Floats,
    y: Floats,
    update: Floats,
    gains: Floats,
    steps: int,
    exaggeration: float,
    momentum: float,
    rate: float,
) -> tuple[float, float]:
    """Take some steps with momentum and gains, in place: `y`, `update` and `gains` are (2, N).

    Returns the cross entropy before the last step, and the norm of its gradient times its gains.
    """
    n = y.shape[1]
    attraction, repulsion, squares = np.empty_like(y), np.empty_like(y), np.empty((2, n))
    pull = np.float32(4 * exaggeration)
    inertia, pace = np.float32(momentum), np.float32(rate)
    loss = 0.0
    for step in range(steps):
        z = forces(dense, first, other, value, y, attraction, repulsion)
        if step == steps - 1:
            loss = cross_entropy(dense, first, other, value, y, z)
        push = np.float32(4 / z)
        for axis in range(2):
            for i in range(n):
                gradient = pull * attraction[axis, i] - push * repulsion[axis, i]
                if update[axis, i] * gradient < 0:
                    gain = gains[axis, i] + np.float32(0.2)
                else:
                    gain = max(gains[axis, i] * np.float32(0.8), np.float32(0.01))
                gains[axis, i] = gain
                gradient *= gain
                update[axis, i] = inertia * update[axis, i] - pace * gradient
                y[axis, i] += update[axis, i]
                squares[axis, i] = gradient * gradient
    return loss, math.sqrt(total(squares[0]) + total(squares[1]))
