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


def separation(x: Doubles, groups: npt.NDArray[Any]) -> float:
    """Return the variance between K groups, divided by the largest variance within them.

    The variance between groups is in at most K - 1 directions. The variance within groups is that
    of the K - 1 directions in which it is largest. KMeans with K clusters looks for the K - 1
    directions with the largest variance: Ding and He, "K-means Clustering via Principal Component
    Analysis", ICML 2004. Below 1, these are directions within groups.

    It is 0 if the groups' means are equal, and infinite if nothing varies within groups. `x` is
    (N, D), see `centred`.
    """
    means, sizes, group = _groups(x, groups)
    between = float(sizes @ (means**2).sum(axis=1))
    within = means[group]
    within -= x
    n, d = within.shape
    wide = min(len(means) - 1, n, d)
    if between == 0 or wide == 0:
        return 0.0
    with one_thread():
        scatter = within.T @ within if d <= n else within @ within.T
        # All eigenvalues: LAPACK finds them faster than some of them.
        widest = np.linalg.eigvalsh(scatter)[-wide:].clip(0).sum()
    return between / float(widest) if widest > 0 else float("inf")


def _groups(
    x: Doubles, groups: npt.NDArray[Any]
) -> tuple[Doubles, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the mean, (G, D), and the size, (G,), of each group, and the group of each row."""
    group, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]  # (N,), (G,)
    first = np.cumsum(sizes) - sizes  # (G,): where each group begins once sorted
    sums = np.add.reduceat(x[np.argsort(group, kind="stable")], first, axis=0)  # (G, D)
    return sums / sizes[:, None], sizes, group
