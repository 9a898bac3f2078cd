"""Hold the right answers of prompts under their own task and under every other one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasklens.data.edited_prompts import EditedPrompts, Ints


@dataclass(frozen=True)
class Fold:
    """Instances whose states are edited by the centroids of other instances."""

    fit: Ints
    """Rows of the first measured split from which the centroids are computed, (F,)."""
    edited: Ints
    """Rows of the prompts of `Counterfactuals` that are edited by them."""


@dataclass(frozen=True, repr=False)
class Counterfactuals:
    """N prompts of a split, with their answers under each of T tasks.

    An answer is an index into `tokens`, or -1 if it is not known.
    """

    split: str
    position: str
    prompts: EditedPrompts  # N
    index: Ints
    """Row of each prompt among the measured instances of its split, (N,)."""
    tasks: Ints
    """Numbers of the tasks, ascending, (T,)."""
    own: Ints
    """Column of each prompt's own task, (N,)."""
    unit: Ints
    """Number of the unit that is resampled, (N,), as in `Instances`."""
    answers: Ints
    """Answer of each prompt under each task, (N, T)."""
    tokens: Ints
    """The K distinct answers as token sequences, (K, L); -1 after the end of each."""
    donors: EditedPrompts  # M
    donor: Ints
    """Row in `donors` of a prompt of another task with the same input, (N, T); -1: none."""
    folds: tuple[Fold, ...]
    notes: tuple[str, ...] = ()
    """What was left out, in sentences for the log."""

    @property
    def pairs(self) -> NDArray[np.bool_]:
        """True if a prompt can be moved to a task so that the answer shows it, bool (N, T).

        Both answers have to be known, and their first tokens have to differ.
        """
        first = np.append(self.tokens[:, 0], -1)[self.answers]  # (N, T)
        mine = first[np.arange(len(self.own)), self.own][:, None]
        return (first >= 0) & (mine >= 0) & (first != mine)  # type: ignore[no-any-return]
