"""Score resampled instances, for the intervals of `tasklens.findings.verdict`.

The bootstrap (Efron, 1979) draws instructions with replacement, not instances. The instances of an
instruction differ only in their input, so that they are not independent.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasklens.clustering import numba_compile
from tasklens.core.seeds import stream

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


class Resampling:
    """The instances of one split under resampled units.

    A unit that is drawn w times counts as w copies. Pairs are made of instances of different units.
    Copies of one unit make no pairs with each other: such pairs would agree for any clusters and
    raise the index.

    ``task`` and ``unit`` are those of each instance, (N,). A unit is an index into the columns of
    ``weights``, (B, U), from `resampling_weights`.
    """

    def __init__(self, task: Ints, unit: Ints, weights: Floats) -> None:
        self._task = np.unique(task, return_inverse=True)[1]
        # Most units have no instance in a split; all sums are over the others.
        used, self._unit = np.unique(unit, return_inverse=True)
        self._weights = np.ascontiguousarray(weights[:, used].T)  # (U, B)
        # Integers below 2^24, which are exact, in half of the memory.
        self._rows = self._weights.astype(np.float32)
        self._pairs_less = self._weights * (1 - self._weights)
        self._sizes = np.bincount(self._unit)  # (U,)
        self._n = self._sizes @ self._weights  # (B,)
        self._by_unit = np.argsort(self._unit, kind="stable")
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
        values = np.bincount(self._unit, weights=values, minlength=len(self._sizes))
        sums, n = values @ self._weights, self._n
        return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)  # type: ignore[no-any-return]

    def _pairs(self, part: Ints) -> Floats:
        """Return twice the number of pairs within the parts of a partition, (B,).

        Let n[p, u] be the number of instances of part p in unit u. Pairs of different units are::

            sum_p (sum_u w_u n[p, u])^2 - sum_pu (w_u n[p, u])^2

        Pairs within a unit are::

            sum_pu w_u n[p, u] (n[p, u] - 1)
        """
        order = self._by_unit[np.argsort(part[self._by_unit], kind="stable")]
        part, unit = part[order], self._unit[order]
        first = np.diff(part, prepend=-1) != 0
        begins = np.flatnonzero(first | (np.diff(unit, prepend=-1) != 0))
        n = np.diff(begins, append=len(part))  # of each part in each of its units
        squares = np.bincount(unit[begins], weights=n**2, minlength=len(self._sizes))  # (U,)
        within = squares @ self._pairs_less - self._n
        return squared_sizes(np.flatnonzero(first), unit, self._rows) + within


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


def squared_sizes(begins: Ints, unit: Ints, weights: npt.NDArray[np.float32]) -> Floats:
    """Return the sum over parts of their squared sizes under each resampling, (B,).

    ``begins``, (P,), is the first instance of each part. ``unit``, (N,), is the row of each
    instance in ``weights``, (U, B). All sums are of integers, so that their order changes no bit.
    """
    if not numba_compile.MISSING:
        return _squared_sizes(begins, unit, weights)  # type: ignore[no-any-return]
    sizes = np.add.reduceat(weights[unit], begins).astype(np.float64)  # (P, B)
    return np.einsum("pb,pb->b", sizes, sizes)  # type: ignore[no-any-return]


@numba_compile.compiled()
def _squared_sizes(begins: Ints, unit: Ints, weights: npt.NDArray[np.float32]) -> Floats:
    """Compute `squared_sizes` without an array of all sizes."""
    b = weights.shape[1]
    squares, size = np.zeros(b), np.empty(b, dtype=np.float32)
    for p in range(len(begins)):
        size[:] = 0
        end = begins[p + 1] if p + 1 < len(begins) else len(unit)
        for i in range(begins[p], end):
            row = weights[unit[i]]
            for j in range(b):
                size[j] += row[j]
        for j in range(b):
            squares[j] += np.float64(size[j]) ** 2
    return squares
