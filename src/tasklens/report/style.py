"""Define the style of all figures: fonts, symbols, shared axes, and files.

No figure uses pyplot. No figure needs a display, or changes Matplotlib's global state.
Names from a user's files are text: `in_style` keeps Matplotlib from reading "$" as mathematics, and
`drawable` writes out what cannot be drawn.
"""

import functools
import io
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
from matplotlib import rcParams, rcParamsDefault, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.legend import Legend
from matplotlib.text import Text

from tasklens.core.text import visible, written_out

#: Text is drawn as it is, also in axes whose style has mathematics or TeX.
AS_IT_IS = {"text.parse_math": False, "text.usetex": False}
STYLE: dict[str, Any] = {
    **AS_IT_IS,
    "font.size": 7.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "lines.markersize": 2.8,
    "lines.markeredgewidth": 0.8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.titlesize": "medium",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: journals refuse the default, Type 3
}

#: Settings of Matplotlib in which a user's own values count: fonts and sizes of text, lines of axes
#: and grids, and the fonts in files. Colours, sizes of figures and layouts are the figures' own.
RESPECTED = re.compile(
    r"(font|mathtext|pdf|ps|svg)\.|(axes|figure)\.(title|label)(size|weight)$"
    r"|[xy]tick\.(labelsize|direction|major|minor)|legend\.(font|title_font)size$"
    r"|axes\.(linewidth|grid|spines)|grid\.(linestyle|linewidth|alpha)"
)

P = ParamSpec("P")
R = TypeVar("R")


