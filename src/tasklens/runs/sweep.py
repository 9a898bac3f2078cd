"""The runs of a sweep, here or on a cluster, in one go or a shard at a time; one table of them."""

import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.files import sha256
from tasklens.core.parquet import parquet_bytes, write_parquet
from tasklens.core.progress import print_traceback
from tasklens.core.settings import Stage
from tasklens.core.workers import LOCAL, check_workers, need_seen, reason, start_workers
from tasklens.report.separation_figure import separation_pairs, separation_plot
from tasklens.report.style import render
from tasklens.report.sweep_figures import one_at_a_time, phase_diagram
from tasklens.runs.directory import RunDir
from tasklens.runs.edit_plan import figure_selections
from tasklens.runs.estimate import check_memory_of
from tasklens.runs.pipeline import begin
from tasklens.runs.stage_data import make_data
from tasklens.runs.stage_intervene import intervene
from tasklens.runs.stage_measure import measure
from tasklens.runs.stage_train import train
from tasklens.runs.sweep_file import PLAN, Point, Sweep
from tasklens.runs.training_run import TrainingRun
from tasklens.runs.verify import compare_precisions
from tasklens.scoring.score_table import positions_of, table_to_csv_bytes
from tasklens.scoring.sweep_summary import points_table

#: Seconds that a run waits for another process to let go of its directory: a killed one has
#: just been asked to end.
PATIENCE = 120.0


def run_sweep(
    sweep: Sweep,
    out: Path,
    workers: int = 0,
    *,
    keep: bool = False,
    edit: bool = False,
    engine: str = LOCAL,
    gpus: float = 1.0,
) -> dict[str, str]:
    """Run what is missing of a sweep in ``out``, ``workers`` runs at a time (0: one per core).

    ``out`` holds a run directory for each run in ``runs``, the table of all scores, and the
    summary; on a cluster all nodes have to see it. Unless ``keep`` is set, the states and weights
    of a run are removed: what is left is what `tasklens verify` reads. With ``edit``, now or in an
    earlier call, hidden states are edited before that, as in `tasklens run`. On Ray (see
    `tasklens.core.workers.opened`) a run takes as many CPUs as it has threads. If its settings ask
    for a GPU, it takes the share ``gpus`` of one. Returns the reasons of the runs that failed, by
    name; the next call tries these again.
    """
    directory = _sweep_directory(out)
    if engine == LOCAL:
        _check_sizes(sweep.points, workers)
    with directory.locked():
        _write_plan(directory, sweep, edit=edit)
    # Each run is locked by itself, so that `gather` can make the tables of what is done so far.
    return _run(sweep.points, out, workers, keep=keep, engine=engine, gpus=gpus)


def run_shard(
    sweep: Sweep,
    out: Path,
    shard: tuple[int, int],
    workers: int = 0,
    *,
    keep: bool = False,
    edit: bool = False,
) -> tuple[tuple[Point, ...], dict[str, str]]:
    """Run what is missing of every n-th run of a sweep, from the i-th on; see `run_sweep`.

    The shards of a sweep may run at the same time, in one directory; each locks only its runs.
    Returns the runs of the shard, and the reasons of those that failed, by name.
    """
    i, n = shard
    directory, points = _sweep_directory(out), sweep.points[i - 1 :: n]
    _check_sizes(points, workers)
    with directory.locked(wait=PATIENCE):
        _write_plan(directory, sweep, edit=edit)
    return points, _run(points, out, workers, keep=keep)


def _check_sizes(points: Sequence[Point], workers: int) -> None:
    """Raise InputError if this machine does not hold one of the runs, or so many at a time."""
    check_workers(workers, "--workers")
    for point in points:
        try:
            check_memory_of(point.settings)
        except InputError as error:
            values = ", ".join(f"{key} = {value}" for key, value in point.values.items())
            raise InputError(
                f"run {point.name}{f' ({values})' if values else ''}: {error}"
            ) from None


def _sweep_directory(out: Path) -> RunDir:
    """Return the directory of a sweep; InputError if it holds anything else."""
    directory, runs = RunDir(out), out / "runs"
    if runs.exists() and not runs.is_dir():
        raise InputError(f"{runs} should be a directory: move the file elsewhere")
    is_sweep = _is_sweep(directory)
    if not is_sweep and directory.has_lock:  # another shard may be writing the first files
        with directory.locked(wait=PATIENCE):
            is_sweep = _is_sweep(directory)
    if not is_sweep:
        raise InputError(
            f"{out} is not empty and not the directory of a sweep; name another with --out"
        )
    return directory


