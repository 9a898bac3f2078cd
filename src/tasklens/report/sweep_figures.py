"""Draw a sweep: heat maps over two settings, and one setting at a time."""

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasklens.core.errors import InputError
from tasklens.data.instances import split_title
from tasklens.data.names import find_position
from tasklens.report.layout import add_legend
from tasklens.report.matrices import COLORS, draw_scale
from tasklens.report.style import (
    IN_TITLE,
    PALETTE,
    drawable,
    in_style,
    new_figure,
    room,
    share_axis,
    text_scale,
    write_heading,
)
from tasklens.scoring.score_table import positions_of
from tasklens.scoring.sweep_summary import best_rows

#: Titles of the maps, by column of `sweep_summary.best_rows`; dashes and colours of the lines.
MAPS = {
    "final": "final ARI",
    "peak": "peak ARI",
    "last": "final ARI, last block",
    "accuracy": "accuracy",
}
LINES = {
    "final": ("-", PALETTE[0]),
    "peak": ("-.", PALETTE[2]),
    "last": (":", PALETTE[1]),
    "accuracy": ("--", "black"),
}


@in_style
def phase_diagram(
    points: pa.Table,
    x: str,
    y: str,
    split: str = "val_subset",
    space: str = "raw",
    position: str = "",
) -> Figure:
    """Draw the final ARI, the peak ARI, the ARI of the last block, and the accuracy.

    Each is a map over two settings. A cell is the mean over its runs, such as the seeds, and
    contains it as a number. Of several runs it also contains the lowest and the highest value.
    Final and peak ARI are those of each run's best layer, which is chosen on `train_subset`.

    Parameters
    ----------
    points : pyarrow.Table
        From `tasklens.scoring.sweep_summary.points_table`.
    x, y : str
        Settings, which are columns of the table.
    split, space : str
        The split and the space ("raw" or "tsne") of the scores.
    position : str
        The measured position; by default the first of each run.

    Raises
    ------
    InputError
        If the table has no such column or no such scores.
    """
    rows = _rows(points, (x, y), split, space, position)
    columns, lines = (sorted({r[key] for r in rows}) for key in (x, y))
    across, down = (list(map(_text, values)) for values in (columns, lines))
    cells = {(b, a): [r for r in rows if (r[y], r[x]) == (b, a)] for b in lines for a in columns}
    is_range = any(len(cell) > 1 for cell in cells.values())
    below, beside = _room_below(across), max(0, room(down) - 0.4)
    panel = max(1.7, 0.3 + 0.42 * len(columns)) if is_range else 1.7
    high = (0.4 if is_range else 0.32) * len(lines)
    figure = new_figure(1.4 + panel * len(MAPS) + beside, 0.9 + high + below, "constrained")
    axes = figure.subplots(1, len(MAPS), sharey=True)
    for i, (ax, (name, title)) in enumerate(zip(axes, MAPS.items(), strict=True)):
        values = np.full((len(lines), len(columns)), np.nan)
        for a, b in np.ndindex(*values.shape):
            each = [r[name] for r in cells[lines[a], columns[b]]]
            if each:
                values[a, b] = np.mean(each)
                color = "white" if values[a, b] < 0.46 else "black"
                above = 0.14 * (len(each) > 1)
                center: Any = {"ha": "center", "va": "center", "color": color}
                ax.text(b, a + above, f"{values[a, b]:.2f}", **center)
                if above:
                    ends = f"{min(each):.2f}\u2013{max(each):.2f}"
                    ax.text(b, a - 0.24, ends, fontsize=5 * text_scale(), **center)
        ax.imshow(values, origin="lower", vmin=0, vmax=1, cmap=COLORS, aspect="auto")
        ax.set_title(f"({ascii_lowercase[i]}) {title}")
        ax.set_xticks(range(len(across)), across, rotation=90 if below else 0)
        ax.set_yticks(range(len(down)), down)
        ax.tick_params(length=0)
        ax.set_xlabel(drawable(x, IN_TITLE))
    axes[0].set_ylabel(drawable(y, IN_TITLE))
    draw_scale(figure, axes, "ARI, accuracy")
    heading = _heading(points, split, position)
    if is_range:
        heading += f"; means and ranges over {_runs_of(cells.values())}"
    write_heading(figure, heading)
    return figure


