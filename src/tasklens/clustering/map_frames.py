"""Map hidden states to the plane, one frame per checkpoint, so that frames are comparable.

There are two views. The principal components of the last checkpoint are one basis for all
checkpoints. t-SNE starts at every checkpoint from its map at the one before.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from tasklens.clustering import numba_compile
from tasklens.clustering import tsne_kernels as kernels
from tasklens.clustering.numba_compile import one_thread
from tasklens.clustering.sklearn_fallback import tsne_barnes_hut
from tasklens.clustering.tsne import learning_rate, prepared, tsne

Floats = npt.NDArray[np.float32]

#: Iterations of a frame that starts from another, with exaggeration and without; its factor.
LOOSENING, SETTLING, EXAGGERATION = 100, 100, 4.0
#: A frame starts from the one before at this size, so that close points can pass each other.
SHRUNK = 0.1
#: A spring takes a point back by at most this part of its way in a step, so as not to overshoot.
STIFFEST = 0.1
#: Fewest points that t-SNE maps; fewer are shown by their principal components.
FEWEST = 8


def first_frame(x: Floats, *, perplexity: float, seed: int) -> Floats:
    """Return the map (N, 2) of finite states (N, D) at the first checkpoint.

    The perplexity is lowered to a third of the points, here and in `next_frame`.
    """
    if len(x) < FEWEST:
        return project(x, common_basis(x))
    return tsne(x, perplexity=_lowered(perplexity, x), max_iter=1000, pca=0, seed=seed)


def next_frame(x: Floats, before: Floats, *, perplexity: float, stay: float, seed: int) -> Floats:
    """Return the map (N, 2) of the same instances at another checkpoint, near where they were.

    The descent starts from the map before, made small, and minimises t-SNE's divergence plus
    ``stay / 2`` times the mean squared distance that points have moved, over their mean squared
    distance from the middle before: the penalty of Rauber, Falcao and Telea, "Visualizing
    time-dependent data using dynamic t-SNE", EuroVis 2016, for maps of any size. What is left
    of a turn or a mirroring of the whole is taken back. Neither distances nor sizes carry meaning,
    as in any t-SNE; nor does the way that a point takes between two frames.

    At `stay` = 0, in nats, points only start where they were. If nothing can be compiled,
    scikit-learn maps without the penalty. If all rows of (N, D) are equal, the map is `before`.
    """
    if (x == x[0]).all():
        return before
    if len(x) < FEWEST:
        return laid_on(project(x, common_basis(x)), before)
    if not before.any():  # all were equal until now
        return first_frame(x, perplexity=perplexity, seed=seed)
    with one_thread():
        x, perplexity = prepared(x, 0), _lowered(perplexity, x)
        start = SHRUNK * (before - before.mean(axis=0))
        if numba_compile.MISSING:
            y = tsne_barnes_hut(x, perplexity=perplexity, max_iter=250, seed=seed, start=start)
        else:
            y = _descent(kernels.affinities(x, perplexity), start, stay)
    return laid_on(y, before)


def _descent(p: Floats, start: Floats, stay: float) -> Floats:
    y = np.array(start.T, dtype=np.float32, order="C")  # (2, N): a copy
    held = y / np.float32(SHRUNK)
    attraction, repulsion = np.empty_like(y), np.empty_like(y)
    pace = np.float32(learning_rate(len(p)))
    size = float(np.square(held, dtype=np.float64).sum())
    spring = np.float32(min(stay / size, STIFFEST / float(pace)))
    phases = ((LOOSENING, EXAGGERATION, 0.5), (SETTLING, 1.0, 0.8))
    for iterations, exaggeration, momentum in phases:
        update, gains = np.zeros_like(y), np.ones_like(y)
        for _ in range(iterations):
            push = np.float32(1 / kernels.forces(p, y, attraction, repulsion))
            gradient = 4 * (np.float32(exaggeration) * attraction - push * repulsion)
            gradient += spring * (y - held)
            against = update * gradient < 0
            gains = np.where(against, gains + np.float32(0.2), gains * np.float32(0.8))
            np.maximum(gains, np.float32(0.01), out=gains)
            update = np.float32(momentum) * update - pace * gains * gradient
            y += update
    return np.ascontiguousarray(y.T)


def laid_on(y: Floats, before: Floats) -> Floats:
    """Return `y`, turned, mirrored and moved to lie on `before` as well as it can."""
    middle = before.mean(axis=0)
    y = y - y.mean(axis=0)
    turn, _ = orthogonal_procrustes(y.astype(np.float64), (before - middle).astype(np.float64))
    placed: Floats = (y @ turn + middle).astype(np.float32)
    return placed


def _lowered(perplexity: float, x: Floats) -> float:
    return min(perplexity, (len(x) - 1) / 3)


def common_basis(x: Floats) -> Floats:
    """Return the first two principal components of (N, D) as (2, D); zeros if there are fewer.

    The largest entry of each is positive, so that no rounding mirrors the view.
    """
    basis = np.zeros((2, x.shape[1]), dtype=np.float32)
    n = min(2, *x.shape)
    if (x != x[0]).any():
        with one_thread():
            components = PCA(n_components=n, random_state=0).fit(x).components_
        largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], axis=1)
        basis[:n] = components * np.sign(largest)
    return basis


def project(x: Floats, basis: Floats) -> Floats:
    """Return the rows of (N, D), less their mean, in a basis (2, D): (N, 2)."""
    with one_thread():
        centred: Floats = (x - x.mean(axis=0, dtype=np.float64)).astype(np.float32)
        return centred @ basis.T


def shown_variance(x: Floats, basis: Floats) -> float:
    """Return the share of the variance of (N, D) that two of its directions (2, D) show."""
    whole = float(np.var(x, axis=0, dtype=np.float64).sum())
    seen = float(np.var(project(x, basis), axis=0, dtype=np.float64).sum())
    return seen / whole if whole else 0.0


class FrameJob(NamedTuple):
    """The inputs of one frame."""

    place: tuple[str, str]
    """Split and state."""
    x: Floats
    basis: Floats
    before: Floats | None
    """The frame it starts from; None for the first."""
    perplexity: float
    stay: float
    seed: int


Frame: TypeAlias = tuple[tuple[str, str], Floats, Floats, float]
"""Split and state, where the points are by t-SNE and by PCA, and the variance that PCA shows."""


def frame(job: FrameJob) -> Frame:
    """Return the frame of a job."""
    if job.before is None:
        y = first_frame(job.x, perplexity=job.perplexity, seed=job.seed)
    else:
        y = next_frame(job.x, job.before, perplexity=job.perplexity, stay=job.stay, seed=job.seed)
    return job.place, y, project(job.x, job.basis), shown_variance(job.x, job.basis)
