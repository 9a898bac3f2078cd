"""Return the scores at the last step as records, which `tasklens show --json` prints."""

from typing import Any

import pandas as pd
import pyarrow as pa

from tasklens.scoring.score_table import NO_STEP, summarise, to_frame

#: The columns of the table of scores that identify a record.
KEYS = ("metric", "split", "layer", "space", "position", "k")


def final_scores(table: pa.Table) -> list[dict[str, Any]]:
    """Return a record for each score at the last step.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `tasklens.scoring.score_table.SCHEMA`.

    Returns
    -------
    list of dict
        The values of `KEYS` (None if one does not apply), and ``mean``, ``low`` and ``high`` over
        the ``n`` seeds and cluster seeds. ``step`` is the last step, or None for a control, which
        has no step. ``first`` is the mean at the first step; NaN if there is only one step.
    """
    rows = to_frame(table)
    steps = sorted(set(rows["step"]) - {NO_STEP})
    if not steps:
        return []
    last = summarise(rows[rows["step"].isin([NO_STEP, steps[-1]])], (*KEYS, "step"))
    first: dict[Any, float] = {}
    if len(steps) > 1:
        first = summarise(rows[rows["step"] == steps[0]], KEYS)["mean"].to_dict()
        first = {_hashable(key): mean for key, mean in first.items()}
    records = []
    for row in last.itertuples():
        *key, step = row.Index
        values = [None if pd.isna(value) else value for value in key]
        records.append(
            dict(zip(KEYS, values, strict=True))
            | {"k": None if values[-1] is None else int(values[-1])}
            | {"step": None if step == NO_STEP else int(step)}
            | {"mean": row.mean, "low": row.low, "high": row.high, "n": row.size}
            | {"first": first.get(_hashable(key), float("nan"))}
        )
    return records


def _hashable(key: Any) -> tuple[Any, ...]:
    """Return the values of a group, with None instead of NaN, which does not equal itself."""
    return tuple(None if pd.isna(value) else value for value in key)
