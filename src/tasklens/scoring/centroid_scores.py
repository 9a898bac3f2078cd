"""Score where hidden states lie among the centroids of the known tasks, and whether it matters.

The centroids are those of the tasks of the first split, which training has seen. Wu and Varshney
(arXiv 2402.12151) state that clusters help a model with unseen instances. Then an instance that is
far from the centroid of its task should be answered wrongly more often. An instance of an unseen
task has no right answer and no centroid, but a place among those of the known tasks.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from tasklens.clustering.numba_compile import one_thread
from tasklens.data.instances import Instances
from tasklens.scoring.centroids import Centroids, Doubles, fit_centroids
from tasklens.scoring.classifiers import nearest_centroid
from tasklens.scoring.partition_agreement import contingency, one_against_rest
from tasklens.scoring.score_table import Row, score_rows

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
#: Fewer tasks have no rank correlation.
LEAST_TASKS = 3


class Answered(NamedTuple):
    """Answers of a model to the N instances of a split."""

    answer: Ints
    """The most likely token, (N,)."""
    correct: Ints
    """1 for a right answer, 0 for a wrong one, -1 if the right one is not known, (N,)."""


class Placed(NamedTuple):
    """Positions of the hidden states of N instances among the centroids of the known tasks."""

    distance: npt.NDArray[np.float32]
    """Euclidean distance to the centroid of the own task, (N,). In the first split, to the mean of
    the other instances of the task. NaN if there is no such centroid."""
    nearest: npt.NDArray[np.int64]
    """The task whose centroid is the nearest, (N,)."""
    span: npt.NDArray[np.float32]
    """The share of the squared length in the span of the centroids, (N,), see `Centroids`."""


def place_states(
    states: Mapping[str, Floats], instances: Mapping[str, Instances]
) -> tuple[Centroids, dict[str, Placed]]:
    """Fit the centroids on the first split, and place the states of all splits among them.

    ``states`` has the hidden state on each split, (N, D). InputError if the first has one task.
    """
    first = next(iter(states))
    x, (tasks, number) = states[first], np.unique(instances[first].task, return_inverse=True)
    placed = {}
    with one_thread():
        centroids = fit_centroids(x, instances[first].task)
        for split, queries in states.items():
            distance = (
                centroids.distance_left_out()
                if split == first
                else centroids.distance(queries, instances[split].task)
            )
            placed[split] = Placed(
                distance.astype(np.float32),
                tasks[nearest_centroid(x, number, queries)],
                centroids.span_share(queries).astype(np.float32),
            )
    return centroids, placed


def score_centroids(
    state: str,
    states: Mapping[str, Floats],
    *,
    instances: Mapping[str, Instances],
    answered: Mapping[str, Answered],
    labels: Mapping[str, Ints],
    outputs: Ints | None,
    run: str,
    seed: int,
    step: int,
    position: str,
) -> tuple[list[Row], dict[str, Placed]]:
    """Score the place of hidden states among the centroids of the tasks of the first split.

    ``states`` has the hidden state on each split, (N, D), ``labels`` the clusters of it, (S, N).
    ``outputs``, (V, T), has the output token of each task of the first split, ascending, for each
    input token; -1: none. If it is None, the last two scores are left out. The rows of
    each split are, with those of known right answers first:

    - `errors`: the number of wrong answers with a distance to the centroid of their task;
    - `error_auroc`: `auroc` of this distance; absent without errors, or without hits;
    - `task_ari_accuracy`: rank correlation, over tasks, of `task_ari` and the accuracy; absent if
      one of them is the same for all tasks, or with fewer than `LEAST_TASKS` tasks;
    - `span_share`: the share of the squared length, from the mean of the centroids, that lies in
      the span of the centroids; mean over instances;
    - `span_share_random`: the share of a state of random direction, which is the number of the
      span's dimensions over that of all;
    - `nearest_task_share`: the share of a task's instances whose nearest centroid is the commonest
      one among them; mean over the tasks of the split;
    - `answer_of_nearest`: the share of answers that are the output of the nearest centroid's task
      for the same input. An input without an output under this task does not count;
    - `answer_of_nearest_random`: the same of a task drawn at random instead of the nearest.

    That the nearest centroid is that of the own task is `centroid_task`, see `score_probes`. There
    are no rows if the first split has a single task.
    """
    first = next(iter(states))
    if instances[first].n_tasks < 2:
        return [], {}
    centroids, placed = place_states(states, instances)
    rows: list[Row] = []
    for split, each in placed.items():
        known = instances[split]
        values: dict[str, float] = {}
        if split in answered and (answered[split].correct >= 0).any():
            correct = answered[split].correct
            values |= score_errors(each.distance, correct)
            if split in labels:
                values |= _of_tasks(known.task, labels[split], correct)
        if np.isfinite(each.span).any():
            values["span_share"] = float(np.nanmean(each.span, dtype=np.float64))
        values["span_share_random"] = centroids.basis.shape[1] / len(centroids.basis)
        values["nearest_task_share"] = float(np.mean(commonest(known.task, each.nearest)[1]))
        if outputs is not None and split in answered:
            of_task = outputs[known.input]  # (N, T)
            nearest = np.searchsorted(centroids.tasks, each.nearest)
            values |= score_answers_of_tasks(answered[split].answer, of_task, nearest)
        columns: dict[str, Any] = {"run": run, "seed": seed, "step": step, "position": position}
        rows += score_rows(values, **columns, layer=state, split=split)
    return rows, placed


def score_errors(distance: Floats, correct: Ints) -> dict[str, float]:
    """Return the number of errors, and how well a distance, (N,), tells them from hits."""
    rows = (correct >= 0) & np.isfinite(distance)
    if not rows.any():
        return {}
    is_error = correct[rows] == 0
    area = auroc(distance[rows], is_error, np.ones((1, len(is_error))))[0]
    values = {"errors": float(is_error.sum())}
    return values | ({} if np.isnan(area) else {"error_auroc": float(area)})


def _of_tasks(task: Ints, labels: Ints, correct: Ints) -> dict[str, float]:
    """Return the rank correlation of the ARI and the accuracy of tasks, if there is one."""
    rows = correct >= 0
    tasks, number = np.unique(task[rows], return_inverse=True)
    accuracy = np.bincount(number, weights=correct[rows]) / np.bincount(number)
    ari = task_ari(task, labels)[np.searchsorted(np.unique(task), tasks)]
    if len(tasks) < LEAST_TASKS or np.ptp(accuracy) == 0 or np.ptp(ari) == 0:
        return {}
    return {"task_ari_accuracy": float(np.corrcoef(rankdata(ari), rankdata(accuracy))[0, 1])}


def score_answers_of_tasks(answer: Ints, outputs: Ints, nearest: Ints) -> dict[str, float]:
    """Return how often an answer, (N,), is the output of the nearest task, and of any.

    ``outputs`` are those of T tasks, (N, T), -1: none; ``nearest``, (N,), is one of the tasks.
    """
    known = outputs >= 0
    is_output = known & (answer[:, None] == outputs)
    row = np.arange(len(answer))
    if not known[row, nearest].any():
        return {}
    return {
        "answer_of_nearest": float(is_output[row, nearest].sum() / known[row, nearest].sum()),
        "answer_of_nearest_random": float(is_output.sum() / known.sum()),
    }


def task_ari(task: Ints, labels: Ints) -> Doubles:
    """Return how well one cluster matches each distinct task, ascending: (T,), mean over seeds.

    It is the adjusted Rand index of two partitions of two parts: the task and the rest, and a
    cluster and the rest. Of all clusters, the one with the highest index counts: so the F measure
    of a class is defined (Larsen and Aone, KDD 1999). It is 1 if a cluster is the task, and
    lower if the task is split or shares its cluster. ``task`` is (N,),
    ``labels`` (S, N).
    """
    return np.mean([one_against_rest(contingency(task, each)).max(axis=1) for each in labels], 0)  # type: ignore[no-any-return]


def commonest(group: Ints, value: Ints) -> tuple[Ints, Doubles]:
    """Return the commonest value in each distinct group, ascending, and its share there, (G,).

    ``group`` and ``value`` are (N,). The lowest value counts if several are as common.
    """
    counts, values = contingency(group, value), np.unique(value)
    return values[counts.argmax(axis=1)], counts.max(axis=1) / counts.sum(axis=1)


def auroc(score: Floats, is_error: npt.NDArray[np.bool_], weights: Doubles) -> Doubles:
    """Return the area under the ROC curve of a score that should be higher for errors, (B,).

    It is the chance that an error has a higher score than a hit; ties count half (Hanley and
    McNeil, 1982). ``weights``, (B, N), are the copies of each instance in each resampling. The area
    is NaN without errors or without hits.
    """
    values, number = np.unique(score, return_inverse=True)
    n = len(values)
    order = np.argsort(number, kind="stable")
    begins = np.searchsorted(number[order], np.arange(n))
    sorted_weights, is_error = weights[:, order], is_error[order]
    errors = np.add.reduceat(sorted_weights * is_error, begins, axis=1)  # (B, V)
    hits = np.add.reduceat(sorted_weights * ~is_error, begins, axis=1)
    below = np.cumsum(hits, axis=1) - hits / 2
    pairs = errors.sum(axis=1) * hits.sum(axis=1)
    area = (errors * below).sum(axis=1)
    return np.divide(area, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)  # type: ignore[no-any-return]
