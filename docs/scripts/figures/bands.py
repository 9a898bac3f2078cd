"""Draw a mean and a range over seeds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.report.layout import add_legend
from tasklens.report.style import write_heading


def draw_band(
    ax: Axes,
    x: Sequence[float],
    seeds: Sequence[Sequence[float]],
    color: str,
    label: str,
    *,
    dashes: str = "-",
    marker: str = "",
) -> None:
    """Draw the mean of the seeds as a line and their range as a band.

    ``seeds`` has the values of each seed, (S, X). Where a seed has no number, which is NaN, the
    others count.
    """
    values = np.array(seeds, dtype=np.float64)
    known = ~np.isnan(values).all(axis=0)
    if not known.any():
        return
    at, kept = np.asarray(x, dtype=np.float64)[known], values[:, known]
    mean, low, high = (f(kept, axis=0) for f in (np.nanmean, np.nanmin, np.nanmax))
    ax.plot(at, mean, dashes, linewidth=1.2, color=color, label=label, marker=marker)
    ax.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)


def spans(seeds: Sequence[int]) -> str:
    """Return what lines and bands are of, as a part of a heading."""
    return "one seed" if len(seeds) == 1 else f"means, bands: ranges over {len(seeds)} seeds"


def finish(figure: Figure, heading: str, columns: int) -> None:
    """Write a heading above the panels, and below them the legend of the first."""
    add_legend(figure, *figure.axes[0].get_legend_handles_labels(), columns)
    write_heading(figure, heading)
