import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ortho_group
from sklearn.linear_model import Ridge, RidgeClassifierCV
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from planted import planted_instances
from tasklens.clustering.cluster import Cell, ClusterSettings, cluster
from tasklens.core.seeds import stream
from tasklens.scoring.classifiers import (
    ALPHAS,
    NEIGHBOURS,
    nearest_centroid,
    ridge,
    score_probes,
    vote,
)
from tasklens.scoring.score_table import SCHEMA, to_table

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

COLUMNS: dict[str, Any] = {"run": "mine", "seed": 7, "step": 64, "position": "last"}
SIZES = {"train_subset": 300, "val_subset": 400, "val_instruction_subset": 500}
UNSEEN = ("val_subset", "val_instruction_subset")


def tasks(n_tasks: int) -> dict[str, Ints]:
    return {split: np.arange(n) % n_tasks for split, n in SIZES.items()}


def probed(states: dict[str, Floats], task: dict[str, Ints]) -> dict[tuple[str, str], float]:
    known = {split: planted_instances(t, split) for split, t in task.items()}
    columns: dict[str, Any] = {"run": "r", "seed": 0, "step": 0, "position": "p"}
    rows, decoded = score_probes("block1", states, instances=known, **columns)
    for row in rows:
        if row["metric"] == "probe_task":
            assert row["value"] == decoded[str(row["split"])].mean(), "the share of the hits"
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


def few_words() -> tuple[dict[str, Floats], dict[str, Ints]]:
    """States of 30 distinct rows, as those of a word embedding: most distances are equal."""
    random, task = stream(0, "few words"), tasks(5)
    rows = random.normal(size=(30, 12)).astype(np.float32)
    return {split: rows[random.integers(30, size=len(t))] for split, t in task.items()}, task


def scaled(factor: float, shift: float = 0) -> tuple[dict[str, Floats], dict[str, Ints]]:
    states, task = noisy()
    moved = {split: (x * factor + shift).astype(np.float32) for split, x in states.items()}
    return moved, task


def wide(n_tasks: int) -> tuple[dict[str, Floats], dict[str, Ints]]:
    """States with more columns than rows, some of the columns constant or equal."""
    random, task = stream(0, "wide", n_tasks), tasks(n_tasks)
    centres = 0.3 * random.normal(size=(n_tasks, 700))
    states = {}
    for split, t in task.items():
        x = centres[t] + random.normal(size=(len(t), 700))
        x[:, :50] = 0.1
        x[:, 50:90] = x[:, 90:130]
        states[split] = x.astype(np.float32)
    return states, task


def constant() -> tuple[dict[str, Floats], dict[str, Ints]]:
    task = tasks(3)
    return {split: np.full((len(t), 4), 0.1, np.float32) for split, t in task.items()}, task


def one_task() -> tuple[dict[str, Floats], dict[str, Ints]]:
    states, task = noisy()
    return states, task | {"train_subset": np.full_like(task["train_subset"], 3)}


