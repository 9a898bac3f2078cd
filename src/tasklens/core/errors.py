"""The exceptions that a user is meant to read."""

import os


class InputError(ValueError):
    """One line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with status 2.
    """


def debugging() -> bool:
    """Return whether tracebacks are wanted: the environment has TASKLENS_DEBUG=1."""
    return os.environ.get("TASKLENS_DEBUG", "") not in ("", "0")


class CellsFailedError(Exception):
    """Some cells failed for reasons of their own; everything else is done.

    The command line prints a line for each cell with the reason, and exits with status 1.
    """

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__("; ".join(f"{cell}: {reason}" for cell, reason in reasons.items()))
        self.reasons = reasons


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
