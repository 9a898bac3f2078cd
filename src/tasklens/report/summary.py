"""Mean scores of hidden states, and the state that a view calls the best."""

import pyarrow as pa
import pyarrow.compute as pc

from tasklens.report.view import View
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.score_table import NO_STEP, summarise, to_frame


def mean_scores(table: pa.Table, split: str, metric: str) -> dict[tuple[str, int], float]:
    """Return a metric of the hidden states themselves (the space "raw") by (state, step).

    Values are means over seeds and cluster seeds.
    """
    rows = to_frame(table.filter(pc.field("split") == split), (metric,))
    of_states = (rows["space"] == "raw") & (rows["step"] != NO_STEP)
    scores: dict[tuple[str, int], float]
    scores = summarise(rows[of_states], ("layer", "step"))["mean"].to_dict()
    return scores


def best_state(view: View) -> str:
    """Return the best layer on the first split; the first state if none was scored there."""
    scores = mean_scores(view.table, next(iter(view.splits)), "ari")
    final = {
        (state, "raw"): value
        for (state, step), value in scores.items()
        if step == view.steps[-1] and state in view.states
    }
    best = best_layer(final)
    return best[0] if best else view.states[0]
