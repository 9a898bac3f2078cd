"""Scale the axis of training steps, and write its ticks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator

from tasklens.report.style import room

FEW_EVEN = 50
"""Up to this many evenly spaced checkpoints are drawn on a linear axis."""
GAP = 0.06
"""The least distance of the labels of two ticks, in inches."""


def step_axis(ax: Axes, steps: Sequence[int], *, linear: bool = False) -> None:
    """Scale the x axis linearly up to some step, so that step 0 shows, and then logarithmically.

    The label gives this step. A long tick and a dotted line mark it. Both ends have a tick with
    their number. Few evenly spaced steps have a linear axis, and all steps if ``linear`` is true.
    """
    ax.set_xlabel("training step")
    if len(steps) == 1:
        return
    first, last = steps[0], steps[-1]
    ax.set_xlim(first, last)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: step_label(step)))
    even = len(steps) <= FEW_EVEN and len(set(np.diff(steps))) == 1
    # Linear up to the first evenly spaced checkpoint, or otherwise up to the first checkpoint.
    spacing = int(np.diff(steps).max())
    begin = spacing if last > 4 * spacing else next(step for step in steps if step > 0)
    if linear or even or last <= 4 * begin:
        ticks = MaxNLocator(4, steps=[1, 2, 5, 10], integer=True).tick_values(first, last)
        ax.xaxis.set_major_locator(StepLocator([first, last, *map(int, ticks)]))
        return
    ax.set_xscale("symlog", linthresh=begin, linscale=0.5)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: step_label(step)))
    powers = [10**p for p in range(len(str(last)))]
    between = [m * power for m in (2, 5) for power in powers] if last < 100 * begin else []
    beyond = [tick for tick in [*powers[::-1], *between] if begin <= tick]
    ax.xaxis.set_major_locator(StepLocator([first, last, begin, *beyond]))
    ax.xaxis.set_minor_locator(FixedLocator([begin]))
    ax.xaxis.remove_overlapping_locs = False  # this tick is also a labelled one
    ax.tick_params(axis="x", which="minor", length=6, width=0.8, direction="inout")
    ax.grid(visible=True, axis="x", which="minor", color="0.6", linestyle=":", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"training step\n(linear to {step_label(begin)}, then log)")


def step_label(step: float) -> str:
    """Return a step as the text of a tick: "4.8k", or "4,801" if hundreds do not suffice."""
    step = round(step)
    return f"{step / 1000:,g}k" if step >= 1000 and step % 100 == 0 else f"{step:,}"


class StepLocator(Locator):
    """Ticks at those steps whose labels do not touch, of the most important steps first."""

    axis: Axis

    def __init__(self, steps: Sequence[int]) -> None:
        """Take the steps in the order of their importance."""
        self._widths = {step: room([step_label(step)]) for step in dict.fromkeys(steps)}  # inches

    def __call__(self) -> list[float]:
        """Return the ticks at the present size of the axes."""
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return the ticks between two ends."""
        ax = self.axis.axes
        kept: dict[float, tuple[float, float]] = {}  # left and right end of each label, in inches
        for step, width in self._widths.items():
            middle = ax.transData.transform((step, 0))[0] / ax.figure.dpi
            left, right = middle - (width + GAP) / 2, middle + (width + GAP) / 2
            free = all(right < low or left > high for low, high in kept.values())
            if vmin <= step <= vmax and free:
                kept[float(step)] = left, right
        return sorted(kept)
