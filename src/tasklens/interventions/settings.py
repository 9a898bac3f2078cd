"""The settings of the stage that edits hidden states, and the choice of what is edited."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from tasklens.core.errors import InputError
from tasklens.core.memory import check_sizes
from tasklens.core.settings import Affects, SettingsBase
from tasklens.data.names import find_state
from tasklens.data.prompt_counterfactuals import AnswerTokens

#: Edits that move a prompt to a task of choice.
TARGETED = ("shift", "swap", "patch", "patch_span", "patch_rest", "shuffled", "unembedding")
#: Edits without a task of choice, each drawn several times or run once.
UNTARGETED = ("random", "within", "erase", "erase_random", "erase_within")
#: Edits of the prompts that are answered wrongly.
REPAIRS = ("repair",)
#: Edits that need an own right answer.
OF_OWN = ("unembedding", *REPAIRS)
EDITS = (*TARGETED, *UNTARGETED, *REPAIRS)
#: Edits whose change does not depend on the state that is edited.
ADDED = ("shift", "shuffled", "unembedding", "random", "within")
#: Edits that Figure 3 shows through training.
FIGURE = ("shift", "patch", "random")
#: Edits that Figure 3 and the checks need at the last checkpoint.
NEEDED = ("shift", "patch", "shuffled", "random", "within", "erase", "repair")


class InterventionSettings(SettingsBase, affects="interventions"):
    """Edits of hidden states: how many instances, draws and checkpoints.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.InterventionSettings(draws=50).instances
    200
    """

    instances: Annotated[int, Field(ge=10, lt=2**31)] = 200
    """Largest number of instances per unseen split whose states are edited, drawn at random."""
    draws: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Random draws of each control that is drawn, such as random directions."""
    test_draws: Annotated[int, Field(ge=2, le=100_000)] = 199
    """Random directions at the best layer of the last checkpoint, for the p value. It cannot be
    less than 1 / (test_draws + 1)."""
    answers: AnswerTokens = "auto"
    """Tokens of an answer that count in a model run. first: the model answers with the most likely
    token of its vocabulary, and gives an answer if it is the first token of it. all: it gives the
    answer of the highest likelihood among those under each task, which takes many times longer.
    auto: first, if the different answers to each prompt begin with different tokens, otherwise
    all."""
    checkpoints: Annotated[int, Field(ge=0, lt=2**31), Affects("nothing")] = 7
    """Number of checkpoints that tasklens run edits, evenly spaced in training, with the first and
    the last; 0: none. In tasklens probe it is 0 by default, because a large model takes long, and
    any other number edits the last one only. tasklens intervene edits every one whose weights are
    kept, whatever stands here."""


def check_draws(draws: Mapping[str, int], shape: tuple[int, ...]) -> None:
    """Raise InputError if the memory does not hold the changes of states, (N, D), in all draws.

    The numbers of draws are given by the keys of their settings.
    """
    check_sizes("an edit", draws, lambda sizes: 4 * math.prod(shape) * max(sizes.values()))


@dataclass(frozen=True)
class Selection:
    """The edits that are wanted, and where.

    Attributes
    ----------
    edits : tuple of str
        Some of `EDITS`.
    alphas : tuple of float
        Strengths of the edit shift: multiples of the difference of the centroids.
    states : tuple of str
        Hidden states that are edited; empty: every one. Names that are joined by +, such as
        ``block3+block4``, are edited together.
    positions : tuple of str
        Measured positions; empty: the first one of the run.
    steps : tuple of int
        Checkpoints; empty: every one whose weights are kept, but no untrained twin.
    """

    edits: tuple[str, ...] = EDITS
    alphas: tuple[float, ...] = (1.0,)
    states: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for edit in self.edits:
            if edit not in EDITS:
                raise InputError(f"no edit {edit!r}; there are {', '.join(EDITS)}")
        for alpha in self.alphas:
            if not np.isfinite(alpha):
                raise InputError(f"alpha = {alpha}: should be a finite number")

    def states_among(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the edited states by the names that a run has; InputError if it lacks one.

        States that are edited together are in the order in which the model computes them.
        """
        chosen = []
        for state in self.states or names:
            each = {find_state(name, names) for name in state.split("+")}
            if len(each) < len(state.split("+")):
                raise InputError(f"{state}: should not have a hidden state twice")
            chosen.append("+".join(name for name in names if name in each))
        return tuple(dict.fromkeys(chosen))
