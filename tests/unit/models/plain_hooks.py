"""Edit the hidden states of a model of transformers by plain forward hooks, one prompt at a time.

It is the witness of the Editors and shares no code with them.
"""

from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tasklens.data.edited_prompts import Edited, EditedPrompts, Floats, Ints


class Origin(NamedTuple):
    """Module whose output, or first input, is the hidden state."""

    module: Any
    is_input: bool = False


def origins_of(model: Any, blocks: str, norm: str) -> dict[str, Origin]:
    """Return the origin of each hidden state, from the paths of the blocks and the final norm."""
    layers = model.get_submodule(blocks)
    return {
        "wte": Origin(model.get_input_embeddings()),
        "embed": Origin(layers[0], is_input=True),
        **{f"block{i}": Origin(layer) for i, layer in enumerate(layers, 1)},
        "ln_f": Origin(model.get_submodule(norm)),
    }


@torch.inference_mode()
def edited_logits(
    model: Any, moves: list[tuple[Origin, Floats]], ids: Ints, begin: int, end: int
) -> torch.Tensor:
    """Return the logits (T, V) of one row (T,) with states changed at some of its tokens."""
    with ExitStack() as hooks:
        for origin, change in moves:

            def changed(state: torch.Tensor, change: Floats = change) -> torch.Tensor:
                state = state.clone()
                row = state[0] if state.ndim == 3 else state  # of a module without the axis
                row[begin : end + 1] += torch.from_numpy(change)
                return state

            def change_input(_: Any, args: Any, kwargs: Any, changed: Any = changed) -> Any:
                if args:
                    return (changed(args[0]), *args[1:]), kwargs
                return args, kwargs | {"hidden_states": changed(kwargs["hidden_states"])}

            def change_output(_: Any, __: Any, output: Any, changed: Any = changed) -> Any:
                if torch.is_tensor(output):
                    return changed(output)
                return (changed(output[0]), *output[1:])

            if origin.is_input:
                hook = origin.module.register_forward_pre_hook(change_input, with_kwargs=True)
            else:
                hook = origin.module.register_forward_hook(change_output)
            hooks.enter_context(hook)
        return model(torch.from_numpy(ids)[None], use_cache=False).logits[0]  # type: ignore[no-any-return]


def plain_answers(
    model: Any,
    origins: list[Origin],
    prompts: EditedPrompts,
    tokens: Ints,
    row: Ints,
    change: Floats,
    candidates: Ints,
) -> Edited:
    """Return the answers to each edit of a state, or of several, one row at a time."""
    answer = []
    likelihood = np.full(candidates.shape, np.nan, dtype=np.float32)
    for m, (i, change_of_row) in enumerate(zip(row.tolist(), change, strict=True)):
        read, begin, end = int(prompts.read[i]), int(prompts.begin[i]), int(prompts.end[i])
        prompt = prompts.ids[i, : read + 1]
        moves = list(zip(origins, change_of_row.reshape(len(origins), -1), strict=True))
        logits = edited_logits(model, moves, prompt, begin, end)
        for c, k in enumerate(candidates[m].tolist()):
            if k < 0:
                continue
            wanted = tokens[k][tokens[k] >= 0]
            if len(wanted) > 1:
                more = np.concatenate([prompt, wanted[:-1]])
                logits = edited_logits(model, moves, more, begin, end)
            chance = logits[read:].log_softmax(dim=-1)
            likelihood[m, c] = sum(float(chance[j, t]) for j, t in enumerate(wanted.tolist()))
        if tokens.shape[1] == 1:
            (match,) = np.nonzero(tokens[:, 0] == int(logits[read].argmax()))
            answer.append(int(match[0]) if len(match) else -1)
        elif (candidates[m] >= 0).any():
            answer.append(int(candidates[m][np.nanargmax(likelihood[m])]))
        else:
            answer.append(-1)
    return Edited(np.array(answer), likelihood)


def assert_equal_answers(got: Edited, expected: Edited) -> None:
    """Compare the answers, and the log-likelihoods within 1e-4."""
    assert np.array_equal(got.answer, expected.answer)
    assert got.likelihood.dtype == np.float32
    np.testing.assert_allclose(got.likelihood, expected.likelihood, rtol=0, atol=1e-4)


def some_edits(
    rng: np.random.Generator, n: int, width: int, n_answers: int, n_edits: int = 40
) -> tuple[Ints, Floats, Ints]:
    """Return rows, changes as long as a state, and candidates of which some are missing."""
    candidates = rng.integers(-1, n_answers, size=(n_edits, 3))
    change = rng.normal(size=(n_edits, width)).astype(np.float32)
    return rng.integers(n, size=n_edits), change, candidates


def spans(kind: str, read: NDArray[np.int64]) -> tuple[Ints, Ints]:
    """Return the first and the last edited token for prompts whose last token is ``read``."""
    if kind == "last":
        return read, read
    if kind == "earlier":
        return np.maximum(read - 1, 0), np.maximum(read - 1, 0)
    return np.minimum(read, np.arange(len(read)) % 3), np.maximum(read - 1, read.clip(max=2))
