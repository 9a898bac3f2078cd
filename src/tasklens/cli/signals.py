"""End a command that is asked to end, by SIGTERM or SIGHUP, as cleanly as by Ctrl-C."""

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

#: What batch systems, ``kill`` and ``timeout`` send; what a terminal that is closed sends.
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class TerminatedError(BaseException):
    """A signal has asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Raise TerminatedError in the block at a signal, so that what has begun is ended in order.

    A second signal ends the process at once. A signal that is ignored, as under ``nohup``, stays
    ignored.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        before = {n: handler for n, handler in handlers.items() if handler == signal.SIG_DFL}
    try:
        for number in before:
            signal.signal(number, _raise)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise TerminatedError(number)


def end_by(number: int) -> int:
    """End this process by a signal, which the parent process sees, after the functions at exit.

    Without them, Python would print a warning of the semaphores of worker processes. If the signal
    is blocked, return the status that shells have for it.
    """
    atexit._run_exitfuncs()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
