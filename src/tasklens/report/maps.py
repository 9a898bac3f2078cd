"""A view to figures of its points: one map, all layers at a step, one layer as it forms.

What the report's page shows, for those who write Python. No pyplot, as in `figure1`.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.report.figure1 import STYLE
from tasklens.report.view import MAPS, Ints, Map, SplitView, View

Color: TypeAlias = Literal["task", "cluster", "input", "output"]
"""What a point's symbol stands for."""

Layout: TypeAlias = Literal["compressed", "constrained"] | None
"""How a figure finds room for what is written: where its axes keep their shape, or need not."""

#: Eight colours, each apart from white by a contrast of 3 and from each other by a CIELAB distance
#: of 21 at least, also as people see them who lack one kind of cones (Machado, Oliveira and
#: Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009).
PALETTE = (
    *("#0c3e71", "#d47505", "#027557", "#b779a3"),
    *("#885204", "#0f94df", "#663ab8", "#96052c"),
)
#: Seven shapes; with eight colours, 56 symbols before one comes again.
MARKERS = ("o", "^", "s", "D", "P", "v", "X")
#: What shapes of the same size are made larger by, so that they look it.
AREAS = (1.0, 1.15, 0.8, 0.7, 1.2, 1.15, 1.2)
SYMBOLS = len(PALETTE) * len(MARKERS)

