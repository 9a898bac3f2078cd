"""Cluster the hidden states of cells: the cells, the settings and the result.

Nothing else in the package calls a clustering library.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tasklens.clustering import kmeans, tsne
from tasklens.clustering.numba_compile import MISSING, one_thread
from tasklens.core.errors import InputError
from tasklens.core.seeds import derived_seed
from tasklens.core.settings import SettingsBase

SPACES = ("raw", "tsne")
#: Labels are int16.
MOST_CLUSTERS = int(np.iinfo(np.int16).max)


class ClusterSettings(SettingsBase, affects="measure"):
    """How states are clustered.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.ClusterSettings(n_init=20).changed(tsne="all").n_init
    20
    """

    n_init: Annotated[int, Field(ge=1)] = 10
    """Starts of each KMeans, all by k-means++; the one with the lowest inertia is kept."""
    cluster_seeds: Annotated[int, Field(ge=1)] = 3
    """How many times KMeans is run, each with a seed of its own; their spread is reported."""
    max_iter: Annotated[int, Field(ge=1)] = 300
    """Iterations of one start at most."""
    tol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    """A start ends when its centres move less than this, relative to the states' variance."""
    tsne: Literal["none", "last", "all"] = "last"
    """At which checkpoints the states are also clustered after t-SNE."""
    perplexity: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 50.0
    """Effective number of neighbours in t-SNE; less than the number of instances."""
    tsne_max_iter: Annotated[int, Field(ge=250)] = 1000
    """Iterations of t-SNE, the first 250 of them with early exaggeration."""
    pca: Annotated[int, Field(ge=0)] = 0
    """Principal components kept before t-SNE; 0 hands it the states as they are."""


@dataclass(frozen=True)
class Cell:
    """One thing to cluster: the states of one name, at one checkpoint, on one split."""

    seed: int
    """Root seed of the run, from which the clustering's own seeds are derived."""
    step: int
    """Training step of the checkpoint."""
    split: str
    """Name of the split."""
    state: str
    """Name of the state: wte, embed, block1, ..., ln_f, or that of a control."""
    space: str
    """What KMeans clusters: "raw", the states, or "tsne", their embedding in the plane."""
    k: int
    """Number of clusters asked for."""
    x: npt.NDArray[np.float32]
    """The hidden states, (N, D)."""
    position: str = "input"
    """Name of the position whose hidden states they are. It is not part of what the clustering's
    seeds derive from: equal states at two positions get equal labels."""

    @property
    def place(self) -> tuple[int, str, str, str]:
        """Names, together with the root seed, from which the clustering's seeds derive."""
        return (self.step, self.split, self.state, self.space)

    @property
    def name(self) -> str:
        """What error messages call the cell."""
        split = f"{self.split}, " if self.split else ""
        return f"step {self.step}, {split}{self.state} ({self.space})"


@dataclass(frozen=True)
class Clustering:
    """Labels, inertia and embedding of one cell."""

    labels: npt.NDArray[np.int16]
    """Cluster of each instance for each cluster seed, (S, N)."""
    inertia: npt.NDArray[np.float64]
    """Sum of squared distances to the nearest centre for each cluster seed, (S,)."""
    embedding: npt.NDArray[np.float32] | None
    """The t-SNE embedding, (N, 2); None in the space "raw"."""


def cluster(cells: Sequence[Cell], settings: ClusterSettings | None = None) -> list[Clustering]:
    """Cluster each cell with several seeds, after t-SNE if its space is "tsne".

    Every seed is derived from the cell's own seed and name, so a result depends neither on the
    other cells of the batch nor on how many threads or processes share the work.

    Parameters
    ----------
    cells : sequence of Cell
        `x` is (N, D) and finite; it is taken as float32.
    settings : ClusterSettings, optional
        Starts, seeds, perplexity and so on.

    Returns
    -------
    list of Clustering
        In the order of the cells. A cell with fewer distinct points than `k` has as many
        clusters as it has distinct points.

    Raises
    ------
    InputError
        If states are not finite or not (N, D), the space is unknown, k is not in 1 .. 32767,
        or the perplexity is not below N.
    """
    settings = settings or ClusterSettings()
    for cell in cells:
        _check(cell, settings)
    for reason in sorted({_fallback_reason(cell) for cell in cells} - {""}):
        warnings.warn(f"clustering by scikit-learn, several times slower: {reason}", stacklevel=2)
    # One thread: sums split over threads round differently, and a label may follow.
    with one_thread():
        return [_cluster_one(cell, settings) for cell in cells]


def _fallback_reason(cell: Cell) -> str:
    """Return why scikit-learn clusters a cell; empty if our own kernels do."""
    n = len(cell.x)
    by_us = tsne.uses_numba(n) if cell.space == "tsne" else kmeans.uses_numba(n)
    return "" if by_us else MISSING or f"{n:,} points are too many"


def _cluster_one(cell: Cell, settings: ClusterSettings) -> Clustering:
    points = np.ascontiguousarray(cell.x, dtype=np.float32)  # (N, D)
    embedding = None
    if cell.space == "tsne":
        points = embedding = tsne.tsne(
            points,
            perplexity=settings.perplexity,
            max_iter=settings.tsne_max_iter,
            pca=settings.pca,
            seed=derived_seed(cell.seed, "tsne", *cell.place),
        )  # (N, 2)
    seeds = range(settings.cluster_seeds)
    clusters = kmeans.kmeans(
        points,
        cell.k,
        seeds=[derived_seed(cell.seed, "kmeans", *cell.place, s) for s in seeds],
        n_init=settings.n_init,
        max_iter=settings.max_iter,
        tol=settings.tol,
    )
    return Clustering(clusters.labels, clusters.inertia, embedding)


def _check(cell: Cell, settings: ClusterSettings) -> None:
    if cell.space not in SPACES:
        raise InputError(f"{cell.name}: space = {cell.space!r}: should be one of {SPACES}")
    if cell.x.ndim != 2 or 0 in cell.x.shape:
        raise InputError(f"{cell.name}: states of shape {cell.x.shape}: should be (N, D)")
    if not 1 <= cell.k <= MOST_CLUSTERS:
        raise InputError(f"{cell.name}: k = {cell.k}: should be in 1 .. 32767")
    finite = np.isfinite(np.asarray(cell.x, dtype=np.float32)).all(axis=1)  # (N,)
    if not finite.all():
        raise InputError(
            f"{cell.name}: the states of {np.count_nonzero(~finite)} of {finite.size} instances "
            f"are not finite, the first of them instance {np.argmin(finite)}"
        )
    n = len(cell.x)
    if cell.space == "tsne" and settings.perplexity >= n:
        raise InputError(
            f"{cell.name}: perplexity = {settings.perplexity:g}: should be less than the number "
            f"of instances, {n}, and is best below a third of it"
        )
