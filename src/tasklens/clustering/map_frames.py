"""Map hidden states to the plane, one frame per checkpoint, so that frames are comparable.

There are three maps. Two are planes that are fitted at the last checkpoint, for all checkpoints:
of the first two principal components, and of the first two directions between the means of labels.
t-SNE starts at each checkpoint from the map of the checkpoint before.
"""

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from tasklens.clustering import numba_compile
from tasklens.clustering import tsne_kernels as kernels
from tasklens.clustering.numba_compile import one_thread
from tasklens.clustering.sklearn_fallback import sklearn_tsne
from tasklens.clustering.tsne import (
    fitting_perplexity,
    learning_rate,
    n_neighbors,
    prepared,
    tsne,
)
from tasklens.clustering.tsne_affinities import Affinities, affinities

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

#: Iterations of a frame that starts from another, with and without exaggeration; the factor.
LOOSENING, SETTLING, EXAGGERATION = 100, 100, 4.0
#: A frame starts from the former frame in this size, so that close points can pass each other.
SHRUNK = 0.1
#: A spring takes a point back by at most this part of its way in a step: it must not overshoot.
STIFFEST = 0.1
#: Fewest points that t-SNE maps; fewer are shown by their principal components.
FEWEST = 8
#: Means that differ by less than this part of the deviation of the rows differ by rounding.
NO_DIRECTION = 1e-6


def first_frame(x: Floats, *, perplexity: float, exaggeration: float, seed: int) -> Floats:
    """Return the map (N, 2) of finite states (N, D) at the first checkpoint.

    The attraction of neighbours is multiplied by `exaggeration` up to the end, which widens the
    gaps between groups (Boehm, Berens and Kobak, JMLR 23, 2022).

    Affinities are kept of as many neighbours as in `tsne` with `neighbors` "auto". The perplexity
    is at most a third of the points. All this holds for `next_frame`, too.
    """
    if len(x) < FEWEST:
        return project(x, common_basis(x))
    perplexity = fitting_perplexity(perplexity, len(x))
    return tsne(
        x,
        perplexity=perplexity,
        neighbors="auto",
        max_iter=1000,
        pca=0,
        seed=seed,
        exaggeration=exaggeration,
    )


def next_frame(
    x: Floats, before: Floats, *, perplexity: float, exaggeration: float, stay: float, seed: int
) -> Floats:
    """Return the map (N, 2) of the same instances at another checkpoint, near the former map.

    The descent starts from the former map, in a small size. It minimises the divergence of t-SNE
    plus a penalty. The penalty is ``stay / 2`` times the mean squared distance that points have
    moved, divided by their former mean squared distance from the middle. It is that of Rauber,
    Falcao and Telea, "Visualizing time-dependent data using dynamic t-SNE", EuroVis 2016, for maps
    of any size. Remaining rotations and reflections of the map are undone. Distances, sizes, and
    the way of a point between two frames have no meaning, as in any t-SNE.

    With `stay` = 0, in nats, points only start at their former coordinates. If nothing can be
    compiled, scikit-learn maps without penalty and exaggeration. If all rows of (N, D) are equal,
    the map is `before`.
    """
    if (x == x[0]).all():
        return before
    if len(x) < FEWEST:
        return laid_on(project(x, common_basis(x)), before)
    if not before.any():  # all were equal until now
        return first_frame(x, perplexity=perplexity, exaggeration=exaggeration, seed=seed)
    with one_thread():
        x, perplexity = prepared(x, 0), fitting_perplexity(perplexity, len(x))
        start = SHRUNK * (before - before.mean(axis=0))
        if numba_compile.MISSING:
            y = sklearn_tsne(
                x, perplexity=perplexity, method="barnes_hut", max_iter=250, seed=seed, start=start
            )
        else:
            neighbors = n_neighbors("auto", perplexity, len(x))
            y = _descent(affinities(x, neighbors, perplexity), start, exaggeration, stay)
    return laid_on(y, before)