#: A legend names at most so many values.
NAMED = 20
#: In so many turns points are drawn, a value after the other.
TURNS = 6
#: So many panels stand side by side at most, and so many steps are shown if none are given.
ACROSS, STEPS_SHOWN = 5, 6


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
        A checkpoint's; by default the last.
    split : str, optional
        By default the first that is unseen, where there is one.
    color : {"task", "cluster", "input", "output"}
        What colour and shape stand for: value number i has colour i of `PALETTE` and shape i of
        `MARKERS`, both counted round. A cluster has the symbol of the task it is assigned to.
    map : {"tsne", "pca"}
        See `tasklens.report.view.MAPS`.

    Returns
    -------
    Figure
        Its title has the ARI of the state's clusters, mean over cluster seeds: against the task,
        or where they are what is coloured, against the inputs or the outputs.

    Raises
    ------
    InputError
        Where there is no such state, step, split, colour or map.
    """
    split, its = checked(view, split, color, map)
    state, at = view.check_state(state), view.at(step)
    words = f"{state}, step {view.steps[at]:,}, {split_name(split)}"
    with style.context(["default", STYLE]):
        figure = new_figure(3.4, 3.7 + 0.15 * (map == "pca"))
        ax = figure.subplots()
        values = _draw(ax, view, its, state, at, color, map, size=7.0)
        _frame(ax, its.maps[map, state][at])
        ax.set_title("\n".join([words, *_score(view, split, color).get((state, at), ())]))
        _legend(figure, view, color, values)
    return figure


def figure_layers(
    view: View,
    step: int | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
) -> Figure:
    """Draw the points of every state at one step, a panel each.

    Each panel has a scale of its own; see `figure_map` for the parameters.

    Raises
    ------
    InputError
        Where there is no such step, split, colour or map.
    """
    split, its = checked(view, split, color, map)
    at = view.at(step)
    title = f"step {view.steps[at]:,}, {split_name(split)}"
    panels = [(state, at, state) for state in view.states]
    return _multiples(view, split, its, panels, color, map, title, together=False)


def figure_forming(
    view: View,
    state: str | None = None,
    steps: Sequence[int] | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
) -> Figure:
    """Draw the points of one state at several steps, a panel each, all on the same scale.

    Parameters
    ----------
    view : View
    state : str, optional
        By default the block with the highest final ARI on the first split.
    steps : sequence of int, optional
        By default six from the first to the last, with as many checkpoints between them.
    split, color, map
        See `figure_map`.

    Raises
    ------
    InputError
        Where there is no such state, step, split, colour or map.
    """
    split, its = checked(view, split, color, map)
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
    return _multiples(view, split, its, panels, color, map, title, together=True)


def checked(view: View, split: str | None, color: str, map: str) -> tuple[str, SplitView]:
    """Return a split by name; InputError where there is none, or no such colour or map."""
    name, its = view.split(split)
    colors = ("cluster", *its.parts)
    if color not in colors:
        raise InputError(f"{view.run}: no colour by {color!r}; there are {', '.join(colors)}")
    if map not in MAPS:
        raise InputError(f"{view.run}: no map {map!r}; there are {', '.join(MAPS)}")
    return name, its


def scores(view: View, split: str, metric: str) -> dict[tuple[str, int], float]:
    """Return a metric of the states themselves, mean over cluster seeds, by (state, checkpoint)."""
    wanted = {"split": split, "metric": metric, "space": "raw"}
    here = pc.field("step").is_valid()
    for column, value in wanted.items():
        here &= pc.field(column) == value
    means = view.table.filter(here).group_by(["layer", "step"]).aggregate([("value", "mean")])
    return {
        (row["layer"], view.steps.index(row["step"])): row["value_mean"]
        for row in means.to_pylist()
        if row["layer"] in view.states and row["step"] in view.steps
    }


def best_state(view: View) -> str:
    """Return the block with the highest final ARI on the first split; any state if none is."""
    found, last = scores(view, next(iter(view.splits)), "ari"), len(view.steps) - 1
    blocks = [state for state in view.states if state.startswith("block")] or list(view.states)
    return max(blocks, key=lambda state: found.get((state, last), -1.0))


def new_figure(wide: float, high: float, layout: Layout = "compressed") -> Figure:
    """Return a figure of so many inches that no display knows of."""
    figure = Figure(figsize=(wide, high), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _score(view: View, split: str, color: Color) -> dict[tuple[str, int], tuple[str, ...]]:
    """Return by (state, checkpoint) what a title says of the agreement with what is coloured."""
    of = "" if color in ("task", "cluster") else f"_{color}"
    words = f"ARI with the {color}s" if of else "ARI"
    found = scores(view, split, f"ari{of}")
    return {place: (f"{words} {round(value, 2) + 0.0:.2f}",) for place, value in found.items()}


def _multiples(
    view: View,
    split: str,
    its: SplitView,
    panels: list[tuple[str, int, str]],
    color: Color,
    map: Map,
    title: str,
    *,
    together: bool,
) -> Figure:
    """Draw a panel for each (state, checkpoint, title), on one scale or each on its own."""
    down = -(-len(panels) // ACROSS)
    across = -(-len(panels) // down)
    score = _score(view, split, color)
    every = np.concatenate([its.maps[map, state][at] for state, at, _ in panels])
    with style.context(["default", STYLE]):
        figure = new_figure(1.55 * across, (1.85 + 0.15 * (map == "pca")) * down + 0.2)
        axes = figure.subplots(down, across, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        seen = []
        for ax, (state, at, words) in zip(axes.flat, panels, strict=False):
            seen.append(_draw(ax, view, its, state, at, color, map, size=3.0))
            _frame(ax, every if together else its.maps[map, state][at])
            ax.set_title("\n".join([words, *score.get((state, at), ())]))
        figure.suptitle(title, fontsize=7.5, x=0.01, ha="left")
        _legend(figure, view, color, np.unique(np.concatenate(seen)))
    return figure


def _draw(
    ax: Axes,
    view: View,
    its: SplitView,
    state: str,
    at: int,
    color: Color,
    map: Map,
    size: float,
) -> Ints:
    """Draw the points of a state at a checkpoint and return what values they have."""
    values = its.assigned[state][at] if color == "cluster" else its.parts[color]
    symbols, points = values % SYMBOLS, its.maps[map, state][at]
    present = np.unique(symbols)
    # A matplotlib collection has one shape. In turns, so that none lies on top of all others.
    rounds = TURNS if len(present) <= NAMED else 1
    for turn, symbol in itertools.product(range(rounds), present):
        here = points[turn::rounds][symbols[turn::rounds] == symbol]
        ax.scatter(
            here[:, 0],
            here[:, 1],
            s=size * AREAS[symbol % len(MARKERS)],
            color=PALETTE[symbol % len(PALETTE)],
            marker=MARKERS[symbol % len(MARKERS)],
            linewidths=0,
        )
    if map == "pca":
        ax.set_xlabel(f"{its.shown_variance[state][at]:.0%} of the variance")
    return np.unique(values)


def _frame(ax: Axes, points: npt.NDArray[np.float32]) -> None:
    """Put a square around the points, without ticks: no number of it means anything."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.53 * max(float((high - low).max()), 1e-6)
    for axis, middle in zip("xy", (low + high) / 2, strict=True):
        ax.set(**{f"{axis}lim": (middle - half, middle + half), f"{axis}ticks": []})
    ax.set_aspect("equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color="0.8")


def _legend(figure: Figure, view: View, color: Color, values: Ints) -> None:
    """Name the values, where they are few, in columns that the figure is made wider for."""
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
