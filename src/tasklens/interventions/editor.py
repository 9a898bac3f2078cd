"""Define the protocol of an Editor: hidden states are changed, and the model answers."""

from collections.abc import Sequence
from typing import Protocol

from tasklens.data.edited_prompts import Edited, Floats, Ints


class Editor(Protocol):
    """A model with N prompts, whose hidden states can be changed.

    It is made for `EditedPrompts` and for K possible answers: token sequences, int64 (K, L), with
    -1 after the end of each.
    """

    names: tuple[str, ...]
    """Names of the hidden states that can be edited, from the input up."""
    how: str
    """How the edits are computed, for the log."""

    def states(self, names: Sequence[str]) -> dict[str, Floats]:
        """Return the unedited states at the edited tokens, (N, D) each; the mean over a span."""
        ...

    def answer(self, name: str, row: Ints, change: Floats, candidates: Ints) -> Edited:
        """Return what the model answers if a hidden state is changed.

        Parameters
        ----------
        name : str
            Name of the hidden state, or names that are joined by +, from the input up.
        row : int64 (M,)
            Index of the prompt of each edit.
        change : float32 (M, D), or (M, R, D) for R joined states
            What is added to the state at each token of the edited span. Zeros change no bit.
        candidates : int64 (M, C)
            Answers whose likelihood is returned, as indices into the K answers; -1: none.
        """
        ...
