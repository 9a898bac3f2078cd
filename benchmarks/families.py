"""Survey the causal model types of transformers: each is measured rightly or refused in one line.

Each type is made tiny and random. The hidden states of prompts of many lengths are compared with
those that hooks on its blocks read from one prompt at a time. The blocks and the final norm of this
comparison are known by their names, and tasklens does not use names.
"""

import argparse
import contextlib
import multiprocessing
import os
import re
import resource
import sys
import textwrap
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import torch
import transformers
from family_models import CONTEXT, VOCABULARY, make_model, tiny_config
from torch import Tensor
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tasklens.core.errors import InputError, first_line
from tasklens.data.edited_prompts import EditedPrompts, Floats
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_editor import HuggingFaceEditor
from tasklens.models.hf_subject import HuggingFaceSubject

#: Largest distance of two states, as a share of the state's norm.
TOLERANCE = 1e-4
SECONDS, GIBIBYTES = 300, 8
#: Names of the list of blocks, and of the norm beside it.
BLOCKS = re.compile(r"(.*\.)?(layers?|h|blocks?)")
NORM = re.compile(r"norm|^ln(_|$)", re.IGNORECASE)
BEGIN = "<!-- begin of the table of benchmarks/families.py -->"
END = "<!-- end of the table of benchmarks/families.py -->"
BRANCHES_BEGIN = "<!-- begin of the branches of benchmarks/families.py -->"
BRANCHES_END = "<!-- end of the branches of benchmarks/families.py -->"
EQUAL, REFUSED, NOT_MADE = "equal", "refused", "not made"
#: With --branches: the blocks that have attnN and mlpN.
ALL_BLOCKS, SOME_BLOCKS, NO_BLOCK = "all blocks", "some blocks", "none"
#: Largest distance of a sum of states from another one, as a share of the largest norm.
SUM_TOLERANCE = 1e-5


class Outcome(NamedTuple):
    """Outcome of a type: one word, and the reason or the fault."""

    type: str
    outcome: str
    line: str


def prompts(rng: np.random.Generator, alike: bool) -> Prompts:
    """Return twelve prompts of 2 to 32 tokens, which begin alike or not; no token is special."""
    position = np.array([31, 3, 8, 17, 3, 29, 11, 1, 30, 24, 28, 5])
    ids = rng.integers(4, VOCABULARY - 4, size=(len(position), CONTEXT // 2))
    if alike:
        ids[:, :26] = ids[0, :26]
    return Prompts(ids, position)


def blocks_by_name(model: Any) -> str:
    """Return the path of the list of blocks: of those with a usual name, the one of most weights.

    The outermost of two that are inside each other counts.
    """
    sizes = {
        path: sum(parameter.numel() for parameter in module.parameters())
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList)
        and BLOCKS.fullmatch(path)
        and not re.search("vision|visual|image|audio", path)
    }
    return str(max(sizes, key=lambda path: (sizes[path], -len(path))))


@torch.inference_mode()
def states_by_hooks(model: Any, ids: Tensor) -> tuple[dict[str, Tensor], Any]:
    """Return the states (T, D) of one prompt (1, T) by name, and what the model returns."""
    path = blocks_by_name(model)
    blocks = model.get_submodule(path)
    states: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            state = (output if torch.is_tensor(output) else output[0])[0].clone()
            if name.startswith("block"):
                states.pop("ln_f", None)  # of a norm before this block
            states.setdefault(name, state)

        return hook

    def keep_input(_: Any, args: Any, kwargs: Any) -> None:
        states["embed"] = (args[0] if args else kwargs["hidden_states"])[0].clone()

    hooks = [blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True)]
    named = {f"block{i}": block for i, block in enumerate(blocks, 1)}
    named["wte"] = model.get_input_embeddings()
    hooks += [module.register_forward_hook(keep(name)) for name, module in named.items()]
    for parent in (path.rpartition(".")[0], path.split(".")[0]):  # beside the blocks, or above
        for name, module in model.get_submodule(parent).named_children():
            if NORM.search(name):
                hooks.append(module.register_forward_hook(keep("ln_f")))
    out = model(ids, output_hidden_states=True, use_cache=False)
    for hook in hooks:
        hook.remove()
    return states, out


