"""Edits and controls: known answers, lengths, and subspaces."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import orth, subspace_angles

from tasklens.core.errors import InputError
from tasklens.interventions import controls, edits
from tasklens.interventions.edits import checked
from tasklens.scoring.centroids import Centroids, fit_centroids


def drawn(seed: int = 0, n_tasks: int = 5, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(n_tasks) * 3, 30)  # numbers of tasks with gaps
    mean = rng.standard_normal((n_tasks, width)) * 3
    states = mean[task // 3] + rng.standard_normal((len(task), width))
    return states.astype(np.float32), task


def fitted(seed: int = 0) -> Centroids:
    return fit_centroids(*drawn(seed))


def test_centroids_are_the_means_and_their_span_has_one_dimension_less() -> None:
    states, task = drawn()
    centroids = fit_centroids(states, task)
    assert centroids.tasks.tolist() == [0, 3, 6, 9, 12]
    for t, number in enumerate(centroids.tasks):
        assert_allclose(centroids.mean[t], states[task == number].mean(axis=0), rtol=1e-5)
    assert centroids.basis.shape == (12, 4)
    differences = orth((centroids.mean - centroids.mean[0])[1:].T)
    assert_allclose(subspace_angles(centroids.basis, differences), 0, atol=1e-6)
    assert_allclose(centroids.basis.T @ centroids.basis, np.eye(4), atol=1e-12)


def test_a_single_task_has_no_edit() -> None:
    with pytest.raises(InputError, match="there is 1 task"):
        fit_centroids(np.zeros((4, 2), dtype=np.float32), np.zeros(4, dtype=np.int64))


def moved(
    edit: edits.Edit, target: int, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    states, task = drawn(seed)
    return states, edit(states, task, np.full(len(task), target)), task


def test_shift_moves_each_centroid_onto_the_target() -> None:
    states, task = drawn()
    centroids = fit_centroids(states, task)
    edited = edits.shift(centroids)(states, task, np.full(len(task), 6))
    for number in centroids.tasks:
        assert_allclose(edited[task == number].mean(axis=0), centroids.mean[2], atol=1e-5)
    half = edits.shift(centroids, 0.5)(states, task, np.full(len(task), 6))
    assert_allclose(half - states, (edited - states) / 2, atol=1e-5)
    stays = edits.shift(centroids)(states, task, task)
    assert np.array_equal(stays, states)


def test_swap_changes_the_span_alone_and_to_the_target() -> None:
    centroids = fitted()
    states, edited, _ = moved(edits.swap(centroids), 9)
    basis = centroids.basis
    assert_allclose(edited @ basis, np.tile(centroids.mean[3] @ basis, (len(states), 1)), atol=1e-5)
    rest = np.eye(12) - basis @ basis.T
    assert_allclose(edited @ rest, states @ rest, atol=1e-5)


def test_the_parts_of_a_patch_add_up_to_it() -> None:
    centroids = fitted()
    donors = np.random.default_rng(5).standard_normal((150, 12)).astype(np.float32)
    states, whole, _ = moved(edits.patch(donors), 3)
    _, span, _ = moved(edits.patch_span(centroids, donors), 3)
    _, rest, _ = moved(edits.patch_rest(centroids, donors), 3)
    assert np.array_equal(whole, donors)
    assert_allclose((span - states) + (rest - states), whole - states, atol=1e-5)
    assert_allclose(span @ centroids.basis, donors @ centroids.basis, atol=1e-5)
    assert_allclose(rest @ centroids.basis, states @ centroids.basis, atol=1e-5)


def test_erase_leaves_no_difference_between_tasks_in_the_span() -> None:
    centroids = fitted()
    states, edited, _ = moved(edits.erase(centroids.basis, centroids.middle), 0)
    projected = edited @ centroids.basis
    assert_allclose(projected, np.tile(centroids.middle @ centroids.basis, (150, 1)), atol=1e-5)
    rest = np.eye(12) - centroids.basis @ centroids.basis.T
    assert_allclose(edited @ rest, states @ rest, atol=1e-5)


@pytest.mark.parametrize("draw", [controls.random_direction, controls.within_direction])
def test_directions_are_as_long_as_shifts_and_the_same_for_a_task(draw: object) -> None:
    centroids = fitted()
    states, task = drawn(1)
    shifts = np.linalg.norm(centroids.mean[:, None] - centroids.mean, axis=2)
    seen = []
    for number in range(4):
        rng = np.random.default_rng(number)
        edit = draw(centroids, task, number, rng)  # type: ignore[operator]
        change = (edit(states, task, task) - states).astype(np.float64)
        for t, each in enumerate(centroids.tasks):
            of_task = change[task == each]
            assert np.ptp(of_task, axis=0).max() < 1e-4
            length = np.linalg.norm(of_task[0])
            other = (t + 1 + number) % 5
            assert length == pytest.approx(shifts[t, other], rel=1e-4)
        seen.append(change[0])
    assert np.linalg.matrix_rank(np.stack(seen)) == 4


def test_directions_within_a_task_are_differences_of_its_states() -> None:
    centroids = fitted()
    states, task = drawn(1)
    rng = np.random.default_rng(0)
    change = controls.within_direction(centroids, task, 0, rng)(states, task, task) - states
    own = centroids.residuals[centroids.column == 0]
    pairs = (own[:, None] - own).reshape(-1, 12)
    pairs = pairs[np.linalg.norm(pairs, axis=1) > 0]
    cosine = pairs @ change[0] / np.linalg.norm(pairs, axis=1) / np.linalg.norm(change[0])
    assert cosine.max() == pytest.approx(1, abs=1e-4)


def test_shuffled_centroids_move_as_far_but_elsewhere() -> None:
    states, task = drawn()
    centroids = fit_centroids(states, task)
    target = np.full(len(task), 3)
    real = edits.shift(centroids)(states, task, target) - states
    rng = np.random.default_rng(0)
    shuffled = controls.shuffled_shift(centroids, states, task, rng)(states, task, target) - states
    inside = task != 3
    lengths = np.linalg.norm(real, axis=1), np.linalg.norm(shuffled, axis=1)
    assert_allclose(lengths[1][inside], lengths[0][inside], rtol=1e-3)
    assert_allclose(shuffled[~inside], 0, atol=1e-6)
    cosine = (real * shuffled).sum(axis=1)[inside] / (lengths[0] * lengths[1])[inside]
    assert np.abs(cosine).mean() < 0.8


def test_erased_controls_have_the_dimension_of_the_span() -> None:
    centroids = fitted()
    states, task = drawn(1)
    random = controls.erase_random(centroids, np.random.default_rng(0))
    within = controls.erase_within(centroids)
    for edit in (random, within):
        change = edit(states, task, task).astype(np.float64) - states
        assert np.linalg.matrix_rank(change, tol=1e-3) == centroids.basis.shape[1]
    variance = [
        np.var(edit(states, task, task) - states, axis=0).sum() for edit in (within, random)
    ]
    assert variance[0] > 0


def test_unembedding_moves_along_the_difference_of_the_rows() -> None:
    states, task = drawn()
    centroids = fit_centroids(states, task)
    rng = np.random.default_rng(2)
    rows, own = rng.standard_normal((2, len(task), 12)).astype(np.float32)
    target = np.full(len(task), 6)
    change = controls.unembedding_shift(centroids, rows, own)(states, task, target) - states
    length = np.linalg.norm(centroids.difference(task, target), axis=1)
    assert_allclose(np.linalg.norm(change, axis=1), length, rtol=1e-3, atol=1e-5)
    inside = task != 6
    unit = (rows - own) / np.linalg.norm(rows - own, axis=1, keepdims=True)
    assert_allclose(change[inside] / length[inside, None], unit[inside], atol=1e-4)


@pytest.mark.parametrize(
    "wrong", [lambda x, a, b: x[:-1], lambda x, a, b: x.astype(int), lambda x, a, b: None]
)
def test_an_edit_of_a_user_has_to_return_states(wrong: edits.Edit) -> None:
    states, task = drawn()
    with pytest.raises(InputError, match=r"the edit mine returns .*: should be the edited states"):
        checked("mine", wrong)(states, task, task)


def test_an_edit_of_a_user_cannot_change_the_states() -> None:
    states, task = drawn()
    before = states.copy()

    def inplace(x: np.ndarray, task: np.ndarray, target: np.ndarray) -> np.ndarray:
        x += 1
        return x

    edited = checked("mine", inplace)(states, task, task)
    assert np.array_equal(states, before)
    assert np.array_equal(edited, before + 1)
