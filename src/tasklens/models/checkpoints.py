"""Make and read checkpoint directories in Hugging Face's format.

A directory has ``config.json``, ``model.safetensors`` and ``tokenizer.json`` and loads with
``AutoModelForCausalLM.from_pretrained``. Nothing is ever unpickled.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import Field
from safetensors import SafetensorError

from tasklens.core.errors import InputError
from tasklens.core.parse import parse_json
from tasklens.core.settings import SettingsBase
from tasklens.data.dataset import PAD
from tasklens.models.gpt2 import GPT2, LAYER_NORM_EPSILON, ModelSettings
from tasklens.models.lr_schedule import evenly_spaced

#: Files of a checkpoint directory.
CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


class CheckpointSettings(SettingsBase, affects="train"):
    """The steps of the checkpoints, and the checkpoints whose weights are kept."""

    every: Annotated[int, Field(ge=1, lt=2**31)] = 200
    """Steps between checkpoints. There are also checkpoints at 0, at the powers of two below this
    number, and at the last step. Each checkpoint keeps the hidden states of the measured
    instances."""
    weights_gib: Annotated[float, Field(ge=0)] = 2.0
    """Most GiB of weights. If all checkpoints' weights fit, all are kept; otherwise those of
    sparse_weights checkpoints."""
    sparse_weights: Annotated[int, Field(ge=1, lt=2**31)] = 8
    """Most checkpoints whose weights are kept if not all fit: evenly spaced in training, with the
    first and the last; 1: only the last."""

    def steps_with_weights(self, steps: tuple[int, ...], bytes_each: int) -> tuple[int, ...]:
        """Return the checkpoint steps whose weights are kept."""
        if len(steps) * bytes_each <= self.weights_gib * 2**30:
            return steps
        return evenly_spaced(steps, self.sparse_weights)


def config_of(model: GPT2) -> dict[str, Any]:
    """Return the model's configuration in the format of ``transformers.GPT2Config``."""
    settings = model.settings
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.vocab_size,
        "n_positions": model.n_positions,
        "n_layer": settings.n_layer,
        "n_head": settings.n_head,
        "n_embd": settings.n_embd,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "initializer_range": settings.initializer_range,
        "attn_pdrop": settings.dropout,
        "embd_pdrop": settings.dropout,
        "resid_pdrop": settings.dropout,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
        "tie_word_embeddings": settings.tie_word_embeddings,
        "dtype": "float32",
    }


def checkpoint_files(model: GPT2, tokenizer: bytes, **metadata: int) -> dict[str, bytes]:
    """Return the files of a checkpoint directory, {name: content}, given its ``tokenizer.json``.

    ``config.json`` has the metadata, such as step and seed, under "tasklens".
    """
    config = config_of(model) | {"tasklens": metadata}
    weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD}
    contents = (
        (json.dumps(config, indent=2) + "\n").encode(),
        safetensors.torch.save(weights, metadata={"format": "pt"}),
        tokenizer,
        (json.dumps(tokenizer_config, indent=2) + "\n").encode(),
    )
    return dict(zip(CHECKPOINT_FILES, contents, strict=True))


def read_tensors(
    path: Path, content: bytes | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file, or of its content if given.

    InputError if the file is missing or damaged.
    """
    try:
        content = path.read_bytes() if content is None else content
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{path} is missing or damaged ({error}); remove it and run again with --resume"
        ) from error
    return tensors, header.get("__metadata__", {})


def load_checkpoint(directory: Path | str) -> GPT2:
    """Load a checkpoint directory into a `GPT2`.

    Raises
    ------
    InputError
        If a file is missing or damaged, or if the configuration is of another architecture.

    Examples
    --------
    >>> import tasklens as tl
    >>> model = tl.load_checkpoint("runs/smoke/checkpoints/step-00000016")
    >>> model.settings.n_layer
    2
    """
    directory = Path(directory)
    path = directory / "config.json"
    try:
        config = parse_json(path.read_bytes())
        model_type = config["model_type"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged ({error})") from error
    if model_type != "gpt2":
        raise InputError(f"{path}: model_type = {model_type!r}: should be 'gpt2'")
    try:
        named = {"tie_word_embeddings": True, **config, "dropout": config["resid_pdrop"]}
        settings = ModelSettings(**{name: named[name] for name in ModelSettings.model_fields})
        model = GPT2(settings, config["vocab_size"], config["n_positions"], seed=0)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path} is missing or damaged ({error})") from error
    weights = directory / "model.safetensors"
    tensors, _ = read_tensors(weights)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise InputError(f"{weights} does not match its config.json: {why}") from error
    return model
