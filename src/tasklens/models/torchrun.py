"""Find out, without importing torch, whether torchrun has launched this process."""

import os

from tasklens.core.errors import InputError
from tasklens.core.messages import short


def launched_by_torchrun() -> bool:
    """Return whether torchrun has launched several processes, and this is one of them."""
    return "TORCHELASTIC_RUN_ID" in os.environ and _number("WORLD_SIZE", "1") > 1


def is_other_rank() -> bool:
    """Return True on ranks above 0, which train but write no files."""
    return launched_by_torchrun() and _number("RANK") > 0


def check_launch() -> None:
    """Raise InputError if the variables of torchrun are not those that it sets.

    Those of other launchers, which have some of the same names, are not read without torchrun's.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    size = _checked("WORLD_SIZE", 1, default="1")
    if size > 1:
        _checked("RANK", 0, size - 1)
        _checked("LOCAL_RANK", 0, _checked("LOCAL_WORLD_SIZE", 1, size) - 1)
        _checked("MASTER_PORT", 0, 65535)


def _checked(name: str, low: int, high: int = 10**6, default: str = "") -> int:
    number = _number(name, default)
    if not low <= number <= high:
        given = f" = {short(os.environ[name])}" if name in os.environ else " is not set"
        raise InputError(
            f"the environment variable {name}{given}: should be a number from {low} to {high}, as "
            "torchrun sets it; without torchrun, unset TORCHELASTIC_RUN_ID"
        )
    return number


def _number(name: str, default: str = "") -> int:
    """Return the number in a variable of the environment, or -1 if it has none."""
    text = os.environ.get(name, default)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
