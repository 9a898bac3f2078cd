"""Figure 2: what hidden states hold, clustered or not, by layer and by training step."""

from collections.abc import Mapping
from string import ascii_lowercase

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.report.style import in_style, new_figure, step_axis, write_heading
from tasklens.report.summary import mean_scores
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.score_table import layers_in_order

COLORS = {"task": "#440154", "input": "#d95f02", "output": "#1b9e77"}

#: By the title of a panel and by metric: which colour and dashes its line has, and its label.
PANELS: dict[str, dict[str, tuple[str, str, str]]] = {
    "clusters: ARI against": {
        "ari": ("task", "-", "task"),
        "ari_input": ("input", "-", "input"),
        "ari_output": ("output", "-", "output"),
    },
    "share of variance between": {
        "variance_task": ("task", "-", "tasks"),
        "variance_input": ("input", "-", "inputs"),
        "variance_output": ("output", "-", "outputs"),
    },
    "task told by": {
        "probe_task": ("task", "-", "linear probe"),
        "neighbours_task": ("task", "--", "10 neighbours"),
        "ari": ("task", ":", "clusters (ARI)"),
    },
}


@in_style
def figure2(table: pa.Table, split: str = "val_subset", chosen_on: str = "train_subset") -> Figure:
    """Draw what states hold: above by layer at the last step, below by step in the best layer.

    Lines are means over seeds and cluster seeds, of the states themselves (the space "raw"). The
    best layer is chosen on the split `chosen_on`, see `tasklens.scoring.best_layer`. InputError if
    the table has no such scores.
    """
    scores = {m: mean_scores(table, split, m) for lines in PANELS.values() for m in lines}
    layers = layers_in_order({layer for layer, _ in scores["ari"]})
    steps = sorted({step for _, step in scores["ari"]})
    final = mean_scores(table, chosen_on, "ari") if steps else {}
    best = best_layer({(s, "raw"): v for (s, step), v in final.items() if step == steps[-1]})
    if best is None:
        raise InputError(f"the table holds no final ARI of a state on {split} and {chosen_on}")
    ticks = ["0" if layer == "embed" else layer.removeprefix("block") for layer in layers]
    down = 1 if len(steps) == 1 else 2
    figure = new_figure(6.6, 0.4 + 1.75 * down)
    axes = figure.subplots(down, len(PANELS), squeeze=False)
    for i, (title, looks) in enumerate(PANELS.items()):
        above, *below = axes[:, i]
        by_layer = {
            m: {layers.index(s): v for (s, step), v in scores[m].items() if step == steps[-1]}
            for m in looks
        }
        _draw(above, looks, by_layer)
        above.set_xticks(range(len(layers)), ticks, rotation=90 if len(layers) > 12 else 0)
        above.set_xlabel(f"layer, at step {steps[-1]:,}")
        above.set_title(f"({ascii_lowercase[i]}) {title}")
        if above.lines:
            above.legend(loc="best", handlelength=1.6)
        for ax in below:
            _draw(ax, looks, {m: _course(scores[m], best[0]) for m in looks})
            step_axis(ax, steps)
            ax.set_title(f"({ascii_lowercase[i + len(PANELS)]}) {best[0]}, {title}")
    write_heading(figure, split_name(split))
    figure.tight_layout(pad=0.4, w_pad=1.0, rect=(0, 0, 1, 1 - 0.1 / figure.get_figheight()))
    return figure


def _course(scores: Mapping[tuple[str, int], float], layer: str) -> dict[int, float]:
    return {step: value for (state, step), value in scores.items() if state == layer}


def _draw(
    ax: Axes, looks: Mapping[str, tuple[str, str, str]], values: Mapping[str, Mapping[int, float]]
) -> None:
    """Draw a line per metric, of its values by x."""
    for metric, (against, dashes, label) in looks.items():
        if values[metric]:
            x, y = zip(*sorted(values[metric].items()), strict=True)
            ax.plot(x, y, dashes, linewidth=1.2, color=COLORS[against], label=label)
    ax.set_ylim(-0.05, 1.03)
    ax.set_yticks([0, 0.5, 1])
