"""t-SNE of planted states: what it keeps are neighbours, and these need not be of the same task."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from tables.markdown import markdown, number

from tasklens import TSNE, KMeans
from tasklens.report.style import in_style, new_figure, symbol
from tasklens.scoring.centroids import fit_centroids
from tasklens.scoring.variance import centred, separation
from worked.planted_states import TASKS, Floats, Ints, planted
from worked.starts import ari

SCALES = (0.5, 1.0, 1.2, 1.3)
PERPLEXITY = 30.0


def facts(states: Floats, task: Ints, x: Ints) -> dict[str, float]:
    """Return what KMeans, t-SNE and the distances between states, (N, D), have to do with tasks.

    ``task`` and ``x`` are the task and the input of each state, (N,).
    """
    inputs = len(np.unique(x))
    flat = TSNE(perplexity=PERPLEXITY, random_state=0).fit_transform(states)
    tasks = [
        KMeans(n_clusters=len(np.unique(task)), random_state=0).fit_predict(each)
        for each in (states, flat)
    ]
    distance = cdist(states, states)
    nearest = np.argsort(distance + np.diag(np.full(len(task), np.inf)))[:, :10]
    same_task, same_input = task[:, None] == task, x[:, None] == x
    other_task = np.median(distance[~same_task & same_input])
    other_input = np.median(distance[same_task & ~same_input])
    return {
        "ARI of the states": ari(task, tasks[0]),
        "ARI of the map": ari(task, tasks[1]),
        "ARI of the map with the input": ari(
            x, KMeans(n_clusters=inputs, random_state=0).fit_predict(flat)
        ),
        "neighbours of the same task": float((task[nearest] == task[:, None]).mean()),
        "of the same input": float((x[nearest] == x[:, None]).mean()),
        "other task / other input": float(other_task / other_input),
        "separation": separation(centred(states), task),
    }


def neighbours_table() -> str:
    """Return a table with a row per scale of the input."""
    worlds = {scale: planted(scale, seed=1) for scale in SCALES}
    rows = {s: facts(p.states, p.task, p.input) for s, p in worlds.items()}
    head = ["scale of the input", *rows[SCALES[0]]]
    return markdown(head, [[f"{s:g}", *map(number, row.values())] for s, row in rows.items()])


def run_table(path: Path) -> str:
    """Return the facts of a run's states from the file of docs/scripts/maps_of_run.py."""
    with path.open(newline="") as file:
        rows = [*csv.reader(file)]
    return markdown(rows[0], [[row[0], *(number(float(x)) for x in row[1:])] for row in rows[1:]])


def maps_of(seen: Floats, seen_task: Ints, states: Floats) -> dict[str, npt.NDArray[np.float64]]:
    """Return three maps of states, (N, D): t-SNE, two principal components, plane of centroids.

    The plane is that of the two directions in which the centroids of the tasks of ``seen``, (F, D),
    vary most.
    """
    centroids = fit_centroids(seen, seen_task)
    from_middle = states - states.mean(axis=0)
    _, _, components = np.linalg.svd(from_middle, full_matrices=False)
    _, _, plane = np.linalg.svd(centroids.mean - centroids.middle, full_matrices=False)
    return {
        "t-SNE": TSNE(perplexity=PERPLEXITY, random_state=0).fit_transform(states),
        "PCA": from_middle @ components[:2].T,
        "plane of the centroids": (states - centroids.middle) @ plane[:2].T,
    }


def draw_map(ax: Axes, flat: npt.NDArray[np.floating], task: Ints, title: str) -> None:
    """Draw points, (N, 2), coloured by task."""
    for value in np.unique(task):
        x, y = flat[task == value].T
        color, shape, area = symbol(int(value))
        ax.scatter(x, y, s=2.5 * area, color=color, marker=shape, linewidths=0)
    ax.set(title=title, xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")


@in_style
def draw_planted_maps() -> Figure:
    """Draw the maps of planted states with inputs of two scales; both have an ARI of 1."""
    figure = new_figure(5.2, 3.5)
    axes = figure.subplots(2, 3)
    for line, scale in zip(axes, (1.0, 1.3), strict=True):
        seen, unseen = planted(scale, seed=0), planted(scale, seed=1)
        labels = KMeans(n_clusters=TASKS, random_state=0).fit_predict(unseen.states)
        maps = maps_of(seen.states, seen.task, unseen.states)
        for ax, (name, flat) in zip(line, maps.items(), strict=True):
            draw_map(ax, flat, unseen.task, name)
        line[0].set_ylabel(f"scale {scale:g}, ARI {number(ari(unseen.task, labels))}")
    figure.tight_layout(pad=0.4)
    return figure
