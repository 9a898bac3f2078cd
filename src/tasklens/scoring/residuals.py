"""Take columns out of hidden states: what a linear regression leaves of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import one_thread
from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.data.cell_values import is_missing

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

#: The setting, for messages.
KEY = "measure.residualize"
#: A state below this share of the largest one is no more than the rounding of float32.
ROUNDING = 4 * float(np.finfo(np.float32).eps)


class Regressors(NamedTuple):
    """Columns to take out of the hidden states of N instances, fitted on some of them."""

    basis: Doubles
    """The regressors as R columns, which are centred and orthonormal on the fitted rows, (N, R)."""
    fitted: slice
    """The rows on which the regression is fitted."""


def residuals(x: Floats, regressors: Regressors) -> Floats:
    """Return hidden states, (N, D), less their prediction by ordinary least squares.

    The regression, with an intercept, is fitted on some rows and applied to all. It is that of
    scikit-learn's `LinearRegression`. What is left is 0 if it is no more than rounding.
    """
    basis, fitted = regressors
    offset = x[fitted].mean(axis=0, dtype=np.float64)  # (D,)
    y = x - offset
    with one_thread():
        y -= basis @ (basis[fitted].T @ y[fitted])
    y[np.abs(y) <= ROUNDING * np.abs(x[fitted]).max(axis=0)] = 0
    left: Floats = y.astype(np.float32)
    return left


def regressors_of(
    columns: Mapping[str, Sequence[Any]],
    splits: Mapping[str, slice],
    task: npt.NDArray[np.int64],
) -> Regressors:
    """Return the regressors of columns of N instances, fitted on the first split.

    A column of numbers, which may be written as texts, enters as it is. Any other column has a
    regressor for each distinct value.

    Parameters
    ----------
    columns : mapping of names to sequences of N values
    splits : mapping of names to slices
        The rows of each split.
    task : int64 (N,)

    Raises
    ------
    InputError
        If a value is missing, is no number, text or boolean, or is not in the first split. If the
        columns explain all states of any kind, or the task.
    """
    design = np.hstack([_design(*column, splits) for column in columns.items()])  # (N, P)
    fitted = next(iter(splits.values()))
    design -= design[fitted].mean(axis=0)
    scale = np.sqrt(np.mean(design[fitted] ** 2, axis=0))  # (P,)
    design = design[:, scale > 0] / scale[scale > 0]
    n = fitted.stop - fitted.start
    names = f"{KEY} = {short([*columns])}"
    with one_thread():
        _, sizes, directions = np.linalg.svd(design[fitted], full_matrices=False)
        independent = sizes > max(design.shape) * np.finfo(np.float64).eps * sizes.max(initial=0)
        basis = design @ (directions[independent] / sizes[independent, None]).T
        if basis.shape[1] >= n - 1:
            raise InputError(
                f"{names}: has as many values as there are prompts, which would take out "
                "everything: name columns whose values several prompts share"
            )
        is_task = (task[fitted, None] == np.unique(task[fitted])).astype(np.float64)  # (n, K)
        is_task -= is_task.mean(axis=0)
        rest = is_task - basis[fitted] @ (basis[fitted].T @ is_task)
    if np.abs(rest).max() < 1e-9:
        raise InputError(
            f"{names}: the label follows from it, so that nothing of the label would be left: name "
            "columns whose values occur under several labels"
        )
    return Regressors(basis, fitted)


def _design(name: str, values: Sequence[Any], splits: Mapping[str, slice]) -> Doubles:
    """Return the regressors of one column, (N, P)."""
    texts = texts_of(KEY, name, values)
    numbers = [_number(text) for text in texts]
    if not any(isinstance(value, bool) for value in values) and None not in numbers:
        return np.array(numbers, dtype=np.float64)[:, None]
    first, *others = splits
    known = np.unique(texts[splits[first]])
    for split in others:
        new = np.setdiff1d(texts[splits[split]], known)
        if len(new):
            raise InputError(
                f"{KEY}: {short(name)} = {short(str(new[0]))} of the split {split} is not in the "
                f"split {first}, on which the regression is fitted: leave out the column or the "
                "split"
            )
    return np.asarray(texts[:, None] == known, dtype=np.float64)


def texts_of(key: str, name: str, values: Sequence[Any]) -> npt.NDArray[np.str_]:
    """Return the values of a column as texts, (N,).

    InputError, which begins with the key, if one is missing, or is no number, text or boolean.
    """
    for value in values:
        if is_missing(value) or not isinstance(value, str | int | float):
            what = "no value" if is_missing(value) else f"the value {short(value)}"
            raise InputError(
                f"{key}: {short(name)} has {what} in a prompt: should be a text, a number or a "
                "boolean in each"
            )
    return np.array([str(value) for value in values], dtype=np.str_)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
