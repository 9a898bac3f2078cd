"""Instances with two crossed units, such as a context and an input: both are resampled."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from tasklens.clustering import numba_compile
from tasklens.core.seeds import stream
from tasklens.scoring.bootstrap import (
    Resampling,
    instance_weights,
    interval,
    linked_units,
    resampling_weights,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def crossed(n_tasks: int, n_contexts: int, n_inputs: int) -> tuple[Ints, Ints]:
    """Return task, (N,), and context and input, (N, 2), of all combinations."""
    every = itertools.product(range(n_tasks), range(n_contexts), range(n_inputs))
    task, context, word = np.array([*every]).T
    return task, np.stack([context, n_contexts + word], axis=1)


def drawn(task: Ints, unit: Ints, copies: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Return the column of each instance's units in the weights, and the weights."""
    units, group = linked_units(unit, task)
    return np.searchsorted(units, unit), resampling_weights(group, copies, rng)


def pair_counting_ari(task: Ints, unit: Ints, labels: Ints, weights: NDArray[Any]) -> float:
    """Count pairs one by one: for each kind of unit w_i * w_j, or w if both are of one unit."""
    counts = dict.fromkeys(itertools.product((False, True), repeat=2), 0.0)
    for i, j in itertools.combinations(range(len(task)), 2):
        kinds = zip(unit[i], unit[j], strict=True)
        n = np.prod([weights[u] if u == v else weights[u] * weights[v] for u, v in kinds])
        counts[bool(task[i] == task[j]), bool(labels[i] == labels[j])] += n
    both = counts[True, True]
    of_task, of_cluster = both + counts[True, False], both + counts[False, True]
    expected = of_task * of_cluster / sum(counts.values())
    return (both - expected) / ((of_task + of_cluster) / 2 - expected)


# --- Units ---


def test_units_are_drawn_within_the_tasks_that_share_them() -> None:
    task = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    # Tasks 0 and 1 have the same contexts and inputs, and so have 2 and 3.
    unit = np.array([[0, 10], [1, 11], [0, 11], [1, 10], [2, 12], [3, 13], [2, 13], [3, 12]])
    units, group = linked_units(unit, task)
    assert units.tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert [group[0], group[4]] == [group[1], group[5]]
    assert len(set(group)) == 4
    assert sorted(group.tolist()) == group.tolist(), "in the order of tasks, kind by kind"
    # An instruction is of one task, the inputs are those of all.
    unit = np.stack([np.arange(8), 10 + np.arange(8) % 2], axis=1)
    _, group = linked_units(unit, task)
    assert [len(set(group[:8])), len(set(group[8:]))] == [4, 1]
    # A unit that links no more than a chain does is in the group of the chain.
    _, group = linked_units(np.array([5, 6, 6, 7, 8]), np.array([0, 0, 1, 1, 2]))
    assert (group[:3] == group[0]).all()
    assert group[3] != group[0]


def test_units_are_drawn_among_those_of_the_same_splits() -> None:
    """The last of three contexts is held out, and so are the last two of four inputs."""
    task, unit = crossed(2, 3, 4)
    held_out = unit == [2, 6]
    held_out[:, 1] |= unit[:, 1] == 5
    split = np.array([0, 1, 2])[held_out @ [1, 2] % 3]
    kept = ~held_out.all(axis=1)  # no prompt of both is in a split
    units, group = linked_units(unit[kept], task[kept], split[kept])
    groups = [group[np.isin(units, each)] for each in ([0, 1], [2], [3, 4], [5, 6])]
    assert [len(set(each)) for each in groups] == [1] * 4
    assert len(set(group)) == 4
    weights = resampling_weights(group, 99, stream(0, "splits"))
    assert (weights[:, units == 2] == 1).all()
    assert (weights[:, np.isin(units, [5, 6])].sum(axis=1) == 2).all()


def test_units_of_one_task_each_are_drawn_within_their_task() -> None:
    random = stream(0, "one kind")
    task_of = random.integers(5, size=40)
    unit = random.integers(40, size=300)
    units, group = linked_units(unit, 3 * task_of[unit])
    _, expected = np.unique(task_of[units], return_inverse=True)
    assert group.tolist() == expected.tolist()


# --- The index and the mean ---


def test_weighted_pairs_of_two_kinds_are_those_counted_one_by_one() -> None:
    random = stream(0, "two kinds")
    for _ in range(4):
        task, unit = crossed(3, 4, 5)
        kept = np.sort(random.choice(len(task), 45, replace=False))  # no whole table
        task, unit = task[kept], unit[kept]
        labels = np.where(random.random(45) < 0.5, task, random.integers(4, size=45))
        column, weights = drawn(task, unit, 5, random)
        expected = [pair_counting_ari(task, column, labels, w) for w in weights]
        assert len(set(np.round(expected, 6))) == 6, "resamplings differ"
        resampling = Resampling(task, column, weights)
        assert resampling.ari(labels) == pytest.approx(expected, abs=1e-12)
        assert resampling.ari(labels)[0] == pytest.approx(adjusted_rand_score(task, labels))
        assert resampling.ari(task) == pytest.approx(np.ones(6))


