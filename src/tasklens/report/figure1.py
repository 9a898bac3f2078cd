"""The table of scores to figures. No pyplot, so no global state and no display."""

import io
from string import ascii_lowercase
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from tasklens.core.errors import InputError
from tasklens.core.settings import SettingsBase
from tasklens.data.instances import SPLIT_NAMES, split_name
from tasklens.scoring.score_table import CONTROLS, layers_in_order

Series: TypeAlias = dict[int, list[float]]
"""Values by step; those of one step differ in seed or cluster seed."""

Lines: TypeAlias = dict[str, Series]
"""What one panel shows, by the name of the state or control."""

Values: TypeAlias = npt.NDArray[np.float64]

CONSTANT = -1
"""Stands for the step of what no step changes."""

SHUFFLED = "control:shuffled"

LEGEND_BLOCKS = 8
"""The legend names at most about this many blocks."""

FEW_EVEN = 50
"""So many checkpoints at even steps stand at even distances."""

LABELS = {
    "wte": "word embedding",
    "embed": "layer 0 (word + position)",
    "ln_f": "final layer norm",
    "model": "accuracy",
    "control:length": "instruction length alone",
    "control:symbols": "bag of symbols",
    SHUFFLED: "shuffled labels",
}

STYLES: dict[str, dict[str, Any]] = {
    "wte": {"color": "#a6761d", "linestyle": ":", "marker": "x", "linewidth": 1.2},
    "embed": {"color": "#d95f02", "linestyle": "-.", "marker": "s", "linewidth": 1.2},
    "ln_f": {"color": "#e7298a", "linestyle": (0, (4, 1)), "marker": "^", "linewidth": 1.2},
    "model": {"color": "black", "linestyle": "--", "linewidth": 1.2},
    "control:length": {"color": "0.55", "linestyle": "-", "linewidth": 0.8},
    "control:symbols": {"color": "0.55", "linestyle": "--", "linewidth": 0.8},
    SHUFFLED: {"color": "0.55", "linestyle": ":", "linewidth": 0.8},
}

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
"""Put over matplotlib's own defaults, so that nobody's matplotlibrc changes a figure."""


class FigureSettings(SettingsBase, affects="plot"):
    """What Figure 1 shows."""

    space: Literal["raw", "tsne"] = "raw"
    """Whether the states themselves were clustered or their t-SNE embedding."""
    metric: Literal["ari", "ami", "v_measure"] = "ari"
    """Agreement of the clusters with the task, up the left axis."""


def figure1(table: pa.Table, settings: FigureSettings | None = None) -> Figure:
    """Draw agreement with the task against training step, a panel a split and a line a layer.

    Bands reach from the lowest to the highest value over seeds and cluster seeds; lines are their
    mean. Accuracy is the dashed black line, on the right axis; controls are thin and grey. Where
    the states have one step only, the layers stand along the x axis instead. This is
    Figure 1 of Wu and Varshney, "Clusters Emerge in Transformer-based Causal Language Models",
    with controls and spread.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `score_table.SCHEMA`. Panels are the splits of `SPLIT_NAMES` that it
        holds, or where it holds none of them, its own splits.
    settings : FigureSettings, optional
        Space and metric.

    Raises
    ------
    InputError
        Where the table has no such scores.
    """
    settings = settings or FigureSettings()
    panels = _gather(table, settings)
    states = _states({line: {} for lines in panels.values() for line in lines})
    steps = {step for lines in panels.values() for s in states for step in lines.get(s, {})}
    every = [
        v for lines in panels.values() for seq in lines.values() for vs in seq.values() for v in vs
    ]
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(0.7 + 2.1 * len(panels), 2.1))
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for i, (ax, (split, lines)) in enumerate(zip(axes, panels.items(), strict=True)):
            ax.set_title(f"({ascii_lowercase[i % 26]}) {split_name(split)}")
            right = ax.twinx()
            for side in (ax, right):
                side.set_ylim(min(-0.05, *every), 1.03)
                side.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
                side.tick_params(length=2)
            _levels(ax, lines)
            if len(steps) == 1:
                _along_layers(ax, right, lines, states, *steps)
            else:
                _along_steps(ax, right, lines, states)
            right.set_ylabel("accuracy")
            right.yaxis.set_visible(False)
        if any("model" in lines for lines in panels.values()):
            right.spines.right.set_visible(True)
            right.yaxis.set_visible(True)
        axes[0].set_ylabel({"ari": "ARI", "ami": "AMI"}.get(settings.metric, "V-measure"))
        _legend(figure, panels, states if len(steps) > 1 else [])
    return figure


