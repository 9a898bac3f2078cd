import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ortho_group
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import adjusted_rand_score

from planted import planted_instances
from tasklens.clustering.cluster import Cell, ClusterSettings, cluster
from tasklens.core.seeds import stream
from tasklens.scoring.classifiers import NEIGHBOURS, score_probes
from tasklens.scoring.score_table import SCHEMA, Row, to_table

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

COLUMNS: dict[str, Any] = {"run": "mine", "seed": 7, "step": 64, "position": "last"}
SIZES = {"train_subset": 300, "val_subset": 400, "val_instruction_subset": 500}
UNSEEN = ("val_subset", "val_instruction_subset")


def tasks(n_tasks: int) -> dict[str, Ints]:
    return {split: np.arange(n) % n_tasks for split, n in SIZES.items()}


def probed(states: dict[str, Floats], task: dict[str, Ints]) -> dict[tuple[str, str], float]:
    known = {split: planted_instances(t, split) for split, t in task.items()}
    rows = score_probes("block1", states, instances=known, run="r", seed=0, step=0, position="p")
    return {(str(r["split"]), str(r["metric"])): float(r["value"] or 0) for r in rows}


def ari(x: Floats, task: Ints) -> float:
    cell = Cell(0, 0, "val_subset", "block1", "raw", len(np.unique(task)), x)
    (clustering,) = cluster([cell], ClusterSettings(cluster_seeds=1))
    return float(adjusted_rand_score(task, clustering.labels[0]))


def test_a_task_that_makes_no_clusters_is_found_by_a_line() -> None:
    # Four tasks 1.4 apart, and a direction common to all in which states are spread by 100.
    random, turn = stream(0, "hidden tasks"), ortho_group.rvs(16, random_state=0)
    task = tasks(4)
    states = {}
    for split, t in task.items():
        x = 0.05 * random.normal(size=(len(t), 16))
        x[:, :4] += np.eye(4)[t]
        x[:, 4] += 100 * random.normal(size=len(t))
        states[split] = (x @ turn).astype(np.float32)
    got = probed(states, task)
    for split in UNSEEN:
        assert abs(ari(states[split], task[split])) < 0.02
        assert got[split, "probe_task"] > 0.98
        assert got[split, "neighbours_task"] < 0.4, "the nearest are near in what is common"


def test_a_task_that_no_line_finds_is_found_by_neighbours() -> None:
    random = stream(0, "rings")
    task = tasks(2)
    states = {}
    for split, t in task.items():
        angle = random.uniform(0, 2 * np.pi, size=len(t))
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + 2 * t[:, None])
        states[split] = ring.astype(np.float32)
    got = probed(states, task)
    for split in UNSEEN:
        assert got[split, "neighbours_task"] == 1.0
        assert got[split, "probe_task"] == pytest.approx(0.5, abs=0.12)


def noisy() -> tuple[dict[str, Floats], dict[str, Ints]]:
    """States in which the task is there in part, on scales that differ by far."""
    random = stream(0, "noisy")
    task = tasks(5)
    centres = random.normal(size=(5, 12))
    scales = np.logspace(-1, 1, 12)
    states = {}
    for i, (split, t) in enumerate(task.items()):
        x = (centres[t] + 1.3 * random.normal(size=(len(t), 12)) + 0.3 * i) * scales
        states[split] = x.astype(np.float32)
    return states, task


def test_the_numbers_are_those_of_the_classifiers_put_together_by_hand() -> None:
    states, task = noisy()
    got = probed(states, task)
    x, t = states["train_subset"].astype(np.float64), task["train_subset"]
    ridge = RidgeClassifierCV(alphas=[0.01, 0.1, 1, 10, 100, 1000, 10000])
    ridge.fit((x - x.mean(axis=0)) / x.std(axis=0), t)
    for split in UNSEEN:
        y = states[split].astype(np.float64)
        predicted = ridge.predict((y - x.mean(axis=0)) / x.std(axis=0))
        # Rounding in float32 may change one prediction of hundreds.
        tolerance = 1.01 / len(y)
        linear = np.mean(predicted == task[split])
        assert got[split, "probe_task"] == pytest.approx(linear, abs=tolerance)
        distance = ((y[:, None] - x[None]) ** 2).sum(axis=2)
        nearest = np.argsort(distance, axis=1)[:, :10]
        voted = [np.bincount(t[i], minlength=5).argmax() for i in nearest]
        near = np.mean(np.array(voted) == task[split])
        assert got[split, "neighbours_task"] == pytest.approx(near, abs=tolerance)
        assert 0.3 < near < linear < 0.95, "neither chance nor certainty"


def test_a_row_for_each_number_and_split_but_the_one_learned_from() -> None:
    states, task = noisy()
    known = {split: planted_instances(t, split) for split, t in task.items()}
    rows: list[Row] = score_probes("block3", states, instances=known, **COLUMNS)
    numbers = itertools.product(UNSEEN, ("probe_task", "neighbours_task"))
    assert [(row["split"], row["metric"]) for row in rows] == list(numbers)
    expected = {**COLUMNS, "layer": "block3", "space": "raw", "k": None, "cluster_seed": None}
    for row in rows:
        assert set(row) == set(SCHEMA.names)
        assert {**row, **expected} == row
    assert to_table(rows).num_rows == 4
    assert score_probes("block3", states, instances=known, **COLUMNS) == rows, "nothing is drawn"


def test_what_is_learned_is_learned_on_the_training_subset_alone() -> None:
    # Tasks are permuted in one split: predictions on it are wrong, and nothing changes elsewhere.
    states, task = noisy()
    before = probed(states, task)
    changed = probed(states, task | {"val_subset": (task["val_subset"] + 1) % 5})
    for metric in ("probe_task", "neighbours_task"):
        assert changed["val_subset", metric] < 0.25 < before["val_subset", metric]
        assert changed[UNSEEN[1], metric] == before[UNSEEN[1], metric]
    shuffled = stream(0, "shuffled").permutation(task["train_subset"])
    chance = probed(states, task | {"train_subset": shuffled})
    assert max(chance.values()) < 0.35


def test_fewer_training_instances_than_neighbours() -> None:
    task = {"train_subset": np.array([0, 0, 1, 1, 1]), "val_subset": np.array([0] * 3 + [1] * 7)}
    assert len(task["train_subset"]) < NEIGHBOURS
    random = stream(0, "few")
    states = {
        split: 10 * np.eye(2)[t] + random.normal(size=(len(t), 2)) for split, t in task.items()
    }
    got = probed({split: x.astype(np.float32) for split, x in states.items()}, task)
    # All five vote, and three of them for 1.
    assert got == {("val_subset", "probe_task"): 1.0, ("val_subset", "neighbours_task"): 0.7}
