"""KMeans with k-means++ starts and several seeds."""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning


def kmeans(
    x: npt.NDArray[np.float32],
    k: int,
    *,
    seeds: Sequence[int],
    n_init: int,
    max_iter: int,
    tol: float,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """Cluster the rows of `x` once for each seed.

    Parameters
    ----------
    x : (N, D) float32 array
        Finite points.
    k : int
        Number of clusters; lowered to the number of distinct rows of `x`.
    seeds : sequence of int
        S non-negative seeds, of which the lower 32 bits count.
    n_init, max_iter, tol
        As in `sklearn.cluster.KMeans`; `init` is k-means++, the algorithm Lloyd's.

    Returns
    -------
    labels : (S, N) int16 array
    inertia : (S,) float64 array
        Sums of squared distances to the nearest centre.

    References
    ----------
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    k = min(k, _distinct_rows(x, k))
    labels = np.empty((len(seeds), len(x)), dtype=np.int16)  # (S, N)
    inertia = np.empty(len(seeds), dtype=np.float64)  # (S,)
    for i, seed in enumerate(seeds):
        model = KMeans(
            n_clusters=k,
            init="k-means++",
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            algorithm="lloyd",
            random_state=seed % 2**32,
        )
        with warnings.catch_warnings():
            # Rows that differ by a rounding error can still fall together; the labels show it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels[i] = model.fit_predict(x)
        inertia[i] = model.inertia_
    return labels, inertia


def _distinct_rows(x: npt.NDArray[np.float32], enough: int) -> int:
    """Count the distinct rows of `x`, or stop at `enough` of them."""
    seen: set[bytes] = set()
    for row in x + np.float32(0):  # adding 0 makes -0 the same bytes as 0
        seen.add(row.tobytes())
        if len(seen) >= enough:
            break
    return len(seen)
