"""Draw matrices: agreement by hidden state and step, tasks by clusters, tasks by step, tasks."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.report.matrices import (
    EVEN,
    FAINT,
    NAMED_ROWS,
    Values,
    draw_matrix,
    draw_scale,
    matrix_side,
    name_cells,
    name_checkpoints,
)
from tasklens.report.style import (
    IN_TITLE,
    drawable,
    figure_of,
    in_style,
    new_figure,
    room,
    write_heading,
)
from tasklens.report.summary import mean_scores
from tasklens.report.view import View, value_name
from tasklens.scoring.cluster_tracking import FORMED
from tasklens.scoring.partition_agreement import contingency

#: The number of characters up to which a name is whole in a sentence that replaces a heat map.
SHORT = 20
#: Panels of `figure_agreement`: the part of an instance with which a metric compares the clusters.
PARTS = {
    "ari": "task",
    "ari_distribution": "distribution",
    "ari_input": "input",
    "ari_output": "output",
}


@in_style
def figure_agreement(view: View, split: str | None = None) -> Figure:
    """Draw the ARI of the clusters by hidden state and checkpoint.

    There is one heat map each for the ARI against the task, the input and, if it is known, the
    output; also for the distribution if a task has several. If an ARI is nowhere above 0.1, a
    sentence with its largest value replaces the heat map; one heat map always remains. Rows are
    hidden states, from the input at the bottom up. Columns are checkpoints. Values are means over
    cluster seeds.

    Parameters
    ----------
    view : View
        From `tasklens.Run.view`.
    split : str, optional
        By default the first unseen split, if there is one, otherwise the only split.

    Raises
    ------
    InputError
        If there is no such split, or nothing was scored on it.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_agreement(tl.load_run("runs/smoke").view()).savefig("agreement.png")
    """
    split, _ = view.split(split)
    matrices = {}
    for metric, part in PARTS.items():
        scores = mean_scores(view.table, split, metric)
        values = [[scores.get((s, step), np.nan) for step in view.steps] for s in view.states]
        if np.isfinite(values).any():
            matrices[part] = np.array(values)
    if not matrices:
        raise InputError(f"{view.run}: the table has no ARI of a hidden state on {split}")
    shown = {part: matrix for part, matrix in matrices.items() if np.nanmax(matrix) > FAINT}
    shown = shown or dict([*matrices.items()][:1])
    faint = [_faint(view, part, matrices[part]) for part in matrices if part not in shown]
    names = list(map(drawable, view.states))
    wide = 0.9 + max(3.6, 2.1 * len(shown)) + max(0, room(names) - 0.4)
    high = 0.9 + 0.15 * len(names) + 0.14 * len(faint)
    figure = new_figure(wide, high, "constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, (part, matrix) in zip(axes, shown.items(), strict=True):
        draw_matrix(ax, matrix, np.round(matrix, 2) + 0.0, origin="lower")
        name_checkpoints(ax, view.steps, view.step_names)
        ax.set_title(f"ARI against the {part}")
    axes[0].set_yticks(range(len(names)), names)
    draw_scale(figure, axes, "ARI")
    write_heading(figure, drawable(view.title(split), IN_TITLE))
    if faint:
        figure.supxlabel("\n".join(faint), fontsize=7.0, x=0.01, ha="left")
    return figure


def _faint(view: View, part: str, matrix: Values) -> str:
    """Return the sentence on the ARI against a part that is nowhere large, (states, steps)."""
    state, step = np.unravel_index(np.nanargmax(matrix), matrix.shape)
    at = f"{drawable(view.states[state], SHORT)}, {drawable(view.step_name(int(step)), SHORT)}"
    return f"ARI against the {part}: at most {matrix[state, step]:z.2f} ({at})"


@in_style
def figure_contingency(
    view: View,
    state: str | None = None,
    step: int | None = None,
    split: str | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw the number of shown points of each task in each cluster.

    Clusters are in the order of the tasks to which they are assigned. Clusters without a task come
    last. If the hidden state sorts the points by task, they are on the diagonal. Colours are shares
    of the task; a cell without points is grey. The title has the number of points in the cluster
    of their own task.

    Parameters
    ----------
    state : str, optional
        By default the best layer on the first split, see `tasklens.scoring.best_layer`.
    step : int, optional
        The step of a checkpoint; by default the last.
    split : str, optional
        See `figure_agreement`.
    ax : matplotlib.axes.Axes, optional
        See `figure_map`.

    Raises
    ------
    InputError
        If there is no such hidden state, step or split.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_contingency(tl.load_run("runs/smoke").view(), "block2").savefig("contingency.png")
    """
    split, points = view.split(split)
    state, checkpoint = view.state(state), view.at(step)
    task, cluster = points.parts["task"], points.assigned[state][checkpoint]
    counts, names = contingency(task, cluster), list(map(drawable, view.names["task"]))
    columns = [value_name(names, c) for c in np.unique(cluster)]
    beside = room([*names, *columns])
    wide, high = 1.0 + beside + matrix_side(len(columns)), 1.0 + beside + matrix_side(len(counts))
    figure = figure_of(ax) or new_figure(wide, high, "compressed")
    panel = ax or figure.subplots()
    shares = counts / counts.sum(axis=1, keepdims=True)
    draw_matrix(panel, np.where(counts, shares, np.nan), counts, aspect="equal")
    name_cells(panel, "y", [names[t] for t in np.unique(task)])
    name_cells(panel, "x", columns)
    panel.set_ylabel("task")
    panel.set_xlabel("cluster, named by its task")
    title = f"{drawable(state, IN_TITLE)}, {drawable(view.step_name(checkpoint), IN_TITLE)}"
    title += f"\n{drawable(view.title(split), IN_TITLE)}: {len(task):,} points"
    title += f"\n{np.sum(task == cluster):,} are in the cluster of their task"
    if ax is None:
        write_heading(figure, title)
    else:
        ax.set_title(title)
    draw_scale(figure, [panel], "share of the task")
    return figure


