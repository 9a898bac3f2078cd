"""Find what attention and MLP of each block add to the residual stream, in models of transformers.

Modules inside a block compute these two states, `attnN` and `mlpN`. Those two are taken whose
outputs, each perhaps times a number, add up to what the block adds to the state that it reads.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tasklens.core.errors import InputError
from tasklens.data.names import BRANCHES
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import holds_float32
from tasklens.models.hf_points import Point, hooked, is_norm, state_in, state_out
from tasklens.models.hf_reader import HuggingFaceReader
from tasklens.models.hf_rows import ALONE, rows_of
from tasklens.models.modes import evaluating, in_float32

#: Largest distance of the sum from the block's output, as a share of the largest state's norm.
TOLERANCE = 1e-5
#: The same in units of the type's rounding, for other types than float32.
ROUNDINGS = 8
#: Smallest change of a state that is more than rounding, as a share of its norm.
CHANGED = 1e-3

States = dict[str, Tensor]


class Branches(NamedTuple):
    """The branches of a model's blocks, as far as they have them."""

    points: dict[str, Point]
    """The origin of each `attnN` and `mlpN`, from the input up."""
    reasons: dict[str, str]
    """The reason for a block without branches, by the block's name."""


class _Output(NamedTuple):
    """Output of a module inside a block, in the shape of the block's state."""

    origin: str
    """Path and class of the module in the block that returns it first."""
    attends: bool
    """Whether a module whose path or class has "att", and which is no norm, has run before."""
    module: nn.Module
    call: int
    state: Tensor  # (B, T, D)
    flat_in: nn.Module | None
    """The block, if the module gives (B * T, D)."""


class _Block(NamedTuple):
    """Input and output of a block in a pass, and the outputs of its modules."""

    x: Tensor  # (B, T, D)
    y: Tensor  # (B, T, D)
    outputs: list[_Output]


class _Branch(NamedTuple):
    """A branch of a block; see `_Output`."""

    point: Point
    origin: str
    attends: bool


def find_branches(reader: HuggingFaceReader) -> Branches:
    """Find the branches of each block in three short passes.

    The first pass finds outputs that add up to the block's. In the second one, all tokens but the
    last are changed before each block: a branch that then changes at the last token mixes tokens,
    or it reads the other branch. In the third one, all tokens but the last are changed in the first
    branch alone. The sum has to hold in all passes. Other types are computed in float32 if the
    memory holds it, since rounding would hide a difference.
    """
    with torch.inference_mode(), evaluating(reader.model):
        if reader.dtype != torch.float32 and holds_float32(reader.model):
            # The model's code may need the type that it has.
            with suppress(RuntimeError, MemoryError, ValueError), in_float32(reader.model):
                return _find(reader)
        return _find(reader)


def _find(reader: HuggingFaceReader) -> Branches:
    blocks = {name: p for name, p in reader.points.items() if name.startswith("block")}
    n_words = reader.model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, 11, device=reader.device).view(2, 5) % n_words
    pairs: dict[str, tuple[_Branch, _Branch]] = {}
    reasons: dict[str, str] = {}
    before = None
    for name, block in _record(reader, blocks, ids).items():
        pair = _fitting(block)
        if before is not None and not torch.equal(before, block.x):
            reasons[name] = f"the state changes between two blocks before {name}"
        elif pair is None:
            reasons[name] = f"{name} is not its input plus two outputs of its modules"
        else:
            pairs[name] = pair
        before = block.y

    points: dict[str, Point] = {}
    for name, (first, second) in pairs.items():
        points[f"{name} input"] = blocks[name]._replace(before=True)
        points |= {f"{name} first": first.point, f"{name} second": second.point}
        points[name] = blocks[name]
    plain = _run(reader, points, ids, {})
    inputs = {f"{name} input": plain[f"{name} input"] for name in pairs}
    moves = {name: _move(plain[f"{name} input"]) for name in pairs}
    moved = {f"{name} input": plain[f"{name} input"] + move for name, move in moves.items()}
    firsts = {f"{name} first": plain[f"{name} first"] + move for name, move in moves.items()}
    passes = [
        plain,
        _run(reader, points, ids, moved),
        _run(reader, points, ids, inputs | firsts),
    ]
    branches: dict[str, Point] = {}
    for name, pair in pairs.items():
        attn, reason = _attention(name, pair, passes)
        if attn is None:
            reasons[name] = reason
            continue
        number = name.removeprefix("block")
        branches[f"attn{number}"] = attn.point
        branches[f"mlp{number}"] = pair[pair[0] is attn].point
    return Branches(branches, reasons)


