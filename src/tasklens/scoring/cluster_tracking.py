"""Follow tasks and clusters from one checkpoint to the next."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from tasklens.core.text import visible
from tasklens.scoring.partition_agreement import contingency

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: A task has formed if the overlap with its cluster (Jaccard index) is at least this. Then most
#: instances of either are in both.
FORMED = 0.5
#: A cluster is part of a split or a merge with at least this share of its instances.
PART = 0.25


@dataclass(frozen=True, repr=False)
class Followed:
    """The tasks and clusters of one hidden state through S checkpoints."""

    steps: tuple[int, ...]
    tasks: Ints
    """The K tasks, (K,)."""
    overlap: Floats
    """Jaccard index of each task and the cluster assigned to it, (S, K)."""
    formed: tuple[int | None, ...]
    """The step from which on the overlap of each task stays at least `FORMED`. None if the overlap
    is smaller at the last checkpoint."""
    assigned: Ints
    """The task to which each instance's cluster is assigned, (S, N), as an index into `tasks`.
    Clusters without a task have the numbers from K on."""
    cluster: Ints
    """The number of each instance's cluster, (S, N), which a cluster keeps through checkpoints."""
    splits: tuple[int, ...]
    """Number of clusters that split before each checkpoint except the first, (S - 1)."""
    merges: tuple[int, ...]
    """Number of clusters that merged before each checkpoint except the first, (S - 1)."""

    def __repr__(self) -> str:
        formed = sum(step is not None for step in self.formed)
        return (
            f"Followed({formed} of {len(self.tasks)} tasks formed, {len(self.steps)} checkpoints)"
        )


def follow(steps: Sequence[int], labels: Ints, task: Ints) -> Followed:
    """Match tasks to clusters at each checkpoint, and clusters from each checkpoint to the next.

    Both matches are the one-to-one assignment with the largest sum of Jaccard indices (Kuhn, "The
    Hungarian method", 1955). A cluster has split if at least two clusters of the next checkpoint
    each have at least `PART` of its instances. A cluster has merged if it took at least `PART` of
    the instances of each of at least two earlier clusters. Each of them also has to make up at
    least `PART` of the merged cluster.

    ``labels``, (S, N), is the cluster of each instance at each of the S checkpoints.
    """
    tasks = np.unique(task)
    overlap, assigned = np.zeros((len(steps), len(tasks))), np.zeros_like(labels)
    for s, clusters in enumerate(labels):
        jaccard = _jaccard(contingency(task, clusters))
        rows, columns = linear_sum_assignment(jaccard, maximize=True)
        overlap[s, rows] = jaccard[rows, columns]
        name = np.full(jaccard.shape[1], -1)
        name[columns] = rows
        left = np.flatnonzero(name < 0)
        name[left] = len(tasks) + np.arange(len(left))
        assigned[s] = name[np.unique(clusters, return_inverse=True)[1]]
    kept, splits, merges = [np.unique(labels[0], return_inverse=True)[1]], [], []
    for before, after in itertools.pairwise(labels):
        counts = contingency(before, after)
        given = counts / counts.sum(axis=1, keepdims=True) >= PART
        taken = counts / counts.sum(axis=0, keepdims=True) >= PART
        splits.append(int(np.count_nonzero(given.sum(axis=1) >= 2)))
        merges.append(int(np.count_nonzero((given & taken).sum(axis=0) >= 2)))
        unused = 1 + max(int(names.max()) for names in kept)
        kept.append(_renamed(kept[-1], after, unused))
    formed = tuple(_formed(steps, overlap[:, i] >= FORMED) for i in range(len(tasks)))
    states = tasks, overlap, formed, assigned, np.stack(kept)
    return Followed(tuple(steps), *states, tuple(splits), tuple(merges))


def _jaccard(table: Ints) -> Floats:
    """Return the Jaccard index of each row and each column of a contingency table."""
    either = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True) - table
    return table / either  # type: ignore[no-any-return]


def _renamed(before: Ints, after: Ints, unused: int) -> Ints:
    """Return the clusters of a checkpoint, (N,), by their earlier names, or by new names.

    New names begin at `unused`, so that the name of a lost cluster is not used again.
    """
    table = contingency(before, after)
    rows, columns = linear_sum_assignment(_jaccard(table), maximize=True)
    names = np.full(table.shape[1], -1)
    for name, row, column in zip(np.unique(before)[rows], rows, columns, strict=True):
        if table[row, column]:
            names[column] = name
    new = np.flatnonzero(names < 0)
    names[new] = unused + np.arange(len(new))
    return names[np.unique(after, return_inverse=True)[1]]


def _formed(steps: Sequence[int], overlaps: npt.NDArray[np.bool_]) -> int | None:
    """Return the step from which on a task overlaps with its cluster; None if it is lost again."""
    if not overlaps[-1]:
        return None
    missing = np.flatnonzero(~overlaps)
    return steps[int(missing[-1]) + 1] if len(missing) else steps[0]


def followed_text(
    followed: Followed,
    names: Sequence[str],
    step_names: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """Return the history of tasks and clusters as plain text, which `tasklens follow` prints.

    ``names`` are the names of the tasks, ``step_names`` those of steps that are no training steps.
    """

    def called(step: int) -> str:
        return visible(step_names.get(step, f"{step:,}"))

    first = max(7, max(len(called(step)) for step in followed.steps))
    order = sorted(
        range(len(followed.tasks)),
        key=lambda i: (followed.formed[i] is None, followed.formed[i] or 0, i),
    )
    names = list(map(visible, names))
    wide = max(len(names[t]) for t in followed.tasks)
    lines = [f"{'task':<{wide}}  formed at  overlap at the end"]
    for i in order:
        step = followed.formed[i]
        when = "never" if step is None else called(step)
        overlap = followed.overlap[-1, i]
        lines.append(f"{names[followed.tasks[i]]:<{wide}}  {when:>9}  {overlap:18.2f}")
    lines += ["", f"{'model' if step_names else 'step':<{first}}  formed  splits  merges"]
    for s, step in enumerate(followed.steps):
        formed = int(np.count_nonzero(followed.overlap[s] >= FORMED))
        moved = f"{followed.splits[s - 1]:6}  {followed.merges[s - 1]:6}" if s else ""
        lines.append(f"{called(step):<{first}}  {formed:6}  {moved}".rstrip())
    return "\n".join([*lines, ""])
