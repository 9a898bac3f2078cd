"""Load models and tokenizers from GGUF files, as dense models of transformers."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra
from tasklens.models.devices import check_memory
from tasklens.models.foreign_calls import one_line_errors, quiet
from tasklens.models.gguf_config import HEAD, ROPE_FACTORS, gguf_config
from tasklens.models.gguf_header import GgufHeader, read_header
from tasklens.models.model_files import has_weights

Floats: TypeAlias = npt.NDArray[np.float32]

#: Names of the parts of one model.
_PART = re.compile(r"(.+)-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)


def is_gguf(path: Path) -> bool:
    """Return whether the name of a file is that of a GGUF file."""
    return path.suffix.lower() == ".gguf"


def gguf_file(path: Path) -> Path | None:
    """Return the GGUF file that a model's path stands for: itself, or the only one in a directory.

    None if the path is another file, or a directory with other weights. InputError if the directory
    has several GGUF files.
    """
    if is_gguf(path) and not path.is_dir():
        return path
    if not path.is_dir() or has_weights(path):
        return None
    files = sorted(filter(is_gguf, path.iterdir()))
    wholes = {_PART.sub(r"\1", file.name) for file in files}
    if len(wholes) > 1:
        names = ", ".join(file.name for file in files[:5]) + (", ..." if len(files) > 5 else "")
        raise InputError(f"{path}: has {len(files)} GGUF files: name the path of one: {names}")
    return files[0] if files else None


def stored_as(path: Path | None, dtype: str) -> str | None:
    """Return how a GGUF file stores its weights, and what they are computed in; None for others."""
    file = None if path is None else gguf_file(path)
    if file is None:
        return None
    sizes = Counter[str]()
    for tensor in read_header(file).tensors.values():
        if len(tensor.shape) > 1:
            sizes[tensor.kind] += tensor.n_numbers
    return f"{' and '.join(kind for kind, _ in sizes.most_common())} weights, computed in {dtype}"


def load_gguf_model(file: Path, dtype: torch.dtype) -> Any:
    """Load the model of a GGUF file, dequantised, as a dense model of transformers.

    InputError as for `read_header` and `gguf_config`, if the tensors are not those of the model, or
    if the memory does not hold the model. All of this is checked before any tensor is read.
    """
    header, empty, names = check_gguf(file)
    _check_memory(header, empty, dtype)
    weights = {name: _weight(header, source, empty.config, dtype) for name, source in names.items()}
    with quiet(), one_line_errors(file):
        # Without a directory: files beside this one have no part in it.
        model = type(empty).from_pretrained(
            None, config=empty.config, state_dict=weights, dtype=dtype
        )
    return fit_positions(model, file)


def gguf_config_of(file: Path, dtype: torch.dtype) -> Any:
    """Return the configuration of the model in a GGUF file; InputError as `load_gguf_model`."""
    header, empty, _ = check_gguf(file)
    _check_memory(header, empty, dtype)
    return empty.config


def check_gguf(file: Path) -> tuple[GgufHeader, Any, dict[str, str]]:
    """Return a file's header, an empty model of its kind, and the tensor of each of its weights.

    InputError as `load_gguf_model`, but for the memory.
    """
    header = read_header(file)
    config = gguf_config(header)
    with quiet(), one_line_errors(file), torch.device("meta"):
        empty = import_extra("transformers").AutoModelForCausalLM.from_config(config)
    return header, empty, _check_tensors(header, empty)


def fit_positions(model: Any, file: Path) -> Any:
    """Divide the frequencies of a model's rotary positions by the factors in a file, if it has any.

    They stand for the scaled positions of Llama 3.1. Return the model.
    """
    header = read_header(file)
    if ROPE_FACTORS in header.tensors:
        factors = torch.from_numpy(_numbers(header, ROPE_FACTORS))
        rotary = model.base_model.rotary_emb
        for name in ("inv_freq", "original_inv_freq"):
            frequencies = getattr(rotary, name)
            setattr(rotary, name, frequencies / factors.to(frequencies.device))
    return model


def _check_tensors(header: GgufHeader, empty: Any) -> dict[str, str]:
    """Return the name in the file of each weight of a model; InputError if they are not the same.

    No weight may be missing, and no tensor may be left over.
    """
    gguf = import_extra("gguf", "a GGUF file")
    architecture = header.metadata["general.architecture"]
    (number,) = (n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names_of = gguf.get_tensor_name_map(number, empty.config.num_hidden_layers)
    names = {}
    for name, weight in empty.state_dict().items():
        if name == "lm_head.weight" and HEAD not in header.tensors:
            continue  # it is that of the word embedding
        source = names_of.get_name(name, try_suffixes=(".weight", ".bias"))
        tensor = header.tensors.get(source)
        if tensor is None:
            raise InputError(f"{header.path}: lacks the tensor {source}, which is {name}")
        shape = tuple(weight.shape)
        if tensor.shape != (shape[::-1] if _is_transposed(empty.config, source) else shape):
            raise InputError(
                f"{header.path}: the tensor {source} has the shape {tensor.shape}, but by the "
                f"metadata {name} has {shape}"
            )
        names[name] = source
    others = [name for name in header.tensors if name not in {*names.values(), ROPE_FACTORS}]
    if others:
        raise InputError(
            f"{header.path}: {len(others)} tensors are not read from files of {architecture}, "
            f"first {others[0]}: the hidden states would be others"
        )
    _check_kinds(header)
    return names


def _check_kinds(header: GgufHeader) -> None:
    """Raise InputError if gguf cannot dequantise a kind of numbers."""
    gguf = import_extra("gguf", "a GGUF file")
    for name, tensor in header.tensors.items():
        kind = gguf.GGMLQuantizationType[tensor.kind]
        try:
            gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
        except NotImplementedError as error:
            raise InputError(
                f"{header.path}: the tensor {name} is stored as {tensor.kind}, which gguf does not "
                "dequantise"
            ) from error


def _check_memory(header: GgufHeader, empty: Any, dtype: torch.dtype) -> None:
    """Raise InputError if the memory does not hold the model and its largest tensor once more."""
    largest = max(tensor.n_numbers for tensor in header.tensors.values())
    n_numbers = sum(t.numel() for t in (*empty.parameters(), *empty.buffers()))
    check_memory(
        n_numbers * dtype.itemsize + 8 * largest, torch.device("cpu"), f"{header.path}: the weights"
    )


def _weight(header: GgufHeader, source: str, config: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of the file in the layout of transformers."""
    numbers = _numbers(header, source)
    if _is_transposed(config, source):
        numbers = numbers.T
    elif config.model_type == "llama" and ".attn_q." in source:
        numbers = _by_halves(numbers, config.num_attention_heads)
    elif config.model_type == "llama" and ".attn_k." in source:
        numbers = _by_halves(numbers, config.num_key_value_heads)
    elif config.model_type.startswith("gemma") and source.endswith("norm.weight"):
        numbers = numbers - 1  # transformers adds 1 when it is computed
    return torch.from_numpy(np.ascontiguousarray(numbers)).to(dtype)