def in_style(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in `STYLE` over Matplotlib's defaults, and over both what a user set.

    Of a user's ``rcParams`` those count that match `RESPECTED` and differ from Matplotlib's
    defaults. Axes that are given as ``ax`` or ``axes`` keep their own style, in which only text is
    drawn as it is. Text that is set later may be mathematics again, as Matplotlib's users expect.
    """
    unstyled = style.context(AS_IT_IS)(draw)

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        given = _axes_in(kwargs.get("ax"), kwargs.get("axes"))
        before = {text: text.get_text() for ax in given for text in _texts(ax)}
        if given:
            result = unstyled(*args, **kwargs)
        else:
            with style.context(["default", {**STYLE, **_own_settings(), **AS_IT_IS}]):
                result = draw(*args, **kwargs)
        changes: list[object] = [*given] or [result]
        for changed in changes:
            for text in _texts(changed):
                if text.get_text() != before.get(text):
                    text.set_usetex(False)
                    text.set_parse_math("$" not in text.get_text())
            for label in _tick_labels(changed):  # which get their text later
                label.set_usetex(False)
                label.set_parse_math(False)
        return result

    return drawn


def _own_settings() -> dict[str, Any]:
    """Return the settings of the user that count."""
    names = filter(RESPECTED.match, rcParamsDefault)
    return {name: rcParams[name] for name in names if rcParams[name] != rcParamsDefault[name]}


def _axes_in(*given: object) -> list[Axes]:
    """Return the axes among arguments, which are axes or sequences or arrays of them."""
    each: list[object] = []
    for one in given:
        each += list(np.ravel(np.asarray(one, object))) if isinstance(one, Iterable) else [one]
    return [ax for ax in each if isinstance(ax, Axes)]


def _texts(artist: object) -> list[Text]:
    """Return all text in a figure or in axes; nothing of what is neither."""
    return artist.findobj(Text) if isinstance(artist, Figure | Axes) else []


def _tick_labels(artist: object) -> list[Text]:
    """Return the labels of the ticks in a figure or in axes, and of the axes that share them."""
    axes = artist.axes if isinstance(artist, Figure) else [artist]
    shared = [
        getattr(other, axis)
        for ax in axes
        if isinstance(ax, Axes)
        for axis, group in (("xaxis", ax.get_shared_x_axes()), ("yaxis", ax.get_shared_y_axes()))
        for other in group.get_siblings(ax)
    ]
    ticks = [tick for axis in shared for tick in axis.get_major_ticks()]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


#: The number of characters up to which a name is drawn whole, and in the title of a panel.
LONGEST, IN_TITLE = 300, 60


def drawable(name: str, longest: int = LONGEST) -> str:
    r"""Return a name as one line that the fonts of the current style can draw.

    A character that they do not have, or that is no text, is written out, e.g. ``\u732b``; this
    keeps names apart. The middle of a name of more than `longest` characters is an ellipsis.
    """
    fonts = [findfont(FontProperties(family=[family])) for family in FontProperties().get_family()]
    shown = "".join(
        character
        if any(ord(character) in _characters(font) for font in fonts)
        else written_out(character)
        for character in visible(_shortened(name, longest))
    )
    return _shortened(shown, longest)


def _shortened(text: str, longest: int) -> str:
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}\u2026{text[-half:]}"


@functools.cache
def _characters(font: str) -> frozenset[int]:
    """Return the characters that the font in a file has."""
    return frozenset(get_font(font).get_charmap())


def room(names: Collection[str]) -> float:
    """Return the inches that the longest of some drawable names takes in the style's font size."""
    font = get_font(findfont(FontProperties()))
    # At least the width of usual letters, so that most names have equal room.
    widths = [0.056 * max(map(len, names), default=0)]
    for dpi in (100, 200):  # of figures, and of files; hinting rounds the widths of letters to dots
        font.set_size(STYLE["font.size"], dpi)
        for name in names:
            font.set_text(name)
            widths.append(font.get_width_height()[0] / 64 / dpi)
    return max(widths)


def name_entries(legend: Legend, names: Iterable[str]) -> None:
    """Name the entries of a legend.

    Labels that begin with "_" would be left out by some versions of Matplotlib.
    """
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(drawable(name))


#: Ten colours, which the report's page has, too. Each has a contrast of at least 3 with white. The
#: Oklab distance of any two is at least 0.16 (Ottosson, "A perceptual color space for image
#: processing", 2020; 0.02 is just visible), and at least 0.085 for readers without red or green
#: cones, 0.07 without blue ones. The model of vision is that of Machado, Oliveira and Fernandes, "A
#: physiologically-based model for simulation of color vision deficiency", 2009.
PALETTE = (
    *("#38229a", "#e56700", "#669865", "#d85fbc", "#672c0e"),
    *("#0e8efa", "#8249cf", "#a5485a", "#446407", "#136992"),
)
#: Seven shapes; with ten colours, 70 symbols before the first repeats.
MARKERS = ("o", "^", "s", "D", "P", "v", "X")
#: Factors on the area of each shape, so that all look equally large.
AREAS = (1.0, 1.15, 0.8, 0.7, 1.2, 1.15, 1.2)
SYMBOLS = len(PALETTE) * len(MARKERS)

NAMED_STATES = 20
"""The largest number of hidden states that are all named along an axis."""
SPACINGS = (5, 10, 20, 50, 100)
"""Of more hidden states, every block of one of these numbers is named: at most `FEW_NAMED`."""
FEW_NAMED = 10
QUARTERS = (0, 0.25, 0.5, 0.75, 1)


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

    It is larger if the user's font is larger than the style's. A layout makes room for text:
    "compressed" if axes keep their shape. None makes no room.
    """
    larger = text_scale()
    figure = NotebookFigure(figsize=(larger * wide, larger * high), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def text_scale() -> float:
    """Return how much larger the font is than that of `STYLE`."""
    return float(rcParams["font.size"] / STYLE["font.size"])


def figure_of(ax: Axes | None) -> Figure | None:
    """Return the figure that contains the axes, also if they are in one of its subfigures."""
    return None if ax is None else ax.figure.figure


def write_heading(figure: Figure, text: str) -> None:
    """Write a title above all panels, at the left."""
    figure.suptitle(text, x=0.01, ha="left")


@in_style
def render(figure: Figure, format: Literal["png", "pdf"]) -> bytes:
    """Return the figure as a file; the same figure gives the same bytes.

    A PNG has 200 dots per inch. Neither format contains a date.
    """
    sink = io.BytesIO()
    metadata = {"CreationDate": None} if format == "pdf" else None
    figure.savefig(sink, format=format, dpi=200, metadata=metadata)
    return sink.getvalue()


def share_axis(ax: Axes, lowest: float = 0.0) -> None:
    """Scale the y axis for shares and scores up to 1, with a tick per quarter."""
    ax.set_ylim(min(-0.05, lowest), 1.03)
    ax.set_yticks(QUARTERS, ["0", "0.25", "0.5", "0.75", "1"])
    ax.tick_params(length=2)


def state_axis(ax: Axes, states: Sequence[str], step: int | None = None) -> None:
    """Name the hidden states along the x axis, of many only some; and their training step."""
    ticks = named_states(states)
    ax.set_xticks(ticks, [drawable(states[i]) for i in ticks], rotation=90)
    ax.set_xlabel("hidden state" if step is None else f"hidden state, at step {step:,}")


def named_states(states: Sequence[str]) -> list[int]:
    """Return the indices of the hidden states that are named along an axis.

    Of many, these are the first, the last, and blocks with round numbers. A block is left out if
    its name would overlap that of an end.
    """
    n = len(states)
    if n <= NAMED_STATES:
        return list(range(n))
    every = next((spacing for spacing in SPACINGS if n <= FEW_NAMED * spacing), SPACINGS[-1])
    blocks = {i: re.fullmatch(r"block(\d+)", state) for i, state in enumerate(states)}
    some = [i for i, block in blocks.items() if block and int(block[1]) % every == 0]
    if not some:
        some = list(range(0, n, every))
    least = n / (2 * FEW_NAMED)
    return [0, *(i for i in some if min(i, n - 1 - i) >= least), n - 1]
