"""Compile the loops of exact t-SNE over all pairs of points.

All are in float32, with sums over rows in float64, and in one thread, so that a machine gives the
same bytes every time. `p` is the only (N, N) array. `y` has one row per coordinate, (2, N), so that
the inner loops read contiguous vectors.
"""

import math

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import compiled

Floats = npt.NDArray[np.float32]

ONE = np.float32(1)
#: Largest difference of the entropy of neighbours from the perplexity, in nats.
TOLERANCE = 1e-5
#: Largest number of steps of the search for a point's bandwidth.
SEARCH_STEPS = 100
#: Least probability of a pair, as in scikit-learn.
SMALLEST = np.float32(np.finfo(np.float64).eps)
#: Coordinate of a point while it is left out: so far away that its weight is 1e-36.
AWAY = np.float32(1e18)

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
    out = np.empty((n, n), dtype=np.float32)
    for i in range(n):
        out[i, i] = 0
        for j in range(i):
            total = np.float32(0)
            for k in range(d):
                difference = x[i, k] - x[j, k]
                total += difference * difference
            out[i, j] = out[j, i] = total
    return out


@compiled(inline="always")
def to_conditional(p: Floats, perplexity: float) -> None:
    """Turn squared distances into p(j | i) in place: Gaussians of the asked perplexity."""
    n = len(p)
    entropy = math.log(perplexity)
    weights = np.empty(n, dtype=np.float32)
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
            total = np.float32(0)
            moment = np.float32(0)
            for j in range(n):
                distance = row[j] - nearest
                weight = exp2(rate * distance)
                weights[j] = weight
                total += weight
                moment += weight * distance
            others = np.float64(total) - 1
            excess = math.log(others) + beta * np.float64(moment) / others - entropy
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
def forces(p: Floats, y: Floats, attraction: Floats, repulsion: Floats) -> float:
    """Compute the forces between the points of `y`, (2, N) each, in place, and return Z.

    Let w = 1 / (1 + |yi - yj|^2). The attraction is the sum over j of p w (yi - yj), the repulsion
    that of w^2 (yi - yj). Z is the sum of w over all pairs. The gradient of the KL divergence is
    4 (attraction - repulsion / Z).
    """
    n = len(p)
    horizontal, vertical = y[0], y[1]
    z = 0.0
    for i in range(n):
        row = p[i]
        x_i, y_i = horizontal[i], vertical[i]
        # Point i is moved away for the loop: with a branch the loop would not be vectorised.
        # Subtracting the weight 1 afterwards would lose the weights of distant points to rounding.
        horizontal[i] = AWAY
        ax = ay = rx = ry = total = np.float32(0)
        for j in range(n):
            dx = x_i - horizontal[j]
            dy = y_i - vertical[j]
            w = ONE / (ONE + dx * dx + dy * dy)
            pull = row[j] * w
            push = w * w
            total += w
            ax += pull * dx
            ay += pull * dy
            rx += push * dx
            ry += push * dy
        attraction[0, i], attraction[1, i] = ax, ay
        repulsion[0, i], repulsion[1, i] = rx, ry
        horizontal[i] = x_i
        z += np.float64(total)
    return z


@compiled(inline="always")
def cross_entropy(p: Floats, y: Floats, z: float) -> float:
    """Return - sum p log q: the KL divergence and a constant, the entropy of p."""
    horizontal, vertical = y[0], y[1]
    half = 0.0
    for i in range(len(p)):
        row = p[i]
        total = np.float32(0)
        for j in range(i):
            dx = horizontal[i] - horizontal[j]
            dy = vertical[i] - vertical[j]
            total += row[j] * math.log(ONE + dx * dx + dy * dy)
        half += np.float64(total)
    return 2 * half + math.log(z)


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
    attraction, repulsion = np.empty_like(y), np.empty_like(y)
    pull = np.float32(4 * exaggeration)
    inertia, pace = np.float32(momentum), np.float32(rate)
    loss = norm = 0.0
    for step in range(steps):
        z = forces(p, y, attraction, repulsion)
        if step == steps - 1:
            loss = cross_entropy(p, y, z)
        push = np.float32(4 / z)
        norm = 0.0
        for axis in range(2):
            for i in range(y.shape[1]):
                gradient = pull * attraction[axis, i] - push * repulsion[axis, i]
                if update[axis, i] * gradient < 0:
                    gain = gains[axis, i] + np.float32(0.2)
                else:
                    gain = max(gains[axis, i] * np.float32(0.8), np.float32(0.01))
                gains[axis, i] = gain
                gradient *= gain
                update[axis, i] = inertia * update[axis, i] - pace * gradient
                y[axis, i] += update[axis, i]
                norm += np.float64(gradient * gradient)
    return loss, math.sqrt(norm)
