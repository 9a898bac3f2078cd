"""States to points of the plane that can be watched: one frame a checkpoint, comparable over time.

Two views. The principal components of the last checkpoint are one basis for all of them. t-SNE is
begun at every checkpoint where it ended at the one before.
"""

from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from tasklens.clustering import numba_compile
from tasklens.clustering import tsne_kernels as kernels
from tasklens.clustering.numba_compile import one_thread
from tasklens.clustering.sklearn_fallback import tsne_barnes_hut
from tasklens.clustering.tsne import EXACT_LIMIT, learning_rate, prepared, tsne
from tasklens.core.settings import SettingsBase

Floats = npt.NDArray[np.float32]

#: Iterations of a frame that starts from another, with exaggeration and without; its factor.
LOOSENING, SETTLING, EXAGGERATION = 100, 100, 4.0
#: A frame is begun at this size of the one before: points that are close pass by each other.
SHRUNK = 0.1
#: A spring takes a point back by at most this part of its way in a step, lest it overshoot.
STIFFEST = 0.1
#: Fewest points that have neighbours to speak of; fewer are shown by their components.
FEWEST = 8


class ReportSettings(SettingsBase, affects="report"):
    """What the report shows of the measured instances, and how they are placed."""

    points: Annotated[int, Field(ge=FEWEST, le=EXACT_LIMIT)] = 2000
    """Points of each split at most; where there are more instances, so many are drawn at random."""
    perplexity: Annotated[float, Field(ge=2, allow_inf_nan=False)] = 30.0
    """Effective number of neighbours in the map; a third of the points at most."""
    stay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """How strongly points are held where they were at the checkpoint before: nats, twice what it
    costs to move all of them by the map's radius. With 0 they only start there."""


def first_frame(x: Floats, settings: ReportSettings, seed: int) -> Floats:
    """Return the map of what is seen first, (N, 2).

    Parameters
    ----------
    x : (N, D) float32 array
        Finite.
    settings : ReportSettings
    seed : int
        Not negative.
    """
    if len(x) < FEWEST:
        return project(x, common_basis(x))
    return tsne(x, perplexity=_perplexity(x, settings), max_iter=1000, pca=0, seed=seed)


def next_frame(x: Floats, before: Floats, settings: ReportSettings, seed: int) -> Floats:
    """Return the map of the same instances at another checkpoint, near where they were.

    The descent begins at the map before, made small, and minimises t-SNE's divergence plus
    ``stay / 2`` times the mean squared distance that points have moved, over their mean squared
    distance from the middle before: the penalty of Rauber, Falcao and Telea, "Visualizing
    time-dependent data using dynamic t-SNE", EuroVis 2016, for maps of any size. What is left
    of a turn or a mirroring of the whole is taken back. Neither distances nor sizes carry meaning,
    as in any t-SNE; nor does the way that a point takes between two frames.

    Parameters
    ----------
    x : (N, D) float32 array
        Finite.
    before : (N, 2) float32 array
    settings : ReportSettings
    seed : int
        For scikit-learn, which does it without the penalty where nothing can be compiled.

    Returns
    -------
    (N, 2) float32 array
        `before`, where all rows of `x` are equal.
    """
    if (x == x[0]).all():
        return before
    if len(x) < FEWEST:
        return laid_on(project(x, common_basis(x)), before)
    if not before.any():  # all were equal until now
        return first_frame(x, settings, seed)
    with one_thread():
        x, perplexity = prepared(x, 0), _perplexity(x, settings)
        start = SHRUNK * (before - before.mean(axis=0))
        if numba_compile.MISSING:
            y = tsne_barnes_hut(x, perplexity=perplexity, max_iter=250, seed=seed, start=start)
        else:
            y = _descent(kernels.affinities(x, perplexity), start, settings.stay)
    return laid_on(y, before)


def _descent(p: Floats, start: Floats, stay: float) -> Floats:
    y = np.array(start.T, dtype=np.float32, order="C")  # (2, N): a copy
    held = y / np.float32(SHRUNK)
    attraction, repulsion = np.empty_like(y), np.empty_like(y)
    pace = np.float32(learning_rate(len(p)))
    size = float(np.square(held, dtype=np.float64).sum())
    spring = np.float32(min(stay / size, STIFFEST / float(pace)))
    for iterations, exaggeration, momentum in (
        (LOOSENING, EXAGGERATION, 0.5),
        (SETTLING, 1.0, 0.8),
    ):
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


def _perplexity(x: Floats, settings: ReportSettings) -> float:
    return min(settings.perplexity, (len(x) - 1) / 3)


def common_basis(x: Floats) -> Floats:
    """Return the first two principal components of (N, D) as (2, D); zeros where there are fewer.

    Each points to where its largest entry is positive, so that no rounding mirrors the view.
    """
    basis = np.zeros((2, x.shape[1]), dtype=np.float32)
    n = min(2, *x.shape)
    if (x != x[0]).any():
        with one_thread():
            found = PCA(n_components=n, random_state=0).fit(x).components_
        largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
        basis[:n] = found * np.sign(largest)
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


class Job(NamedTuple):
    """A frame to be made."""

    place: tuple[str, str]
    """Split and state."""
    x: Floats
    basis: Floats
    before: Floats | None
    """The frame it starts from; None where it is the first."""
    seed: int


Frame: TypeAlias = tuple[tuple[str, str], Floats, Floats, float]
"""Split and state, where the points are by t-SNE and by PCA, and the variance that PCA shows."""


def frame(job: Job, settings: ReportSettings) -> Frame:
    """Return the frame that a job asks for."""
    if job.before is None:
        y = first_frame(job.x, settings, job.seed)
    else:
        y = next_frame(job.x, job.before, settings, job.seed)
    return job.place, y, project(job.x, job.basis), shown_variance(job.x, job.basis)
