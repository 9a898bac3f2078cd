"""Run a model of transformers with hidden states that are changed, or without its first blocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from tasklens.models.hf_points import Point, hooked

Change = Callable[[Tensor], Tensor]


def changed(
    points: Mapping[str, Point], changes: Mapping[str, Change]
) -> AbstractContextManager[None]:
    """Replace each named state, (B, T, D), by what a function of it returns."""
    return hooked(
        {name: points[name] for name in changes}, lambda name, state: changes[name](state)
    )


@contextmanager
def output_kept(module: Any) -> Iterator[list[Any]]:
    """Keep what a module returns in each pass."""
    kept: list[Any] = []
    with module.register_forward_hook(lambda _, __, output: kept.append(output)):
        yield kept


def can_be_skipped(module: Any) -> bool:
    """Return whether a module's forward can be replaced; accelerate and others replace it too."""
    return "forward" not in vars(module) and not hasattr(module, "_hf_hook")


@contextmanager
def skipped(blocks: Sequence[Any], state: Tensor, *, in_tuple: bool) -> Iterator[None]:
    """Make each block return a state, (B, T, D), instead of computing its own.

    With ``in_tuple``, it is the first element of a tuple, as some families return it.
    """
    output = (state, None) if in_tuple else state
    try:
        for block in blocks:
            block.forward = lambda *_, **__: output
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


def token_changer(row: Tensor, slot: Tensor, change: Tensor) -> Change:
    """Return a function that adds a change (n, D) to some different tokens of a state (B, T, D)."""

    def change_tokens(state: Tensor) -> Tensor:
        at = row.to(state.device), slot.to(state.device)
        edited = state.clone()
        edited[at] = (state[at].float() + change.to(state.device)).to(state.dtype)
        return edited

    return change_tokens


def close(a: Tensor, b: Tensor) -> bool:
    """Return whether states or logits are equal but for rounding."""
    difference = (a.float() - b.float()).norm(dim=-1)
    bound = 64 * torch.finfo(a.dtype).eps * b.float().norm(dim=-1)
    return bool((difference <= bound).all())
