"""Describe hidden states by their spectrum, without labels: RankMe and the exponent alpha."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal, lapack

from tasklens.clustering.numba_compile import one_thread

#: What is added to each share of RankMe: the value of its authors for float32.
EPSILON = 1e-7
#: The first and the last rank of the eigenvalues that alpha is fitted to.
RANKS = (11, 100)
#: Fewest eigenvalues that alpha is fitted to.
FEWEST = 10

Doubles = npt.NDArray[np.float64]


def gram(x: npt.NDArray[Any]) -> Doubles:
    """Return the products of the rows of `x`, (N, D), with each other, in float64: (N, N)."""
    wide = x.astype(np.float64)
    with one_thread():
        products: Doubles = wide @ wide.T
    return products


def spectra(x: npt.NDArray[Any], products: Doubles | None = None) -> tuple[Doubles, Doubles]:
    """Return the singular values of states, (N, D), and the eigenvalues of their covariance.

    Both are (min(N, D),) and descend. The states are taken as they are for the first, and less
    their mean for the second. The covariance is divided by N. Its eigenvalues are exactly zero if
    they are at most max(N, D) times the rounding of float64 times the mean squared length of a
    state. ``products`` are those of the states with each
    other, see `gram`, if they are known.

    One tridiagonal form serves both. The mean is turned into the first direction, which the
    reduction keeps; so only the first entry differs.
    """
    n, d = x.shape
    if d <= n:
        wide = x.astype(np.float64)
        mean = wide.mean(axis=0)
        with one_thread():
            diagonal, beside = _tridiagonal(wide.T @ wide, mean)
    else:
        diagonal, beside = _tridiagonal(gram(x) if products is None else products, np.ones(n))
    squares = _eigenvalues(diagonal, beside)
    if d <= n:
        around = diagonal.copy()
        around[0] -= n * (mean @ mean)
        values = _eigenvalues(around, beside)
    else:
        values = np.append(_eigenvalues(diagonal[1:], beside[1:]), 0)
    zero = max(n, d) * np.finfo(np.float64).eps * diagonal.sum()
    return np.sqrt(squares.clip(0)), np.where(values > zero, values, 0) / n


def _tridiagonal(matrix: Doubles, direction: Doubles) -> tuple[Doubles, Doubles]:
    """Return the diagonal, (M,), and what is beside it, (M - 1,), of a tridiagonal form.

    It has the eigenvalues of the symmetric ``matrix``, (M, M), and its first axis is that of
    ``direction``, (M,).
    """
    v = direction / (np.linalg.norm(direction) or 1)
    v[0] += 1 if v[0] >= 0 else -1
    with one_thread():
        along = 2 / (v @ v) * (matrix @ v)
        along -= (along @ v) / (v @ v) * v
        turned = matrix - np.outer(v, along) - np.outer(along, v)
        size = int(lapack.dsytrd_lwork(len(v), lower=1)[0])
        _, diagonal, beside, _, _ = lapack.dsytrd(turned, lower=1, lwork=size)
    return diagonal, beside


def _eigenvalues(diagonal: Doubles, beside: Doubles) -> Doubles:
    """Return the eigenvalues of a tridiagonal matrix, in descent."""
    if len(diagonal) < 2:
        return diagonal
    values: Doubles = eigh_tridiagonal(diagonal, beside, eigvals_only=True, lapack_driver="sterf")
    return values[::-1]


def rankme(singular: Doubles) -> float:
    """Return RankMe, the effective rank of states whose singular values are given, (M,).

    It is exp(-sum over k of p_k log p_k), with p_k = s_k / sum(s) + `EPSILON`: Garrido et al.,
    "RankMe", ICML 2023, equations 1 and 2. As published, the states are not centred: a large mean,
    common to all states, lowers it. It is 1 for states along a line through 0, M for singular
    values that are all equal, and NaN if all states are zero.
    """
    total = singular.sum()
    if total == 0:
        return float("nan")
    share = singular / total + EPSILON
    return float(np.exp(-share @ np.log(share)))


def alpha(eigenvalues: Doubles) -> float:
    """Return the exponent of the decay of the eigenvalues of a covariance, (M,), in descent.

    The eigenvalue of rank j falls as j to the power of -alpha. It is fitted by a linear regression
    of the logarithm of the eigenvalue on that of the rank, with the weight 1 / j: Stringer et al.,
    Nature 571, 2019, and alpha-ReQ, Agrawal et al., NeurIPS 2022. The ranks are `RANKS`: the first
    is that of Stringer et al., the last that of the package of alpha-ReQ. Only eigenvalues above
    zero count. It is NaN if fewer than `FEWEST` are in these ranks.
    """
    first, last = RANKS
    end = min(last, int(np.count_nonzero(eigenvalues)))
    rank = np.arange(first, end + 1, dtype=np.float64)
    if len(rank) < FEWEST:
        return float("nan")
    x, y, weight = np.log(rank), np.log(eigenvalues[first - 1 : end]), 1 / rank
    x -= np.average(x, weights=weight)
    return float(-(weight * x) @ y / ((weight * x) @ x))
