"""Turn the effects of edits into a tidy table: one number per row."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasklens.interventions.cell import Arrays
from tasklens.interventions.effects import (
    EFFECTS,
    Doubles,
    SplitPairs,
    effects_in,
    in_order,
    mean_of_draws,
    normalised,
    over_targets,
    splits_in,
)
from tasklens.interventions.repair import repair_name
from tasklens.interventions.repair_effects import count_errors, repair_effects

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("seed", pa.int64()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("position", pa.string()),
        ("state", pa.string()),  # "" for the number of pairs
        ("edit", pa.string()),  # "" for the number of pairs
        ("target", pa.string()),  # the target task; "" for the mean over targets
        ("alpha", pa.float64()),  # strength of a shift; null for other edits
        ("draw", pa.int64()),  # which of the draws; null for their mean
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)


def effect_table(
    run: str, seed: int, step: int, arrays: Arrays, task_names: Mapping[int, str]
) -> pa.Table:
    """Return the effects at one checkpoint as a table of `SCHEMA`; see `read_effects`."""
    common = {"run": run, "seed": seed, "step": step}
    positions = dict.fromkeys(  # which may have slashes
        name.partition("/")[2].removesuffix("/own") for name in arrays if name.endswith("/own")
    )
    rows = [
        common | {"split": split, "position": position} | row
        for position in positions
        for split, pairs in splits_in(arrays, position).items()
        for row in _rows(arrays, pairs, split, position, task_names)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _rows(
    arrays: Arrays,
    pairs: SplitPairs,
    split: str,
    position: str,
    task_names: Mapping[int, str],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split and position."""

    def row(metric: str, value: float, **columns: Any) -> dict[str, Any]:
        empty = {"state": "", "edit": "", "target": "", "alpha": None, "draw": None}
        return {**empty, **columns, "metric": metric, "value": float(value)}

    yield row("pairs", pairs.pairs.sum())
    yield row("pairs_able", pairs.able.sum())
    yield row("errors", count_errors(arrays, split, position))
    units = arrays.get(repair_name(split, position, "unit"), pairs.unit)
    means: dict[tuple[str, str, str], Doubles] = {}
    for state, name, effects in effects_in(arrays, pairs, split, position):
        for metric, values in effects.items():
            each = over_targets(values)  # (R, N)
            draws = mean_of_draws(each)  # (R,)
            means[state, name, metric] = mean_of_draws(each.reshape(1, -1))
            if len(draws) > 1:
                for draw in np.flatnonzero(np.isfinite(draws)).tolist():
                    yield row(metric, draws[draw], **_edit(state, name), draw=draw)
            elif metric in EFFECTS:
                for t, task in enumerate(pairs.tasks.tolist()):
                    value = mean_of_draws(values[:, :, t].reshape(1, -1))[0]
                    if np.isfinite(value):
                        yield row(metric, value, **_edit(state, name), target=task_names[task])
    for state, name, metric, values, draws in repair_effects(
        arrays, split, position, np.unique(units), np.ones((1, len(np.unique(units))))
    ):
        means[state, name, metric] = values
        for draw, value in enumerate(draws if len(draws) > 1 else ()):
            yield row(metric, value, **_edit(state, name), draw=draw)
    for (state, name, metric), value in {**means, **normalised(means)}.items():
        if np.isfinite(value[0]):
            yield row(metric, value[0], **_edit(state, name))


def _edit(state: str, name: str) -> dict[str, Any]:
    """Return the columns of an edit with its strength."""
    edit, _, alpha = name.partition("@")
    strength = float(alpha or 1) if edit in ("shift", "third") else None
    return {"state": state, "edit": edit, "alpha": strength}


def effects_to_pandas(table: pa.Table) -> "pd.DataFrame":
    """Return the table as users of pandas expect it.

    `state` is an ordered categorical, from the input up; `step` and `draw` are nullable integers.
    """
    import pandas as pd

    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    kind = pd.CategoricalDtype(["", *in_order({*frame["state"]} - {""})], ordered=True)
    return frame.assign(state=frame["state"].astype(kind))
