"""The command line as a process of its own, to be stopped in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def start(*words: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start ``tasklens ...`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tasklens", *map(str, words)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in the background with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(
    due: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 60
) -> None:
    """Wait until something is due, which a process, if one is given, has to outlive."""
    end = time.monotonic() + seconds
    while not due():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
