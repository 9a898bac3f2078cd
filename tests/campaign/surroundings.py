"""Surroundings of a command: the environment, the standard streams, and its worker processes.

Each command runs as a new process, because much of the environment is read once, at its start.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import psutil

from campaign.attempt import Attempt, Judged, Outcome
from campaign.command import LIMIT, Ended
from campaign.directories import Directories, results
from campaign.inputs import Attack
from e2e.conftest import without_progress

#: Seconds that a new process may take in addition, to import what it needs.
IMPORTS = 60.0
NONSENSE = ("", "abc", "0", "-1", "²", "999999999999", "/nowhere", "1,2", "\udcff")
#: What a notebook, a cluster, a container or a user sets.
VARIABLES = {
    "MPLBACKEND": ("module://matplotlib_inline.backend_inline", "TkAgg", "nonsense"),
    "MATPLOTLIBRC": ("/nowhere", "/dev/null"),
    "MPLCONFIGDIR": ("/nowhere", "/proc"),
    "OMP_NUM_THREADS": ("1", "2,1", "64", *NONSENSE),
    "MKL_NUM_THREADS": NONSENSE,
    "OPENBLAS_NUM_THREADS": NONSENSE,
    "NUMBA_NUM_THREADS": ("1", "64", *NONSENSE),
    "NUMBA_CACHE_DIR": ("/nowhere", "/proc", ""),
    "NUMBA_THREADING_LAYER": ("workqueue", "nonsense"),
    "KMP_AFFINITY": ("disabled", "nonsense"),
    "MKL_THREADING_LAYER": ("GNU", "nonsense"),
    "PYTHONWARNINGS": ("error", "nonsense", "default"),
    "PYTHONOPTIMIZE": ("1", "2"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONIOENCODING": ("ascii", "latin-1", "utf-16", "cp037", "utf-8:strict"),
    "PYTHONUNBUFFERED": ("1",),
    "PYTHONDEVMODE": ("1",),
    "LC_ALL": ("C", "POSIX", "nonsense"),
    "LANG": ("xx",),
    "TZ": ("nonsense", "/nowhere"),
    "TERM": ("", "dumb", "nonsense"),
    "COLUMNS": ("1", "0", "abc"),
    "FORCE_COLOR": ("1",),
    "HOME": ("", "/nowhere", "/proc"),
    "TMPDIR": ("/nowhere", "/proc", ""),
    "XDG_CACHE_HOME": ("/nowhere", "/proc"),
    "HF_HOME": ("/nowhere", "/proc", ""),
    "TRANSFORMERS_OFFLINE": ("1", "abc"),
    "TRANSFORMERS_VERBOSITY": ("debug", "nonsense"),
    "CUDA_VISIBLE_DEVICES": ("", "0,1", "abc"),
    "TORCH_LOGS": ("recompiles", "nonsense"),
    "TORCHDYNAMO_DISABLE": ("1",),
    "WORLD_SIZE": ("1", "2", *NONSENSE),
    "RANK": ("0", "1", *NONSENSE),
    "LOCAL_RANK": ("0", "3", *NONSENSE),
    "MASTER_ADDR": ("localhost", ""),
    "MASTER_PORT": ("1", "abc"),
    "SLURM_NTASKS": ("4", "abc"),
    "SLURM_PROCID": ("0", "abc"),
    "SLURM_CPUS_PER_TASK": ("1", "abc"),
    "RAY_ADDRESS": ("nonsense", "auto"),
    "TASKLENS_DEBUG": ("0",),
    "NO_COLOR": ("1",),
    "LD_BIND_NOW": ("1",),
}
STREAMS = ("out closed", "err closed", "in closed", "all closed", "out full", "err full", "left")
READERS = ("follow", "measure", "plot", "report", "show", "verify")


def _begin(d: Directories, work: Path, rng: Random) -> tuple[Attempt, str]:
    """Return a copy of a directory and the name of a reader, with something to do."""
    case = d.cases[rng.choice(["run", "one"])]
    attempt = Attempt(d, case, work)
    reader = rng.choice(READERS)
    attempt.make_due(reader)
    return attempt, reader


def _process(attempt: Attempt, reader: str, environment: dict[str, str], **streams: Any) -> Ended:
    arguments = [sys.executable, "-m", "tasklens", *map(str, attempt.case.readers[reader])]
    usual: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            arguments,
            cwd=attempt.above,
            env=os.environ | environment,
            check=False,
            timeout=LIMIT + IMPORTS,
            **usual | streams,
        )
    except subprocess.TimeoutExpired:
        return Ended(None)
    out, err = (
        bytes_.decode(errors="replace") if bytes_ else "" for bytes_ in (done.stdout, done.stderr)
    )
    return Ended(done.returncode, out, without_progress(err))


def _judge(attempt: Attempt, reader: str, ended: Ended) -> None:
    """Note what a reader under strange conditions gave; then finish the directory without them."""
    if attempt.failed(reader, ended):
        return
    if ended.refused:
        attempt.note(Outcome.REFUSED, ended.err.strip()[:500])
    elif ended.status not in (0, attempt.case.answers[reader].status):
        attempt.note(Outcome.TRACEBACK, f"{reader}: status {ended.status}: {ended.err[:1000]}")
    else:
        left = attempt.case.left[reader]
        present = results(attempt.path)
        different = [n for n in left if n in present and left[n] != present[n]]
        if different:
            attempt.note(Outcome.DIFFERENT, f"{reader} leaves {', '.join(sorted(different)[:4])}")
    attempt.finish()


def environment(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Read a directory with one to three variables of the environment that matter to libraries."""
    rng = Random(f"{seed} environment {number}")
    attempt, reader = _begin(d, work, rng)
    names = rng.sample(sorted(VARIABLES), rng.choice([1, 1, 2, 3]))
    variables = {name: rng.choice(VARIABLES[name]) for name in names}
    attempt.watch()
    _judge(attempt, reader, _process(attempt, reader, variables))
    return attempt, f"{attempt.case.name}: {reader} with {variables}"