def _attention(
    name: str, pair: tuple[_Branch, _Branch], passes: list[States]
) -> tuple[_Branch | None, str]:
    """Return which of two branches is the attention, or None with the reason for none."""
    plain, moved, first_moved = passes
    for states in passes:
        parts = [states[f"{name} {part}"] for part in ("input", "first", "second")]
        if distance_of_sum(parts, states[name]) > tolerance(parts[0].dtype):
            return None, f"{name} is not its input plus two outputs of its modules"
    mixers = [
        branch
        for branch, part in zip(pair, ("first", "second"), strict=True)
        if _changes(plain, moved, f"{name} {part}")
    ]
    if len(mixers) == 2 and not _changes(plain, first_moved, f"{name} second"):
        mixers.pop()  # it has only read the first one
    if len(mixers) != 1:
        return None, f"{len(mixers)} parts of {name} mix tokens: should be one"
    if not mixers[0].attends:
        return None, f"{name} mixes tokens by {mixers[0].origin}: should be attention"
    return mixers[0], ""


def _record(
    reader: HuggingFaceReader, blocks: Mapping[str, Point], ids: Tensor
) -> dict[str, _Block]:
    """Return what each block computes in a pass."""
    recorded: dict[str, _Block] = {}
    running: list[tuple[nn.Module, _Block]] = []
    attending: set[str] = set()
    calls: Counter[nn.Module] = Counter()
    names = {(point.module, point.call): name for name, point in blocks.items()}

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        x = state_in(args, kwargs)[1]
        if (module, calls[module]) in names and x is not None:
            running.append((module, _Block(x.cpu().clone(), x, [])))
            attending.clear()

    def end(origin: str, module: nn.Module, output: Any) -> None:
        state, call = state_out(output), calls[module]
        calls[module] += 1
        if not running or state is None:
            return
        if name := names.get((module, call)):
            recorded[name] = running.pop()[1]._replace(y=state.cpu().clone())
            return
        if "att" in origin.lower() and not is_norm(module):
            attending.add(origin)
        reading, (x, _, outputs) = running[-1]
        is_flat = state.shape == (x.shape[0] * x.shape[1], x.shape[2])
        if (state.shape == x.shape or is_flat) and state.is_floating_point():
            kept = state.cpu().clone().view(x.shape)
            flat_in = reading if is_flat else None
            outputs.append(_Output(origin, bool(attending), module, call, kept, flat_in))

    with ExitStack() as hooks:
        for block in {point.module: None for point in blocks.values()}:
            hooks.enter_context(block.register_forward_pre_hook(begin, with_kwargs=True))
            for path, module in block.named_modules():
                origin = f"{path} ({type(module).__name__})"
                ended = functools.partial(end, origin)
                hooks.enter_context(
                    module.register_forward_hook(
                        lambda module, _, output, ended=ended: ended(module, output)
                    )
                )
        reader.forward(ids)
    return recorded


def _fitting(block: _Block) -> tuple[_Branch, _Branch] | None:
    """Return the two outputs, each perhaps times a number, that a block adds to its input.

    Of equal outputs the last one counts, which is the nearest to the sum.
    """
    outputs: list[_Output] = []
    for output in block.outputs:
        same = [torch.equal(each.state, output.state) for each in outputs]
        if any(same):
            output = output._replace(origin=outputs.pop(same.index(True)).origin)
        outputs.append(output)
    x, added = block.x.double(), (block.y.double() - block.x.double()).numpy().ravel()
    states = [output.state.double() for output in outputs]
    limit = tolerance(block.x.dtype)
    for is_scaled in (False, True):
        best, pair = limit, None
        for i, j in combinations(range(len(outputs)), 2):
            scales = np.ones(2)
            if is_scaled:
                both = np.stack([states[i].numpy().ravel(), states[j].numpy().ravel()], axis=1)
                scales = np.linalg.lstsq(both, added, rcond=None)[0]
            a, b = states[i] * scales[0], states[j] * scales[1]
            distance = distance_of_sum([x, a, b], block.y)
            # One output may be enough: then any other one, times nearly 0, would do.
            alone = min(distance_of_sum([x, each], block.y) for each in (a, b))
            if distance < best and (alone > limit or not is_scaled):
                best, pair = (
                    distance,
                    (_branch(outputs[i], scales[0]), _branch(outputs[j], scales[1])),
                )
        if pair is not None:
            return pair
    return None


