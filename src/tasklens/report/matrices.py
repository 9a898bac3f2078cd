"""Draw matrices of values from 0 to 1 as colours: the parts that the heat maps share."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tasklens.report.step_axis import step_label
from tasklens.report.style import drawable

Values = npt.NDArray[np.float64]

#: The largest number of columns whose cells contain numbers, and of rows that are all named.
NUMBERED, NAMED_ROWS = 12, 60
COLORS = "cividis"
#: An ARI up to `FAINT` is hardly a colour of the scale. Of a matrix of tasks, all pairs are about
#: equal if they differ by less than `EVEN`. The report's page has the same limits.
FAINT, EVEN = 0.1, 0.1


def matrix_side(n: int) -> float:
    """Return the length of n cells in inches."""
    return max(1.5, n * (0.26 if n <= NUMBERED else 0.14))


def draw_matrix(
    ax: Axes,
    values: Values,
    numbers: npt.NDArray[np.generic] | None = None,
    aspect: Literal["equal", "auto"] = "auto",
    origin: Literal["upper", "lower"] = "upper",
) -> None:
    """Draw values from 0 to 1 as colours, with numbers in the cells if there are few columns."""
    ax.set_facecolor("0.9")
    ax.imshow(
        values, cmap=COLORS, vmin=0, vmax=1, aspect=aspect, origin=origin, interpolation="nearest"
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if numbers is not None and numbers.shape[1] <= NUMBERED:
        centred: dict[str, Any] = {"ha": "center", "va": "center"}
        for (row, column), number in np.ndenumerate(numbers):
            if np.isfinite(values[row, column]):
                color = "white" if values[row, column] < 0.5 else "black"
                ax.text(column, row, f"{number:g}", color=color, fontsize=5.5, **centred)


def name_cells(ax: Axes, axis: Literal["x", "y"], names: Sequence[str]) -> None:
    """Write the names of rows or columns, or some of them if they are many."""
    some = range(0, len(names), -(-len(names) // NAMED_ROWS))
    set_ticks = ax.set_xticks if axis == "x" else ax.set_yticks
    set_ticks(some, [names[i] for i in some], rotation=90 if axis == "x" else 0)


def name_checkpoints(ax: Axes, steps: Sequence[int], names: Mapping[int, str]) -> None:
    """Write the steps of some of the columns, which are checkpoints, or the names of all steps."""
    if names:
        name_cells(ax, "x", [drawable(names.get(step, str(step))) for step in steps])
        return
    last = len(steps) - 1
    # At equal distances if possible: names of neighbours would overlap.
    ticks = next((n for n in (5, 4, 3) if last % (n - 1) == 0), 5 if last > 9 else 2)
    some = np.unique(np.linspace(0, last, ticks).round().astype(int))
    shown = [steps[i] for i in some]
    ax.set_xticks(some, [step_label(step) for step in shown])
    ax.set_xlabel("training step")


def draw_scale(figure: Figure, axes: Sequence[Axes], label: str) -> None:
    """Draw the scale of colours beside the axes."""
    colors = ScalarMappable(Normalize(0, 1), COLORS)
    bar = figure.colorbar(colors, ax=list(axes), label=label, fraction=0.05, aspect=25, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "0.25", "0.5", "0.75", "1"])
    bar.ax.tick_params(length=2)
