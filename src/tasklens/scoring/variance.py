"""Compare the variance of hidden states between groups with the variance within groups."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import one_thread

Doubles = npt.NDArray[np.float64]


def centred(x: npt.NDArray[Any]) -> Doubles:
    """Return `x`, (N, D), in float64 less its mean; equal rows become exactly zero."""
    # Relative to the first row, equal rows are exactly zero, whatever their common offset.
    relative: Doubles = np.subtract(x, x[0], dtype=np.float64)
    relative -= relative.mean(axis=0)
    return relative


def variance_share(x: Doubles, groups: npt.NDArray[Any]) -> float:
    """Return the share of the variance between groups (the multivariate eta squared).

    It is the sum over groups g of n_g |mean_g - mean|^2, divided by the sum over rows of
    |row - mean|^2, in 0 .. 1. It is 0 if all rows are equal. `x` is (N, D), see `centred`.
    """
    total = float(np.vdot(x, x))
    if total == 0:
        return 0.0
    means, sizes, _ = _groups(x, groups)
    return min(1.0, float(sizes @ (means**2).sum(axis=1)) / total)


def separation(x: Doubles, groups: npt.NDArray[Any], products: Doubles | None = None) -> float:
    """Return the variance between K groups, divided by the largest variance within them.

    The variance between groups is in at most K - 1 directions. The variance within groups is that
    of the K - 1 directions in which it is largest. KMeans with K clusters looks for the K - 1
    directions with the largest variance: Ding and He, "K-means Clustering via Principal Component
    Analysis", ICML 2004. Below 1, these are directions within groups.

    It is 0 if the groups' means are equal, and infinite if nothing varies within groups. `x` is
    (N, D), see `centred`. ``products`` are those of the rows with each other, (N, N), centred or
    not, if they are known.
    """
    means, sizes, group = _groups(x, groups)
    between = float(sizes @ (means**2).sum(axis=1))
    n, d = x.shape
    wide = min(len(means) - 1, n, d)
    if between == 0 or wide == 0:
        return 0.0
    with one_thread():
        if products is None:
            within = means[group]
            within -= x
            scatter = within.T @ within if d <= n else within @ within.T
        else:
            share = (group == np.arange(len(means))[:, None]) / sizes[:, None]  # (K, N)
            along = share @ products  # (K, N): the means' products with the rows
            scatter = products - along[group] - along[group].T
            scatter += (along @ share.T)[np.ix_(group, group)]
        # All eigenvalues: LAPACK finds them faster than some of them.
        widest = np.linalg.eigvalsh(scatter)[-wide:].clip(0).sum()
    return between / float(widest) if widest > 0 else float("inf")


def nc1(x: Doubles, groups: npt.NDArray[Any]) -> float:
    """Return NC1, the covariance within C groups relative to that between their means.

    It is the trace of W B+, divided by C: Papyan, Han and Donoho, "Prevalence of neural collapse",
    PNAS 117, 2020, figure 6. W is the mean over states of the outer product of a state less its
    group's mean. B is the mean over groups of the outer product of the group's mean less the mean
    of the groups' means. B+ is the pseudo-inverse of B, whose rank is at most C - 1. An eigenvalue
    of B counts as zero up to a share of the variance of the states: max(N, D) times the rounding of
    float64. What varies within groups in directions without differences of means does not count.

    It is 0 if states collapse to their groups' means. It is infinite if all means are equal: the
    pseudo-inverse would be 0, and look like a collapse. It is NaN if all states are equal. `x` is
    (N, D), see `centred`; ``groups`` is (N,).
    """
    means, _, group = _groups(x, groups)
    means -= means.mean(axis=0)
    n, c = len(x), len(means)
    variance = float(np.vdot(x, x)) / n
    with one_thread():
        values, vectors = np.linalg.eigh(means @ means.T / c)  # (C,), (C, C)
        kept = values > max(x.shape) * np.finfo(np.float64).eps * variance
        if not kept.any():
            return float("inf") if variance > 0 else float("nan")
        values, vectors = values[kept], vectors[:, kept]
        # The eigenvectors of B, each times the square root of C times its eigenvalue: (D, R).
        along = x @ (means.T @ vectors)  # (N, R)
    along -= _groups(along, groups)[0][group]
    return float(((along**2).sum(axis=0) / values**2).sum() / (n * c * c))


def _groups(
    x: Doubles, groups: npt.NDArray[Any]
) -> tuple[Doubles, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the mean, (G, D), and the size, (G,), of each group, and the group of each row."""
    group, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]  # (N,), (G,)
    first = np.cumsum(sizes) - sizes  # (G,): where each group begins once sorted
    sums = np.add.reduceat(x[np.argsort(group, kind="stable")], first, axis=0)  # (G, D)
    return sums / sizes[:, None], sizes, group
