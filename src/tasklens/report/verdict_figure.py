"""Draw a verdict, one row per check."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tasklens.core.errors import InputError
from tasklens.findings.check import Check, Outcome
from tasklens.findings.use import CAVEAT, USE
from tasklens.findings.verdict import Verdict
from tasklens.report.style import IN_TITLE, PALETTE, drawable, in_style, new_figure, text_scale
from tasklens.scoring.bootstrap import CONFIDENCE

#: Colour and shape of an outcome.
LOOKS: dict[Outcome, tuple[str, str]] = {
    "holds": (PALETTE[0], "o"),
    "fails": (PALETTE[7], "X"),
    "undecided": (PALETTE[1], "D"),
}
#: Values are drawn up to this limit on both sides; a larger value is an arrow near the edge.
LIMIT, ARROW, EDGE = 1.0, 1.08, 1.15
#: The largest number of runs that are named.
FEW_RUNS = 3
#: Inches: height of a row; widths of statistics, splits, axis and numbers; margins.
ROW, WIDE, ABOVE, BELOW = 0.15, (4.1, 1.2, 2.2, 1.15), 0.3, 0.55
#: Half the height of the grey of a check, in rows.
GREY = 0.36


@in_style
def figure_verdict(verdict: Verdict) -> Figure:
    """Draw the checks of a verdict, one row each: value, interval, threshold and outcome.

    The range in which a check holds is grey. A value beyond -1 or 1 is drawn as an arrow. All
    values are also written beside the axis. The figure is a table around an axis: its size follows
    from its rows, and it has no argument ``ax``.

    Parameters
    ----------
    verdict : Verdict
        From `tasklens.verify`.

    Raises
    ------
    InputError
        If the verdict has no checks.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.figure_verdict(tl.verify("runs/smoke")).savefig("verdict.png")
    """
    if not verdict.checks:
        raise InputError("the verdict has no checks: there is nothing to draw")
    further = {} if verdict.use.untested else USE
    sentences = {**verdict.findings, **further}
    checks = {finding: verdict.checks_of(finding) for finding in sentences}
    # Findings that stand apart have an empty row above, and a row that explains them.
    rows = sum(1 + max(1, len(of_finding)) for of_finding in checks.values()) + 2 * len(further)
    wide, high = sum(WIDE) + 0.1, ROW * rows + ABOVE + BELOW
    figure = new_figure(wide, high)
    left = 0.05 + WIDE[0] + WIDE[1]
    ax = figure.add_axes((left / wide, BELOW / high, WIDE[2] / wide, ROW * rows / high))
    ax.set(xlim=(-EDGE, EDGE), ylim=(rows - 0.5, -0.5), yticks=[])
    ax.set_xticks([-1, -0.5, 0, 0.5, 1], ["-1", "", "0", "", "1"])
    ax.tick_params(length=2)
    ax.spines.left.set_visible(False)
    ax.axvline(0, color="0.8", linewidth=0.6, zorder=0.5)
    row = 0
    for finding, of_finding in checks.items():
        row += 2 * (finding in further)
        if finding in further:
            layers = " and ".join(dict.fromkeys(verdict.use.layers))
            _write(ax, row - 1, 0, f"apart from the findings, in {layers}; {CAVEAT}")
        _heading(ax, row, f"{finding}: {sentences[finding]}", verdict.outcome(finding))
        if not of_finding:
            _write(ax, row + 1, 0, "no data were held out")
        for i, check in enumerate(of_finding):
            if i == 0 or check.rule is not of_finding[i - 1].rule:
                _write(ax, row + 1 + i, 0, f"{check.rule.statistic}, {check.rule.threshold}")
            _draw(ax, row + 1 + i, check)
        row += 1 + max(1, len(of_finding))
    figure.text(0.05 / wide, 1 - 0.12 / high, _title(verdict), va="center")
    _legend(figure)
    return figure


def _title(verdict: Verdict) -> str:
    """Return the runs, the number of findings with each outcome, and what the intervals cover."""
    runs = ", ".join(f"{drawable(run, IN_TITLE)} (seed {seed})" for run, seed in verdict.runs)
    runs = runs if len(verdict.runs) <= FEW_RUNS else f"{len(verdict.runs)} runs"
    outcomes = [verdict.outcome(finding) for finding in verdict.findings]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in LOOKS)
    over = f"; {CONFIDENCE:.0%} intervals over {verdict.over}" if verdict.over else ""
    return f"{runs}: {len(outcomes)} findings: {counts}{over}"


def _write(ax: Axes, row: int, column: int, text: str, **font: Any) -> None:
    """Write into one of the four columns, of which the third is the axis."""
    x = (sum(WIDE[:column]) - WIDE[0] - WIDE[1]) / WIDE[2]
    x += 0.04 * (column == 3)
    ax.text(
        x,
        row,
        drawable(text),
        transform=ax.get_yaxis_transform(),
        va="center",
        fontsize=6.5 * text_scale(),
        **font,
    )


def _heading(ax: Axes, row: int, title: str, outcome: Outcome) -> None:
    """Write a finding and its outcome above its checks."""
    _write(ax, row, 0, title, weight="bold")
    _write(ax, row, 3, outcome, weight="bold", color=LOOKS[outcome][0])
    ends = -(WIDE[0] + WIDE[1]) / WIDE[2], 1 + WIDE[3] / WIDE[2]
    line: dict[str, Any] = {"color": "0.6", "linewidth": 0.5, "clip_on": False}
    ax.plot(ends, (row - 0.5, row - 0.5), transform=ax.get_yaxis_transform(), **line)


def _draw(ax: Axes, row: int, check: Check) -> None:
    """Draw the value, interval and threshold of a check."""
    rule, (color, marker) = check.rule, LOOKS[check.verdict]
    _write(ax, row, 1, check.split)
    if np.isnan(check.value):
        _write(ax, row, 2, check.note, style="italic")
        return
    ends = max(rule.above, -EDGE), min(rule.below, EDGE)
    ax.fill_betweenx((row - GREY, row + GREY), *ends, color="0.92", linewidth=0, zorder=0)
    for threshold in (rule.above, rule.below):
        if np.isfinite(threshold):
            ax.plot([threshold] * 2, (row - GREY, row + GREY), color="black", linewidth=1.0)
    interval = [] if np.isnan(check.low) else [check.low, check.high]
    if interval:
        ax.plot(np.clip(interval, -LIMIT, LIMIT), [row] * 2, color=color, linewidth=1.4)
    dot: dict[str, Any] = {"color": color, "markersize": 4.0, "markeredgewidth": 0}
    ax.plot(np.clip(check.value, -LIMIT, LIMIT), row, marker, **dot)
    if max([check.value, *interval]) > LIMIT:
        ax.plot(ARROW, row, ">", **dot)
    if min([check.value, *interval]) < -LIMIT:
        ax.plot(-ARROW, row, "<", **dot)
    n = rule.digits
    text = f"[{check.low:z.{n}f}, {check.high:z.{n}f}]" if interval else "no interval"
    _write(ax, row, 3, f"{check.value:z.{n}f}  {text}")


def _legend(figure: Figure) -> None:
    """Explain the symbols below the axis."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=color, marker=marker, markersize=4.0, linewidth=1.4, label=outcome)
        for outcome, (color, marker) in LOOKS.items()
    ]
    dot: dict[str, Any] = {"linestyle": "", "color": "0.4", "markersize": 4.0}
    handles += [
        Line2D([], [], marker="|", label="threshold", **dot | {"color": "black", "markersize": 7}),
        Patch(color="0.92", label="range in which the check holds"),
        Line2D([], [], marker=">", label="beyond the axis", **dot),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), borderpad=0.2)
