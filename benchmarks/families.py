"""Survey the causal model types of transformers: is each measured rightly, or refused in one line?

Each type is made tiny and random. The hidden states of prompts of many lengths are compared with
those that hooks on its blocks read from one prompt at a time. The blocks and the final norm of this
comparison are known by their names, and tasklens does not use names.
"""

import argparse
import multiprocessing
import os
import re
import resource
import sys
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
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from tasklens.core.errors import InputError, first_line
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_subject import HuggingFaceSubject

#: Largest distance of two states, as a share of the state's norm.
TOLERANCE = 1e-4
SECONDS, GIBIBYTES = 120, 8
#: Names of the list of blocks, and of the norm beside it.
BLOCKS = re.compile(r"(.*\.)?(layers?|h|blocks?)")
NORM = re.compile(r"norm|^ln_", re.IGNORECASE)
EQUAL, REFUSED, NOT_MADE = "equal", "refused", "not made"


class Outcome(NamedTuple):
    """What came of a type: one word, and the reason or the fault."""

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
    return max(sizes, key=lambda path: (sizes[path], -len(path)))


@torch.inference_mode()
def states_by_hooks(model: Any, ids: Tensor) -> tuple[dict[str, Tensor], Any]:
    """Return the states (T, D) of one prompt (1, T) by name, and what the model returns."""
    path = blocks_by_name(model)
    blocks = model.get_submodule(path)
    states: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            if name not in states and (name != "ln_f" or f"block{len(blocks)}" in states):
                states[name] = (output if torch.is_tensor(output) else output[0])[0].clone()

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
    """Return what differs from one prompt at a time, or ""; raise what the model or tasklens raises."""
    rng = np.random.default_rng(0)
    subject = HuggingFaceSubject(model)
    n_blocks = len(model.get_submodule(blocks_by_name(model)))
    if sum(name.startswith("block") for name in subject.names) != n_blocks:
        return f"{subject.names} of {n_blocks} blocks"
    for alike in (False, True):
        asked = prompts(rng, alike)
        got = subject.harvest(asked, subject.names)
        for i, (ids, position) in enumerate(zip(asked.ids, asked.position, strict=True)):
            states, out = states_by_hooks(model, torch.from_numpy(ids[: position + 1])[None])
            for name in subject.names:
                alone = states[name][-1].float().numpy()
                distance = np.linalg.norm(got.states[name][i] - alone) / np.linalg.norm(alone)
                if not distance <= TOLERANCE:
                    return f"{name} of a prompt of {position + 1} tokens differs by {distance:.1e}"
            if got.answer[i] != out.logits[0, -1].argmax():
                return f"the answer to a prompt of {position + 1} tokens differs"
            own = getattr(out, "hidden_states", None)
            if own is not None and len(own) == n_blocks + 1:
                last = [states[name] for name in ("ln_f", f"block{n_blocks}") if name in states]
                ours = [state for state in last if state.shape == own[-1][0].shape]
                if not any(torch.allclose(own[-1][0], state, atol=1e-3) for state in ours):
                    return "the last of the model's own states is another one"
    return ""


def survey_one(kind: type, answer: Connection) -> None:
    """Send what comes of a type."""
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES << 30,) * 2)
    name = kind.model_type  # type: ignore[attr-defined]
    try:
        model = make_model(tiny_config(kind))
    except Exception as error:
        answer.send(Outcome(name, NOT_MADE, f"{type(error).__name__}: {brief(error)}"))
        return
    try:
        differs = fault(model)
        answer.send(Outcome(name, "differs" if differs else EQUAL, differs))
    except InputError as error:
        answer.send(Outcome(name, REFUSED, str(error)))
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__}: {brief(error)} ({Path(at.filename).name}:{at.lineno})"
        answer.send(Outcome(name, "traceback", line))


def brief(error: BaseException) -> str:
    """Return the most telling line of an error of transformers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("ValueError:")), first_line(error))


def survey(kinds: list[type]) -> list[Outcome]:
    """Return what comes of each type, each in a process of its own."""
    outcomes = []
    fork = multiprocessing.get_context("fork")  # which imports transformers once
    for kind in kinds:
        name = kind.model_type  # type: ignore[attr-defined]
        ours, theirs = fork.Pipe()
        process, begin = fork.Process(target=survey_one, args=(kind, theirs)), time.time()
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


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", action="append", help="a type; can be given several times")
    options.add_argument("--write", type=Path, help="page whose table is replaced")
    asked = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    kinds = [*MODEL_FOR_CAUSAL_LM_MAPPING.keys()]
    outcomes = survey([k for k in kinds if not asked.only or k.model_type in asked.only])
    sys.exit(any(o.outcome not in (EQUAL, REFUSED, NOT_MADE) for o in outcomes))
