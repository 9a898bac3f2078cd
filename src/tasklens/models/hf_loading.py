"""Models and tokenizers from local directories of Hugging Face's format. Nothing is fetched."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tasklens.core.errors import InputError, first_line
from tasklens.core.progress import warn
from tasklens.models.hf_subject import HuggingFaceSubject

#: The device that is none of its own: see `load_subject`.
AUTO = "auto"
#: Any of them says that a directory has a tokenizer.
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
    """Load a local directory that ``AutoModelForCausalLM`` loads. Nothing is fetched.

    Parameters
    ----------
    directory : path
        With ``config.json`` and weights: safetensors, otherwise ``.bin`` files, which are read with
        ``weights_only`` and a warning.
    tokenizer : path, optional
        Directory of the tokenizer; by default the model's, or the one above it. A Subject without a
        tokenizer reads tokens but no texts.
    device : str
        cpu, cuda or cuda:N; auto spreads the model over all GPUs, the memory and the disk, as
        accelerate's ``device_map="auto"`` does.
    dtype : {"float32", "bfloat16", "float16"}
        What the weights are computed in; states are float32.
    trust_remote_code : bool
        Run the code that comes with the model.
    untrained : int, optional
        A seed: draw fresh weights by the configuration instead of loading the model's own.
    max_tokens, step : int
        See `HuggingFaceSubject`.

    Raises
    ------
    InputError
        If the model cannot be loaded, lacks weights or is not causal, or if transformers is not
        installed.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory}: no config.json: it is not a model's directory")
    if device == AUTO:
        import_extra("accelerate", "device = auto")
    common = {"dtype": getattr(torch, dtype), "trust_remote_code": trust_remote_code}
    with _quiet():
        if untrained is None:
            model = _read_model(directory, device, common)
        else:
            model = _untrained_model(directory, untrained, device, common)
        known = load_tokenizer(tokenizer or directory, trust_remote_code=trust_remote_code)
        return HuggingFaceSubject(model, known, max_tokens, step)


def _read_model(directory: Path, device: str, common: dict[str, Any]) -> Any:
    safe = any(directory.glob("*.safetensors"))
    if not safe and any(directory.glob("*.bin")):
        what = "its .bin is unpickled, tensors only (weights_only)"
        warn(f"{directory} has no safetensors; {what}")
    with _one_line_errors(directory):
        model, about = import_extra("transformers").AutoModelForCausalLM.from_pretrained(
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
    missing = sorted(about["missing_keys"]) or [key[0] for key in about["mismatched_keys"]]
    if missing:
        why = f"not there or of another shape ({len(missing)} like it): they do not fit config.json"
        raise InputError(f"{directory}: the weights of {missing[0]} are {why}")
    return model


def _untrained_model(directory: Path, seed: int, device: str, common: dict[str, Any]) -> Any:
    transformers = import_extra("transformers")
    with _one_line_errors(directory), torch.random.fork_rng(devices=[]):
        config = transformers.AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=common["trust_remote_code"]
        )
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, **common)
        if device != AUTO:
            return model.to(device)
        accelerate = import_extra("accelerate")
        whole = [*(model._no_split_modules or ())]
        device_map = accelerate.infer_auto_device_map(model, no_split_module_classes=whole)
        return accelerate.dispatch_model(model, device_map)


def load_tokenizer(directory: Path | str, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer in a directory, or the one above it; None if neither has one."""
    place = tokenizer_place(directory)
    if place is None:
        return None
    with _quiet(), _one_line_errors(place):
        return import_extra("transformers").AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=trust_remote_code
        )


def tokenizer_place(directory: Path | str) -> Path | None:
    """Return the directory that has a tokenizer: this one, or that above it; None if neither."""
    for place in (Path(directory), Path(directory).absolute().parent):
        if any((place / name).is_file() for name in TOKENIZER_FILES):
            return place
    return None


def import_extra(library: str, user: str = "this") -> Any:
    """Import a library of the extra ``hf``; InputError if it is not installed."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise InputError(
            f"{user} needs {library}, which is not installed: pip install 'tasklens[hf]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bars and the advice of transformers off the terminal."""
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
    """Turn whatever the libraries raise into an InputError; none of our code runs inside."""
    try:
        yield
    except Exception as error:  # a model can fail to load in many ways
        why = f"cannot be loaded: {first_line(error)}"
        if "Unrecognized configuration class" in str(error):
            why = "is no causal language model: AutoModelForCausalLM does not know it"
        elif "trust_remote_code" in str(error):
            why = "comes with code of its own; --trust-remote-code runs it, if you do"
        raise InputError(f"{directory} {why}") from error
