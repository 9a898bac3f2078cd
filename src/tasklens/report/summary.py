"""Means and ranges of the score table, as figures and the page show them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasklens.report.view import View
from tasklens.scoring.best_layer import best_layer


def summarise(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the mean and the range of `value` for each group of rows.

    Parameters
    ----------
    rows : DataFrame
        With the columns `by` and `value`.
    by : sequence of str
        Rows that are equal in all these columns are one group.

    Returns
    -------
    DataFrame
        Columns `mean`, `low` and `high`; indexed by `by`, in the order in which the groups first
        occur. The mean is that of NumPy, since the mean of pandas differs from it in the last bit.
    """
    groups = rows.groupby(list(by), sort=False)["value"]
    means = groups.agg(lambda values: np.mean(values.to_numpy()))
    return pd.DataFrame({"mean": means, "low": groups.min(), "high": groups.max()})


def mean_scores(table: pa.Table, split: str, metric: str) -> dict[tuple[str, int], float]:
    """Return a metric of the hidden states themselves (the space "raw") by (state, step).

    Values are means over seeds and cluster seeds.
    """
    shown = pc.field("step").is_valid()
    for column, value in {"split": split, "metric": metric, "space": "raw"}.items():
        shown &= pc.field(column) == value
    means = summarise(table.filter(shown).to_pandas(), ["layer", "step"])["mean"]
    return {(layer, int(step)): float(mean) for (layer, step), mean in means.items()}


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
