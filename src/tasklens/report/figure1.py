"""Draw Figure 1: the agreement of the clusters with the task, by training step."""

import re
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch

from tasklens.core.errors import InputError
from tasklens.core.settings import SettingsBase
from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.data.names import find_split
from tasklens.report.style import (
    IN_TITLE,
    drawable,
    in_style,
    name_entries,
    new_figure,
    room,
    state_axis,
    step_axis,
)
from tasklens.scoring.score_table import (
    BAND,
    CONTROLS,
    NO_STEP,
    as_table,
    at_position,
    layers_in_order,
    main_scores,
    positions_of,
    summarise,
    to_frame,
)

if TYPE_CHECKING:
    import pandas as pd

Lines: TypeAlias = "dict[str, pd.DataFrame]"
"""Mean, low and high by step, for each hidden state or control; the step of a control is
`NO_STEP`."""

SHUFFLED = "control:shuffled"

ACROSS = 3
"""The largest number of panels side by side."""
LEGEND_BLOCKS = 8
"""The legend names at most about this many blocks."""

LABELS = {
    "model": "accuracy",
    "control:length": "control: instruction length",
    "control:symbols": "control: bag of symbols",
    SHUFFLED: "control: shuffled labels",
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


class FigureSettings(SettingsBase, affects="plot"):
    """Settings of Figure 1.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.FigureSettings(space="tsne").metric
    'ari'
    """

    space: Literal["raw", "tsne"] = "raw"
    """What was clustered: the hidden states themselves or their t-SNE embedding."""
    metric: Literal["ari", "ami", "v_measure"] = "ari"
    """Measure of the agreement of the clusters with the task, on the left axis."""
    position: str = ""
    """Measured position that Figures 1 and 2 show; empty: the first."""
    splits: tuple[str, ...] = ()
    """Splits that Figure 1 of a training shows, a panel each; empty: all."""

    @property
    def measure(self) -> str:
        """The name of the metric."""
        return {"ari": "ARI", "ami": "AMI"}.get(self.metric, "V-measure")


@in_style
def figure1(table: "pa.Table | pd.DataFrame", settings: FigureSettings | None = None) -> Figure:
    """Draw the agreement of clusters with the task by training step, one panel per split.

    Each hidden state has a line, which is the mean over seeds and cluster seeds. Its band reaches
    from the lowest to the highest value. The band of the ARI contains all near-best starts of
    KMeans: those whose inertia is within 1 % of the least of their cell. Accuracy is dashed and
    black, on the right axis; controls are thin and grey. If there is only one step, the hidden
    states are along the x axis. This is Figure 1 of Wu and Varshney, "Clusters Emerge in
    Transformer-based Causal Language Models", with controls and spread.

    Parameters
    ----------
    table : pandas.DataFrame or pyarrow.Table
        The columns are those of `tasklens.read_scores`. Panels are the splits of a training run
        that it contains, or, if it contains none of them, all splits that it contains; of more than
        three there are several rows. Of several numbers of clusters the first counts.
    settings : FigureSettings, optional

    Raises
    ------
    InputError
        If the table has no such scores, or a run in it has none at the position.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure1(tl.load_run("runs/smoke").scores()).savefig("figure1.png")
    """
    settings = settings or FigureSettings()
    scores = at_position(main_scores(as_table(table)), settings.position)
    panels = _panels(scores, settings)
    states = layers_in_order({s for lines in panels.values() for s in _states(lines)})
    steps = {step for lines in panels.values() for s in _states(lines) for step in lines[s].index}
    lowest = min(course["low"].min() for lines in panels.values() for course in lines.values())
    named = room([*map(drawable, states)]) if len(steps) == 1 else 0
    down = -(-len(panels) // ACROSS)
    across = min(len(panels), ACROSS)
    figure = new_figure(0.7 + 2.1 * across, (2.25 + max(0, named - 0.6)) * down)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax in grid.flat[len(panels) :]:
        ax.remove()
    with_accuracy = [i for i, lines in enumerate(panels.values()) if "model" in lines]
    last = {i // across: i for i in with_accuracy}.values()  # of each row
    for i, (ax, (split, lines)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
        meaning = SPLIT_MEANINGS.get(split, "")
        ax.set_title(f"({ascii_lowercase[i % 26]}) {drawable(split, IN_TITLE)}\n{meaning}".rstrip())
        right = ax.twinx()
        for side in (ax, right):
            side.set_ylim(min(-0.05, lowest), 1.03)
            side.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
            side.tick_params(length=2)
        for control in (*CONTROLS, SHUFFLED):
            if control in lines:
                ax.axhline(lines[control].at[NO_STEP, "mean"], zorder=1, **STYLES[control])
        if len(steps) == 1:
            _draw_states(ax, right, lines, states, *steps)
        else:
            _draw_steps(ax, right, lines, states)
        right.set_ylabel("accuracy")
        right.yaxis.set_visible(i in last)
        right.spines.right.set_visible(i in last)
    label = settings.measure
    if len(positions_of(as_table(table))) > 1:
        label += f" at {drawable(positions_of(scores)[0])}"
    for ax in grid[:, 0]:
        ax.set_ylabel(label)
    _legend(figure, panels, states if len(steps) > 1 else [], _band(scores, settings))
    return figure


def _band(scores: pa.Table, settings: FigureSettings) -> str:
    """Return what the bands span, e.g. "range of 3 runs"; empty if nothing is repeated."""
    of_states = (pc.field("space") == settings.space) & pc.field("step").is_valid()
    rows = scores.filter(of_states & (pc.field("metric") == settings.metric))
    runs, seeds = rows.select(["run", "seed"]).to_pandas(), rows["cluster_seed"].unique()
    over = [f"{n} runs" for n in [len(runs.drop_duplicates())] if n > 1]
    if settings.metric == "ari" and not {*BAND}.isdisjoint(scores["metric"].to_pylist()):
        over.append("KMeans starts")
    elif len(seeds) > 1:
        over.append(f"{len(seeds)} KMeans seeds")
    return f"range of {' and '.join(over)}" if over else ""


def _panels(table: pa.Table, settings: FigureSettings) -> dict[str, Lines]:
    """Return the lines of each panel, by split."""
    shuffled = f"{settings.metric}_shuffled"
    frame = to_frame(table, (settings.metric, shuffled, "accuracy"))
    frame.loc[frame["metric"] == shuffled, ["layer", "step"]] = SHUFFLED, NO_STEP
    constant = frame["layer"].isin(["model", *CONTROLS])  # in all spaces
    shown = frame["layer"].isin(LABELS).where(constant, frame["space"] == settings.space)
    scores = summarise(frame[shown], ("split", "layer", "step"))
    panels: dict[str, Lines] = {}
    for (split, line), course in scores.groupby(level=["split", "layer"], sort=False):
        panels.setdefault(split, {})[line] = course.droplevel(["split", "layer"]).sort_index()
    panels = {split: lines for split, lines in panels.items() if _states(lines)}
    if not panels:
        spaces = sorted(filter(None, set(table["space"].to_pylist())))
        raise InputError(
            f"the table has no {settings.metric} of hidden states in the space "
            f"{settings.space!r}; its spaces are {spaces}"
        )
    panels = {split: panels[split] for split in SPLIT_MEANINGS if split in panels} or panels
    chosen = [find_split(split, panels) for split in settings.splits]
    return {split: panels[split] for split in chosen or panels}


def _states(lines: Lines) -> set[str]:
    """Return the names of the hidden states among the lines."""
    return lines.keys() - {"model", *CONTROLS, SHUFFLED}


def _draw_steps(ax: Axes, right: Axes, lines: Lines, states: list[str]) -> None:
    """Draw the accuracy, and a line and a band for each hidden state, by training step."""
    for line in (*states, "model"):
        if line in lines:
            side, look, course = right if line == "model" else ax, _style(line, states), lines[line]
            low, high = course["low"], course["high"]
            side.fill_between(course.index, low, high, color=look["color"], alpha=0.16, linewidth=0)
            every = max(1, len(course) // 8) if line in STYLES else None
            side.plot(course["mean"], markevery=every, clip_on=False, **look)
            if line not in STYLES:
                _number(side, line, states, course["mean"])
    step_axis(ax, sorted({step for s in _states(lines) for step in lines[s].index}))


def _number(ax: Axes, block: str, states: list[str], mean: "pd.Series[float]") -> None:
    """Mark the line of a block with its number, so that lines differ in grey, too.

    The marks are at the later half of the checkpoints. Neighbouring blocks have their marks at
    different checkpoints.
    """
    every = max(1, len(mean) // 6)
    some = mean.iloc[len(mean) // 2 + states.index(block) % every :: every]
    for mark in _number_marks(block, states):
        ax.plot(some, linestyle="", clip_on=False, **mark)


def _number_marks(block: str, states: list[str]) -> list[dict[str, Any]]:
    """Return the two markers that make a block's number on white; none if there are many blocks."""
    named = re.fullmatch(r"block(\d+)", block)
    if named is None or len(states) > LEGEND_BLOCKS + 3:
        return []
    with rc_context({"text.parse_math": True}):  # Matplotlib's way to make text a marker
        number = {"marker": MarkerStyle(f"${named[1]}$"), "markersize": 3.8}
    number |= {"color": _style(block, states)["color"], "markeredgewidth": 0.3}
    return [{"color": "white", "marker": "o", "markersize": 5.0}, number]


def _draw_states(ax: Axes, right: Axes, lines: Lines, states: list[str], step: int) -> None:
    """Draw a point and a range for each hidden state, from the input up."""
    drawn = {i: lines[state].loc[step] for i, state in enumerate(states) if state in lines}
    means = [values["mean"] for values in drawn.values()]
    ax.plot(list(drawn), means, color="0.75", linewidth=0.8, zorder=1.5)
    for i, values in drawn.items():
        look = {"marker": "o", **_style(states[i], states)}
        ax.vlines(i, values["low"], values["high"], color=look["color"], linewidth=0.8)
        ax.plot(i, values["mean"], **look)
    if "model" in lines and step in lines["model"].index:
        right.axhline(lines["model"].at[step, "mean"], **STYLES["model"])
    ax.set_xlim(-0.5, len(states) - 0.5)
    state_axis(ax, states, step)


def _style(line: str, states: list[str]) -> dict[str, Any]:
    """Return the style of a line; blocks go from dark to light, from the lowest to the highest."""
    if line in STYLES:
        return STYLES[line]
    blocks = [s for s in states if s not in STYLES]
    share = blocks.index(line) / max(1, len(blocks) - 1)
    return {"color": colormaps["viridis"](0.88 * share), "linestyle": "-", "linewidth": 1.2}


def _legend(figure: Figure, panels: dict[str, Lines], states: list[str], band: str) -> None:
    """Put one legend for all panels below them, or beside a single one."""
    blocks = [s for s in states if s not in STYLES]
    every = max(1, -(-len(blocks) // LEGEND_BLOCKS))
    named = [s for s in states if s in STYLES or s in blocks[::-every]]  # the last among them
    present = {line for lines in panels.values() for line in lines}
    named += [line for line in ("model", *CONTROLS, SHUFFLED) if line in present]
    if not named and not band:
        figure.tight_layout(pad=0.3, w_pad=0.8)
        return
    handles: list[Any] = []  # a tuple of lines, drawn on each other, is a handle, too
    for name in named:
        line = Line2D([], [], **_style(name, states))
        marks = _number_marks(name, states) if name in blocks else []
        handles.append((line, *(Line2D([], [], linestyle="", **mark) for mark in marks)))
    labels = [LABELS.get(name, name) for name in named]
    if band:
        handles.append(Patch(color="0.5", alpha=0.3, linewidth=0))
        labels.append(band)
    columns = min(len(handles), {1: 1, 2: 3 if states else 2}.get(len(panels), 4))
    beside, below = 0.0, 0.13 * -(-len(handles) // columns) + 0.08
    if len(panels) == 1:
        beside, below = 0.42 + room(labels), 0.0
    wide, high = figure.get_size_inches()
    figure.set_size_inches(wide + beside, high + below)
    look: dict[str, Any] = {"loc": "center right" if beside else "lower center", "ncols": columns}
    look |= {"columnspacing": 1.4, "labelspacing": 0.25, "borderpad": 0, "borderaxespad": 0.4}
    legend = figure.legend(handles, ["" for _ in labels], handlelength=2.6, **look)
    name_entries(legend, labels)
    rest = (0, below / (high + below), wide / (wide + beside), 1)
    figure.tight_layout(rect=rest, pad=0.3, w_pad=0.8)
