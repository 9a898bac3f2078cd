"""Average the scores of hidden states."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.score_table import NO_STEP, at_position, summarise, to_frame

if TYPE_CHECKING:
    import pandas as pd


def mean_scores(table: pa.Table, split: str, metric: str) -> dict[tuple[str, int], float]:
    """Return the mean of a metric over seeds and cluster seeds, by (state, step).

    It is that of the hidden states themselves, which is the space "raw". Of several positions the
    first counts.
    """
    scores: dict[tuple[str, int], float]
    scores = score_ranges(table, split, metric)["mean"].to_dict()
    return scores


def score_ranges(table: pa.Table, split: str, metric: str) -> "pd.DataFrame":
    """Return `mean`, `low` and `high` of a metric by layer and step, of the same scores."""
    table = at_position(table)
    rows = to_frame(table.filter(pc.field("split") == split), (metric,))
    of_states = (rows["space"] == "raw") & (rows["step"] != NO_STEP)
    return summarise(rows[of_states], ("layer", "step"))


def best_state(table: pa.Table, split: str, states: Sequence[str], step: int) -> str:
    """Return the best layer of a split at a step, or the first state if none has a score."""
    scores = mean_scores(table, split, "ari")
    final = {(state, "raw"): scores.get((state, step), np.nan) for state in states}
    return (best_layer(final) or states)[0]