def fault(model: Any) -> str:
    """Return what differs from one prompt at a time, or ""; raise what the model raises."""
    subject = HuggingFaceSubject(model)
    rng = np.random.default_rng(0)
    for alike in (False, True):
        asked = prompts(rng, alike)
        got = subject.harvest(asked, subject.names)
        for i, (ids, position) in enumerate(zip(asked.ids, asked.position, strict=True)):
            states, out = states_by_hooks(model, torch.from_numpy(ids[: position + 1])[None])
            missing = {*states} - {*subject.names, "wte", "ln_f"}
            if missing:
                return ", ".join(missing)
            for name in subject.names:
                if not is_near(got.states[name][i], states[name][-1].float().numpy()):
                    return f"{name} of a prompt of {position + 1} tokens"
            if got.answer[i] != out.logits[0, -1].argmax():
                return f"the answer to a prompt of {position + 1} tokens"
            own = getattr(out, "hidden_states", None)
            last = [states[name][-1].numpy() for name in subject.names[-2:]]
            if own is not None and own[-1].shape[-1] == last[-1].shape[-1]:
                final = own[-1][0, -1].numpy()
                if not any(is_near(state, final) for state in last):
                    return "the last of the model's own states"
    return fault_of_edits(model, subject, asked) or fault_of_long(subject, rng)


def is_near(got: Floats, expected: Floats) -> bool:
    """Return whether a vector is another one but for rounding."""
    if got.shape != expected.shape:
        return False
    return bool(np.linalg.norm(got - expected) <= TOLERANCE * np.linalg.norm(expected))


def fault_of_edits(model: Any, subject: HuggingFaceSubject, asked: Prompts) -> str:
    """Return for which state an edit of a block gives other likelihoods than a hook, or ""."""
    edited = EditedPrompts(asked.ids, asked.position, asked.position, asked.position)
    tokens = np.arange(VOCABULARY)[:, None]
    editor = HuggingFaceEditor(subject, edited, tokens)
    row, candidates = np.arange(3), np.tile(np.arange(VOCABULARY), (3, 1))
    for i, block in enumerate(model.get_submodule(blocks_by_name(model)), 1):
        if f"block{i}" not in subject.names:
            continue
        moves = np.random.default_rng(i).normal(size=(3, subject.widths[f"block{i}"]))
        change = moves.astype(np.float32)
        got = editor.answer(f"block{i}", row, change, candidates)
        for j in row.tolist():
            ids = torch.from_numpy(asked.ids[j : j + 1, : asked.position[j] + 1])

            def move(_: Any, __: Any, output: Any, j: int = j, change: Any = change) -> Any:
                state = (output if torch.is_tensor(output) else output[0]).clone()
                state[0, -1] += torch.from_numpy(change[j])
                return state if torch.is_tensor(output) else (state, *output[1:])

            with torch.inference_mode(), block.register_forward_hook(move):
                logits = model(ids, use_cache=False).logits[0, -1]
            if not np.allclose(got.likelihood[j], logits.log_softmax(dim=-1), atol=1e-3):
                return f"an edit of block{i}"
    return ""


def fault_of_long(subject: HuggingFaceSubject, rng: np.random.Generator) -> str:
    """Read a prompt longer than the context; raise what is no refusal."""
    ids = rng.integers(4, VOCABULARY - 4, size=(1, 2 * CONTEXT))
    with contextlib.suppress(InputError):
        got = subject.harvest(Prompts(ids, np.array([2 * CONTEXT - 1])), subject.names)
        if not all(np.isfinite(state).all() for state in got.states.values()):
            return "a prompt longer than the context"
    return ""


def branches(model: Any) -> Outcome:
    """Return for which blocks the state before, attnN and mlpN add up to the state after it.

    The numbers of the residual multiplier are not those of the default configuration, so that each
    type that has one multiplies.
    """
    subject = HuggingFaceSubject(model)
    blocks = [name for name in subject.names if name.startswith("block")]
    try:
        named = subject.branches
    except InputError as error:
        return Outcome("", NO_BLOCK, str(error).rpartition(": has no states attnN and mlpN: ")[2])
    asked = prompts(np.random.default_rng(0), alike=False)
    asked = Prompts(asked.ids[:4], asked.position[:4])  # which are enough for a sum
    states = subject.harvest(asked, [*subject.names, *named]).states
    summed = []
    for before, block in zip(["embed", *blocks], blocks, strict=False):
        number = block.removeprefix("block")
        if f"attn{number}" in named:
            parts = [states[name] for name in (before, f"attn{number}", f"mlp{number}")]
            size = np.max([np.linalg.norm(x, axis=1) for x in (*parts, states[block])], axis=0)
            distance = np.linalg.norm(sum(parts) - states[block], axis=1)
            if not (distance <= SUM_TOLERANCE * size).all():
                return Outcome("", "differs", f"{block} is not the sum")
            summed.append(block)
    line = "" if len(summed) == len(blocks) else f"{len(summed)} of {len(blocks)}"
    return Outcome("", SOME_BLOCKS if line else ALL_BLOCKS, line)


