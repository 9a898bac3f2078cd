"""Columns are taken out of hidden states by a regression."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import OneHotEncoder

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.scoring.classifiers import fit_linear
from tasklens.scoring.residuals import regressors_of, residuals

N, KEPT = 200, slice(0, 140)
SPLITS = {"kept": KEPT, "held_out_input": slice(140, N)}
TASK = np.arange(N) % 4
RANDOM = stream(0, "columns")
FORM = RANDOM.choice(["arrow", "colon", "words"], N).tolist()
SHOTS = RANDOM.integers(1, 6, N).tolist()
LENGTH = (10 * np.array(SHOTS) + RANDOM.integers(0, 3, N)).tolist()


def states(d: int = 7) -> NDArray[np.float32]:
    """Return states that depend on the task, the form and the length, and vary besides."""
    random = stream(0, "states")
    of_task, of_form = random.normal(size=(4, d)), random.normal(size=(3, d))
    form = np.unique(FORM, return_inverse=True)[1]
    x = of_task[TASK] + of_form[form] + np.outer(LENGTH, random.normal(size=d)) + 5
    return (x + 0.3 * random.normal(size=(N, d))).astype(np.float32)


def left(x: NDArray[np.float32], **columns: Sequence[Any]) -> NDArray[np.float32]:
    return residuals(x, regressors_of(columns, SPLITS, TASK))


def test_what_is_left_is_that_of_scikit_learns_regression() -> None:
    x = states()
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(np.array(FORM)[:, None])
    design = np.hstack([np.array([LENGTH, SHOTS]).T, one_hot])
    model = LinearRegression().fit(design[KEPT], x[KEPT].astype(np.float64))
    got = left(x, length=LENGTH, shots=SHOTS, form=FORM)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, x - model.predict(design), atol=2e-4)
    # Neither the scale of a number matters, nor a column twice, nor the order of columns.
    scaled = [2.0**30 + n / 1024 for n in LENGTH]
    again = left(x, form=FORM, one=scaled, other=LENGTH, shots=[str(n) for n in SHOTS])
    np.testing.assert_allclose(again, got, atol=2e-4)


def test_nothing_of_the_columns_is_left_on_the_kept_split() -> None:
    got = left(states(40), length=LENGTH, form=FORM)[KEPT]
    assert np.abs(np.corrcoef(got.T, LENGTH[KEPT])[-1, :-1]).max() < 1e-4
    form = np.array(FORM)[KEPT]
    assert np.mean(fit_linear(states(40)[KEPT], form)(states(40)[KEPT]) == form) > 0.9
    commonest = max(np.mean(form == value) for value in np.unique(form))
    assert np.mean(fit_linear(got, form)(got) == form) <= commonest
    assert np.mean(fit_linear(got, TASK[KEPT])(got) == TASK[KEPT]) > 0.9, "the task is left"


def test_a_linear_function_of_the_columns_becomes_zero() -> None:
    form = np.unique(FORM, return_inverse=True)[1]
    x = np.outer(LENGTH, [1e4, -3.0, 0.7]) + np.array([5e4, 1.0, -2.0]) * form[:, None] ** 2 + 7
    assert not left(x.astype(np.float32), length=LENGTH, form=FORM).any()
    assert left(x.astype(np.float32), form=FORM).any()


def test_a_column_of_one_value_takes_out_the_mean_of_the_kept_split_alone() -> None:
    x = states()
    expected = x - x[KEPT].mean(axis=0)
    np.testing.assert_allclose(left(x, shots=[5] * N), expected, atol=1e-4)
    np.testing.assert_allclose(left(x, is_chat=[True] * N), expected, atol=1e-4)


def test_the_states_given_are_not_changed() -> None:
    x = states()
    before = x.copy()
    left(x, form=FORM)
    assert (x == before).all()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"form": [*FORM[:-1], "chat"]},
            "'form' = 'chat' of the split held_out_input is not in the split kept, on which the "
            "regression is fitted: leave out the column or the split",
        ),
        (
            {"id": [f"p{i % 140}" for i in range(N)]},
            "measure.residualize = ['id']: has as many values as there are prompts, which would "
            "take out everything: name columns whose values several prompts share",
        ),
        (
            {"label": [f"task {t}" for t in TASK]},
            "measure.residualize = ['label']: the label follows from it, so that nothing of the "
            "label would be left: name columns whose values occur under several labels",
        ),
        (
            {"form": FORM, "phrasing": [f"{t} {i % 8}" for i, t in enumerate(TASK)]},
            "measure.residualize = ['form', 'phrasing']: the label follows from it",
        ),
        ({"form": [None, *FORM[1:]]}, "'form' has no value in a prompt: should be a text"),
        ({"query": [[0, 4]] * N}, "'query' has the value [0, 4] in a prompt: should be a text"),
    ],
)
def test_columns_that_cannot_be_taken_out_are_refused(
    columns: dict[str, list[Any]], reason: str
) -> None:
    with pytest.raises(InputError) as refused:
        regressors_of(columns, SPLITS, TASK)
    assert reason in str(refused.value)
    assert str(refused.value).startswith("measure.residualize")


def test_each_family_has_a_regression_of_its_own() -> None:
    family = np.arange(N) // 2 % 2
    x = states() + np.outer(family * np.array(LENGTH), np.arange(7)).astype(np.float32)
    got = residuals(x, regressors_of({"length": LENGTH, "form": FORM}, SPLITS, TASK, family))
    for number in (0, 1):
        rows = np.flatnonzero(family == number)
        n_kept = int(np.count_nonzero(rows < 140))
        part = {"kept": slice(0, n_kept), "other": slice(n_kept, len(rows))}
        columns = {"length": np.array(LENGTH)[rows].tolist(), "form": np.array(FORM)[rows].tolist()}
        alone = residuals(x[rows], regressors_of(columns, part, TASK[rows]))
        assert (got[rows] == alone).all()
    # This value is in the first split, but of another family.
    first, last = int(np.flatnonzero(family == 0)[0]), int(np.flatnonzero(family == 1)[-1])
    form = ["chat" if i in (first, last) else each for i, each in enumerate(FORM)]
    with pytest.raises(InputError, match="'form' = 'chat' of the split held_out_input is not in"):
        regressors_of({"form": form}, SPLITS, TASK, family)
