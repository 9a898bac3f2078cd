"""`tasklens sweep` and `tasklens gather`: many runs of one file, and one table of them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasklens.cli.options import Debug, Engine, check_device
from tasklens.core.errors import InputError

if TYPE_CHECKING:
    from tasklens.runs.sweep_file import Sweep

SweepFile = Annotated[Path, typer.Argument(metavar="FILE.toml", help="Which settings vary.")]
SweepOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where the runs are. [default: runs/FILE]"),
]


def sweep(
    file: SweepFile,
    out: SweepOut = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="Runs at a time; 0: one per core.")
    ] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep each run's states and weights.")
    ] = False,
    engine: Engine = "local",
    gpus: Annotated[
        float,
        typer.Option("--gpus", metavar="SHARE", min=0.01, max=1, help="On Ray: of a GPU, per run."),
    ] = 1.0,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Only every N-th run, from the I-th on."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs, and do nothing.")
    ] = False,
    debug: Debug = False,
) -> int:
    """Run many settings and seeds.

    Does only what is missing, and ends with one table of all runs; the exit status is 1 if a run
    failed. With --engine ray the runs go to a cluster whose nodes all see the directory; with
    --shard they go to as many jobs as you like, whose runs `tasklens gather` gathers.
    """
    from tasklens.core.workers import LOCAL, opened
    from tasklens.runs.sweep import is_done, parse_shard, run_shard, run_sweep
    from tasklens.runs.sweep_file import read_sweep

    plan = read_sweep(file)
    directory = _directory(file, out)
    if dry_run:
        for point in plan.points:
            about = ", ".join(f"{key}={value}" for key, value in point.values.items())
            done = "done" if is_done(directory, point) else "to do"
            print(f"{point.name}  {done:<5}  seed={point.settings.seed}  {about}")
        return 0
    if engine != LOCAL:
        for point in plan.points:
            check_device(point.settings.train.device, "train.device", engine)
    if shard is not None:
        if engine != LOCAL:
            raise InputError("--shard does without a cluster; leave out --engine, or --shard")
        points, failed = run_shard(plan, directory, parse_shard(shard), workers, keep=keep)
        _say(failed)
        print(f"shard {shard}: {len(points) - len(failed)} of {len(points)} runs are done")
        return 1 if failed else 0
    with opened(engine):
        failed = run_sweep(plan, directory, workers, keep=keep, engine=engine, gpus=gpus)
    _say(failed)
    if len(failed) < len(plan.points):
        _gather(plan, directory)
    return 1 if failed else 0


def gather(file: SweepFile, out: SweepOut = None, debug: Debug = False) -> int:
    """Make one table of a sweep's runs, those of all its shards.

    Runs that are not done are named and left out; the exit status is 1 if there are any.
    """
    from tasklens.runs.sweep_file import read_sweep

    missing = _gather(read_sweep(file), _directory(file, out))
    for name in missing:
        print(f"tasklens: run {name} is not done", file=sys.stderr)
    return 1 if missing else 0


def _gather(plan: "Sweep", directory: Path) -> list[str]:
    """Write the tables and the figures, print their paths, and return the runs that lack."""
    from tasklens.runs.sweep import gather

    paths, missing = gather(plan, directory)
    for path in paths:
        print(path)
    return [point.name for point in missing]


def _directory(file: Path, out: Path | None) -> Path:
    return out or Path("runs") / file.stem


def _say(failed: dict[str, str]) -> None:
    for name, reason in failed.items():
        print(f"tasklens: run {name} failed: {reason}", file=sys.stderr)
