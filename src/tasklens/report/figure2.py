"""Draw Figure 2: what is in the hidden states, with and without clustering."""

from collections.abc import Mapping
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.data.instances import split_title
from tasklens.report.figure1_panels import band_title
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.step_axis import step_axis
from tasklens.report.style import (
    IN_TITLE,
    drawable,
    in_style,
    new_figure,
    room,
    share_axis,
    state_axis,
    write_heading,
)
from tasklens.report.summary import mean_scores, score_ranges
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.classifiers import NEIGHBOURS
from tasklens.scoring.score_table import (
    as_table,
    at_position,
    layers_in_order,
    main_scores,
    positions_of,
)

if TYPE_CHECKING:
    import pandas as pd

#: Black and a grey, since colours are those of tasks on maps. Both stand out from white in print.
COLORS = {"task": "#000000", "distribution": "#000000", "input": "#767676", "output": "#767676"}

Look: TypeAlias = tuple[str, str, str]
"""Which of `COLORS` a line has, its dashes, and its label."""

#: The look of each line, by the title of a panel and by metric.
PANELS: dict[str, dict[str, Look]] = {
    "ARI of the clusters": {
        "ari": ("task", "-", "against the task"),
        "ari_distribution": ("distribution", "-.", "against the distribution"),
        "ari_input": ("input", "--", "against the input"),
        "ari_output": ("output", ":", "against the output"),
    },
    "share of the variance": {
        "variance_task": ("task", "-", "between tasks"),
        "variance_distribution": ("distribution", "-.", "between distributions"),
        "variance_input": ("input", "--", "between inputs"),
        "variance_output": ("output", ":", "between outputs"),
    },
    "recovery of the task": {
        "probe_task": ("task", "-", "linear probe: accuracy"),
        "centroid_task": ("task", "-.", "nearest centroid: accuracy"),
        "neighbours_task": ("task", "--", f"{NEIGHBOURS} neighbours: accuracy"),
        "ari": ("task", ":", "clusters: ARI"),
    },
}
#: Height in inches of the legends, and of one row of panels.
LEGEND, ROW = 0.61, 1.95
BAND_ALPHA = 0.15
CORNERS = ("left", "center", "right")


@in_style
def figure2(
    table: "pa.Table | pd.DataFrame",
    split: str = "val_subset",
    chosen_on: str = "train_subset",
    position: str = "",
    *,
    steps: bool = True,
) -> Figure:
    """Draw what is in the hidden states: by state at the last step, and by step in the best layer.

    Lines are means over runs and cluster seeds, in the space "raw", which is that of the hidden
    states themselves. Bands reach from the lowest to the highest value, as in Figure 1. The best
    layer is chosen on the split `chosen_on`, see `tasklens.scoring.best_layer`. The figure has no
    argument ``axes``, since the number of its panels depends on the table.

    Parameters
    ----------
    table : pandas.DataFrame or pyarrow.Table
        The columns are those of `tasklens.read_scores`. Of several numbers of clusters the first
        counts.
    split, chosen_on : str
        Names of splits in the table.
    position : str
        The measured position; by default the first of the table.
    steps : bool
        False if steps are no training steps: then the best layer is not drawn by step.

    Raises
    ------
    InputError
        If the table has no such scores, or a run in it has none at the position.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure2(tl.load_run("runs/smoke").scores()).savefig("figure2.png")
    """
    whole = as_table(table)
    table = at_position(main_scores(whole), position)
    scores = {m: score_ranges(table, split, m) for lines in PANELS.values() for m in lines}
    layers = layers_in_order({*scores["ari"].index.get_level_values("layer")})
    every = sorted({*scores["ari"].index.get_level_values("step")})
    final = mean_scores(table, chosen_on, "ari") if every else {}
    best = best_layer({(s, "raw"): v for (s, step), v in final.items() if step == every[-1]})
    if best is None:
        raise InputError(
            f"the table has no ARI of a hidden state at the last step on {split} and {chosen_on}"
        )
    down = 2 if steps and len(every) > 1 else 1
    named = max(0, room([*map(drawable, layers)]) - 0.6)
    figure = new_figure(6.6, 0.5 + ROW * down + LEGEND + named, "constrained")
    axes = figure.subplots(down, len(PANELS), sharey=True, squeeze=False)
    for i, ((title, looks), corner) in enumerate(zip(PANELS.items(), CORNERS, strict=True)):
        above, *below = axes[:, i]
        at_last = {m: _at(scores[m], "step", every[-1]) for m in looks}
        _draw(
            above,
            looks,
            {m: rows.set_axis(rows.index.map(layers.index)) for m, rows in at_last.items()},
        )
        state_axis(above, layers, every[-1] if steps else None)
        above.set_title(f"({ascii_lowercase[i]}) {title}")
        for ax in below:
            _draw(ax, looks, {m: _at(scores[m], "layer", best[0]) for m in looks})
            step_axis(ax, every)
            name = drawable(best[0], IN_TITLE)
            ax.set_title(f"({ascii_lowercase[i + len(PANELS)]}) {name}\n{title}")
        if above.lines:  # one legend for the panels of a column, below them
            look: dict[str, Any] = {"loc": f"outside lower {corner}", "borderpad": 0.2}
            figure.legend(handles=above.lines, **look)
    heading = drawable(split_title(split))
    if len(positions_of(whole)) > 1:
        heading += f", at {drawable(positions_of(table)[0])}"
    if band := band_title(table, FigureSettings()):
        heading += f"; bands: {band}"
    write_heading(figure, heading)
    return figure


def _at(scores: "pd.DataFrame", level: str, value: object) -> "pd.DataFrame":
    """Return the scores at a step by layer, or of a layer by step; none if there are none."""
    return scores[scores.index.get_level_values(level) == value].droplevel(level)


def _draw(ax: Axes, looks: Mapping[str, Look], values: Mapping[str, "pd.DataFrame"]) -> None:
    """Draw a line and a band for each metric through its values by x."""
    for metric, (color, dashes, label) in looks.items():
        rows = values[metric].sort_index()
        if len(rows):
            look: dict[str, Any] = {"color": COLORS[color], "label": label}
            ax.plot(rows.index, rows["mean"], dashes, linewidth=1.2, **look)
            band: dict[str, Any] = {"color": COLORS[color], "alpha": BAND_ALPHA, "linewidth": 0}
            ax.fill_between(rows.index, rows["low"], rows["high"], **band)
    share_axis(ax)
