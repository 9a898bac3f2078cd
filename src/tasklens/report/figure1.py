"""Draw Figure 1: the agreement of the clusters with the task, by training step."""

from collections.abc import Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.report.figure1_lines import BAND_ALPHA, draw_panel
from tasklens.report.figure1_panels import band_title, panels_in, shown_scores, states_in
from tasklens.report.figure_paper import draw_paper
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.layer_looks import LABELS, STYLES
from tasklens.report.layout import add_legend, panels_of
from tasklens.report.style import IN_TITLE, drawable, in_style, room, share_axis
from tasklens.scoring.score_table import as_table, layers_in_order, positions_of

if TYPE_CHECKING:
    import pandas as pd

ACROSS = 3
"""The largest number of panels side by side."""
#: Inches: width of a panel with the names of its lines, and its height.
PANEL = 2.2, 2.3
#: Inches for the names of hidden states that these contain.
NAMES = 0.55


@in_style
def figure1(
    table: "pa.Table | pd.DataFrame",
    settings: FigureSettings | None = None,
    *,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Draw the agreement of clusters with the task by training step, one panel per split.

    Each hidden state has a line, which is the mean over seeds and cluster seeds. Its band reaches
    from the lowest to the highest value. The band of the ARI contains all near-best starts of
    KMeans: those whose inertia is within 1 % of the least of their cell. Blocks go from light to
    dark. Accuracy is dashed and black; controls are grey. Each line is named at its end; of many
    blocks some are. If there is only one step, the hidden states are along the x axis. This is
    Figure 1 of Wu and Varshney, "Clusters Emerge in Transformer-based Causal Language Models", with
    controls and spread. The style "paper" draws it without them: as dots, on a linear axis.

    Parameters
    ----------
    table : pandas.DataFrame or pyarrow.Table
        The columns are those of `tasklens.read_scores`. Panels are the splits of a training run
        that it contains, or, if it contains none of them, all splits that it contains; of more than
        three there are several rows. Of several numbers of clusters the first counts.
    settings : FigureSettings, optional
    axes : sequence of matplotlib.axes.Axes, optional
        Axes to draw into, one per panel, of a figure of your own. They keep their style, and no
        legend is added: lines have labels for ``ax.legend()``.

    Returns
    -------
    matplotlib.figure.Figure
        It may be resized: text keeps its size and stays whole down to two thirds of the size. The
        fonts, and the lines of axes and grids, that you set in Matplotlib's ``rcParams`` count.

    Raises
    ------
    InputError
        If the table has no such scores, or a run in it has none at the position. Also if the axes
        are not as many as the panels.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure1(tl.load_run("runs/smoke").scores()).savefig("figure1.png")
    """
    settings = settings or FigureSettings()
    scores = shown_scores(table, settings)
    if settings.style == "paper":
        return draw_paper(scores, settings, axes)
    panels = panels_in(scores, settings)
    every = [(state, lines) for lines in panels.values() for state in states_in(lines)]
    states = layers_in_order({state for state, _ in every})
    steps = sorted({step for state, lines in every for step in lines[state].index})
    lowest = min(course["low"].min() for lines in panels.values() for course in lines.values())
    named = room([drawable(state, IN_TITLE) for state in states])
    turned = room([*map(drawable, states)]) if len(steps) == 1 else 0.0
    size = PANEL[0] + max(0.0, named - NAMES), PANEL[1] + max(0.0, turned - NAMES)
    figure, shown = panels_of(axes, len(panels), size, ACROSS)
    for i, (ax, (split, lines)) in enumerate(zip(shown, panels.items(), strict=True)):
        meaning = SPLIT_MEANINGS.get(split, "")
        ax.set_title(f"({ascii_lowercase[i % 26]}) {drawable(split, IN_TITLE)}\n{meaning}".rstrip())
        share_axis(ax, lowest)
        draw_panel(ax, lines, states, steps)
    if axes is None:
        present = {line for lines in panels.values() for line in lines}
        label = settings.measure
        if len(positions_of(as_table(table))) > 1:
            label += f" at {drawable(positions_of(scores)[0])}"
        for ax in shown[::ACROSS]:
            ax.set_ylabel(f"{label}, accuracy" if "model" in present else label)
        others = [line for line in LABELS if line in present]
        handles: list[Any] = [Line2D([], [], **STYLES[line]) for line in others]
        labels = [LABELS[line][0] for line in others]
        if band := band_title(scores, settings):
            handles.append(Patch(color="0.5", alpha=2 * BAND_ALPHA, linewidth=0))
            labels.append(band)
        add_legend(figure, handles, labels)
    return figure
