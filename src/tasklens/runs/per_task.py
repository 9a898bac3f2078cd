"""Summarise each task of a split: its cluster, its errors, and the known task that is near."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasklens.core.errors import InputError
from tasklens.data.names import find_split, find_state
from tasklens.runs.chosen_layer import need_layer
from tasklens.runs.run import Run
from tasklens.scoring.centroid_scores import (
    commonest,
    score_answers_of_tasks,
    score_errors,
    task_ari,
)

if TYPE_CHECKING:
    import pandas as pd

#: Arrays of a hidden state at a checkpoint that the table is made from.
KINDS = ("labels", "distance", "nearest", "span")


def per_task(
    run: Run,
    step: int | str | None = None,
    split: str | None = None,
    state: str | None = None,
    position: str | None = None,
) -> "pd.DataFrame":
    """Return a row for each task of a split; see `Run.per_task`."""
    import pandas as pd

    run.need("measure")
    step = run.steps[-1] if step is None else run.find_step(step)
    split = run.unseen if split is None else find_split(split, run.splits)
    position = run.position(position)
    if state is None:
        state = need_layer(run, position)
    cell = run.cell(split, find_state(state, run.state_names), "raw", position)
    clusters = run.clusters(step)
    arrays = {kind: clusters[cell.name(kind)] for kind in KINDS if cell.name(kind) in clusters}
    if len(arrays) < len(KINDS):
        raise InputError(
            f"{run.directory.path}: no distances to centroids in {state}: these need two tasks"
        )
    answer, correct = (clusters.get(f"{split}/{kind}") for kind in ("answer", "correct"))
    outputs, names, rows = run.outputs, run.names_at(position)["task"], []
    known_tasks = np.unique(next(iter(run.instances_by_split.values())).task)
    for family, index, known in run.instances_at(position)[split].families:
        labels, distance, nearest, span = (arrays[kind][..., index] for kind in KINDS)
        ari, (near, share) = task_ari(known.task, labels), commonest(known.task, nearest)
        for i, task in enumerate(np.unique(known.task)):
            of_task = known.task == task
            row: dict[str, Any] = {"family": family, "task": names[task], "n": of_task.sum()}
            row |= {"ari": ari[i], "accuracy": np.nan, "distance": _mean(distance[of_task])}
            row |= {"errors": pd.NA, "error_auroc": np.nan}
            right = None if correct is None else correct[index][of_task]
            if right is not None and right.max() >= 0:
                row["accuracy"] = right[right >= 0].mean()
                row |= score_errors(distance[of_task], right)
            row |= {"nearest_task": names[near[i]], "nearest_task_share": share[i]}
            row |= {"span_share": _mean(span[of_task]), "answer_of_nearest": np.nan}
            if outputs is not None and answer is not None:
                of_tasks = outputs[known.input[of_task]]  # (n, T)
                column = np.searchsorted(known_tasks, nearest[of_task])
                scores = score_answers_of_tasks(answer[index][of_task], of_tasks, column)
                row |= {name: value for name, value in scores.items() if name in row}
            rows.append(row)
    table = pd.DataFrame(rows).astype({"n": "int64", "errors": "Int64"})
    return table if run.families else table.drop(columns="family")


def _mean(values: npt.NDArray[np.floating]) -> float:
    """Return the mean of the numbers that are not NaN, or NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else float("nan")
