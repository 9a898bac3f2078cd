"""Figures of points: one map, all layers at one step, one layer at several steps.

They show what the report's page shows.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.report.style import (
    AREAS,
    MARKERS,
    PALETTE,
    SYMBOLS,
    in_style,
    new_figure,
    write_heading,
)
from tasklens.report.summary import best_state, mean_scores
from tasklens.report.view import MAPS, Ints, Map, SplitView, View

Color: TypeAlias = Literal["task", "cluster", "input", "output"]
"""What a point's symbol stands for."""

#: The largest number of values that a legend names.
NAMED = 20
#: Points are drawn in this many turns, each of all values, so that no value hides the others.
TURNS = 6
#: The largest number of panels side by side; how many steps are shown if none are given.
ACROSS, STEPS_SHOWN = 5, 6


@in_style
def figure_map(
    view: View,
    state: str,
    step: int | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
) -> Figure:
    """Draw the points of one state at one step.

    Parameters
    ----------
    view : View
        From `tasklens.load_view`.
    state : str
        One of ``view.states``.
    step : int, optional
        The step of a checkpoint; by default the last.
    split : str, optional
        By default the first unseen split, if there is one.
    color : {"task", "cluster", "input", "output"}
        What colour and shape stand for: value number i has colour i of `style.PALETTE` and shape i
        of `style.MARKERS`, both modulo their number. A cluster has the symbol of the task to which
        it is assigned.
    map : {"tsne", "pca"}
        See `tasklens.report.view.MAPS`.

    Returns
    -------
    Figure
        The title contains the ARI of the state's clusters, mean over cluster seeds: against the
        inputs or the outputs if these are coloured, otherwise against the task.

    Raises
    ------
    InputError
        If there is no such state, step, split, colour or map.
    """
    split, points = _split_to_draw(view, split, color, map)
    state, at = view.check_state(state), view.at(step)
    figure = new_figure(3.4, 3.7 + 0.15 * (map == "pca"), "compressed")
    ax = figure.subplots()
    values = _draw(ax, points, state, at, color, map, size=7.0)
    _frame(ax, points.maps[map, state][at])
    lines = [f"{state}, step {view.steps[at]:,}, {split_name(split)}"]
    ax.set_title("\n".join(lines + _score_lines(view, split, color).get((state, at), [])))
    _legend(figure, view, color, values)
    return figure


@in_style
def figure_layers(
    view: View,
    step: int | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
) -> Figure:
    """Draw the points of every state at one step, one panel per state.

    Each panel has its own scale; see `figure_map` for the parameters.

    Raises
    ------
    InputError
        If there is no such step, split, colour or map.
    """
    split, points = _split_to_draw(view, split, color, map)
    at = view.at(step)
    title = f"step {view.steps[at]:,}, {split_name(split)}"
    panels = [(state, at, state) for state in view.states]
    return _multiples(view, split, points, panels, color, map, title, same_scale=False)


@in_style
def figure_forming(
    view: View,
    state: str | None = None,
    steps: Sequence[int] | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
) -> Figure:
    """Draw the points of one state at several steps, one panel per step, all on the same scale.

    Parameters
    ----------
    view : View
    state : str, optional
        By default the best layer on the first split, see `tasklens.scoring.best_layer`.
    steps : sequence of int, optional
        By default six from the first to the last, with equally many checkpoints between them.
    split, color, map
        See `figure_map`.

    Raises
    ------
    InputError
        If there is no such state, step, split, colour or map.
    """
    split, points = _split_to_draw(view, split, color, map)
    state = best_state(view) if state is None else view.check_state(state)
    if steps is None:
        n = len(view.steps)
        ats = np.unique(np.linspace(0, n - 1, min(n, STEPS_SHOWN)).round().astype(int)).tolist()
    elif len(steps):
        ats = [view.at(step) for step in steps]
    else:
        raise InputError(f"{view.run}: no steps are given to draw; there are {view.steps}")
    panels = [(state, at, f"step {view.steps[at]:,}") for at in ats]
    title = f"{state}, {split_name(split)}"
    return _multiples(view, split, points, panels, color, map, title, same_scale=True)


def _split_to_draw(view: View, split: str | None, color: str, map: str) -> tuple[str, SplitView]:
    """Return a split by name; InputError if there is no such split, colour or map."""
    name, points = view.split(split)
    colors = ("cluster", *points.parts)
    if color not in colors:
        raise InputError(f"{view.run}: no colour by {color!r}; there are {', '.join(colors)}")
    if map not in MAPS:
        raise InputError(f"{view.run}: no map {map!r}; there are {', '.join(MAPS)}")
    return name, points


