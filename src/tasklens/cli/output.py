"""Standard streams: results as text or JSON, colours on a terminal, and readers that leave."""

import io
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

from tasklens.core.progress import clear_status
from tasklens.core.text import json_text, visible

#: ANSI colours of the verdicts: green, red, yellow.
_COLOURS = {"holds": "32", "fails": "31", "undecided": "33"}
#: The exit status of a process whose reader has left, as shells have it (128 + SIGPIPE).
BROKEN_PIPE = 141

_formatted_by_python = warnings.formatwarning


class ReaderLeftError(Exception):
    """The reader of standard output has closed the pipe."""


def emit(text: str, *, verdicts: bool = False) -> None:
    """Print a result on standard output, with one line break at the end.

    What is no text, such as an escape sequence in a label, is written out, see `visible`. Only then
    are ``verdicts`` coloured. ReaderLeftError if the reader has closed the pipe, e.g. ``head``.
    """
    clear_status()
    shown = visible(text.removesuffix("\n"), lines=True)
    try:
        print(_coloured(shown) if verdicts else shown, flush=True)
    except BrokenPipeError as error:
        raise ReaderLeftError from error


def emit_path(path: Path) -> None:
    """Print a path as one line."""
    emit(visible(str(path)))


def emit_json(document: Any) -> None:
    """Print one JSON document; a number that JSON does not have is null."""
    emit(json_text(document))


def _coloured(text: str) -> str:
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
    """Let the standard streams show what they would obey, or what their encoding does not have.

    That includes Python's own warnings and tracebacks, which may contain a user's text. A stream
    that is closed goes to nowhere: otherwise the first file that is opened would take its number,
    and libraries would write their messages into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _format_warning
    sys.excepthook = _print_exception


def _format_warning(*warning: Any, **more: Any) -> str:
    return visible(_formatted_by_python(*warning, **more), lines=True)


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(visible(text, lines=True), end="", file=sys.stderr, flush=True)


def leave_pipe() -> None:
    """Send what is left in the buffer to nowhere, so that the exit is silent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
