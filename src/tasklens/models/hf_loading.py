"""Load models and tokenizers from local directories in Hugging Face's format; fetch nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tasklens.core.errors import InputError, first_line
from tasklens.core.extras import import_extra
from tasklens.core.progress import warn
from tasklens.models.devices import seeded
from tasklens.models.gguf_files import fit_positions, gguf_config_of, gguf_file, load_gguf_model
from tasklens.models.gguf_tokenizer import has_tokenizer, load_gguf_tokenizer
from tasklens.models.hf_subject import HuggingFaceSubject
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
    device: str = "cpu",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    max_tokens: int = 0,
    untrained: int | None = None,
    step: int = 0,
) -> HuggingFaceSubject:
    """Load a Subject from a local directory that ``AutoModelForCausalLM`` loads; fetch nothing.

    Parameters
    ----------
    directory : path
        It has ``config.json`` and weights: safetensors, otherwise ``.bin`` files, which are read
        with ``weights_only`` and a warning. Otherwise a GGUF file, or a directory with one and no
        other weights; the weights are dequantised.
    tokenizer : path, optional
        Directory of the tokenizer, or GGUF file with one; by default the model's, or its parent. A
        Subject without a tokenizer reads tokens but no texts.
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
    file = gguf_file(directory)
    if file is None:
        if not (directory / "config.json").is_file():
            raise InputError(f"{directory}: has no config.json: it is not a model's directory")
        check_named_files(directory, trust_remote_code=trust_remote_code)
    if device == AUTO:
        import_extra("accelerate", "device = auto")
    common = {"dtype": getattr(torch, dtype), "trust_remote_code": trust_remote_code}
    with _quiet():
        if file is not None:
            model = _read_gguf(file, device, common, untrained)
        elif untrained is None:
            model = _read_model(directory, device, common)
        else:
            model = _untrained_model(directory, untrained, device, common)
        known = load_tokenizer(tokenizer or directory, trust_remote_code=trust_remote_code)
        return HuggingFaceSubject(model, known, max_tokens, step)


def _read_model(directory: Path, device: str, common: dict[str, Any]) -> Any:
    safe = any(directory.glob("*.safetensors"))
    if not safe and any(directory.glob("*.bin")):
        warn(
            f"{directory} has no safetensors; its .bin files are unpickled, tensors only "
            "(weights_only)"
        )
    with _one_line_errors(directory):
        model, loading = import_extra("transformers").AutoModelForCausalLM.from_pretrained(
            directory,
            local_files_only=True,
            use_safetensors=safe or None,
            weights_only=True,
            output_loading_info=True,
            **({"device_map": AUTO} if device == AUTO else {}),
            **common,
        )
        if device != AUTO:
            model = model.to(device)
    missing = sorted(loading["missing_keys"]) or [key[0] for key in loading["mismatched_keys"]]
    if missing:
        raise InputError(
            f"{directory}: {len(missing)} weights are missing or do not have the shape of "
            f"config.json, first {missing[0]}"
        )
    return model


def _read_gguf(file: Path, device: str, common: dict[str, Any], untrained: int | None) -> Any:
    if untrained is not None:
        config = gguf_config_of(file, common["dtype"])
        return fit_positions(_untrained_model(file, untrained, device, common, config), file)
    if device == AUTO:
        return load_gguf_model(file, common["dtype"], device_map=AUTO)
    return load_gguf_model(file, common["dtype"]).to(device)


def _untrained_model(
    directory: Path, seed: int, device: str, common: dict[str, Any], config: Any = None
) -> Any:
    transformers = import_extra("transformers")
    # The weights are drawn on the CPU, so that they are the same on any device.
    with _one_line_errors(directory), seeded(seed, torch.device("cpu")):
        config = config or transformers.AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=common["trust_remote_code"]
        )
        model = transformers.AutoModelForCausalLM.from_config(config, **common)
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
        with _quiet():
            return load_gguf_tokenizer(path)
    check_named_files(path, trust_remote_code=trust_remote_code)
    with _quiet(), _one_line_errors(path):
        return import_extra("transformers").AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=trust_remote_code
        )


def tokenizer_directory(directory: Path | str) -> Path | None:
    """Return what has a model's tokenizer: the directory, the GGUF file or the parent; or None."""
    path = Path(directory)
    file = gguf_file(path)
    inner = path if path.is_dir() else path.absolute().parent
    if any((inner / name).is_file() for name in TOKENIZER_FILES):
        return inner
    if file is not None and has_tokenizer(file):
        return file
    parent = inner.absolute().parent
    return parent if any((parent / name).is_file() for name in TOKENIZER_FILES) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and the log messages of transformers until the block ends."""
    logging = import_extra("transformers").utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _one_line_errors(directory: Path) -> Iterator[None]:
    """Turn any error of the libraries into an InputError; no code of tasklens runs in the block."""
    try:
        yield
    except Exception as error:  # a model can fail to load in many ways
        why = f"cannot be loaded: {first_line(error)}"
        if "Unrecognized configuration class" in str(error):
            why = "is no causal language model: AutoModelForCausalLM does not support it"
        elif "trust_remote_code" in str(error):
            why = "has code of its own; give --trust-remote-code if you trust this code"
        raise InputError(f"{directory} {why}") from error
