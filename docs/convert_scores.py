"""Add the column of positions to tables of scores: `python docs/convert_scores.py FILE ...`.

Tables of tasklens 0.1.0 have no such column. Their hidden states are those of the input token;
controls and accuracy have no position.
"""

import sys
from pathlib import Path

import pyarrow as pa

from tasklens.core.parquet import parquet_bytes, read_parquet
from tasklens.scoring.score_table import CONTROLS, SCHEMA

NO_STATES = (*CONTROLS, "model")


def convert(path: Path) -> None:
    """Rewrite one table of scores in the columns of `SCHEMA`, if it has no positions."""
    table = read_parquet(path.read_bytes())
    if "position" in table.column_names:
        return
    layers = table["layer"].to_pylist()
    positions = pa.array(["" if layer in NO_STATES else "input" for layer in layers], pa.string())
    path.write_bytes(parquet_bytes(table.append_column("position", positions).select(SCHEMA.names)))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        convert(Path(name))