def _is_transposed(config: Any, source: str) -> bool:
    matrices = (".attn_qkv.weight", ".attn_output.weight", ".ffn_up.weight", ".ffn_down.weight")
    return config.model_type == "gpt2" and source.endswith(matrices)


def _by_halves(numbers: Floats, n_heads: int) -> Floats:
    """Return rows of heads in transformers' order: llama.cpp rotates neighbours, not halves."""
    n_rows, *others = numbers.shape
    pairs = numbers.reshape(n_heads, n_rows // n_heads // 2, 2, *others)
    return pairs.swapaxes(1, 2).reshape(numbers.shape)


def _numbers(header: GgufHeader, source: str) -> Floats:
    """Read a tensor, float32."""
    gguf = import_extra("gguf", "a GGUF file")
    tensor = header.tensors[source]
    stored = np.fromfile(header.path, np.uint8, tensor.n_bytes, offset=tensor.begin)
    if len(stored) < tensor.n_bytes:
        raise InputError(f"{header.path}: has become shorter while it was read")
    rows = stored.reshape(-1, tensor.n_bytes * tensor.shape[-1] // tensor.n_numbers)
    with np.errstate(all="ignore"):  # numbers that are not finite are no error of NumPy
        numbers = gguf.dequantize(rows, gguf.GGMLQuantizationType[tensor.kind])
    return np.asarray(numbers, dtype=np.float32).reshape(tensor.shape)
