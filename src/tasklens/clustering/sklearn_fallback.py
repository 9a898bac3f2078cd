"""Call the KMeans and t-SNE of scikit-learn, for cells that our kernels do not cluster."""

import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import TSNE


def kmeans_starts(
    x: npt.NDArray[np.float32], k: int, *, seed: int, n_init: int, max_iter: int, tol: float
) -> list[tuple[npt.NDArray[np.int32], float, int]]:
    """Return the labels, (N,), the inertia and the iterations of each of `n_init` starts.

    They are the starts among which ``KMeans(k, n_init=n_init, random_state=seed)`` chooses.
    """
    model = KMeans(
        n_clusters=k,
        init="k-means++",
        n_init=1,
        max_iter=max_iter,
        tol=tol,
        algorithm="lloyd",
        random_state=np.random.RandomState(seed % 2**32),
    )
    starts = []
    with warnings.catch_warnings():
        # Rows that differ by a rounding error may share a cluster; the labels show it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(n_init):
            model.fit(x)  # each draws from where the one before ended
            starts.append((model.labels_, float(model.inertia_), int(model.n_iter_)))
    return starts


def sum_of_squares(x: npt.NDArray[np.float32], labels: npt.NDArray[np.integer]) -> float:
    """Return the sum of squared distances of points, (N, D), to the means of their clusters."""
    total = 0.0
    for cluster in np.unique(labels):
        members = x[labels == cluster].astype(np.float64)
        total += float(np.sum((members - members.mean(axis=0)) ** 2))
    return total


def sklearn_tsne(
    x: npt.NDArray[np.float32],
    *,
    perplexity: float,
    method: Literal["exact", "barnes_hut"],
    max_iter: int,
    seed: int,
    start: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the embedding (N, 2) of (N, D), D at least 2, by scikit-learn's TSNE.

    The method "exact" keeps the affinities of all pairs, "barnes_hut" those of near neighbours (van
    der Maaten, JMLR 15, 2014). The descent begins at `start`, (N, 2), by default the first two
    principal components.
    """
    model = TSNE(
        n_components=2,
        perplexity=perplexity,
        max_iter=max_iter,
        init="pca" if start is None else start,
        learning_rate="auto",
        method=method,
        random_state=seed % 2**32,
        n_jobs=1,
    )
    embedding: npt.NDArray[np.float32] = model.fit_transform(x).astype(np.float32, copy=False)
    return embedding
