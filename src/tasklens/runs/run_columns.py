"""The columns of a run that its settings take out of the states, or compare the clusters with."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.data.names import listed
from tasklens.scoring import crossed, residuals
from tasklens.scoring.crossed import Texts
from tasklens.scoring.residuals import Regressors
from tasklens.scoring.score_cells import MeasureSettings

if TYPE_CHECKING:
    from tasklens.runs.run import Run

#: The name of the number of tokens, or symbols, before the measured part.
LENGTH = "length"

Columns = Mapping[str, Sequence[Any]]
Ints = npt.NDArray[np.int64]


def regressors_at(run: "Run", position: str) -> list[Regressors]:
    """Return what is taken out of the hidden states at a position; empty if nothing is."""
    if not run.settings.measure.residualize:
        return []
    known = [each.family for each in run.instances_by_split.values() if each.family is not None]
    family = np.concatenate(known) if known else None
    columns = _columns(run, position)
    return _regressors(columns, run.splits, _task(run), family, run.settings.measure)


def crossed_at(run: "Run", position: str) -> dict[str, Texts]:
    """Return the values, (N,), of the columns that the clusters are compared with, by name."""
    if not run.settings.measure.cross:
        return {}
    return _crossed(_columns(run, position), run.splits, _task(run), run.settings.measure)


def check_columns(
    columns: Columns,
    splits: Mapping[str, slice],
    task: Ints,
    family: Ints | None,
    measure: MeasureSettings,
) -> None:
    """Raise InputError if a column cannot be used, before a model reads its first prompt.

    The length is not known by then, unless there is a column of this name.
    """
    known = {
        key: tuple(name for name in getattr(measure, key) if name != LENGTH or name in columns)
        for key in ("residualize", "cross")
    }
    measure = measure.changed(**known)
    if measure.residualize:
        _regressors(columns, splits, task, family, measure)
    _crossed(columns, splits, task, measure)


def _columns(run: "Run", position: str) -> Columns:
    lengths = [known.length for known in run.instances_at(position).values()]
    return {LENGTH: np.concatenate(lengths).tolist(), **run.columns}


def _task(run: "Run") -> Ints:
    return np.concatenate([known.task for known in run.instances_by_split.values()])


def _regressors(
    columns: Columns,
    splits: Mapping[str, slice],
    task: Ints,
    family: Ints | None,
    measure: MeasureSettings,
) -> list[Regressors]:
    chosen = {name: _column(residuals.KEY, columns, name) for name in measure.residualize}
    return residuals.regressors_of(chosen, splits, task, family)


def _crossed(
    columns: Columns, splits: Mapping[str, slice], task: Ints, measure: MeasureSettings
) -> dict[str, Texts]:
    first = next(iter(splits.values()))
    chosen = {}
    for name in measure.cross:
        values = residuals.texts_of(crossed.KEY, name, _column(crossed.KEY, columns, name))
        crossed.check_crossed(name, values[first], task[first])
        chosen[name] = values
    return chosen


def _column(key: str, columns: Columns, name: str) -> Sequence[Any]:
    if name not in columns:
        names = list(dict.fromkeys([LENGTH, *columns]))
        raise InputError(f"{key}: no column {short(name)}; there are {listed(names)}")
    return columns[name]
