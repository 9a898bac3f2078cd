"""t-SNE to the plane: the exact one, compiled.

Objective and schedule are those of scikit-learn's ``TSNE(method="exact", init="pca",
learning_rate="auto")``. Its Barnes-Hut approximation takes over for very many points, and where
nothing can be compiled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from tasklens.clustering import numba_compile
from tasklens.clustering import tsne_kernels as kernels
from tasklens.clustering.numba_compile import one_thread
from tasklens.clustering.sklearn_fallback import tsne_barnes_hut

Floats = npt.NDArray[np.float32]
Callback = Callable[[int, Floats], object]

#: Most points that are embedded exactly. That is still the faster there; what ends it is memory,
#: 4 N^2 bytes for each cell at work.
EXACT_LIMIT = 10_000
#: Iterations with early exaggeration, and its factor.
EXPLORATION, EXAGGERATION = 250, 12.0
#: Iterations between two looks at the progress.
CHECK = 50
#: Iterations without progress after which the descent ends.
PATIENCE = 300
#: The descent also ends where the gradient, times its gains, is not longer than this.
LEAST_NORM = 1e-7


def uses_numba(n: int) -> bool:
    """Return whether our exact t-SNE embeds `n` points; otherwise scikit-learn embeds them."""
    return not numba_compile.MISSING and n <= EXACT_LIMIT


def tsne(
    x: Floats,
    *,
    perplexity: float,
    max_iter: int,
    pca: int,
    seed: int,
    callback: Callback | None = None,
) -> Floats:
    """Embed the rows of `x` in the plane.

    Only who is near whom carries meaning: sizes and distances of the clusters do not, and there
    is no map for further points. A machine gives the same bytes for the same arguments, however
    many threads it has.

    Parameters
    ----------
    x : (N, D) float32 array
        Finite points; equal rows are allowed.
    perplexity : float
        Less than N.
    max_iter : int
        At least 250.
    pca : int
        Principal components kept beforehand; 0 keeps `x` as it is.
    seed : int
        Not negative; the lower 32 bits count.
    callback : callable, optional
        Called with the number of iterations done and a copy of the embedding, (N, 2): at 0, after
        every 50, and at the end, which comes before `max_iter` where nothing more is to be gained.
        Where scikit-learn does the work it is called at the end only, with `max_iter`.

    Returns
    -------
    (N, 2) float32 array
        Zeros where all rows of `x` are equal, which leaves nothing to embed.

    References
    ----------
    van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    """
    # One thread: sums split over threads round differently, and the descent amplifies it.
    with one_thread():
        if (x == x[0]).all():
            # The PCA start would be divided by its deviation, 0.
            embedding = np.zeros((len(x), 2), dtype=np.float32)
            if callback is not None:
                callback(0, embedding.copy())
            return embedding
        x = prepared(x, pca)
        if not uses_numba(len(x)):
            embedding = tsne_barnes_hut(x, perplexity=perplexity, max_iter=max_iter, seed=seed)
            if callback is not None:
                callback(max_iter, embedding.copy())
            return embedding
        p = kernels.affinities(x, float(perplexity))  # (N, N)
        return descent(p, pca_start(x, seed), max_iter, callback)


def prepared(x: Floats, pca: int) -> Floats:
    """Return the points to embed, (N, at least 2): those of `x`, or their principal components."""
    # Copies in rows, here and below: sums over another layout would round differently.
    x = np.array(x, dtype=np.float32, order="C")
    if 0 < pca < min(x.shape):
        components = PCA(n_components=pca, svd_solver="full").fit_transform(x)
        x = np.ascontiguousarray(components)  # (N, pca)
    if x.shape[1] == 1:
        x = np.pad(x, ((0, 0), (0, 1)))  # (N, 2): the PCA start needs two columns
    return x


def pca_start(x: Floats, seed: int) -> Floats:
    """Return the first two principal components of `x`, (N, 2), the first with deviation 1e-4."""
    y = PCA(n_components=2, random_state=seed % 2**32).fit_transform(x)  # (N, 2)
    start: Floats = y / np.std(y[:, 0]) * 1e-4
    return start


def learning_rate(n: int) -> float:
    """Return that for `n` points, after Belkina et al., Nature Communications 10, 5415, 2019."""
    # A quarter of theirs: here the gradient has its factor of 4.
    return max(n / EXAGGERATION / 4, 50.0)


@dataclass
class Progress:
    """How far one descent is: with exaggeration, then without, then finished."""

    max_iter: int
    exploring: bool = True
    finished: bool = False
    best: float = math.inf
    best_at: int = 0

    @property
    def exaggeration(self) -> float:
        """Factor of the affinities."""
        return EXAGGERATION if self.exploring else 1.0

    @property
    def momentum(self) -> float:
        """What is kept of the last update."""
        return 0.5 if self.exploring else 0.8

    def look(self, iteration: int, loss: float, norm: float) -> bool:
        """Take note of the last iteration; say whether updates and gains start afresh."""
        if loss < self.best:
            self.best, self.best_at = loss, iteration
        over = norm <= LEAST_NORM or iteration - self.best_at > PATIENCE
        afresh = self.exploring and (over or iteration == EXPLORATION)
        if afresh:
            self.exploring, self.best, self.best_at = False, math.inf, iteration
        self.finished = iteration >= self.max_iter or (over and not afresh)
        return afresh


def descent(p: Floats, start: Floats, max_iter: int, callback: Callback | None = None) -> Floats:
    """Return the embedding, (N, 2), that gradient descent reaches from `start`, (N, 2).

    Parameters
    ----------
    p : (N, N) float32 array
        Joint probabilities.
    start : (N, 2) float32 array
    max_iter : int
    callback : callable, optional
        As that of `tsne`.

    Returns
    -------
    (N, 2) float32 array
    """
    y = np.array(start.T, dtype=np.float32, order="C")  # (2, N): a copy
    update, gains = np.zeros_like(y), np.ones_like(y)
    progress = Progress(max_iter)
    iteration = 0
    if callback is not None:
        callback(0, y.T.copy())
    while not progress.finished:
        steps = min(CHECK, max_iter - iteration)
        loss, norm = kernels.descend(
            p,
            y,
            update,
            gains,
            steps,
            progress.exaggeration,
            progress.momentum,
            learning_rate(len(p)),
        )
        iteration += steps
        if callback is not None:
            callback(iteration, y.T.copy())
        if progress.look(iteration, loss, norm):
            update[:], gains[:] = 0, 1
    return np.ascontiguousarray(y.T)