def render(figure: Figure, format: Literal["png", "pdf"]) -> bytes:
    """Return the figure as a file; the same figure gives the same bytes.

    A PNG has 200 dots an inch. Neither holds a date.
    """
    sink = io.BytesIO()
    with style.context(["default", STYLE]):
        metadata = {"CreationDate": None} if format == "pdf" else None
        figure.savefig(sink, format=format, dpi=200, metadata=metadata)
    return sink.getvalue()


def _gather(table: pa.Table, settings: FigureSettings) -> dict[str, dict[str, Series]]:
    """Return the values by split, line and step; a control has the one step CONSTANT."""
    found: dict[str, dict[str, Series]] = {}
    for row in table.to_pylist():
        layer, metric = row["layer"], row["metric"]
        if layer == "model":
            wanted = metric == "accuracy"
        elif layer in CONTROLS:
            wanted = metric == settings.metric and layer in LABELS
        elif metric == "ari_shuffled" == f"{settings.metric}_shuffled":
            wanted, layer = row["space"] == settings.space, SHUFFLED
        else:
            wanted = metric == settings.metric and row["space"] == settings.space
        if wanted:
            step = CONSTANT if layer in (*CONTROLS, SHUFFLED) else row["step"]
            series = found.setdefault(row["split"], {}).setdefault(layer, {})
            series.setdefault(step, []).append(row["value"])
    found = {split: lines for split, lines in found.items() if _states(lines)}
    if not found:
        raise InputError(
            f"no {settings.metric} of states in the space {settings.space!r}: the table holds "
            f"{sorted(filter(None, set(table['space'].to_pylist())))}"
        )
    return {split: found[split] for split in SPLIT_NAMES if split in found} or found


def _states(lines: Lines) -> list[str]:
    return layers_in_order(set(lines) - {"model", *CONTROLS, SHUFFLED})


def _levels(ax: Axes, lines: Lines) -> None:
    """Draw the controls, which depend neither on the step nor on the layer."""
    for control in (*CONTROLS, SHUFFLED):
        if control in lines:
            ax.axhline(float(np.mean(lines[control][CONSTANT])), zorder=1, **STYLES[control])


