"""Figures of points: one map, all layers at one step, one layer at several steps.

They show what the report's page shows.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.report.style import SYMBOLS, in_style, new_figure, symbol, write_heading
from tasklens.report.summary import mean_scores
from tasklens.report.view import MAPS, Floats, Ints, Map, View, value_name

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
        From `tasklens.Run.view`.
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
    maps = _Maps(view, split, color, map)
    panel = (view.state(state), view.at(step))
    figure = new_figure(3.4, 3.7 + 0.15 * (map == "pca"), "compressed")
    ax = figure.subplots()
    values = maps.draw(ax, *panel, size=7.0)
    _frame(ax, maps.places(*panel))
    title = f"{state}, step {view.steps[panel[1]]:,}, {split_name(maps.split)}"
    ax.set_title("\n".join([title, *maps.score(*panel)]))
    maps.add_legend(figure, values)
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
    maps, at = _Maps(view, split, color, map), view.at(step)
    title = f"step {view.steps[at]:,}, {split_name(maps.split)}"
    return _draw_panels(maps, [(s, at, s) for s in view.states], title, same_scale=False)


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
    maps, state = _Maps(view, split, color, map), view.state(state)
    if steps is None:
        n = len(view.steps)
        ats = np.unique(np.linspace(0, n - 1, min(n, STEPS_SHOWN)).round().astype(int)).tolist()
    elif len(steps):
        ats = [view.at(step) for step in steps]
    else:
        raise InputError(f"{view.run}: no steps are given to draw; there are {view.steps}")
    panels = [(state, at, f"step {view.steps[at]:,}") for at in ats]
    return _draw_panels(maps, panels, f"{state}, {split_name(maps.split)}", same_scale=True)


def _draw_panels(
    maps: "_Maps", panels: list[tuple[str, int, str]], title: str, *, same_scale: bool
) -> Figure:
    """Draw one panel for each (state, checkpoint, title)."""
    down = -(-len(panels) // ACROSS)
    across = -(-len(panels) // down)
    places = [maps.places(state, at) for state, at, _ in panels]
    high = (1.85 + 0.15 * (maps.map == "pca")) * down + 0.2
    figure = new_figure(1.55 * across, high, "compressed")
    axes = figure.subplots(down, across, squeeze=False).flat
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    values = []
    for ax, (state, at, name), shown in zip(axes, panels, places, strict=False):
        values.append(maps.draw(ax, state, at, size=3.0))
        _frame(ax, np.concatenate(places) if same_scale else shown)
        ax.set_title("\n".join([name, *maps.score(state, at)]))
    write_heading(figure, title)
    maps.add_legend(figure, np.unique(np.concatenate(values)))
    return figure


class _Maps:
    """The maps of one split in one colouring; InputError if the view has no such."""

    def __init__(self, view: View, split: str | None, color: Color, map: Map) -> None:
        self.view, self.color, self.map = view, color, map
        self.split, self.points = view.split(split)
        colors = ("cluster", *self.points.parts)
        if color not in colors:
            raise InputError(f"{view.run}: no colour by {color!r}; there are {', '.join(colors)}")
        if map not in MAPS:
            raise InputError(f"{view.run}: no map {map!r}; there are {', '.join(MAPS)}")
        self.metric = f"ari_{color}" if color in ("input", "output") else "ari"
        self.scores = mean_scores(view.table, self.split, self.metric)

    def places(self, state: str, at: int) -> Any:
        """Return the places of the points of a state at a checkpoint, float32 (N, 2)."""
        return self.points.maps[self.map, state][at]

    def score(self, state: str, at: int) -> list[str]:
        """Return the line of a title with the ARI of the state's clusters, if it was scored."""
        value = self.scores.get((state, self.view.steps[at]))
        name = "ARI" if self.metric == "ari" else f"ARI with the {self.color}s"
        return [] if value is None else [f"{name} {round(value, 2) + 0.0:.2f}"]

    def draw(self, ax: Axes, state: str, at: int, size: float) -> Ints:
        """Draw the points of a state at a checkpoint and return their distinct values."""
        points = self.points
        by_cluster = self.color == "cluster"
        values = points.assigned[state][at] if by_cluster else points.parts[self.color]
        symbols, places = values % SYMBOLS, self.places(state, at)  # (N,), (N, 2)
        present = np.unique(symbols)
        # A matplotlib collection has one shape. In turns, so that none lies on top of all others.
        turns = TURNS if len(present) <= NAMED else 1
        for turn, number in itertools.product(range(turns), present):
            x, y = places[turn::turns][symbols[turn::turns] == number].T
            color, marker, area = symbol(number)
            ax.scatter(x, y, s=size * area, color=color, marker=marker, linewidths=0)
        if self.map == "pca":
            ax.set_xlabel(f"{points.shown_variance[state][at]:.0%} of the variance")
        return np.unique(values)

    def add_legend(self, figure: Figure, values: Ints) -> None:
        """Name the values, if they are few, beside the panels; this makes the figure wider."""
        if len(values) > NAMED:
            return
        by_cluster = self.color == "cluster"
        names = self.view.names["task" if by_cluster else self.color]
        looks = [(value_name(names, value), symbol(value)) for value in values]
        no_line: dict[str, Any] = {"linestyle": "", "markeredgewidth": 0}
        handles = [
            Line2D([], [], color=c, marker=m, markersize=4 * area**0.5, label=name, **no_line)
            for name, (c, m, area) in looks
        ]
        wide, high = figure.get_size_inches()
        columns = -(-len(handles) // int((high - 0.4) / 0.145))
        longest = max(len(name) for name, _ in looks)
        figure.set_figwidth(wide + columns * (0.3 + 0.056 * longest))
        figure.legend(
            handles=handles,
            title="cluster of" if by_cluster else self.color,
            ncols=columns,
            loc="outside right center",
            alignment="left",
            handletextpad=0.1,
            columnspacing=0.8,
        )


def _frame(ax: Axes, points: Floats) -> None:
    """Draw a square around the points, without ticks: the coordinates have no meaning."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.53 * max(float((high - low).max()), 1e-6)
    for axis, middle in zip("xy", (low + high) / 2, strict=True):
        ax.set(**{f"{axis}lim": (middle - half, middle + half), f"{axis}ticks": []})
    ax.set_aspect("equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color="0.8")
