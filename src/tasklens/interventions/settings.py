"""The settings of the stage that edits hidden states."""

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from tasklens.core.settings import SettingsBase
from tasklens.data.names import state_name

#: Edits that move a prompt to a task of choice.
TARGETED = ("shift", "swap", "patch", "patch_span", "patch_rest", "shuffled", "unembedding")
#: Edits without a task of choice, each drawn several times or once.
UNTARGETED = ("random", "within", "erase", "erase_random", "erase_within")
EDITS = (*TARGETED, *UNTARGETED)
#: Edits whose change does not depend on the state that is edited.
ADDED = ("shift", "shuffled", "unembedding", "random", "within")
#: Edits that Figure 3 and the findings need.
NEEDED = ("shift", "patch", "random", "within", "shuffled", "erase")


class InterventionSettings(SettingsBase, affects="interventions"):
    """Edits of hidden states: which instances, which edits, at which positions.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.InterventionSettings(draws=50).alphas
    (1.0,)
    """

    instances: Annotated[int, Field(ge=10)] = 200
    """Largest number of instances per unseen split whose states are edited, drawn at random."""
    edits: Annotated[tuple[str, ...], Field(min_length=1)] = ("all",)
    """Edits and controls, see docs/interventions.md; all: every one."""
    alphas: Annotated[tuple[float, ...], Field(min_length=1)] = (1.0,)
    """Strengths of the edit shift: multiples of the difference of the centroids. The first one is
    that of the findings and figures."""
    draws: Annotated[int, Field(ge=2)] = 20
    """Random draws of each control that is drawn, such as random directions."""
    test_draws: Annotated[int, Field(ge=2)] = 199
    """Random directions at the best layer of the last checkpoint, for the p value. It cannot be
    less than 1 / (test_draws + 1)."""
    positions: tuple[str, ...] = ()
    """Measured positions whose states are edited; empty: the first one of the run."""
    states: Annotated[tuple[str, ...], Field(min_length=1)] = ("all",)
    """Hidden states that are edited; all: every one. Names that are joined by + are edited
    together, such as block3+block4, if the change does not depend on the state itself."""
    checkpoints: Annotated[int, Field(ge=0)] = 0
    """Number of checkpoints, evenly spaced in training, with the first and the last; 0: every one
    whose weights are kept."""

    @field_validator("edits")
    @classmethod
    def _known(cls, edits: tuple[str, ...]) -> tuple[str, ...]:
        for edit in edits:
            if edit not in ("all", *EDITS):
                raise ValueError(f"no edit {edit!r}: should be all or some of {', '.join(EDITS)}")
        return edits

    @field_validator("states", mode="before")
    @classmethod
    def _named(cls, states: Any) -> Any:
        """Return the names of hidden states that may be written in another way, e.g. "layer 5"."""
        if isinstance(states, list | tuple):
            return tuple(
                "+".join(map(state_name, state.split("+"))) if isinstance(state, str) else state
                for state in states
            )
        return states

    @field_validator("states")
    @classmethod
    def _states(cls, states: tuple[str, ...]) -> tuple[str, ...]:
        for state in states:
            if not re.fullmatch(
                r"all|(wte|embed|block[1-9]\d*|ln_f)(\+(block[1-9]\d*|ln_f))*", state
            ):
                raise ValueError(
                    f"no hidden state {state!r}: should be all, wte, embed, block1, ..., ln_f, or "
                    "several joined by +, from the input up"
                )
        return states

    @field_validator("alphas", "states", "edits", "positions")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("should be distinct")
        return values

    @property
    def wanted(self) -> tuple[str, ...]:
        """The edits in the order of `EDITS`."""
        return EDITS if "all" in self.edits else tuple(e for e in EDITS if e in self.edits)
