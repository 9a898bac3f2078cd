"""Time both sides in turn, describe the machine and print results, for all benchmarks."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tasklens import __version__
from tasklens.core.workers import default_workers
from tasklens.runs.settings import TrainingRunSettings, load_settings

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "transformers", "scikit-learn", "numpy", "numba")
#: What the processor's matrix products gain from, by the flag that Linux shows.
FLAGS = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16"}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of the table: the measurement of both sides, and their ratio.

    Attributes
    ----------
    what, against : str
        Ours, and the code that it is compared with.
    ours, theirs : float
        In `unit`. If nothing is compared, theirs is None.
    unit : str
    ratio : float
        How many times better ours is, or the number that `target` bounds; None if nothing is
        compared.
    target : str
        Bound of the ratio, or of ours if nothing is compared, e.g. ">= 8"; empty if there is none.
    note : str
        Facts that a reader needs to judge the number, e.g. how it was extrapolated.
    """

    what: str
    against: str
    ours: float
    unit: str
    theirs: float | None = None
    ratio: float | None = None
    target: str = ""
    note: str = ""

    def verdict(self) -> str:
        """Return the target and whether the number, as it is printed, meets it."""
        if not self.target:
            return ""
        side, bound = self.target.split()
        value = float(f"{self.ours if self.ratio is None else self.ratio:.3g}")
        met = value >= float(bound) if side == ">=" else value <= float(bound)
        return f"{self.target}: {'met' if met else 'MISSED'}"

    def line(self) -> str:
        """Return the row as a line of text."""
        against = f" against {self.against}" if self.against else ""
        theirs = "" if self.theirs is None else f", theirs {self.theirs:.4g}"
        ratio = "" if self.ratio is None else f"; ratio {self.ratio:.3g}"
        target = f" (target {self.verdict()})" if self.target else ""
        note = f"\n    {self.note}" if self.note else ""
        return (
            f"RESULT {self.what}{against}: ours {self.ours:.4g}{theirs} {self.unit}{ratio}"
            f"{target}{note}"
        )


class Report:
    """Printer of results, which also appends them to a file of JSON lines if one is given."""

    def __init__(self, file: Path | None) -> None:
        self.file = file

    def add(self, result: Result) -> None:
        """Print one row and append it."""
        print(result.line(), flush=True)
        if self.file:
            with self.file.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks."""
    options = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("--json", type=Path, help="append the rows to this file of JSON lines")
    return options


def begin(arguments: argparse.Namespace) -> Report:
    """Take all cores, print the machine, and return the report that takes the rows."""
    torch.set_num_threads(default_workers())
    print("; ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    return Report(arguments.json)


def interleaved(
    sides: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Time the sides in turn, A B A B ..., so that a noisy machine is noisy for all of them.

    Parameters
    ----------
    sides : {name: function}
    rounds : int
        Number of times that each side is timed.
    warm_up : int
        Rounds before that, which are not timed: compilation, allocation, caches.

    Returns
    -------
    {name: seconds of each round}
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(warm_up + rounds):
        for name, side in sides.items():
            torch.set_num_threads(default_workers())  # the other side may have changed it
            took = timed(side)
            if i >= warm_up:
                seconds[name].append(took)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each side's rounds."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def printed(command: Sequence[str], n: int) -> list[float]:
    """Run a command in a process of its own; return the last n numbers that it prints."""
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in ran.stdout.split()[-n:]]


def peak_megabytes() -> float:
    """Return the peak resident memory of this process; getrusage would include its parent's."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024 / 1e6


def settings_of(preset: str = "default", **changes: object) -> TrainingRunSettings:
    """Return a preset's settings with changes, ``table__key=value``."""
    return load_settings(
        preset, [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    )


def sized(width: int, **changes: object) -> TrainingRunSettings:
    """Return the default preset at another width, each head 64 wide as GPT-2's are."""
    changes |= {"model__n_embd": width, "model__n_head": max(1, width // 64)}
    return settings_of("default", **changes)


def machine() -> dict[str, str]:
    """Describe the machine and what ran on it."""
    return {
        "machine": f"{_processor()}, {default_workers()} cores",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": ", ".join([f"Python {platform.python_version()}", *_versions()]),
        "commit": _commit(),
    }


def installed(module: str) -> Any:
    """Import an optional competitor; if it is not installed, print this and return None."""
    try:
        __import__(module)
    except ImportError as error:
        print(f"{module}: not installed ({error})", flush=True)
        return None
    return sys.modules[module]


def _versions() -> list[str]:
    return [f"tasklens {__version__}", *(f"{name} {metadata.version(name)}" for name in PACKAGES)]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    fields = {key.strip(): value.strip() for key, _, value in lines}
    flags = set(fields.get("flags", "").split())
    name = fields.get("model name", platform.machine())
    return " ".join([name, *(f"+{shown}" for flag, shown in FLAGS.items() if flag in flags)])


def _commit() -> str:
    def git(*command: str) -> str:
        ran = subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return ran.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" + changes" if changed else "")
