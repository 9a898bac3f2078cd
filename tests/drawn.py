"""Checks and texts of a drawn figure, for tests."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


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


def title(ax: Axes) -> str:
    return ax.get_title(loc="left")


def legend(figure: Figure) -> list[str]:
    """Return the texts of a figure's legend."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def ticks(ax: Axes, axis: str = "x") -> list[str]:
    labels = ax.get_xticklabels() if axis == "x" else ax.get_yticklabels()
    return [tick.get_text() for tick in labels]
