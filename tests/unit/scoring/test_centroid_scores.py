"""Places among centroids: planted states with known answers, and scikit-learn's numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.neighbors import NearestCentroid

from planted import planted_instances
from tasklens.scoring.centroid_scores import (
    Answered,
    auroc,
    commonest,
    place_states,
    score_centroids,
    task_ari,
)
from tasklens.scoring.centroids import fit_centroids
from tasklens.scoring.partition_agreement import contingency, one_against_rest

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TASKS, WIDTH, N = 4, 12, 120
SEEN, UNSEEN, NEW = "train_subset", "val_subset", "unseen_task_subset"
INPUTS, OUTPUTS = 6, 50


def centres() -> NDArray[np.float64]:
    return 10 * np.random.default_rng(7).normal(size=(TASKS, WIDTH))


def states(task: Ints, spread: float = 1.0, seed: int = 0) -> Floats:
    noise = np.random.default_rng(seed).normal(size=(len(task), WIDTH))
    return (centres()[task] + spread * noise).astype(np.float32)


def scores(
    x: Mapping[str, Floats], task: Mapping[str, Ints], **known: Any
) -> dict[tuple[str, str], float]:
    """Return the scores of states by split and metric; the inputs go round."""
    rows, _ = score_centroids(
        "block2",
        x,
        instances={
            split: planted_instances(each, split, input=np.arange(len(each)) % INPUTS)
            for split, each in task.items()
        },
        **{"answered": {}, "labels": {}, "outputs": None, **known},
        run="r",
        seed=0,
        step=8,
        position="input",
    )
    assert all(row["layer"] == "block2" and row["space"] == "raw" for row in rows)
    values = {(str(row["split"]), str(row["metric"])): float(row["value"] or 0) for row in rows}
    assert len(values) == len(rows)
    return values


def answered(correct: NDArray[np.integer[Any]], answer: Ints | None = None) -> Answered:
    return Answered(np.zeros(len(correct), np.int64) if answer is None else answer, correct)


TASK = np.arange(N) % TASKS


def test_the_distance_tells_errors_that_are_far_from_their_centroid() -> None:
    far = np.arange(N) % 5 == 0
    x = {SEEN: states(TASK), UNSEEN: states(TASK, seed=1)}
    x[UNSEEN][far] += 8
    values = scores(x, {SEEN: TASK, UNSEEN: TASK}, answered={UNSEEN: answered(1 - far)})
    assert values[UNSEEN, "error_auroc"] == 1
    assert values[UNSEEN, "errors"] == far.sum()
    values = scores(x, {SEEN: TASK, UNSEEN: TASK}, answered={UNSEEN: answered(far.astype(int))})
    assert values[UNSEEN, "error_auroc"] == 0


def test_the_area_is_that_of_scikit_learn_over_known_answers() -> None:
    rng = np.random.default_rng(3)
    x, task = {SEEN: states(TASK), UNSEEN: states(TASK, seed=1)}, {SEEN: TASK, UNSEEN: TASK}
    correct = rng.integers(-1, 2, size=N)
    own = np.stack([x[SEEN][t == TASK].mean(axis=0, dtype=float) for t in range(TASKS)])[TASK]
    distance = np.linalg.norm(x[UNSEEN] - own, axis=1)
    known = correct >= 0
    values = scores(x, task, answered={UNSEEN: answered(correct)})
    assert values[UNSEEN, "errors"] == (correct == 0).sum()
    assert values[UNSEEN, "error_auroc"] == pytest.approx(
        roc_auc_score(correct[known] == 0, distance[known])
    )


def test_an_instance_of_the_first_split_is_compared_with_the_mean_of_the_others() -> None:
    x, task = states(TASK[:17]), TASK[:17]
    centroids = fit_centroids(x, task)
    others = [
        np.linalg.norm(x[i] - x[(task == task[i]) & (np.arange(17) != i)].mean(axis=0, dtype=float))
        for i in range(17)
    ]
    assert centroids.distance_left_out() == pytest.approx(others)
    # In noise alone, the own centroid would be the nearest of all: it contains the instance.
    alone = fit_centroids(x[:5], task[:5]).distance_left_out()
    assert np.isnan(alone).tolist() == [False, True, True, True, False]


def test_without_errors_or_without_hits_there_is_no_area() -> None:
    x, task = {SEEN: states(TASK)}, {SEEN: TASK}
    for correct, errors in ((np.ones(N, int), 0), (np.zeros(N, int), N)):
        values = scores(x, task, answered={SEEN: answered(correct)})
        assert values[SEEN, "errors"] == errors
        assert (SEEN, "error_auroc") not in values
    unknown = scores(x, task, answered={SEEN: answered(np.full(N, -1))})
    assert not {(SEEN, "errors"), (SEEN, "error_auroc"), (SEEN, "task_ari_accuracy")} & {*unknown}


def test_auroc_is_that_of_scikit_learn_under_weights_and_ties() -> None:
    rng = np.random.default_rng(0)
    score = rng.integers(6, size=80).astype(np.float32)
    is_error = rng.random(80) < 0.3
    weights = rng.integers(3, size=(4, 80)).astype(float)
    values = auroc(score, is_error, weights)
    for value, weight in zip(values, weights, strict=True):
        assert value == pytest.approx(roc_auc_score(is_error, score, sample_weight=weight))
    assert np.isnan(auroc(score, np.zeros(80, dtype=bool), weights)).all()


def test_one_part_against_the_rest_is_the_index_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(4, size=90), rng.integers(3, size=90)
    index = one_against_rest(contingency(a, b))
    for i in range(4):
        for j in range(3):
            assert index[i, j] == pytest.approx(adjusted_rand_score(a == i, b == j))
    assert one_against_rest(contingency(np.zeros(5, int), np.zeros(5, int))).tolist() == [[1]]
    assert one_against_rest(contingency(np.zeros(1, int), np.zeros(1, int))).tolist() == [[1]]


def test_a_task_that_is_split_or_merged_has_a_lower_ari_than_one_with_its_own_cluster() -> None:
    labels = TASK.copy()
    labels[TASK == 2] = 1  # 1 and 2 share a cluster
    labels[(TASK == 3) & (np.arange(N) < N // 2)] = 4  # 3 has two
    whole, shared, other, halved = task_ari(TASK, labels[None])
    assert whole == 1
    assert shared == other
    assert shared == pytest.approx(adjusted_rand_score(TASK == 1, labels == 1))
    assert 0 < halved < 1
    assert halved == pytest.approx(adjusted_rand_score(TASK == 3, labels == 3))
    renumbered = np.array([3, 0, 9, 1, 2])[labels]
    assert task_ari(TASK, renumbered[None]) == pytest.approx([whole, shared, other, halved])
    both = np.stack([labels, TASK])
    assert task_ari(TASK, both) == pytest.approx((1 + np.array([1, shared, shared, halved])) / 2)


def test_two_tasks_in_two_clusters_have_the_ari_of_all() -> None:
    rng = np.random.default_rng(2)
    task = np.arange(60) % 2
    labels = np.where(rng.random(60) < 0.2, 1 - task, task)
    assert task_ari(task, labels[None]) == pytest.approx([adjusted_rand_score(task, labels)] * 2)


def test_the_ari_of_a_task_by_chance_is_that_of_the_best_of_several_clusters() -> None:
    rng = np.random.default_rng(4)
    task = np.arange(1000) % 10
    by_chance = task_ari(task, rng.integers(10, size=(50, 1000))).mean()
    assert 0.03 < by_chance < 0.05, "as the docs state"


def test_ari_and_accuracy_of_tasks_are_related_as_planted() -> None:
    x, task = {SEEN: states(TASK)}, {SEEN: TASK}
    labels, correct = TASK.copy(), np.ones(N, int)
    for t in range(TASKS):  # task t loses t in 7 of its instances to another cluster
        lost = np.flatnonzero(t == TASK)[: t * N // TASKS // 7]
        labels[lost] = TASKS + t
        correct[lost[: 1 + t]] = 0
    known = {"answered": {SEEN: answered(correct)}, "labels": {SEEN: labels[None]}}
    assert scores(x, task, **known)[SEEN, "task_ari_accuracy"] == pytest.approx(1)
    ari = task_ari(TASK, labels[None])
    correct[TASK == 3] = 1
    correct[(TASK == 0) & (np.arange(N) < 60)] = 0
    accuracy = [correct[t == TASK].mean() for t in range(TASKS)]
    known["answered"] = {SEEN: answered(correct)}
    assert scores(x, task, **known)[SEEN, "task_ari_accuracy"] == pytest.approx(
        spearmanr(ari, accuracy).statistic
    )


def test_there_is_no_correlation_if_ari_or_accuracy_is_flat_or_tasks_are_two() -> None:
    x, correct = {SEEN: states(TASK)}, (np.arange(N) > 9).astype(int)
    correct[TASK == 0] = 1
    lossy = np.where(np.arange(N) < 11, 0, TASK)
    for task, labels, right in (
        (TASK, TASK, correct),
        (TASK, lossy, np.ones(N, int)),
        (TASK % 2, lossy % 2, correct),
    ):
        known = {"answered": {SEEN: answered(right)}, "labels": {SEEN: labels[None]}}
        values = scores(x, {SEEN: task}, **known)
        assert (SEEN, "errors") in values
        assert (SEEN, "task_ari_accuracy") not in values
    known = {"answered": {SEEN: answered(correct)}, "labels": {SEEN: lossy[None]}}
    assert (SEEN, "task_ari_accuracy") in scores(x, {SEEN: TASK}, **known)


def test_the_share_in_the_span_is_one_inside_and_the_rank_over_the_width_at_random() -> None:
    x = {SEEN: states(TASK, spread=0.0)}
    middle = centres().mean(axis=0)
    weights = np.random.default_rng(5).dirichlet(np.ones(TASKS), size=N)
    x["inside"] = (weights @ centres()).astype(np.float32)
    x["random"] = (middle + np.random.default_rng(6).normal(size=(4000, WIDTH))).astype(np.float32)
    basis = fit_centroids(x[SEEN], TASK).basis
    out = np.random.default_rng(8).normal(size=(N, WIDTH))
    x["outside"] = (middle + 100 * (out - (out @ basis) @ basis.T)).astype(np.float32)
    new = {name: np.full(len(each), TASKS) for name, each in x.items()}
    values = scores(x, new | {SEEN: TASK})
    assert values["inside", "span_share"] == pytest.approx(1, abs=1e-4)
    assert values["outside", "span_share"] == pytest.approx(0, abs=1e-4)
    chance = (TASKS - 1) / WIDTH
    assert {values[name, "span_share_random"] for name in x} == {chance}
    assert values["random", "span_share"] == pytest.approx(chance, abs=0.01)


def test_a_state_at_the_mean_of_the_centroids_has_no_share() -> None:
    corners = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    x = {SEEN: corners[np.arange(8) % 2], NEW: np.array([[0, 0], [0, 2], [3, 0]], np.float32)}
    values = scores(x, {SEEN: np.arange(8) % 2, NEW: np.full(3, 9)})
    assert values[NEW, "span_share"] == 0.5
    only = {SEEN: x[SEEN], NEW: x[NEW][:1]}
    assert (NEW, "span_share") not in scores(only, {SEEN: np.arange(8) % 2, NEW: np.full(1, 9)})


def test_an_unseen_task_that_lies_on_a_known_one_is_near_it_and_has_no_errors() -> None:
    new = TASKS + np.arange(N) % 2
    at = np.where(new == TASKS, 1, np.where(np.arange(N) < N // 2, 2, 3))  # the second is halved
    x = {SEEN: states(TASK), NEW: states(at, seed=2)}
    values = scores(x, {SEEN: TASK, NEW: new}, answered={NEW: answered(np.full(N, -1))})
    assert values[NEW, "nearest_task_share"] == 0.75
    assert {metric for split, metric in values if split == NEW} == {
        *("span_share", "span_share_random", "nearest_task_share")
    }
    _, placed = place_states(x, {s: planted_instances(t, s) for s, t in ((SEEN, TASK), (NEW, new))})
    expected = NearestCentroid().fit(x[SEEN], TASK).predict(x[NEW])
    assert np.array_equal(placed[NEW].nearest, expected)
    assert np.isnan(placed[NEW].distance).all()
    tasks, share = commonest(new, placed[NEW].nearest)
    assert tasks.tolist() == [1, 2]
    assert share.tolist() == [1, 0.5]


def test_answers_of_the_nearest_task_are_counted_where_it_has_one() -> None:
    outputs = np.random.default_rng(9).permutation(OUTPUTS)[: INPUTS * TASKS]
    table = outputs.reshape(INPUTS, TASKS)
    table[0, 1] = -1  # task 1 has no output for input 0
    at, inputs = np.arange(N) % 2, np.arange(N) % INPUTS
    at = at[np.argsort(np.arange(N) % 7, kind="stable")]  # not in step with the inputs
    x = {SEEN: states(TASK), NEW: states(at, seed=2)}
    answer = np.where(at == 1, table[inputs, at], table[inputs, 2])
    known = {"answered": {NEW: answered(np.full(N, -1), answer)}, "outputs": table}
    values = scores(x, {SEEN: TASK, NEW: np.full(N, TASKS)}, **known)
    has = table[inputs, at] >= 0
    assert values[NEW, "answer_of_nearest"] == pytest.approx((at[has] == 1).mean())
    is_output = (answer[:, None] == table[inputs]) & (table[inputs] >= 0)
    assert values[NEW, "answer_of_nearest_random"] == pytest.approx(
        is_output.sum() / (table[inputs] >= 0).sum()
    )
    table[:] = -1
    assert (NEW, "answer_of_nearest") not in scores(x, {SEEN: TASK, NEW: TASK}, **known)


def test_equal_states_and_a_single_task_raise_nothing() -> None:
    same = np.ones((N, WIDTH), np.float32)
    correct = np.arange(N) % 2
    known = {"answered": {SEEN: answered(correct)}, "labels": {SEEN: np.zeros((2, N), np.int16)}}
    values = scores({SEEN: same}, {SEEN: TASK}, **known)
    assert values[SEEN, "error_auroc"] == 0.5, "all distances are equal"
    assert (SEEN, "span_share") not in values
    assert values[SEEN, "span_share_random"] == 0
    assert scores({SEEN: same}, {SEEN: np.zeros(N, int)}, **known) == {}
