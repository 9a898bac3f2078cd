"""What tests ask of any figure."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text


def assert_nothing_cut_off(figure: Figure) -> None:
    """Hold all that is drawn to the figure's edges."""
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # inches
    wide, high = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= wide + 0.01
    assert drawn.y1 <= high + 0.01


def sizes(figure: Figure) -> list[Any]:
    """Return what a style changes: the figure's size, those of texts, and the widths of lines."""
    return [
        figure.get_size_inches().tolist(),
        *(text.get_fontsize() for text in figure.findobj(Text)),
        *(line.get_linewidth() for line in figure.findobj(Line2D)),
    ]
