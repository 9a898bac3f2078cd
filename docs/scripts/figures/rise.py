"""Draw long training: clusters, decodability and use, for each setting."""

import math

from matplotlib.figure import Figure
from tables.rise_tables import Courses

from figures.bands import draw_band, finish, spans
from tasklens.report.step_axis import step_axis
from tasklens.report.style import PALETTE, in_style, new_figure, share_axis

#: Columns with their label, colour and dashes.
LINES = {
    "ari": ("clusters: ARI", PALETTE[0], "-"),
    "probe_task": ("linear probe", PALETTE[5], "--"),
    "shift": ("answers that follow a shift", PALETTE[1], "-"),
    "random": ("random directions", "0.45", ":"),
    "accuracy": ("accuracy", "black", ":"),
}


@in_style
def draw_rise(courses: Courses) -> Figure:
    """Draw the courses of the best layer and of the last block on unseen pairs, by setting.

    The best layer of a run has the highest ARI on the training subset at any checkpoint. A dotted
    vertical line marks the checkpoint of each seed at which it has that.
    """
    last = courses.layers[-1]
    rows = {"best layer": courses.layers, last: [last]}
    settings = courses.settings
    figure = new_figure(0.5 + 2.1 * len(settings), 0.6 + 1.6 * len(rows), "constrained")
    axes = figure.subplots(len(rows), len(settings), sharex=True, sharey=True, squeeze=False)
    for line, (title, layers) in zip(axes, rows.items(), strict=True):
        for ax, outputs in zip(line, settings, strict=True):
            peaks = {seed: courses.peak(outputs, seed, layers) for seed in courses.seeds}
            known = {seed: peak for seed, peak in peaks.items() if peak is not None}
            every: set[int] = set()
            for name, (label, color, dashes) in LINES.items():
                each = [
                    courses.course(outputs, seed, layer, name) for seed, (layer, _) in known.items()
                ]
                steps = sorted({step for course in each for step in course})
                every |= {*steps}
                values = [[course.get(step, math.nan) for step in steps] for course in each]
                few = name in ("shift", "random")
                marker = "." if few else ""
                if steps:
                    draw_band(ax, steps, values, color, label, dashes=dashes, marker=marker)
            for _, step in known.values():
                ax.axvline(step, color="0.8", linewidth=0.8, linestyle=":", zorder=0)
            step_axis(ax, sorted({0, *every}), linear=True)
            ax.set_xlabel("")
            share_axis(ax)
            names = ", ".join(dict.fromkeys(layer for layer, _ in known.values()))
            suffix = f" ({names})" if title != last else ""
            ax.set_title(f"{outputs} outputs: {title}{suffix}")
    for ax in axes[-1]:
        ax.set_xlabel("training step")
    finish(figure, f"val_subset; {spans(courses.seeds)}", columns=len(LINES))
    return figure
