"""Read all committed files that the page rests on. A study that was not run has no file."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tables.rise_tables import Courses
from tables.run_scores import Scores
from tables.sweep_points import Points
from tables.task_numbers import TaskNumbers

#: The sweeps of the small world, and the trials that came before.
SWEEPS = ("phase", "last_block", "around", "positions", "rise", "trials")
#: The command of each study.
COMMANDS = {
    **{name: f"tasklens sweep docs/data/sweeps/{name}.toml --out runs/small" for name in SWEEPS},
    "positions": "tasklens sweep docs/data/sweeps/positions.toml --out runs/positions",
    "rise": "tasklens sweep docs/data/sweeps/rise.toml --out runs/rise --intervene",
    "distributions": "tasklens run distributions --set seed=11 --out runs/d11",
}


@dataclass(frozen=True)
class Material:
    """The files below ``data``."""

    data: Path

    @cached_property
    def default(self) -> Scores:
        """The scores of the runs of the preset `default`."""
        return Scores(sorted((self.data / "scores").glob("*.parquet")))

    @cached_property
    def verdict(self) -> dict[str, Any]:
        """The verdict on them."""
        return _read_json(self.data / "scores" / "verdict.json")

    @cached_property
    def task_numbers(self) -> TaskNumbers:
        """The scores of these runs with other numbers of tasks."""
        return TaskNumbers(self.data / "scores" / "measured_tasks.csv")

    @cached_property
    def effects(self) -> list[dict[str, str]]:
        """The effects of edits in these runs."""
        with (self.data / "effects.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @cached_property
    def distributions(self) -> Scores | None:
        """The scores of runs with several distributions per task."""
        paths = sorted((self.data / "scores" / "distributions").glob("*.parquet"))
        return Scores(paths) if paths else None

    @cached_property
    def distributions_verdict(self) -> dict[str, Any] | None:
        """The verdict on them."""
        path = self.data / "scores" / "distributions" / "verdict.json"
        return _read_json(path) if path.exists() else None

    @cached_property
    def points(self) -> dict[str, Points]:
        """The summary of each sweep that was run."""
        return {name: Points(path) for name, path in self._results(SWEEPS)}

    @cached_property
    def courses(self) -> Courses | None:
        """The courses of the sweep of long training."""
        paths = [path for _, path in self._results(["rise_courses"])]
        return Courses(paths[0]) if paths else None

    def _results(self, names: Iterable[str]) -> list[tuple[str, Path]]:
        paths = {name: self.data / "sweeps" / "results" / f"{name}.csv" for name in names}
        return [(name, path) for name, path in paths.items() if path.exists()]


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
