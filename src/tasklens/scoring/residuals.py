"""Take columns out of hidden states: what a linear regression leaves of them."""

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
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: The setting, for messages.
KEY = "measure.residualize"
#: A state below this share of the largest one is no more than the rounding of float32.
ROUNDING = 4 * float(np.finfo(np.float32).eps)


class Regressors(NamedTuple):
    """Columns to take out of the hidden states of one family, n instances of all N."""

    rows: Ints
    """The instances of the family, (n,)."""
    fitted: Bools
    """On which of them the regression is fitted, (n,)."""
    basis: Doubles
    """The regressors as R columns, which are centred and orthonormal where it is fitted, (n, R)."""


def residuals(x: Floats, regressors: Sequence[Regressors]) -> Floats:
    """Return hidden states, (N, D), less their prediction by ordinary least squares.

    Each family has a regression of its own, with an intercept. It is that of scikit-learn's
    `LinearRegression`. What is left is 0 if it is no more than rounding.
    """
    left = np.empty(x.shape, dtype=np.float32)
    for rows, fitted, basis in regressors:
        y = x[rows].astype(np.float64)
        rounding = ROUNDING * np.abs(y[fitted]).max(axis=0)  # (D,)
        y -= y[fitted].mean(axis=0)
        with one_thread():
            y -= basis @ (basis[fitted].T @ y[fitted])
        y[np.abs(y) <= rounding] = 0
        left[rows] = y
    return left


def regressors_of(
    columns: Mapping[str, Sequence[Any]],
    splits: Mapping[str, slice],
    task: Ints,
    family: Ints | None = None,
) -> list[Regressors]:
    """Return the regressors of columns of N instances, fitted on the first split, by family.

    A column of numbers, which may be written as texts, enters as it is. Any other column has a
    regressor for each distinct value.

    Parameters
    ----------
    columns : mapping of names to sequences of N values
    splits : mapping of names to slices
        The rows of each split.
    task : int64 (N,)
    family : int64 (N,), optional

    Raises
    ------
    InputError
        If a value is missing, is no number, text or boolean, or is not in the first split. If the
        columns explain all states of any kind, or the task.
    """
    split = np.repeat([*splits], [rows.stop - rows.start for rows in splits.values()])  # (N,)
    texts = {name: texts_of(KEY, name, values) for name, values in columns.items()}
    numeric = {name: _are_numbers(values, texts[name]) for name, values in columns.items()}
    families = np.zeros_like(task) if family is None else family
    regressors = []
    for number in np.unique(families):
        rows = np.flatnonzero(families == number)
        design = [
            each[rows].astype(np.float64)[:, None]
            if numeric[name]
            else _one_hot(name, each[rows], split[rows])
            for name, each in texts.items()
        ]
        fitted = split[rows] == split[0]
        basis = _basis(np.hstack(design), fitted, task[rows], f"{KEY} = {short([*columns])}")
        regressors.append(Regressors(rows, fitted, basis))
    return regressors


def _basis(design: Doubles, fitted: Bools, task: Ints, names: str) -> Doubles:
    """Return orthonormal columns that span those of a design, (n, P): (n, R)."""
    design -= design[fitted].mean(axis=0)
    scale = np.sqrt(np.mean(design[fitted] ** 2, axis=0))  # (P,)
    design = design[:, scale > 0] / scale[scale > 0]
    with one_thread():
        _, sizes, directions = np.linalg.svd(design[fitted], full_matrices=False)
        independent = sizes > max(design.shape) * np.finfo(np.float64).eps * sizes.max(initial=0)
        basis: Doubles = design @ (directions[independent] / sizes[independent, None]).T
        if basis.shape[1] >= np.count_nonzero(fitted) - 1:
            raise InputError(
                f"{names}: has as many values as there are prompts, which would take out "
                "everything: name columns whose values several prompts share"
            )
        is_task = np.asarray(task[fitted, None] == np.unique(task[fitted]), dtype=np.float64)
        is_task -= is_task.mean(axis=0)  # (n, K)
        rest = is_task - basis[fitted] @ (basis[fitted].T @ is_task)
    if np.abs(rest).max() < 1e-9:
        raise InputError(
            f"{names}: the label follows from it, so that nothing of the label would be left: name "
            "columns whose values occur under several labels"
        )
    return basis


def _one_hot(name: str, texts: npt.NDArray[np.str_], split: npt.NDArray[np.str_]) -> Doubles:
    """Return whether each text is each of those in the first split, (n, P)."""
    known = np.unique(texts[split == split[0]])
    new = ~np.isin(texts, known)
    if new.any():
        i = int(np.argmax(new))
        raise InputError(
            f"{KEY}: {short(name)} = {short(str(texts[i]))} of the split {split[i]} is not in the "
            f"split {split[0]}, on which the regression is fitted: leave out the column or "
            "the split"
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


def _are_numbers(values: Sequence[Any], texts: npt.NDArray[np.str_]) -> bool:
    """Return whether all values are finite numbers, which may be written as texts."""
    if any(isinstance(value, bool) for value in values):
        return False
    try:
        return bool(np.isfinite(texts.astype(np.float64)).all())
    except ValueError:
        return False
