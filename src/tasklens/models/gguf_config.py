"""Make the configuration of transformers from what a GGUF file states about its model."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra
from tasklens.core.text import visible
from tasklens.models.foreign_calls import one_line_errors, quiet
from tasklens.models.gguf_header import GgufHeader

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
#: Tensor of the factors by which Llama 3.1 divides the frequencies of its rotary positions.
ROPE_FACTORS = "rope_freqs.weight"

_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
#: Names of the values of a Llama, and of all that derive from it, in transformers.
_LLAMA = {
    **_SIZES,
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
_GEMMA = {**_LLAMA, "attention.sliding_window": "sliding_window"}
_CAPS = {name: name for name in ("attn_logit_softcapping", "final_logit_softcapping")}
_GPT2 = {
    **_SIZES,
    "context_length": "n_positions",
    "feed_forward_length": "n_inner",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
#: Values that are compared with others, or turned into several of transformers.
_FURTHER = (
    *("rope.dimension_count", "rope.scaling.type", "rope.scaling.factor"),
    *("rope.scaling.original_context_length", "attention.value_length", "vocab_size"),
)
#: A block of any of these has more tensors.
_LEAST_TENSORS = 8
#: Values that change no hidden state.
_WITHOUT_EFFECT = ("tensor_data_layout", "rope.scaling.finetuned")
#: Values that a file may lack, because llama.cpp has the same default as `config_values`.
_OPTIONAL = ("head_dim", "num_key_value_heads", "rope_theta", *_CAPS)


class Architecture(NamedTuple):
    """Meaning of llama.cpp's name of a kind of models, in transformers."""

    model_type: str
    names: Mapping[str, str]
    """What transformers calls the values that a file states; others are refused."""


ARCHITECTURES = {
    "gemma": Architecture("gemma", _LLAMA),
    "gemma2": Architecture("gemma2", {**_GEMMA, **_CAPS}),
    "gemma3": Architecture("gemma3_text", _GEMMA),
    "gpt2": Architecture("gpt2", _GPT2),
    "llama": Architecture("llama", _LLAMA),
    "qwen2": Architecture("qwen2", _LLAMA),
    "qwen3": Architecture("qwen3", _LLAMA),
}


def gguf_config(header: GgufHeader) -> Any:
    """Return the configuration of the model in a GGUF file.

    InputError if its architecture is not read, or if it states a value that would be lost.
    """
    architecture = header.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"{header.path}: models of the architecture {_short(architecture)} are not read from "
            f"GGUF files, only {', '.join(ARCHITECTURES)}; give the model in Hugging Face's format"
        )
    known = ARCHITECTURES[architecture]
    values = _values(header, architecture, known)
    with quiet(), one_line_errors(header.path):
        return import_extra("transformers").AutoConfig.for_model(known.model_type, **values)


def _values(header: GgufHeader, architecture: str, known: Architecture) -> dict[str, Any]:
    begin = f"{architecture}."
    stated = {
        key.removeprefix(begin): _same_in_all_blocks(value)
        for key, value in header.metadata.items()
        if key.startswith(begin)
    }
    for key, value in stated.items():
        without_effect = key in _WITHOUT_EFFECT or (key.startswith("expert") and value == 0)
        if key not in known.names and key not in _FURTHER and not without_effect:
            raise _lost(header, f"{begin}{key}", value)
    values = {name: stated[key] for key, name in known.names.items() if key in stated}
    for key, name in known.names.items():
        if name not in values and name not in _OPTIONAL:
            raise InputError(f"{header.path}: its metadata have no {begin}{key}")
        value = values.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**40:
            raise InputError(
                f"{header.path}: {begin}{key} = {_short(value)}: should be a number above 0"
            )
    values = {name: _decimal(value) for name, value in values.items()}
    _check_sizes(header, values)
    width = values["hidden_size"] // values["num_attention_heads"]
    if "attention.head_count_kv" in known.names:
        values = {
            # Some files of Llamas with heads of another width state it only for the positions.
            "head_dim": stated.get("rope.dimension_count", width),
            "num_key_value_heads": values["num_attention_heads"],
            "rope_theta": 10000.0,
            **values,
        }
        width = values["head_dim"]
        values["rope_scaling"] = _rope_scaling(header, stated, begin)
    for key in ("rope.dimension_count", "attention.value_length"):
        if stated.get(key, width) != width:
            raise _lost(header, f"{begin}{key}", stated[key])
    if architecture in ("gemma2", "gemma3"):
        # The largest models scale attention by another width; llama.cpp knows them by their depth.
        largest = values["num_hidden_layers"] == {"gemma2": 46, "gemma3": 62}[architecture]
        full_width = values["hidden_size"] // values["num_attention_heads"]
        values["query_pre_attn_scalar"] = full_width if largest else width
    if architecture == "llama":
        values["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
        values["mlp_bias"] = "blk.0.ffn_up.bias" in header.tensors
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return {
        **values,
        **special,
        "vocab_size": header.tensors[EMBEDDING].shape[0],
        "tie_word_embeddings": HEAD not in header.tensors,
    }


def _decimal(value: Any) -> Any:
    """Return the shortest decimal of a number that was stored with 32 bits: 1e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _same_in_all_blocks(value: Any) -> Any:
    """Return a value that is listed for each block, if it is the same in all."""
    is_same = isinstance(value, list) and value and value.count(value[0]) == len(value)
    return value[0] if is_same else value


def _check_sizes(header: GgufHeader, values: dict[str, Any]) -> None:
    """Raise InputError for sizes that are not those of the tensors, before a model is made."""
    embedding = header.tensors.get(EMBEDDING)
    if embedding is None or len(embedding.shape) != 2:
        raise InputError(f"{header.path}: has no word embedding, {EMBEDDING}")
    if embedding.shape[1] != values["hidden_size"]:
        raise InputError(
            f"{header.path}: its embedding_length is {values['hidden_size']}, but {EMBEDDING} has "
            f"the shape {embedding.shape}"
        )
    n_blocks = len({name.split(".")[1] for name in header.tensors if name.startswith("blk.")})
    if values["num_hidden_layers"] != n_blocks:
        raise InputError(
            f"{header.path}: its block_count is {values['num_hidden_layers']}, but it has the "
            f"tensors of {n_blocks} blocks"
        )
    if len(header.tensors) < _LEAST_TENSORS * n_blocks:
        raise InputError(
            f"{header.path}: has {len(header.tensors)} tensors, too few for {n_blocks} blocks"
        )


def _rope_scaling(
    header: GgufHeader, stated: dict[str, Any], begin: str
) -> dict[str, object] | None:
    kind = stated.get("rope.scaling.type", "none")
    factor, original = "rope.scaling.factor", "rope.scaling.original_context_length"
    if kind == "none" and stated.get(factor, 1) != 1:
        kind = "linear"  # as llama.cpp reads it
    if kind == "none":
        return None
    if kind not in ("linear", "yarn") or factor not in stated:
        raise _lost(header, f"{begin}rope.scaling.type", kind)
    scaling = {"rope_type": kind, "factor": float(stated[factor])}
    if kind == "yarn":
        if original not in stated:
            raise InputError(f"{header.path}: its metadata have no {begin}{original}")
        scaling["original_max_position_embeddings"] = stated[original]
    return scaling


def _lost(header: GgufHeader, key: str, value: object) -> InputError:
    return InputError(
        f"{header.path}: {visible(key)} = {_short(value)}, which is not read from GGUF files: the "
        "hidden states would be others; give the model in Hugging Face's format"
    )


def _short(value: object) -> str:
    return visible(str(value)[:50])
