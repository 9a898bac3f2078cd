"""Draw maps of points: one map, all hidden states at one step, one hidden state at several steps.

Steps of stages of one model are shown by their names.

The report's page shows the same maps.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from tasklens.core.errors import InputError
from tasklens.report.group_names import place_names
from tasklens.report.style import (
    IN_TITLE,
    LONGEST,
    STYLE,
    SYMBOLS,
    drawable,
    figure_of,
    in_style,
    name_entries,
    new_figure,
    room,
    symbol,
    write_heading,
)
from tasklens.report.summary import mean_scores
from tasklens.report.view import MAPS, PLANES, Floats, Ints, Map, View, value_name

Color: TypeAlias = Literal["task", "distribution", "cluster", "input", "output"]
"""What the symbol of a point stands for."""

#: The largest number of values that a legend names.
NAMED = 48
#: Points are drawn in this many turns, each of all values, so that no value hides the others; of
#: more than some values, in one.
TURNS, IN_TURNS = 6, 20
#: Size in points of names at groups, and the number of characters up to which they are whole.
NAME_SIZE, NAME_LENGTH = 6.0, 22
#: The largest number of panels side by side, and of steps that are shown by default.
ACROSS, STEPS_SHOWN = 5, 6


@in_style
def figure_map(
    view: View,
    state: str,
    step: int | str | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
    *,
    names: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the points of one hidden state at one step.

    Parameters
    ----------
    view : View
        From `tasklens.Run.view`.
    state : str
        Name of the hidden state, one of ``view.states``.
    step : int or str, optional
        Training step of a checkpoint, or the name of a stage; by default the last.
    split : str, optional
        By default the first unseen split, if there is one, otherwise the only split.
    color : {"task", "distribution", "cluster", "input", "output"}
        What colour and shape stand for. Value number i has colour i of `style.PALETTE` and shape i
        of `style.MARKERS`, both modulo their number. The title has the number of values if several
        share a symbol. A cluster has the symbol of the task to which it is assigned.
    map : {"tsne", "pca", "centroids"}
        See `tasklens.report.view.MAPS`. A plane is labelled with the share of the variance that it
        shows; that of the centroids, with the share of the variance between tasks, too.
    names : bool
        Whether to write the name of each value at its points, unless they are scattered.
    ax : matplotlib.axes.Axes, optional
        Axes to draw into, in their own style; the legend is at their right side. By default the
        axes are those of a new figure.

    Returns
    -------
    Figure
        The new figure, or the figure of `ax`. The title contains the ARI of the clusters, mean
        over cluster seeds. The ARI is against what is coloured if that is the input, the output or
        the distribution; otherwise it is against the task.

    Raises
    ------
    InputError
        If there is no such hidden state, step, split, colour or map.

    Examples
    --------
    >>> import tasklens as tl
    >>> view = tl.load_run("runs/smoke").view()
    >>> tl.figure_map(view, "block2", color="output").savefig("map.png")
    """
    maps = _Maps(view, split, color, map, names)
    state, checkpoint = view.state(state), view.at(step)
    figure = figure_of(ax) or new_figure(3.4, 3.85 + 0.15 * (map in PLANES), "compressed")
    panel = ax or figure.subplots()
    values = maps.draw(panel, state, checkpoint, size=7.0)
    _frame(panel, maps.coordinates(state, checkpoint))
    maps.name_groups(panel, state, checkpoint)
    lines = [
        f"{drawable(state, IN_TITLE)}, {drawable(view.step_name(checkpoint), IN_TITLE)}",
        maps.title,
    ]
    panel.set_title("\n".join([*lines, *maps.score(state, checkpoint)]))
    if ax is None:
        maps.add_legend(figure, values)
    else:
        maps.add_legend_beside(ax, values)
    return figure


@in_style
def figure_layers(
    view: View,
    step: int | str | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
    *,
    names: bool = False,
) -> Figure:
    """Draw the points of every hidden state at one step, one panel per hidden state.

    Each panel has its own scale; see `figure_map` for the parameters.

    Raises
    ------
    InputError
        If there is no such step, split, colour or map.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_layers(tl.load_run("runs/smoke").view()).savefig("layers.png")
    """
    maps, checkpoint = _Maps(view, split, color, map, names), view.at(step)
    title = f"{drawable(view.step_name(checkpoint), IN_TITLE)}, {maps.title}"
    panels = [(state, checkpoint, drawable(state, IN_TITLE)) for state in view.states]
    return _draw_panels(maps, panels, title, same_scale=False)


