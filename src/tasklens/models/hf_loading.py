"""Models and tokenizers from local directories of Hugging Face's format. Nothing is fetched."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tasklens.core.errors import InputError
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
        With ``config.json`` and weights; safetensors, or else ``.bin`` files, which are read with
        ``weights_only`` and a warning.
    tokenizer : path, optional
        Where the tokenizer is; in the directory, or the one above, by default. A Subject without
        one reads tokens but no texts.
    device : str
        cpu, cuda or cuda:N; auto: as accelerate's ``device_map="auto"`` spreads it over all GPUs,
        the memory and the disk.
    dtype : {"float32", "bfloat16", "float16"}
        What the weights are computed in; states are float32.
    trust_remote_code : bool
        Run the code that comes with the model.
    max_tokens, step : int
        See `HuggingFaceSubject`.
    untrained : int, optional
        A seed: give the network fresh weights, by its configuration, in the place of its own.

    Raises
    ------
    InputError
        Where it cannot be loaded, lacks weights, is not causal, or transformers is not installed.
    """
    directory = Path(directory)
    transformers = import_transformers()
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory}: no config.json: it is not a model's directory")
    safe = any(directory.glob("*.safetensors"))
    if untrained is None and not safe and any(directory.glob("*.bin")):
        print(
            f"tasklens: warning: {directory} has no safetensors; its .bin is unpickled, tensors "
            "only (weights_only)",
            file=sys.stderr,
        )
    common = {"dtype": getattr(torch, dtype), "trust_remote_code": trust_remote_code}
    if device == AUTO:
        import_accelerate()
    with _quiet(transformers), _one_line_errors(directory):
        if untrained is None:
            spread = {"device_map": AUTO} if device == AUTO else {}
            model = _read_model(directory, safe, {**common, **spread})
        else:
            config = transformers.AutoConfig.from_pretrained(
                directory, local_files_only=True, trust_remote_code=trust_remote_code
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(untrained)
                model = transformers.AutoModelForCausalLM.from_config(config, **common)
            if device == AUTO:
                accelerate = import_accelerate()
                blocks = model._no_split_modules
                device_map = accelerate.infer_auto_device_map(
                    model, no_split_module_classes=list(blocks or ())
                )
                model = accelerate.dispatch_model(model, device_map)
        known = load_tokenizer(tokenizer or directory, trust_remote_code=trust_remote_code)
        if device != AUTO:
            model = model.to(device)
        return HuggingFaceSubject(model, known, max_tokens, step)


def _read_model(directory: Path, safe: bool, common: dict[str, Any]) -> Any:
    model, about = import_transformers().AutoModelForCausalLM.from_pretrained(
        directory,
        local_files_only=True,
        use_safetensors=safe or None,
        weights_only=True,
        output_loading_info=True,
        **common,
    )
    missing = sorted(about["missing_keys"])
    if missing or about["mismatched_keys"]:
        wrong = missing or [key[0] for key in about["mismatched_keys"]]
        raise InputError(
            f"{directory}: the weights of {wrong[0]} are not there or of another shape "
            f"({len(wrong)} like it): they do not fit config.json"
        )
    return model


def load_tokenizer(directory: Path | str, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer in a directory, or the one above it; None where neither has one."""
    transformers = import_transformers()
    place = tokenizer_place(directory)
    if place is None:
        return None
    with _quiet(transformers), _one_line_errors(place):
        return transformers.AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=trust_remote_code
        )


def tokenizer_place(directory: Path | str) -> Path | None:
    """Return the directory that has a tokenizer: this one, or that above it; None for neither."""
    for place in (Path(directory), Path(directory).absolute().parent):
        if any((place / name).is_file() for name in TOKENIZER_FILES):
            return place
    return None


def import_transformers() -> Any:
    """Import transformers, or say what to install."""
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            "this needs transformers, which is not installed: pip install 'tasklens[hf]'"
        ) from error
    return transformers


def import_accelerate() -> Any:
    """Import accelerate, or say what to install."""
    try:
        import accelerate
    except ImportError as error:
        raise InputError(
            "device = auto needs accelerate, which is not installed: pip install 'tasklens[hf]'"
        ) from error
    return accelerate


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's progress bars and advice off the terminal."""
    logging = transformers.utils.logging
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
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of any of a model's many ways not to load
        if "Unrecognized configuration class" in str(error):
            raise InputError(
                f"{directory} is no causal language model: AutoModelForCausalLM does not know it"
            ) from error
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{directory} comes with code of its own; --trust-remote-code runs it, if you do"
            ) from error
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{directory} cannot be loaded: {first}") from error
