"""Bring tables of scores to the present columns: `python docs/scripts/convert_scores.py FILE ...`.

Tables of tasklens 0.1.0 have no positions. Their hidden states are those of the input token;
controls and accuracy have no position. Tables of format 4 have no families.
"""

import sys
from pathlib import Path

import pyarrow as pa

from tasklens.core.parquet import parquet_bytes, read_parquet
from tasklens.scoring.score_table import CONTROLS, SCHEMA

NO_STATES = (*CONTROLS, "model")


def convert(path: Path) -> None:
    """Rewrite one table of scores in the columns of `SCHEMA`, if it lacks any of them."""
    table = read_parquet(path.read_bytes())
    if set(SCHEMA.names) <= {*table.column_names}:
        return
    layers = table["layer"].to_pylist()
    added = {
        "position": ["" if layer in NO_STATES else "input" for layer in layers],
        "family": [""] * len(layers),
    }
    for name, values in added.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array(values, pa.string()))
    path.write_bytes(parquet_bytes(table.select(SCHEMA.names)))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        convert(Path(name))
