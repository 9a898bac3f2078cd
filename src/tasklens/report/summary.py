"""Average the scores of hidden states."""

import pyarrow as pa
import pyarrow.compute as pc

from tasklens.scoring.score_table import NO_STEP, at_position, summarise, to_frame


def mean_scores(table: pa.Table, split: str, metric: str) -> dict[tuple[str, int], float]:
    """Return the mean of a metric over seeds and cluster seeds, by (state, step).

    It is that of the hidden states themselves, which is the space "raw". Of several positions the
    first counts.
    """
    table = at_position(table)
    rows = to_frame(table.filter(pc.field("split") == split), (metric,))
    of_states = (rows["space"] == "raw") & (rows["step"] != NO_STEP)
    scores: dict[tuple[str, int], float]
    scores = summarise(rows[of_states], ("layer", "step"))["mean"].to_dict()
    return scores
