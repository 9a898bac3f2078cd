"""The protocol of a Subject: prompts in, hidden states by name out.

Measuring knows no more of a model than this. The module imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts


@dataclass(frozen=True)
class Harvest:
    """Hidden states at the measured position of N prompts, and what was measured.

    Attributes
    ----------
    states : {name: float32 (N, D)}
    answer : int64 (N,)
        The most likely next token after the position, over the whole vocabulary.
    split : str
        Name of the prompts' split; empty if they are of none, or of several.
    step : int
        Training step of the subject's checkpoint.
    position : str
        Name of the measured position.
    """

    states: dict[str, NDArray[np.float32]]
    answer: NDArray[np.int64]
    split: str = ""
    step: int = 0
    position: str = "input"


class Subject(Protocol):
    """A model whose hidden states have names."""

    names: tuple[str, ...]
    step: int
    """Training step of its checkpoint; 0 if it is of no series."""

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states at the prompts' measured positions, and the answers."""
        ...


def harvest(subject: Subject, prompts: Prompts, names: Sequence[str] | None = None) -> Harvest:
    """Harvest a Subject's hidden states at the prompts' measured positions.

    Parameters
    ----------
    subject : Subject
    prompts : Prompts
        N token rows and the measured position in each.
    names : sequence of str, optional
        The states that are wanted; all by default. Only these are kept in memory.

    Returns
    -------
    Harvest
        Arrays of shape (N, D) by name, the answers (N,), the prompts' split and position, and the
        subject's step.

    Raises
    ------
    InputError
        For a name that the subject does not have, or a row that is longer than its context.
    """
    names = subject.names if names is None else names
    for name in names:
        if name not in subject.names:
            raise InputError(f"no state {name!r}; this model has {', '.join(subject.names)}")
    return replace(
        subject.harvest(prompts, names),
        split=prompts.split,
        step=subject.step,
        position=prompts.position_name,
    )
