"""Compile the affinities of t-SNE: Gaussians over the nearest neighbours of each point.

They are computed in float32, in one thread, from one row of distances at a time.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tasklens.clustering.numba_compile import compiled, total

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]

ZERO, ONE = np.float32(0), np.float32(1)
#: Largest difference of the entropy of neighbours from the perplexity, in nats.
TOLERANCE = 1e-5
#: Largest number of steps of the search for a point's bandwidth.
SEARCH_STEPS = 100
#: Least affinity of a pair that is kept, as in scikit-learn's exact method.
SMALLEST = np.float32(np.finfo(np.float64).eps)
#: If a point has more neighbours than this part of N, a matrix of affinities is faster than a list:
#: the pairs of a list are fewer, but not adjacent, and each takes some 16 times as long.
DENSE = 1 / 16

# Taylor series of 2^f: its remainder is below 1e-8 for |f| <= 1/2.
T1, T2, T3, T4, T5, T6, T7 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 8))


class Affinities(NamedTuple):
    """The joint probabilities of pairs of N points, their sum 1, in one of two forms."""

    dense: Floats
    """Of all pairs, (N, N), symmetric, and 0 if none is kept; (0, 0) if they are listed."""
    first: Offsets
    """Places at which the list of each point begins, and its end, (N + 1,), if they are listed.
    A pair of points is listed once, with the later point."""
    other: Indices
    """The earlier point of each listed pair."""
    value: Floats
    """The affinity of each listed pair: half of their sum is 1."""


def affinities(x: Floats, neighbors: int, perplexity: float) -> Affinities:
    """Return the affinities of the rows of (N, D).

    They are kept between points of which one is among the `neighbors` nearest of the other, as in
    ``TSNE(method="barnes_hut")`` of scikit-learn. `neighbors` is at least 1 and less than N. With
    N - 1 neighbours the affinities are those of its exact method.
    """
    n = len(x)
    dense, first = np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    other, value = np.zeros(0, np.uint32), np.zeros(0, np.float32)
    if neighbors > DENSE * n:
        return Affinities(joint(x, neighbors, perplexity), first, other, value)
    p, near = conditional(x, neighbors, perplexity)
    ends = np.arange(0, p.size + 1, neighbors)
    directed = sparse.csr_array((p.ravel(), near.ravel().astype(np.int32), ends), shape=(n, n))
    pairs = sparse.tril(directed + directed.T, -1, format="csr")  # each once
    pairs.sort_indices()
    value = np.maximum(pairs.data * np.float32(0.5 / n), SMALLEST)
    return Affinities(dense, pairs.indptr.astype(np.int64), pairs.indices.astype(np.uint32), value)


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
def in_columns(x: Floats) -> Floats:
    """Return the columns of (N, D) as rows, and up to three more, of zeros: (4 ceil(D / 4), N)."""
    n, d = x.shape
    columns = np.zeros((4 * ((d + 3) // 4), n), dtype=np.float32)
    columns[:d] = x.T
    return columns


@compiled(inline="always")
def squared_distances(columns: Floats, i: int, row: Floats) -> None:
    """Compute the squared distances of point i to all, (N,), in place; equal points are at 0."""
    row[:] = 0
    for c in range(0, len(columns), 4):  # four columns at a time: a quarter of the passes over row
        q, r, s, t = columns[c], columns[c + 1], columns[c + 2], columns[c + 3]
        q_i, r_i, s_i, t_i = q[i], r[i], s[i], t[i]
        for j in range(len(row)):
            row[j] += ((q[j] - q_i) ** 2 + (r[j] - r_i) ** 2) + (
                (s[j] - s_i) ** 2 + (t[j] - t_i) ** 2
            )


@compiled(inline="always")
def nearest(row: Floats, i: int, near: Indices) -> None:
    """Find the k points nearest to point i, (k,), in place, given all squared distances (N,).

    Of points at an equal distance, those are taken that follow i, and after the last point the
    first. If equal points all took the same of their neighbours, they would tear others apart.
    """
    n, k = len(row), len(near)
    row[i] = np.inf
    limit = np.partition(row, k - 1)[k - 1]
    ties = k
    for j in range(n):
        ties -= row[j] < limit
    count = 0
    for step in range(1, n):
        j = i + step if i + step < n else i + step - n
        tied = row[j] == limit and ties > 0
        if tied or row[j] < limit:
            ties -= tied
            near[count] = j
            count += 1


@compiled(inline="always")
def to_conditional(p: Floats, perplexity: float) -> None:
    """Turn squared distances to neighbours, (k,), into p(j | i) of the perplexity, in place."""
    k = len(p)
    entropy = math.log(perplexity)
    weights, parts = np.empty(k, dtype=np.float32), np.empty((2, k), dtype=np.float32)
    # Only differences of distances count. Minus the smallest, the nearest never underflows.
    p -= p.min()
    beta, low, high = 1.0, 0.0, np.inf  # beta = 1 / (2 sigma^2)
    for _ in range(SEARCH_STEPS):
        rate = np.float32(-beta / math.log(2))
        for j in range(k):
            weight = exp2(rate * p[j])
            weights[j] = parts[0, j] = weight
            parts[1, j] = weight * p[j]
        mass = np.float64(total(parts[0]))
        moment = np.float64(total(parts[1]))
        excess = math.log(mass) + beta * moment / mass - entropy
        if abs(excess) <= TOLERANCE:
            break
        if excess > 0:
            low = beta
            beta = 2 * beta if high == np.inf else (beta + high) / 2
        else:
            high = beta
            beta = (beta + low) / 2
    scale = np.float32(1 / mass)
    for j in range(k):
        p[j] = weights[j] * scale


@compiled(inline="always")
def neighbours(
    columns: Floats, i: int, perplexity: float, row: Floats, near: Indices, p: Floats
) -> None:
    """Find the k nearest neighbours of point i and their p(j | i), (k,) each, in place."""
    squared_distances(columns, i, row)
    nearest(row, i, near)
    for s in range(len(near)):
        p[s] = row[near[s]]
    to_conditional(p, perplexity)


@compiled()
def conditional(x: Floats, k: int, perplexity: float) -> tuple[Floats, Indices]:
    """Return p(j | i) of the k nearest neighbours of each row of (N, D), and their j: (N, k)."""
    n = len(x)
    columns, row = in_columns(x), np.empty(n, dtype=np.float32)
    p, near = np.empty((n, k), dtype=np.float32), np.empty((n, k), dtype=np.uint32)
    for i in range(n):
        neighbours(columns, i, perplexity, row, near[i], p[i])
    return p, near


@compiled()
def joint(x: Floats, k: int, perplexity: float) -> Floats:
    """Return the affinities of all pairs of rows of (N, D): (N, N), symmetric, sum 1.

    They are 0 between points of which neither is among the k nearest neighbours of the other.
    """
    n = len(x)
    columns, row = in_columns(x), np.empty(n, dtype=np.float32)
    near, some = np.empty(k, dtype=np.uint32), np.empty(k, dtype=np.float32)
    p = np.zeros((n, n), dtype=np.float32)
    for i in range(n):
        neighbours(columns, i, perplexity, row, near, some)
        for s in range(k):
            p[i, near[s]] = some[s]
    scale = np.float32(0.5 / n)
    for i in range(n):
        for j in range(i):
            both = p[i, j] + p[j, i]
            p[i, j] = p[j, i] = max(scale * both, SMALLEST) if both > 0 else ZERO
    return p
