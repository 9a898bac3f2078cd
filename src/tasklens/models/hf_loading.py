"""Load models and tokenizers from local directories in Hugging Face's format; fetch nothing."""

import math
from pathlib import Path
from typing import Any

import torch

from tasklens.core.downloads import check_downloaded
from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra
from tasklens.core.progress import inform, warn
from tasklens.models.devices import check_memory, seeded
from tasklens.models.foreign_calls import one_line_errors, quiet
from tasklens.models.gguf_files import (
    check_gguf,
    fit_positions,
    gguf_config_of,
    gguf_file,
    load_gguf_model,
)
from tasklens.models.gguf_tokenizer import has_tokenizer, load_gguf_tokenizer
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.lora import check_adapter, find_base, merge_adapter
from tasklens.models.model_files import (
    CONFIG,
    check_config,
    check_no_pipes,
    find_weights,
    is_adapter,
    is_model,
    is_there,
    read_object,
    why_no_model,
)
from tasklens.models.named_files import check_named_files

#: The device that spreads a model over several devices: see `load_subject`.
AUTO = "auto"
#: A directory has a tokenizer if it has one of these files.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
    *("vocab.json", "vocab.txt", "spiece.model"),
)


def load_subject(
    directory: Path | str,
    *,
    tokenizer: Path | str | None = None,
    base: Path | str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    max_tokens: int = 0,
    untrained: int | None = None,
    step: int = 0,
) -> HuggingFaceSubject:
    """Load a Subject from a local directory that ``AutoModelForCausalLM`` loads; fetch nothing.

    A LoRA adapter is merged into its base model, as peft's ``merge_and_unload`` does in float32.

    Parameters
    ----------
    directory : path
        It has ``config.json`` and weights: safetensors, otherwise ``.bin`` files, which are read
        with ``weights_only`` and a warning. Or it is a LoRA adapter: ``adapter_config.json`` and
        ``adapter_model.safetensors``. Otherwise a GGUF file, or a directory with one and no other
        weights; the weights are dequantised.
    tokenizer : path, optional
        Directory of the tokenizer, or GGUF file with one; by default the model's, or its parent,
        otherwise that of the base. A Subject without a tokenizer reads tokens but no texts.
    base : path, optional
        Directory of the base model of a LoRA adapter; by default the one that the adapter names.
    device : str
        cpu, cuda or cuda:N; auto spreads the model over all GPUs, the memory and the disk, as
        accelerate's ``device_map="auto"`` does.
    dtype : {"float32", "bfloat16", "float16"}
        Type of the weights and of the computation; hidden states are float32.
    trust_remote_code : bool
        Run the code in the model's directory.
    untrained : int, optional
        A seed with which fresh weights are drawn, instead of loading those of the model.
    max_tokens, step : int
        See `HuggingFaceSubject`.

    Raises
    ------
    InputError
        If the model cannot be loaded, lacks weights or is not causal, or if transformers is not
        installed. If a file of the model names a file outside of the directory.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.load_subject("runs/smoke/checkpoints/step-00000016").names
    ('wte', 'embed', 'block1', 'block2', 'ln_f')
    """
    directory = Path(directory)
    base = check_model(directory, base, untrained is not None, trust_remote_code=trust_remote_code)
    if device == AUTO:
        import_extra("accelerate", "device = auto")
    reader = tokenizer or next(filter(tokenizer_directory, (directory, base or directory)), "")
    known = load_tokenizer(reader, trust_remote_code=trust_remote_code) if reader else None
    common = {"dtype": getattr(torch, dtype), "trust_remote_code": trust_remote_code}
    file = gguf_file(directory)
    if file is not None:
        with quiet():
            model = _read_gguf(file, device, common, untrained)
    elif untrained is not None:
        model = _untrained_model(base or directory, untrained, device, common)
    elif base is None:
        model = _read_model(directory, device, common)
    else:
        inform(f"{directory} is a LoRA adapter; it is merged into {base}")
        # In float32, so that it does not depend on dtype in which order weights are rounded.
        whole = _read_model(base, "cpu", {**common, "dtype": torch.float32})
        model = _placed(merge_adapter(whole, directory).to(common["dtype"]), device)
    with quiet():
        return HuggingFaceSubject(model, known, max_tokens, step)


def check_model(
    directory: Path,
    base: Path | str | None = None,
    untrained: bool = False,
    *,
    trust_remote_code: bool = False,
) -> Path | None:
    """Return the directory of the base model if a directory is a LoRA adapter, otherwise None.

    InputError if the files are not those of a model. No weights are read, and none are needed for
    an untrained model.
    """
    file = gguf_file(directory)
    if file is not None:
        check_gguf(file)
        return None
    if not is_model(directory):
        raise InputError(f"{directory}: {why_no_model(directory)}")
    adapter = directory if is_adapter(directory) else None
    if adapter is not None:
        directory = find_base(adapter, base)
        check_adapter(adapter)
    elif base:
        raise InputError(f"--base: {directory} is not a LoRA adapter: should be left out")
    check_named_files(directory, trust_remote_code=trust_remote_code)
    config = read_object(directory / CONFIG)
    if adapter is not None and config.get("quantization_config"):
        raise InputError(
            f"{directory}: an adapter cannot be merged exactly into quantized weights: should be "
            "the base model before it was quantized; give its directory with --base DIR"
        )
    weights = None if untrained else find_weights(directory)
    check_config(directory / CONFIG, config, weights)
    return None if adapter is None else directory


