"""Find where a model of transformers computes each hidden state, by asking what runs after what.

A model's blocks are a list of modules that run one after another, and each gives the state that the
next one reads. No name of a module and no number in the configuration decides which list it is.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from tasklens.core.errors import InputError

#: A function of the name and value of a state, which may return another value for it.
OnState: TypeAlias = Callable[[str, Tensor], Tensor | None]


class Point(NamedTuple):
    """Origin of a hidden state: the output of a module, or its input."""

    module: Any
    before: bool = False
    call: int = 0
    """Which of the module's calls in a pass gives it; a norm may run before the first block too."""


class Call(NamedTuple):
    """Begin or end of a call of a module in a pass."""

    module: nn.Module
    index: int
    """Number of the module's calls before this one."""
    state: Tensor | None
    """The state that it read or returned; None if that is no tensor of numbers."""
    ends: bool


def find_points(kind: str, network: Any, word_embedding: Any, ids: Tensor) -> dict[str, Point]:
    """Return the `Point` of each state, in the order in which a pass over tokens computes them.

    `wte` is left out if the word embedding is no module that runs before the blocks, or if it
    equals `embed`, the input of the first block. The norm that runs first after the last block
    gives `ln_f`; it may be a part of any module.

    Parameters
    ----------
    kind : str
        The model's class, for messages.
    network : torch.nn.Module
        The network without its head.
    word_embedding : torch.nn.Module or None
    ids : int64 (B, T)

    Raises
    ------
    InputError
        If no list of blocks runs one after another, with one state per token.
    """
    lists = _outer_lists(network)
    calls = _record(network, lists, ids)
    read = [each for each in lists if _reads_states(each, calls)]
    if not read:
        raise InputError(f"{kind}: has no list of blocks that read hidden states")
    blocks = max(read, key=_n_weights)  # they have nearly all weights
    begins, ends = _check_blocks(kind, blocks, calls)
    words = [call for call in calls[: begins[0]] if call.module is word_embedding and call.ends]
    named = {"wte": words[0]} if words else {}
    named["embed"] = calls[begins[0]]
    named |= {f"block{i}": calls[end] for i, end in enumerate(ends, 1)}
    for name, call in named.items():
        shape = None if call.state is None else tuple(call.state.shape)
        if shape is None or shape[:-1] != ids.shape:
            raise InputError(f"{kind}: {name} has shape {shape}: should be one per token")
    if words and _equal(named["wte"], named["embed"]):
        del named["wte"]
    norm = _first_norm(calls[ends[-1] + 1 :])
    if norm is not None and norm.state is not None and norm.state.shape[:-1] == ids.shape:
        named["ln_f"] = norm
    return {name: Point(c.module, before=not c.ends, call=c.index) for name, c in named.items()}


def _outer_lists(network: nn.Module) -> list[nn.ModuleList]:
    """Return the lists of modules that are in no other list."""
    lists: list[nn.ModuleList] = []
    for child in network.children():
        lists += [child] if isinstance(child, nn.ModuleList) else _outer_lists(child)
    return lists


def _record(network: nn.Module, lists: list[nn.ModuleList], ids: Tensor) -> list[Call]:
    """Run the network; return the begins and ends of calls, but those inside a list's elements."""
    elements = {element for each in lists for element in each}
    inside = {part for element in elements for part in element.modules()} - elements
    calls: list[Call] = []
    numbers: Counter[nn.Module] = Counter()

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        state = _state_in(args, kwargs)[1]
        calls.append(Call(module, numbers[module], _copied(state), ends=False))

    def end(module: nn.Module, _: Any, output: Any) -> None:
        state = output if isinstance(output, Tensor) else (output or (None,))[0]
        calls.append(Call(module, numbers[module], _copied(state), ends=True))
        numbers[module] += 1

    with ExitStack() as hooks:
        for module in {*network.modules()} - inside - {network}:
            before = module.register_forward_pre_hook(begin, with_kwargs=True)
            hooks.enter_context(before)
            hooks.enter_context(module.register_forward_hook(end))
        run(network, ids)
    return calls


def _copied(state: object) -> Tensor | None:
    """Return a copy of a state, which the model may change in place; None if it is no state."""
    if isinstance(state, Tensor) and state.is_floating_point() and state.ndim > 1:
        return state.detach().cpu().clone()
    return None


