"""Move states from one task to another: the edits that are compared with controls.

An edit is a function of states (n, D), their tasks (n,) and the target tasks (n,), which returns
the edited states (n, D). Here each is built from what it needs to know.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.edited_prompts import Floats, Ints
from tasklens.scoring.centroids import Centroids, Doubles

Edit: TypeAlias = Callable[[Floats, Ints, Ints], Floats]
"""(states (n, D), tasks (n,), targets (n,)) -> edited states (n, D)."""


def shift(centroids: Centroids, alpha: float = 1.0) -> Edit:
    """Return the edit that adds the difference of the centroids, times alpha."""

    def edit(states: Floats, task: Ints, target: Ints) -> Floats:
        return _single(states + alpha * centroids.difference(task, target))

    return edit


def swap(centroids: Centroids) -> Edit:
    """Return the edit that gives what lies in the centroids' span the value of the target's."""

    def edit(states: Floats, task: Ints, target: Ints) -> Floats:
        goal = centroids.mean[centroids.columns(target)]
        return _single(states + centroids.in_span(goal - states))

    return edit


def patch(donors: Floats) -> Edit:
    """Return the edit that puts real states, (n, D), of the target task in the states' place."""
    return lambda states, task, target: donors


def patch_span(centroids: Centroids, donors: Floats) -> Edit:
    """Return the edit that takes only what lies in the centroids' span from real states, (n, D)."""

    def edit(states: Floats, task: Ints, target: Ints) -> Floats:
        return _single(states + centroids.in_span(_difference(donors, states)))

    return edit


def patch_rest(centroids: Centroids, donors: Floats) -> Edit:
    """Return the edit that takes only what lies outside the span from real states, (n, D)."""

    def edit(states: Floats, task: Ints, target: Ints) -> Floats:
        return _single(donors - centroids.in_span(_difference(donors, states)))

    return edit


def erase(basis: Doubles, middle: Doubles) -> Edit:
    """Return the edit that gives all states the same value in a subspace: that of the middle.

    ``basis``, (D, r), is orthonormal; ``middle`` is (D,). The target does not matter.
    """

    def edit(states: Floats, task: Ints, target: Ints) -> Floats:
        return _single(states - ((states - middle) @ basis) @ basis.T)

    return edit


def add(vectors: Doubles) -> Edit:
    """Return the edit that adds vectors, (n, D), which depend on neither state nor target."""
    return lambda states, task, target: _single(states + vectors)


def checked(name: str, edit: Edit) -> Edit:
    """Return the edit of a user, with a check of the states that it returns."""

    def check(states: Floats, task: Ints, target: Ints) -> Floats:
        edited = np.asarray(edit(states.copy(), task.copy(), target.copy()))
        if edited.shape != states.shape or not np.issubdtype(edited.dtype, np.floating):
            raise InputError(
                f"the edit {name} returns {edited.dtype} {edited.shape}: should be the edited "
                f"states, float32 {states.shape}"
            )
        if not np.isfinite(edited).all():
            raise InputError(f"the edit {name} returns a state that is not finite")
        return edited.astype(np.float32)

    return check


def _difference(a: Floats, b: Floats) -> Doubles:
    """Return a - b in float64."""
    return a.astype(np.float64) - b


def _single(x: Doubles) -> Floats:
    return x.astype(np.float32)
