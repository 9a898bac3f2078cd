"""Draw Figure 1 in the manner of the paper: dots by layer through training, on a linear axis."""

import re
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasklens.core.errors import InputError
from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.report.figure1_panels import panels_in, states_in
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.layer_looks import line_look
from tasklens.report.layout import add_legend, panels_of
from tasklens.report.step_axis import step_axis
from tasklens.report.style import IN_TITLE, drawable, share_axis, symbol
from tasklens.scoring.score_table import layers_in_order

#: Splits whose titles are those of the paper.
TITLES = {"train_subset": "training", "val_subset": "validation"}
#: Inches: width and height of a panel; points: diameter of a dot.
PANEL, DOT = (2.9, 2.3), 2.8


def draw_paper(scores: pa.Table, settings: FigureSettings, axes: Sequence[Axes] | None) -> Figure:
    """Draw a dot per layer, checkpoint and run, for the first two splits.

    A dot is the mean over the starts of KMeans. Layer 0 is `embed`, and layer n is `blockn`: the
    other hidden states are no layers of the paper, and are left out.

    Raises InputError if there is one checkpoint only.
    """
    panels = dict([*panels_in(scores, settings, separate=("run", "seed")).items()][:2])
    known = layers_in_order({state for lines in panels.values() for state in states_in(lines)})
    layers = {number: state for state in known if (number := layer_number(state)) is not None}
    courses = [lines[s] for lines in panels.values() for s in layers.values() if s in lines]
    steps = sorted({step for course in courses for step in course.index.get_level_values("step")})
    if len(steps) < 2:
        raise InputError(
            "figure.style = 'paper': should be 'default' for scores of one checkpoint, since the x "
            "axis has training steps"
        )
    figure, shown = panels_of(axes, len(panels), PANEL, 2)
    for i, (ax, (split, lines)) in enumerate(zip(shown, panels.items(), strict=True)):
        title = TITLES.get(split, SPLIT_MEANINGS.get(split, drawable(split, IN_TITLE)))
        ax.set_title(f"({ascii_lowercase[i]}) {title}")
        share_axis(ax, min(course["mean"].min() for course in courses))
        for number, state in layers.items():
            if state in lines:
                course = lines[state]["mean"].reset_index("step")
                ax.plot("step", "mean", data=course, **_dots(number, state, known))
        step_axis(ax, steps, linear=True)
        if axes is None and i == 0:
            ax.set_ylabel(settings.measure)
    if axes is None:
        handles = [Line2D([], [], **_dots(number, s, known)) for number, s in layers.items()]
        add_legend(figure, handles, [str(handle.get_label()) for handle in handles], most=7)
    return figure


def layer_number(state: str) -> int | None:
    """Return the number that the paper gives a hidden state; None for one that it does not have."""
    block = re.fullmatch(r"block(\d+)", state)
    return 0 if state == "embed" else int(block[1]) if block else None


def _dots(number: int, state: str, states: Sequence[str]) -> dict[str, Any]:
    """Return how the dots of a layer are drawn."""
    _, marker, area = symbol(number)
    return {
        "label": f"layer {number} ({state})",
        "color": line_look(state, states)["color"],
        "marker": marker,
        "markersize": DOT * area**0.5,
        "markeredgewidth": 0,
        "linestyle": "",
        "clip_on": False,
    }
