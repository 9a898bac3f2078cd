"""Tables of runs that differ in their seed: ARI, accuracy, variance, probes, orders."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tables.markdown import markdown, number
from tables.run_scores import Scores
from tasklens.scoring.score_table import NO_STEP


def ari_table(scores: Scores, split: str) -> str:
    """Return the ARI at the first and the last step, one row per state, one column per seed."""
    first, last = scores.steps[0], scores.steps[-1]
    rows = []
    for layer in scores.layers:
        pairs = [
            [scores.get(seed, "ari", split, layer, step) for step in (first, last)]
            for seed in scores.seeds
        ]
        rows.append([layer, *(f"{a:z.2f} → {b:z.2f}" for a, b in pairs)])
    for control in scores.controls:
        values = [scores.get(seed, "ari", split, control, NO_STEP) for seed in scores.seeds]
        rows.append([control, *(f"{value:z.2f}" for value in values)])
    return by_seed(scores, split, rows)


def tsne_table(scores: Scores) -> str:
    """Return the ARI at the last step after t-SNE, on unseen pairs."""
    last = scores.steps[-1]
    rows = []
    for layer in scores.layers:
        values = [
            scores.get(seed, "ari", "val_subset", layer, last, "tsne") for seed in scores.seeds
        ]
        rows.append([layer, *(f"{value:z.2f}" for value in values)])
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
            row.append(f"{ari:z.2f}, {accuracy:z.2f}")
        rows.append(row)
    return by_seed(scores, "step: ARI, accuracy", rows)


def variance_table(scores: Scores) -> str:
    """Return the share of variance between tasks, inputs and outputs, as means over seeds."""
    parts = ("task", "input", "output")
    rows = from_first_to_last(scores, [f"variance_{part}" for part in parts])
    return markdown(["share of variance", "between tasks", "inputs", "outputs"], rows)


def probe_table(scores: Scores) -> str:
    """Return how well clusters, neighbours and a linear probe recover the task, over seeds."""
    rows = from_first_to_last(scores, ("ari", "neighbours_task", "probe_task", "separation"))
    return markdown(["val_subset", "ARI", "10 neighbours", "linear probe", "separation"], rows)


def other_scores_table(scores: Scores) -> str:
    """Return scores that others use, as means over seeds."""
    titles = {
        "separation": "separation",
        "nc1": "NC1",
        "nc4": "NC4",
        "rankme": "RankMe",
        "alpha": "alpha",
        "task_decodability": "task decodability",
    }
    return markdown(["val_subset", *titles.values()], from_first_to_last(scores, list(titles)))


def from_first_to_last(scores: Scores, metrics: Sequence[str]) -> list[list[str]]:
    """Return each state's metrics at the first and the last step on unseen pairs, over seeds."""
    steps = scores.steps[0], scores.steps[-1]

    def mean(metric: str, layer: str, step: int) -> str:
        values = [scores.get(seed, metric, "val_subset", layer, step) for seed in scores.seeds]
        return number(float(np.mean(values)))

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
        [name, f"{spearmanr(order, values('ari')).statistic:z.2f}"]
        for name, order in orders.items()
    ]
    return markdown([f"{len(keys):,} states", "Spearman's correlation with ARI"], rows)


def by_seed(scores: Scores, title: str, rows: list[list[str]]) -> str:
    """Return a Markdown table with one column per seed."""
    return markdown([title, *(f"seed {seed}" for seed in scores.seeds)], rows)