def _is_sweep(directory: RunDir) -> bool:
    """Return whether a directory is that of a sweep, or of nothing yet."""
    plan, runs = directory.path / PLAN, directory.path / "runs"
    # The manifest may be lost, and runs may have been gathered by hand.
    is_run = [(run / ".lock").is_file() for run in runs.iterdir()] if runs.is_dir() else []
    lost = any(is_run) and plan.is_file()
    is_new = directory.is_new({runs} if any(is_run) and all(is_run) else ())
    return is_new or lost or directory.noted(plan) is not None


def _write_plan(directory: RunDir, sweep: Sweep, *, edit: bool = False) -> None:
    """Write the file of the sweep; remove what was gathered of the runs of another.

    With ``edit``, record that the hidden states of all its runs are edited.
    """
    path = directory.path / PLAN
    is_same, edits = directory.noted(path) == sha256(sweep.content), is_edited(directory.path)
    if not is_same or not directory.is_intact(path):
        with directory.batch() as manifest:
            for key in () if is_same else list(manifest["files"]):
                directory.remove(directory.path / key)
            directory.write(path, sweep.content)
    if edit or (edits and is_same):
        directory.finish("interventions", sha256(sweep.content), [path])


def is_edited(out: Path) -> bool:
    """Return whether the hidden states of the runs of a sweep are edited."""
    return RunDir(out).mark("interventions") is not None


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of ``i/n``; InputError unless 1 <= i <= n."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    i, n = map(int, match.groups()) if match else (0, 0)
    if not 1 <= i <= n:
        raise InputError(f"--shard {text}: should be i/n with i from 1 to n, e.g. 1/8 ... 8/8")
    return i, n


def _run(
    points: tuple[Point, ...],
    out: Path,
    workers: int,
    *,
    keep: bool,
    engine: str = LOCAL,
    gpus: float = 1.0,
) -> dict[str, str]:
    (out / "runs").mkdir(parents=True, exist_ok=True)
    missing, failed = [], {}
    for point in points:
        run = point_run(out, point)
        if not is_done(out, point):
            missing.append(point)
            continue
        try:
            run.check_files("measure")
        except InputError as error:
            failed[point.name] = str(error)
        if not keep:  # killed between the two, a run still has them
            _strip(run)
    if not missing:
        return failed
    work = functools.partial(run_point, out=out.absolute(), keep=keep, edit=is_edited(out))
    cpus = max(max(p.settings.cores_training, p.settings.workers) for p in missing)
    on_gpu = any(point.settings.train.device != "cpu" for point in missing)
    with start_workers(engine, workers, cpus=cpus, gpus=gpus if on_gpu else 0) as pool:
        outcomes = pool.outcomes(work, missing, "sweep", "run")
        failed |= {point.name: reason(error) for point, _, error in outcomes if error}
    return {point.name: failed[point.name] for point in points if point.name in failed}


def is_done(out: Path, point: Point, *, edit: bool = False) -> bool:
    """Return whether the scores and the clusters of a run are there, and its edits if wanted."""
    run = point_run(out, point)
    stages: tuple[Stage, ...] = ("measure", "interventions")
    stages = stages if edit or is_edited(out) else stages[:1]
    try:
        for stage in stages:
            run.need(stage)
    except InputError:
        return False
    return all(map(run.directory.has_files, stages))


def point_run(out: Path, point: Point) -> TrainingRun:
    """Return the run of a point; InputError if its directory is a link, which would be followed."""
    path = out / "runs" / point.name
    if path.is_symlink():
        raise InputError(f"{path} is a link: remove it and run the sweep again")
    return TrainingRun(RunDir(path), point.settings)


