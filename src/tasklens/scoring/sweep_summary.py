"""Summarise each run of a sweep, with one row per run, split, layer and space."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tasklens.scoring.best_layer import best_layer, is_layer
from tasklens.scoring.score_table import (
    CONTROLS,
    MODEL,
    layers_in_order,
    summarise,
    to_frame,
)

#: The columns of the table of scores that identify a course over steps.
KEYS = ("run", "seed", "split", "position", "layer", "space")
#: Scores of a hidden state that the summary has for the last step only.
AT_THE_END = (
    *("ami", "ari_input", "ari_output"),
    *("ari_distribution", "ari_distribution_within_task"),
    *("variance_task", "variance_input", "variance_output"),
    *("separation", "probe_task", "neighbours_task"),
    *("nc1", "nc4", "rankme", "alpha", "task_decodability"),
    *("errors", "error_auroc", "task_ari_accuracy", "span_share"),
)


def points_table(scores: pa.Table, runs: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return a summary of the scores, a table of `SCHEMA`, of any number of runs.

    Columns are `run`, `seed`, the settings that vary, from ``runs``, `split`, `position` of the
    hidden state (empty for a control), `layer`, `space`;
    `initial`, `final`, `peak` and `peak_step` of the ARI against the task, a mean over cluster
    seeds; `AT_THE_END`; and the `accuracy` of the network on that split at the end. A control only
    has `final`.
    """
    courses: dict[tuple[Any, ...], dict[str, dict[int, float]]] = {}
    frame = to_frame(scores, ("ari", "accuracy", *AT_THE_END))
    means = summarise(frame, (*KEYS, "metric", "step"))["mean"]
    for (*key, metric, step), mean in means.items():
        courses.setdefault(tuple(key), {}).setdefault(metric, {})[step] = mean
    rows = []
    for (run, seed, split, position, layer, space), metrics in courses.items():
        if "ari" not in metrics:
            continue
        course = metrics["ari"]
        first, last, peak = min(course), max(course), max(course, key=lambda step: course[step])
        row = {"run": run, "seed": seed, **runs[run], "split": split, "position": position}
        row["layer"] = layer
        row |= {"space": space, "final": course[last]}
        if layer not in CONTROLS:
            row |= {"initial": course[first], "peak": course[peak], "peak_step": peak}
            row["accuracy"] = _last(courses.get((run, seed, split, "", MODEL, ""), {}), "accuracy")
            row |= {name: _last(metrics, name) for name in AT_THE_END}
        rows.append(row)
    varied = list(next(iter(runs.values()))) if runs else []
    names = ["run", "seed", *varied, "split", "position", "layer", "space"]
    names += ["initial", "final", "peak", "peak_step", *AT_THE_END, "accuracy"]
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def best_rows(
    points: pa.Table, split: str, space: str = "raw", position: str = ""
) -> list[dict[str, Any]]:
    """Return each run's row of one split for its best layer, which is chosen on `train_subset`.

    See `tasklens.scoring.best_layer`. The column `last` of a row is the `final` of the last layer.
    `untrained` is the `initial` of the layer that was best before training; None if the table has
    none. By default the position is the first of each run.
    """
    runs: dict[tuple[str, int], dict[str, dict[str, dict[str, Any]]]] = {}
    first: dict[tuple[str, int], str] = {}
    for r in points.to_pylist():
        run = (r["run"], r["seed"])
        if r["space"] == space and is_layer(r["layer"]):
            at = r.get("position", "")  # summaries of earlier versions have no such column
            if at == (position or first.setdefault(run, at)):
                runs.setdefault(run, {}).setdefault(r["split"], {})[r["layer"]] = r
    rows = []
    for splits in runs.values():
        layers = splits.get(split, {})
        best, before = (
            _best(splits.get("train_subset", {}), name) for name in ("final", "initial")
        )
        if best is not None and best in layers:
            last = layers[layers_in_order(layers)[-1]]
            untrained = (
                layers[before]["initial"] if before is not None and before in layers else None
            )
            rows.append({**layers[best], "last": last["final"], "untrained": untrained})
    return rows


def _best(layers: Mapping[str, Mapping[str, Any]], column: str) -> str | None:
    """Return the layer with the highest value of a column, if there is one."""
    values = {(name, ""): r[column] for name, r in layers.items() if r.get(column) is not None}
    best = best_layer(values)
    return best[0] if best else None


def _last(metrics: Mapping[str, Mapping[int, float]], name: str) -> float | None:
    """Return the value of a metric at the last step, if there is one."""
    by_step = metrics.get(name)
    return by_step[max(by_step)] if by_step else None
