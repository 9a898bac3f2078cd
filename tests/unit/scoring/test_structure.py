"""Scores that others use, on planted states with known answers and against other code."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import ortho_group
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from tasklens.clustering.cluster import Cell
from tasklens.core.seeds import stream
from tasklens.scoring.decodability import PER_TASK, task_decodability
from tasklens.scoring.spectrum import EPSILON, RANKS, alpha, rankme, spectra
from tasklens.scoring.structure import structure
from tasklens.scoring.variance import centred, nc1

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

NEW = ("nc1", "rankme", "alpha", "task_decodability")


def scores(x: NDArray[Any], task: Ints) -> dict[str, float]:
    return structure(Cell(0, 0, "s", "block1", "raw", 2, x.astype(np.float32)), {"task": task})


def blobs(n: int = 200, d: int = 30, n_tasks: int = 5) -> tuple[NDArray[np.float32], Ints]:
    """States of tasks that overlap, on scales that differ, with a large common mean."""
    random = stream(0, "blobs", n, d)
    task = random.integers(n_tasks, size=n)
    x = (random.normal(size=(n_tasks, d))[task] + random.normal(size=(n, d))) * np.logspace(0, 1, d)
    return (x + 20).astype(np.float32), task


# --- NC1 ---


@pytest.mark.parametrize(("n_tasks", "spread"), [(2, 0.5), (4, 1.0), (7, 3.0)])
def test_nc1_of_isotropic_classes_around_a_simplex(n_tasks: int, spread: float) -> None:
    # Each class has the covariance spread**2 * identity, exactly; the means are 2 (e_c - 1 / C).
    d = 9
    cross = spread * np.sqrt(d) * np.concatenate([np.eye(d), -np.eye(d)])
    centres = 2 * (np.eye(n_tasks, d) - np.ones((n_tasks, 1)) * np.eye(n_tasks, d).mean(axis=0))
    x = np.concatenate([centre + cross for centre in centres])
    task = np.repeat(np.arange(n_tasks), len(cross))
    assert nc1(centred(x + 5), task) == pytest.approx(spread**2 * (n_tasks - 1) / 4)


def test_nc1_is_the_trace_with_the_pseudo_inverse() -> None:
    x, task = blobs()
    means = np.stack([x[task == t].mean(axis=0, dtype=np.float64) for t in range(5)])
    within, around = x - means[task], means - means.mean(axis=0)
    inverse = np.linalg.pinv(around.T @ around / 5, rcond=1e-10, hermitian=True)
    expected = np.trace(within.T @ within / len(x) @ inverse) / 5
    assert nc1(centred(x), task) == pytest.approx(expected, rel=1e-6)


def test_nc1_of_a_collapse_of_equal_means_and_of_equal_states() -> None:
    task = np.arange(40) % 4
    assert nc1(centred(np.eye(4)[task]), task) == pytest.approx(0, abs=1e-20)
    equal_means = np.tile(stream(0, "equal means").normal(size=(10, 3)).round(2), (4, 1))
    assert nc1(centred(equal_means), np.repeat(np.arange(4), 10)) == np.inf
    assert np.isnan(nc1(centred(np.full((40, 3), 0.1, np.float32)), task))


# --- the spectrum ---


def planted(singular: Doubles, n: int, d: int, *, around_0: bool = True) -> Doubles:
    """Return states, (n, d), with these singular values; their mean is 0 if ``around_0``."""
    random = stream(0, "planted spectrum", n, d)
    left = random.normal(size=(n, len(singular)))
    left = np.linalg.qr(left - left.mean(axis=0) * around_0)[0]
    right = np.linalg.qr(random.normal(size=(d, len(singular))))[0]
    planted: Doubles = (left * singular) @ right.T
    return planted


@pytest.mark.parametrize(("n", "d"), [(60, 20), (20, 60), (20, 20)])
def test_rankme_of_r_equal_singular_values_is_r(n: int, d: int) -> None:
    for r in (1, 3, 20):
        singular, _ = spectra(planted(np.full(r, 2.5), n, d, around_0=False))
        # The published epsilon adds a little for each singular value that is 0.
        share = np.append(np.full(r, 1 / r), np.zeros(20 - r)) + EPSILON
        assert rankme(singular) == pytest.approx(np.exp(-share @ np.log(share)), rel=1e-6)
        assert rankme(singular) == pytest.approx(r, rel=1e-4)


@pytest.mark.parametrize(("n", "d"), [(200, 30), (40, 90), (30, 30), (1, 5), (5, 1), (2, 2)])
def test_spectra_are_those_of_the_singular_value_decomposition(n: int, d: int) -> None:
    x, _ = blobs(n, d)
    singular, eigenvalues = spectra(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(singular, np.linalg.svd(wide, compute_uv=False), rtol=1e-9)
    expected = np.linalg.svd(wide - wide.mean(axis=0), compute_uv=False) ** 2 / n
    np.testing.assert_allclose(eigenvalues, expected, rtol=1e-9, atol=1e-10)
    if n <= d:
        assert eigenvalues[-1] == 0, "the rank of states less their mean is at most N - 1"


@pytest.mark.parametrize(("n", "d"), [(300, 150), (140, 200)])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.5])
def test_alpha_of_a_power_law_is_its_exponent(n: int, d: int, exponent: float) -> None:
    variances = np.arange(1, 131.0) ** -exponent
    _, eigenvalues = spectra(planted(np.sqrt(variances * n), n, d) + 3)
    assert alpha(eigenvalues) == pytest.approx(exponent, rel=1e-6)


def test_alpha_is_a_weighted_regression_over_its_ranks() -> None:
    eigenvalues = np.sort(stream(0, "no power law").uniform(0.1, 9, size=300))[::-1]
    rank = np.arange(RANKS[0], RANKS[1] + 1)
    # The weights of `polyfit` are squared.
    slope, _ = np.polyfit(np.log(rank), np.log(eigenvalues[rank - 1]), 1, w=np.sqrt(1 / rank))
    assert alpha(eigenvalues) == pytest.approx(-slope)
    beyond = eigenvalues.copy()
    beyond[: RANKS[0] - 1] *= 5
    beyond[RANKS[1] :] /= 7
    assert alpha(beyond) == alpha(eigenvalues), "other ranks do not count"


def test_alpha_needs_twenty_eigenvalues() -> None:
    x = stream(0, "few").normal(size=(100, 20))
    assert np.isfinite(alpha(spectra(x)[1]))
    assert np.isnan(alpha(spectra(x[:, :19])[1]))
    twice = np.concatenate([x[:, :19], x[:, :19]], axis=1)
    assert np.isnan(alpha(spectra(twice)[1])), "what is zero but for rounding does not count"


# --- task decodability ---


@pytest.mark.parametrize("d", [3, 400])
def test_decodability_is_that_of_neighbours_that_leave_one_out(d: int) -> None:
    x, task = blobs(300, 3)
    x = np.pad(x, ((0, 0), (0, d - 3)))
    near = NearestNeighbors(n_neighbors=10).fit(x).kneighbors(return_distance=False)
    winner = stats.mode(task[near], axis=1).mode
    expected = np.mean(winner == task)
    assert 0.25 < expected < 1
    assert task_decodability(x, task) == expected
    assert scores(x, task)["task_decodability"] == expected


def test_decodability_of_tasks_far_apart_and_of_labels_by_chance() -> None:
    x, task = blobs()
    assert task_decodability(x + 1e4 * task[:, None].astype(np.float32), task) == 1
    by_chance = stream(0, "chance").permutation(task)
    assert task_decodability(x, by_chance) == pytest.approx(0.2, abs=0.1)


def test_an_instance_is_no_neighbour_of_its_own_even_if_rows_are_equal() -> None:
    # Each row is there once per task. Of the three others, two are of the other task.
    x = np.repeat(np.arange(2.0), 2)[:, None].astype(np.float32)
    assert task_decodability(x, np.array([0, 1, 0, 1])) == 0
    assert task_decodability(np.zeros((50, 3), np.float32), np.arange(50) % 2) <= 0.5


def test_a_hundred_instances_per_task_are_drawn() -> None:
    random = stream(0, "many")
    task = random.permutation(np.repeat(np.arange(3), (250, 101, 40)))
    x = (random.normal(size=(3, 4))[task] + random.normal(size=(391, 4))).astype(np.float32)
    # Of 100, 100 and 40 instances, only such shares are possible.
    values = {split: task_decodability(x, task, 1, split) for split in "abcdef"}
    assert len(set(values.values())) > 1
    for value in values.values():
        assert value * 240 == pytest.approx(round(value * 240))
    assert PER_TASK == 100
    assert task_decodability(x, task, 1, "a") == values["a"]
    few = np.concatenate([np.flatnonzero(task == t)[:PER_TASK] for t in range(3)])
    assert task_decodability(x[few], task[few]) == task_decodability(x[few], task[few], 5, "b")


# --- all of them ---


def test_scores_know_neither_axes_nor_scale_nor_the_names_of_tasks() -> None:
    x, task = blobs()
    turned = 7 * x @ ortho_group.rvs(30, random_state=0)
    other_names = np.array([12, 3, 40, 0, 7])[task]
    expected = scores(x, task)
    for got in (scores(turned, task), scores(x, other_names)):
        assert {name: got[name] for name in NEW[:3]} == pytest.approx(
            {name: expected[name] for name in NEW[:3]}, rel=1e-4
        )
        # Rounding, or another first task at a tie, may change a neighbour or a vote.
        assert got["task_decodability"] == pytest.approx(expected["task_decodability"], abs=0.03)
    moved = scores(x + 100, task)
    assert moved["nc1"] == pytest.approx(expected["nc1"], rel=1e-3)
    assert moved["alpha"] == pytest.approx(expected["alpha"], rel=1e-3)
    assert moved["rankme"] < expected["rankme"] / 2, "RankMe is not centred"


def test_more_columns_than_rows_give_the_same_scores() -> None:
    x, task = blobs(60, 40)
    wide = scores(np.pad(x, ((0, 0), (0, 100))), task)
    assert wide == pytest.approx(scores(x, task), rel=1e-3)


@pytest.mark.parametrize("shape", [(300, 500), (500, 300)])
def test_scores_do_not_depend_on_the_number_of_threads(shape: tuple[int, int]) -> None:
    x, task = blobs(*shape)
    results = []
    for threads in (1, 4):
        with threadpool_limits(limits=threads):
            results.append(scores(x, task))
    assert results[0] == results[1]


ONE_MEMBER = np.append(np.zeros(30, np.int64), 1)
DEGENERATE: dict[str, tuple[NDArray[Any], Ints]] = {
    "a class of one": (blobs(31, 4)[0], ONE_MEMBER),
    "constant columns": (np.pad(blobs(50, 3)[0], ((0, 0), (0, 4))) + 1, np.arange(50) % 3),
    "fewer rows than columns": (blobs(6, 30)[0], np.arange(6) % 2),
    "equal rows": (np.repeat(blobs(5, 30)[0], 10, axis=0), np.arange(50) % 5),
    "all rows equal": (np.full((12, 5), 0.1), np.arange(12) % 3),
    "all zero": (np.zeros((12, 5)), np.arange(12) % 3),
    "two rows": (blobs(2, 3)[0], np.arange(2)),
    "one class": (blobs(20, 30)[0], np.zeros(20, np.int64)),
    "large numbers": (blobs(50, 30)[0] * 1e30, np.arange(50) % 5),
    "small numbers": (blobs(50, 30)[0] * 1e-30, np.arange(50) % 5),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_states_give_no_warning_and_no_nan(name: str) -> None:
    x, task = DEGENERATE[name]
    got = scores(x, task)
    assert not any(np.isnan(value) for value in got.values())
    assert 0 <= got["task_decodability"] <= 1
    assert ("nc1" in got) == (name not in ("all rows equal", "all zero"))
    assert ("rankme" in got) == (name != "all zero")
    assert got.get("rankme", 1) >= 1 - 1e-4
    assert ("alpha" in got) == (name in ("large numbers", "small numbers"))