@in_style
def figure_order(
    view: View,
    state: str | None = None,
    split: str | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw the overlap of each task with its cluster by checkpoint, in the order of formation.

    The overlap is the Jaccard index of a task and the cluster that is assigned to it, over all
    measured instances. A task has formed at the checkpoint from which on the overlap stays at least
    `tasklens.scoring.cluster_tracking.FORMED`. A diamond marks this checkpoint. Tasks that did not
    form come last.

    Parameters
    ----------
    state : str, optional
        By default the best layer on the first split, see `tasklens.scoring.best_layer`.
    split : str, optional
        See `figure_agreement`.
    ax : matplotlib.axes.Axes, optional
        See `figure_map`.

    Raises
    ------
    InputError
        If there is no such hidden state or split.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_order(tl.load_run("runs/smoke").view(), "block2").savefig("order.png")
    """
    split, points = view.split(split)
    state = view.state(state)
    followed, names = points.followed[state], list(map(drawable, view.names["task"]))
    formed = np.array([np.nan if step is None else view.at(step) for step in followed.formed])
    order = np.argsort(formed, kind="stable")  # NaN comes last
    high = 1.0 + 0.15 * min(len(order), NAMED_ROWS)
    figure = figure_of(ax) or new_figure(4.0 + room(names), high, "constrained")
    panel = ax or figure.subplots()
    draw_matrix(panel, followed.overlap.T[order])
    n = np.count_nonzero(np.isfinite(formed))
    diamond: dict[str, Any] = {"color": "black", "markersize": 3.4, "markeredgecolor": "white"}
    panel.plot(formed[order[:n]], range(n), "D", **diamond)
    name_checkpoints(panel, view.steps, view.step_names)
    step = "model" if view.step_names else "training step"
    panel.set_xlabel(f"{step} (\u25c6 overlap stays at {FORMED:g} or more)")
    name_cells(panel, "y", [names[followed.tasks[i]] for i in order])
    title = f"{drawable(state, IN_TITLE)}, {drawable(view.title(split), IN_TITLE)}"
    panel.set_title(f"{title}\n{n} of {len(order)} tasks have formed")
    draw_scale(figure, [panel], "overlap (Jaccard index)")
    return figure


@in_style
def figure_world(view: View) -> Figure:
    """Draw the similarity of the measured tasks: of their functions, if known, and their texts.

    If all pairs of tasks are about equal, a sentence replaces the matrix. One matrix always
    remains.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_world(tl.load_run("runs/smoke").view()).savefig("world.png")
    """
    world = view.world
    symbols = "tokens" if view.kind == "probe" else "symbols"
    panels = {
        "share of common inputs\nmapped to the same output": world.same_output,
        f"cosine of mean counts\nof {symbols}": world.same_symbols,
    }
    known = {title: values for title, values in panels.items() if values is not None}
    uneven = {title: values for title, values in known.items() if np.ptp(_pairs(values)) >= EVEN}
    shown = uneven or dict([*known.items()][-1:])
    even = [_even(title, known[title]) for title in known if title not in shown]
    names = [drawable(task.name) for task in world.tasks]
    side, beside = matrix_side(len(names)), room(names)
    wide = 0.8 + beside + max(2.2, len(shown) * (0.2 + side))
    figure = new_figure(wide, 0.6 + beside + side + 0.3 * len(even), "compressed")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, (title, values) in zip(axes, shown.items(), strict=True):
        draw_matrix(ax, values, np.round(values, 2) + 0.0, aspect="equal")
        name_cells(ax, "x", names)
        name_cells(ax, "y", names)
        ax.set_title(title)
    draw_scale(figure, axes, "share, cosine" if len(shown) > 1 else "")
    if even:
        figure.supxlabel("\n".join(even), fontsize=7.0, x=0.01, ha="left")
    return figure


def _pairs(values: Values) -> Values:
    """Return the values of all pairs of two tasks; 0 if there is only one task."""
    pairs = values[np.triu_indices(len(values), 1)]
    return pairs if len(pairs) else np.zeros(1)


def _even(title: str, values: Values) -> str:
    """Return the sentence on a matrix whose pairs are about equal."""
    low, high = np.min(_pairs(values)), np.max(_pairs(values))
    return f"{title}: {low:z.2f} to {high:z.2f} for any two tasks"
