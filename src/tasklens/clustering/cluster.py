"""Cluster the hidden states of cells; define the cells, the settings and the result.

Only this folder calls a clustering library.
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
from tasklens.clustering.tsne import Neighbors
from tasklens.core.errors import InputError
from tasklens.core.seeds import derived_seed
from tasklens.core.settings import SettingsBase

SPACES = ("raw", "tsne")
#: Labels are int16.
MOST_CLUSTERS = int(np.iinfo(np.int16).max)


class PerplexityWarning(UserWarning):
    """Warning that a perplexity was lowered, because there are too few points."""


class ClusterSettings(SettingsBase, affects="measure"):
    """Settings of KMeans and t-SNE.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.ClusterSettings(n_init=20).changed(tsne="all").n_init
    20
    """

    n_init: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Number of starts of each KMeans, by k-means++; the start with the lowest inertia is kept."""
    cluster_seeds: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Number of KMeans runs with different seeds. Reported are the range of their scores, and the
    range of the ARI over all starts whose inertia is within 1 % of the least."""
    max_iter: Annotated[int, Field(ge=1, lt=2**31)] = 300
    """Largest number of iterations of one start."""
    tol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    """A start ends once its centres move less than this, relative to the variance."""
    tsne: Literal["none", "last", "all"] = "last"
    """Checkpoints at which the hidden states are also clustered after t-SNE."""
    perplexity: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 50.0
    """Effective number of neighbours in t-SNE. Of N instances it is at most (N - 1) / 3; a higher
    one is lowered to this with a warning. The scores have the one that was used."""
    neighbors: Neighbors = "auto"
    """Neighbours of each instance whose affinities t-SNE keeps: auto, 3 perplexity + 1 of them, as
    in scikit-learn's default; all, as in its method "exact"."""
    tsne_max_iter: Annotated[int, Field(ge=250, lt=2**31)] = 1000
    """Iterations of t-SNE, the first 250 of them with early exaggeration."""
    pca: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Number of principal components that are kept before t-SNE; 0 keeps all dimensions."""


@dataclass(frozen=True)
class Cell:
    """The input of one clustering: a hidden state at one checkpoint on one split."""

    seed: int
    """Root seed of the run, from which the clustering's own seeds are derived."""
    step: int
    """Training step of the checkpoint."""
    split: str
    """Name of the split."""
    state: str
    """Name of the hidden state (wte, embed, block1, ..., ln_f), or of a control."""
    space: str
    """The input of KMeans: "raw", the hidden states, or "tsne", their embedding in the plane."""
    k: int
    """Number of clusters."""
    x: npt.NDArray[np.float32]
    """The hidden states, (N, D)."""
    position: str = "input"
    """Name of the measured position. The clustering's seeds do not derive from it: equal hidden
    states at two positions get equal labels."""

    paired: bool = False
    """True if the seeds do not derive from the step, either. Stages of one model then differ by
    their states only, not by their starts."""

    @property
    def key(self) -> tuple[int, str, str, str]:
        """The names from which, together with the root seed, the clustering's seeds derive."""
        return (0 if self.paired else self.step, self.split, self.state, self.space)

    @property
    def name(self) -> str:
        """Name of the cell in error messages."""
        split = f"{self.split}, " if self.split else ""
        return f"step {self.step}, {split}{self.state} ({self.space})"


@dataclass(frozen=True, repr=False)
class Clustering:
    """Labels, inertia and embedding of one cell."""

    labels: npt.NDArray[np.int16]
    """Cluster of each instance for each cluster seed, (S, N)."""
    inertia: npt.NDArray[np.float64]
    """Sum of squared distances to the nearest centre for each cluster seed, (S,)."""
    embedding: npt.NDArray[np.float32] | None
    """The t-SNE embedding, (N, 2); None in the space "raw"."""
    near_best: npt.NDArray[np.int16]
    """The distinct partitions of the near-best starts, (P, N). A start of any cluster seed is
    near-best if its inertia exceeds the least of all starts by at most 1 %."""
    near_best_starts: int
    """The number of near-best starts."""
    perplexity: float | None = None
    """The perplexity of the t-SNE embedding; None in the space "raw"."""

    def __repr__(self) -> str:
        (seeds, n), clusters = self.labels.shape, len(np.unique(self.labels))
        return f"Clustering({n:,} instances, {clusters} clusters, {seeds} cluster seeds)"


