"""Draw the figure of the stages of one model: a line per stage, and their paired differences."""

from collections.abc import Sequence
from functools import partial
from itertools import cycle
from string import ascii_lowercase

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.findings.compare import ComparedSteps, Difference
from tasklens.findings.curves import Curves
from tasklens.findings.measurement import measured
from tasklens.report.figure_by_layer import (
    BAND_ALPHA,
    CONTROLS,
    HIGH,
    WIDE,
    Look,
    Scores,
    draw_legend,
    line_style,
    means_of,
    number_of,
)
from tasklens.report.layer_looks import EDGE
from tasklens.report.style import (
    IN_TITLE,
    PALETTE,
    drawable,
    in_style,
    new_figure,
    room,
    share_axis,
    state_axis,
    write_heading,
)
from tasklens.scoring.bootstrap import Floats
from tasklens.scoring.score_table import layers_in_order

DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP"
#: What a panel shows, by the begin of its title.
MEASURES: dict[str, Scores] = {
    "ARI": lambda curves, *cell: curves.ari.get((*cell, "raw")),
    "linear classifier": lambda curves, *cell: curves.decoded.get(cell),
}


@in_style
def figure_stages(curves: Curves, compared: Sequence[ComparedSteps] = ()) -> Figure:
    """Draw where the clusters are in each stage of one model, and how stages differ.

    There is a column for the ARI of the clusters, and for a linear classifier, on the first split
    and on the first unseen one. Above is a line per stage by hidden state, with its 95 % interval;
    the untrained twin and the bag of tokens are grey. Below is the difference of each stage to the
    one before it, with the paired interval.

    Parameters
    ----------
    curves : Curves
        From `tasklens.Run.curves`, of a run of several models with names.
    compared : sequence of ComparedSteps
        From `tasklens.compare_steps`; without it only the upper panels are drawn.

    Raises
    ------
    InputError
        If the run has no two models with names, or no hidden state was scored.

    Examples
    --------
    >>> import tasklens as tl
    >>> run = tl.load_run("runs/stages")  # doctest: +SKIP
    >>> tl.figure_stages(run.curves(), tl.compare_steps(run)).savefig("s.png")  # doctest: +SKIP
    """
    if len(curves.stages) < 2:
        raise InputError(f"{curves.run}: has no two stages of one model")
    states = layers_in_order({state for _, state, _ in curves.ari})
    panels = [
        (measure, split)
        for measure, scores in MEASURES.items()
        for split in [*curves.split_names][:2]
        if np.isfinite([means_of(curves, i, states, split, scores) for i in _indices(curves)]).any()
    ]
    if not panels:
        raise InputError(f"{curves.run}: no hidden state was scored")
    kinds = zip(cycle(PALETTE), cycle(DASHES), cycle(MARKERS), strict=False)
    looks = {name: Look(*kind) for name, kind in zip(curves.stages.values(), kinds, strict=False)}
    # The last pair is the last stage minus the first if there are several.
    pairs = compared[:-1] if len(compared) > 1 else compared
    rows = 2 if pairs else 1
    turned = max(0.0, room([*map(drawable, states)]) - 0.3)
    figure = new_figure(0.5 + WIDE * len(panels), 0.3 + HIGH * rows + turned, "constrained")
    axes = figure.subplots(rows, len(panels), sharex=True, sharey="row", squeeze=False)
    controls = dict[str, Look]()
    for i, (measure, split) in enumerate(panels):
        title = f"({ascii_lowercase[i]}) {measure}, {drawable(curves.split_names[split], IN_TITLE)}"
        axes[0, i].set_title(title)
        controls |= _draw_controls(axes[0, i], curves, states, split, measure)
        _draw_stages(axes[0, i], curves, states, split, measure, looks)
        if pairs:
            _draw_differences(axes[1, i], pairs, states, curves.split_names[split], measure, looks)
        state_axis(axes[-1, i], states)
        axes[-1, i].tick_params(length=2)
    for ax in axes[0]:
        share_axis(ax, min(every.dataLim.y0 for every in axes[0]))
    if pairs:
        axes[1, 0].set_ylabel("minus the stage before")
    of_legend = {drawable(name): look for name, look in looks.items()} | controls
    draw_legend(figure, of_legend, 1 + len(panels), curves)
    write_heading(figure, drawable(curves.run, IN_TITLE))
    return figure


def _indices(curves: Curves) -> list[int]:
    """Return the indices of the stages among the checkpoints."""
    return [curves.steps.index(step) for step in curves.stages]


def _draw_controls(
    ax: Axes, curves: Curves, states: Sequence[str], split: str, measure: str
) -> dict[str, Look]:
    """Draw the untrained twin, and of the ARI the bag of tokens; return their looks by label."""
    lines: dict[str, Sequence[float]] = {}
    for i, step in enumerate(curves.steps):
        if step not in curves.stages:
            lines["untrained twin"] = means_of(curves, i, states, split, MEASURES[measure])
    if measure == "ARI" and (split, "control:symbols") in curves.controls:
        level = float(curves.controls[split, "control:symbols"][0])
        lines["bag of tokens"] = [level] * len(states)
    for label, y in lines.items():
        ax.plot(y, zorder=2.5, path_effects=EDGE, **line_style(CONTROLS[label], len(states)))
    return {label: CONTROLS[label] for label in lines}


def _draw_stages(
    ax: Axes,
    curves: Curves,
    states: Sequence[str],
    split: str,
    measure: str,
    looks: dict[str, Look],
) -> None:
    """Draw a line per stage with its intervals."""
    scores = MEASURES[measure]
    for at, name in zip(_indices(curves), curves.stages.values(), strict=True):
        ends = np.full((2, len(states)), np.nan)
        for i, state in enumerate(states):
            if curves.copies > 1 and scores(curves, split, state) is not None:
                number = partial(number_of, scores, split, state, at)
                one = measured(f"{name} {state}", split, number, [curves], "figure of stages")
                ends[:, i] = one.low, one.high
        _draw(ax, means_of(curves, at, states, split, scores), ends, looks[name])


def _draw_differences(
    ax: Axes,
    pairs: Sequence[ComparedSteps],
    states: Sequence[str],
    split: str,
    measure: str,
    looks: dict[str, Look],
) -> None:
    """Draw the differences of pairs of stages, in the look of the second of each."""
    ax.axhline(0, color="0.7", linewidth=0.6, zorder=1)
    for pair in pairs:
        every = pair.scores.ari if measure == "ARI" else pair.scores.decoded
        known: dict[str, Difference] = {
            each.layer: each for each in every if each.split == split and each.space != "tsne"
        }
        y = [known[s].difference if s in known else np.nan for s in states]
        ends = [(known[s].low, known[s].high) if s in known else (np.nan, np.nan) for s in states]
        _draw(ax, y, np.transpose(ends), looks[pair.names[1]])


def _draw(ax: Axes, y: Sequence[float], ends: Floats, look: Look) -> None:
    """Draw a line with its intervals, (2, number of hidden states)."""
    ax.fill_between(range(len(y)), *ends, color=look.color, alpha=BAND_ALPHA, linewidth=0)
    ax.plot(y, zorder=2, clip_on=False, **line_style(look, len(y)))
