"""A command with workers that is asked to end leaves no worker, and prints nothing of Python's."""

import os
import signal
import subprocess
import sys

import pytest

from conftest import HANG

PROGRAM = """
import signal, sys, time
from tasklens.cli.signals import TerminatedError, end_by, raising
from tasklens.core.workers import Processes

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
with raising():
    try:
        with Processes(2) as workers:
            busy = workers.submit(time.sleep, 1000)
            print(workers.submit(abs, -1).result(), flush=True)
            busy.result()
    except TerminatedError as error:
        print(error.name, flush=True)
        sys.exit(end_by(error.number))
"""


@pytest.mark.parametrize("to", [os.kill, os.killpg])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_workers_end_by_a_signal_and_nothing_is_printed(number: signal.Signals, to: object) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert callable(to)
        to(process.pid, number)
        # The workers and the tracker hold the same pipes, so that this waits for them, too.
        out, err = process.communicate(timeout=HANG)
    assert (process.returncode, out, err) == (-number, f"{number.name}\n", "")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    program = (
        "import signal\nfrom tasklens.cli.signals import raising\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with raising(): signal.raise_signal(signal.SIGHUP)\n"
        "assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
