"""Measure runs with other settings of t-SNE: `python docs/scripts/perplexities.py RUN ...`.

The hidden states of the last checkpoint are clustered after t-SNE with each perplexity of
`PERPLEXITIES`, with the affinities of near neighbours and with all. Nothing is written into the
runs. The script prints two tables in Markdown: the final ARI with the task by hidden state, split
and setting, as the mean over the runs; and the value and verdict of each check of the findings that
these scores change, in place of the runs' own. As for a table of scores, nothing is resampled
within a run, and a single run leaves every check undecided.
"""

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasklens.clustering.cluster import Cell, ClusterSettings
from tasklens.clustering.tsne import Neighbors
from tasklens.core.workers import LOCAL, start_workers
from tasklens.findings.curves import curves_of_table
from tasklens.findings.verdict import Verdict, judge
from tasklens.runs.load_run import load_run
from tasklens.runs.run import Run
from tasklens.scoring.score_cells import measure_cells
from tasklens.scoring.score_table import to_table

PERPLEXITIES = (15, 30, 50, 100)


def cells_of(run: Run) -> Iterator[list[Cell]]:
    """Yield the cells of the last checkpoint in the space "tsne", one at a time."""
    step = run.steps[-1]
    for state, xs in run.clustered(step):
        for split, x in xs.items():
            k = run.settings.measure.numbers(run.instances_by_split[split].n_tasks)[0]
            identity = (run.settings.seed, step, split, state, "tsne", k)
            yield [Cell(*identity, x=x, position=run.position())]


def measured(run: Run, settings: ClusterSettings) -> pa.Table:
    """Return the scores of a run with those after t-SNE by these settings in place of its own."""
    work = functools.partial(
        measure_cells, instances=run.instances_by_split, run=run.name, settings=settings
    )
    with start_workers(LOCAL, run.settings.workers) as workers:
        rows = [row for pairs in workers.map(work, cells_of(run)) for row in pairs[0][1]]
    before = run.score_table()
    return pa.concat_tables([before.filter(pc.field("space") != "tsne"), to_table(rows)])


def final_ari(tables: Sequence[pa.Table], split: str, state: str) -> float:
    """Return the mean ARI after t-SNE over runs and cluster seeds."""
    means = []
    for table in tables:
        wanted = (pc.field("space") == "tsne") & (pc.field("metric") == "ari")
        wanted &= (pc.field("split") == split) & (pc.field("layer") == state)
        means.append(float(np.mean(table.filter(wanted)["value"].to_numpy())))
    return float(np.mean(means))


def main(paths: Sequence[str]) -> None:
    """Measure the runs and print the tables."""
    runs = [load_run(Path(path)) for path in paths]
    states, verdicts = runs[0].state_names, dict[str, Verdict]()
    print(f"| perplexity | neighbors | split | {' | '.join(states)} |")
    print("| --- " * (3 + len(states)) + "|")
    for perplexity in PERPLEXITIES:
        for neighbors in get_args(Neighbors):
            tables = [
                measured(
                    run, run.settings.clusters.changed(perplexity=perplexity, neighbors=neighbors)
                )
                for run in runs
            ]
            verdicts[f"{perplexity}, {neighbors}"] = judge(
                [curves for table in tables for curves in curves_of_table(table)]
            )
            for split in runs[0].splits:
                aris = [f"{final_ari(tables, split, state):.2f}" for state in states]
                line = " | ".join([str(perplexity), neighbors, split, *aris])
                print(f"| {line} |", flush=True)
    print()
    print(f"| check | {' | '.join(verdicts)} |")
    print("| --- " * (1 + len(verdicts)) + "|")
    for checks in zip(*(verdict.checks for verdict in verdicts.values()), strict=True):
        if len({check.value for check in checks if check.value == check.value}) > 1:
            first = checks[0]
            name = f"{first.rule.finding}: {first.rule.statistic}, {first.split}"
            print(f"| {name} | {' | '.join(f'{c.value:.3f} {c.verdict}' for c in checks)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
