"""Draw Figure 2: what is in the hidden states, with and without clustering."""

from collections.abc import Mapping
from string import ascii_lowercase
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.data.instances import split_title
from tasklens.report.style import (
    IN_TITLE,
    drawable,
    in_style,
    new_figure,
    room,
    state_axis,
    step_axis,
    write_heading,
)
from tasklens.report.summary import mean_scores
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
LEGEND, ROW = 0.61, 1.85


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

    Lines are means over seeds and cluster seeds, in the space "raw", which is that of the hidden
    states themselves. The best layer is chosen on the split `chosen_on`, see
    `tasklens.scoring.best_layer`.

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
    scores = {m: mean_scores(table, split, m) for lines in PANELS.values() for m in lines}
    layers = layers_in_order({layer for layer, _ in scores["ari"]})
    every = sorted({step for _, step in scores["ari"]})
    final = mean_scores(table, chosen_on, "ari") if every else {}
    best = best_layer({(s, "raw"): v for (s, step), v in final.items() if step == every[-1]})
    if best is None:
        raise InputError(
            f"the table has no ARI of a hidden state at the last step on {split} and {chosen_on}"
        )
    down = 2 if steps and len(every) > 1 else 1
    named = max(0, room([*map(drawable, layers)]) - 0.6)
    figure = new_figure(6.6, 0.6 + ROW * down + LEGEND + named)
    axes = figure.subplots(down, len(PANELS), squeeze=False)
    for i, (title, looks) in enumerate(PANELS.items()):
        above, *below = axes[:, i]
        by_layer = {
            m: {layers.index(s): v for (s, step), v in scores[m].items() if step == every[-1]}
            for m in looks
        }
        _draw(above, looks, by_layer)
        state_axis(above, layers, every[-1] if steps else None)
        above.set_title(f"({ascii_lowercase[i]}) {title}")
        for ax in below:
            _draw(ax, looks, {m: _course(scores[m], best[0]) for m in looks})
            step_axis(ax, every)
            ax.set_title(
                f"({ascii_lowercase[i + len(PANELS)]}) {drawable(best[0], IN_TITLE)}: {title}"
            )
    heading = drawable(split_title(split))
    if len(positions_of(whole)) > 1:
        heading += f", at {drawable(positions_of(table)[0])}"
    write_heading(figure, heading)
    high = figure.get_figheight()
    figure.tight_layout(pad=0.4, w_pad=1.0, h_pad=1.0, rect=(0, LEGEND / high, 1, 1 - 0.1 / high))
    for ax, *_ in axes.T:  # one legend for the panels of a column, below them
        if ax.lines:
            corner = (ax.get_position().x0, 0)
            figure.legend(handles=ax.lines, loc="lower left", bbox_to_anchor=corner)
    return figure


def _course(scores: Mapping[tuple[str, int], float], layer: str) -> dict[int, float]:
    """Return the scores of one layer by step."""
    return {step: value for (state, step), value in scores.items() if state == layer}


def _draw(ax: Axes, looks: Mapping[str, Look], values: Mapping[str, Mapping[int, float]]) -> None:
    """Draw a line for each metric through its values by x."""
    for metric, (color, dashes, label) in looks.items():
        if values[metric]:
            x, y = zip(*sorted(values[metric].items()), strict=True)
            ax.plot(x, y, dashes, linewidth=1.2, color=COLORS[color], label=label)
    ax.set_ylim(-0.05, 1.03)
    ax.set_yticks([0, 0.5, 1])
