"""Draw Figure 3: ARI, decodability and use of the hidden states, by layer and through training."""

from collections.abc import Callable, Sequence
from functools import partial
from string import ascii_lowercase
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tasklens.core.errors import InputError
from tasklens.data.instances import split_title
from tasklens.findings.curves import Curves, units_of
from tasklens.findings.rules import PAIRS
from tasklens.findings.statistics import MissingError
from tasklens.findings.use import BECOMES, CAVEAT, best_state, course, effects_of, shared
from tasklens.report.layout import add_legend
from tasklens.report.step_axis import step_axis
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
from tasklens.scoring.bootstrap import CONFIDENCE, Floats, interval


class Look(NamedTuple):
    """The look of a line."""

    label: str
    color: str
    dashes: str
    marker: str


#: The lines. Those with effects are the share of answers that become the other task's.
LOOKS = {
    "ari": Look("clusters: ARI", PALETTE[0], "-", "o"),
    "probe": Look("linear probe: accuracy", PALETTE[5], "--", "D"),
    "shift": Look("answers that follow a shift", PALETTE[7], "-", "s"),
    "patch": Look("answers that follow a patch", PALETTE[1], "-.", "^"),
    "random": Look("random directions", "0.45", ":", ""),
}
#: The range of the random directions.
GREY = "0.85"
#: How opaque the band of an interval is, in the colour of its line.
BAND_ALPHA = 0.2
#: Inches: height of a panel, and widths of the whole.
PANEL, WIDTHS = 2.0, {1: 3.4, 2: 6.8}


@in_style
def figure3(
    runs: Curves | Sequence[Curves],
    split: str = PAIRS,
    layers: Sequence[str] = (),
    columns: Literal[1, 2] = 2,
) -> Figure:
    """Draw whether the task forms clusters, can be decoded, and is used, by layer and by step.

    The first panel has the hidden states at the last checkpoint with edits, the others have one
    layer each through training. Use is the share of answers that become those of another task as a
    state is moved by the difference of the tasks' centroids. Its ceiling replaces the state by a
    real one of the other task. Both are shares of all pairs of an instance and a task: as they are
    and not normalised, so that the ceiling is in sight and nothing is divided by little. Earlier
    tokens still carry the own task.

    Lines are means over runs. A band is the 95 % interval over instructions, and over runs if there
    are several. The grey band is the range of the random directions, each a mean over instances.
    The figure has no argument ``axes``, since the number of its panels depends on the runs.

    Parameters
    ----------
    runs : Curves or sequence of Curves
        Runs with interventions that differ in their seed only, see `tasklens.load_run` and
        `Run.curves`.
    split : str
        Name of an unseen split.
    layers : sequence of str
        The layers of the further panels; by default the best layer by its ARI on the training
        subset, and the last block.
    columns : 1 or 2
        Number of columns of a page that the figure fills: 3.4 or 6.8 inches.

    Raises
    ------
    InputError
        If a run has no interventions, or lacks the split or a layer.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure3(tl.load_run("runs/smoke").curves()).savefig("figure3.png")
    """
    every = [runs] if isinstance(runs, Curves) else list(runs)
    role, states, steps = _checked(every, split)
    chosen = list(layers) or _chosen(every, states)
    for layer in chosen:
        if layer not in states:
            raise InputError(f"no edits of {layer!r}; there are {', '.join(states)}")
    is_series = every[0].is_series
    panels = ["", *chosen] if len(steps) > 1 and is_series else [""]
    across = 1 if columns == 1 else len(panels)
    down = len(panels) // across
    named = max(0.0, room([*map(drawable, states)]) - 0.3)
    high = 0.25 + 0.12 * (columns == 1) + down * PANEL + named
    figure = new_figure(WIDTHS[columns], high, "constrained")
    axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for i, (ax, layer) in enumerate(zip(axes, panels, strict=True)):
        _draw(ax, every, role, [layer] if layer else states, by_state=not layer)
        if layer:
            step_axis(ax, steps)
            is_best = {best_state(curves) for curves in every} == {layer}
            title = f"{drawable(layer, IN_TITLE)}{', the best by ARI' * is_best}"
        else:
            state_axis(ax, states, steps[-1] if is_series else None)
            title = "all hidden states"
        ax.set_title(f"({ascii_lowercase[i]}) {title}")
        share_axis(ax)
        if i % across == 0:
            ax.set_ylabel("ARI, accuracy, share")
    title = drawable(split_title(every[0].split_names[role]), IN_TITLE)
    position = drawable(effects_of(every[0]).position, IN_TITLE)
    between = ", " if columns == 2 else "\n"
    write_heading(figure, f"{title}{between}edited at {position}; {CAVEAT}")
    add_legend(figure, *_legend(every, role))
    return figure


