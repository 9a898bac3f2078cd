"""What a state holds, clustered or not: agreement, variance and classifiers by layer and step."""

from collections.abc import Callable, Sequence
from string import ascii_lowercase

import numpy as np
import pyarrow as pa
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.report.figure1 import STYLE, step_axis
from tasklens.scoring.score_table import layers_in_order

OF_COLOR = {"task": "#440154", "input": "#d95f02", "output": "#1b9e77"}
#: Panels: title and, by metric, what it is of and how it is drawn.
ROWS: tuple[tuple[str, dict[str, tuple[str, str, str]]], ...] = (
    (
        "clusters: ARI against",
        {
            "ari": ("task", "-", "task"),
            "ari_input": ("input", "-", "input"),
            "ari_output": ("output", "-", "output"),
        },
    ),
    (
        "share of variance between",
        {
            "variance_task": ("task", "-", "tasks"),
            "variance_input": ("input", "-", "inputs"),
            "variance_output": ("output", "-", "outputs"),
        },
    ),
    (
        "task told by",
        {
            "probe_task": ("task", "-", "linear probe"),
            "neighbours_task": ("task", "--", "10 neighbours"),
            "ari": ("task", ":", "clusters (ARI)"),
        },
    ),
)

Scores = dict[tuple[str, str, int], list[float]]


def figure2(table: pa.Table, split: str = "val_subset", chosen_on: str = "train_subset") -> Figure:
    """Draw what states hold: above by layer at the end, below by step in the best layer.

    Lines are means over seeds and cluster seeds; all is of the states themselves (the space "raw").

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `tasklens.scoring.score_table.SCHEMA`.
    split : str
    chosen_on : str
        The split on which the best layer is the block with the highest final ARI.

    Raises
    ------
    InputError
        Where the table has no such scores.
    """
    scores, chosen = _gather(table, split), _gather(table, chosen_on)
    layers = layers_in_order({layer for metric, layer, _ in scores if metric == "ari"})
    steps = sorted({step for metric, _, step in scores if metric == "ari"})
    blocks = [layer for layer in layers if layer.startswith("block")]
    if not blocks:
        raise InputError(f"the table holds no ARI of a block on {split}")
    last = steps[-1]
    best = max(blocks, key=lambda b: np.mean(chosen.get(("ari", b, last), [-1.0])))
    with style.context(["default", STYLE]):
        down = 1 if len(steps) == 1 else 2
        figure = Figure(figsize=(6.6, 0.4 + 1.75 * down))
        FigureCanvasAgg(figure)
        axes = figure.subplots(down, len(ROWS), squeeze=False)
        for i, (title, metrics) in enumerate(ROWS):
            _draw(
                axes[0, i], range(len(layers)), metrics, lambda m, x: (m, layers[x], last), scores
            )
            short = {"embed": "0", "wte": "wte", "ln_f": "ln_f"}
            ticks = [short.get(layer, layer.removeprefix("block")) for layer in layers]
            axes[0, i].set_xticks(range(len(layers)), ticks, rotation=90 if len(layers) > 12 else 0)
            axes[0, i].set_xlabel(f"layer, at step {last:,}")
            axes[0, i].legend(loc="best", handlelength=1.6)
            axes[0, i].set_title(f"({ascii_lowercase[i]}) {title}")
            if down > 1:
                _draw(axes[1, i], steps, metrics, lambda m, x: (m, best, x), scores)
                step_axis(axes[1, i], steps)
                axes[1, i].set_title(f"({ascii_lowercase[i + len(ROWS)]}) {best}, {title}")
        figure.suptitle(split_name(split), fontsize=7.5, x=0.01, ha="left")
        figure.tight_layout(pad=0.4, w_pad=1.0, rect=(0, 0, 1, 1 - 0.1 / figure.get_figheight()))
    return figure


def _draw(
    ax: Axes,
    xs: Sequence[int],
    metrics: dict[str, tuple[str, str, str]],
    key: Callable[[str, int], tuple[str, str, int]],
    scores: Scores,
) -> None:
    for metric, (of, line, label) in metrics.items():
        here = [x for x in xs if key(metric, x) in scores]
        if not here:
            continue
        means = [np.mean(scores[key(metric, x)]) for x in here]
        ax.plot(here, means, line, linewidth=1.2, color=OF_COLOR[of], label=label)
    ax.set_ylim(-0.05, 1.03)
    ax.set_yticks([0, 0.5, 1])


def _gather(table: pa.Table, split: str) -> Scores:
    wanted = {metric for _, metrics in ROWS for metric in metrics}
    found: Scores = {}
    for r in table.to_pylist():
        here = r["split"] == split and r["space"] == "raw" and r["step"] is not None
        if here and r["metric"] in wanted:
            found.setdefault((r["metric"], r["layer"], r["step"]), []).append(r["value"])
    return found
