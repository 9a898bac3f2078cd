"""Draw the figure of a model: clusters and classifiers by layer, with controls."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from string import ascii_lowercase
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tasklens.core.errors import InputError
from tasklens.data.names import UNTRAINED
from tasklens.findings.curves import Curves
from tasklens.findings.measurement import measured
from tasklens.report.layer_looks import EDGE, STYLES
from tasklens.report.layout import add_legend
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
from tasklens.scoring.bootstrap import CONFIDENCE, Floats
from tasklens.scoring.score_table import layers_in_order

#: Scores of a hidden state on a split by step, (B, S); None if there are none.
Scores: TypeAlias = Callable[[Curves, str, str], Floats | None]


class Look(NamedTuple):
    """The look of a line."""

    color: str
    dashes: Any
    marker: str = ""
    width: float = 1.2


#: Of the splits, in their order.
SPLITS = (
    *(Look(PALETTE[0], "-", "o"), Look(PALETTE[1], "--", "D"), Look(PALETTE[2], "-.", "s")),
    *(Look(PALETTE[3], ":", "^"), Look(PALETTE[6], (0, (5, 1, 1, 1, 1, 1)), "v")),
)
#: Of the controls, by their labels; all are those of one split, which is named in the legend.
CONTROLS = {
    "each family": Look(PALETTE[0], "-", "", 0.4),
    "untrained twin": Look("0.45", "-", "x", 1.0),
    "embed": Look(STYLES["embed"]["color"], ":", "", 1.2),
    "bag of tokens": Look("0.35", "--", "", 0.9),
    "prompt's length": Look("0.35", "-", "", 0.9),
    "input's class": Look("0.2", (0, (1, 3)), "", 1.2),
    "commonest task": Look("0.2", (0, (4, 1, 1, 1)), "", 0.9),
}
#: The controls that need no model, by their labels.
WITHOUT_MODEL = {
    "bag of tokens": "control:symbols",
    "prompt's length": "control:length",
    "input's class": "control:input_class",
}
#: What each panel shows, by its title.
PANELS: dict[str, Scores] = {
    "clusters: {}": lambda curves, *cell: curves.ari.get((*cell, "raw")),
    "clusters after t-SNE: {}": lambda curves, *cell: curves.ari.get((*cell, "tsne")),
    "linear classifier: accuracy": lambda curves, *cell: curves.decoded.get(cell),
}
#: How opaque the band of an interval is, in the colour of its line.
BAND_ALPHA = 0.2
#: Inches: width and height of a panel.
WIDE, HIGH = 2.3, 1.9


@in_style
def figure_by_layer(curves: Curves, measure: str = "ARI") -> Figure:
    """Draw where in a model the clusters are: ARI by hidden state, from the input up.

    There is a line per split. A band is the 95 % interval over resampled prompts and near-best
    starts of KMeans. The panels are: clusters of the hidden states; clusters of their t-SNE maps,
    if measured; a linear classifier, which learns the task on the first split. Controls are grey,
    and `embed` is dotted. Those of clusters are of the first split, those of the classifier of the
    first unseen one. Thin lines are the clusters of the first split within each family of tasks. Of
    several models there is a row each, and of a series the last checkpoint. The figure has no
    argument ``axes``, since the number of its panels depends on what was measured.

    Parameters
    ----------
    curves : Curves
        From `tasklens.Run.curves`, or of a table of scores, which has no intervals.
    measure : str
        The name of the agreement that the curves have.

    Raises
    ------
    InputError
        If no hidden state was scored.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_by_layer(tl.load_run("runs/smoke").curves()).savefig("layers.png")
    """
    states = layers_in_order({state for _, state, _ in curves.ari})
    trained = [step for step in curves.steps if curves.step_names.get(step) != UNTRAINED]
    models = trained[-1:] if curves.is_series else trained
    panels = {title: scores for title, scores in PANELS.items() if _splits(curves, scores, states)}
    if not panels:
        raise InputError(f"{curves.run}: no hidden state was scored")
    turned = max(0.0, room([*map(drawable, states)]) - 0.3)
    wide, high = 0.5 + WIDE * len(panels), 0.3 + (HIGH + turned) * len(models)
    figure = new_figure(wide, high, "constrained")
    axes = figure.subplots(len(models), len(panels), sharey=True, squeeze=False)
    drawn, controls = dict[str, Look](), dict[str, Look]()
    for ax, letter, (step, (title, scores)) in zip(
        axes.ravel(), ascii_lowercase, product(models, panels.items()), strict=False
    ):
        name = f"{drawable(curves.step_names[step], IN_TITLE)}: " if len(models) > 1 else ""
        ax.set_title(f"({letter}) {name}{title.format(measure)}")
        at = curves.steps.index(step)
        drawn |= _draw_splits(ax, curves, at, states, scores)
        controls |= _draw_controls(ax, curves, at, states, scores)
        state_axis(ax, states, step if curves.is_series else None)
    lowest = min(ax.dataLim.y0 for ax in axes.ravel())
    for ax in axes.ravel():
        share_axis(ax, lowest)
    draw_legend(figure, drawn | controls, 1 + len(panels), curves)
    write_heading(figure, drawable(curves.run, IN_TITLE))
    return figure


def _splits(curves: Curves, scores: Scores, states: Sequence[str]) -> list[str]:
    """Return the splits of which a panel has scores."""
    known = {
        split: [scores(curves, split, state) for state in states] for split in curves.split_names
    }
    return [
        split
        for split, every in known.items()
        if any(y is not None and np.isfinite(y[0]).any() for y in every)
    ]


def _draw_controls(
    ax: Axes, curves: Curves, at: int, states: Sequence[str], scores: Scores
) -> dict[str, Look]:
    """Draw the controls and the families of a panel's first split; return their looks by label."""
    split = _splits(curves, scores, states)[0]
    lines: dict[str, Sequence[float]] = {}
    for i, step in enumerate(curves.steps):
        if i != at and curves.step_names.get(step) == UNTRAINED:
            lines["untrained twin"] = means_of(curves, i, states, split, scores)
    levels: dict[str, float] = {}
    if scores is PANELS["linear classifier: accuracy"]:
        levels["commonest task"] = curves.majority.get(split, np.nan)
    else:
        if "embed" in states:
            levels["embed"] = means_of(curves, at, ["embed"], split, scores)[0]
        for label, name in WITHOUT_MODEL.items():
            levels[label] = float(curves.controls.get((split, name), [np.nan])[0])
    lines |= {label: [level] * len(states) for label, level in levels.items()}
    lines = {label: y for label, y in lines.items() if np.isfinite(y).any()}
    for label, y in lines.items():
        ax.plot(y, zorder=2.5, path_effects=EDGE, **line_style(CONTROLS[label], len(states)))
    for family in curves.families:
        y = means_of(family, at, states, curves.split_names[split], scores)
        if np.isfinite(y).any():
            ax.plot(y, zorder=1.4, **line_style(CONTROLS["each family"], len(states)))
            lines["each family"] = y
    return {label: CONTROLS[label] for label in lines}