def run_point(point: Point, out: Path, keep: bool, edit: bool = False) -> None:
    """Run or resume one point; InputError if it fails, for any reason.

    The traceback of an error that is not the user's is in the log of the run.
    """
    need_seen(out / "runs")
    run = point_run(out, point)
    path = run.directory.path / "log.txt"
    with _log(path), run.directory.locked(wait=PATIENCE):
        try:
            begin(run, f"tasklens sweep, run {point.name}")
            make_data(run)
            train(run)
            measure(run)
            if edit:
                selections = figure_selections(run)
                if not selections:
                    raise InputError("interventions.checkpoints = 0: should be 1 at least")
                intervene(run, selections)
        except InputError:
            raise
        except CellsFailedError as error:
            raise InputError(str(error)) from error
        except Exception as error:
            print_traceback()
            raise InputError(f"{reason(error)} (see {path})") from error
        if not keep:
            _strip(run)


def _strip(run: TrainingRun) -> None:
    """Remove what takes the space and what neither scores, clusters nor effects need.

    The hashes stay recorded: the inputs of stage measure, so whether it is done, derive from them.
    """
    directory = run.directory
    for path in (directory.states, directory.checkpoints, directory.resume):
        directory.strip(path)


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """Send what a run prints to a file: many of them share the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError(f"{path} should be a file of tasklens: remove it")
    with (
        path.open("a", encoding="utf-8", errors="backslashreplace") as file,
        contextlib.redirect_stderr(file),
    ):
        yield


def gather(sweep: Sweep, out: Path) -> tuple[list[Path], list[Point]]:
    """Write the tables and the figures of the runs that are done.

    ``scores.parquet`` holds every score, ``points.parquet`` and ``points.csv`` the summary, see
    `points_table`. A grid of two axes or more gives ``phase.png`` over the first two, axes that
    vary one at a time give ``around.png``. Both show the first position; of another position they
    have its name, as in ``phase_instruction_last.png``. ``separation.png`` is of all states. If
    hidden states were edited, ``interventions.parquet`` holds every effect. Memory holds the scores
    of one run at a time. Returns the files, and the runs that are not done; InputError if none is
    done.
    """
    directory = _sweep_directory(out)
    done: list[Point] = []
    missing: list[Point] = []
    for point in sweep.points:
        (done if is_done(out, point) else missing).append(point)
    if not done:
        raise InputError(f"{out}: no run of the sweep is done")
    compare_precisions(point_run(out, point) for point in done)
    summaries, pairs = [], []

    def scores() -> Iterator[pa.Table]:
        for point in done:
            table = point_run(out, point).score_table()
            summaries.append(points_table(table, {point.name: point.values}))
            pairs.append(separation_pairs(table))
            yield table

    with directory.locked():
        _write_plan(directory, sweep)
        with directory.writing(out / "scores.parquet") as path, path.open("wb") as file:
            write_parquet(file, scores())
        paths = [out / "scores.parquet"]
        if is_edited(out):
            paths.append(out / "interventions.parquet")
            with directory.writing(paths[-1]) as path, path.open("wb") as file:
                write_parquet(file, (point_run(out, point).effect_table() for point in done))
        points = pa.concat_tables(summaries, promote_options="permissive")
        files = {
            "points.parquet": parquet_bytes(points),
            "points.csv": table_to_csv_bytes(points),
        }
        files["separation.png"] = render(separation_plot(np.concatenate(pairs)), "png")
        on_grid = _on_grid(sweep)
        grid = points.filter(pa.array([run in on_grid for run in points["run"].to_pylist()]))
        for i, position in enumerate(positions_of(points)):
            at = f"_{position}" if i else ""
            if len(sweep.grid) > 1 and grid.num_rows:
                axes = sweep.grid[0][0], sweep.grid[1][0]
                figure = phase_diagram(grid, *axes, position=position)
                files[f"phase{at}.png"] = render(figure, "png")
            if sweep.around:
                base = sweep.points[0].values
                figure = one_at_a_time(points, sweep.around, base, position=position)
                files[f"around{at}.png"] = render(figure, "png")
        for name, content in files.items():
            directory.write(out / name, content)
    return [*paths, *(out / name for name in files)], missing


def _on_grid(sweep: Sweep) -> set[str]:
    """Return the names of the runs in which what varies around the base is as in the base."""
    of_grid = {key for keys in sweep.grid for key in keys}
    alone = {key for keys in sweep.around for key in keys} - of_grid
    base = sweep.points[0].values
    return {
        point.name for point in sweep.points if all(point.values[key] == base[key] for key in alone)
    }
