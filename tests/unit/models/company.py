"""Make models whose states of a prompt may depend on the rows beside it, or on what they read."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.families import CONTEXT, LLAMA, VOCABULARY, Floats, config_of, model_of
from tasklens.data.token_prompts import Prompts

#: Length from which on the scaled positions differ.
ORIGINAL = 16
LONGROPE = {
    **{"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": ORIGINAL},
    **{"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 2.0},
}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
TOKENS_OF_PHI = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MSCALE = {"short_mscale": 1.0, "long_mscale": 1.5}
PHI = {**LLAMA, **TOKENS_OF_PHI, "rope_parameters": LONGROPE}
PHI3 = {**PHI, "original_max_position_embeddings": ORIGINAL}
EXPERTS = {**LLAMA, "moe_intermediate_size": 16, "num_experts_per_tok": 2}


def of_config(name: str, settings: dict[str, Any]) -> Callable[[], Any]:
    import transformers

    return lambda: model_of(getattr(transformers, name)(**settings))


class Wrapped(nn.Module):
    """A part of a model, the output of which a function changes."""

    def __init__(self, part: nn.Module, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.part, self.change = part, change

    def forward(self, state: Tensor) -> Tensor:
        return self.change(self, self.part(state))


def wrapped(change: Callable[[Any, Tensor], Tensor], **remembered: Any) -> Callable[[], Any]:
    """Return a function that makes a Llama, the MLPs of which are changed.

    What an MLP remembers is an attribute, and a tensor is a buffer.
    """

    def make() -> Any:
        model = model_of(config_of("llama"))
        for layer in model.model.layers:
            layer.mlp = Wrapped(layer.mlp, change)
            for name, value in remembered.items():
                if isinstance(value, Tensor):
                    layer.mlp.register_buffer(name, value.clone())
                else:
                    setattr(layer.mlp, name, copy.copy(value))
        return model

    return make


def within_capacity(_: nn.Module, state: Tensor) -> Tensor:
    """Give nothing to the tokens of an expert beyond its capacity; the sign chooses the expert."""
    flat = state.flatten(0, 1)  # (B * T, D)
    expert = flat[:, 0] > 0
    rank = torch.where(expert, expert.cumsum(0), (~expert).cumsum(0))
    kept = rank <= max(4, len(flat) // 2)
    return (flat * kept[:, None]).view_as(state)


def scaled_by_all(_: nn.Module, state: Tensor) -> Tensor:
    """Round to 8 bits, on a scale that the largest number of the pass decides."""
    scale = state.abs().max() / 127
    return (state / scale).round() * scale


def centred(_: nn.Module, state: Tensor) -> Tensor:
    """Subtract the mean over all tokens of the pass."""
    return state - state.mean(dim=(0, 1))


def grown(module: Any, state: Tensor) -> Any:
    """Scale by the longest row so far, of which a number and a buffer are kept."""
    module.longest = max(module.longest, state.shape[1])
    module.buffer.clamp_(min=float(state.shape[1]))
    return state * (1 + module.longest / 16) + module.buffer / 16


def counted(module: Any, state: Tensor) -> Any:
    """Shift by the number of calls, which a list keeps."""
    module.calls.append(1)
    return state + 0.1 * len(module.calls)


def at_random(_: nn.Module, state: Tensor) -> Tensor:
    return state + 0.1 * torch.randn_like(state)


def mixed(longest: int = CONTEXT - 1) -> Prompts:
    """Return prompts of lengths from 2 to 12 tokens, and one longer one."""
    rng = np.random.default_rng(5)
    position = np.append(rng.integers(1, 12, size=24), longest - 1)
    position[7], position[-1] = position[-1], position[7]
    return Prompts(rng.integers(VOCABULARY, size=(len(position), CONTEXT)), position)


@torch.inference_mode()
def states_alone(make: Callable[[], Any], prompts: Prompts, dtype: str = "float32") -> Floats:
    """Return the state after the final norm (N, D) that a new model has of each prompt."""
    new = make().to(getattr(torch, dtype))
    states = []
    for ids, position in zip(prompts.ids, prompts.position, strict=True):
        row = torch.from_numpy(ids[: position + 1])[None]
        hidden = copy.deepcopy(new)(row, output_hidden_states=True, use_cache=False).hidden_states
        states.append(hidden[-1][0, -1].float().numpy())
    return np.stack(states)
