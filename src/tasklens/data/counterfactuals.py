"""Hold the right answers of prompts under their own task and under every other one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.edited_prompts import EditedPrompts, Ints

Bools = NDArray[np.bool_]


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
    def pairs(self) -> Bools:
        """True if a prompt can be moved to a task so that the answer shows it, bool (N, T).

        Both answers have to be known, and their first tokens have to differ.
        """
        return pairs_of(self.answers, self.own, self.tokens)


def pairs_of(answers: Ints, own: Ints, tokens: Ints) -> Bools:
    """Return `Counterfactuals.pairs`; a prompt whose own task is -1 has none."""
    first = np.append(tokens[:, 0], -1)[answers]  # (N, T)
    mine = np.where(own >= 0, first[np.arange(len(own)), own], -1)[:, None]
    return (first >= 0) & (mine >= 0) & (first != mine)  # type: ignore[no-any-return]


def need_two_tasks(split: str, n: int) -> None:
    """Raise InputError if a state could not be moved to another task, as there is none."""
    if n < 2:
        raise InputError(
            f"split {split} has a single task or label: should be two or more, so that a state can "
            "be moved to another"
        )


def choose_prompts(
    split: str, answers: Ints, own: Ints, tokens: Ints, n: int, rng: np.random.Generator
) -> tuple[Ints, tuple[str, ...]]:
    """Draw at most n of the prompts of a split that have a pair; return their rows, ascending.

    Parameters
    ----------
    answers, own, tokens
        As in `Counterfactuals`, of all prompts of the split; the own task is -1 if it has no
        centroid.

    Returns
    -------
    int64 (N,), and what was left out, in sentences

    Raises
    ------
    InputError
        If no prompt has a pair.
    """
    pairs = pairs_of(answers, own, tokens)
    usable = np.flatnonzero(pairs.any(axis=1))
    if not len(usable):
        raise InputError(
            f"split {split}: no prompt has an answer that is another under another task: should be "
            "known of one prompt at least, and begin with another token"
        )
    index = np.sort(rng.choice(usable, min(n, len(usable)), replace=False))
    notes = []
    if len(usable) < len(own):
        notes.append(
            f"{split}: {len(own) - len(usable):,} of {len(own):,} prompts are left out, because no "
            "other task gives them another answer that is known"
        )
    known = answers[index] >= 0
    known[np.arange(len(index)), own[index]] = False
    n_other, n_known = len(index) * (answers.shape[1] - 1), int(known.sum())
    n_pairs = int(pairs[index].sum())
    if n_known < n_other:
        notes.append(
            f"{split}: {n_other - n_known:,} of {n_other:,} answers under another task are unknown"
        )
    if n_pairs < n_known:
        notes.append(
            f"{split}: {n_known - n_pairs:,} of {n_known:,} answers under another task begin with "
            "the same token as the own answer; these are left out"
        )
    return index, tuple(notes)
