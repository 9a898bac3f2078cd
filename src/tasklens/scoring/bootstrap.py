"""Score resampled instances, for the intervals of `tasklens.findings.verdict`.

The bootstrap (Efron, 1979) draws instructions with replacement, not instances. The instances of an
instruction differ only in their input, so that they are not independent. If instances have two
crossed units, such as a context and an input, both are drawn. An instance then counts as often as
the product of both counts: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics, 2007.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtrit

from tasklens.clustering import numba_compile
from tasklens.core.seeds import stream
from tasklens.scoring.centroid_scores import auroc

#: The confidence level of all intervals.
CONFIDENCE = 0.95
#: Number of draws of runs and their copies for an interval.
DRAWS = 4000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def resampling_weights(group: Ints, n: int, rng: np.random.Generator) -> Floats:
    """Draw units with replacement within each group, ``n`` times; return their counts, (1 + n, U).

    ``group``, (U,), is the group of each unit, such as the task of each instruction. The first row
    of the result is all ones: the original sample.
    """
    weights = np.ones((1 + n, len(group)))
    for g in np.unique(group):
        units = np.flatnonzero(group == g)
        share = np.full(len(units), 1 / len(units))
        weights[1:, units] = rng.multinomial(len(units), share, size=n)
    return weights


def linked_units(unit: Ints, task: Ints, split: Ints | None = None) -> tuple[Ints, Ints]:
    """Return the distinct units, ascending, and the group in which each is drawn, (U,) each.

    ``unit`` is (N,), or (N, 2) for two kinds of units, whose numbers are all distinct; ``task`` and
    ``split`` are (N,). A group has the units of one kind that occur with the same tasks, directly
    or through other units: the instructions of a task, or the contexts of all tasks that share
    contexts. If the splits are given, all units of a group occur in the same splits, so that each
    split has as many in every copy: a few held-out inputs would be missing in many.
    """
    units, number = np.unique(unit, return_inverse=True)
    number = number.reshape(len(task), -1)  # (N, D)
    tasks, rank = np.unique(task, return_inverse=True)
    # Each kind, and each set of splits, has nodes of its own for the tasks.
    occurs = np.zeros(len(units), dtype=np.int64)  # a bit per split
    if split is not None:
        np.bitwise_or.at(occurs, number, (1 << split)[:, None])
    sets, number_of_set = np.unique(occurs, return_inverse=True)
    kind = len(sets) * np.arange(number.shape[1]) + number_of_set[number]  # (N, D)
    node = rank[:, None] + len(tasks) * kind
    pairs = number.ravel(), len(units) + node.ravel()
    n = len(units) + len(tasks) * len(sets) * number.shape[1]
    graph = coo_array((np.ones(number.size), pairs), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    group = np.full(count, n, dtype=np.int64)
    np.minimum.at(group, component[number], node)  # the first task, so that groups are in order
    return units, group[component[: len(units)]]


def instance_weights(unit: Ints, units: Ints, weights: Floats) -> Floats:
    """Return how often each instance is drawn in each resampling, (B, N).

    ``unit`` is (N,) or (N, 2), ``units`` are all distinct units, ascending, (U,), and ``weights``,
    (B, U), those of `resampling_weights`.
    """
    column = np.searchsorted(units, unit)
    if column.ndim == 1:
        return weights[:, column]
    return weights[:, column[:, 0]] * weights[:, column[:, 1]]


def interval(values: Sequence[Floats], *purpose: str) -> tuple[float, float]:
    """Return the bootstrap interval of a mean over runs, of which each has resampled copies.

    Each draw takes resampled copies of n - 1 of the n runs, with replacement. With n runs the
    variance would be too small by the factor (n - 1) / n: two thirds at three runs. The
    quantiles are those of the percentile bootstrap (Efron and Tibshirani, 1993, ch. 13).

    ``values`` are the numbers of each run, (B,): first as measured, then resampled. B is 1 for runs
    without resampled copies. ``purpose`` names the stream of random numbers.
    """
    resampled = [v[1:] if len(v) > 1 else v for v in values]
    copies = max(map(len, resampled))
    every = np.stack([np.broadcast_to(v, copies) for v in resampled])  # (n, copies)
    n = len(every)
    rng = stream(0, "bootstrap", *purpose)
    shape = (DRAWS, max(1, n - 1))
    drawn = every[rng.integers(n, size=shape), rng.integers(copies, size=shape)].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    # A quantile is one of the draws: it could not be interpolated to an infinite draw.
    drawn = drawn[~np.isnan(drawn)]  # in small samples, a copy without instances has no number
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def interval_of_runs(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the interval of the mean of runs by Student's t, from the number of each, (n,).

    Draws of few runs cannot reach beyond the worst and the best of them, so that `interval` is too
    narrow: the mean of three lies outside on one side more often than in 12 % of all cases. The t
    is right for normal numbers. It is NaN for a single run, or if a number is not finite.
    """
    n = len(numbers)
    if n < 2 or not np.isfinite(numbers).all():
        return float("nan"), float("nan")
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * np.std(numbers, ddof=1) / np.sqrt(n)
    return float(np.mean(numbers) - half), float(np.mean(numbers) + half)