def _branch(output: _Output, scale: float) -> _Branch:
    width = output.state.shape[-1]
    point = Point(output.module, False, output.call, width, float(scale), output.flat_in)
    return _Branch(point, output.origin, output.attends)


def _run(
    reader: HuggingFaceReader, points: Mapping[str, Point], ids: Tensor, replaced: States
) -> States:
    """Return the states of a pass in which some of them are replaced."""
    states: States = {}

    def on_state(name: str, state: Tensor) -> Tensor | None:
        states[name] = replaced.get(name, state).cpu().clone()
        return replaced[name].to(state) if name in replaced else None

    with hooked(points, on_state):
        reader.forward(ids)
    return states


def _move(state: Tensor) -> Tensor:
    """Return a random change of a state (B, T, D), as long as it is; 0 at the last token."""
    noise = torch.randn(state.shape, generator=torch.Generator().manual_seed(0))
    noise[:, -1] = 0
    size = state.float().norm(dim=-1, keepdim=True) / state.shape[-1] ** 0.5
    move: Tensor = (size * noise).to(state.dtype)
    return move


def _changes(before: States, after: States, name: str) -> bool:
    """Return whether a state changes at the last token."""
    a, b = (states[name][:, -1].double() for states in (before, after))
    return bool((a - b).norm() > CHANGED * a.norm())


def distance_of_sum(parts: Sequence[Tensor], total: Tensor) -> float:
    """Return the largest distance of a sum of states (..., D) from another one.

    It is a share of the largest norm of a state of the same token.
    """
    states = [each.double() for each in (*parts, total)]
    size = torch.stack([state.norm(dim=-1) for state in states]).amax(dim=0)
    distance = (sum(states[:-1]) - states[-1]).norm(dim=-1)
    return float((distance / size.clamp(min=1e-30)).max())


def tolerance(dtype: torch.dtype) -> float:
    """Return the largest `distance_of_sum` that is rounding."""
    return TOLERANCE if dtype == torch.float32 else ROUNDINGS * torch.finfo(dtype).eps


def check_sums(reader: HuggingFaceReader, prompts: Prompts, names: Sequence[str]) -> None:
    """Raise InputError if the branches do not add up for the shortest or the longest prompt.

    Only the blocks are checked of which one of the names is a branch.
    """
    order = list(reader.points)
    numbers = {name[len(kind) :] for name in names for kind in BRANCHES if name.startswith(kind)}
    blocks = [name for name in order if name.startswith("block")]
    sums = {
        block: [before, f"attn{n}", f"mlp{n}", block]
        for before, block in zip(["embed", *blocks], blocks, strict=False)
        if (n := block.removeprefix("block")) in numbers
    }
    if not sums or not len(prompts):
        return
    rows = rows_of(ALONE, reader, prompts)
    wanted = list(dict.fromkeys(name for each in sums.values() for name in each))
    for row in {0, len(rows.lengths) - 1}:
        with evaluating(reader.model):
            batch = rows.read(np.array([row]), wanted)
        at_all = {n: np.stack([b.states[n] for b in (batch, *batch.also)]) for n in wanted}
        for block, each in sums.items():
            *parts, total = (torch.from_numpy(at_all[name]) for name in each)
            distance = distance_of_sum(parts, total)
            if not distance <= tolerance(reader.dtype):
                raise InputError(
                    f"{reader.kind}: for a prompt of {rows.lengths[row]} tokens, "
                    f"{' + '.join(each[:-1])} differs from {block} by {distance:.1e} of the "
                    f"largest: should be at most {tolerance(reader.dtype):.0e}"
                )
