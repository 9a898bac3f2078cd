"""Write small models of transformers as GGUF files, as llama.cpp's converter does."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

#: Names of llama.cpp's architectures, by the type of the model in transformers.
ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3"}
Q8_0, F32, F16 = (getattr(gguf.GGMLQuantizationType, kind) for kind in ("Q8_0", "F32", "F16"))


def write_gguf(
    path: Path,
    model: Any,
    kind: Any = F32,
    tokenizer: Any = None,
    *,
    without: Sequence[str] = (),
    further: Mapping[str, npt.NDArray[np.float32]] | None = None,
    norm_kind: str = "F32",
    stated: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> Path:
    """Write a model with its matrices as one kind of numbers; ``metadata`` replaces or adds values.

    A value of None is left out. Keys have ``__`` instead of a dot, and no architecture before them.
    Tensors are left out or added by their names. ``stated`` does with the tokenizer's values what
    ``metadata`` does with the model's.
    """
    config = model.config
    architecture = ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (metadata_of(config) | metadata).items():
        if value is not None:
            _add(writer, f"{architecture}.{key.replace('__', '.')}", value)
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer, stated or {})
    for name, array in {**tensors_of(model, architecture), **(further or {})}.items():
        stored = kind if array.ndim > 1 else F32
        if name not in without and norm_kind == "F64" and array.ndim == 1:
            writer.add_tensor(name, array.astype(np.float64))
        elif name not in without:
            writer.add_tensor(name, gguf.quantize(array, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def metadata_of(config: Any) -> dict[str, Any]:
    """Return what llama.cpp's converter writes about a model."""
    if config.model_type == "gpt2":
        return {
            "context_length": config.n_positions,
            "embedding_length": config.n_embd,
            "block_count": config.n_layer,
            "feed_forward_length": 4 * config.n_embd,
            "attention__head_count": config.n_head,
            "attention__layer_norm_epsilon": config.layer_norm_epsilon,
        }
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention__head_count": config.num_attention_heads,
        "attention__head_count_kv": config.num_key_value_heads,
        "attention__layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope__freq_base": _rope(config)["rope_theta"],
    }
    if config.model_type in ("llama", "mistral"):
        values |= {"rope__dimension_count": head_dim, "vocab_size": config.vocab_size}
    if config.model_type in ("qwen3", "gemma", "gemma2", "gemma3_text"):
        values |= {"attention__key_length": head_dim, "attention__value_length": head_dim}
    if config.model_type in ("gemma2", "gemma3_text"):
        values["attention__sliding_window"] = config.sliding_window
    if config.model_type == "gemma2":
        values["attn_logit_softcapping"] = config.attn_logit_softcapping
        values["final_logit_softcapping"] = config.final_logit_softcapping
    if _rope(config)["rope_type"] in ("linear", "yarn"):
        values |= {
            "rope__scaling__type": _rope(config)["rope_type"],
            "rope__scaling__factor": _rope(config)["factor"],
            "rope__scaling__original_context_length": _rope(config).get(
                "original_max_position_embeddings"
            ),
        }
    return values


def _rope(config: Any) -> dict[str, Any]:
    rope: dict[str, dict[str, Any]] = config.rope_parameters
    return rope.get("full_attention", rope)


def tensors_of(model: Any, architecture: str) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights by llama.cpp's names, in the layout of llama.cpp."""
    config = model.config
    (kind,) = (kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    tensors = {}
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    for name, weight in model.state_dict().items():
        if name in tied or name.endswith((".attn.bias", ".masked_bias")):
            continue
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        array = weight.float().numpy()
        if architecture == "gpt2" and name.endswith(
            ("c_attn.weight", "c_proj.weight", "c_fc.weight")
        ):
            array = array.T
        if architecture == "llama" and ".q_proj." in name:
            array = permuted(array, config.num_attention_heads)
        if architecture == "llama" and ".k_proj." in name:
            array = permuted(array, config.num_key_value_heads)
        if architecture.startswith("gemma") and "norm.weight" in name:
            array = array + 1
        tensors[new] = np.ascontiguousarray(array)
    return tensors


def permuted(array: npt.NDArray[np.float32], n_heads: int) -> npt.NDArray[np.float32]:
    """Return the rows of a projection in the order of llama.cpp, which rotates neighbours."""
    n_rows, *others = array.shape
    pairs = array.reshape(n_heads, 2, n_rows // n_heads // 2, *others)
    return pairs.swapaxes(1, 2).reshape(array.shape)


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, stated: Mapping[str, Any]) -> None:
    """Write a tokenizer of pairs: a byte-level one with its pairs, or one with scores."""
    for key, value in {**tokenizer_values(tokenizer), **stated}.items():
        if value is not None:
            _add(writer, key if "." in key else f"tokenizer.ggml.{key}", value)


def tokenizer_values(tokenizer: Any) -> dict[str, Any]:
    """Return what llama.cpp's converter writes about a tokenizer."""
    inner = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {token["content"] for token in inner["added_tokens"]}
    numbers = tokenizer.get_vocab()
    vocabulary = sorted(numbers, key=numbers.__getitem__)
    pairs = [tuple(pair) for pair in inner["model"]["merges"]]
    ranks = {"".join(pair): -float(i) for i, pair in reversed([*enumerate(pairs)])}
    kinds = {token: 3 if token in added else 1 for token in vocabulary}
    special = {
        f"{key}_token_id": numbers[token]
        for key, token in (
            ("bos", tokenizer.bos_token),
            ("eos", tokenizer.eos_token),
            ("padding", tokenizer.pad_token),
        )
    }
    special["add_bos_token"] = tokenizer("red")["input_ids"][0] == tokenizer.bos_token_id
    if inner["model"]["byte_fallback"]:
        kinds |= {token: 6 for token in vocabulary if token.startswith("<0x")} | {"<unk>": 2}
        scores = [ranks.get(token, -1e6) for token in vocabulary]
        more = {"model": "llama", "scores": scores, "unknown_token_id": numbers["<unk>"]}
    else:
        merges = [" ".join(pair) for pair in pairs]
        more = {"model": "gpt2", "pre": "gpt-2", "merges": merges}
    return {**more, "tokens": vocabulary, "token_type": [*kinds.values()], **special}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    kinds |= {str: writer.add_string, list: writer.add_array}
    kinds[type(value)](key, value)
