"""Hold the right answers of prompts under their own task and under every other one."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.edited_prompts import EditedPrompts, Ints

Bools = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Fold:
    """Instances whose states are edited by the centroids of other instances."""

    fit: Ints
    """Rows of the first measured split from which the centroids are computed, (F,). If the tasks of
    the prompts are not in it, the rows of their own split follow behind its last one."""
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
    """Column of each prompt's own task, (N,); -1 if it is none of the tasks, so that there is no
    own answer."""
    task: Ints
    """Number of each prompt's own task, (N,)."""
    unit: Ints
    """Number of the unit that is resampled, (N,) or (N, 2), as in `Instances`."""
    answers: Ints
    """Answer of each prompt under each task, (N, T)."""
    tokens: Ints
    """The K distinct answers as token sequences, (K, L); -1 after the end of each."""
    donors: EditedPrompts  # M
    donor: Ints
    """Row in `donors` of a prompt of another task with the same input, (N, T); -1: none."""
    folds: tuple[Fold, ...]
    """Each has the instances of one family."""
    family: Ints
    """Number of the family of each task, (T,): answers are known within it only."""
    donor_index: Ints | None = None
    """Row of each donor among the measured instances of its split, (M,); None if donors are others,
    so that a model has to read them."""
    notes: tuple[str, ...] = ()
    """What was left out, in sentences for the log."""

    @property
    def pairs(self) -> Bools:
        """True if a prompt can be moved to a task so that the answer shows it, bool (N, T).

        Both answers have to be known, and their first tokens have to differ. If a prompt has no own
        answer, every known one makes a pair.
        """
        return pairs_of(self.answers, self.own, self.tokens)


def pairs_of(answers: Ints, own: Ints, tokens: Ints) -> Bools:
    """Return `Counterfactuals.pairs`."""
    first = np.append(tokens[:, 0], -1)[answers]  # (N, T)
    mine = of_own(first, own, -1)[:, None]
    is_known = (mine >= 0) | (own < 0)[:, None]
    return (first >= 0) & is_known & (first != mine)  # type: ignore[no-any-return]


def of_own(values: NDArray[Number], own: Ints, unknown: float) -> NDArray[Number]:
    """Return the value of each prompt's own task, (N,), from those of every task, (N, T).

    It is ``unknown`` for a prompt whose own task is -1.
    """
    return np.where(own >= 0, values[np.arange(len(own)), own], unknown).astype(values.dtype)


def need_two_tasks(split: str, n: int) -> None:
    """Raise InputError if a state could not be moved to another task, as there is none."""
    if n < 2:
        raise InputError(
            f"split {split} has a single task or label: should be two or more, so that a state can "
            "be moved to another"
        )


def prompts_with_pairs(split: str, pairs: Bools, remedy: str = "") -> tuple[Ints, tuple[str, ...]]:
    """Return the rows of the prompts of a split that have a pair, and a sentence on the others.

    ``pairs`` are those of `pairs_of`, (N, T). If there is none, the message of the InputError ends
    in what the user may do.
    """
    usable = np.flatnonzero(pairs.any(axis=1))
    if not len(usable):
        raise InputError(
            f"split {split}: no prompt has a right answer that differs from that under another "
            f"task{remedy}"
        )
    left_out = len(pairs) - len(usable)
    if not left_out:
        return usable, ()
    return usable, (
        f"{split}: {left_out:,} of {len(pairs):,} prompts are left out, as no other answer than "
        "their own is known",
    )


def pair_notes(split: str, answers: Ints, own: Ints, tokens: Ints, family: Ints) -> tuple[str, ...]:
    """Return why some answers of prompts make no pair with a task of their family, in sentences."""
    other = (np.arange(answers.shape[1]) != own[:, None]) & (family == family[own][:, None])
    n_other, n_known = int(other.sum()), int((other & (answers >= 0)).sum())
    n_pairs = int(pairs_of(answers, own, tokens).sum())
    notes = []
    if n_known < n_other:
        notes.append(
            f"{split}: {n_other - n_known:,} of {n_other:,} answers under another task are unknown"
        )
    if n_pairs < n_known:
        notes.append(
            f"{split}: {n_known - n_pairs:,} of {n_known:,} answers under another task are left "
            "out, as they begin with the same token as the own answer"
        )
    return tuple(notes)


def two_folds(task: Ints, group: Ints, rng: np.random.Generator) -> Ints:
    """Deal N instances to two folds, group by group, so that each fold has each task if it can.

    ``task`` and ``group`` are (N,). Returns the fold of each instance, 0 or 1, (N,).
    """
    fold = np.full(group.max() + 1, -1)  # of each group
    for number in np.unique(task):
        groups = rng.permutation(np.unique(group[task == number]))
        dealt = np.bincount(fold[groups] + 1, minlength=3)[1:]  # of this task
        for each in groups[fold[groups] < 0]:
            fold[each] = np.argmin(dealt)
            dealt[fold[each]] += 1
    return fold[group]