def _draw_splits(
    ax: Axes, curves: Curves, at: int, states: Sequence[str], scores: Scores
) -> dict[str, Look]:
    """Draw a line per split with its intervals; return their looks by the splits' own names."""
    looks = dict(zip(curves.split_names, SPLITS, strict=False))
    splits = _splits(curves, scores, states)
    for split in splits:
        ends = np.full((2, len(states)), np.nan)
        for i, state in enumerate(states):
            if curves.copies > 1 and scores(curves, split, state) is not None:
                number = partial(number_of, scores, split, state, at)
                one = measured(state, split, number, [curves], "figure of layers")
                ends[:, i] = one.low, one.high
        look = looks[split]
        ax.fill_between(range(len(states)), *ends, color=look.color, alpha=BAND_ALPHA, linewidth=0)
        y = means_of(curves, at, states, split, scores)
        ax.plot(y, zorder=2, clip_on=False, **line_style(look, len(states)))
    return {curves.split_names[split]: looks[split] for split in splits}


def means_of(
    curves: Curves, at: int, states: Sequence[str], split: str, scores: Scores
) -> list[float]:
    """Return the scores as measured, NaN if there are none."""
    each = [scores(curves, split, state) for state in states]
    return [np.nan if y is None else float(y[0, at]) for y in each]


def number_of(scores: Scores, split: str, state: str, at: int, curves: Curves) -> Floats:
    """Return the score of a hidden state at the checkpoint with an index, (B,)."""
    y = scores(curves, split, state)
    assert y is not None  # choices have the scores of their curves
    return y[:, at]


def line_style(look: Look, n: int = 1) -> dict[str, Any]:
    """Return how a line of n hidden states is drawn; of many, some have a marker."""
    return {
        "color": look.color,
        "linestyle": look.dashes,
        "marker": look.marker,
        "linewidth": look.width,
        "markevery": -(-n // 12),
    }


def draw_legend(figure: Figure, looks: dict[str, Look], n: int, curves: Curves) -> None:
    """Explain the lines and bands below the panels, n side by side."""
    handles: list[Any] = [Line2D([], [], **line_style(look)) for look in looks.values()]
    labels = [*looks]
    if curves.copies > 1:
        handles.append(Patch(color=PALETTE[0], alpha=BAND_ALPHA, linewidth=0))
        over = [*curves.units, *(["near-best starts"] if curves.choices else [])]
        labels.append(f"{CONFIDENCE:.0%} interval over {', '.join(over)}")
    add_legend(figure, handles, labels, n)
