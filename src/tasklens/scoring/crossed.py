"""Score hidden states against a second column that is crossed with the task, such as a form."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tasklens.clustering.cluster import Cell, ClusterSettings, cluster
from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.data.instances import Instances
from tasklens.scoring.classifiers import fit_linear
from tasklens.scoring.partition_agreement import adjusted_rand, contingency
from tasklens.scoring.score_table import Row, score_rows

#: The setting, for messages.
KEY = "measure.cross"
#: Most values of a column, for each of which there are clusters and classifiers.
MOST_VALUES = 50

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]


def check_crossed(name: str, values: Texts, task: Ints) -> None:
    """Refuse a column that the tasks of the first split, (N,), are not crossed with."""
    distinct = np.unique(values)
    if not 2 <= len(distinct) <= MOST_VALUES:
        raise InputError(
            f"{KEY}: {short(name)} has {len(distinct):,} distinct values: should be 2 to "
            f"{MOST_VALUES}"
        )
    for value in distinct:
        if len(np.unique(task[values == value])) < 2:
            raise InputError(
                f"{KEY}: {short(name)} = {short(str(value))} has prompts of a single label: each "
                "value should occur with several labels"
            )


def score_crossed(
    state: str,
    states: Mapping[str, Floats],
    *,
    instances: Mapping[str, Instances],
    run: str,
    seed: int,
    step: int,
    position: str,
    settings: ClusterSettings,
    paired: bool = False,
) -> list[Row]:
    """Score one hidden state within each value of the columns that are crossed with the task.

    For each column, such as ``form``, and each of its values, such as ``arrow``:

    - `ari_within_form=arrow`: the instances with this value are clustered alone, into as many
      clusters as they have tasks; one row per cluster seed;
    - `probe_within_form=arrow`: a linear classifier learns the task from the instances with this
      value in the first split, and predicts it for those of each other split;
    - `probe_across_form=arrow`: it learns from the instances with the other values in the first
      split. In each split, the first included, it predicts the task of those with this value. This
      is the cross-condition generalisation of Bernardi et al., Cell 183, 2020;
    - `probe_of_form`: it learns the value of the column from the first split, and predicts it in
      each other split, for values that the first split has.

    Of the first three there is also the mean over values, without ``=arrow``. ``states`` has the
    state on each split, (N, D); ``paired`` is that of `Cell`. A value without several tasks, or
    with fewer than two instances per task, is not clustered.
    """
    columns: dict[str, Any] = {"run": run, "seed": seed, "step": step, "position": position}
    columns["layer"] = state
    rows: list[Row] = []
    for name in next(iter(instances.values())).crossed:
        parts = {split: known.crossed[name] for split, known in instances.items()}
        tasks = {split: known.task for split, known in instances.items()}
        for split in states:
            cell = Cell(seed, step, split, state, "raw", 1, states[split], position, paired)
            scores = _aris(cell, parts[split], tasks[split], settings)
            for s, values in enumerate(_with_mean(f"ari_within_{name}", scores)):
                rows += score_rows(values, **columns, split=split, cluster_seed=s)
        for split, values in _probes(name, states, parts, tasks):
            rows += score_rows(values, **columns, split=split)
    return rows


def score_within_tasks(
    cell: Cell, instances: Instances, run: str, settings: ClusterSettings
) -> list[Row]:
    """Score whether each task has a cluster for each distribution of its instructions.

    `ari_distribution_within_task`, one row per cluster seed: the instances of each task are
    clustered alone, into as many clusters as the task has distributions, and compared with these.
    It is the mean over tasks with several. There is no row if no task has several, or if they have
    fewer than two instances per distribution.
    """
    distribution = instances.parts.get("distribution")
    if distribution is None:
        return []
    scores = _aris(cell, instances.task, distribution, settings)
    columns: dict[str, Any] = {"run": run, "seed": cell.seed, "step": cell.step}
    columns |= {"split": cell.split, "position": cell.position, "layer": cell.state}
    rows: list[Row] = []
    for s, each in enumerate(zip(*scores.values(), strict=True)):
        values = {"ari_distribution_within_task": float(np.mean(each))}
        rows += score_rows(values, **columns, cluster_seed=s)
    return rows


def _aris(
    cell: Cell, part: npt.NDArray[Any], task: Ints, settings: ClusterSettings
) -> dict[Any, list[float]]:
    """Return the ARI for each cluster seed among the instances of each value."""
    scores = {}
    for value in np.unique(part).tolist():
        rows = part == value
        k = len(np.unique(task[rows]))
        if k < 2 or len(task[rows]) < 2 * k:
            continue
        (clustering,) = cluster([replace(cell, k=k, x=cell.x[rows])], settings)
        scores[value] = [
            adjusted_rand(contingency(task[rows], labels)) for labels in clustering.labels
        ]
    return scores


def _with_mean(metric: str, scores: Mapping[str, list[float]]) -> Iterator[dict[str, float]]:
    """Yield the scores of each cluster seed by metric: those of each value, and their mean."""
    for each in zip(*scores.values(), strict=True):
        by_value = {f"{metric}={v}": score for v, score in zip(scores, each, strict=True)}
        yield {metric: float(np.mean(each))} | by_value


def _probes(
    name: str, states: Mapping[str, Floats], parts: Mapping[str, Texts], tasks: Mapping[str, Ints]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield a split and the accuracies of linear classifiers by metric."""
    seen, *others = states
    x, part, task = states[seen], parts[seen], tasks[seen]

    for metric, is_across in ((f"probe_within_{name}", False), (f"probe_across_{name}", True)):
        scores: dict[str, dict[str, list[float]]] = {}
        for value in np.unique(part).tolist():
            chosen = (part == value) != is_across
            if len(np.unique(task[chosen])) < 2:
                continue
            predict = fit_linear(x[chosen], task[chosen])
            for split in states if is_across else others:
                rows = parts[split] == value
                if rows.any():
                    right = predict(states[split][rows]) == tasks[split][rows]
                    scores.setdefault(split, {})[value] = [float(np.mean(right))]
        for split, by_value in scores.items():
            yield split, next(_with_mean(metric, by_value))
    if others and len(np.unique(part)) > 1:
        predict = fit_linear(x, part)
        for split in others:
            known = np.isin(parts[split], part)
            if known.any():
                right = predict(states[split][known]) == parts[split][known]
                yield split, {f"probe_of_{name}": float(np.mean(right))}
