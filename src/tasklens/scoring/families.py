"""Average the scores of families: groups of tasks that are compared with each other only."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasklens.scoring.score_table import SCHEMA, Row


def over_families(rows: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return the mean of each score over families, and behind them the scores of each.

    ``rows`` are the scores of each family by name; of an only family without a name, they are the
    result. A score that a family lacks has no mean. The number of clusters of a mean is null if it
    differs between the families.
    """
    if [*rows] == [""]:
        return [*rows[""]]
    same: dict[tuple[Any, ...], list[Row]] = {}
    for row in itertools.chain(*rows.values()):
        key = tuple(row[name] for name in SCHEMA.names if name not in ("family", "k", "value"))
        same.setdefault(key, []).append(row)
    means = [
        each[0]
        | {"k": each[0]["k"] if len({row["k"] for row in each}) == 1 else None}
        | {"value": float(np.mean([row["value"] for row in each]))}
        for each in same.values()
        if len(each) == len(rows)
    ]
    return means + [row | {"family": name} for name, part in rows.items() for row in part]
