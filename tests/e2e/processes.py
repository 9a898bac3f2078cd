"""Start the command line as a process of its own, and wait for what it does."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from conftest import HANG


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start ``tasklens ...`` in a session of its own, of which it is the first process."""
    return start_python("-m", "tasklens", *arguments, **environment)


def start_python(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start ``python ...`` in a session of its own, of which it is the first process."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in the background with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(due: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is due, which a process, if one is given, has to outlive."""
    end = time.monotonic() + HANG
    while not due():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.005)


def of_session(first: int) -> list[psutil.Process]:
    """Return the processes of a session that still run, all of which the first has started."""
    running = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has just ended
            if process.status() != psutil.STATUS_ZOMBIE and os.getsid(process.pid) == first:
                running.append(process)
    return running
