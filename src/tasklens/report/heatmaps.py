"""A view to figures of its tables: what is counted, not where points are.

No pyplot, as in `tasklens.report.figure1`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.report.figure1 import STYLE
from tasklens.report.maps import best_state, new_figure, scores
from tasklens.report.view import View
from tasklens.scoring.cluster_tracking import FORMED
from tasklens.scoring.partition_agreement import contingency

Values = npt.NDArray[np.float64]

#: Panels of `figure_agreement`, by metric.
AGAINST = {"ari": "task", "ari_input": "input", "ari_output": "output"}
#: Cells hold numbers, and rows names, where there are at most so many.
NUMBERED, NAMED_ROWS = 12, 60
COLORS = "cividis"


def figure_agreement(view: View, split: str | None = None) -> Figure:
    """Draw the ARI of every state's clusters by checkpoint, against what they may be sorted by.

    Panels are heat maps against the task, the input and, where it is known, the output. Rows are
    states, from the input at the bottom up; columns are checkpoints; values are means over
    cluster seeds.

    Parameters
    ----------
    view : View
        From `tasklens.load_view`.
    split : str, optional
        By default the first that is unseen, where there is one.

    Raises
    ------
    InputError
        Where there is no such split, or nothing was scored on it.
    """
    split, _ = view.split(split)
    found = {of: scores(view, split, metric) for metric, of in AGAINST.items()}
    found = {of: values for of, values in found.items() if values}
    if not found:
        raise InputError(f"{view.run}: its table holds no ARI of a state on {split}")
    place = {state: i for i, state in enumerate(view.states)}
    with style.context(["default", STYLE]):
        figure = new_figure(0.9 + 2.1 * len(found), 0.9 + 0.15 * len(view.states), "constrained")
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for ax, (of, scored) in zip(axes, found.items(), strict=True):
            values = np.full((len(view.states), len(view.steps)), np.nan)
            for (state, at), value in scored.items():
                values[place[state], at] = value
            _heat(ax, values, origin="lower")
            _checkpoints(ax, view.steps)
            ax.set_title(f"ARI against the {of}")
        axes[0].set_yticks(range(len(view.states)), view.states)
        _bar(figure, axes, "ARI")
        figure.suptitle(split_name(split), fontsize=7.5, x=0.01, ha="left")
    return figure


def figure_contingency(
    view: View, state: str | None = None, step: int | None = None, split: str | None = None
) -> Figure:
    """Draw how many of the shown points of each task lie in each cluster.

    Clusters stand in the order of the tasks that they are assigned to, so that what is sorted by
    task lies on the diagonal; those left over come last. Colours are shares of the task.

    Parameters
    ----------
    view : View
    state : str, optional
        By default the block with the highest final ARI on the first split.
    step : int, optional
        A checkpoint's; by default the last.
    split : str, optional
        See `figure_agreement`.

    Raises
    ------
    InputError
        Where there is no such state, step or split.
    """
    split, its = view.split(split)
    state, at = _state(view, state), view.at(step)
    task, cluster = its.parts["task"], its.assigned[state][at]
    counts, names = contingency(task, cluster), view.names["task"]
    of = [
        names[c] if c < len(names) else f"left over {c - len(names) + 1}"
        for c in np.unique(cluster)
    ]
    rows, columns = counts.shape
    with style.context(["default", STYLE]):
        room = _room([*names, *of])
        figure = new_figure(1.0 + room + _side(columns), 0.9 + room + _side(rows))
        ax = figure.subplots()
        _heat(ax, counts / counts.sum(axis=1, keepdims=True), counts, aspect="equal")
        _names(ax, "y", [names[t] for t in np.unique(task)])
        _names(ax, "x", of)
        ax.set_ylabel("task")
        ax.set_xlabel("cluster, by the task it is assigned to")
        title = f"{state}, step {view.steps[at]:,}, {split_name(split)}: {len(task):,} points"
        figure.suptitle(title, fontsize=7.5, x=0.01, ha="left")
        _bar(figure, [ax], "share of the task")
    return figure


def figure_order(view: View, state: str | None = None, split: str | None = None) -> Figure:
    """Draw how each task's cluster overlaps it by checkpoint, in the order in which they formed.

    The overlap is the Jaccard index of a task and the cluster that is assigned to it, of all
    measured instances. A diamond marks the checkpoint from which on it stays at least
    `tasklens.scoring.cluster_tracking.FORMED`; tasks that did not form come last.

    Parameters
    ----------
    view : View
    state : str, optional
        By default the block with the highest final ARI on the first split.
    split : str, optional
        See `figure_agreement`.

    Raises
    ------
    InputError
        Where there is no such state or split.
    """
    split, its = view.split(split)
    state = _state(view, state)
    followed = its.followed[state]
    when = [np.inf if step is None else step for step in followed.formed]
    order = sorted(range(len(when)), key=lambda i: (when[i], i))
    marks = [(row, followed.formed[i]) for row, i in enumerate(order)]
    x = [view.steps.index(step) for _, step in marks if step is not None]
    y = [row for row, step in marks if step is not None]
    with style.context(["default", STYLE]):
        figure = new_figure(
            4.0 + _room(view.names["task"]), 0.9 + 0.15 * min(len(order), NAMED_ROWS), "constrained"
        )
        ax = figure.subplots()
        _heat(ax, followed.overlap.T[order])
        ax.plot(x, y, "D", color="black", markersize=3.4, markeredgecolor="white")
        _checkpoints(ax, view.steps)
        ax.set_xlabel(f"training step (\u25c6 formed: stays at {FORMED:g} or more)")
        _names(ax, "y", [view.names["task"][followed.tasks[i]] for i in order])
        ax.set_title(f"{state}, {split_name(split)}: {len(x)} of {len(order)} tasks formed")
        _bar(figure, [ax], "overlap (Jaccard)")
    return figure


def figure_world(view: View) -> Figure:
    """Draw how alike the measured tasks are: in what they map inputs to, and in their wording.

    Parameters
    ----------
    view : View

    Returns
    -------
    Figure
        Of one matrix only, where the tasks have no functions that are known.
    """
    world = view.world
    symbols = "tokens" if view.kind == "probe" else "symbols"
    panels = {
        "share of common inputs\nmapped to the same output": world.same_output,
        f"cosine of mean counts\nof {symbols}": world.same_symbols,
    }
    known = {title: values for title, values in panels.items() if values is not None}
    side, room = _side(len(world.tasks)), _room([task.name for task in world.tasks])
    with style.context(["default", STYLE]):
        figure = new_figure(0.8 + room + len(known) * (0.2 + side), 0.6 + room + side)
        axes = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
        for ax, (title, values) in zip(axes, known.items(), strict=True):
            _heat(ax, values, np.round(values, 2) + 0.0, aspect="equal")
            _names(ax, "x", [task.name for task in world.tasks])
            _names(ax, "y", [task.name for task in world.tasks])
            ax.set_title(title)
        _bar(figure, axes, "")
    return figure


def _state(view: View, state: str | None) -> str:
    return best_state(view) if state is None else view.check_state(state)


def _side(n: int) -> float:
    """Return the length of n cells, inches."""
    return max(1.5, n * (0.26 if n <= NUMBERED else 0.14))


def _room(names: Sequence[str]) -> float:
    """Return how much room names take, inches."""
    return 0.056 * max(map(len, names))


def _heat(
    ax: Axes,
    values: Values,
    numbers: npt.NDArray[np.generic] | None = None,
    aspect: Literal["equal", "auto"] = "auto",
    origin: Literal["upper", "lower"] = "upper",
) -> None:
    """Draw values from 0 to 1 as colours, with numbers in the cells where there are few rows."""
    ax.set_facecolor("0.9")
    ax.imshow(
        values, cmap=COLORS, vmin=0, vmax=1, aspect=aspect, origin=origin, interpolation="nearest"
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if numbers is not None and len(numbers) <= NUMBERED:
        for (row, column), number in np.ndenumerate(numbers):
            color = "white" if values[row, column] < 0.5 else "black"
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 5.5}
            ax.text(column, row, f"{number:g}", color=color, **place)


def _names(ax: Axes, axis: Literal["x", "y"], names: Sequence[str]) -> None:
    """Write the names of rows or columns; of many, only some."""
    some = range(0, len(names), -(-len(names) // NAMED_ROWS))
    rotation = 90 if axis == "x" else 0
    (ax.set_xticks if axis == "x" else ax.set_yticks)(
        some, [names[i] for i in some], rotation=rotation
    )


def _checkpoints(ax: Axes, steps: Sequence[int]) -> None:
    """Name some of the columns, which are checkpoints."""
    some = np.unique(np.linspace(0, len(steps) - 1, min(5, len(steps))).round().astype(int))
    words = [
        f"{steps[i] // 1000:,}k" if steps[i] >= 10_000 else f"{steps[i]:,}" for i in some.tolist()
    ]
    ax.set_xticks(some, words)
    ax.set_xlabel("training step")


def _bar(figure: Figure, axes: Sequence[Axes], label: str) -> None:
    colors = ScalarMappable(Normalize(0, 1), COLORS)
    bar = figure.colorbar(colors, ax=list(axes), label=label, fraction=0.05, aspect=25, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "", "0.5", "", "1"])
    bar.ax.tick_params(length=2)
