"""Time KMeans over a grid of cells, with three seeds and ten starts each, on all cores.

Ours is `tasklens.clustering.cluster` in one process per core, as a run measures. Scikit-learn's
KMeans can use all cores by its own threads, or by one process per core (joblib); the faster way is
the reference. faiss and scikit-learn-intelex are also timed if they are installed.
"""

import statistics
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import cells
import numpy as np
from common import Report, Result, begin, installed, interleaved, medians, parser
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from tasklens.clustering.cluster import Cell, Clustering, ClusterSettings
from tasklens.core.workers import Processes, default_workers

TARGET = ">= 10"
#: Iterations of faiss, which has no criterion of convergence.
FAISS_ITERATIONS = 50
T = TypeVar("T")
#: For each cell and seed: labels (N,) and inertia.
Clusters = list[list[tuple[NDArray[Any], float]]]


def ours(workers: Processes, some: Sequence[Cell], settings: ClusterSettings) -> list[Clustering]:
    """Cluster the cells as the stage measure does."""
    return list(workers.map(partial(cells.cluster_one, settings=settings), some))


def in_threads(some: Iterable[Cell], settings: ClusterSettings) -> Clusters:
    """Cluster the cells by scikit-learn in this process, which spreads over all cores itself."""
    return [sklearn_kmeans(cell.x, cell.k, settings) for cell in some]


def in_processes(some: Iterable[Cell], settings: ClusterSettings) -> Clusters:
    """Cluster the cells by scikit-learn in one process a core, each with one thread."""
    work = delayed(sklearn_kmeans)
    pool = Parallel(n_jobs=default_workers())
    return list(pool(work(cell.x, cell.k, settings) for cell in some))


def sklearn_kmeans(
    x: NDArray[np.float32], k: int, settings: ClusterSettings
) -> list[tuple[NDArray[Any], float]]:
    """Cluster one cell with each seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of fewer distinct points than clusters
        models = [
            KMeans(n_clusters=k, n_init=settings.n_init, random_state=seed).fit(x)
            for seed in range(settings.cluster_seeds)
        ]
    return [(model.labels_, float(model.inertia_)) for model in models]


def faiss_kmeans(faiss: Any, some: Iterable[Cell], settings: ClusterSettings) -> Clusters:
    """Cluster the cells by faiss, on its own threads."""
    clusters: Clusters = []
    for cell in some:
        clusters.append([])
        for seed in range(settings.cluster_seeds):
            model = faiss.Kmeans(
                cell.x.shape[1], cell.k, niter=FAISS_ITERATIONS, nredo=settings.n_init, seed=seed
            )
            model.train(cell.x)
            distance, labels = model.index.search(cell.x, 1)
            clusters[-1].append((labels[:, 0], float(distance.sum())))
    return clusters


def intelex_kmeans(sklearnex: Any, some: Iterable[Cell], settings: ClusterSettings) -> Clusters:
    """Cluster the cells by Intel's extension of scikit-learn, on its own threads."""
    from sklearnex.cluster import KMeans as Patched  # type: ignore[import-not-found]

    return [
        [
            (model.labels_, float(model.inertia_))
            for seed in range(settings.cluster_seeds)
            for model in [Patched(cell.k, n_init=settings.n_init, random_state=seed).fit(cell.x)]
        ]
        for cell in some
    ]


#: How scikit-learn gets all cores.
Way = Callable[[Sequence[Cell], ClusterSettings], Clusters]
WAYS: dict[str, Way] = {"its own threads": in_threads, "one process a core": in_processes}


def quality(some: Sequence[Cell], got: Sequence[Clustering], theirs: Clusters) -> str:
    """Describe the quality of both sides' clusters, by inertia and by the ARI of two seeds."""
    ratios, within, between = [], [], []
    for clustering, other in zip(got, theirs, strict=True):
        least = min(inertia for _, inertia in other)
        ratios.append(float(clustering.inertia.min()) / max(least, 1e-12))
        labels = [labels for labels, _ in other]
        between.append(adjusted_rand_score(clustering.labels[0], labels[0]))
        within.append(adjusted_rand_score(labels[0], labels[-1]))
    return (
        f"{len(some)} cells; best inertia ours/theirs {statistics.mean(ratios):.5f} (largest "
        f"{max(ratios):.5f}); ARI of ours with theirs {statistics.mean(between):.3f}, of two of "
        f"their seeds {statistics.mean(within):.3f}"
    )


def better_way(some: Sequence[Cell], settings: ClusterSettings) -> tuple[str, Way]:
    """Return the faster of scikit-learn's two ways to use all cores, timed on a few cells."""
    few = some[:: max(1, len(some) // 4)]
    sides = {name: partial(way, few, settings) for name, way in WAYS.items()}
    seconds = medians(interleaved(sides, 1))
    for name, value in seconds.items():
        print(f"  scikit-learn, {name}: {value / len(few) * 1e3:.4g} ms a cell", flush=True)
    best = min(seconds, key=lambda name: seconds[name])
    return best, WAYS[best]


@dataclass(frozen=True)
class CellTimes(Generic[T]):
    """Seconds of each side for all cells, and the clusters of each side."""

    ours: float
    theirs: float
    got: list[Clustering]
    their_clusters: T


def time_cells(
    some: Sequence[Cell],
    settings: ClusterSettings,
    way: Callable[[Sequence[Cell], ClusterSettings], T],
    rounds: int,
) -> CellTimes[T]:
    """Cluster all cells, ours and their way in turn."""
    got: list[list[Clustering]] = []
    their_clusters: list[T] = []
    with Processes(default_workers()) as workers:
        few = some[: default_workers()]  # starts the processes, compiles
        ours(workers, few, settings)
        way(few, settings)
        sides: dict[str, Callable[[], object]] = {
            "ours": lambda: got.append(ours(workers, some, settings)),
            "theirs": lambda: their_clusters.append(way(some, settings)),
        }
        seconds = medians(interleaved(sides, rounds, warm_up=0))
    return CellTimes(seconds["ours"], seconds["theirs"], got[-1], their_clusters[-1])


def compare(some: Sequence[Cell], settings: ClusterSettings, rounds: int, report: Report) -> None:
    """Add the row against scikit-learn, then those against other installed libraries."""

    def add(against: str, way: Way, target: str = "") -> None:
        times = time_cells(some, settings, way, rounds)
        report.add(
            Result(
                what=f"KMeans, {len(some[0].x)} states of width {some[0].x.shape[1]}, "
                f"{settings.cluster_seeds} x {settings.n_init} starts",
                against=against,
                ours=times.ours / len(some) * 1e3,
                theirs=times.theirs / len(some) * 1e3,
                unit="ms/cell",
                ratio=times.theirs / times.ours,
                target=target,
                note=quality(some, times.got, times.their_clusters),
            )
        )

    name, way = better_way(some, settings)
    add(f"scikit-learn, {name}", way, TARGET)
    for module, function in {"faiss": faiss_kmeans, "sklearnex": intelex_kmeans}.items():
        library = installed(module)
        if library:
            add(module, partial(function, library))


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__)
    cells.add_options(options, 24)
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    report = begin(arguments)
    some = cells.chosen_cells(arguments.states, "raw", arguments.cells)
    compare(some, ClusterSettings(), arguments.rounds, report)


if __name__ == "__main__":
    main()
