"""Define the style of all figures: fonts, symbols, the axis of training steps, and files.

No figure uses pyplot. No figure needs a display, or reads or changes Matplotlib's global state.
"""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Literal, ParamSpec, TypeVar

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

STYLE = {
    "font.size": 7.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "lines.markersize": 2.8,
    "lines.markeredgewidth": 0.8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: journals refuse the default, Type 3
}

P = ParamSpec("P")
R = TypeVar("R")


def in_style(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in `STYLE` over Matplotlib's defaults, whatever a matplotlibrc contains.

    Axes that are given as ``ax`` keep their own style.
    """
    styled = style.context(["default", STYLE])(draw)

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        return (styled if kwargs.get("ax") is None else draw)(*args, **kwargs)

    return drawn


#: Eight colours. Each has a contrast of at least 3 with white. The CIELAB distance of any two is at
#: least 21, also for readers without one kind of cones. The model of vision is that of Machado,
#: Oliveira and Fernandes, "A physiologically-based model for simulation of color vision
#: deficiency", 2009.
PALETTE = (
    *("#0c3e71", "#d47505", "#027557", "#b779a3"),
    *("#885204", "#0f94df", "#663ab8", "#96052c"),
)
#: Seven shapes; with eight colours, 56 symbols before the first repeats.
MARKERS = ("o", "^", "s", "D", "P", "v", "X")
#: Factors on the area of each shape, so that all look equally large.
AREAS = (1.0, 1.15, 0.8, 0.7, 1.2, 1.15, 1.2)
SYMBOLS = len(PALETTE) * len(MARKERS)

NAMED_STATES = 20
"""The largest number of hidden states that are named along an axis."""

FEW_EVEN = 50
"""Up to this many evenly spaced checkpoints are drawn on a linear axis."""


def symbol(value: int) -> tuple[str, str, float]:
    """Return the colour, the shape and the factor on the area for value number `value`."""
    shape = value % len(MARKERS)
    return PALETTE[value % len(PALETTE)], MARKERS[shape], AREAS[shape]


class NotebookFigure(Figure):
    """A figure that a notebook displays, although pyplot does not know it."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return what IPython displays: a PNG of 200 dots per inch, shown at half of its size."""
        wide, high = self.get_size_inches()
        return render(self, "png"), {"width": round(100 * wide), "height": round(100 * high)}


def new_figure(
    wide: float, high: float, layout: Literal["compressed", "constrained"] | None = None
) -> Figure:
    """Return an empty figure of this size in inches, which pyplot does not know.

    A layout makes room for text: "compressed" if axes keep their shape. None makes no room.
    """
    figure = NotebookFigure(figsize=(wide, high), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def figure_of(ax: Axes | None) -> Figure | None:
    """Return the figure that contains the axes, also if they are in one of its subfigures."""
    return None if ax is None else ax.figure.figure


def write_heading(figure: Figure, text: str) -> None:
    """Write a title above all panels, at the left."""
    figure.suptitle(text, fontsize=7.5, x=0.01, ha="left")


@in_style
def render(figure: Figure, format: Literal["png", "pdf"]) -> bytes:
    """Return the figure as a file; the same figure gives the same bytes.

    A PNG has 200 dots per inch. Neither format contains a date.
    """
    sink = io.BytesIO()
    metadata = {"CreationDate": None} if format == "pdf" else None
    figure.savefig(sink, format=format, dpi=200, metadata=metadata)
    return sink.getvalue()


def state_axis(ax: Axes, states: Sequence[str], step: int) -> None:
    """Name the hidden states along the x axis; of many, only some, down from the last."""
    every = -(-len(states) // NAMED_STATES)
    ticks = range(len(states) - 1, -1, -every)
    ax.set_xticks(ticks, [states[i] for i in ticks], rotation=90)
    ax.set_xlabel(f"hidden state, at step {step:,}")


def step_axis(ax: Axes, steps: Sequence[int]) -> None:
    """Scale the x axis linearly up to some step, so that step 0 shows, and then logarithmically."""
    ax.set_xlabel("training step")
    if len(steps) == 1:
        return
    ax.set_xlim(steps[0], steps[-1])
    if len(steps) <= FEW_EVEN and len(set(np.diff(steps))) == 1:
        return
    # Linear up to the first evenly spaced checkpoint, or otherwise up to the first checkpoint.
    spacing = int(np.diff(steps).max())
    linear = spacing if steps[-1] > 4 * spacing else next(step for step in steps if step > 0)
    if steps[-1] <= 4 * linear:
        return
    ax.set_xscale("symlog", linthresh=linear, linscale=0.5)
    multiples = (1, 2, 5) if steps[-1] < 100 * linear else (1,)
    ticks = [m * 10**p for p in range(len(str(steps[-1]))) for m in multiples]
    ticks = [0] * int(steps[0] == 0) + [t for t in ticks if linear <= t <= steps[-1]]
    ax.set_xticks(ticks, [f"{t // 1000:,}k" if t >= 1000 else str(t) for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
