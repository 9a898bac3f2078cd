"""Draw the lines and bands of a panel of Figure 1, and name them."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from tasklens.report.end_labels import End, label_ends
from tasklens.report.figure1_panels import Lines, states_in
from tasklens.report.layer_looks import EDGE, LABELS, SHUFFLED, STYLES, by_importance, line_look
from tasklens.report.step_axis import step_axis
from tasklens.report.style import state_axis
from tasklens.scoring.score_table import CONTROLS, NO_STEP

BAND_ALPHA = 0.12


def draw_panel(ax: Axes, lines: Lines, states: Sequence[str], steps: Sequence[int]) -> None:
    """Draw lines by step, or of one step a point per hidden state, with controls and names."""
    ends = _draw_states(ax, lines, states, *steps) if len(steps) == 1 else []
    ends = ends or _draw_steps(ax, lines, states)
    right = len(states) - 0.5 if len(steps) == 1 else steps[-1]
    for control in (*CONTROLS, SHUFFLED):
        if control in lines:
            level, look = lines[control].at[NO_STEP, "mean"], STYLES[control]
            ax.axhline(level, zorder=2.5, path_effects=EDGE, label=LABELS[control][0], **look)
            ends.append(End(control, right, level, look["color"]))
    order = by_importance([end.name for end in ends])
    chosen = sorted((e for e in ends if e.name in order), key=lambda end: order.index(end.name))
    label_ends(ax, [end._replace(name=LABELS.get(end.name, ("", end.name))[1]) for end in chosen])


def _draw_steps(ax: Axes, lines: Lines, states: Sequence[str]) -> list[End]:
    """Draw the accuracy, and a line and a band for each hidden state; return their ends."""
    ends = []
    for line in (*states, "model"):
        if line in lines:
            look, course = line_look(line, states), lines[line]
            low, high, color = course["low"], course["high"], look["color"]
            ax.fill_between(course.index, low, high, color=color, alpha=BAND_ALPHA, linewidth=0)
            every = max(1, len(course) // 8)
            label = LABELS.get(line, (line,))[0]
            ax.plot(course["mean"], markevery=every, clip_on=False, label=label, **look)
            ends.append(End(line, course.index[-1], course["mean"].iloc[-1], color))
    step_axis(ax, sorted({step for state in states_in(lines) for step in lines[state].index}))
    return ends


def _draw_states(ax: Axes, lines: Lines, states: Sequence[str], step: int) -> list[End]:
    """Draw a point and a range per hidden state, from the input up; return the accuracy's end."""
    drawn = {i: lines[state].loc[step] for i, state in enumerate(states) if state in lines}
    means = [values["mean"] for values in drawn.values()]
    ax.plot(list(drawn), means, color="0.75", linewidth=0.8, zorder=1.5)
    for i, values in drawn.items():
        look: dict[str, Any] = {"marker": "o", **line_look(states[i], states)}
        ax.vlines(i, values["low"], values["high"], color=look["color"], linewidth=0.8)
        ax.plot(i, values["mean"], **look)
    ax.set_xlim(-0.5, len(states) - 0.5)
    state_axis(ax, states, step)
    if "model" not in lines or step not in lines["model"].index:
        return []
    level, look = lines["model"].at[step, "mean"], STYLES["model"]
    ax.axhline(level, label=LABELS["model"][0], **look)
    return [End("model", len(states) - 0.5, level, look["color"])]
