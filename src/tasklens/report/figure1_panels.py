"""Compute the courses that the panels of Figure 1 show from a table of scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from tasklens.core.errors import InputError
from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.data.names import find_split
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.layer_looks import LABELS, SHUFFLED
from tasklens.scoring.score_table import (
    BAND,
    CONTROLS,
    NO_STEP,
    as_table,
    at_position,
    main_scores,
    summarise,
    to_frame,
)

if TYPE_CHECKING:
    import pandas as pd

Lines: TypeAlias = "dict[str, pd.DataFrame]"
"""Mean, low and high by step, for each hidden state or control; the step of a control is
`NO_STEP`."""


def shown_scores(table: "pa.Table | pd.DataFrame", settings: FigureSettings) -> pa.Table:
    """Return the scores at the position of the settings, for the first number of clusters."""
    return at_position(main_scores(as_table(table)), settings.position)


def panels_in(
    scores: pa.Table, settings: FigureSettings, separate: Sequence[str] = ()
) -> dict[str, Lines]:
    """Return the lines of each panel, by split.

    Columns that are ``separate``, such as the run, are levels of the index; others are averaged.
    """
    shuffled = f"{settings.metric}_shuffled"
    frame = to_frame(scores, (settings.metric, shuffled, "accuracy"))
    frame.loc[frame["metric"] == shuffled, ["layer", "step"]] = SHUFFLED, NO_STEP
    constant = frame["layer"].isin(["model", *CONTROLS])  # in all spaces
    shown = frame["layer"].isin(LABELS).where(constant, frame["space"] == settings.space)
    courses = summarise(frame[shown], ("split", "layer", "step", *separate))
    panels: dict[str, Lines] = {}
    for (split, line), course in courses.groupby(level=["split", "layer"], sort=False):
        panels.setdefault(split, {})[line] = course.droplevel(["split", "layer"]).sort_index()
    panels = {split: lines for split, lines in panels.items() if states_in(lines)}
    if not panels:
        spaces = sorted(filter(None, set(scores["space"].to_pylist())))
        raise InputError(
            f"the table has no {settings.metric} of hidden states in the space "
            f"{settings.space!r}; its spaces are {spaces}"
        )
    panels = {split: panels[split] for split in SPLIT_MEANINGS if split in panels} or panels
    chosen = [find_split(split, panels) for split in settings.splits]
    return {split: panels[split] for split in chosen or panels}


def states_in(lines: Lines) -> set[str]:
    """Return the names of the hidden states among the lines."""
    return lines.keys() - {"model", *CONTROLS, SHUFFLED}


def band_title(scores: pa.Table, settings: FigureSettings) -> str:
    """Return what the bands span, e.g. "range of 3 runs"; empty if nothing is repeated."""
    of_states = (pc.field("space") == settings.space) & pc.field("step").is_valid()
    rows = scores.filter(of_states & (pc.field("metric") == settings.metric))
    runs, seeds = rows.select(["run", "seed"]).to_pandas(), rows["cluster_seed"].unique()
    over = [f"{n} runs" for n in [len(runs.drop_duplicates())] if n > 1]
    if settings.metric == "ari" and not {*BAND}.isdisjoint(scores["metric"].to_pylist()):
        over.append("KMeans starts")
    elif len(seeds) > 1:
        over.append(f"{len(seeds)} KMeans seeds")
    return f"range of {' and '.join(over)}" if over else ""