@in_style
def figure_forming(
    view: View,
    state: str | None = None,
    steps: Sequence[int | str] | None = None,
    split: str | None = None,
    color: Color = "task",
    map: Map = "tsne",
    *,
    names: bool = False,
) -> Figure:
    """Draw the points of one hidden state at several steps, one panel per step, on one scale.

    For stages of one model this is the same map side by side, one panel per stage.

    Parameters
    ----------
    state : str, optional
        By default the best layer on the first split, see `tasklens.scoring.best_layer`.
    steps : sequence of int or str, optional
        By default six from the first to the last, with equally many checkpoints between them.
    split, color, map, names
        See `figure_map`.

    Raises
    ------
    InputError
        If there is no such hidden state, step, split, colour or map.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_forming(tl.load_run("runs/smoke").view(), "block2").savefig("forming.png")
    """
    maps, state = _Maps(view, split, color, map, names), view.state(state)
    if steps is None:
        n = len(view.steps)
        checkpoints = np.linspace(0, n - 1, min(n, STEPS_SHOWN)).round().astype(int).tolist()
    elif len(steps):
        checkpoints = [view.at(step) for step in steps]
    else:
        raise InputError(f"{view.run}: steps is empty: should be some of {view.steps}")
    panels = [(state, number, drawable(view.step_name(number), IN_TITLE)) for number in checkpoints]
    return _draw_panels(maps, panels, f"{drawable(state, IN_TITLE)}, {maps.title}", same_scale=True)


