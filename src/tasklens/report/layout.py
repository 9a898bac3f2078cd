"""Lay out panels, and the legend that explains them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.report.style import drawable, figure_of, name_entries, new_figure, room, text_scale

#: Inches: height of a row of the legend.
LEGEND_ROW = 0.14
#: The part of a figure's width that a legend has, so that a narrower figure contains it, too.
PART = 0.75


def panels_of(
    axes: Axes | Sequence[Axes] | None,
    n: int,
    size: tuple[float, float],
    across: int,
    left: float = 0.45,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and n panels in it: those that the user gave, or new ones of a size.

    Panels have a common y axis; ``size`` is the width and the height of each in inches.
    """
    if axes is not None:
        given = [axes] if isinstance(axes, Axes) else list(np.ravel(np.asarray(axes, object)))
        if len(given) != n:
            raise InputError(f"axes: {len(given)} given: should be {n}, one for each panel")
        figure = figure_of(given[0])
        assert figure is not None
        return figure, given
    across = min(n, across)
    down = -(-n // across)
    figure = new_figure(left + size[0] * across, 0.1 + size[1] * down, "constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax in grid.flat[n:]:
        ax.remove()
    return figure, list(grid.flat[:n])


def add_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], most: int = 4
) -> None:
    """Explain lines and bands below all panels, and make the figure higher by the legend's rows.

    The legend has at most some columns, and less if the labels are long.
    """
    if not handles:
        return
    scale = text_scale()
    columns = legend_columns(labels, most, figure.get_figwidth() / scale)
    look: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "handlelength": 2.8}
    look |= {"columnspacing": 1.4, "labelspacing": 0.25, "borderpad": 0.2}
    name_entries(figure.legend(handles, ["" for _ in labels], **look), labels)
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + scale * (0.06 + LEGEND_ROW * rows))


def legend_columns(labels: Sequence[str], most: int, wide: float) -> int:
    """Return the number of columns of a legend that fit into a part of a width in inches."""
    for n in range(min(most, len(labels)), 1, -1):
        columns = [[drawable(name) for name in part] for part in np.array_split(labels, n)]
        if sum(0.5 + room(names) for names in columns) <= PART * wide:
            return n
    return 1
