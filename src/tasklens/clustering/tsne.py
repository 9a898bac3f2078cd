"""Embed points in the plane by t-SNE with exact gradients, compiled.

Objective and schedule are those of scikit-learn's ``TSNE(init="pca", learning_rate="auto")``. Its
default, ``method="barnes_hut"``, keeps the affinities of near neighbours, ``method="exact"`` all.
The repulsion is over all pairs in either case. For very many points, and if nothing can be
compiled, scikit-learn embeds them.
"""

import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from tasklens.clustering import numba_compile
from tasklens.clustering import tsne_kernels as kernels
from tasklens.clustering.numba_compile import one_thread
from tasklens.clustering.sklearn_fallback import sklearn_tsne
from tasklens.clustering.tsne_affinities import Affinities, affinities

Floats = npt.NDArray[np.float32]
Neighbors: TypeAlias = Literal["auto", "all"]

#: Largest number of points whose repulsion is exact, unless all affinities are kept.
EXACT_LIMIT = 10_000
#: Iterations with early exaggeration, and its factor.
EXPLORATION, EXAGGERATION = 250, 12.0
#: Iterations between two checks of the progress.
CHECK = 50
#: Iterations without progress after which the descent ends.
PATIENCE = 300
#: The descent also ends once the gradient, times its gains, is not longer than this.
LEAST_NORM = 1e-7


def uses_numba(n: int, neighbors: Neighbors) -> bool:
    """Return whether our t-SNE embeds `n` points; otherwise scikit-learn embeds them.

    If all affinities are kept, scikit-learn has no faster method, and takes more memory than ours.
    """
    return not numba_compile.MISSING and (neighbors == "all" or n <= EXACT_LIMIT)


def fitting_perplexity(perplexity: float, n: int) -> float:
    """Return the perplexity, or a third of the number of other points if that is less.

    For this perplexity there are as many neighbours as t-SNE takes. It is at least 1, that of two
    points.
    """
    return max(min(perplexity, (n - 1) / 3), 1.0)


def n_neighbors(neighbors: Neighbors, perplexity: float, n: int) -> int:
    """Return how many neighbours of each of `n` points are kept: as many as scikit-learn keeps."""
    return n - 1 if neighbors == "all" else min(n - 1, int(3 * perplexity + 1))


def tsne(
    x: Floats,
    *,
    perplexity: float,
    neighbors: Neighbors,
    max_iter: int,
    pca: int,
    seed: int,
    exaggeration: float = 1.0,
) -> Floats:
    """Embed finite points (N, D) in the plane: (N, 2) (van der Maaten and Hinton, JMLR 9, 2008).

    Only the neighbours of a point have a meaning. Sizes and distances of the clusters have none,
    and other points cannot be added to the map. A machine gives the same bytes for the same
    arguments, with any number of threads. The lower 32 bits of the seed are used. `perplexity` is
    at least 1 and less than N, except that it is not used of one point; `max_iter` is at least 250.
    With `neighbors` "auto", affinities are kept of 3 `perplexity` + 1 neighbours of each point
    (van der Maaten, JMLR 15, 2014); with "all", of all. Only `pca` principal components are kept
    before; 0 keeps all. After the early phase, the attraction is multiplied by `exaggeration`;
    scikit-learn has no such factor. If all rows are equal, the embedding is zero.
    """
    # One thread: with several threads sums round differently, and the descent amplifies this.
    with one_thread():
        if (x == x[0]).all():
            # The PCA start would be divided by a deviation of 0.
            return np.zeros((len(x), 2), dtype=np.float32)
        x, n = prepared(x, pca), len(x)
        if not uses_numba(n, neighbors):
            method: Literal["exact", "barnes_hut"] = "exact" if neighbors == "all" else "barnes_hut"
            return sklearn_tsne(
                x, perplexity=perplexity, method=method, max_iter=max_iter, seed=seed
            )
        p = affinities(x, n_neighbors(neighbors, perplexity, n), float(perplexity))
        return descent(p, pca_start(x, seed), max_iter, exaggeration)


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


def descent(p: Affinities, start: Floats, max_iter: int, late: float = 1.0) -> Floats:
    """Return the embedding (N, 2) that is reached from `start`, (N, 2).

    `late` is the exaggeration after the early phase.
    """
    y = np.array(start.T, dtype=np.float32, order="C")  # (2, N): a copy
    update, gains = np.zeros_like(y), np.ones_like(y)
    rate = learning_rate(len(start))
    exploring, finished = True, False
    iteration, best, best_at = 0, math.inf, 0
    while not finished:
        exaggeration, momentum = (EXAGGERATION, 0.5) if exploring else (late, 0.8)
        steps = min(CHECK, max_iter - iteration)
        loss, norm = kernels.descend(*p, y, update, gains, steps, exaggeration, momentum, rate)
        iteration += steps
        if loss < best:
            best, best_at = loss, iteration
        over = norm <= LEAST_NORM or iteration - best_at > PATIENCE
        finished = iteration >= max_iter or (over and not exploring)
        if exploring and (over or iteration == EXPLORATION):  # the exaggeration ends
            exploring, best, best_at = False, math.inf, iteration
            update[:], gains[:] = 0, 1
    return np.ascontiguousarray(y.T)
