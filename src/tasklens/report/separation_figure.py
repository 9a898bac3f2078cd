"""Draw the agreement of clusters with the task against how separate the tasks are."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.report.layout import add_legend, panels_of
from tasklens.report.style import PALETTE, in_style, share_axis
from tasklens.scoring.score_table import at_position, summarise, to_frame

#: The largest number of dots in a figure. More dots hide each other, and take time and memory.
DOTS = 100_000


@in_style
def separation_plot(pairs: NDArray[np.float64], *, ax: Axes | None = None) -> Figure:
    """Draw ARI against separation, with a dot for each of the N pairs.

    Untrained networks have another colour. The title contains Spearman's correlation of all pairs.
    If there are more than `DOTS` pairs, a random choice of them is drawn.

    Parameters
    ----------
    pairs : numpy.ndarray
        From `separation_pairs`, (N, 3).
    ax : matplotlib.axes.Axes, optional
        Axes to draw into, of a figure of your own.

    Raises
    ------
    InputError
        If N is 0.
    """
    if not len(pairs):
        raise InputError("the table has no separation of a block: measure the runs again")
    rho = float(spearmanr(pairs[:, 1], pairs[:, 2]).statistic)
    title = f"{len(pairs):,} hidden states; Spearman {rho:.2f}"
    if len(pairs) > DOTS:
        pairs = stream(0, "dots").choice(pairs, DOTS, replace=False)
    step, separation, ari = pairs.T
    is_new = ax is None
    figure, (ax,) = panels_of(ax, 1, (2.95, 2.3), 1)
    dots = {"trained": (step > 0, PALETTE[5]), "untrained": (step == 0, PALETTE[1])}
    for name, (mask, color) in dots.items():
        x, y = separation[mask], ari[mask]
        ax.scatter(x, y, s=4, linewidths=0, alpha=0.5, color=color, label=name)
    ax.set_xscale("log")
    ax.xaxis.set(major_formatter="{x:g}", minor_formatter=NullFormatter())
    if separation.max() < 10 * separation.min():  # otherwise powers of ten are enough
        ax.xaxis.set(major_locator=MaxNLocator(5), minor_locator=NullLocator())
    share_axis(ax)
    ax.set_xlabel("separation: variance between tasks /\nlargest variance within tasks")
    ax.set_ylabel("ARI")
    ax.set_title(title)
    if is_new:
        add_legend(figure, *ax.get_legend_handles_labels())
    return figure


def separation_pairs(scores: pa.Table) -> NDArray[np.float64]:
    """Return the step, separation and mean ARI of each hidden state of a block, (N, 3).

    There is one row per run, seed, split, block and step, in the space "raw". Of several positions
    the first counts.
    """
    blocks = pc.starts_with(pc.field("layer"), "block")
    rows = at_position(scores).filter(blocks & (pc.field("space") == "raw"))
    keys = ("step", "run", "seed", "split", "layer")
    means = [summarise(to_frame(rows, (metric,)), keys)["mean"] for metric in ("separation", "ari")]
    pairs = pd.concat(means, axis="columns", join="inner").reset_index("step")
    return np.asarray(pairs, dtype=np.float64)
