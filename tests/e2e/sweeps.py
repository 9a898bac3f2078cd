"""Run sweeps of short runs, and read their files."""

import json
from collections.abc import Callable
from pathlib import Path

from e2e.conftest import TINY, Result, call
from tasklens.runs.run import Run
from tasklens.runs.stage_measure import measure

#: Three checkpoints.
SHORT = TINY | {"train.steps": 2, "train.warmup_steps": 1, "checkpoints.every": 2}
#: Two settings.
AXES = '[grid]\n"model.n_embd" = [8, 16]\n"train.learning_rate" = [3e-3]\n'
#: A file with every table.
SWEEP = """
base = "smoke"
seeds = [0, 1]
[set]
"model.n_layer" = 1
[grid]
"model.n_embd" = [8, 16]
"train.learning_rate" = [1e-3, 1e-4]
[around]
"tasks.n_tasks" = [4, 5]
"""
#: So large that the second step has no finite loss.
DIVERGES = 1e30


def write_sweep(directory: Path, axes: str, seeds: str = "[0, 1]", **others: object) -> Path:
    """Write a sweep of short runs, with some values changed (``train__steps=3``)."""
    settings = SHORT | {key.replace("__", "."): value for key, value in others.items()}
    lines = ["[set]", *(f'"{key}" = {json.dumps(value)}' for key, value in settings.items())]
    file = directory / "mine.toml"
    file.write_text("\n".join(['base = "smoke"', f"seeds = {seeds}", *lines, axes]))
    return file


def sweep(file: Path, out: Path, *more: str) -> Result:
    """Run a sweep by one worker."""
    return call("sweep", file, "--out", out, "--workers", "1", *more)


def listed(file: Path, out: Path | None = None) -> dict[str, str]:
    """Return the line of a dry run for each run, by name."""
    options: tuple[str | Path, ...] = ("--out", out) if out else ()
    result = call("sweep", file, *options, "--dry-run")
    assert (result.status, result.err) == (0, "")
    return dict(line.split(maxsplit=1) for line in result.out.splitlines())


def outputs(path: Path) -> dict[str, bytes]:
    """Return the files of a sweep, by path, without times, the machine, and logs."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in ("manifest.json", "log.txt", ".lock")
    }


def touched(path: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time and the content of every file of the runs."""
    files = [file for file in sorted((path / "runs").rglob("*")) if file.is_file()]
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def interrupted_at(n: int) -> Callable[[Run], None]:
    """Return a stage measure that is interrupted at its n-th call."""
    calls = []

    def stage(run: Run) -> None:
        calls.append(run)
        if len(calls) == n:
            raise KeyboardInterrupt
        measure(run)

    return stage