def test_a_kind_of_a_single_unit_changes_nothing() -> None:
    random = stream(0, "single")
    task, unit = crossed(3, 1, 12)
    labels = random.integers(3, size=len(task))
    column, weights = drawn(task, unit, 20, random)
    both = Resampling(task, column, weights)
    one = Resampling(task, column[:, 1], weights)
    assert both.ari(labels).tolist() == one.ari(labels).tolist()
    assert both.mean(labels).tolist() == one.mean(labels).tolist()


def test_without_numba_two_kinds_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    random = stream(0, "without numba")
    task, unit = crossed(4, 6, 5)
    labels = random.integers(5, size=len(task))
    resampling = Resampling(task, *drawn(task, unit, 30, random))
    compiled = resampling.ari(labels)
    monkeypatch.setattr(numba_compile, "MISSING", "numba is not installed")
    assert resampling.ari(labels).tolist() == compiled.tolist()


def test_an_instance_counts_as_often_as_the_product_of_its_units() -> None:
    random = stream(0, "product")
    task, unit = crossed(2, 5, 4)
    units = np.unique(unit)
    weights = resampling_weights(linked_units(unit, task)[1], 9, random)
    each = instance_weights(unit, units, weights)
    assert each.tolist() == [[w[c] * w[x] for c, x in unit] for w in weights]
    right = random.random(len(task)) < 0.4
    expected = [np.average(right, weights=row) if row.any() else np.nan for row in each]
    assert Resampling(task, unit, weights).mean(right) == pytest.approx(expected, nan_ok=True)
    one = instance_weights(unit[:, 0], units, weights)
    assert one.tolist() == [[w[c] for c, _ in unit] for w in weights]


def test_sums_and_areas_count_an_instance_as_often_as_the_product_of_its_units() -> None:
    rng = stream(0, "areas")
    task, unit = crossed(2, 4, 5)
    column, weights = drawn(task, unit, 20, rng)
    score, is_error = rng.random(len(task)), rng.random(len(task)) < 0.3
    resampling = Resampling(task, column, weights)
    often = weights[:, column[:, 0]] * weights[:, column[:, 1]]  # (B, N)
    assert resampling.sum(is_error) == pytest.approx(often @ is_error)
    for value, weight in zip(resampling.auroc(score, is_error), often, strict=True):
        errors = (weight * is_error).sum()
        if 0 < errors < weight.sum():
            assert value == pytest.approx(roc_auc_score(is_error, score, sample_weight=weight))
        else:
            assert np.isnan(value)


def test_random_clusters_score_nothing_although_instances_share_both_units() -> None:
    random = stream(0, "unbiased")
    task, unit = crossed(4, 6, 7)
    resampling = Resampling(task, *drawn(task, unit, 40, random))
    clusters = random.integers(4, size=(100, len(task)))
    scores = np.array([resampling.ari(labels) for labels in clusters])
    assert scores[:, 0].mean() == pytest.approx(0, abs=0.004)
    assert scores[:, 1:].mean() == pytest.approx(0, abs=0.004)


# --- Coverage ---


def covered(deviations: tuple[float, float, float], kinds: slice, sets: int = 200) -> float:
    """Return how often the interval of a mean has the true mean, 0.

    Values are sums of an effect of the context, an effect of the input, and of the instance, normal
    numbers with these deviations. ``kinds`` are those that are resampled.
    """
    task, unit = crossed(1, 20, 25)
    hits = 0
    for number in range(sets):
        random = stream(0, "crossed effects", number)
        effects = [random.normal(0, s, n) for s, n in zip(deviations, (20, 25, 500), strict=True)]
        values = effects[0][unit[:, 0]] + effects[1][unit[:, 1] - 20] + effects[2]
        means = Resampling(task, *drawn(task, unit[:, kinds], 200, random)).mean(values)
        low, high = interval([means], "coverage", str(number))
        hits += low <= 0 <= high
    return hits / sets


def test_an_interval_over_both_units_has_the_true_mean_at_its_rate() -> None:
    both, contexts, inputs = (
        covered((1.0, 1.0, 1.0), kinds) for kinds in (slice(2), slice(1), slice(1, 2))
    )
    # 0.95, less what 20 and 25 units, instead of many, cost: about 0.02. 200 sets are off by 0.017.
    assert both == pytest.approx(0.935, abs=0.035)
    assert max(contexts, inputs) < 0.85, "one unit alone is too narrow"


def test_an_interval_over_both_units_is_not_too_wide_if_one_has_no_effect() -> None:
    assert covered((1.0, 0.0, 1.0), slice(2)) == pytest.approx(0.935, abs=0.035)