def survey_one(name: str, kind: type, answer: Connection, only_branches: bool = False) -> None:
    """Send what comes of a type."""
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES << 30,) * 2)
    try:
        config = tiny_config(kind)
        if only_branches and hasattr(config, "residual_multiplier"):
            config.residual_multiplier = 0.3
        model = make_model(config)
    except Exception as error:
        answer.send(Outcome(name, NOT_MADE, f"{type(error).__name__}: {brief(error)}"))
        return
    try:
        if only_branches:
            answer.send(branches(model)._replace(type=name))
            return
        differs = fault(model)
        line = f"{differs} differs" if differs else ""
        answer.send(Outcome(name, "differs" if differs else EQUAL, line))
    except InputError as error:
        answer.send(Outcome(name, REFUSED, str(error)))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__}: {brief(error)} ({Path(at.filename).name}:{at.lineno})"
        answer.send(Outcome(name, "traceback", line))


def brief(error: BaseException) -> str:
    """Return the most telling line of an error of transformers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line for line in lines if line.startswith("ValueError:")), first_line(error))
    return line.removesuffix(" You can install it with pip:").replace("|", "/")


def survey(kinds: dict[str, type], *, only_branches: bool = False) -> list[Outcome]:
    """Return what comes of each type, each in a process of its own."""
    outcomes = []
    fork = multiprocessing.get_context("fork")  # which imports transformers once
    for name, kind in kinds.items():
        ours, theirs = fork.Pipe()
        arguments = (name, kind, theirs, only_branches)
        process, begin = fork.Process(target=survey_one, args=arguments), time.time()
        process.start()
        theirs.close()
        outcome = Outcome(name, "hung", f"for {SECONDS} s")
        if ours.poll(SECONDS):
            try:
                outcome = ours.recv()
            except EOFError:
                outcome = Outcome(name, "crashed", "")
        process.kill()
        process.join()
        print(f"{name:26} {time.time() - begin:5.1f} s  {': '.join(outcome[1:])}", flush=True)
        outcomes.append(outcome)
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Return what came of the types, as Markdown."""
    by_outcome: dict[str, list[Outcome]] = {}
    for each in outcomes:
        by_outcome.setdefault(each.outcome, []).append(each)
    equal = by_outcome.pop(EQUAL, [])
    rest = ", ".join(f"{len(each)} {outcome}" for outcome, each in by_outcome.items())
    lines = [
        f"With transformers {transformers.__version__} and torch {torch.__version__}, of "
        f"{len(outcomes)} types {len(equal)} are equal, {rest}. Equal are:",
        "",
        *textwrap.wrap(
            ", ".join(f"`{each.type}`" for each in equal) + ".", 118, break_on_hyphens=False
        ),
        "",
        "| type | | reason |",
        "|---|---|---|",
    ]
    for others in by_outcome.values():
        lines += [f"| `{name}` | {outcome} | {line} |" for name, outcome, line in others]
    return "\n".join(lines)


def branches_text(outcomes: list[Outcome]) -> str:
    """Return for which types the branches add up, as Markdown."""
    kinds: dict[str, list[Outcome]] = {}
    for each in outcomes:
        kinds.setdefault(each.outcome, []).append(each)
    measured = [each for each in outcomes if each.outcome not in (REFUSED, NOT_MADE)]
    some, none = kinds.get(SOME_BLOCKS, []), kinds.get(NO_BLOCK, [])
    text = (
        f"Of {len(measured)} types that are measured, {len(kinds.get(ALL_BLOCKS, []))} have "
        f"`attnN` and `mlpN` in all blocks, and the sum holds to 1e-5. Some blocks "
        f"have them in {', '.join(f'`{each.type}` ({each.line})' for each in some)}. No block "
        f"has them in {', '.join(f'`{each.type}`' for each in none)}."
    )
    return "\n".join(textwrap.wrap(text, 118, break_on_hyphens=False))


def write(page: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace the part of a page between two marks."""
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", action="append", help="a type; can be given several times")
    options.add_argument("--write", type=Path, help="page that gets the table of all types")
    options.add_argument(
        "--branches", action="store_true", help="only whether attnN and mlpN add up to the blocks"
    )
    asked = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    types = asked.only or [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    kinds = {name: CONFIG_MAPPING[name] for name in types}
    outcomes = survey(kinds, only_branches=asked.branches)
    if asked.write and not asked.only and asked.branches:
        write(asked.write, branches_text(outcomes), BRANCHES_BEGIN, BRANCHES_END)
    elif asked.write and not asked.only:
        write(asked.write, table(outcomes))
    expected = (EQUAL, REFUSED, NOT_MADE, ALL_BLOCKS, SOME_BLOCKS, NO_BLOCK)
    sys.exit(any(each.outcome not in expected for each in outcomes))