def _reads_states(modules: nn.ModuleList, calls: list[Call]) -> bool:
    """Return whether modules of a list run, and on states, as neither embeddings nor heads do."""
    own = {*modules}
    states = [call.state for call in calls if call.module in own]
    return bool(states) and all(state is not None for state in states)


def _n_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_blocks(
    kind: str, blocks: nn.ModuleList, calls: list[Call]
) -> tuple[list[int], list[int]]:
    """Return the indices of the calls that begin and that end the blocks, one after another.

    Between two blocks, the state may be scaled, or something added. If a module with weights runs
    there and changes it, a block is a part of what the model repeats, and gives no residual stream.
    """
    numbers = {block: i for i, block in enumerate(blocks, 1)}
    own = [i for i, call in enumerate(calls) if call.module in numbers]
    begins, ends = ([i for i in own if calls[i].ends == ends] for ends in (False, True))
    order = [numbers[calls[i].module] for i in begins]
    reason = ""
    if order != [*range(1, len(blocks) + 1)]:
        reason = f"the {len(blocks)} blocks run in the order {order}"
    for i, (end, begin) in enumerate(zip(ends, begins[1:], strict=False), 1):
        between = [c.module for c in calls[end + 1 : begin] if _n_weights(c.module)]
        if not reason and between and not _equal(calls[end], calls[begin]):
            reason = f"a {type(between[0]).__name__} runs between block{i} and block{i + 1}"
    if reason:
        raise InputError(f"{kind}: its blocks do not run one after another: {reason}")
    return begins, ends


def _equal(a: Call, b: Call) -> bool:
    return a.state is not None and b.state is not None and torch.equal(a.state, b.state)


def _first_norm(calls: list[Call]) -> Call | None:
    """Return the end of the first call of a module with weights, or of a norm, if it is a norm."""
    for i, call in enumerate(calls):
        module = call.module
        is_norm = "norm" in type(module).__name__.lower()
        if not call.ends and (is_norm or _n_weights(module)):
            # A norm of another name scales each dimension, and mixes none.
            is_norm = is_norm or all(weight.ndim == 1 for weight in module.parameters())
            ends = (c for c in calls[i:] if c.module is module and c.ends)
            return next(ends, None) if is_norm else None
    return None


def _state_in(args: Any, kwargs: Any) -> tuple[Any, Tensor | None]:
    """Return the argument of a module that is the state, by position or name, and the state."""
    named = {"hidden_states": kwargs["hidden_states"]} if "hidden_states" in kwargs else kwargs
    for key, value in (*enumerate(args[:1]), *named.items()):
        if isinstance(value, Tensor):
            return key, value
    return None, None


def run(module: Any, ids: Tensor, **inputs: Tensor) -> Tensor:
    """Run a module of transformers with the inputs that it accepts."""
    every: dict[str, Any] = {"use_cache": False, "return_dict": True, **inputs}
    accepted = inspect.signature(module.forward).parameters
    return module(ids, **{k: v for k, v in every.items() if k in accepted})[0]  # type: ignore[no-any-return]


@contextmanager
def hooked(points: Mapping[str, Point], on_state: OnState) -> Iterator[None]:
    """Call a function with the name and value of each state, (B, T, D), of one pass.

    If it returns a state, this replaces the computed one.
    """
    with ExitStack() as hooks:
        for name, point in points.items():
            hooks.enter_context(_hooked(name, point, on_state))
        yield


def _hooked(name: str, point: Point, on_state: OnState) -> Any:
    """Register the hook of a state."""
    calls = count()

    def on_input(_: Any, args: Any, kwargs: Any) -> Any:
        key, state = _state_in(args, kwargs)
        state = on_state(name, state) if next(calls) == point.call else None
        if state is None:
            return None
        if key == 0:
            return (state, *args[1:]), kwargs
        return args, kwargs | {key: state}

    def on_output(_: Any, __: Any, output: Any) -> Any:
        if next(calls) != point.call:
            return None
        if isinstance(output, Tensor):
            return on_state(name, output)
        state = on_state(name, output[0])
        return None if state is None else type(output)((state, *output[1:]))

    if point.before:
        return point.module.register_forward_pre_hook(on_input, with_kwargs=True)
    return point.module.register_forward_hook(on_output)
