"""The only reader and writer of checkpoint directories, in Hugging Face's format.

A directory holds ``config.json``, ``model.safetensors`` and ``tokenizer.json`` and loads with
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
from tasklens.core.settings import SettingsBase
from tasklens.data.synthetic import PAD
from tasklens.models.gpt2 import GPT2, LAYER_NORM_EPSILON, ModelSettings
from tasklens.models.lr_schedule import sparse_steps

#: What a checkpoint directory holds.
CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


class CheckpointSettings(SettingsBase, affects="train"):
    """When a checkpoint is taken and what is kept of it."""

    every: Annotated[int, Field(ge=1)] = 200
    """Checkpoints at 0, the powers of two below this, its multiples, and the last step. The
    measured instances' states are kept at each."""
    weights_gib: Annotated[float, Field(ge=0)] = 2.0
    """Weights of every checkpoint are kept where together they fit this many GiB; of a sparse set
    and the last otherwise."""
    sparse_weights: Annotated[int, Field(ge=1)] = 8
    """How many checkpoints keep their weights where not all of them fit."""

    def steps_with_weights(self, steps: tuple[int, ...], bytes_each: int) -> tuple[int, ...]:
        """Return those of the checkpoint steps whose weights are kept."""
        if len(steps) * bytes_each <= self.weights_gib * 2**30:
            return steps
        return sparse_steps(steps, self.sparse_weights)


def config_of(model: GPT2) -> dict[str, Any]:
    """Return the model's configuration as ``transformers.GPT2Config`` reads it."""
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


def checkpoint_files(model: GPT2, tokenizer: bytes, **about: int) -> dict[str, bytes]:
    """Return the files of a checkpoint directory, {name: content}, given its ``tokenizer.json``.

    ``config.json`` has the keywords, such as step and seed, under "tasklens".
    """
    config = config_of(model) | {"tasklens": about}
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
    """Return the tensors and the metadata of a safetensors file, whose content may be known.

    InputError if it is missing or damaged.
    """
    try:
        content = path.read_bytes() if content is None else content
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{path} is missing or damaged ({error}); remove it and run with --resume"
        ) from error
    return tensors, header.get("__metadata__", {})


def load_checkpoint(directory: Path | str) -> GPT2:
    """Load a checkpoint directory into our own GPT-2.

    Raises
    ------
    InputError
        If a file is missing or damaged, or if the configuration is another architecture's.
    """
    directory = Path(directory)
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
        model_type = config["model_type"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged ({error})") from error
    if model_type != "gpt2":
        raise InputError(f"{path}: model_type is {model_type!r}, not 'gpt2'")
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
        raise InputError(f"{weights} does not fit its config.json: {why}") from error
    return model
