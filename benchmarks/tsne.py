"""Time t-SNE and the KMeans after it, over the cells of a run's last checkpoint, on all cores.

Ours is `tasklens.clustering.cluster` in one process per core. The reference is scikit-learn's
default t-SNE in one process per core (joblib), followed by scikit-learn's KMeans. Both minimise the
same divergence, from the affinities of as many neighbours. One function computes it for both, and
for scikit-learn with a small angle, which nearly makes its repulsion exact. openTSNE is also timed
if it is installed.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import cells
import numpy as np
from common import Report, Result, begin, installed, parser
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from kmeans import sklearn_kmeans, time_cells
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score

from tasklens.clustering.cluster import Cell, ClusterSettings
from tasklens.clustering.tsne import n_neighbors
from tasklens.core.workers import default_workers

TARGET = ">= 10"
#: Angles of scikit-learn: its default, and one with which its repulsion is nearly exact.
ANGLE, SMALL_ANGLE = 0.5, 0.1
Array = NDArray[np.float64]
#: For each cell: the embedding (N, 2) and the labels (N,) of the first cluster seed.
Maps = list[tuple[NDArray[Any], NDArray[Any]]]


def sklearn_cells(some: Sequence[Cell], settings: ClusterSettings, angle: float = ANGLE) -> Maps:
    """Embed and cluster the cells by scikit-learn, in one process a core."""
    pool = Parallel(n_jobs=default_workers())
    return list(pool(delayed(sklearn_cell)(cell.x, cell.k, settings, angle) for cell in some))


def sklearn_cell(
    x: NDArray[np.float32], k: int, settings: ClusterSettings, angle: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Embed and cluster one cell."""
    model = TSNE(
        perplexity=settings.perplexity,
        max_iter=settings.tsne_max_iter,
        init="pca",
        angle=angle,
        random_state=0,
        n_jobs=1,
    )
    embedding = model.fit_transform(x)
    return embedding, sklearn_kmeans(embedding, k, settings)[0][0]


def open_tsne_cells(library: Any, some: Sequence[Cell], settings: ClusterSettings) -> Maps:
    """Embed the cells by openTSNE on its own threads, and cluster them by scikit-learn."""
    maps = []
    for cell in some:
        model = library.TSNE(
            perplexity=settings.perplexity,
            n_iter=settings.tsne_max_iter - 250,  # after 250 with early exaggeration
            n_jobs=default_workers(),
            random_state=0,
        )
        embedding = np.asarray(model.fit(cell.x))
        maps.append((embedding, sklearn_kmeans(embedding, cell.k, settings)[0][0]))
    return maps


def affinities(x: NDArray[Any], perplexity: float, neighbors: int) -> Array:
    """Return the joint probabilities of the rows of x, (N, N), with widths by bisection.

    They are kept of the nearest neighbours of each row.
    """
    d = squareform(pdist(x.astype(np.float64), "sqeuclidean"))  # (N, N)
    np.fill_diagonal(d, np.inf)
    far = np.argsort(d, axis=1, kind="stable")[:, neighbors:]
    np.put_along_axis(d, far, np.inf, axis=1)
    d -= d.min(axis=1, keepdims=True)  # so that no row underflows
    low, high = np.zeros((len(x), 1)), np.full((len(x), 1), np.inf)
    beta = 1 / d.max(axis=1, keepdims=True, where=d < np.inf, initial=1e-12)
    for _ in range(60):
        p = np.exp(-d * beta)
        p /= p.sum(axis=1, keepdims=True)
        entropy = -np.sum(p * np.log(p.clip(1e-300)), axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        beta = np.where(np.isinf(high), 2 * beta, (low + high.clip(max=1e300)) / 2)
    joint: Array = (p + p.T) / p.sum() / 2
    return joint


def divergence(p: Array, y: NDArray[Any]) -> float:
    """Return KL(P || Q), in nats, of the embedding y of the points whose affinities are P."""
    q = 1 / (1 + squareform(pdist(y.astype(np.float64), "sqeuclidean")))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some].clip(1e-300))))


def quality(
    some: Sequence[Cell],
    tasks: Sequence[NDArray[Any]],
    sides: Mapping[str, Maps],
    settings: ClusterSettings,
) -> str:
    """Describe the embeddings and clusters of each side."""
    parts = [f"{len(some)} cells, KMeans included on both sides"]
    neighbors = [n_neighbors(settings.neighbors, settings.perplexity, len(cell.x)) for cell in some]
    ps = [
        affinities(cell.x, settings.perplexity, k) for cell, k in zip(some, neighbors, strict=True)
    ]
    for side, maps in sides.items():
        kl = [divergence(p, y) for p, (y, _) in zip(ps, maps, strict=True)]
        ari = [
            adjusted_rand_score(task, labels) for task, (_, labels) in zip(tasks, maps, strict=True)
        ]
        parts.append(f"{side}: KL {statistics.mean(kl):.4f}, ARI {statistics.mean(ari):.3f}")
    return "; ".join(parts)


def compare(
    some: Sequence[Cell],
    tasks: Sequence[NDArray[Any]],
    settings: ClusterSettings,
    rounds: int,
    report: Report,
) -> None:
    """Add the row against scikit-learn, then that against openTSNE if it is installed."""

    def add(
        against: str,
        way: Callable[[Sequence[Cell], ClusterSettings], Maps],
        target: str = "",
        **more: Maps,
    ) -> None:
        times = time_cells(some, settings, way, rounds)
        ours: Maps = [(np.asarray(each.embedding), each.labels[0]) for each in times.got]
        sides = {"ours": ours, "theirs": times.their_clusters, **more}
        report.add(
            Result(
                what=f"t-SNE cell, {len(some[0].x)} states of width {some[0].x.shape[1]}, "
                f"perplexity {settings.perplexity:g}",
                against=against,
                ours=times.ours / len(some),
                theirs=times.theirs / len(some),
                unit="s/cell",
                ratio=times.theirs / times.ours,
                target=target,
                note=quality(some, tasks, sides, settings),
            )
        )

    exact = {f"theirs with angle {SMALL_ANGLE}": sklearn_cells(some, settings, SMALL_ANGLE)}
    add("scikit-learn's default, one process a core", sklearn_cells, TARGET, **exact)
    library = installed("openTSNE")
    if library:
        add("openTSNE", partial(open_tsne_cells, library))


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    cells.add_options(options, 2 * default_workers())
    options.add_argument("--rounds", type=int, default=2)
    arguments = options.parse_args()
    report = begin(arguments)
    some = cells.chosen_cells(arguments.states, "tsne", arguments.cells)
    tasks = cells.tasks_by_split(arguments.states)
    compare(some, [tasks[cell.split] for cell in some], ClusterSettings(), arguments.rounds, report)


if __name__ == "__main__":
    main()
