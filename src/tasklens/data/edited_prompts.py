"""Prompts whose hidden states are edited, and what a model then answers."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EditedPrompts:
    """Token rows of N prompts, and the tokens of each whose hidden state is edited.

    Attributes
    ----------
    ids : int64 (N, T)
        Token ids; tokens after the last one that is read mean nothing.
    read : int64 (N,)
        Index of the last token that is read: the answer follows it.
    begin, end : int64 (N,)
        Index of the first and of the last token of the edited span, which ends at `read` at the
        latest. Both are the same if a single token is edited.
    """

    ids: Ints
    read: Ints
    begin: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Ints) -> "EditedPrompts":
        """Return the prompts at these indices."""
        return EditedPrompts(self.ids[rows], self.read[rows], self.begin[rows], self.end[rows])


class Edited(NamedTuple):
    """Answers of a model to M prompts with edited states."""

    answer: Ints
    """Index of the given answer, (M,), or -1 for any other. If all answers are single tokens, it is
    the most likely token of the vocabulary, otherwise the candidate with the highest likelihood."""
    likelihood: Floats
    """Log-likelihood of each candidate, (M, C); NaN if there is no candidate."""
