"""Name lines at their right ends, without overlaps at any size of the figure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from tasklens.report.style import IN_TITLE, drawable

GAPS = (2.0, 9.0, 2.0)
"""Points from the end of a line to its leader, from the axes to a label, and from it to the
leader."""


class End(NamedTuple):
    """The right end of a line, in data coordinates, and its name."""

    name: str
    x: float
    y: float
    color: Any


def label_ends(ax: Axes, ends: Sequence[End]) -> None:
    """Write the name of each line right of the axes, at the height of its end.

    Names that would overlap move up or down as little as possible; a thin leader connects each to
    its line. If they need more height than the axes have, the last of `ends` are left out.
    """
    if ends:
        ax.add_artist(EndLabels(ax, ends))


class EndLabels(Artist):
    """Labels that are placed whenever they are drawn, for the size of the axes at that time."""

    zorder = 4

    def __init__(self, ax: Axes, ends: Sequence[End]) -> None:
        """Make the text and the leader of each end."""
        super().__init__()
        self.set_figure(ax.figure)
        self.set_clip_on(False)
        self._ax, self._ends = ax, ends
        self._texts = [
            Text(text=drawable(end.name, IN_TITLE), color=end.color, va="center") for end in ends
        ]
        thin: dict[str, Any] = {"linewidth": 0.5, "solid_capstyle": "butt"}
        self._leaders = [Line2D([], [], color=end.color, **thin) for end in ends]
        for child in self.get_children():
            child.set_figure(ax.figure)

    def get_children(self) -> list[Artist]:
        """Return texts and leaders."""
        return [*self._texts, *self._leaders]

    def _arrange(self, renderer: RendererBase | None) -> None:
        """Move texts and leaders to their pixels."""
        box, point = self._ax.bbox, self._ax.figure.dpi / 72
        high = max(text.get_window_extent(renderer).height for text in self._texts)
        fitting = max(1, int(box.height // high))
        kept = range(min(len(self._ends), fitting))
        points = [(self._ends[i].x, self._ends[i].y) for i in kept]
        ends: NDArray[np.float64] = np.asarray(self._ax.transData.transform(points))  # (kept, 2)
        heights = spread(ends[:, 1], high, box.y0 + high / 2, box.y1 - high / 2)
        left = box.x1 + GAPS[1] * point
        for i, (text, leader) in enumerate(zip(self._texts, self._leaders, strict=True)):
            text.set_visible(i in kept)
            leader.set_visible(i in kept)
            if i in kept:
                text.set_position((left, heights[i]))
                begin = ends[i, 0] + GAPS[0] * point
                bend = min(begin + GAPS[0] * point, left - GAPS[2] * point)
                across = [begin, bend, left - GAPS[2] * point]
                leader.set_data(across, [ends[i, 1], ends[i, 1], heights[i]])

    def draw(self, renderer: RendererBase) -> None:
        """Draw the labels if this artist is visible."""
        if self.get_visible():
            self._arrange(renderer)
            for child in self.get_children():
                child.draw(renderer)
        self.stale = False

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        """Return the box of all labels, in pixels."""
        self._arrange(renderer)
        return Bbox.union([text.get_window_extent() for text in self._texts if text.get_visible()])

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox:
        """Return the box for which a layout makes room."""
        return self.get_window_extent(renderer)


def spread(
    heights: NDArray[np.float64], least: float, low: float, high: float
) -> NDArray[np.float64]:
    """Return the heights nearest to some heights that differ by at least ``least``.

    The sum of squared changes is the least possible between ``low`` and ``high``: this is an
    isotonic regression of the heights minus the room of those below, which is then clipped.
    """
    order = np.argsort(heights, kind="stable")
    below = least * np.arange(len(heights))
    free = isotonic_regression(heights[order] - below).x
    moved = np.empty(len(heights))
    moved[order] = np.clip(free, low, max(low, high - below[-1])) + below
    return moved
