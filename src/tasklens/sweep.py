"""Many runs from one file: which settings vary, every run once, one table of all of them."""

import contextlib
import functools
import itertools
import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasklens.config import Settings, check_key, load_settings, settings_table
from tasklens.errors import InputError
from tasklens.experiment import (
    load_scores,
    make_data,
    measure,
    prepare,
    stage_inputs,
    train_model,
)
from tasklens.figures import render
from tasklens.parallel import Workers
from tasklens.phase import one_at_a_time, phase_diagram, separation_plot
from tasklens.points import points_table
from tasklens.rundir import RunDir, digest
from tasklens.scores import table_to_csv_bytes
from tasklens.tables import parquet_bytes

#: The tables and keys of a sweep's file.
KEYS = ("base", "seeds", "set", "grid", "around")


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    settings: Settings
    values: Mapping[str, Any]
    """The settings that vary in the sweep, by key, as this run has them."""

    @functools.cached_property
    def name(self) -> str:
        """The name of its run directory: a hash of its settings, so that it is found again."""
        table = settings_table(self.settings)
        return digest({k: v for k, v in table.items() if k not in ("workers", "figure")})[:12]


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep's file."""

    points: tuple[Point, ...]
    grid: tuple[tuple[str, ...], ...]
    """Axes of the grid, each the keys that vary together."""
    around: tuple[tuple[str, ...], ...]
    """Axes along which one thing at a time varies."""
    content: bytes
    """The file."""


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's file and make the settings of every run.

    ``base`` is a preset or a TOML file of settings (beside this file), ``seeds`` a list, ``set`` a
    table of changes for all runs. ``grid`` holds axes, of which every combination is run; those of
    ``around`` vary one at a time. An axis is a key with its values, or several keys between commas
    that vary together, with a list of values for each step. A run trains in one thread and measures
    in one process, unless ``train.threads`` and ``workers`` of the file say otherwise: as many runs
    as cores go on side by side.

    Raises
    ------
    InputError
        Where the file is not a sweep, or the settings of a run are wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        table = tomllib.loads(content.decode())
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    for key, value in table.items():
        if key not in KEYS:
            raise InputError(f"{path}: no key {key!r} in a sweep; it has {', '.join(KEYS)}")
        kind = {"base": "a string", "seeds": "a list"}.get(key, "a table")
        if not isinstance(value, {"a string": str, "a list": list, "a table": dict}[kind]):
            raise InputError(f"{path}: {key} = {value!r}: should be {kind}")
    base = table.get("base", "default")
    beside = path.parent / base
    base = str(beside) if base.endswith(".toml") and beside.exists() else base
    seeds = table.get("seeds", [0])
    common = _flat(table.get("set", {}))
    for key in common:
        check_key(key, f"{path}: set")
    grid = _axes(path, "grid", table.get("grid", {}))
    around = _axes(path, "around", table.get("around", {}))
    varied = [key for keys in (*grid, *around) for key in keys]
    if "seed" in (*common, *varied):
        raise InputError(f"{path}: seed: should stand in a list of its own: seeds = [0, 1]")
    chosen: list[dict[str, Any]] = []
    if grid or not around:
        chosen += [_merged(steps) for steps in itertools.product(*grid.values())]
    if around:
        # The base comes first.
        chosen = [{}, *(step for steps in around.values() for step in steps), *chosen]
    points: dict[str, Point] = {}
    for values in chosen:
        for seed in seeds:
            changes = {"train.threads": 1, "workers": 1, **common, **values, "seed": seed}
            words = [f"{key}={json.dumps(value, default=str)}" for key, value in changes.items()]
            try:
                settings = load_settings(base, words)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            point = Point(settings, _values(settings, varied))
            points.setdefault(point.name, point)
    if not points:
        raise InputError(f"{path}: no run: seeds and the axes' values should not be empty")
    return Sweep(tuple(points.values()), tuple(grid), tuple(around), content)


def run_sweep(sweep: Sweep, out: Path, workers: int, *, keep: bool = False) -> dict[str, str]:
    """Run what is missing of a sweep, as many runs at a time as there are workers.

    Parameters
    ----------
    sweep : Sweep
    out : Path
        Holds a run directory for each run in ``runs``, the table of all scores, and the summary.
    workers : int
        Processes.
    keep : bool
        Keep the states and weights of the runs; else what is left of a run is what `tasklens
        verify` reads.

    Returns
    -------
    {name: reason}
        Of the runs that failed; the others went on. Running again tries them again.
    """
    directory = RunDir(out)
    with directory.locked():
        directory.write(out / "sweep.toml", sweep.content)
        missing = []
        for point in sweep.points:
            if not is_done(out, point):
                missing.append(point)
            elif not keep:  # killed between the two, a run still has them
                _strip(run_of(out, point))
        work = functools.partial(run_point, out=out, keep=keep)
        with Workers(workers) as pool:
            reasons = pool.map(work, missing, progress="sweep")
            failed = {
                point.name: reason
                for point, reason in zip(missing, reasons, strict=True)
                if reason is not None
            }
    return failed


