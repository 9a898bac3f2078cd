"""KMeans on planted states: starts of nearly the least inertia, numbers of clusters, and shapes."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import silhouette_score
from tables.markdown import markdown, number

from tasklens import KMeans
from tasklens.report.style import in_style, new_figure, symbol
from tasklens.scoring.partition_agreement import adjusted_rand, agreement, contingency
from tasklens.scoring.variance import centred, separation
from worked.planted_states import TASKS, Floats, Ints, planted

SCALES = (1.0, 1.4, 1.5, 1.6, 1.8)
KS = (5, 8, 10, 12, 15, 20, 40)
SEEDS = range(3)


def ari(task: Ints, cluster: npt.NDArray[np.integer]) -> float:
    """Return the ARI of a partition."""
    return adjusted_rand(contingency(task, cluster.astype(np.int64)))


def starts_table() -> str:
    """Return a table of the ARI of near-best starts, for inputs of several scales."""
    rows = []
    for scale in SCALES:
        world = planted(scale, seed=1)
        fits = [
            KMeans(n_clusters=TASKS, random_state=seed).fit(world.states).near_best_
            for seed in SEEDS
        ]
        kept = [
            KMeans(n_clusters=TASKS, random_state=seed).fit(world.states).labels_ for seed in SEEDS
        ]
        near = [ari(world.task, each) for fit in fits for each in fit]
        values = [ari(world.task, labels) for labels in kept]
        rows.append(
            [
                f"{scale:g}",
                number(separation(centred(world.states), world.task)),
                ", ".join(map(number, values)),
                f"{number(min(near))} to {number(max(near))}",
            ]
        )
    return markdown(["scale of the input", "separation", "ARI, three seeds", "near-best"], rows)


def numbers_of_clusters_table() -> str:
    """Return a table of scores by the number of clusters, on states whose ten tasks are clear."""
    world = planted(1.0, seed=1)
    rows = []
    for k in KS:
        labels = KMeans(n_clusters=k, random_state=0).fit_predict(world.states)
        scores = agreement(contingency(world.task, labels.astype(np.int64)))
        measures = [scores[name] for name in ("ari", "ami", "homogeneity", "completeness")]
        silhouette = float(silhouette_score(world.states, labels))
        rows.append([str(k), *map(number, [*measures, silhouette])])
    return markdown(["k", "ARI", "AMI", "homogeneity", "completeness", "silhouette"], rows)


def shapes() -> dict[str, tuple[Floats, Ints]]:
    """Return points in the plane, (N, 2), with their groups: what KMeans finds, and what not."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 100)
    middles = np.array([[0, 0], [6, 0], [3, 5]])
    around = rng.standard_normal((300, 2))
    strips = np.column_stack([12 * rng.uniform(-1, 1, 300), 3 * group + 0.4 * around[:, 1]])
    sizes = np.repeat(np.arange(3), [260, 20, 20])
    middle = np.array([[0, 0], [7, 2], [7, -2]])
    spread = np.where(sizes == 0, 2.4, 0.4)[:, None]
    return {
        "round": ((middles[group] + around).astype(np.float32), group),
        "strips": (strips.astype(np.float32), group),
        "unequal": ((middle[sizes] + spread * around).astype(np.float32), sizes),
    }


@in_style
def draw_shapes() -> Figure:
    """Draw the groups of points above, and the clusters of KMeans below, each with its ARI."""
    figure = new_figure(5.2, 3.2)
    axes = figure.subplots(2, 3)
    for (name, (points, group)), (above, below) in zip(shapes().items(), axes.T, strict=True):
        labels = KMeans(n_clusters=3, random_state=0).fit_predict(points)
        titles = f"{name}: groups", f"clusters, ARI {number(ari(group, labels))}"
        for ax, part, title in zip((above, below), (group, labels), titles, strict=True):
            for value in range(3):
                color, shape, area = symbol(value)
                ax.scatter(*points[part == value].T, s=4 * area, marker=shape, color=color, lw=0)
            ax.set(title=title, xticks=[], yticks=[])
            ax.set_aspect("equal", adjustable="datalim")
    figure.tight_layout(pad=0.4)
    return figure
