"""A Subject and prompts in, hidden states by name out.

A Subject is anything with named states. What measures it knows no more of it than this file says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tasklens.errors import InputError
from tasklens.gpt2 import GPT2, check_length, state_names
from tasklens.rows import Prompts, shared_prefix_rows

#: Tokens in one forward pass: enough to keep the matrix products busy, little memory.
MAX_TOKENS = 8192


@dataclass(frozen=True)
class Harvest:
    """What a Subject holds at the positions of interest.

    Attributes
    ----------
    states : {name: float32 (N, D)}
    answer : int64 (N,)
        The most likely next token after the position, over the whole vocabulary.
    """

    states: dict[str, NDArray[np.float32]]
    answer: NDArray[np.int64]


class Subject(Protocol):
    """A model whose states have names."""

    names: tuple[str, ...]

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states at the prompts' positions of interest."""
        ...


class GPT2Subject:
    """Our own GPT-2 as a Subject; prompts that share a prefix share its computation.

    Parameters
    ----------
    model : GPT2
        Read in fp32 and without dropout, whatever training used.
    """

    def __init__(self, model: GPT2) -> None:
        self.model = model
        self.names = state_names(model.settings.n_layer)

    @torch.inference_mode()
    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, n_embd) each, and the answers."""
        check_length(self.model.n_positions, int(prompts.position.max()) + 1)
        self.model.eval()
        N, D = len(prompts), self.model.settings.n_embd
        states = {name: np.empty((N, D), dtype=np.float32) for name in names}
        answer = np.empty(N, dtype=np.int64)
        for same in shared_prefix_rows(prompts):
            for rows in same.chunks(MAX_TOKENS):
                ids = torch.from_numpy(np.concatenate([rows.prefix, rows.inputs], axis=1))
                L = rows.prefix.shape[1]
                logits, kept = self.model(ids, L, torch.from_numpy(rows.length), names)
                for name, state in kept.items():
                    states[name][rows.instance] = state[:, L:].numpy()  # (R, m, D)
                answer[rows.instance] = logits[:, L:].argmax(dim=-1).numpy()
        return Harvest(states, answer)


def harvest(subject: Subject, prompts: Prompts, names: Sequence[str] | None = None) -> Harvest:
    """Harvest a Subject's states at the prompts' positions of interest.

    Parameters
    ----------
    subject : Subject
    prompts : Prompts
        N token rows and the position of interest in each.
    names : sequence of str, optional
        The states that are wanted; all by default. Only these are kept in memory.

    Returns
    -------
    Harvest
        Arrays of shape (N, D) by name, and the answers (N,).

    Raises
    ------
    InputError
        For a name that the subject does not have, or a row that is longer than its context.
    """
    names = subject.names if names is None else names
    for name in names:
        if name not in subject.names:
            raise InputError(f"no state {name!r}; this model has {', '.join(subject.names)}")
    return subject.harvest(prompts, names)
