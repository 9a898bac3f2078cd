"""Draw the points of one hidden state into axes, with names of groups, a legend and a score."""

import itertools
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
    name_entries,
    room,
    symbol,
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


class MapDrawing:
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

    def numbers(self, values: Ints) -> Ints:
        """Return the number of the symbol of each value, which is counted among those in the split.

        Clusters without a task come after the tasks.
        """
        by_cluster = self.color == "cluster"
        n = len(self.view.names["task" if by_cluster else self.color])
        if self.color in ("cluster", "task"):
            present = next(iter(self.points.followed.values())).tasks
        else:
            present = np.unique(self.points.parts[self.color])
        return np.where(values < n, np.searchsorted(present, values), len(present) + values - n)

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
        coordinates, height = self.coordinates(state, checkpoint), 1.25 * unit * NAME_SIZE / 72
        placed = place_names(coordinates, values, widths, height, limits=(low, high))
        text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": NAME_SIZE, "zorder": 5}
        halo = withStroke(linewidth=1.6, foreground="white")
        for value, (x, y) in placed.items():
            ax.text(x, y, names[value], weight="bold", path_effects=[halo], **text)

    def draw(self, ax: Axes, state: str, checkpoint: int, size: float) -> Ints:
        """Draw the points of a state at a checkpoint and return their distinct values."""
        values = self.values(state, checkpoint)
        symbols = self.numbers(values) % SYMBOLS
        coordinates = self.coordinates(state, checkpoint)
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
        for number in self.numbers(values):
            color, marker, area = symbol(int(number))
            point: dict[str, Any] = {"marker": marker, "markersize": 4 * area**0.5}
            point |= {"color": color, "linestyle": "", "markeredgewidth": 0}
            handles.append(Line2D([], [], **point))
        return handles


def frame_points(ax: Axes, points: Floats) -> None:
    """Draw a square around the points, without ticks: the coordinates have no meaning."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.53 * max(float((high - low).max()), 1e-6)
    for axis, middle in zip("xy", (low + high) / 2, strict=True):
        ax.set(**{f"{axis}lim": (middle - half, middle + half), f"{axis}ticks": []})
    ax.set_aspect("equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color="0.8")