def cluster(cells: Sequence[Cell], settings: ClusterSettings | None = None) -> list[Clustering]:
    """Cluster each cell with several seeds, after t-SNE if its space is "tsne".

    Every seed is derived from the cell's seed and names. Therefore a result depends neither on the
    other cells nor on the number of threads or processes.

    Parameters
    ----------
    cells : sequence of Cell
        `x` is (N, D) and finite; it is converted to float32.
    settings : ClusterSettings, optional
        Starts, seeds, perplexity and so on.

    Returns
    -------
    list of Clustering
        In the order of the cells. A cell with fewer distinct points than `k` has as many
        clusters as it has distinct points. A perplexity above (N - 1) / 3 is lowered to it, but
        not below 1, with a `PerplexityWarning`.

    Raises
    ------
    InputError
        If hidden states are not finite or not (N, D), the space is unknown, or k is not in
        1 .. 32767.
    """
    settings = settings or ClusterSettings()
    for cell in cells:
        _check(cell)
    for reason in sorted({_fallback_reason(cell, settings) for cell in cells} - {""}):
        warnings.warn(f"clustering by scikit-learn, several times slower: {reason}", stacklevel=2)
    embedded = {(cell.split, len(cell.x)): None for cell in cells if cell.space == "tsne"}
    for split, n in embedded:
        if note := lowered_note(split, n, settings):
            warnings.warn(note, PerplexityWarning, stacklevel=2)
    # One thread: with several threads sums round differently, which may change a label.
    with one_thread():
        return [_cluster_one(cell, settings) for cell in cells]


def lowered_note(split: str, n: int, settings: ClusterSettings) -> str:
    """Return a line if the perplexity is too high for a split of `n` instances, otherwise ""."""
    used = tsne.fitting_perplexity(settings.perplexity, n)
    if used == settings.perplexity:
        return ""
    name = f"split {split} has" if split else "there are"
    return (
        f"{name} {n:,} instances, too few for t-SNE with clusters.perplexity = "
        f"{settings.perplexity:g}, which is lowered to {used:.4g}"
    )


def _fallback_reason(cell: Cell, settings: ClusterSettings) -> str:
    """Return the reason why scikit-learn clusters a cell; empty if our kernels do."""
    n = len(cell.x)
    embeds = cell.space == "tsne"
    by_us = tsne.uses_numba(n, settings.neighbors) if embeds else kmeans.uses_numba(n)
    return "" if by_us else MISSING or f"{n:,} points are too many"


def _cluster_one(cell: Cell, settings: ClusterSettings) -> Clustering:
    """Cluster a cell that was checked."""
    points = np.ascontiguousarray(cell.x, dtype=np.float32)  # (N, D)
    embedding = perplexity = None
    if cell.space == "tsne":
        perplexity = tsne.fitting_perplexity(settings.perplexity, len(points))
        points = embedding = tsne.tsne(
            points,
            perplexity=perplexity,
            neighbors=settings.neighbors,
            max_iter=settings.tsne_max_iter,
            pca=settings.pca,
            seed=derived_seed(cell.seed, "tsne", *cell.key),
        )  # (N, 2)
    seeds = range(settings.cluster_seeds)
    clusters = kmeans.kmeans(
        points,
        cell.k,
        seeds=[derived_seed(cell.seed, "kmeans", *cell.key, s) for s in seeds],
        n_init=settings.n_init,
        max_iter=settings.max_iter,
        tol=settings.tol,
    )
    return Clustering(
        clusters.labels,
        clusters.inertia,
        embedding,
        clusters.near_best,
        clusters.near_best_starts,
        perplexity,
    )


def _check(cell: Cell) -> None:
    """Raise InputError if a cell cannot be clustered."""
    if cell.space not in SPACES:
        raise InputError(f"{cell.name}: space = {cell.space!r}: should be one of {SPACES}")
    if cell.x.ndim != 2 or 0 in cell.x.shape:
        raise InputError(f"{cell.name}: hidden states of shape {cell.x.shape}: should be (N, D)")
    if not 1 <= cell.k <= MOST_CLUSTERS:
        raise InputError(f"{cell.name}: k = {cell.k}: should be in 1 .. 32767")
    finite = np.isfinite(np.asarray(cell.x, dtype=np.float32)).all(axis=1)  # (N,)
    if not finite.all():
        raise InputError(
            f"{cell.name}: the hidden states of {np.count_nonzero(~finite)} of {finite.size} "
            f"instances are not finite, the first of them instance {np.argmin(finite)}"
        )
