"""Run the command line in a forked process, which may be stopped at a file operation."""

import atexit
import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tasklens as tl
from e2e.conftest import Result, call
from e2e.stock import reading
from tasklens.core.errors import InputError
from tasklens.core.files import sha256

#: Seconds after which a command hangs; on an idle machine each takes under five.
LIMIT = 40.0

#: The operations on files at which a process can be stopped, as Python's audit events.
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

#: A process that was forked has all imports.
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Stop:
    """A file operation of the working directory, from 1 on, and what happens before it."""

    at: int
    how: str
    """The name of a signal, or "full": the disk is full from then on, as far as it is synced."""


@dataclass(frozen=True)
class Ended:
    """Exit status and output of a command."""

    status: int | None
    """The exit status; of a signal its negative number; None of a command that hung."""
    out: str = ""
    err: str = ""
    operations: int = 0
    seconds: float = 0.0

    @property
    def refused(self) -> str:
        """The message, if the command ended in one line of error; otherwise nothing."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("tasklens: error: ")]
        notes = all(line.startswith(("  ", "tasklens: ")) for line in lines)
        return errors[0] if self.status == 2 and notes and len(errors) == 1 else ""


#: The arguments of the command line; or "load" and a path, see `load`.
Command = tuple[str | Path, ...]


def run(
    cwd: Path,
    command: Command,
    stop: Stop | None = None,
    batches: float | None = None,
    limit: float = LIMIT,
) -> Ended:
    """Run a command in a process of its own, in a directory.

    ``batches`` interrupts the harvest of given models after so many of their batches.
    """
    began = time.monotonic()
    mine, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_act, args=(theirs, cwd, command, stop, batches))
    process.start()
    theirs.close()
    result, operations = None, 0
    hangs = not mine.poll(limit)
    if not hangs:
        with contextlib.suppress(EOFError):  # of a process that was killed
            result, operations = mine.recv()
        process.join(limit)
    if process.is_alive():
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    seconds = time.monotonic() - began
    if hangs:
        return Ended(None, seconds=seconds)
    if result is None:
        return Ended(process.exitcode, seconds=seconds)
    return Ended(result.status, result.out, result.err, operations, seconds)


def load(path: Path | str) -> Result:
    """Read all arrays of a run from Python, and give their hashes as the output."""
    try:
        run = tl.load_run(path)
        arrays: dict[str, Any] = {
            f"{step} {name}": run.states(name, step)
            for step in run.steps
            for name in run.state_names
        }
        for step in run.steps:
            arrays |= {f"{step} {key}": x for key, x in run.answers(step).items()}
            arrays |= {f"{step} {key}": x for key, x in run.clusters(step).items()}
        lines = [f"{name} {x.shape} {sha256(x.tobytes())}" for name, x in sorted(arrays.items())]
        return Result(0, "\n".join([*lines, run.scores().to_csv()]), "")
    except InputError as error:
        return Result(2, "", f"tasklens: error: {error}")


def _act(
    pipe: Connection, cwd: Path, command: Command, stop: Stop | None, batches: float | None
) -> None:
    atexit._clear()  # a command that a signal ends calls the functions at exit, here the campaign's
    os.setsid()
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    operations = _Operations(cwd, stop)
    try:
        with nullcontext() if batches is None else reading(stop_after=batches):
            result = load(command[1]) if command[0] == "load" else call(*command)
    except BaseException:  # as Python would print it
        result = Result(1, "", traceback.format_exc())
    pipe.send((result, operations.count))
    os._exit(0)


class _Operations:
    """Counts the operations on files below a directory, and stops at one of them."""

    def __init__(self, cwd: Path, stop: Stop | None) -> None:
        self.count, self._stop, self._root = 0, stop, os.fspath(cwd)
        self._sync = os.fsync
        os.fsync = self._synced  # type: ignore[assignment]
        sys.addaudithook(self._audited)

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and self._is_below(arguments[0]):
            if event == "open":
                _, mode, flags = arguments
                if not (set("wax+") & set(mode) if mode else flags & _WRITING):
                    return
            self._next()

    def _is_below(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return str(Path.cwd() / os.fsdecode(path)).startswith(self._root)

    def _next(self) -> None:
        self.count += 1
        if self._stop and self.count == self._stop.at and self._stop.how != "full":
            os.kill(os.getpid(), signal.Signals[self._stop.how])

    def _synced(self, descriptor: Any) -> None:
        self._next()
        if self._stop and self._stop.how == "full" and self.count >= self._stop.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._sync(descriptor)
