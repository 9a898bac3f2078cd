"""Say how far two tables of scores are apart: `python docs/compare_scores.py RUN PROBE`.

Of the scores that both have, of the states themselves (the space "raw"), of controls and accuracy:
the largest difference by metric, relative for those that have a unit.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tasklens.runs.directory import RunDir
from tasklens.scoring.score_table import read_score_table

RELATIVE = ("inertia", "separation")
EQUAL = 1e-6


def compare(one: Path, other: Path) -> tuple[dict[str, float], Counter[bool]]:
    """Return the largest difference by metric, and how many scores are equal to `EQUAL` or not."""
    a, b = (_scores(path) for path in (one, other))
    largest: dict[str, float] = {}
    equal: Counter[bool] = Counter()
    for key in a.keys() & b.keys():
        metric = key[-1]
        apart = abs(a[key] - b[key]) / (abs(a[key]) if metric in RELATIVE and a[key] else 1)
        largest[metric] = max(largest.get(metric, 0.0), apart)
        equal[apart <= EQUAL] += 1
    return largest, equal


def _scores(path: Path) -> dict[tuple[Any, ...], float]:
    rows = read_score_table(RunDir(path).scores_parquet).to_pylist()
    columns = ("step", "split", "layer", "space", "k", "cluster_seed", "metric")
    return {tuple(r[c] for c in columns): r["value"] for r in rows if r["space"] != "tsne"}


if __name__ == "__main__":
    apart, counts = compare(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{counts[True]:,} scores are equal to {EQUAL:g}, {counts[False]:,} are not")
    for name, value in sorted(apart.items()):
        print(f"{name:<18} {value:.1e}")
