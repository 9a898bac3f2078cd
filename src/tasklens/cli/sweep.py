"""`tasklens sweep` and `tasklens gather`: many runs of one file, and one table of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasklens.cli.options import Engine, Json, check_device
from tasklens.cli.output import emit, emit_json, emit_path
from tasklens.core.errors import InputError
from tasklens.core.progress import print_lines
from tasklens.core.text import visible

if TYPE_CHECKING:
    from tasklens.runs.sweep_file import Sweep

SweepFile = Annotated[Path, typer.Argument(metavar="FILE.toml", help="Which settings vary.")]
SweepOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The directory of the runs. [default: runs/FILE]"),
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
    edit: Annotated[
        bool,
        typer.Option("--intervene", help="Edit hidden states, too, as tasklens run does."),
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
    as_json: Json = False,
) -> int:
    """Run many settings and seeds.

    Does only what is missing, and ends with one table of all runs, whose path is printed. The exit
    status is 1 if a run failed. With --engine ray the runs go to a cluster whose nodes all see the
    directory; with --shard they go to any number of jobs, and `tasklens gather` makes the table.
    Later calls for a sweep with --intervene edit hidden states, too.
    """
    from tasklens.core.workers import LOCAL, opened
    from tasklens.runs.sweep import gather as gather_runs
    from tasklens.runs.sweep import is_done, parse_shard, run_shard, run_sweep
    from tasklens.runs.sweep_file import read_sweep

    plan = read_sweep(file)
    directory = _directory(file, out)
    if dry_run:
        if as_json:
            emit_json({"runs": _points_document(plan, directory, edit=edit)})
            return 0
        for point in plan.points:
            values = ", ".join(f"{key}={value}" for key, value in point.values.items())
            done = "done" if is_done(directory, point, edit=edit) else "to do"
            emit(visible(f"{point.name}  {done:<5}  seed={point.settings.seed}  {values}"))
        return 0
    if engine != LOCAL:
        for point in plan.points:
            check_device(point.settings.train.device, "train.device", engine)
    if shard is not None:
        if engine != LOCAL:
            raise InputError("--shard needs no cluster; leave out --engine, or --shard")
        points, failed = run_shard(
            plan, directory, parse_shard(shard), workers, keep=keep, edit=edit
        )
        _print_failed(failed)
        if as_json:
            emit_json({"shard": shard, "runs": len(points), "failed": failed})
        else:
            emit(f"shard {shard}: {len(points) - len(failed)} of {len(points)} runs are done")
        return 1 if failed else 0
    with opened(engine):
        failed = run_sweep(plan, directory, workers, keep=keep, edit=edit, engine=engine, gpus=gpus)
    _print_failed(failed)
    paths: list[Path] = []
    if len(failed) < len(plan.points):
        paths, _ = gather_runs(plan, directory)
    if as_json:
        runs = _points_document(plan, directory)
        emit_json({"files": paths, "runs": runs, "failed": failed})
    else:
        _emit_paths(paths)
    return 1 if failed else 0


def gather(file: SweepFile, out: SweepOut = None, as_json: Json = False) -> int:
    """Make one table of the runs of a sweep, including those of all shards.

    Runs that are not done are named and left out; the exit status is 1 if there are any. Prints
    the paths of the tables and figures.
    """
    from tasklens.runs.sweep import gather as gather_runs
    from tasklens.runs.sweep_file import read_sweep

    plan, directory = read_sweep(file), _directory(file, out)
    paths, points = gather_runs(plan, directory)
    missing = [point.name for point in points]
    if as_json:
        emit_json({"files": paths, "runs": _points_document(plan, directory), "missing": missing})
    else:
        _emit_paths(paths)
    for name in missing:
        print_lines(f"run {name} is not done")
    return 1 if missing else 0


def _emit_paths(paths: list[Path]) -> None:
    for path in paths:
        emit_path(path)


def _points_document(plan: "Sweep", directory: Path, *, edit: bool = False) -> list[dict[str, Any]]:
    """Return the runs of a sweep as what `emit_json` prints."""
    from tasklens.runs.sweep import is_done

    return [
        {
            "run": point.name,
            "seed": point.settings.seed,
            "settings": dict(point.values),
            "done": is_done(directory, point, edit=edit),
        }
        for point in plan.points
    ]


def _directory(file: Path, out: Path | None) -> Path:
    return out or Path("runs") / file.stem


def _print_failed(failed: dict[str, str]) -> None:
    for name, reason in failed.items():
        print_lines(f"run {name} failed: {reason}")
