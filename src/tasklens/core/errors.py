"""Exceptions whose messages are written for the user."""

import os
import re

#: Longest run of characters without a space in a message, and longest message.
_LONGEST = 400, 2000


class InputError(ValueError):
    """A mistake of the user, in one line: what is wrong, where, and what would be right.

    The command line prints the line without a traceback and exits with status 2.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.TrainSettings(step=100)
    Traceback (most recent call last):
    tasklens.core.errors.InputError: TrainSettings has no field 'step'; the nearest is 'steps'
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(shortened(str(message)))


def shortened(message: str) -> str:
    """Return a message in which what is so long that no reader needs it whole has its ends only.

    A user's value may have any length. What is wrong stands at the beginning of a message, what
    would be right at the end.
    """
    word, whole = _LONGEST
    if len(message) > word:
        message = re.sub(rf"\S{{{word},}}", lambda match: _ends(match[0], word), message)
    return message if len(message) <= whole else _ends(message, whole)


def _ends(text: str, length: int) -> str:
    return f"{text[: length // 2]}...{text[-length // 4 :]}"


def debugging() -> bool:
    """Return whether the environment asks for tracebacks, by TASKLENS_DEBUG=1."""
    return os.environ.get("TASKLENS_DEBUG", "") not in ("", "0")


class CellsFailedError(Exception):
    """Failures of single cells, after which all other cells were measured.

    The command line prints one line per cell with the reason, and exits with status 1.

    Examples
    --------
    >>> import tasklens as tl
    >>> try:
    ...     raise tl.CellsFailedError({"step 8, val_subset, block1 (raw)": "MemoryError"})
    ... except tl.CellsFailedError as error:
    ...     print(error.reasons)
    {'step 8, val_subset, block1 (raw)': 'MemoryError'}
    """

    def __init__(
        self, reasons: dict[str, str], command: str = "--resume, or tasklens measure,"
    ) -> None:
        super().__init__("; ".join(f"{cell}: {reason}" for cell, reason in reasons.items()))
        self.reasons = reasons
        self.again = f"the others are done; {command} tries these again"


def is_panic(error: BaseException) -> bool:
    """Return whether an error is a panic of a library in Rust: no Exception, of no public class."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
