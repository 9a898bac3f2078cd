"""A Subject and prompts in, hidden states by name out.

A Subject is anything with named states. What measures it knows no more of it than this file says.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.rows import Prompts
from tasklens.models.gpt2 import GPT2, check_length, state_names
from tasklens.models.prefix_trees import Trees, token_trees

#: Tokens in one forward pass: enough to keep the matrix products busy, little memory, and enough
#: passes for every core to have some.
MAX_TOKENS = 2048
#: The same on a GPU, which has one thread and wants more at once.
MAX_TOKENS_GPU = 2**16


@dataclass(frozen=True)
class Harvest:
    """What a Subject holds at the positions of interest.

    Attributes
    ----------
    states : {name: float32 (N, D)}
    answer : int64 (N,)
        The most likely next token after the position, over the whole vocabulary.
    split : str
        The split of the prompts; empty if it is not known.
    step : int
        Training step of the checkpoint.
    position : str
        Name of the position.
    """

    states: dict[str, NDArray[np.float32]]
    answer: NDArray[np.int64]
    split: str = ""
    step: int = 0
    position: str = "input"


class Subject(Protocol):
    """A model whose states have names."""

    names: tuple[str, ...]

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states at the prompts' positions of interest."""
        ...


class GPT2Subject:
    """Our own GPT-2 as a Subject; what prompts begin with in common is computed once.

    Parameters
    ----------
    model : GPT2
        Read in fp32 and without dropout, whatever training used.
    """

    def __init__(self, model: GPT2) -> None:
        self.model = model
        self.names = state_names(model.settings.n_layer)

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states, float32 (N, n_embd) each, and the answers."""
        check_length(self.model.n_positions, int(prompts.position.max()) + 1)
        if prompts.begin is not None:
            raise InputError("means over a span are harvested from a HuggingFaceSubject")
        self.model.eval()
        N, D = len(prompts), self.model.settings.n_embd
        got = Harvest(
            {name: np.empty((N, D), dtype=np.float32) for name in names},
            np.empty(N, dtype=np.int64),
        )
        trees = token_trees(prompts)
        on_cpu = self.model.device.type == "cpu"
        size = max(1, (MAX_TOKENS if on_cpu else MAX_TOKENS_GPU) // trees.ids.shape[1])
        work = partial(self._read, trees, size, got)
        starts = range(0, len(trees), size)
        if not on_cpu:
            for start in starts:
                work(start)
            return got
        threads = torch.get_num_threads()
        # A pass runs in one thread, so that no sum depends on how many threads there are.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, starts))
        torch.set_num_threads(threads)  # some of what a thread sets for itself holds for all
        return got

    @torch.inference_mode()
    def _read(self, trees: Trees, size: int, got: Harvest, start: int) -> None:
        """Run the model on the rows from ``start`` on and put what their prompts want in place."""
        here = slice(start, start + size)
        device = self.model.device
        ids, depth, parent = (
            torch.from_numpy(a[here]).to(device) for a in (trees.ids, trees.depth, trees.parent)
        )
        logits, kept = self.model.forward_trees(ids, depth, parent, tuple(got.states))
        which = np.flatnonzero((trees.row >= start) & (trees.row < start + size))
        row = torch.from_numpy(trees.row[which] - start).to(device)
        slot = torch.from_numpy(trees.slot[which]).to(device)
        for name, state in kept.items():
            got.states[name][which] = state[row, slot].cpu().numpy()
        got.answer[which] = logits[row, slot].argmax(dim=-1).cpu().numpy()


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
