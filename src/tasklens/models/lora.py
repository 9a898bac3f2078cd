"""Merge LoRA adapters into their base models; fetch nothing."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tasklens.core.downloads import check_downloaded
from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra
from tasklens.models.devices import seeded
from tasklens.models.foreign_calls import one_line_errors
from tasklens.models.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    is_there,
    read_object,
    why_no_model,
)

#: What an adapter's configuration has of its mathematics.
_USED = (
    *("r", "lora_alpha", "use_rslora", "use_dora", "lora_bias", "bias", "fan_in_fan_out"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern"),
)
#: What matters in training only, or describes the file.
_IGNORED = (
    *("peft_type", "peft_version", "task_type", "inference_mode", "init_lora_weights"),
    *("base_model_name_or_path", "revision", "lora_dropout", "megatron_core", "qalora_group_size"),
    *("loftq_config", "eva_config"),
)
#: First values of an adapter's weights that do not change those of the base.
_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
#: A repeated group, with which a regular expression may take forever.
_NESTED = re.compile(r"\)[*+{]")


def find_base(adapter: Path, given: Path | str | None = None) -> Path:
    """Return the directory of an adapter's base model: the given one, or the one that it names.

    A relative name is looked up from the working directory, as peft does, then from the adapter's
    directory. InputError if there is no such directory, so that nothing is ever fetched.
    """
    named = read_object(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    if given:
        base = Path(given)
        if not (base / CONFIG).is_file() or is_there(base / ADAPTER_CONFIG):
            raise InputError(f"--base {base}: {_why_no_base(base)}")
        return base
    if not isinstance(named, str) or not named:
        raise InputError(
            f"{adapter} is a LoRA adapter that names no base model: give its directory with "
            "--base DIR"
        )
    for base in (Path(named), adapter / named):
        if os.path.isdir(base):  # noqa: PTH112 - accepts a name that can be no path
            if not (base / CONFIG).is_file() or is_there(base / ADAPTER_CONFIG):
                raise InputError(f"{adapter}: its base model {base}: {_why_no_base(base)}")
            return base
    raise InputError(
        f"{adapter} is a LoRA adapter of {named!r}, which is not a directory, and a base model is "
        "never fetched: give its directory with --base DIR"
    )


def _why_no_base(base: Path) -> str:
    if is_there(base / ADAPTER_CONFIG):
        return "is a LoRA adapter itself: should be a whole model; merge them first"
    return why_no_model(base) if base.is_dir() else "is not a directory: should be a model's"


def check_adapter(adapter: Path) -> dict[str, Any]:
    """Return the settings of an adapter for peft.LoraConfig.

    InputError if it is not a LoRA adapter in safetensors that can be merged exactly.
    """
    path = adapter / ADAPTER_CONFIG
    config = read_object(path)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"{path}: peft_type = {kind!r}: should be LORA; merge other adapters first"
        )
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise InputError(f"{path}: task_type = {task!r}: should be CAUSAL_LM")
    start = config.get("init_lora_weights")
    if not any(start is each or (start == each and isinstance(start, str)) for each in _STARTS):
        raise InputError(
            f"{path}: init_lora_weights = {start!r} changes the base model: convert it to plain "
            "LoRA, or merge it with the program that trained it"
        )
    for key, value in config.items():
        if key not in (*_USED, *_IGNORED) and value not in (None, False, [], {}):
            raise InputError(
                f"{path}: {key} cannot be merged exactly: should not be set; merge the adapter "
                "with the program that trained it"
            )
    for key in (
        "target_modules",
        "exclude_modules",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
    ):
        patterns = config.get(key)
        several = patterns if isinstance(patterns, list | dict) else [patterns or ""]
        for pattern in several:
            if not isinstance(pattern, str) or _NESTED.search(pattern):
                raise InputError(f"{path}: {key} has {pattern!r}: should be names of modules")
    if not is_there(adapter / ADAPTER_WEIGHTS):
        others = sorted(each.name for each in adapter.glob("adapter_model*"))
        has = f"it has {', '.join(others)}; save it in safetensors" if others else "it is missing"
        raise InputError(f"{adapter}: is a LoRA adapter that should have {ADAPTER_WEIGHTS}: {has}")
    check_downloaded(adapter / ADAPTER_WEIGHTS)
    import_extra("peft", f"{adapter}, a LoRA adapter,")
    return {key: config[key] for key in _USED if config.get(key) is not None}


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Return a model of transformers in float32 with a LoRA adapter merged into its weights.

    InputError if the adapter does not fit the model, or changes a weight that modules share.
    """
    settings = check_adapter(adapter)
    peft = import_extra("peft")
    with one_line_errors(adapter), _quiet(), seeded(0, torch.device("cpu")):
        weights = safetensors.torch.load_file(adapter / ADAPTER_WEIGHTS)
        weights = {name: weight.float() for name, weight in weights.items()}
        # On the meta device, so that a wrong rank takes no memory.
        config = peft.LoraConfig(**settings, inference_mode=True)
        adapted = peft.PeftModel(model, config, low_cpu_mem_usage=True)
        expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    # An adapter of embeddings brings these themselves, too.
    whole = {name: each for name, each in adapted.state_dict().items() if name in weights}
    _check_fit(adapter, weights, {**whole, **expected})
    _check_shared(adapter, adapted)
    with one_line_errors(adapter), _quiet():
        peft.set_peft_model_state_dict(adapted, weights, low_cpu_mem_usage=True)
        return adapted.merge_and_unload(safe_merge=True)


def _check_fit(adapter: Path, weights: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise InputError if an adapter's weights are not those that its configuration gives."""
    for name in sorted({*weights, *expected}):
        has, should = (
            tuple(each[name].shape) if name in each else "no such weight"
            for each in (weights, expected)
        )
        if has != should:
            raise InputError(
                f"{adapter}: does not fit the base model and {ADAPTER_CONFIG}: {name} is {has}, "
                f"should be {should}"
            )


def _check_shared(adapter: Path, adapted: Any) -> None:
    """Raise InputError if an adapted module shares its weight: merging would change the others."""
    names: dict[int, list[str]] = {}
    for name, weight in adapted.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    for shared in names.values():
        if len(shared) > 1 and any(".base_layer." in name for name in shared):
            one, other = (name.removeprefix("base_model.model.") for name in shared[:2])
            raise InputError(
                f"{adapter}: cannot be merged exactly: {one.replace('.base_layer', '')} and "
                f"{other.replace('.base_layer', '')} are one weight, and the adapter changes only "
                "one of them; untie the base model's embeddings"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of peft, whose reasons are checked in this module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
