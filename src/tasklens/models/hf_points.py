"""Find where a model of transformers computes each hidden state, by asking what runs after what.

A model's blocks are a list of modules that run one after another, and each gives the state that the
next one reads. No name of a module and no number in the configuration decides which list it is.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from tasklens.core.errors import InputError

#: A function of the name and value of a state, which may return another value for it.
OnState: TypeAlias = Callable[[str, Tensor], Tensor | None]


class Point(NamedTuple):
    """Origin of a hidden state: the output of a module, or its input."""

    module: Any
    before: bool
    call: int
    """Which of the module's calls in a pass gives it; a norm may run before the first block too."""
    width: int
    """D, the length of the state's vectors."""
    scale: float = 1.0
    """Number by which the model multiplies what the module gives; 1 for all but some branches."""
    flat_in: Any = None
    """Module whose input has the shape (B, T, D) of the state, if this module gives (B * T, D)."""


class Call(NamedTuple):
    """Begin or end of a call of a module in a pass."""

    module: nn.Module
    number: int
    """Number of the module's calls before this one."""
    state: Tensor | None
    """The state that it read or returned; None if that is no tensor of numbers."""
    ends: bool
    others: tuple[Tensor, ...]
    """Other tensors of the state's shape, which the module read or returned beside it."""


def find_points(kind: str, network: Any, word_embedding: Any, ids: Tensor) -> dict[str, Point]:
    """Return the `Point` of each state, in the order in which a pass over tokens computes them.

    `wte` is left out if it equals `embed`, the input of the first block, or if the word embedding
    is no module of the network. The norm that runs directly after the last block gives `ln_f`,
    whatever module it is a part of. If there is none, a norm whose output is the network's does.

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
    calls, last = _record(network, lists, ids)
    read = [each for each in lists if _reads_states(each, calls)]
    stacks = [each for each in read if _is_stack(each, calls)]
    if not read:
        raise InputError(f"{kind}: has no list of blocks that pass on hidden states")
    if len(stacks) > 1:
        sizes = " and ".join(f"{len(each)} blocks" for each in stacks)
        raise InputError(f"{kind}: has lists of {sizes} that pass on hidden states: should be one")
    blocks = max(read, key=_n_weights)  # they have nearly all weights
    numbers, begins, ends = _check_blocks(kind, [*blocks], calls)
    before = [call for call in calls[: begins[0]] if call.module is word_embedding and call.ends]
    named = {"wte": before[0]} if before else {}
    named["embed"] = calls[begins[0]]
    named |= {f"block{i}": calls[end] for i, end in zip(numbers, ends, strict=True)}
    for name, call in named.items():
        if not _is_per_token(call, ids):
            B, T = ids.shape
            shape = None if call.state is None else tuple(call.state.shape)
            raise InputError(
                f"{kind}: {name} has shape {shape} for {B} prompts of {T} tokens: should be one "
                f"vector per token, ({B}, {T}, D)"
            )
    if before and _equal(named["wte"], named["embed"]):
        del named["wte"]
    norm = _final_norm(calls[ends[-1] + 1 :], last)
    if norm is not None and _is_per_token(norm, ids):
        named["ln_f"] = norm
    return {
        name: Point(call.module, not call.ends, call.number, call.state.shape[-1])
        for name, call in named.items()
        if call.state is not None
    }


def _outer_lists(network: nn.Module) -> list[nn.ModuleList]:
    """Return the lists of modules that are in no other list."""
    lists: list[nn.ModuleList] = []
    for child in network.children():
        lists += [child] if isinstance(child, nn.ModuleList) else _outer_lists(child)
    return lists


def _record(
    network: nn.Module, lists: list[nn.ModuleList], ids: Tensor
) -> tuple[list[Call], Tensor]:
    """Run the network; return the begins and ends of its modules' calls, and its output.

    Modules inside the elements of a list are not recorded.
    """
    elements = {element for each in lists for element in each}
    inside = {part for element in elements for part in element.modules()} - elements
    calls: list[Call] = []
    numbers: Counter[nn.Module] = Counter()

    def add(
        module: nn.Module, state: Tensor | None, values: Iterable[object], *, ends: bool
    ) -> None:
        others = [_copied(x) for x in values if x is not state]
        state = _copied(state)
        alike = tuple(
            x for x in others if x is not None and state is not None and x.shape == state.shape
        )
        calls.append(Call(module, numbers[module], state, ends, alike))

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        add(module, state_in(args, kwargs)[1], (*args, *kwargs.values()), ends=False)

    def end(module: nn.Module, _: Any, output: Any) -> None:
        add(
            module,
            state_out(output),
            output if isinstance(output, tuple | list) else (),
            ends=True,
        )
        numbers[module] += 1

    with ExitStack() as hooks:
        for module in {*network.modules()} - inside - {network}:
            before = module.register_forward_pre_hook(begin, with_kwargs=True)
            hooks.enter_context(before)
            hooks.enter_context(module.register_forward_hook(end))
        last = run(network, ids)
    return calls, last.cpu()


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


def _is_stack(modules: nn.ModuleList, calls: list[Call]) -> bool:
    """Return whether one module of a list reads what another one returned just before."""
    own = [call for call in calls if call.module in {*modules}]
    return any(a.ends and not b.ends and _equal(a, b) for a, b in pairwise(own))


def _n_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_blocks(
    kind: str, blocks: list[nn.Module], calls: list[Call]
) -> tuple[list[int], list[int], list[int]]:
    """Return the numbers of the blocks that run, and the indices of their begins and ends.

    A block may not run on text, such as one that only attends to an image. A module may be several
    blocks of the list. Between two blocks, the state may be scaled, or something added. If a module
    with weights changes it there, a block is a part of what the model repeats, and gives no
    residual stream. If two states pass between blocks, neither is the residual stream.
    """
    own = [i for i, call in enumerate(calls) if call.module in {*blocks}]
    begins, ends = ([i for i in own if calls[i].ends == at_end] for at_end in (False, True))
    reason = ""
    numbers: list[int] = []
    for begin in begins:
        module, last = calls[begin].module, numbers[-1] if numbers else 0
        if module not in blocks[last:]:
            reason = f"block{blocks.index(module) + 1} runs again after block{last}"
            break
        numbers.append(blocks.index(module, last) + 1)
    for i, (end, begin) in enumerate(zip(ends, begins[1:], strict=False)):
        if reason:
            break
        names = f"block{numbers[i]} and block{numbers[i + 1]}"
        between = [call.module for call in calls[end + 1 : begin] if _n_weights(call.module)]
        if between and not _equal(calls[end], calls[begin]):
            reason = f"a {type(between[0]).__name__} runs between {names}"
        passed = [x for x in calls[end].others if _is_among(x, calls[begin].others)]
        if not all(_is_among(x, calls[ends[i + 1]].others) for x in passed):
            reason = f"two states pass between {names}"
    if reason:
        raise InputError(f"{kind}: its blocks do not run one after another: {reason}")
    return numbers, begins, ends


def _is_per_token(call: Call, ids: Tensor) -> bool:
    return call.state is not None and call.state.shape[:-1] == ids.shape


def _equal(a: Call, b: Call) -> bool:
    return a.state is not None and b.state is not None and torch.equal(a.state, b.state)


def _is_among(state: Tensor, others: Iterable[Tensor]) -> bool:
    return any(torch.equal(state, other) for other in others)


def _final_norm(calls: list[Call], last: Tensor) -> Call | None:
    """Return the end of the norm that runs before other weights, or returns the last state."""
    for i, call in enumerate(calls):
        if not call.ends and (is_norm(call.module) or _n_weights(call.module)):
            if is_norm(call.module):
                return next((c for c in calls[i:] if c.module is call.module and c.ends), None)
            break
    norms = [call for call in calls if call.ends and is_norm(call.module)]
    return next((c for c in norms if c.state is not None and torch.equal(c.state, last)), None)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a norm by its name, or because it only scales each dimension."""
    weights = [*module.parameters()]
    scales = weights and all(weight.ndim == 1 for weight in weights) and not [*module.children()]
    return bool(scales) or "norm" in type(module).__name__.lower()


