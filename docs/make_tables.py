"""Print the tables of docs/reproduction.md.

    python docs/make_tables.py docs/scores/* docs/sweeps/results/*

The files are of four kinds. Runs that differ in their seed give `scores.parquet`, `tasklens verify`
gives their `verdict.json`, and `docs/measured_tasks.py` prints a table of them. Sweeps in the small
world give `points.csv`.
"""

import csv
import json
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.scoring.score_table import (
    CONTROLS,
    NO_STEP,
    layers_in_order,
    read_score_table,
    summarise,
    to_frame,
)

#: Settings that a sweep's file changes only because of another setting.
FOLLOWING = ("inputs_per_task", "val_inputs", "measured_instances")
#: Seed, metric, split, layer, space, step.
Key = tuple[int, str, str, str, str, int]


class Scores:
    """Scores of several runs, as means over the cluster seeds."""

    def __init__(self, paths: Iterable[Path]) -> None:
        frame = to_frame(pa.concat_tables(map(read_score_table, paths)))
        means = summarise(frame, ("seed", "metric", "split", "layer", "space", "step"))["mean"]
        self.values: dict[Key, float] = means.to_dict()
        self.seeds = sorted({key[0] for key in self.values})
        self.steps = sorted({key[5] for key in self.values} - {NO_STEP})
        clustered = {key[3] for key in self.values if key[1] == "ari"}
        self.layers = layers_in_order(clustered - set(CONTROLS))
        self.controls = [control for control in CONTROLS if control in clustered]

    def get(
        self, seed: int, metric: str, split: str, layer: str, step: int, space: str = "raw"
    ) -> float:
        """Return one score."""
        return self.values[seed, metric, split, layer, space, step]


def tables(paths: Iterable[Path]) -> list[str]:
    """Return the tables, each as Markdown."""
    paths = list(paths)
    scores = Scores(path for path in paths if path.suffix == ".parquet")
    verdicts = [json.loads(path.read_text()) for path in paths if path.suffix == ".json"]
    return [
        *(findings_table(verdict) for verdict in verdicts),
        *(timing_table(verdict) for verdict in verdicts),
        *(ari_table(scores, split) for split in SPLIT_MEANINGS),
        tsne_table(scores),
        accuracy_table(scores),
        course_table(scores),
        variance_table(scores),
        probe_table(scores),
        order_table(scores),
        *(
            table
            for path in paths
            if path.suffix == ".csv" and path.parent.name == "scores"
            for table in tasks_tables(path)
        ),
        *(sweep_table(path) for path in paths if path.parent.name == "results"),
    ]


def findings_table(verdict: dict[str, Any]) -> str:
    """Return every check with its number, interval and verdict."""
    rows = []
    for finding in verdict["findings"]:
        rows.append([f"**{finding['finding']}**", "", f"**{finding['verdict']}**"])
        for check in finding["checks"]:
            limits = [
                f"{word} {check[name]:g}"
                for name, word in (("above", ">"), ("below", "<"))
                if check[name] is not None
            ]
            statistic = f"{check['statistic']}: {check['split']}"
            number = f"{check['value']:.2f} [{check['low']:.2f}, {check['high']:.2f}]"
            rows.append(
                [statistic, f"{number}, should be {' and '.join(limits)}", check["verdict"]]
            )
    return markdown(["finding, number, split", "mean of the runs [interval]", "verdict"], rows)


def timing_table(verdict: dict[str, Any]) -> str:
    """Return the step at which the ARI of each hidden state and the accuracy are half way.

    A curve that does not rise in some run has no such step there, and so no mean over the runs.
    """
    rows = []
    for timing in verdict["half way"]:
        each = ["none" if step is None else f"{step:,.0f}" for step in timing["each"]]
        ends = f"[{timing['low']:,.0f}, {timing['high']:,.0f}]"
        mean = "none" if timing["step"] is None else f"{timing['step']:,.0f} {ends}"
        rows.append([timing["what"], *each, mean])
    seeds = [f"seed {run['seed']}" for run in verdict["runs"]]
    return markdown(["half way at step", *seeds, "mean [interval]"], rows)


