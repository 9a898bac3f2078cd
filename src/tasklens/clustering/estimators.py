"""KMeans and t-SNE behind scikit-learn's interface, for arrays from anywhere."""

import warnings
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from tasklens.clustering import kmeans, tsne
from tasklens.clustering.cluster import MOST_CLUSTERS
from tasklens.clustering.numba_compile import one_thread
from tasklens.core.errors import InputError

Floats = npt.NDArray[np.float32]


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """KMeans with k-means++ starts, as scikit-learn's `sklearn.cluster.KMeans` but faster.

    It computes in float32, in one thread, with Lloyd's algorithm. Same input and seed, same labels.

    Parameters
    ----------
    n_clusters : int
        Number of clusters; at most 32,767.
    n_init : int
        Starts, of which the one with the lowest inertia is kept.
    max_iter : int
        Iterations of one start at most.
    tol : float
        A start ends when its centres move less than this, relative to the variance of `X`.
    random_state : int, numpy.random.RandomState or None
        None draws a fresh seed from the operating system; the global generator is not used.

    Attributes
    ----------
    labels_ : int32 (N,)
    cluster_centers_ : float32 (K, D)
        K is less than `n_clusters` if `X` has fewer distinct rows.
    inertia_ : float
        Sum of the squared distances to the mean of the own cluster.
    n_iter_ : int
        Iterations of the start that was kept.
    near_best_ : int32 (P, N)
        The distinct partitions of the starts whose inertia is within 1 % of the least: KMeans does
        not prefer one of them by much, and scores of all show how far the choice matters.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> import tasklens as tl
    >>> X = np.array([[0, 0], [0, 1], [9, 9], [9, 8]], dtype=np.float32)
    >>> labels = tl.KMeans(n_clusters=2, random_state=0).fit_predict(X)
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_init: int = 10,
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Cluster the rows of `X`, (N, D).

        ValueError if `X` is not a finite matrix; InputError for a parameter out of range.
        """
        x = validate_data(self, X, dtype=np.float32, order="C")
        _check_whole("n_clusters", self.n_clusters, 1, min(len(x), MOST_CLUSTERS))
        _check_whole("n_init", self.n_init, 1)
        _check_whole("max_iter", self.max_iter, 1)
        if not self.tol >= 0:
            raise InputError(f"tol = {self.tol!r}: should be at least 0")
        with one_thread():
            clusters = kmeans.kmeans(
                x,
                self.n_clusters,
                seeds=[_seed(self.random_state)],
                n_init=self.n_init,
                max_iter=self.max_iter,
                tol=self.tol,
            )
        # Labels are numbered in the order of their first rows, without gaps.
        self.labels_ = kmeans.renumbered(clusters.labels[0]).astype(np.int32)
        self.near_best_ = clusters.near_best.astype(np.int32)
        members = [x[self.labels_ == k] for k in range(self.labels_.max() + 1)]
        self.cluster_centers_ = np.stack(
            [rows.mean(axis=0, dtype=np.float64).astype(np.float32) for rows in members]
        )
        self.inertia_ = float(clusters.inertia[0])
        self.n_iter_ = max(1, int(clusters.n_iter[0]))
        self._n_features_out = len(members)
        if len(members) < self.n_clusters:
            warnings.warn(
                f"{len(members)} distinct clusters are fewer than n_clusters = {self.n_clusters}: "
                "X may have too few distinct rows",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Return the nearest centre of each row of `X`, int32 (M,)."""
        distances = self.transform(X)  # (M, K)
        labels: npt.NDArray[np.int32] = distances.argmin(axis=1).astype(np.int32)
        return labels

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the distance of each row of `X` to each centre, (M, K)."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float32, order="C", reset=False).astype(np.float64)
        centres = self.cluster_centers_.astype(np.float64)
        return np.stack([np.linalg.norm(x - centre, axis=1) for centre in centres], axis=1)


class TSNE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """t-SNE into the plane, as scikit-learn's `sklearn.manifold.TSNE` but faster.

    It minimises the same divergence on the same schedule, with an exact gradient. Only which points
    are near each other carries meaning: sizes of clusters and distances between them do not. There
    is no `transform`: an embedding is of its own points alone. Above 10,000 points, scikit-learn
    takes over, unless `neighbors` is "all".

    Parameters
    ----------
    perplexity : float
        Effective number of neighbours; less than the number of points.
    neighbors : {"auto", "all"}
        Neighbours of each point whose affinities are kept: 3 `perplexity` + 1 of them, as with
        scikit-learn's default ``method="barnes_hut"``, or all, as with ``method="exact"``.
    max_iter : int
        Iterations at most; at least 250.
    pca : int
        Principal components kept before; 0 keeps `X` as it is.
    random_state : int, numpy.random.RandomState or None
        None draws a fresh seed from the operating system; the global generator is not used.

    Attributes
    ----------
    embedding_ : float32 (N, 2)
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> import tasklens as tl
    >>> X = np.random.default_rng(0).normal(size=(60, 8))
    >>> tl.TSNE(perplexity=10, random_state=0).fit_transform(X).shape
    (60, 2)
    """

    def __init__(
        self,
        *,
        perplexity: float = 30.0,
        neighbors: tsne.Neighbors = "auto",
        max_iter: int = 1000,
        pca: int = 0,
        random_state: Any = None,
    ) -> None:
        self.perplexity = perplexity
        self.neighbors = neighbors
        self.max_iter = max_iter
        self.pca = pca
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Embed the rows of `X`, (N, D); see `fit_transform`."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X: npt.ArrayLike, y: Any = None) -> Floats:
        """Embed the rows of `X`, (N, D), in the plane: float32 (N, 2).

        ValueError if `X` is not a finite matrix; InputError for a parameter out of range.
        """
        x = validate_data(self, X, dtype=np.float32, order="C", ensure_min_samples=2)
        if not 1 <= self.perplexity < len(x):
            raise InputError(
                f"perplexity = {self.perplexity!r}: should be at least 1 and less than n_samples = "
                f"{len(x)}"
            )
        if self.neighbors not in get_args(tsne.Neighbors):
            raise InputError(f"neighbors = {self.neighbors!r}: should be 'auto' or 'all'")
        _check_whole("max_iter", self.max_iter, 250)
        _check_whole("pca", self.pca, 0)
        self.embedding_ = tsne.tsne(
            x,
            perplexity=self.perplexity,
            neighbors=self.neighbors,
            max_iter=self.max_iter,
            pca=self.pca,
            seed=_seed(self.random_state),
        )
        self._n_features_out = 2
        return self.embedding_


def _check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise InputError if a parameter is no whole number between two bounds."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upper = "" if most is None else f" .. {most}"
        raise InputError(f"{name} = {value!r}: should be a whole number in {least}{upper or ' ..'}")


def _seed(random_state: Any) -> int:
    """Return a seed in 0 .. 2**63 - 1."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    _check_whole("random_state", random_state, 0, 2**63 - 1)
    return int(random_state)