def _checked(runs: Sequence[Curves], split: str) -> tuple[str, list[str], tuple[int, ...]]:
    """Return the role of a split, the edited states that were clustered, and the checkpoints."""
    if not runs:
        raise InputError("no run to draw: give at least one")
    for curves in runs:
        if curves.effects is None:
            raise InputError(f"run {curves.run!r} has no interventions: tasklens intervene RUN")
    effects = effects_of(runs[0])
    roles = {own: role for role, own in runs[0].split_names.items()}
    role = roles.get(split, split)
    edited = {key[0] for key in effects.effect}
    if runs[0].split_names.get(role) not in edited:
        raise InputError(f"no edits on the split {split!r}; there are {', '.join(sorted(edited))}")
    if any(effects_of(curves).steps != effects.steps for curves in runs):
        raise InputError("the runs have edits at different checkpoints: give them one by one")
    states = [state for state in effects.states if (role, state, "raw") in runs[0].ari]
    return role, states, effects.steps


def _chosen(runs: Sequence[Curves], states: Sequence[str]) -> list[str]:
    """Return the best layer of the first run, by its ARI, and the last block."""
    layers = [layer for layer in runs[0].layers if layer in states]
    return [*dict.fromkeys([best_state(runs[0]), layers[-1]])]


def _draw(
    ax: Axes, runs: Sequence[Curves], role: str, states: Sequence[str], *, by_state: bool
) -> None:
    """Draw all lines: by state at the last checkpoint, or of one state by step."""
    x = range(len(states)) if by_state else effects_of(runs[0]).steps

    def values(of_state: Callable[[str], Floats]) -> Floats:
        each = [of_state(state) for state in states]
        return np.stack(np.broadcast_arrays(*(y[:, -1] for y in each)), 1) if by_state else each[0]

    n = _draws(runs, role)
    reach = [values(partial(_ends, curves, role, n)) for curves in runs]
    low, high = np.min(reach, axis=0)[0], np.max(reach, axis=0)[1]
    ax.fill_between(x, low, high, color=GREY, linewidth=0, zorder=1)
    for name, look in reversed(LOOKS.items()):
        of_runs = [values(partial(_course, curves, role, name)) for curves in runs]
        mean = np.mean([y[0] for y in of_runs], axis=0)
        if np.isnan(mean).all():
            continue
        if name != "random" and (len(runs) > 1 or len(of_runs[0]) > 1):
            ends = [interval([y[:, i] for y in of_runs], "figure 3", name) for i in range(len(x))]
            ax.fill_between(x, *np.transpose(ends), color=look.color, alpha=BAND_ALPHA, linewidth=0)
        every = max(1, len(x) // 6)
        ax.plot(x, mean, markevery=every, clip_on=False, **_line(look))


def _course(curves: Curves, role: str, name: str, state: str) -> Floats:
    """Return a line of a state at every checkpoint with edits, (B, S); NaN if it is not known."""
    try:
        if name == "ari":
            return shared(curves, curves.ari[role, state, "raw"])
        if name == "probe":
            return shared(curves, curves.decoded[role, state])
        return course(curves, role, state, name)
    except (KeyError, MissingError):
        return np.full((1, len(effects_of(curves).steps)), np.nan)


def _draws(runs: Sequence[Curves], role: str) -> int:
    """Return how many random directions there are in every state and at every checkpoint."""
    sizes = {
        len(drawn)
        for curves in runs
        for key, by_step in effects_of(curves).draws.items()
        if key[0] == curves.split_names[role] and key[2:] == ("random", BECOMES)
        for drawn in by_step
    }
    return min(sizes - {0}, default=0)


def _ends(curves: Curves, role: str, n: int, state: str) -> Floats:
    """Return the least and the largest effect of ``n`` random directions, (2, S)."""
    key = curves.split_names[role], state, "random", BECOMES
    steps = effects_of(curves).steps
    drawn = [y[:n] for y in effects_of(curves).draws.get(key, [np.empty(0)] * len(steps))]
    return np.array([(y.min(), y.max()) if len(y) else (np.nan, np.nan) for y in drawn]).T


def _line(look: Look) -> dict[str, Any]:
    return {
        "color": look.color,
        "linestyle": look.dashes,
        "marker": look.marker,
        "linewidth": 1.2,
        "zorder": 2,
    }


def _legend(runs: Sequence[Curves], role: str) -> tuple[list[Any], list[str]]:
    """Return the handles of the legend, and their labels."""
    decoded = any(split == role for curves in runs for split, _ in curves.decoded)
    looks = {name: look for name, look in LOOKS.items() if name != "probe" or decoded}
    handles: list[Any] = [Line2D([], [], **_line(look)) for look in looks.values()]
    labels = [look.label for look in looks.values()]
    if n := _draws(runs, role):
        i = [*looks].index("random")
        handles[i] = (Patch(color=GREY, linewidth=0), handles[i])
        labels[i] += f": mean and range of {n}"
    resampled = any(len(y) > 1 for curves in runs for y in effects_of(curves).effect.values())
    over = ["runs"] * (len(runs) > 1) + units_of(runs) * resampled
    if over:
        handles.append(Patch(color=PALETTE[0], alpha=BAND_ALPHA, linewidth=0))
        labels.append(f"{CONFIDENCE:.0%} interval over {' and '.join(over)}")
    return handles, labels