def probe_table(scores: Scores) -> str:
    """Return how well clusters, neighbours and a linear probe recover the task, over seeds."""
    rows = from_first_to_last(scores, ("ari", "neighbours_task", "probe_task", "separation"))
    return markdown(["val_subset", "ARI", "10 neighbours", "linear probe", "separation"], rows)


def variance_table(scores: Scores) -> str:
    """Return the share of variance between tasks, inputs and outputs, as means over seeds."""
    parts = ("task", "input", "output")
    rows = from_first_to_last(scores, [f"variance_{part}" for part in parts])
    return markdown(["share of variance", "between tasks", "inputs", "outputs"], rows)


def from_first_to_last(scores: Scores, metrics: Sequence[str]) -> list[list[str]]:
    """Return each state's metrics at the first and the last step on unseen pairs, over seeds."""
    steps = scores.steps[0], scores.steps[-1]

    def mean(metric: str, layer: str, step: int) -> str:
        values = [scores.get(seed, metric, "val_subset", layer, step) for seed in scores.seeds]
        return f"{np.mean(values):.2f}"

    return [
        [layer, *(" → ".join(mean(metric, layer, step) for step in steps) for metric in metrics)]
        for layer in scores.layers
    ]


def order_table(scores: Scores) -> str:
    """Return how well numbers that need no clusters predict the order of the blocks' ARI."""
    keys = [
        key
        for key in scores.values
        if key[1] == "ari" and key[4] == "raw" and key[3].startswith("block")
    ]

    def values(metric: str) -> NDArray[np.float64]:
        return np.array([scores.values[key[0], metric, *key[2:]] for key in keys])

    tasks, inputs = values("variance_task"), values("variance_input")
    orders = {
        "separation": values("separation"),
        "share of variance between tasks": tasks,
        "that share over the share between inputs": tasks / inputs,
    }
    rows = [
        [name, f"{spearmanr(order, values('ari')).statistic:.2f}"] for name, order in orders.items()
    ]
    return markdown([f"{len(keys):,} states", "Spearman's correlation with ARI"], rows)


def tasks_tables(path: Path) -> list[str]:
    """Return the ARI for each number of measured tasks, and that of KMeans from their means."""
    scores: dict[tuple[str, int, int, str], dict[str, list[float]]] = {}
    for r in csv.DictReader(path.read_text().splitlines()):
        if r["split"] == "val_subset":
            key = (r["metric"], int(r["step"] or -1), int(r["k"]), r["layer"])
            scores.setdefault(key, {}).setdefault(r["seed"], []).append(float(r["value"]))
    numbers = sorted({k for metric, _, k, _ in scores if metric == "inertia_ratio"})
    first, last = 0, max(step for _, step, _, _ in scores)
    layers = layers_in_order({name for metric, _, _, name in scores if metric == "inertia_ratio"})

    def spread(metric: str, step: int, k: int, layer: str) -> str:
        means = [float(np.mean(values)) for values in scores[metric, step, k, layer].values()]
        return f"{np.mean(means):.2f} ({min(means):.2f} to {max(means):.2f})"

    by_number = [[name, *(spread("ari", last, k, name) for k in numbers)] for name in layers]
    controls = [
        name for name in CONTROLS if not name.startswith("control:input")
    ]  # k is the number of inputs
    by_number += [[name, *(spread("ari", -1, k, name) for k in numbers)] for name in controls]
    most = numbers[-1]
    metrics = ("ari", "ari_from_means", "inertia_ratio")
    pairs = [(metric, step) for step in (first, last) for metric in metrics]
    of_means = [[name, *(spread(m, step, most, name) for m, step in pairs)] for name in layers]
    heads = ("ARI", "ARI, begun at the means", "inertia / so begun")
    whens = ("before", "after")
    return [
        markdown(["val_subset", *(f"{k} tasks" for k in numbers)], by_number),
        markdown([f"{most} tasks", *(f"{h}, {when}" for when in whens for h in heads)], of_means),
    ]


