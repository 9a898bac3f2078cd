"""Define the protocol of a Subject: prompts in, hidden states by name out.

Code that measures relies only on this interface. The module imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.instances import Instances
from tasklens.data.names import KINDS, find_state, is_branch, state_name
from tasklens.data.token_prompts import Prompts


@dataclass(frozen=True, repr=False)
class Harvest:
    """Hidden states at the measured position of N prompts, with split, step and position.

    `tasklens.harvest` returns it, and `tasklens.score` takes it.

    Attributes
    ----------
    states : {name: float32 (N, D)}
    answer : int64 (N,)
        The most likely next token, over the whole vocabulary: after the position, or after the
        token of `Prompts.answer_at`.
    split : str
        Name of the prompts' split; empty if they have none, or several.
    step : int
        Training step of the subject's checkpoint.
    position : str
        Name of the measured position.
    instances : Instances, optional
        Task, input and output of the N prompts.

    Examples
    --------
    >>> import tasklens as tl
    >>> dataset = tl.load_run("runs/smoke").dataset
    >>> model = tl.make_model(dataset, n_layer=2, n_head=2, n_embd=32)
    >>> tl.harvest(model, dataset["val_subset"], names=["embed", "block1"])
    Harvest(40 instances of val_subset at step 0, position 'input', width 32: embed, block1)
    """

    states: dict[str, NDArray[np.float32]]
    answer: NDArray[np.int64]
    split: str = ""
    step: int = 0
    position: str = "input"
    instances: Instances | None = None

    def __repr__(self) -> str:
        n, shapes = len(self.answer), {x.shape[1] for x in self.states.values()}
        width = shapes.pop() if len(shapes) == 1 else sorted(shapes)
        split = f" of {self.split}" if self.split else ""
        return (
            f"Harvest({n} instances{split} at step {self.step}, position {self.position!r}, "
            f"width {width}: {', '.join(self.states)})"
        )


class Subject(Protocol):
    """A model whose hidden states have names.

    Examples
    --------
    >>> import numpy as np
    >>> import tasklens as tl
    >>> class Counter:  # its one hidden state is the position itself
    ...     names, step = ("position",), 0
    ...     def harvest(self, prompts, names):
    ...         n = len(prompts)
    ...         states = {"position": prompts.position[:, None].astype(np.float32)}
    ...         return tl.Harvest(states, answer=np.zeros(n, dtype=np.int64))
    >>> prompts = tl.Prompts(np.array([[4, 7], [4, 2]]), np.array([1, 0]))
    >>> tl.harvest(Counter(), prompts).states["position"].ravel()
    array([1., 0.], dtype=float32)
    """

    names: tuple[str, ...]
    """The hidden states that are harvested if no others are asked for.

    A Subject may have the attribute ``branches``, too: the names of what the branches of its blocks
    add, ``attn1``, ``mlp1`` .., which are harvested if they are asked for by name.
    """
    step: int
    """Training step of the checkpoint; 0 if it is in no series."""

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        """Return the named states at the prompts' measured positions, and the answers."""
        ...


def states_among(subject: Subject, wanted: Sequence[str]) -> list[str]:
    """Return the names of hidden states, which may be written in another way, in the order given.

    ``attn``, ``mlp`` and ``block`` are those of all blocks, and ``all`` all of `Subject.names`.
    InputError if the subject has no such state.
    """
    names: list[str] = []
    for text in wanted:
        known = subject.names
        if is_branch(state_name(text)):
            known = getattr(subject, "branches", ())
            if not known:
                raise InputError(f"{type(subject).__name__}: has no states attnN and mlpN")
        if text == "all":
            names += known
        elif text in KINDS:
            names += [name for name in known if name.startswith(text)]
        else:
            names.append(find_state(text, known))
    return list(dict.fromkeys(names))