def state_in(args: Any, kwargs: Any) -> tuple[Any, Tensor | None]:
    """Return the argument of a module that is the state, by position or name, and the state."""
    named = {"hidden_states": kwargs["hidden_states"]} if "hidden_states" in kwargs else kwargs
    for key, value in (*enumerate(args[:1]), *named.items()):
        if isinstance(value, Tensor):
            return key, value
    return None, None


def state_out(output: Any) -> Tensor | None:
    """Return the state that a module returns, alone or first in a tuple or list."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) else None


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
            for hook in _hooked(name, point, on_state):
                hooks.enter_context(hook)
        yield


def _hooked(name: str, point: Point, on_state: OnState) -> Iterator[Any]:
    """Register the hooks of a state."""
    calls = count()
    shape: list[torch.Size] = []

    def keep_shape(_: Any, args: Any, kwargs: Any) -> None:
        if (x := state_in(args, kwargs)[1]) is not None:
            shape[:] = [x.shape]

    def changed(state: Tensor | None) -> Tensor | None:
        if next(calls) != point.call or state is None:
            return None
        whole = state if point.flat_in is None else state.view(shape[0])
        new = on_state(name, whole if point.scale == 1 else whole * point.scale)
        return None if new is None else (new / point.scale).view(state.shape)

    def on_input(_: Any, args: Any, kwargs: Any) -> Any:
        key, state = state_in(args, kwargs)
        state = changed(state)
        if state is None:
            return None
        if key == 0:
            return (state, *args[1:]), kwargs
        return args, kwargs | {key: state}

    def on_output(_: Any, __: Any, output: Any) -> Any:
        state = changed(state_out(output))
        if state is None or isinstance(output, Tensor):
            return state
        if hasattr(output, "_fields"):  # a named tuple
            return type(output)(state, *output[1:])
        return type(output)((state, *output[1:]))

    if point.flat_in is not None:
        yield point.flat_in.register_forward_pre_hook(keep_shape, with_kwargs=True)
    if point.before:
        yield point.module.register_forward_pre_hook(on_input, with_kwargs=True)
    else:
        yield point.module.register_forward_hook(on_output)