def sweep_table(path: Path) -> str:
    """Return the final ARI of each run of a sweep on unseen pairs, with the last block's peak."""
    world = tomllib.loads((path.parents[1] / "world.toml").read_text())
    runs: dict[str, dict[tuple[str, str], list[dict[str, str]]]] = {}
    for r in csv.DictReader(path.read_text().splitlines()):
        if r["split"] == "val_subset":
            key = (r["layer"], r["space"])
            runs.setdefault(difference(r, world), {}).setdefault(key, []).append(r)
    first = {layer for layer, _ in next(iter(runs.values()))}
    layers = [name for name in layers_in_order(first) if name.startswith(("embed", "block"))]
    last = layers[-1]
    rows = []
    for name, run in runs.items():

        def mean(layer: str, column: str, space: str = "raw", run: Any = run) -> float:
            return float(np.mean([float(r[column]) for r in run[layer, space]]))

        finals = [f"{mean(layer, 'final'):.2f}" for layer in layers]
        others = (mean(last, "final", "tsne"), mean(last, "ari_output"), mean(last, "accuracy"))
        peak = f"{mean(last, 'peak'):.2f} at {mean(last, 'peak_step'):,.0f}"
        rows.append([name, *finals, peak, *(f"{value:.2f}" for value in others)])
    of_last = [f"{last}, {word}" for word in ("peak", "after t-SNE", "with outputs")]
    return markdown([path.stem, *layers, *of_last, "accuracy"], rows)


def difference(row: dict[str, str], world: dict[str, Any]) -> str:
    """Return the settings in which a sweep's run differs from the world it starts from."""
    changed = []
    for key, value in row.items():
        table, dot, name = key.partition(".")
        if dot and name not in FOLLOWING:
            start = world[table][name]
            same = float(value) == start if type(start) is float else value == str(start).lower()
            if not same:
                changed.append(f"{name} = {value}")
    return ", ".join(changed) or "the small world"


def ari_table(scores: Scores, split: str) -> str:
    """Return the ARI at the first and the last step, one row per state, one column per seed."""
    first, last = scores.steps[0], scores.steps[-1]
    rows = []
    for layer in scores.layers:
        pairs = [
            [scores.get(seed, "ari", split, layer, step) for step in (first, last)]
            for seed in scores.seeds
        ]
        rows.append([layer, *(f"{a:.2f} → {b:.2f}" for a, b in pairs)])
    for control in scores.controls:
        values = [scores.get(seed, "ari", split, control, NO_STEP) for seed in scores.seeds]
        rows.append([control, *(f"{value:.2f}" for value in values)])
    return by_seed(scores, split, rows)


def tsne_table(scores: Scores) -> str:
    """Return the ARI at the last step after t-SNE, on unseen pairs."""
    last = scores.steps[-1]
    rows = []
    for layer in scores.layers:
        values = [
            scores.get(seed, "ari", "val_subset", layer, last, "tsne") for seed in scores.seeds
        ]
        rows.append([layer, *(f"{value:.2f}" for value in values)])
    return by_seed(scores, "after t-SNE", rows)


def accuracy_table(scores: Scores) -> str:
    """Return the accuracy at the last step."""
    last = scores.steps[-1]
    rows = [
        [
            name,
            *(f"{scores.get(s, 'accuracy', split, 'model', last, ''):.3f}" for s in scores.seeds),
        ]
        for split, name in (
            ("train_subset", "train_subset"),
            ("val", "val"),
            ("val_instruction", "val_instruction"),
        )
    ]
    return by_seed(scores, "accuracy", rows)


def course_table(scores: Scores) -> str:
    """Return the ARI of `block5`, the best layer, and the accuracy by step, on unseen pairs."""
    rows = []
    for step in [s for s in scores.steps if s == 0 or s >= 100]:
        row = [f"{step:,}"]
        for seed in scores.seeds:
            ari = scores.get(seed, "ari", "val_subset", "block5", step)
            accuracy = scores.get(seed, "accuracy", "val_subset", "model", step, "")
            row.append(f"{ari:.2f}, {accuracy:.2f}")
        rows.append(row)
    return by_seed(scores, "step: ARI, accuracy", rows)


def by_seed(scores: Scores, title: str, rows: list[list[str]]) -> str:
    """Return a Markdown table with one column per seed."""
    return markdown([title, *(f"seed {seed}" for seed in scores.seeds)], rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print("\n\n".join(tables(map(Path, sys.argv[1:]))))