def streams(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Read a directory with standard streams that are closed, full, or left by their reader."""
    rng = Random(f"{seed} streams {number}")
    attempt, reader = _begin(d, work, rng)
    what = rng.choice(STREAMS)
    encoding = rng.choice(["utf-8", "ascii", "latin-1", "utf-16"])
    attempt.watch()
    numbers = {"out closed": [1], "err closed": [2], "in closed": [0], "all closed": [0, 1, 2]}
    given: dict[str, Any] = {}
    if what in numbers:

        def close() -> None:
            for descriptor in numbers[what]:
                os.close(descriptor)

        given["preexec_fn"] = close
    with contextlib.ExitStack() as opened:
        if what.endswith("full"):
            full = opened.enter_context(Path("/dev/full").open("wb"))
            given["stdout" if what.startswith("out") else "stderr"] = full
        elif what == "left":
            read, write = os.pipe()
            os.close(read)
            opened.callback(os.close, write)
            given["stdout"] = write
        ended = _process(attempt, reader, {"PYTHONIOENCODING": encoding}, **given)
    broken = {"left": (141,), "out full": (2,), "err full": (2, 120), "all closed": (2, 120)}
    if ended.status in broken.get(what, ()) and "Traceback" not in ended.err:
        attempt.note(Outcome.REFUSED, f"{what}: status {ended.status}")
        attempt.finish()
    else:
        _judge(attempt, reader, ended)
    return attempt, f"{attempt.case.name}: {reader} with {what}, {encoding}"


def killed_worker(d: Directories, work: Path, seed: int, number: int) -> tuple[Judged, str]:
    """Kill one of the worker processes while cells are measured or frames are made."""
    rng = Random(f"{seed} worker {number}")
    case = d.cases[rng.choice(["run", "one"])]
    attempt = Attempt(d, case, work)
    reader = rng.choice(["measure", "report"])
    attempt.make_due(reader)
    attempt.watch()
    arguments = [*map(str, case.readers[reader]), "--set", "workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tasklens", *arguments],
        cwd=attempt.above,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    after, killed = rng.uniform(0, 6), 0
    end = time.monotonic() + LIMIT + IMPORTS
    seen = None
    while process.poll() is None and time.monotonic() < end and not killed:
        workers = _workers(process.pid)
        seen = seen or (time.monotonic() if workers else None)
        if seen and time.monotonic() - seen >= after and workers:
            with contextlib.suppress(psutil.Error):
                rng.choice(workers).kill()
                killed += 1
        time.sleep(0.02)
    try:
        out, err = process.communicate(timeout=LIMIT + IMPORTS)
        ended = Ended(process.returncode, out, without_progress(err))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        ended = Ended(None)
    if not attempt.failed(reader, ended):
        if ended.status:
            attempt.note(Outcome.REFUSED, ended.err.strip()[:500])
        attempt.finish()
    return attempt, f"{case.name}: {reader}, {killed} killed after {after:.1f} s"


def _workers(parent: int) -> list[psutil.Process]:
    """Return the worker processes of a command, without what multiprocessing needs itself."""
    with contextlib.suppress(psutil.Error):
        return [
            child
            for child in psutil.Process(parent).children()
            if "resource_tracker" not in " ".join(child.cmdline())
        ]
    return []


SURROUNDING_ATTACKS: dict[str, Attack] = {
    "environment": environment,
    "streams": streams,
    "killed-worker": killed_worker,
}
