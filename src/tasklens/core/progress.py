"""Report progress on standard error: bars on a terminal, otherwise a line from time to time.

Python callers get bars on a terminal and nothing elsewhere. The command line also asks for lines,
see `reporting`. Notes, warnings and errors go the same way, so that they do not break a bar. A
terminal obeys no text of a user's files: see `tasklens.core.text.visible`.
"""

import contextlib
import enum
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

from tasklens.core.text import visible

#: Seconds between two lines of a stage if standard error is no terminal.
SECONDS_BETWEEN_LINES = 30.0
#: Seconds between two looks of the clock on a terminal.
SECONDS_BETWEEN_TICKS = 1.0


class Level(enum.IntEnum):
    """Amount of what is reported, from little to much."""

    QUIET = 0
    """Warnings only."""
    BARS = 1
    """Also notes, and bars on a terminal: the default for Python callers."""
    LINES = 2
    """Also lines if standard error is no terminal: the default of the command line."""
    DETAILS = 3
    """Also details."""


class _State:
    """Level of this process, and the status that the terminal shows."""

    level = Level.BARS
    status: "Progress | None" = None


@contextlib.contextmanager
def reporting(level: Level) -> Iterator[None]:
    """Report at a level until the block ends, which also clears the status."""
    before, _State.level = _State.level, level
    try:
        yield
    finally:
        clear_status()
        _State.level = before


def set_level(level: Level) -> None:
    """Change the level until the end of the block of `reporting`."""
    _State.level = level


class Progress:
    """The progress of one stage; made by `progress`.

    Parameters
    ----------
    name : str
        Name of the stage, e.g. "train".
    total : int or None
        Number of units; None if they are not counted.
    unit : str
        What is counted, e.g. "step".
    initial : int
        Units that were done before.
    """

    def __init__(self, name: str, total: int | None, unit: str, initial: int) -> None:
        self.name, self.total, self.unit = visible(name), total, unit
        self.count = self._initial = initial
        self._began = time.monotonic()
        self._file = sys.stderr
        self._bar: Any = None
        self._lasting = True
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def update(self, n: int = 1) -> None:
        """Count ``n`` more units."""
        self.count += n
        if self._bar is not None:
            self._bar.update(n)

    def note(self, text: str) -> None:
        """Show a text behind the bar, if there is one."""
        if self._bar is not None:
            self._bar.set_postfix_str(visible(text), refresh=False)

    def begin(self, *, lasting: bool = True) -> None:
        """Show the stage, for good if ``lasting``, otherwise until it ends and only if it is long.

        On a terminal the second is a bar that is removed.
        """
        self._lasting = lasting
        if _on_terminal():
            if _State.level >= Level.BARS:
                self._begin_bar(lasting)
        elif _State.level >= Level.LINES:
            if lasting:
                amount = f" ({_number(self.total, self.unit)})" if self.total else ""
                self._print(f"begins{amount}")
            self._tick_every(SECONDS_BETWEEN_LINES, self._print_count)

    def end(self, *, failed: bool = False) -> None:
        """Show that the stage is done, or only stop if it failed."""
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._bar is not None:
            self._bar.close()
        elif self._ticker is not None and self._lasting and not failed:
            self._print(f"done in {duration(time.monotonic() - self._began)}")

    def _begin_bar(self, lasting: bool) -> None:
        from tqdm import tqdm

        size = shutil.get_terminal_size()  # 80 by 24 if the terminal has no size
        shape = {} if self.total is not None else {"bar_format": "{desc} ({elapsed})"}
        self._bar = tqdm(
            desc=self.name,
            total=self.total,
            unit=self.unit or "it",
            initial=self._initial,
            leave=lasting,
            ncols=size.columns,
            nrows=size.lines,
            file=self._file,
            **shape,
        )
        # Without this a bar stands still while a unit takes long.
        self._tick_every(SECONDS_BETWEEN_TICKS, self._bar.refresh)

    def _tick_every(self, seconds: float, action: Any) -> None:
        def tick() -> None:
            while not self._ended.wait(seconds):
                action()

        self._ticker = threading.Thread(target=tick, daemon=True)
        self._ticker.start()

    def _print_count(self) -> None:
        passed = time.monotonic() - self._began
        if not self.total:
            self._print(f"{duration(passed)} so far")
            return
        line = f"{self.unit} {self.count:,} of {self.total:,}, {self.count / self.total:.0%}"
        done = self.count - self._initial
        if done:
            left = duration(passed / done * (self.total - self.count))
            line += f", {done / passed:.3g} per second, {left} left"
        self._print(line)

    def _print(self, text: str) -> None:
        # To where the stage began: a sweep sends what a run prints to a file meanwhile.
        _print(f"tasklens: {self.name}: {text}\n", self._file)


@contextlib.contextmanager
def progress(
    name: str, total: int | None = None, unit: str = "", initial: int = 0, *, lasting: bool = True
) -> Iterator[Progress]:
    """Show the progress of the block; see `Progress` and `Progress.begin` for the arguments.

    On a terminal that is a bar, which stays. Otherwise, from `Level.LINES` on, a line is printed as
    the block begins, one as it ends, and one per `SECONDS_BETWEEN_LINES` meanwhile. If it is not
    ``lasting``, only the last ones are.
    """
    clear_status()
    shown = Progress(name, total, unit, initial)
    shown.begin(lasting=lasting)
    try:
        yield shown
    except BaseException:
        shown.end(failed=True)
        raise
    shown.end()


def shows_bars() -> bool:
    """Return whether bars are shown, by tasklens or by a library."""
    return _on_terminal() and _State.level >= Level.BARS


def status(text: str) -> None:
    """Show on a terminal what the process does, until the next output; elsewhere it is a detail."""
    clear_status()
    if _on_terminal():
        _State.status = Progress(text, None, "", 0)
        _State.status.begin(lasting=False)
    else:
        detail(text)


def clear_status() -> None:
    """Remove the status from the terminal, if there is one."""
    if _State.status is not None:
        _State.status.end()
        _State.status = None


def warn(text: str) -> None:
    """Print a warning, whatever the level."""
    print_lines(f"warning: {text}")


def inform(*lines: str) -> None:
    """Print lines that are no warning, unless the level is `Level.QUIET`."""
    if _State.level >= Level.BARS:
        print_lines(*lines)


def detail(text: str) -> None:
    """Print a line at `Level.DETAILS` only."""
    if _State.level >= Level.DETAILS:
        print_lines(text)


def print_lines(*lines: str) -> None:
    """Print texts on standard error, a line each, after the name of the program."""
    text = "tasklens: " + "\n".join(map(visible, lines))
    clear_status()
    if _on_terminal():
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)  # above the bars
    else:
        _print(f"{text}\n", sys.stderr)


def print_traceback() -> None:
    """Print the traceback of the exception that is handled on standard error."""
    clear_status()
    _print(visible(traceback.format_exc(), lines=True), sys.stderr)


def _print(text: str, file: TextIO | None) -> None:
    """Print a text to standard error, if it can be: no work is lost because it cannot.

    Its disk may be full, or its reader gone. What is printed later is then lost, too: otherwise
    Python would fail at its end, with what is still in the buffer.
    """
    if file is None:  # closed
        return
    try:
        print(text, end="", file=file, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def duration(seconds: float) -> str:
    """Return a time for people: seconds below two minutes, minutes below two hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _number(n: int, unit: str) -> str:
    return f"{n:,} {unit}{'s' if n != 1 else ''}"


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