class _Drawn(NamedTuple):
    """The U units of one kind that the instances of a split have, and their B resamplings."""

    unit: Ints
    """The unit of each instance, (N,)."""
    order: Ints
    """The instances in the order of their units, (N,)."""
    weights: Floats
    """How often each unit is drawn, (U, B)."""
    rows: npt.NDArray[np.float32]
    """The same in half of the memory: integers below 2^24, which are exact."""
    pairs_less: Floats
    """w (1 - w) for each weight w, (U, B): a unit makes w pairs with itself, not w w."""

    @classmethod
    def derived(cls, unit: Ints, weights: Floats, pairs_less: Floats | None = None) -> "_Drawn":
        """Return the units; by default `pairs_less` derives from the weights."""
        if pairs_less is None:
            pairs_less = weights * (1 - weights)
        order = np.argsort(unit, kind="stable")
        return cls(unit, order, weights, weights.astype(np.float32), pairs_less)

    def begins(self, part: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the instances by part and unit, where parts begin, and units in them begin."""
        order = self.order[np.argsort(part[self.order], kind="stable")]
        first = np.diff(part[order], prepend=-1) != 0
        both = first | (np.diff(self.unit[order], prepend=-1) != 0)
        return order, np.flatnonzero(first), np.flatnonzero(both)


class Resampling:
    """The instances of one split under resampled units.

    A unit that is drawn w times counts as w copies. Pairs are made of instances of different units,
    and of the same copy of a unit. Different copies of one unit make no pairs: such pairs would
    agree for any clusters and raise the index. With two kinds of units, this holds for each kind.

    ``task``, (N,), is that of each instance. ``unit``, (N,), or (N, 2) for two kinds, has indices
    into the columns of ``weights``, (B, U), from `resampling_weights`.
    """

    def __init__(self, task: Ints, unit: Ints, weights: Floats) -> None:
        self._task = np.unique(task, return_inverse=True)[1]
        self._kinds = []
        for kind in unit.reshape(len(task), -1).T:
            # Most units have no instance in a split; all sums are over the others.
            used, number = np.unique(kind, return_inverse=True)
            self._kinds.append(_Drawn.derived(number, np.ascontiguousarray(weights[:, used].T)))
        self._drawn = self._kinds[0]
        if len(self._kinds) == 2:  # a combination of two units is a unit, too
            one, other = self._kinds
            both = one.unit * len(other.weights) + other.unit
            _, first, number = np.unique(both, return_index=True, return_inverse=True)
            u, v = one.unit[first], other.unit[first]
            weights, less = one.weights[u] * other.weights[v], one.pairs_less[u]
            self._drawn = _Drawn.derived(number, weights, less * other.pairs_less[v])
        self._sizes = np.bincount(self._drawn.unit)  # (U,)
        self._n = self._sizes @ self._drawn.weights  # (B,)
        self._of_task = self._pairs(self._task)
        self._every = self._pairs(np.zeros_like(self._task))

    def ari(self, labels: Ints) -> Floats:
        """Return the adjusted Rand index of clusters, (N,), and tasks under each resampling, (B,).

        If all weights are 1, it is the index of Hubert and Arabie (1985), as in scikit-learn. If a
        resampling makes both partitions trivial, it is 1. If a resampling has no pair, it is NaN.
        """
        clusters, labels = np.unique(labels, return_inverse=True)
        both = self._pairs(self._task * len(clusters) + labels)
        of_cluster = self._pairs(labels)
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = self._of_task * of_cluster / self._every
            ari = (both - expected) / ((self._of_task + of_cluster) / 2 - expected)
        return np.where(self._every > 0, np.where(np.isfinite(ari), ari, 1.0), np.nan)

    def mean(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the mean of the instances' values, (N,), under each resampling, (B,).

        If a resampling has no instance, it is NaN.
        """
        sums, n = self.sum(values), self._n
        return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)  # type: ignore[no-any-return]

    def sum(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the sum of the instances' values, (N,), under each resampling, (B,)."""
        of_unit = np.bincount(self._drawn.unit, weights=values, minlength=len(self._sizes))
        return of_unit @ self._drawn.weights

    def auroc(self, score: npt.NDArray[np.floating], is_error: npt.NDArray[np.bool_]) -> Floats:
        """Return the area with which a score, (N,), tells errors under each resampling, (B,).

        See `tasklens.scoring.centroid_scores.auroc`.
        """
        return auroc(score, is_error, self._drawn.weights[self._drawn.unit].T)

    def _pairs(self, part: Ints) -> Floats:
        """Return twice the number of pairs within the parts of a partition, (B,).

        Let w_u be the weight of unit u, and n[p, u] the number of instances of part p in it. Two
        instances of different units, u and t, make w_u w_t pairs. Two of the same unit make w_u
        pairs, which is w_u w_u + w_u (1 - w_u). No instance makes pairs with itself::

            sum_p (sum_u w_u n[p, u])^2 + sum_pu w_u (1 - w_u) n[p, u]^2 - sum_pu w_u n[p, u]

        With two kinds, u and v, the number is the product of two such factors. A combination of
        units has the products of w and of w (1 - w) in these sums, and there are two more::

            sum_pu w_u (1 - w_u) (sum_v w_v n[p, u, v])^2, and the same with u for v
        """
        unit = self._drawn.unit
        order, parts, begins = self._drawn.begins(part)
        n = np.diff(begins, append=len(part))  # of each part in each of its units
        squares = np.bincount(unit[order[begins]], weights=n**2, minlength=len(self._sizes))  # (U,)
        pairs = squares @ self._drawn.pairs_less - self._n
        pairs += squared_sizes(parts, unit[order], self._drawn.rows)
        for one, other in permutations(self._kinds, 2):
            order, _, begins = one.begins(part)
            factor = one.pairs_less, one.unit[order[begins]]
            pairs += squared_sizes(begins, other.unit[order], other.rows, factor)
        return pairs


class FamilyResampling:
    """The families of one split under resampled units: each score is the mean over families.

    ``families`` are the rows of each family among the N instances, and its resampling, all with the
    same number of copies.
    """

    def __init__(self, families: Sequence[tuple[Ints | slice, Resampling]]) -> None:
        self._families = families

    def ari(self, labels: Ints) -> Floats:
        """Return the mean of `Resampling.ari`, (B,), for clusters, (N,)."""
        each = [resampling.ari(labels[rows]) for rows, resampling in self._families]
        return np.mean(each, axis=0)  # type: ignore[no-any-return]

    def mean(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the mean of `Resampling.mean`, (B,), for values, (N,)."""
        each = [resampling.mean(values[rows]) for rows, resampling in self._families]
        return np.mean(each, axis=0)  # type: ignore[no-any-return]

    def sum(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the mean of `Resampling.sum`, (B,), for values, (N,)."""
        each = [resampling.sum(values[rows]) for rows, resampling in self._families]
        return np.mean(each, axis=0)  # type: ignore[no-any-return]

    def auroc(self, score: npt.NDArray[np.floating], is_error: npt.NDArray[np.bool_]) -> Floats:
        """Return the mean of `Resampling.auroc`, (B,); NaN if a family has no errors or no hits."""
        each = [part.auroc(score[rows], is_error[rows]) for rows, part in self._families]
        return np.mean(each, axis=0)  # type: ignore[no-any-return]


def squared_sizes(
    begins: Ints,
    unit: Ints,
    weights: npt.NDArray[np.float32],
    factor: tuple[Floats, Ints] | None = None,
) -> Floats:
    """Return the sum over parts of their squared sizes under each resampling, (B,).

    ``begins``, (P,), is the first instance of each part. ``unit``, (N,), is the row of each
    instance in ``weights``, (U, B). With a ``factor``, a square counts as often as the row of the
    first array, (V, B), that the second, (P,), names. All sums are of integers, so that their order
    changes no bit.
    """
    factors, row = factor or (np.ones((1, weights.shape[1])), np.zeros_like(begins))
    if not numba_compile.MISSING:
        return _squared_sizes(begins, unit, weights, factors, row)  # type: ignore[no-any-return]
    sizes = np.add.reduceat(weights[unit], begins).astype(np.float64)  # (P, B)
    return np.einsum("pb,pb,pb->b", sizes, sizes, factors[row])  # type: ignore[no-any-return]


@numba_compile.compiled()
def _squared_sizes(
    begins: Ints, unit: Ints, weights: npt.NDArray[np.float32], factors: Floats, row: Ints
) -> Floats:
    """Compute `squared_sizes` without an array of all sizes."""
    b = weights.shape[1]
    squares, size = np.zeros(b), np.empty(b, dtype=np.float32)
    for p in range(len(begins)):
        size[:] = 0
        end = begins[p + 1] if p + 1 < len(begins) else len(unit)
        for i in range(begins[p], end):
            drawn = weights[unit[i]]
            for j in range(b):
                size[j] += drawn[j]
        factor = factors[row[p]]
        for j in range(b):
            squares[j] += factor[j] * np.float64(size[j]) ** 2
    return squares