@in_style
def one_at_a_time(
    points: pa.Table,
    axes: Sequence[Sequence[str]],
    base: Mapping[str, Any],
    split: str = "val_subset",
    space: str = "raw",
    position: str = "",
) -> Figure:
    """Draw the numbers of `phase_diagram` against each setting, with the others as in the base.

    Lines are means over the seeds, dots are the seeds, and bands are their range. A grey line marks
    the value of the base.

    Parameters
    ----------
    points : pyarrow.Table
        From `tasklens.scoring.sweep_summary.points_table`.
    axes : sequence of sequence of str
        The settings of each panel, which vary together.
    base : mapping
        A value for every setting that varies in the table.
    split, space, position : str
        See `phase_diagram`.

    Raises
    ------
    InputError
        If the table has no such column or no such scores.
    """
    rows = _rows(points, [key for keys in axes for key in keys], split, space, position)
    across = min(4, len(axes))
    down = -(-len(axes) // across)
    shown = [[r for r in rows if _axis(r, axes, base) in (None, keys)] for keys in axes]
    below = max(
        _room_below(_names(on_axis, keys[0])) for on_axis, keys in zip(shown, axes, strict=True)
    )
    wide, high = max(4.1, 0.4 + 1.75 * across), 0.3 + (1.6 + below) * down
    figure = new_figure(wide, high, "constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax in panels.flat[len(axes) :]:
        ax.remove()
    for ax, keys, on_axis in zip(panels.flat, axes, shown, strict=False):
        _against(ax, on_axis, keys[0], base[keys[0]])
    share_axis(panels[0, 0])
    add_legend(figure, *panels[0, 0].get_legend_handles_labels())
    heading = _heading(points, split, position)
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for r in rows:
        alike.setdefault(tuple(r[key] for key in base), []).append(r)
    if any(len(runs) > 1 for runs in alike.values()):
        heading += f"; means, bands: ranges over {_runs_of(alike.values())}"
    write_heading(figure, heading)
    return figure


def _axis(
    row: Mapping[str, Any], axes: Sequence[Sequence[str]], base: Mapping[str, Any]
) -> Sequence[str] | None:
    """Return the axis along which a run differs from the base; None for the base itself.

    If several axes contain all settings that differ, the result is the shortest axis. If no axis
    contains them, it is ().
    """
    differs = {key for key in base if row[key] != base[key]}
    if not differs:
        return None
    return min((keys for keys in axes if differs <= set(keys)), key=len, default=())


def _against(ax: Axes, rows: list[dict[str, Any]], key: str, base: object) -> None:
    """Draw means over the seeds as lines, and the seeds as dots, by the values of one setting."""
    values = sorted({r[key] for r in rows})
    for name, title in MAPS.items():
        seeds = [[r[name] for r in rows if r[key] == value] for value in values]
        dashes, color = LINES[name]
        means = list(map(np.mean, seeds))
        ax.plot(range(len(values)), means, dashes, linewidth=1.0, color=color, label=title)
        low, high = (list(map(end, seeds)) for end in (min, max))
        ax.fill_between(range(len(values)), low, high, color=color, alpha=0.15, linewidth=0)
        for i, dots in enumerate(seeds):
            ax.plot([i] * len(dots), dots, linestyle="", marker="o", color=color)
    if base in values:  # otherwise the run of the base has failed
        ax.axvline(values.index(base), color="0.85", linewidth=4, zorder=0)
    names = _names(rows, key)
    ax.set_xticks(range(len(names)), names, rotation=90 if _room_below(names) else 0)
    ax.set_title(drawable(key, IN_TITLE))


def _rows(
    points: pa.Table, keys: Sequence[str], split: str, space: str, position: str
) -> list[dict[str, Any]]:
    """Return the rows to draw; InputError if a setting or all rows are missing."""
    for key in keys:
        if key not in points.column_names:
            raise InputError(f"no setting {key!r} varies; the columns are {points.column_names}")
    if position:
        find_position(position, _positions(points))
    rows = best_rows(points, split, space, position)
    if not rows:
        raise InputError(f"the table has no scores of {split} in the space {space!r}")
    return rows


def _positions(points: pa.Table) -> list[str]:
    """Return the positions of a summary, which earlier versions did not have."""
    return positions_of(points) if "position" in points.column_names else []


def _heading(points: pa.Table, split: str, position: str) -> str:
    """Return the split as a title, with the position if there are several."""
    heading, known = drawable(split_title(split), IN_TITLE), _positions(points)
    if len(known) > 1:
        heading += f", at {drawable(position or known[0], IN_TITLE)}"
    return heading


def _runs_of(groups: Iterable[Sequence[Mapping[str, Any]]]) -> str:
    """Return how many runs of each group stand behind a mean, as text."""
    groups = [group for group in groups if group]
    sizes = sorted({len(group) for group in groups})
    differ = all(len({r["seed"] for r in group}) == len(group) for group in groups)
    number = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    return f"{number} {'seeds' if differ else 'runs'}"


def _names(rows: list[dict[str, Any]], key: str) -> list[str]:
    """Return the values of a setting, in order, as text."""
    return [_text(value) for value in sorted({row[key] for row in rows})]


def _room_below(names: Sequence[str]) -> float:
    """Return the inches of names that are turned because a panel is too narrow; otherwise 0."""
    longest = room(names)
    return longest if longest * len(names) > 1.5 else 0.0


def _text(value: object) -> str:
    """Return the value of a setting as text."""
    return f"{value:g}" if isinstance(value, float) else drawable(str(value))