def is_done(out: Path, point: Point) -> bool:
    """Say whether a run's scores are there."""
    run = run_of(out, point)
    if run.mark("data") is None or run.mark("train") is None:
        return False
    return run.finished("measure", stage_inputs(run, point.settings, "measure"))


def run_of(out: Path, point: Point) -> RunDir:
    """Return the run directory of a point."""
    return RunDir(out / "runs" / point.name)


def run_point(point: Point, out: Path, keep: bool) -> str | None:
    """Run one point, from where it stopped; return why it failed, or None."""
    run, settings = run_of(out, point), point.settings
    with _log(run.path / "log.txt"), run.locked():
        try:
            prepare(run, settings, f"tasklens sweep, run {point.name}")
            make_data(run, settings)
            train_model(run, settings)
            measure(run, settings)
        except InputError as error:
            return str(error)
        if not keep:
            _strip(run)
    return None


def _strip(run: RunDir) -> None:
    """Remove what scores and clusters do not need, and what takes the space."""
    for path in (run.states, run.checkpoints, run.resume):
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """Send what a run says of itself to a file: many of them share the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file, contextlib.redirect_stderr(file):
        yield


def gather(sweep: Sweep, out: Path) -> list[Path]:
    """Write the tables and the figures of the runs that are done; return their paths.

    ``scores.parquet`` holds every score, ``points.parquet`` and ``points.csv`` the summary, see
    `tasklens.points.points_table`. A grid of two axes or more gives ``phase.png`` over the first
    two, axes that vary one at a time give ``around.png``; ``separation.png`` is of all states.

    Raises
    ------
    InputError
        Where no run is done.
    """
    done = [point for point in sweep.points if is_done(out, point)]
    if not done:
        raise InputError(f"{out}: no run of the sweep is done")
    scores = pa.concat_tables([load_scores(run_of(out, point)) for point in done])
    points = points_table(scores, {point.name: point.values for point in done})
    files = {
        "scores.parquet": parquet_bytes(scores),
        "points.parquet": parquet_bytes(points),
        "points.csv": table_to_csv_bytes(points),
    }
    files["separation.png"] = render(separation_plot(scores), "png")
    on_grid = _on_grid(sweep)
    there = points.filter(pa.array([run in on_grid for run in points["run"].to_pylist()]))
    if len(sweep.grid) > 1 and there.num_rows:
        figure = phase_diagram(there, sweep.grid[0][0], sweep.grid[1][0])
        files["phase.png"] = render(figure, "png")
    if sweep.around:
        figure = one_at_a_time(points, sweep.around, sweep.points[0].values)
        files["around.png"] = render(figure, "png")
    directory = RunDir(out)
    for name, content in files.items():
        directory.write(out / name, content)
    return [out / name for name in files]


def _on_grid(sweep: Sweep) -> set[str]:
    """Return the names of the runs in which what varies around the base is as in the base."""
    of_grid = {key for keys in sweep.grid for key in keys}
    alone = {key for keys in sweep.around for key in keys} - of_grid
    base = sweep.points[0].values
    return {
        point.name for point in sweep.points if all(point.values[key] == base[key] for key in alone)
    }


def _flat(table: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Return a table of tables by dotted keys, so that "train.steps" may stand in either form."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{within}{key}.")
        else:
            flat[within + key] = value
    return flat


def _axes(
    path: Path, name: str, table: Mapping[str, Any]
) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Return the steps of each axis by its keys, each step the values of these keys."""
    axes = {}
    for words, steps in _flat(table).items():
        keys = tuple(word.strip() for word in words.split(","))
        for key in keys:
            check_key(key, f"{path}: {name}")
        if keys in axes:
            raise InputError(f"{path}: {name}: {words} is there twice; give its values in one list")
        if not isinstance(steps, list) or not steps:
            raise InputError(f"{path}: {name}: {words} = {steps!r}: should be a list of values")
        for step in steps:
            if len(keys) > 1 and (not isinstance(step, list) or len(step) != len(keys)):
                raise InputError(
                    f"{path}: {name}: {words}: {step!r}: should be a list of {len(keys)} values, "
                    "one for each key"
                )
        axes[keys] = [
            dict(zip(keys, step if len(keys) > 1 else [step], strict=True)) for step in steps
        ]
    return axes


def _merged(steps: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return {key: value for step in steps for key, value in step.items()}


def _values(settings: Settings, keys: list[str]) -> dict[str, Any]:
    table = settings_table(settings)
    found = {}
    for key in keys:
        within, dot, name = key.partition(".")
        value = table[within][name] if dot else table[within]
        found[key] = json.dumps(value) if isinstance(value, list | tuple) else value
    return found
