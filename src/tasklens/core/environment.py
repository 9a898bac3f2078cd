"""Find out why a library cannot be imported: variables of the environment, or another file."""

import os
import traceback
from types import FrameType

from tasklens.core.errors import first_line

#: Beginnings of the variables that a library reads, if they are not its name.
_PREFIXES = {
    "huggingface_hub": ("HF_", "HUGGINGFACE_"),
    "matplotlib": ("MPL", "MATPLOTLIB"),
    "pyarrow": ("ARROW_", "PYARROW_"),
    "sklearn": ("SKLEARN_", "SCIPY_"),
    "torch": ("TORCH", "PYTORCH_", "CUDA_"),
    "transformers": ("TRANSFORMERS_", "HF_"),
}


def import_failure(error: BaseException) -> str | None:
    """Return a line on the library whose import raised an error; None if no import did.

    It names the variables of the environment that the library reads and that are set, because they
    are the usual reason; otherwise the file, which may stand in the way of the library's own.
    """
    modules = [
        frame
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>" and _library(frame) not in ("tasklens", "__main__")
    ]
    if not modules or isinstance(error, MemoryError):
        return None
    library = _library(modules[-1])
    prefixes = _PREFIXES.get(library, (f"{library.upper()}_",))
    names = [f"{name}={os.environ[name]}" for name in os.environ if name.startswith(prefixes)]
    remedy = (
        f"change {' or '.join(sorted(names))} in the environment"
        if names
        else f"should be the library itself: {modules[-1].f_code.co_filename}"
    )
    return f"{library} cannot be imported: {first_line(error).rstrip('.')}; {remedy}"


def _library(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
