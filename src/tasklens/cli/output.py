"""Standard output: results as text or JSON, colours on a terminal, and readers that leave."""

import io
import os
import re
import sys
from typing import Any

from tasklens.core.progress import clear_status
from tasklens.core.text import json_text

#: ANSI colours of the verdicts: green, red, yellow.
_COLOURS = {"holds": "32", "fails": "31", "undecided": "33"}
#: The exit status of a process whose reader has left, as shells have it (128 + SIGPIPE).
BROKEN_PIPE = 141


class ReaderLeftError(Exception):
    """The reader of standard output has closed the pipe."""


def emit(text: str) -> None:
    """Print a result on standard output, with one line break at the end.

    ReaderLeftError if the reader has closed the pipe, e.g. ``head``.
    """
    clear_status()
    try:
        print(text.removesuffix("\n"), flush=True)
    except BrokenPipeError as error:
        raise ReaderLeftError from error


def emit_json(document: Any) -> None:
    """Print one JSON document; a number that JSON does not have is null."""
    emit(json_text(document))


def coloured(text: str) -> str:
    """Return a text with its verdicts in colour if standard output shows colours.

    That is a terminal, unless NO_COLOR is set (no-color.org) or TERM is "dumb".
    """
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    # A verdict begins a line, or stands between columns.
    return re.sub(
        rf"(?m)(^|  )({'|'.join(_COLOURS)})(?=  |$)",
        lambda match: f"{match[1]}\x1b[{_COLOURS[match[2]]}m{match[2]}\x1b[0m",
        text,
    )


def prepare_streams() -> None:
    """Let the standard streams replace what their encoding does not have, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave_pipe() -> None:
    """Send what is left in the buffer to nowhere, so that the exit is silent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
