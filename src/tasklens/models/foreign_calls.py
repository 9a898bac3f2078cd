"""Call libraries of models so that they print nothing and fail in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasklens.core.errors import InputError, first_line, is_panic
from tasklens.core.extras import import_extra
from tasklens.core.progress import progress, shows_bars
from tasklens.models.devices import is_out_of_memory


@contextmanager
def quiet() -> Iterator[None]:
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
def fetching(name: str) -> Iterator[None]:
    """Show the progress of a download by huggingface_hub: its bars, or a line now and then.

    Its bars would be in a log, too.
    """
    utils = import_extra("huggingface_hub.utils")
    if shows_bars() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        with progress(f"fetch {name}", lasting=False):
            yield
    finally:
        utils.enable_progress_bars()


@contextmanager
def one_line_errors(directory: Path) -> Iterator[None]:
    """Turn any error of the libraries into an InputError; no code of tasklens runs in the block."""
    try:
        yield
    except BaseException as error:  # a model can fail to load in many ways
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise InputError(f"{directory} {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    message = str(error)
    if "Unrecognized configuration class" in message:
        return "is no causal language model: AutoModelForCausalLM does not support it"
    if "trust_remote_code" in message:
        return "has code of its own; give --trust-remote-code if you trust this code"
    if "ignore_mismatched_sizes" in message:
        return "cannot be loaded: its weights do not have the shapes of its config.json"
    if is_out_of_memory(error):
        return "cannot be loaded: it needs more memory than there is"
    line = first_line(error)
    if line.endswith(":"):  # the reason is in the next line
        line = " ".join(message.split("\n")[:2])
    line = " ".join(line.split())
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError):
        return f"cannot be loaded ({type(error).__name__}: {line}): a value in its files is wrong"
    return f"cannot be loaded: {line}"
