"""Test the pairs of counterfactual answers, and the folds that keep centroids from their states."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from tasklens.core.errors import InputError
from tasklens.data.counterfactuals import pair_notes, pairs_of, prompts_with_pairs, two_folds


def test_a_pair_has_two_known_answers_with_different_first_tokens() -> None:
    tokens = np.array([[5, 6], [5, 7], [8, -1]])
    answers = np.array([[0, 1, 2], [2, -1, 0], [-1, 2, 0], [2, 2, 2]])
    own = np.array([0, 0, 0, -1])
    assert pairs_of(answers, own, tokens).tolist() == [
        [False, False, True],  # 5 6 and 5 7 begin with the same token
        [False, False, True],
        [False, False, False],  # the own answer is not known
        [True, True, True],  # without an own answer, each known one makes a pair
    ]
    one = np.zeros(3, dtype=np.int64)
    assert pair_notes("val", answers[:3], own[:3], tokens, one) == (
        "val: 1 of 6 answers under another task are unknown",
        "val: 3 of 5 answers under another task are left out, as they begin with the same token as "
        "the own answer",
    )
    families = np.array([0, 1, 0])  # no answer under the task of another family is missed
    assert pair_notes("val", answers[[0]], own[[0]], tokens, families) == ()


def test_prompts_with_a_pair_are_usable() -> None:
    pairs = np.zeros((9, 2), dtype=np.bool_)
    pairs[[1, 4, 7], 1] = True
    usable, notes = prompts_with_pairs("val", pairs)
    assert usable.tolist() == [1, 4, 7]
    assert notes == (
        "val: 6 of 9 prompts are left out, as no other answer than their own is known",
    )
    with pytest.raises(InputError, match=r"^split val: no prompt has a right answer that differs"):
        prompts_with_pairs("val", pairs & False)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1), st.integers(0, 99))
@examples(100)
def test_folds_keep_groups_together(rows: list[tuple[int, int]], seed: int) -> None:
    task, group = np.array(rows).T
    fold = two_folds(task, group, np.random.default_rng(seed))
    assert set(fold) <= {0, 1}
    for each in np.unique(group):
        assert len(set(fold[group == each])) == 1


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99), st.booleans())
@examples(50)
def test_each_fold_has_half_of_the_groups_of_each_task(
    n_tasks: int, n_groups: int, seed: int, shared: bool
) -> None:
    task, group = (each.ravel() for each in np.mgrid[:n_tasks, :n_groups])
    group = group if shared else group + n_groups * task
    fold = two_folds(task, group, np.random.default_rng(seed))
    for number in range(n_tasks):
        assert abs(np.bincount(fold[task == number], minlength=2) - n_groups / 2).max() <= 0.5


def test_folds_are_drawn_at_random() -> None:
    task, group = np.repeat([0, 1], 10), np.tile(np.arange(10), 2)
    drawn = {tuple(two_folds(task, group, np.random.default_rng(seed))) for seed in range(9)}
    assert len(drawn) == 9