CASES = {
    "noisy": noisy(), "few words": few_words(), "wide": wide(5), "two tasks": wide(2),
    "constant": constant(), "one task": one_task(), "huge": scaled(1e25), "tiny": scaled(1e-25),
    "far away": scaled(1, 1e4),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_linear_classifier_is_scikit_learns(case: str) -> None:
    states, task = CASES[case]
    known = RidgeClassifierCV(alphas=ALPHAS)
    scaler = StandardScaler()
    z = scaler.fit_transform(states["train_subset"])
    known.fit(z, task["train_subset"])
    got = probed(states, task)
    for split in UNSEEN:
        expected = known.score(scaler.transform(states[split]), task[split])
        assert got[split, "probe_task"] == pytest.approx(expected, abs=1e-9)
    weights, intercept = ridge(z, np.unique(task["train_subset"], return_inverse=True)[1])
    if len(known.classes_) > 2:  # otherwise it has one column
        np.testing.assert_allclose(weights.T, known.coef_, rtol=0, atol=1e-6)
        np.testing.assert_allclose(intercept, known.intercept_, rtol=0, atol=1e-6)


def test_leave_one_out_is_by_leaving_each_out() -> None:
    """The chosen penalty has the least squared error of ridges that are fitted without a row."""
    random, task = stream(0, "one out"), np.arange(24) % 3
    z = (random.normal(size=(3, 6))[task] + 2 * random.normal(size=(24, 6))).astype(np.float32)
    target = 2.0 * np.eye(3)[task] - 1
    error = {}
    for alpha in ALPHAS:
        rest = np.arange(24) != np.arange(24)[:, None]  # (24, 24), a row for each that is left out
        fits = [Ridge(alpha).fit(z[kept], target[kept]).predict(z[~kept])[0] for kept in rest]
        error[alpha] = np.mean((np.array(fits) - target) ** 2)
    best = min(error, key=lambda alpha: error[alpha])
    assert ALPHAS[0] < best < ALPHAS[-1]
    weights, _ = ridge(z, task)
    expected = Ridge(best).fit(z, target).coef_
    np.testing.assert_allclose(weights.T, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_vote_is_scikit_learns(case: str) -> None:
    """Also if distances are equal, or too large or too small for float32."""
    states, task = CASES[case]
    x, t = states["train_subset"], task["train_subset"]
    known = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(x, t)
    for split in UNSEEN:
        got = vote(x, t, states[split], NEIGHBOURS)
        assert got.tolist() == known.predict(states[split]).tolist()


def test_many_queries_are_answered_in_parts() -> None:
    random = stream(0, "many")
    x, queries = (random.normal(size=(n, 3)).astype(np.float32) for n in (5_000, 150))
    task = random.integers(4, size=len(x))
    known = KNeighborsClassifier(7, algorithm="brute").fit(x.astype(np.float64), task)
    assert vote(x, task, queries, 7).tolist() == known.predict(queries).tolist()


def test_a_row_for_each_number_and_split_but_the_one_learned_from() -> None:
    states, task = noisy()
    known = {split: planted_instances(t, split) for split, t in task.items()}
    rows, decoded = score_probes("block3", states, instances=known, **COLUMNS)
    assert {split: len(right) for split, right in decoded.items()} == {s: SIZES[s] for s in UNSEEN}
    numbers = itertools.product(UNSEEN, ("nc4", "probe_task", "centroid_task", "neighbours_task"))
    assert [(row["split"], row["metric"]) for row in rows] == [("train_subset", "nc4"), *numbers]
    expected = {**COLUMNS, "layer": "block3", "space": "raw", "k": None, "cluster_seed": None}
    for row in rows:
        assert set(row) == set(SCHEMA.names)
        assert {**row, **expected} == row
    assert to_table(rows).num_rows == 9
    again = score_probes("block3", states, instances=known, **COLUMNS)
    assert again.rows == rows, "nothing is drawn"


def test_what_is_learned_is_learned_on_the_training_subset_alone() -> None:
    # Tasks are permuted in one split: predictions on it are wrong, and nothing changes elsewhere.
    states, task = noisy()
    before = probed(states, task)
    changed = probed(states, task | {"val_subset": (task["val_subset"] + 1) % 5})
    for metric in ("probe_task", "centroid_task", "neighbours_task"):
        assert changed["val_subset", metric] < 0.25 < before["val_subset", metric]
        assert changed[UNSEEN[1], metric] == before[UNSEEN[1], metric]
    shuffled = stream(0, "shuffled").permutation(task["train_subset"])
    chance = probed(states, task | {"train_subset": shuffled})
    assert max(value for (_, metric), value in chance.items() if metric != "nc4") < 0.35


def test_fewer_training_instances_than_neighbours() -> None:
    task = {"train_subset": np.array([0, 0, 1, 1, 1]), "val_subset": np.array([0] * 3 + [1] * 7)}
    assert len(task["train_subset"]) < NEIGHBOURS
    random = stream(0, "few")
    states = {
        split: 10 * np.eye(2)[t] + random.normal(size=(len(t), 2)) for split, t in task.items()
    }
    got = probed({split: x.astype(np.float32) for split, x in states.items()}, task)
    # All five vote, and three of them for 1.
    assert got == {
        ("train_subset", "nc4"): 1.0,
        ("val_subset", "nc4"): 1.0,
        ("val_subset", "probe_task"): 1.0,
        ("val_subset", "centroid_task"): 1.0,
        ("val_subset", "neighbours_task"): 0.7,
    }


def test_nc4_is_the_agreement_of_two_classifiers_whatever_the_task() -> None:
    states, task = noisy()
    before = probed(states, task)
    x, t = states["train_subset"], task["train_subset"]
    line = RidgeClassifierCV(alphas=ALPHAS).fit(StandardScaler().fit_transform(x), t)
    centres = NearestCentroid().fit(x, t)
    scaler = StandardScaler().fit(x)
    for split, queries in states.items():
        agreed = line.predict(scaler.transform(queries)) == centres.predict(queries)
        assert 0.3 < before[split, "nc4"] < 0.95
        assert before[split, "nc4"] == pytest.approx(np.mean(agreed), abs=0.005)
    other = {split: (t + (split in UNSEEN)) % 5 for split, t in task.items()}
    changed = probed(states, other)
    assert [changed[split, "nc4"] for split in SIZES] == [before[split, "nc4"] for split in SIZES]


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_the_nearest_centroid_is_that_of_scikit_learn(far: float) -> None:
    random = stream(0, "centroids")
    task = np.concatenate([np.arange(7), random.integers(7, size=293)])
    centres = random.normal(size=(7, 16))
    x = (far + centres[task] + random.normal(size=(300, 16))).astype(np.float32)
    queries = (far + centres[random.integers(7, size=500)]).astype(np.float32)
    queries += random.normal(size=queries.shape).astype(np.float32)
    reference = NearestCentroid().fit(x.astype(np.float64), task)
    expected = reference.predict(queries.astype(np.float64))
    assert np.array_equal(nearest_centroid(x, task, queries), expected)
