"""Compare tasks with clusters that are right, wrong in known ways, or drawn at random."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import rand_score
from tables.markdown import markdown, number

from tasklens.scoring.partition_agreement import agreement, contingency

Ints = npt.NDArray[np.int64]
TASKS, EACH = 10, 100


def misplaced(task: Ints, every: int) -> Ints:
    """Return clusters, (N,), of which one instance of ``every`` is in one of the other clusters."""
    cluster = task.copy()
    wrong = np.arange(0, len(task), every)
    cluster[wrong] = (task[wrong] + 1 + np.arange(len(wrong)) % (TASKS - 1)) % TASKS
    return cluster


def equal_tasks() -> Iterator[tuple[str, Ints, Ints]]:
    """Yield what the clusters are, tasks (N,) and clusters (N,), of ten tasks of equal size."""
    task = np.repeat(np.arange(TASKS), EACH)
    within = np.tile(np.arange(EACH), TASKS)
    rng = np.random.default_rng(0)
    yield "each task is a cluster", task, task
    yield "one instance of ten is in a wrong cluster", task, misplaced(task, 10)
    yield "one of four is", task, misplaced(task, 4)
    yield "one of two is", task, misplaced(task, 2)
    yield "two tasks share a cluster, the others are clusters", task, np.maximum(task, 1)
    yield "each two tasks share a cluster", task, task // 2
    yield "each task is two clusters", task, 2 * task + within % 2
    yield "all instances are in one cluster", task, np.zeros_like(task)
    yield "each instance is in a random cluster", task, rng.integers(TASKS, size=len(task))
    yield "each cluster has ten instances of each task", task, within % TASKS


def unequal_tasks() -> Iterator[tuple[str, Ints, Ints]]:
    """Yield the same of ten tasks, one of which has 910 of 1,000 instances."""
    task = np.concatenate([np.zeros(910, np.int64), np.repeat(np.arange(1, TASKS), 10)])
    one = np.minimum(task, 1)
    split = np.where(task == 0, TASKS + np.arange(len(task)) % TASKS, task)
    yield "each task is a cluster", task, task
    yield "the large task is a cluster, the nine others share one", task, one
    yield "the large task is ten clusters, each other task is one", task, split
    yield (
        "each instance is in a random cluster",
        task,
        np.random.default_rng(0).integers(TASKS, size=len(task)),
    )


def matched(table: npt.NDArray[np.int64]) -> float:
    """Return the share of instances in their task's cluster, if each task has one cluster."""
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def partitions_table(examples: Iterator[tuple[str, Ints, Ints]]) -> str:
    """Return a table with the measures of agreement of each example."""
    rows = []
    for name, task, cluster in examples:
        table = contingency(task, cluster)
        scores = agreement(table)
        measures = [scores[key] for key in ("ari", "ami", "homogeneity", "completeness")]
        values = [*measures, matched(table), rand_score(task, cluster)]
        rows.append([name, *map(number, values)])
    head = ["the clusters", "ARI", "AMI", "homogeneity", "completeness", "matched", "Rand index"]
    return markdown(head, rows)
