"""Decide whether prompts are read as trees, in which shared prefixes occur once."""

import functools

import numpy as np
import torch

from tasklens.core.errors import first_line
from tasklens.core.progress import inform
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import is_out_of_memory
from tasklens.models.hf_reader import HuggingFaceReader, Ints
from tasklens.models.prefix_trees import Trees, token_trees

#: Trees are used if they have at most this share of the prompts' tokens.
WORTH_SHARING = 0.7
#: Number of prompts of a row whose states are compared with those of the prompts read one by one.
CHECKED = 16
#: Largest distance between the two states, as a share of the state's norm.
TOLERANCE = 1e-4


def shared_trees(reader: HuggingFaceReader, prompts: Prompts, max_tokens: int) -> Trees | None:
    """Return the prompts as trees if that saves work and changes no state, otherwise None.

    A token of a tree attends to its ancestors only, at the position that it has in its prompt. Some
    models compute positions or attention in another way: by ALiBi, by recurrence, or in a window
    shorter than the longest prompt. Their states would change, so two rows are tried: that of the
    longest prompt, and that with most prompts. If a model fails, a line on standard error reports
    it. Only fp32 is tried, because rounding would hide differences in other types.
    """
    if prompts.begin is not None or reader.dtype != torch.float32 or len(prompts) == 0:
        return None
    trees = token_trees(prompts)
    n_tokens = int((prompts.position + 1).sum())
    if trees.ids.size > WORTH_SHARING * n_tokens or trees.ids.shape[1] > max_tokens:
        return None
    refusal = "" if reader.takes_positions else "does not take the positions of tokens"
    longest = int(prompts.position.argmax())
    for row in {int(trees.row[longest]), int(np.bincount(trees.row).argmax())}:
        indices = np.flatnonzero(trees.row == row)
        indices = np.union1d(indices[:CHECKED], indices[indices == longest])
        refusal = refusal or _refusal(reader, prompts, trees, slice(row, row + 1), indices)
    if refusal:
        print_once(f"prompts are read one by one: {reader.kind} {refusal}")
        return None
    return trees


def _refusal(
    reader: HuggingFaceReader, prompts: Prompts, trees: Trees, row: slice, indices: Ints
) -> str:
    """Return why a row changes the states of its prompts, or "" if it does not.

    An error of the model's own code is a reason. An error of tasklens is raised.
    """
    name, inputs = reader.names[-1], reader.tree_inputs(trees, row)
    try:
        try:
            with torch.inference_mode():
                reader.forward(**inputs)  # no hook is set, so only the model's code runs
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {first_line(error)}"
            return f"does not accept a 4-D attention mask ({reason})"
        batch = reader.read_trees(trees, row, [name])
        plain = reader.read_rows(prompts, indices, [name]).states[name]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return "does not fit into memory with a 4-D attention mask"
    shared = batch.states[name][np.searchsorted(batch.indices, indices)]
    distance = np.linalg.norm(shared - plain, axis=1)
    if (distance <= TOLERANCE * np.linalg.norm(plain, axis=1)).all():
        return ""
    return "gives other states under a 4-D attention mask"


@functools.cache
def print_once(line: str) -> None:
    """Print a line on standard error once per process, not for each checkpoint of a series."""
    inform(line)
