"""What each run of a sweep came to: one row a run, split, layer and space."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tasklens.core.parquet import rows_where
from tasklens.scoring.score_table import CONTROLS, layers_in_order

#: Scores of a state that are given at the end of training.
AT_THE_END = (
    "ami",
    "ari_input",
    "ari_output",
    "variance_task",
    "variance_input",
    "variance_output",
    "separation",
    "probe_task",
    "neighbours_task",
)


def points_table(scores: pa.Table, runs: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return a summary of each run's scores.

    Parameters
    ----------
    scores : pyarrow.Table
        Columns of `tasklens.scoring.score_table.SCHEMA`, of any number of runs.
    runs : {run: {setting: value}}
        The settings that vary, each a column of its own.

    Returns
    -------
    pyarrow.Table
        Columns `run`, `seed`, the settings, `split`, `layer`, `space`; `initial`, `final`, `peak`
        and `peak_step` of the ARI against the task, a mean over cluster seeds; `AT_THE_END`; and
        the `accuracy` of the network on that split at the end. A control has but `final`.
    """
    found: dict[tuple[Any, ...], dict[str, dict[int, list[float]]]] = {}
    columns = ("run", "seed", "split", "layer", "space", "metric", "step", "value")
    for *place, metric, step, value in rows_where(
        scores, columns, metric={"ari", "accuracy", *AT_THE_END}
    ):
        by_step = found.setdefault((*place,), {}).setdefault(metric, {})
        by_step.setdefault(-1 if step is None else step, []).append(value)
    rows = []
    for (run, seed, split, layer, space), metrics in found.items():
        if "ari" not in metrics:
            continue
        course = {step: float(np.mean(values)) for step, values in metrics["ari"].items()}
        first, last, peak = min(course), max(course), max(course, key=lambda step: course[step])
        row = {"run": run, "seed": seed, **runs[run], "split": split, "layer": layer}
        row |= {"space": space, "final": course[last]}
        if layer not in CONTROLS:
            row |= {"initial": course[first], "peak": course[peak], "peak_step": peak}
            row["accuracy"] = _last(found.get((run, seed, split, "model", ""), {}), "accuracy")
            row |= {name: _last(metrics, name) for name in AT_THE_END}
        rows.append(row)
    varied = list(next(iter(runs.values()))) if runs else []
    names = ["run", "seed", *varied, "split", "layer", "space"]
    names += ["initial", "final", "peak", "peak_step", *AT_THE_END, "accuracy"]
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def best_rows(points: pa.Table, split: str, space: str = "raw") -> list[dict[str, Any]]:
    """Return each run's row of one split for its best layer, chosen on the training subset.

    Layers are `embed` and the blocks, as for `statistics.best_layer`. Each row holds
    under `last` what the last of them has for `final`.
    """
    rows = points.to_pylist()
    states = [
        r for r in rows if r["space"] == space and re.fullmatch(r"embed|block\d+", r["layer"])
    ]
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for r in states:
        place = (r["run"], r["seed"])
        if r["split"] == "train_subset" and (
            place not in best or r["final"] > best[place]["final"]
        ):
            best[place] = r
    here = [r for r in states if r["split"] == split]
    order = layers_in_order({r["layer"] for r in here})
    by_depth = sorted(here, key=lambda r: order.index(r["layer"]))
    last = {(r["run"], r["seed"]): r["final"] for r in by_depth}
    return [
        {**r, "last": last[r["run"], r["seed"]]}
        for r in here
        if r["layer"] == best[r["run"], r["seed"]]["layer"]
    ]


def _last(metrics: Mapping[str, Mapping[int, Sequence[float]]], name: str) -> float | None:
    by_step = metrics.get(name)
    return float(np.mean(by_step[max(by_step)])) if by_step else None
