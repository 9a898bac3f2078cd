"""Import the libraries of the optional extras."""

import importlib
from typing import Any

from tasklens.core.errors import InputError

#: The extra that each library belongs to.
EXTRAS = {
    "accelerate": "hf",
    "gguf": "gguf",
    "huggingface_hub": "hf",
    "peft": "peft",
    "ray": "ray",
    "tokenizers": "hf",
    "transformers": "hf",
}


def install_command(extra: str) -> str:
    """Return the command that installs an extra, in a checkout of tasklens."""
    return f"pip install -e '.[{extra}]'"


def import_extra(library: str, user: str = "this") -> Any:
    """Import a library of an extra, or a module of it by its whole name.

    InputError, which names the user, if it is not installed.
    """
    name, library = library, library.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{user} needs {library}, which is not installed: "
            f"{install_command(EXTRAS[library])} in the checkout of tasklens"
        ) from error
