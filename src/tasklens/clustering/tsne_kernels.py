"""Compile the loops of exact t-SNE over all pairs of points.

All are in float32, with sums over all pairs in float64, and in one thread. `p` is the only (N, N)
array. `y` has one row per coordinate, (2, N), so that the inner loops read contiguous vectors.
"""

import math

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import compiled, total

Floats = npt.NDArray[np.float32]

ZERO, ONE = np.float32(0), np.float32(1)
#: Largest difference of the entropy of neighbours from the perplexity, in nats.
TOLERANCE = 1e-5
#: Largest number of steps of the search for a point's bandwidth.
SEARCH_STEPS = 100
#: Least probability of a pair, as in scikit-learn.
SMALLEST = np.float32(np.finfo(np.float64).eps)
#: Coordinate of points beyond the last: so far away that the square of a weight is 0.
AWAY = np.float32(1e18)

#: The bits of sqrt(1/2).
SQRT_HALF = np.int32(np.sqrt(np.float32(0.5)).view(np.int32))
# Series of log((1 + s) / (1 - s)) in odd powers: its remainder is below 1e-9 for s <= 0.172.
L1, L3, L5, L7, L9 = (np.float32(2 / k) for k in (1, 3, 5, 7, 9))
# Taylor series of 2^f: its remainder is below 1e-8 for |f| <= 1/2.
T1, T2, T3, T4, T5, T6, T7 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 8))


@compiled(inline="always")
def exp2(u: np.float32) -> np.float32:
    """Return 2^u for u <= 0, at least 2^-126; unlike math.exp2, it is vectorised."""
    u = max(u, np.float32(-126))
    integer = np.floor(u + np.float32(0.5))
    f = u - integer
    series = ONE + f * (T1 + f * (T2 + f * (T3 + f * (T4 + f * (T5 + f * (T6 + f * T7))))))
    exponent = np.int32((np.int32(integer) + np.int32(127)) << np.int32(23))
    power: np.float32 = series * exponent.view(np.float32)  # these are the bits of 2^integer
    return power


