"""Checks and texts of a drawn figure, for tests."""

import itertools

from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick
from matplotlib.figure import Figure
from matplotlib.text import Text

from tasklens.report.end_labels import EndLabels


def assert_nothing_cut_off(figure: Figure, *, covered: bool = False) -> None:
    """Check that all is inside the figure's edges, and that no legend covers a panel."""
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # inches
    wide, high = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= wide + 0.01
    assert drawn.y1 <= high + 0.01
    for legend in figure.legends:
        for ax in figure.axes:
            around = ax.get_tightbbox()
            assert around is not None
            assert covered or not legend.get_window_extent().overlaps(around)


def assert_no_texts_overlap(figure: Figure) -> None:
    """Check that no two texts of a figure overlap: names, titles, ticks and legends."""
    figure.draw_without_rendering()
    ticks = [tick for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for tick in _ticks(axis)]
    texts = {*figure.findobj(Text)} - {label for tick in ticks for label in tick.findobj(Text)}
    texts |= {label for ax in figure.axes for label in ax.get_xticklabels(which="both")}
    texts |= {label for ax in figure.axes for label in ax.get_yticklabels(which="both")}
    shown = [text for text in texts if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    for (one, box), (other, second) in itertools.combinations(boxes, 2):
        assert not box.padded(-0.5).overlaps(second), f"{one!r} and {other!r} overlap"


def _ticks(axis: Axis) -> list[Tick]:
    return [*axis.get_major_ticks(), *axis.get_minor_ticks()]


def named_ends(ax: Axes) -> list[str]:
    """Return the names at the ends of a panel's lines, the most important first."""
    labels = [artist for artist in ax.artists if isinstance(artist, EndLabels)]
    texts = [child for each in labels for child in each.get_children() if isinstance(child, Text)]
    return [text.get_text() for text in texts]


def title(ax: Axes) -> str:
    return ax.get_title(loc="left")


def legend(figure: Figure) -> list[str]:
    """Return the texts of a figure's legend."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def ticks(ax: Axes, axis: str = "x") -> list[str]:
    labels = ax.get_xticklabels() if axis == "x" else ax.get_yticklabels()
    return [tick.get_text() for tick in labels]
