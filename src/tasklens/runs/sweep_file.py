"""Read the file of a sweep: which settings vary, every run once."""

import functools
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasklens.core.errors import InputError
from tasklens.core.files import digest, read_small_file
from tasklens.core.messages import short
from tasklens.core.parse import parse_toml
from tasklens.runs.settings import TrainingRunSettings, load_settings

#: The file of the sweep in its directory.
PLAN = "sweep.toml"
#: The tables and keys of a sweep's file.
KEYS = ("base", "seeds", "set", "grid", "around")
#: Runs of a sweep at most: all of their settings are in the memory.
MOST_RUNS = 100_000


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    settings: TrainingRunSettings
    values: Mapping[str, Any]
    """The settings that vary in the sweep, by key, as this run has them."""

    @functools.cached_property
    def name(self) -> str:
        """The name of its run directory: a hash of its settings, so that it is found again."""
        return digest(self.settings.affecting("data", "train", "measure"))[:12]


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
    in one process, unless the file sets ``train.threads`` or ``workers``: there are as many runs
    at a time as cores. InputError if the file is not a sweep, or settings are wrong.
    """
    content = read_small_file(path)
    table = parse_toml(content, str(path))
    for key, value in table.items():
        if key not in KEYS:
            raise InputError(f"{path}: no key {short(key)} in a sweep; it has {', '.join(KEYS)}")
        kind = {"base": "a string", "seeds": "a list"}.get(key, "a table")
        if not isinstance(value, {"a string": str, "a list": list, "a table": dict}[kind]):
            raise InputError(f"{path}: {key} = {short(value)}: should be {kind}")
    base = table.get("base", "default")
    if base.endswith(".toml") and (path.parent / base).is_file():
        base = str(path.parent / base)
    seeds = table.get("seeds", [0])
    common = _flat(table.get("set", {}))
    for key in common:
        TrainingRunSettings.check_key(key, f"{path}: set")
    grid = _axes(path, "grid", table.get("grid", {}))
    around = _axes(path, "around", table.get("around", {}))
    varied = [key for keys in (*grid, *around) for key in keys]
    if "seed" in (*common, *varied):
        raise InputError(f"{path}: seed: should stand in a list of its own: seeds = [0, 1]")
    n_runs = math.prod(map(len, grid.values())) if grid or not around else 0
    n_runs = len(seeds) * (n_runs + (1 + sum(map(len, around.values())) if around else 0))
    if n_runs > MOST_RUNS:
        raise InputError(
            f"{path}: its seeds and the values of its axes are {n_runs:,} runs: should be at most "
            f"{MOST_RUNS:,}; give fewer values, or several files"
        )
    chosen: list[dict[str, Any]] = []
    if grid or not around:
        for steps in itertools.product(*grid.values()):
            chosen.append({key: value for step in steps for key, value in step.items()})
    if around:
        # The base comes first.
        chosen = [{}, *(step for steps in around.values() for step in steps), *chosen]
    points: dict[str, Point] = {}
    for values in chosen:
        for seed in seeds:
            changes = {"train.threads": 1, "workers": 1, **common, **values, "seed": seed}
            try:
                settings = load_settings(base, changes)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            point = Point(settings, _values(settings, varied))
            points.setdefault(point.name, point)
    if not points:
        raise InputError(f"{path}: no run: seeds and the axes' values should not be empty")
    return Sweep(tuple(points.values()), tuple(grid), tuple(around), content)


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
    for axis, steps in _flat(table).items():
        keys = tuple(word.strip() for word in axis.split(","))
        for key in keys:
            TrainingRunSettings.check_key(key, f"{path}: {name}")
        if keys in axes:
            raise InputError(f"{path}: {name}: {axis} is given twice; give all values in one list")
        if not isinstance(steps, list) or not steps:
            raise InputError(f"{path}: {name}: {axis} = {short(steps)}: should be a list of values")
        for step in steps:
            if len(keys) > 1 and (not isinstance(step, list) or len(step) != len(keys)):
                raise InputError(
                    f"{path}: {name}: {axis}: {short(step)}: should be a list of {len(keys)} "
                    "values, one for each key"
                )
        axes[keys] = [
            dict(zip(keys, step if len(keys) > 1 else [step], strict=True)) for step in steps
        ]
    return axes


def _values(settings: TrainingRunSettings, keys: list[str]) -> dict[str, Any]:
    flat = settings.flat()
    lists = {key: json.dumps(flat[key]) for key in keys if isinstance(flat[key], list | tuple)}
    return {key: flat[key] for key in keys} | lists
