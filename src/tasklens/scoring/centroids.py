"""Fit the centroids of tasks, the span between them, and the spread within tasks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasklens.core.errors import InputError
from tasklens.data.edited_prompts import Floats, Ints

#: Directions with less than this share of the largest singular value are rounding.
NO_DIRECTION = 1e-6

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Centroids:
    """The centroids of T tasks, fitted on the states of F instances.

    Some of the tasks may be no targets: states are moved away from their centroids only.
    Everything is in float64, and turned into float32 as a change of a state.
    """

    tasks: Ints  # (T,), ascending
    mean: Doubles  # (T, D)
    basis: Doubles  # (D, r), orthonormal: the span of the differences of the targets' centroids
    residuals: Doubles  # (F, D), states minus the centroid of their task
    column: Ints  # (F,), the task of each residual as an index into `tasks`
    is_target: npt.NDArray[np.bool_]  # (T,)

    @property
    def middle(self) -> Doubles:
        """The mean of the targets' centroids, (D,)."""
        return self.mean[self.is_target].mean(axis=0)  # type: ignore[no-any-return]

    def columns(self, task: Ints) -> Ints:
        """Return the indices of tasks; any index for a task that has no centroid."""
        return np.minimum(np.searchsorted(self.tasks, task), len(self.tasks) - 1)

    def in_span(self, x: Doubles) -> Doubles:
        """Return the part of each vector, (..., D), that lies in the span of the centroids."""
        return (x @ self.basis) @ self.basis.T

    def distance(self, x: Floats, task: Ints) -> Doubles:
        """Return the Euclidean distance of states, (n, D), to the centroid of their task, (n,).

        It is NaN for a task that has no centroid.
        """
        column = self.columns(task)
        distance = np.linalg.norm(x - self.mean[column], axis=1)
        return np.where(self.tasks[column] == task, distance, np.nan)

    def distance_left_out(self) -> Doubles:
        """Return the distance of each fitted state to the mean of the others of its task, (F,).

        It is NaN for a state that is the only one of its task.
        """
        # Without one of n states, their mean moves away from it by 1 / (n - 1) of its distance.
        n = np.bincount(self.column)[self.column].astype(np.float64)
        factor = np.divide(n, n - 1, out=np.full(len(n), np.nan), where=n > 1)
        return factor * np.linalg.norm(self.residuals, axis=1)  # type: ignore[no-any-return]

    def span_share(self, x: Floats) -> Doubles:
        """Return which share of the squared length of states lies in the span, (n,), in 0 .. 1.

        The length is that of the state, (n, D), minus the mean of the centroids. It is NaN for a
        state that equals this mean.
        """
        from_middle = x - self.middle
        length = (from_middle**2).sum(axis=1)
        inside = ((from_middle @ self.basis) ** 2).sum(axis=1)
        share = np.divide(inside, length, out=np.full(len(x), np.nan), where=length > 0)
        return np.minimum(share, 1)  # type: ignore[no-any-return]

    def difference(self, task: Ints, target: Ints) -> Doubles:
        """Return the centroid of each target minus that of each task, (n, D)."""
        return self.mean[self.columns(target)] - self.mean[self.columns(task)]


def fit_centroids(states: Floats, task: Ints, targets: Ints | None = None) -> Centroids:
    """Fit the centroids of the tasks of some states, (F, D), with their tasks, (F,).

    ``targets`` are those that states are moved to; by default all. InputError unless two tasks are
    targets.
    """
    tasks, column = np.unique(task, return_inverse=True)
    is_target = np.ones(len(tasks), dtype=np.bool_) if targets is None else np.isin(tasks, targets)
    if is_target.sum() < 2:
        raise InputError(f"there is {is_target.sum()} task: edits between tasks need two at least")
    x = np.asarray(states, dtype=np.float64)
    mean = np.stack([x[column == t].mean(axis=0) for t in range(len(tasks))])
    goals = mean[is_target]
    basis = directions(goals - goals.mean(axis=0))
    return Centroids(tasks, mean, basis, x - mean[column], column, is_target)


def directions(x: Doubles, most: int | None = None) -> Doubles:
    """Return the leading principal directions of centred rows, (m, D), as columns, (D, r)."""
    _, size, rows = np.linalg.svd(x, full_matrices=False)
    n = int((size > NO_DIRECTION * max(size[0], np.finfo(np.float64).tiny)).sum())
    return rows[: n if most is None else min(n, most)].T.copy()
