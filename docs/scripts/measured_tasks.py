"""Measure runs with other numbers of tasks.

    python docs/scripts/measured_tasks.py RUN ... > FILE.csv

The network before and after training is measured again with 5, 10, 20 and 50 of its tasks. There
are as many clusters, and a hundred instances per task; each number draws its own tasks. The script
prints these metrics in the columns of `scores.csv`, in which `k` is the number of tasks:

- `ari`, of KMeans with random starts, and of the controls;
- `ari_from_means`, of KMeans that starts at the means of the tasks. It knows the tasks, so it shows
  only whether KMeans stays at them;
- `inertia_ratio`, the inertia with random starts over that from the means. Above 1, KMeans has
  missed a better solution; below 1, it has a better one than the tasks.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.data.synthetic import measured_subsets
from tasklens.models.checkpoints import load_checkpoint
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.runs.load_run import load_run
from tasklens.runs.training_run import TrainingRun
from tasklens.scoring.partition_agreement import adjusted_rand, contingency
from tasklens.scoring.score import score
from tasklens.scoring.score_table import (
    Row,
    as_table,
    score_rows,
    table_to_csv_bytes,
    to_table,
)

NUMBERS = (5, 10, 20, 50)
INSTANCES_A_TASK = 100


def measure_again(path: Path) -> list[pa.Table]:
    """Return the scores of a run's first and last checkpoint for each number of tasks."""
    run = load_run(path)
    assert isinstance(run, TrainingRun), f"{path} trained no model"
    settings, dataset = run.settings, run.dataset
    tables = []
    for n in NUMBERS:
        wanted = settings.data.changed(measured_tasks=n, measured_instances=INSTANCES_A_TASK * n)
        dataset.splits.update(measured_subsets(dataset, wanted, settings.seed))
        for step in (0, settings.train.steps):
            model = load_checkpoint(run.directory.checkpoint(step))
            subject = GPT2Subject(model, step=step)
            tables += [score_split(run, subject, split) for split in SPLIT_MEANINGS]
    return tables


def score_split(run: TrainingRun, subject: GPT2Subject, split: str) -> pa.Table:
    """Return the scores of one split at one checkpoint, in the raw space."""
    instances = run.dataset.instances(split)
    harvested = harvest(subject, run.dataset.prompts(split))
    seed = run.settings.seed
    clusters = run.settings.clusters
    table = as_table(score(harvested, clusters, instances=instances, seed=seed, run=run.name))
    rows = table.filter(pc.field("metric") == "inertia").to_pylist()
    least = {name: min(r["value"] for r in rows if r["layer"] == name) for name in harvested.states}
    more: list[Row] = []
    for name, x in harvested.states.items():
        labels, inertia = from_means(x, instances.task)
        values = {
            "ari_from_means": adjusted_rand(contingency(instances.task, labels)),
            "inertia_ratio": least[name] / inertia,
        }
        more += score_rows(
            values,
            run=run.name,
            seed=seed,
            step=subject.step,
            split=split,
            position=harvested.position,
            layer=name,
            space="raw",
            k=instances.n_tasks,
        )
    return pa.concat_tables([table.filter(pc.field("metric") == "ari"), to_table(more)])


def from_means(x: NDArray[np.float32], task: NDArray[np.int64]) -> tuple[NDArray[np.int32], float]:
    """Return labels (N,) and inertia of KMeans that starts at the means of the tasks."""
    means = np.stack([x[task == t].mean(axis=0) for t in np.unique(task)])  # (k, D)
    fit = KMeans(len(means), init=means, n_init=1).fit(x)
    return fit.labels_, float(fit.inertia_)


if __name__ == "__main__":
    tables = [table for name in sys.argv[1:] for table in measure_again(Path(name))]
    sys.stdout.buffer.write(table_to_csv_bytes(pa.concat_tables(tables)))
