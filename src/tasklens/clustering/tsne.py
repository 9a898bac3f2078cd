"""Embed points in the plane by exact t-SNE, compiled.

Objective and schedule are those of scikit-learn's ``TSNE(method="exact", init="pca",
learning_rate="auto")``. For very many points, and if nothing can be compiled, the Barnes-Hut
approximation of scikit-learn is used.
"""

import math

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from tasklens.clustering import numba_compile
from tasklens.clustering import tsne_kernels as kernels
from tasklens.clustering.numba_compile import one_thread
from tasklens.clustering.sklearn_fallback import tsne_barnes_hut

Floats = npt.NDArray[np.float32]

#: Largest number of points for exact t-SNE, which is still faster for so many. The limit is the
#: memory: 4 N^2 bytes per cell.
EXACT_LIMIT = 10_000
#: Iterations with early exaggeration, and its factor.
EXPLORATION, EXAGGERATION = 250, 12.0
#: Iterations between two checks of the progress.
CHECK = 50
#: Iterations without progress after which the descent ends.
PATIENCE = 300
#: The descent also ends once the gradient, times its gains, is not longer than this.
LEAST_NORM = 1e-7


def uses_numba(n: int) -> bool:
    """Return whether our exact t-SNE embeds `n` points; otherwise scikit-learn embeds them."""
    return not numba_compile.MISSING and n <= EXACT_LIMIT


def tsne(x: Floats, *, perplexity: float, max_iter: int, pca: int, seed: int) -> Floats:
    """Embed finite points (N, D) in the plane: (N, 2) (van der Maaten and Hinton, JMLR 9, 2008).

    Only the neighbours of a point have a meaning. Sizes and distances of the clusters have none,
    and other points cannot be added to the map. A machine gives the same bytes for the same
    arguments, with any number of threads. The lower 32 bits of the seed are used. `perplexity` is
    less than N, `max_iter` at least 250. Only `pca` principal components are kept before; 0 keeps
    all. If all rows are equal, the embedding is zero.
    """
    # One thread: with several threads sums round differently, and the descent amplifies this.
    with one_thread():
        if (x == x[0]).all():
            # The PCA start would be divided by a deviation of 0.
            return np.zeros((len(x), 2), dtype=np.float32)
        x = prepared(x, pca)
        if not uses_numba(len(x)):
            return tsne_barnes_hut(x, perplexity=perplexity, max_iter=max_iter, seed=seed)
        p = kernels.affinities(x, float(perplexity))  # (N, N)
        return descent(p, pca_start(x, seed), max_iter)


def prepared(x: Floats, pca: int) -> Floats:
    """Return the points to embed, (N, at least 2): those of `x`, or their principal components."""
    # Copies in rows, also below: sums over another layout would round differently.
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
    """Return the rate for `n` points, after Belkina et al., Nature Communications 10, 2019."""
    # A quarter of theirs, because the gradient keeps its factor of 4.
    return max(n / EXAGGERATION / 4, 50.0)


def descent(p: Floats, start: Floats, max_iter: int) -> Floats:
    """Return the embedding (N, 2) of joint probabilities (N, N) that is reached from `start`."""
    y = np.array(start.T, dtype=np.float32, order="C")  # (2, N): a copy
    update, gains = np.zeros_like(y), np.ones_like(y)
    rate = learning_rate(len(p))
    exploring, finished = True, False
    iteration, best, best_at = 0, math.inf, 0
    while not finished:
        exaggeration, momentum = (EXAGGERATION, 0.5) if exploring else (1.0, 0.8)
        steps = min(CHECK, max_iter - iteration)
        loss, norm = kernels.descend(p, y, update, gains, steps, exaggeration, momentum, rate)
        iteration += steps
        if loss < best:
            best, best_at = loss, iteration
        over = norm <= LEAST_NORM or iteration - best_at > PATIENCE
        finished = iteration >= max_iter or (over and not exploring)
        if exploring and (over or iteration == EXPLORATION):  # the exaggeration ends
            exploring, best, best_at = False, math.inf, iteration
            update[:], gains[:] = 0, 1
    return np.ascontiguousarray(y.T)
