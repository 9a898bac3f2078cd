"""Find the modules that hold a model's hidden states, and hook them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from tasklens.core.errors import InputError


class Point(NamedTuple):
    """The place of a state: the output of a module, or its input."""

    module: Any
    before: bool = False


def find_points(base: Any, model: Any, n_layer: int) -> tuple[dict[str, Point], Any]:
    """Return the place of each state up to the last block, and the module that holds the blocks."""
    kind = type(model).__name__
    modules = dict(base.named_modules())
    lists = {
        path: sum(parameter.numel() for parameter in module.parameters())
        for path, module in modules.items()
        if isinstance(module, torch.nn.ModuleList) and len(module) == n_layer
    }
    if not lists:
        raise InputError(f"{kind}: no list of its {n_layer} blocks was found in it")
    path = max(lists, key=lambda path: lists[path])  # nearly all of a model is in its blocks
    blocks = modules[path]
    named = {"wte": Point(model.get_input_embeddings()), "embed": Point(blocks[0], before=True)}
    named |= {f"block{i}": Point(block) for i, block in enumerate(blocks, 1)}
    return named, modules[path.rpartition(".")[0]]


@contextmanager
def hooked(points: dict[str, Point], keep: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Call ``keep`` with each state as it is computed."""
    handles = []
    for name, (module, before) in points.items():

        def keep_input(_: Any, args: Any, kwargs: Any, name: str = name) -> None:
            keep(name, args[0] if args else kwargs["hidden_states"])

        def keep_output(_: Any, __: Any, output: Any, name: str = name) -> None:
            state = output if isinstance(output, torch.Tensor) else (output or (None,))[0]
            if isinstance(state, torch.Tensor):
                keep(name, state)

        if before:
            handles.append(module.register_forward_pre_hook(keep_input, with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(keep_output))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