def _draw_panels(
    maps: "_Maps", panels: list[tuple[str, int, str]], title: str, *, same_scale: bool
) -> Figure:
    """Draw one panel for each (state, number of the checkpoint, title)."""
    down = -(-len(panels) // ACROSS)
    across = -(-len(panels) // down)
    coordinates = [maps.coordinates(state, checkpoint) for state, checkpoint, _ in panels]
    high = (1.85 + 0.15 * (maps.map in PLANES)) * down + 0.2
    figure = new_figure(1.55 * across, high, "compressed")
    axes = figure.subplots(down, across, squeeze=False).flat
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    values = []
    for ax, (state, checkpoint, name), shown in zip(axes, panels, coordinates, strict=False):
        values.append(maps.draw(ax, state, checkpoint, size=3.0))
        _frame(ax, np.concatenate(coordinates) if same_scale else shown)
        maps.name_groups(ax, state, checkpoint)
        ax.set_title("\n".join([name, *maps.score(state, checkpoint)]))
    write_heading(figure, title)
    maps.add_legend(figure, np.unique(np.concatenate(values)))
    return figure


class _Maps:
    """The maps of one split in one colouring; InputError if the view does not have them."""

    def __init__(self, view: View, split: str | None, color: Color, map: Map, names: bool) -> None:
        self.view, self.color, self.map, self.names = view, color, map, names
        self.split, self.points = view.split(split)
        colors = ("cluster", *self.points.parts)
        if color not in colors:
            raise InputError(f"{view.run}: no colour by {color!r}; there are {', '.join(colors)}")
        if map not in MAPS:
            raise InputError(f"{view.run}: no map {map!r}; there are {', '.join(MAPS)}")
        self.metric = f"ari_{color}" if color in ("distribution", "input", "output") else "ari"
        self.scores = mean_scores(view.table, self.split, self.metric)
        self.title = drawable(view.title(self.split), IN_TITLE)
        n = len(np.unique(self.points.parts[color])) if color in self.points.parts else 0
        if n > SYMBOLS:
            self.title += f"\n{n} {color}s share {SYMBOLS} symbols"

    def coordinates(self, state: str, checkpoint: int) -> Floats:
        """Return the coordinates of the points of a state at a checkpoint, (N, 2)."""
        coordinates: Floats = self.points.maps[self.map, state][checkpoint]
        return coordinates

    def score(self, state: str, checkpoint: int) -> list[str]:
        """Return the line of a title with the ARI of the state's clusters, if it was scored."""
        value = self.scores.get((state, self.view.steps[checkpoint]))
        name = "ARI" if self.metric == "ari" else f"ARI against the {self.color}"
        return [] if value is None else [f"{name} {value:z.2f}"]

    def values(self, state: str, checkpoint: int) -> Ints:
        """Return the value of each point that is coloured, (N,)."""
        if self.color == "cluster":
            assigned: Ints = self.points.assigned[state][checkpoint]
            return assigned
        return self.points.parts[self.color]

    def name_groups(self, ax: Axes, state: str, checkpoint: int) -> None:
        """Write the name of each compact group of points at its median, if names are wanted."""
        if not self.names:
            return
        values = self.values(state, checkpoint)
        distinct = np.unique(values)
        names = dict(zip(distinct.tolist(), self._names(distinct, NAME_LENGTH), strict=True))
        box, (low, high) = ax.get_window_extent(), ax.get_xlim()
        # Units of the map per inch; the axes keep their shape, and the final layout is not smaller.
        unit = (high - low) / (min(box.width, box.height) / ax.figure.dpi)
        scale = 1.1 * unit * NAME_SIZE / STYLE["font.size"]
        widths = {value: scale * room([name]) for value, name in names.items()}
        placed = place_names(
            self.coordinates(state, checkpoint), values, widths, 1.25 * unit * NAME_SIZE / 72
        )
        text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": NAME_SIZE, "zorder": 5}
        halo = withStroke(linewidth=1.6, foreground="white")
        for value, (x, y) in placed.items():
            ax.text(x, y, names[value], weight="bold", path_effects=[halo], **text)

    def draw(self, ax: Axes, state: str, checkpoint: int, size: float) -> Ints:
        """Draw the points of a state at a checkpoint and return their distinct values."""
        values = self.values(state, checkpoint)
        symbols, coordinates = values % SYMBOLS, self.coordinates(state, checkpoint)
        present = np.unique(symbols)
        # A Matplotlib collection has one shape. In turns, so that none lies on top of all others.
        turns = TURNS if len(present) <= IN_TURNS else 1
        for turn, number in itertools.product(range(turns), present):
            x, y = coordinates[turn::turns][symbols[turn::turns] == number].T
            color, marker, area = symbol(number)
            ax.scatter(x, y, s=size * area, color=color, marker=marker, linewidths=0)
        if self.map in PLANES:
            ax.set_xlabel(self._shares(state, checkpoint))
        return np.unique(values)

    def _shares(self, state: str, checkpoint: int) -> str:
        """Return what share of the variance a plane shows, in words."""
        share = self.points.shown_variance[self.map, state][checkpoint]
        if self.map != "centroids":
            return f"{share:.0%} of the variance"
        between = self.points.shown_between[state][checkpoint]
        return f"{share:.0%} of the variance,\n{between:.0%} of that between tasks"

    def add_legend(self, figure: Figure, values: Ints) -> None:
        """Name the values, if they are few, beside the panels; this makes the figure wider."""
        if len(values) > NAMED:
            return
        wide, high = figure.get_size_inches()
        columns = -(-len(values) // int((high - 0.4) / 0.145))
        figure.set_figwidth(wide + columns * (0.3 + room(self._names(values))))
        self._legend(figure, values, loc="outside right center", ncols=columns)

    def add_legend_beside(self, ax: Axes, values: Ints) -> None:
        """Name the values, if they are few, at the right side of the axes."""
        if len(values) <= NAMED:
            self._legend(ax, values, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)

    def _legend(self, parent: Figure | Axes, values: Ints, **layout: Any) -> None:
        """Add a legend of the values."""
        legend = parent.legend(
            self._handles(values),
            ["" for _ in values],
            title="cluster of" if self.color == "cluster" else self.color,
            alignment="left",
            handletextpad=0.1,
            columnspacing=0.8,
            **layout,
        )
        name_entries(legend, self._names(values))

    def _names(self, values: Ints, longest: int = LONGEST) -> list[str]:
        """Return the name of each value."""
        names = self.view.names["task" if self.color == "cluster" else self.color]
        return [drawable(value_name(names, value), longest) for value in values]

    def _handles(self, values: Ints) -> list[Line2D]:
        """Return a symbol for each value."""
        handles = []
        for value in values:
            color, marker, area = symbol(value)
            point: dict[str, Any] = {"marker": marker, "markersize": 4 * area**0.5}
            point |= {"color": color, "linestyle": "", "markeredgewidth": 0}
            handles.append(Line2D([], [], **point))
        return handles


def _frame(ax: Axes, points: Floats) -> None:
    """Draw a square around the points, without ticks: the coordinates have no meaning."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.53 * max(float((high - low).max()), 1e-6)
    for axis, middle in zip("xy", (low + high) / 2, strict=True):
        ax.set(**{f"{axis}lim": (middle - half, middle + half), f"{axis}ticks": []})
    ax.set_aspect("equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color="0.8")