@compiled(inline="always")
def squared_distances(x: Floats) -> Floats:
    """Return the squared distances between the rows of (N, D), (N, N); equal rows are at 0."""
    n, d = x.shape
    columns = np.zeros((4 * ((d + 3) // 4), n), dtype=np.float32)  # up to three more, of zeros
    columns[:d] = x.T
    out = np.zeros((n, n), dtype=np.float32)
    for i in range(n):
        row = out[i]
        for c in range(0, d, 4):  # four columns at a time: a quarter of the passes over `row`
            q, r, s, t = columns[c], columns[c + 1], columns[c + 2], columns[c + 3]
            q_i, r_i, s_i, t_i = q[i], r[i], s[i], t[i]
            for j in range(i):
                row[j] += ((q[j] - q_i) ** 2 + (r[j] - r_i) ** 2) + (
                    (s[j] - s_i) ** 2 + (t[j] - t_i) ** 2
                )
        for j in range(i):
            out[j, i] = row[j]
    return out


@compiled(inline="always")
def to_conditional(p: Floats, perplexity: float) -> None:
    """Turn squared distances into p(j | i) in place: Gaussians of the asked perplexity."""
    n = len(p)
    entropy = math.log(perplexity)
    weights, parts = np.empty(n, dtype=np.float32), np.empty((2, n), dtype=np.float32)
    for i in range(n):
        row = p[i]
        row[i] = np.inf
        # Only differences of distances count. Minus the smallest, the nearest never underflows.
        # Point i has the smallest distance, too, so that its weight is 1 at every bandwidth.
        nearest = row.min()
        row[i] = nearest
        beta, low, high = 1.0, 0.0, np.inf  # beta = 1 / (2 sigma^2)
        for _ in range(SEARCH_STEPS):
            rate = np.float32(-beta / math.log(2))
            for j in range(n):
                distance = row[j] - nearest
                weight = exp2(rate * distance)
                weights[j] = parts[0, j] = weight
                parts[1, j] = weight * distance
            others = np.float64(total(parts[0])) - 1
            moment = np.float64(total(parts[1]))
            excess = math.log(others) + beta * moment / others - entropy
            if abs(excess) <= TOLERANCE:
                break
            if excess > 0:
                low = beta
                beta = 2 * beta if high == np.inf else (beta + high) / 2
            else:
                high = beta
                beta = (beta + low) / 2
        weights[i] = 0
        scale = np.float32(1 / others)
        for j in range(n):
            row[j] = weights[j] * scale


@compiled()
def affinities(x: Floats, perplexity: float) -> Floats:
    """Return the joint probabilities of the pairs of rows of (N, D): (N, N), symmetric, sum 1."""
    p: Floats = squared_distances(x)
    to_conditional(p, perplexity)
    n = len(p)
    scale = np.float32(0.5 / n)
    for i in range(n):
        for j in range(i):
            p[i, j] = p[j, i] = max(scale * (p[i, j] + p[j, i]), SMALLEST)
    return p


@compiled(inline="always")
def pair(dx: np.float32, dy: np.float32, p: np.float32) -> tuple[np.float32, ...]:
    """Return the weight w of a pair of points, p w (dx, dy) and w^2 (dx, dy)."""
    w = ONE / (ONE + (dx * dx + dy * dy))
    pull, push = p * w, w * w
    # Only a point and itself have p = 0. Their weight 1 would round those of distant points to 0.
    return (w if p > 0 else ZERO), pull * dx, pull * dy, push * dx, push * dy


@compiled(inline="always")
def forces(p: Floats, y: Floats, attraction: Floats, repulsion: Floats) -> float:
    """Compute the forces between the points of `y`, (2, N) each, in place, and return Z.

    Let w = 1 / (1 + |yi - yj|^2). The attraction is the sum over j of p w (yi - yj), the repulsion
    that of w^2 (yi - yj). Z is the sum of w over all pairs. The gradient of the KL divergence is
    4 (attraction - repulsion / Z).
    """
    n = len(p)
    ax, ay, rx, ry = attraction[0], attraction[1], repulsion[0], repulsion[1]
    attraction[:] = repulsion[:] = 0
    weights, nothing = np.zeros(n, dtype=np.float32), np.zeros(n, dtype=np.float32)
    horizontal, vertical = np.full(n + 3, AWAY), np.full(n + 3, AWAY)
    horizontal[:n], vertical[:n] = y[0], y[1]
    for j in range(0, n, 4):  # four points at a time: a quarter of the passes over the sums
        x_a, x_b, x_c, x_d = horizontal[j : j + 4]
        y_a, y_b, y_c, y_d = vertical[j : j + 4]
        row_a = p[j]
        row_b = p[j + 1] if j + 1 < n else nothing
        row_c = p[j + 2] if j + 2 < n else nothing
        row_d = p[j + 3] if j + 3 < n else nothing
        for i in range(n):
            a = pair(horizontal[i] - x_a, vertical[i] - y_a, row_a[i])
            b = pair(horizontal[i] - x_b, vertical[i] - y_b, row_b[i])
            c = pair(horizontal[i] - x_c, vertical[i] - y_c, row_c[i])
            d = pair(horizontal[i] - x_d, vertical[i] - y_d, row_d[i])
            weights[i] += (a[0] + b[0]) + (c[0] + d[0])
            ax[i] += (a[1] + b[1]) + (c[1] + d[1])
            ay[i] += (a[2] + b[2]) + (c[2] + d[2])
            rx[i] += (a[3] + b[3]) + (c[3] + d[3])
            ry[i] += (a[4] + b[4]) + (c[4] + d[4])
    return float(total(weights.astype(np.float64)))


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


@compiled(inline="always")
def cross_entropy(p: Floats, y: Floats, z: float) -> float:
    """Return - sum p log q: the KL divergence and a constant, the entropy of p."""
    n = len(p)
    horizontal, vertical = y[0], y[1]
    parts = np.zeros(n)
    for j in range(n):
        row, x_j, y_j = p[j], horizontal[j], vertical[j]
        for i in range(j):
            dx, dy = horizontal[i] - x_j, vertical[i] - y_j
            parts[i] += row[i] * log(ONE + (dx * dx + dy * dy))
    return 2 * float(total(parts)) + math.log(z)


@compiled()
def descend(
    p: Floats,
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
        z = forces(p, y, attraction, repulsion)
        if step == steps - 1:
            loss = cross_entropy(p, y, z)
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
