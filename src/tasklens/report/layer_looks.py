"""Colours, dashes and names of the lines of hidden states, of the accuracy and of controls."""

from collections.abc import Collection, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.patheffects import withStroke

SHUFFLED = "control:shuffled"
#: Names of what is no hidden state: whole, and short at the end of a line.
LABELS = {
    "model": ("accuracy", "accuracy"),
    "control:length": ("control: instruction length", "length"),
    "control:symbols": ("control: bag of symbols", "symbols"),
    SHUFFLED: ("control: shuffled labels", "shuffled"),
}
#: A white edge, so that a control is seen on bands and across other lines.
EDGE = [withStroke(linewidth=2.2, foreground="white", alpha=0.8)]
CONTROL: dict[str, Any] = {"color": "0.35", "linewidth": 0.9}
STYLES: dict[str, dict[str, Any]] = {
    "wte": {"color": "#5a7d00", "linestyle": ":", "marker": "x", "linewidth": 1.2},
    "embed": {"color": "#0f86c8", "linestyle": "-.", "marker": "s", "linewidth": 1.2},
    "ln_f": {"color": "#00838f", "linestyle": (0, (4, 1)), "marker": "^", "linewidth": 1.2},
    "model": {"color": "black", "linestyle": "--", "linewidth": 1.2},
    "control:length": {**CONTROL, "linestyle": "-"},
    "control:symbols": {**CONTROL, "linestyle": (0, (6, 2))},
    SHUFFLED: {**CONTROL, "linestyle": ":"},
}
#: Colours of the first and of the last block in the scale "inferno". Both have a contrast of at
#: least 3 with white. The lightness of blocks falls evenly.
FIRST, LAST = 0.64, 0.12
NAMED_BLOCKS = 8
"""At most about this many blocks are named at the ends of their lines."""


def line_look(line: str, states: Sequence[str]) -> dict[str, Any]:
    """Return how a line is drawn; blocks go from light to dark, from the lowest to the highest."""
    if line in STYLES:
        return STYLES[line]
    blocks = [state for state in states if state not in STYLES]
    height = blocks.index(line) / max(1, len(blocks) - 1)
    color = to_hex(colormaps["inferno"](FIRST + (LAST - FIRST) * height))
    return {"color": color, "linestyle": "-", "linewidth": 1.2}


def by_importance(lines: Collection[str]) -> list[str]:
    """Return the lines that are named at their ends, the most important first.

    Of many blocks some are named, among them the last.
    """
    blocks = [line for line in lines if line not in STYLES]
    every = max(1, -(-len(blocks) // NAMED_BLOCKS))
    others = ("model", "ln_f", "control:symbols", "embed", "control:length", "wte", SHUFFLED)
    named = blocks[::-1][::every]
    return [*named[:1], *(line for line in others if line in lines), *named[1:]]