def _score_lines(view: View, split: str, color: Color) -> dict[tuple[str, int], list[str]]:
    """Return the line of a title that gives the ARI, by (state, checkpoint), if it was scored."""
    metric, name = ("ari", "ARI")
    if color in ("input", "output"):
        metric, name = f"ari_{color}", f"ARI with the {color}s"
    return {
        (state, view.steps.index(step)): [f"{name} {round(value, 2) + 0.0:.2f}"]
        for (state, step), value in mean_scores(view.table, split, metric).items()
        if step in view.steps
    }


def _multiples(
    view: View,
    split: str,
    points: SplitView,
    panels: list[tuple[str, int, str]],
    color: Color,
    map: Map,
    title: str,
    *,
    same_scale: bool,
) -> Figure:
    """Draw one panel for each (state, checkpoint, title)."""
    down = -(-len(panels) // ACROSS)
    across = -(-len(panels) // down)
    score = _score_lines(view, split, color)
    all_places = np.concatenate([points.maps[map, state][at] for state, at, _ in panels])
    figure = new_figure(1.55 * across, (1.85 + 0.15 * (map == "pca")) * down + 0.2, "compressed")
    axes = figure.subplots(down, across, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    values = []
    for ax, (state, at, name) in zip(axes.flat, panels, strict=False):
        values.append(_draw(ax, points, state, at, color, map, size=3.0))
        _frame(ax, all_places if same_scale else points.maps[map, state][at])
        ax.set_title("\n".join([name, *score.get((state, at), [])]))
    write_heading(figure, title)
    _legend(figure, view, color, np.unique(np.concatenate(values)))
    return figure


def _draw(
    ax: Axes, points: SplitView, state: str, at: int, color: Color, map: Map, size: float
) -> Ints:
    """Draw the points of a state at a checkpoint and return the distinct values they have."""
    values = points.assigned[state][at] if color == "cluster" else points.parts[color]
    symbols, places = values % SYMBOLS, points.maps[map, state][at]  # (N,), (N, 2)
    present = np.unique(symbols)
    # A matplotlib collection has one shape. In turns, so that none lies on top of all others.
    rounds = TURNS if len(present) <= NAMED else 1
    for turn, symbol in itertools.product(range(rounds), present):
        drawn = places[turn::rounds][symbols[turn::rounds] == symbol]
        ax.scatter(
            drawn[:, 0],
            drawn[:, 1],
            s=size * AREAS[symbol % len(MARKERS)],
            color=PALETTE[symbol % len(PALETTE)],
            marker=MARKERS[symbol % len(MARKERS)],
            linewidths=0,
        )
    if map == "pca":
        ax.set_xlabel(f"{points.shown_variance[state][at]:.0%} of the variance")
    return np.unique(values)


def _frame(ax: Axes, points: npt.NDArray[np.float32]) -> None:
    """Draw a square around the points, without ticks: the coordinates have no meaning."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.53 * max(float((high - low).max()), 1e-6)
    for axis, middle in zip("xy", (low + high) / 2, strict=True):
        ax.set(**{f"{axis}lim": (middle - half, middle + half), f"{axis}ticks": []})
    ax.set_aspect("equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color="0.8")


def _legend(figure: Figure, view: View, color: Color, values: Ints) -> None:
    """Name the values, if they are few, beside the panels; this makes the figure wider."""
    if len(values) > NAMED:
        return
    names = view.names["task" if color == "cluster" else color]
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            color=PALETTE[value % len(PALETTE)],
            marker=MARKERS[value % len(MARKERS)],
            markersize=4 * AREAS[value % len(MARKERS)] ** 0.5,
            markeredgewidth=0,
            label=names[value] if value < len(names) else f"left over {value - len(names) + 1}",
        )
        for value in values
    ]
    wide, high = figure.get_size_inches()
    columns = -(-len(handles) // int((high - 0.4) / 0.145))
    longest = max(len(str(handle.get_label())) for handle in handles)
    figure.set_figwidth(wide + columns * (0.3 + 0.056 * longest))
    figure.legend(
        handles=handles,
        title="cluster of" if color == "cluster" else color,
        ncols=columns,
        loc="outside right center",
        alignment="left",
        handletextpad=0.1,
        columnspacing=0.8,
    )