def _along_steps(ax: Axes, right: Axes, lines: Lines, states: list[str]) -> None:
    for line in (*states, "model"):
        if line in lines:
            side, drawn = (right if line == "model" else ax), _style(line, states)
            steps, low, mean, high = _summary(lines[line])
            side.fill_between(steps, low, high, color=drawn["color"], alpha=0.16, linewidth=0)
            if line in STYLES:
                apart = max(1, len(steps) // 8)
                side.plot(steps, mean, markevery=apart, clip_on=False, **drawn)
            else:
                side.plot(steps, mean, clip_on=False, **drawn)
                _numbers(side, line, states, steps, mean)
    step_axis(ax, sorted({step for s in states for step in lines.get(s, {})}))


def _numbers(ax: Axes, block: str, states: list[str], steps: list[int], mean: Values) -> None:
    """Write a block's number on its line, so that it can be told in grey, too.

    On the later half of the checkpoints, and on others than its neighbours' numbers.
    """
    if len(states) > LEGEND_BLOCKS + 3:
        return
    apart = max(1, len(steps) // 6)
    some = slice(len(steps) // 2 + states.index(block) % apart, None, apart)
    number = f"${block.removeprefix('block')}$"
    color = _style(block, states)["color"]
    for mark in (
        {"color": "white", "marker": "o", "markersize": 5.0},
        {"color": color, "marker": number, "markersize": 3.8, "markeredgewidth": 0.3},
    ):
        ax.plot(steps[some], mean[some], linestyle="", clip_on=False, **mark)


def _along_layers(ax: Axes, right: Axes, lines: Lines, states: list[str], step: int) -> None:
    here = [s for s in states if s in lines]
    means = [float(np.mean(lines[s][step])) for s in here]
    ax.plot([states.index(s) for s in here], means, color="0.75", linewidth=0.8, zorder=1.5)
    for state in here:
        drawn = {"marker": "o", **_style(state, states)}
        _, low, mean, high = _summary({states.index(state): lines[state][step]})
        ax.vlines(states.index(state), low, high, color=drawn["color"], linewidth=0.8)
        ax.plot(states.index(state), mean, **drawn)
    if step in lines.get("model", {}):
        right.axhline(float(np.mean(lines["model"][step])), **_style("model", states))
    apart = -(-len(states) // 15)
    ticks = [i for i, s in enumerate(states) if s in STYLES or (len(states) - i) % apart == 0]
    # One line lower, "wte" and "ln_f" do not run into the numbers beside them.
    short = {"embed": "0", "wte": "\nwte", "ln_f": "\nln_f"}
    ax.set_xticks(ticks, [short.get(states[i], states[i].removeprefix("block")) for i in ticks])
    ax.set_xlim(-0.5, len(states) - 0.5)
    ax.set_xlabel(f"layer, at step {step:,}")


def _summary(series: Series) -> tuple[list[int], Values, Values, Values]:
    """Return the steps and the lowest, mean and highest value at each."""
    steps = sorted(series)
    low, mean, high = (np.array([f(series[s]) for s in steps]) for f in (min, np.mean, max))
    return steps, low, mean, high


def _style(line: str, states: list[str]) -> dict[str, Any]:
    """Blocks go from dark to light from the lowest to the highest, in colour and in grey."""
    if line in STYLES:
        return STYLES[line]
    blocks = [s for s in states if s not in STYLES]
    share = blocks.index(line) / max(1, len(blocks) - 1)
    return {"color": colormaps["viridis"](0.88 * share), "linestyle": "-", "linewidth": 1.2}


def step_axis(ax: Axes, steps: list[int]) -> None:
    """Lay the x axis out linear up to some step, so that step 0 shows, logarithmic beyond."""
    ax.set_xlabel("training step")
    if len(steps) == 1:
        return
    ax.set_xlim(steps[0], steps[-1])
    if len(steps) <= FEW_EVEN and len(set(np.diff(steps))) == 1:
        return
    # Up to the first of the evenly spaced checkpoints; where there are none, to the first of all.
    spacing = int(np.diff(steps).max())
    linear = spacing if steps[-1] > 4 * spacing else next(step for step in steps if step > 0)
    if steps[-1] <= 4 * linear:
        return
    ax.set_xscale("symlog", linthresh=linear, linscale=0.5)
    multiples = (1, 2, 5) if steps[-1] < 100 * linear else (1,)
    ticks = [m * 10**p for p in range(len(str(steps[-1]))) for m in multiples]
    ticks = [0] * (steps[0] == 0) + [t for t in ticks if linear <= t <= steps[-1]]
    ax.set_xticks(ticks, [f"{t // 1000:,}k" if t >= 1000 else str(t) for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, panels: dict[str, Lines], states: list[str]) -> None:
    """Put one legend for all panels below them, or beside a single one."""
    blocks = [s for s in states if s not in STYLES]
    apart = -(-len(blocks) // LEGEND_BLOCKS)  # of many blocks only some, the last among them
    named = [
        s for s in states if s in STYLES or (len(blocks) - blocks.index(s)) % apart == 1 % apart
    ]
    present = {line for lines in panels.values() for line in lines}
    named += [line for line in ("model", *CONTROLS, SHUFFLED) if line in present]
    if not named:
        figure.tight_layout(pad=0.3, w_pad=0.8)
        return
    handles = [Line2D([], [], label=_label(n, present), **_style(n, states)) for n in named]
    columns = min(len(handles), {1: 1, 2: 3}.get(len(panels), 5))
    compact = {"columnspacing": 1.4, "labelspacing": 0.25, "borderpad": 0, "borderaxespad": 0.4}
    wide, high = figure.get_size_inches()
    if len(panels) == 1:
        figure.set_figwidth(wide + 1.6)
        figure.legend(handles=handles, loc="center right", handlelength=2.6, **compact)
        figure.tight_layout(rect=(0, 0, wide / (wide + 1.6), 1), pad=0.3)
        return
    below = 0.13 * -(-len(handles) // columns) + 0.08  # inches
    figure.set_figheight(high + below)
    figure.legend(handles=handles, loc="lower center", ncols=columns, handlelength=2.6, **compact)
    figure.tight_layout(rect=(0, below / (high + below), 1, 1), pad=0.3, w_pad=0.8)


def _label(line: str, present: set[str]) -> str:
    if line == "embed" and "wte" not in present:  # of one of them: no position is added there
        return "layer 0 (embedding)"
    return LABELS.get(line) or line.replace("block", "layer ")
