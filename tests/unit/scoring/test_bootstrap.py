import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from tasklens.clustering import numba_compile
from tasklens.core.seeds import stream
from tasklens.scoring.bootstrap import Resampling, interval, interval_of_runs, resampling_weights

Ints = NDArray[np.int64]


def partitions(random: np.random.Generator, n: int = 60) -> tuple[Ints, Ints, Ints]:
    """Return tasks, units and clusters of n instances; a unit is of one task, a cluster of any."""
    unit = random.integers(12, size=n)
    task = random.integers(3, size=12)[unit]
    return task, unit, random.integers(4, size=n)


def pair_counting_ari(task: Ints, unit: Ints, labels: Ints, weights: NDArray[Any]) -> float:
    """Count pairs one by one: w_i * w_j where the units differ, w where both are of one unit."""
    counts = dict.fromkeys(itertools.product((False, True), repeat=2), 0.0)
    for i, j in itertools.combinations(range(len(task)), 2):
        u, v = unit[i], unit[j]
        n = weights[u] if u == v else weights[u] * weights[v]
        counts[bool(task[i] == task[j]), bool(labels[i] == labels[j])] += n
    both = counts[True, True]
    of_task, of_cluster = both + counts[True, False], both + counts[False, True]
    expected = of_task * of_cluster / sum(counts.values())
    return (both - expected) / ((of_task + of_cluster) / 2 - expected)


# --- Weights ---


def test_units_are_drawn_with_replacement_within_their_group() -> None:
    group = np.array([4, 4, 1, 4, 1, 7, 4, 1, 4])
    weights = resampling_weights(group, 3000, stream(0, "weights"))
    assert weights.shape == (3001, 9)
    assert (weights[0] == 1).all(), "the sample as it is comes first"
    assert ((weights == weights.round()) & (weights >= 0)).all()
    for g, size in ((1, 3), (4, 5), (7, 1)):
        assert (weights[:, group == g].sum(axis=1) == size).all()
        # of n draws from n units, n * 1/n * (1 - 1/n) is the variance of each unit's count
        drawn = weights[1:, group == g]
        assert drawn.mean(axis=0) == pytest.approx(1, abs=5 * (1 / 3000) ** 0.5)
        assert drawn.var(axis=0) == pytest.approx(1 - 1 / size, abs=0.15)
    again, other = (resampling_weights(group, 3000, stream(s, "weights")) for s in (0, 1))
    assert (weights == again).all(), "from the generator alone"
    assert (weights != other).any()


# --- The index ---


def test_weights_of_one_give_scikit_learns_index() -> None:
    random = stream(0, "partitions")
    for _ in range(30):
        task, unit, labels = partitions(random, n=int(random.integers(2, 80)))
        mixed = np.where(random.random(len(task)) < 0.5, task, labels)
        resampling = Resampling(task, unit, np.ones((1, 12)))
        for clusters in (labels, mixed, task, 7 * mixed - 3):
            expected = adjusted_rand_score(task, clusters)
            assert resampling.ari(clusters) == pytest.approx([expected], abs=1e-12)


def test_weighted_pairs_are_those_counted_one_by_one() -> None:
    random = stream(0, "weighted partitions")
    for _ in range(5):
        task, unit, labels = partitions(random, n=40)
        labels = np.where(random.random(40) < 0.5, task, labels)
        group = np.zeros(12, dtype=np.int64)
        group[unit] = task
        weights = resampling_weights(group, 4, random)
        expected = [pair_counting_ari(task, unit, labels, w) for w in weights]
        assert len(set(np.round(expected, 6))) == 5, "resamplings differ"
        assert Resampling(task, unit, weights).ari(labels) == pytest.approx(expected, abs=1e-12)
        # Neither names of tasks and clusters matter nor a unit that nothing belongs to.
        wider = np.insert(weights, 5, 9.0, axis=1)
        other = Resampling(40 - 7 * task, np.where(unit >= 5, unit + 1, unit), wider)
        assert other.ari(np.array([3, -1, 8, 0])[labels]) == pytest.approx(expected, abs=1e-12)


def test_without_numba_the_index_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    random = stream(0, "partitions")
    task, unit, labels = partitions(random)
    weights = resampling_weights(np.zeros(12, dtype=np.int64), 20, random)
    resampling = Resampling(task, unit, weights)
    compiled = resampling.ari(labels)
    monkeypatch.setattr(numba_compile, "MISSING", "numba is not installed")
    assert resampling.ari(labels).tolist() == compiled.tolist()


def test_what_agrees_wholly_agrees_under_every_resampling() -> None:
    random = stream(0, "whole")
    task, unit, _ = partitions(random)
    weights = resampling_weights(np.zeros(12, dtype=np.int64), 50, random)
    assert Resampling(task, unit, weights).ari(5 - task) == pytest.approx(np.ones(51))
    alone = np.zeros((1, 12))
    alone[0, unit[0]] = 12  # a single unit is left, of one task
    assert Resampling(task, unit, alone).ari(task).tolist() == [1.0]


