"""Compare the variance of hidden states between groups with the variance within groups."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from tasklens.clustering.numba_compile import one_thread


def variance_share(x: npt.NDArray[Any], groups: npt.NDArray[Any]) -> float:
    """Return the share of the variance of `x` between groups (the multivariate eta squared).

    It is the sum over groups g of n_g |mean_g - mean|^2, divided by the sum over rows of
    |row - mean|^2, in 0 .. 1. It is 0 if all rows of `x`, (N, D), are equal. Sums are in float64.
    """
    # Relative to the first row, equal rows are exactly zero, whatever their common offset.
    centred = x.astype(np.float64) - x[0].astype(np.float64)  # (N, D)
    if not centred.any():
        return 0.0
    centred -= centred.mean(axis=0)
    group, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]  # (N,), (G,)
    first = np.cumsum(sizes) - sizes  # (G,): where each group begins once sorted
    sums = np.add.reduceat(centred[np.argsort(group, kind="stable")], first, axis=0)  # (G, D)
    between = float(np.sum(sums**2 / sizes[:, None]))
    return min(1.0, between / float(np.sum(centred**2)))


def separation(x: npt.NDArray[Any], groups: npt.NDArray[Any]) -> float:
    """Return the variance between K groups, divided by the largest variance within them.

    The variance between groups is in at most K - 1 directions. The variance within groups is that
    of the K - 1 directions in which it is largest. KMeans with K clusters looks for the K - 1
    directions with the largest variance: Ding and He, "K-means Clustering via Principal Component
    Analysis", ICML 2004. Below 1, these are directions within groups.

    It is 0 if the groups' means are equal, and infinite if nothing varies within groups. `x` is
    (N, D); sums are in float64.
    """
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    names, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    means = np.stack([centred[group == g].mean(axis=0) for g in range(len(names))])  # (K, D)
    between = float(sizes @ (means**2).sum(axis=1))
    within = centred - means[group]
    n, d = within.shape
    m = min(n, d)
    wide = min(len(names) - 1, m)
    if between == 0 or wide == 0:
        return 0.0
    with one_thread():
        scatter = within.T @ within if d <= n else within @ within.T
        widest = scipy.linalg.eigvalsh(scatter, subset_by_index=(m - wide, m - 1)).clip(0).sum()
    return between / float(widest) if widest > 0 else float("inf")
