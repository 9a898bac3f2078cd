"""Compare two tables of scores: `python docs/scripts/compare_scores.py RUN RUN`.

It prints the largest difference by metric, which is relative if the metric has a unit. Scores that
only one table has, and those of t-SNE maps, are left out.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tasklens.runs.directory import RunDir
from tasklens.scoring.score_table import read_score_table

RELATIVE = ("inertia", "separation")
EQUAL = 1e-6


def compare(first: Path, second: Path) -> tuple[dict[str, float], Counter[bool]]:
    """Return the largest difference by metric, and how many scores are equal to `EQUAL` or not."""
    a, b = (_scores(path) for path in (first, second))
    largest: dict[str, float] = {}
    equal: Counter[bool] = Counter()
    for key in a.keys() & b.keys():
        metric = key[-1]
        difference = abs(a[key] - b[key]) / (abs(a[key]) if metric in RELATIVE and a[key] else 1)
        largest[metric] = max(largest.get(metric, 0.0), difference)
        equal[difference <= EQUAL] += 1
    return largest, equal


def _scores(path: Path) -> dict[tuple[Any, ...], float]:
    rows = read_score_table(RunDir(path).scores_parquet).to_pylist()
    columns = ("step", "split", "layer", "space", "k", "cluster_seed", "metric")
    return {tuple(r[c] for c in columns): r["value"] for r in rows if r["space"] != "tsne"}


if __name__ == "__main__":
    differences, counts = compare(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{counts[True]:,} scores are equal to {EQUAL:g}, {counts[False]:,} are not")
    for name, value in sorted(differences.items()):
        print(f"{name:<18} {value:.1e}")