def _read_model(directory: Path, device: str, common: dict[str, Any]) -> Any:
    weights = find_weights(directory)
    if not weights.safe:
        warn(
            f"{directory} has no safetensors; its .bin files are unpickled, tensors only "
            "(weights_only)"
        )
    if device != AUTO:
        n_bytes = sum(map(math.prod, weights.shapes.values())) * common["dtype"].itemsize
        check_memory(n_bytes, torch.device(device), f"{directory}: the weights")
    automatic = import_extra("transformers").AutoModelForCausalLM
    options = {"device_map": AUTO} if device == AUTO else {}
    try:
        with quiet(), one_line_errors(directory):
            model, loading = automatic.from_pretrained(
                directory,
                local_files_only=True,
                use_safetensors=weights.safe,
                variant=weights.variant,
                weights_only=True,
                output_loading_info=True,
                **options,
                **common,
            )
            if device != AUTO:
                model = model.to(device)
    except InputError as error:
        if "ignore_mismatched_sizes" not in str(error.__cause__):
            raise
        _check_shapes(directory, weights.shapes, _on_meta(directory, common))
        raise
    missing = sorted(loading["missing_keys"])
    if missing:
        raise InputError(f"{directory}: {len(missing)} weights are missing, first {missing[0]}")
    unused = sorted(loading["unexpected_keys"])
    if unused:
        warn(f"{directory}: {len(unused)} weights are not of this model, first {unused[0]}")
    return model


def _read_gguf(file: Path, device: str, common: dict[str, Any], untrained: int | None) -> Any:
    dtype = common["dtype"]
    if untrained is not None:
        config = gguf_config_of(file, dtype)
        return fit_positions(_untrained_model(file, untrained, device, common, config), file)
    model = load_gguf_model(file, dtype)
    if device not in ("cpu", AUTO):
        n_bytes = sum(weight.nbytes for weight in model.parameters())
        check_memory(n_bytes, torch.device(device), f"{file}: the weights")
    return _placed(model, device)


def _check_shapes(directory: Path, shapes: dict[str, tuple[int, ...]], model: Any) -> None:
    """Raise InputError for the first weight that has another shape than in a model."""
    for name, weight in model.named_parameters():
        should = tuple(weight.shape)
        if shapes.get(name, should) != should:
            raise InputError(
                f"{directory}: {name} is {shapes[name]}, but should be {should} by config.json"
            )


def _on_meta(directory: Path, common: dict[str, Any], config: Any = None) -> Any:
    """Return a model without memory for its weights."""
    with quiet(), one_line_errors(directory), torch.device("meta"):
        return _from_config(directory, common, config)


def _from_config(directory: Path, common: dict[str, Any], config: Any = None) -> Any:
    transformers = import_extra("transformers")
    config = config or transformers.AutoConfig.from_pretrained(
        directory, local_files_only=True, trust_remote_code=common["trust_remote_code"]
    )
    return transformers.AutoModelForCausalLM.from_config(config, **common)


def _untrained_model(
    directory: Path, seed: int, device: str, common: dict[str, Any], config: Any = None
) -> Any:
    # The weights are drawn on the CPU, so that they are the same on any device.
    cpu = torch.device("cpu")
    n_bytes = sum(weight.nbytes for weight in _on_meta(directory, common, config).parameters())
    check_memory(n_bytes, cpu, f"{directory}: the weights")
    with quiet(), one_line_errors(directory), seeded(seed, cpu):
        return _placed(_from_config(directory, common, config), device)


def _placed(model: Any, device: str) -> Any:
    """Return a model on a device, or spread over all."""
    if device != AUTO:
        return model.to(device)
    accelerate = import_extra("accelerate")
    undivided = [*(model._no_split_modules or ())]
    device_map = accelerate.infer_auto_device_map(model, no_split_module_classes=undivided)
    return accelerate.dispatch_model(model, device_map)


def load_tokenizer(directory: Path | str, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a directory or of its parent; return None if neither has one."""
    path = tokenizer_directory(directory)
    if path is None:
        return None
    if path.is_file():
        return load_gguf_tokenizer(path)
    check_no_pipes(path)
    check_named_files(path, trust_remote_code=trust_remote_code)
    for file in (path / name for name in (*TOKENIZER_FILES, "merges.txt")):
        if is_there(file):
            (read_object if file.suffix == ".json" else check_downloaded)(file)
    with quiet(), one_line_errors(path):
        tokenizer = import_extra("transformers").AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=trust_remote_code
        )
        tokenizer("")  # some wrong values are noticed when a text is read
        return tokenizer


def tokenizer_directory(directory: Path | str) -> Path | None:
    """Return what has a model's tokenizer: the directory, the GGUF file or the parent; or None."""
    path = Path(directory)
    inner = path if path.is_dir() else path.absolute().parent
    file = gguf_file(path)
    if not _has_tokenizer(inner) and file is not None and has_tokenizer(file):
        return file
    return next(filter(_has_tokenizer, (inner, inner.absolute().parent)), None)


def _has_tokenizer(directory: Path) -> bool:
    return any(is_there(directory / name) for name in TOKENIZER_FILES)