def _descent(p: Affinities, start: Floats, late: float, stay: float) -> Floats:
    """Return the map (N, 2) that is reached from a start, see `next_frame`."""
    y = np.array(start.T, dtype=np.float32, order="C")  # (2, N): a copy
    held = y / np.float32(SHRUNK)
    attraction, repulsion = np.empty_like(y), np.empty_like(y)
    pace = np.float32(learning_rate(len(start)))
    size = float(np.square(held, dtype=np.float64).sum())
    spring = np.float32(min(stay / size, STIFFEST / float(pace)))
    phases = ((LOOSENING, EXAGGERATION, 0.5), (SETTLING, late, 0.8))
    for iterations, exaggeration, momentum in phases:
        update, gains = np.zeros_like(y), np.ones_like(y)
        for _ in range(iterations):
            push = np.float32(1 / kernels.forces(*p, y, attraction, repulsion))
            gradient = 4 * (np.float32(exaggeration) * attraction - push * repulsion)
            gradient += spring * (y - held)
            against = update * gradient < 0
            gains = np.where(against, gains + np.float32(0.2), gains * np.float32(0.8))
            np.maximum(gains, np.float32(0.01), out=gains)
            update = np.float32(momentum) * update - pace * gains * gradient
            y += update
    return np.ascontiguousarray(y.T)


def laid_on(y: Floats, before: Floats) -> Floats:
    """Return `y`, rotated, reflected and moved to be as near to `before` as possible."""
    middle = before.mean(axis=0)
    y = y - y.mean(axis=0)
    with one_thread():
        turn, _ = orthogonal_procrustes(y.astype(np.float64), (before - middle).astype(np.float64))
        moved: Floats = (y @ turn + middle).astype(np.float32)
    return moved


def common_basis(x: Floats) -> Floats:
    """Return the first two principal components of (N, D) as (2, D); zeros if there are fewer.

    The largest entry of each is positive, so that rounding cannot reflect the map.
    """
    return _in_plane(_components(x, 0.0))


def centroid_basis(x: Floats, labels: Ints) -> Floats:
    """Return the first two principal components of the means of labels, (N,), as (2, D).

    Each label counts once, however many rows of (N, D) it has. If the means differ in fewer than
    two directions, those of the largest remaining variance of all rows follow.
    """
    means = means_of(x, labels)
    least = NO_DIRECTION**2 * float(np.var(x, axis=0, dtype=np.float64).sum())
    basis = _components(means, least)
    if len(basis) < 2:
        rest: Floats = (x - (x @ basis.T) @ basis).astype(np.float32)
        basis = np.concatenate([basis, _components(rest, least)])
    return _in_plane(basis)


def means_of(x: Floats, labels: Ints) -> Floats:
    """Return the mean row of each distinct label, ascending, (K, D)."""
    means = [x[labels == label].mean(axis=0, dtype=np.float64) for label in np.unique(labels)]
    return np.stack(means).astype(np.float32)


def _components(x: Floats, least: float) -> Floats:
    """Return the first principal components of (N, D) with more than the least variance, (0..2, D).

    The variance is that of N degrees of freedom.
    """
    if not (x != x[0]).any():
        return np.empty((0, x.shape[1]), dtype=np.float32)
    with one_thread():
        pca = PCA(n_components=min(2, *x.shape), random_state=0).fit(x)
    components = pca.components_[pca.explained_variance_ * (len(x) - 1) / len(x) > least]
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], axis=1)
    signed: Floats = (components * np.sign(largest)).astype(np.float32)
    return signed


def _in_plane(basis: Floats) -> Floats:
    """Return two rows of (0..4, D): the first two, or zeros if there are fewer."""
    plane = np.zeros((2, basis.shape[1]), dtype=np.float32)
    plane[: len(basis)] = basis[:2]
    return plane


def project(x: Floats, basis: Floats, onto: Floats | None = None) -> Floats:
    """Return the rows of (N, D) in a basis (2, D), on the map of rows (M, D), or of (N, D): (N, 2).

    The middle of a map is the mean of its rows.
    """
    middle = (x if onto is None else onto).mean(axis=0, dtype=np.float64)
    with one_thread():
        centred: Floats = (x - middle).astype(np.float32)
        return centred @ basis.T


def shown_variance(x: Floats, basis: Floats) -> float:
    """Return the share of the variance of (N, D) in two directions (2, D)."""
    total = float(np.var(x, axis=0, dtype=np.float64).sum())
    seen = float(np.var(project(x, basis), axis=0, dtype=np.float64).sum())
    return seen / total if total else 0.0


def shown_between(x: Floats, labels: Ints, basis: Floats) -> float:
    """Return the share of the variance between the means of labels, (N,), in two directions (2, D).

    Each row of (N, D) counts as the mean of its label. The share is 0 if all means are equal.
    """
    means = means_of(x, labels)
    return shown_variance(means[np.unique(labels, return_inverse=True)[1]], basis)