def test_random_clusters_score_nothing_although_instances_share_units() -> None:
    """A bootstrap of instances would score more: copies of an instance agree with each other."""
    random = stream(0, "unbiased")
    unit = np.repeat(np.arange(20), 8)  # five units a task, eight instances each
    task = unit // 5
    weights = resampling_weights(np.arange(20) // 5, 40, random)
    resampling = Resampling(task, unit, weights)
    clusters = random.integers(4, size=(100, 160))
    scores = np.array([resampling.ari(labels) for labels in clusters])
    as_is, resampled = scores[:, 0], scores[:, 1:]
    # the mean of 100 drawings of the labels, each of a standard deviation of about 0.01
    assert as_is.std() < 0.015
    assert as_is.mean() == pytest.approx(0, abs=0.004)
    assert resampled.mean() == pytest.approx(0, abs=0.004)
    copies = [np.repeat(np.arange(160), w[unit].astype(int)) for w in weights[1:]]
    pairs = zip(clusters, copies, strict=False)
    naive = [adjusted_rand_score(task[chosen], labels[chosen]) for labels, chosen in pairs]
    assert np.mean(naive) > 0.01, "the test would see it"


def test_mean_is_that_of_the_instances_counted_as_often_as_their_unit_is_drawn() -> None:
    random = stream(0, "mean")
    task, unit, _ = partitions(random)
    weights = resampling_weights(np.zeros(12, dtype=np.int64), 9, random)
    right = random.random(60) < 0.4
    expected = [np.average(right, weights=w[unit]) for w in weights]
    got = Resampling(task, unit, weights).mean(right)
    assert got == pytest.approx(expected)
    assert got[0] == pytest.approx(right.mean())
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    of_the_second = Resampling(np.array([0, 0]), np.array([1, 1]), weights)
    got = of_the_second.mean(np.array([True, False]))
    np.testing.assert_array_equal(got, [0.5, np.nan, 0.5], "no unit drawn, no mean")


# --- Intervals ---


def test_an_interval_is_as_wide_as_that_of_a_mean_of_normal_numbers() -> None:
    n, sets = 20, 200
    numbers = stream(0, "normal").normal(3.0, 2.0, size=(sets, n))
    ends = np.array([interval([np.array([x]) for x in row], "test") for row in numbers])
    width = ends[:, 1] - ends[:, 0]
    # The deviation of 20 normal numbers is off by 16 %, the mean of 200 such by 1 %.
    assert width.mean() == pytest.approx(2 * 1.96 * 2.0 / n**0.5, rel=0.05)
    # Relative to the deviation of each set, only the quantiles are inexact. Drawing 20 of the 20
    # runs instead of 19 would give a width of 0.975.
    own = 2 * 1.96 * numbers.std(axis=1, ddof=1) / n**0.5
    assert (width / own).mean() == pytest.approx(1, abs=0.01)
    assert ends.mean() == pytest.approx(3.0, abs=5 * 2 / (n * sets) ** 0.5)
    covered = (ends[:, 0] < 3.0) & (ends[:, 1] > 3.0)
    assert covered.mean() == pytest.approx(0.93, abs=0.05)  # Student's t would make 0.95


@pytest.mark.parametrize(
    "values", [([0.4], [0.9], [0.6]), ([0.4], [0.6, 0.6, 0.6], [0.9])], ids=["alone", "copies"]
)
def test_of_three_runs_it_reaches_from_the_worst_to_the_best(values: list[list[float]]) -> None:
    assert interval([np.array(v) for v in values], "three") == (0.4, 0.9)


def test_of_one_run_it_spans_its_copies_and_leaves_the_measured_one_out() -> None:
    copies = stream(0, "copies").normal(size=400)
    low, high = interval([np.insert(copies, 0, 1e9)], "one")
    expected = np.quantile(copies, [0.025, 0.975])
    # the 2.5 % quantile of 4000 draws out of 400 lies within one of the copies or two beside it
    assert [low, high] == pytest.approx(expected, abs=0.15)
    assert {low, high} <= set(copies)
    assert interval([np.array([1e9, 1.0, 2.0, 3.0])], "few") == (1.0, 3.0)
    assert interval([np.array([0.5])], "nothing to resample") == (0.5, 0.5)


def test_the_interval_of_few_runs_by_students_t_contains_their_mean_as_often_as_it_should() -> None:
    # Tables have 4.303 for two degrees of freedom, 12.706 for one.
    assert interval_of_runs([1.0, 2.0, 3.0]) == pytest.approx(
        (2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3
    )
    assert interval_of_runs([1.0, 3.0])[1] == pytest.approx(2 + 12.706, abs=1e-3)
    assert interval_of_runs([0.5, 0.5, 0.5]) == (0.5, 0.5)
    for unknown in ([1.0], [1.0, np.inf, 2.0], [np.nan, 1.0]):
        assert np.isnan(interval_of_runs(unknown)).all()
    tables = stream(0, "few runs").normal(3.0, 2.0, size=(4000, 3))
    above = np.mean([interval_of_runs(row.tolist())[0] > 3 for row in tables])
    assert above == pytest.approx(0.025, abs=0.008)
    alone = np.mean([interval([np.array([x]) for x in row], "t")[0] > 3 for row in tables[:400]])
    assert alone == pytest.approx(1 / 8, abs=0.05), "draws of three runs end at the worst of them"


def test_copies_widen_the_interval_of_runs() -> None:
    runs = [0.4, 0.9, 0.6]
    noise = 0.1 * stream(0, "copies").normal(size=(3, 401))
    low, high = interval([x + row for x, row in zip(runs, noise, strict=True)], "three")
    assert low < 0.4 < 0.9 < high


@pytest.mark.parametrize("many", [1, 2, 3])
def test_infinite_values_stay_infinite_and_are_no_nan(many: int) -> None:
    values = [np.array([np.inf if i < many else 1.0 + i]) for i in range(3)]
    lowest = np.inf if many == 3 else 1.0 + many  # of the finite ones
    assert interval(values, "infinite") == (lowest, np.inf)


def test_intervals_repeat() -> None:
    values = [stream(s, "values").normal(size=30) for s in range(4)]
    assert interval(values, "a", "b") == interval(values, "a", "b")
    assert interval(values, "a", "b") != interval(values, "a", "c"), "streams of their own"
