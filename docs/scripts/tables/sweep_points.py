"""Read the summary of a sweep, `points.csv`, by the run's name, seed, position and layer."""

import csv
import math
import tomllib
from pathlib import Path
from typing import Any

from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.score_table import CONTROLS, layers_in_order

#: Settings that a sweep's file changes only because of another setting.
FOLLOWING = ("inputs_per_task", "val_inputs", "measured_instances")
BASE = "the small world"
SEEN, PAIRS, INSTRUCTIONS = "train_subset", "val_subset", "val_instruction_subset"
#: Name of the run, seed, split, position, layer, space.
Key = tuple[str, int, str, str, str, str]


class Points:
    """The summaries of the runs of a sweep. Each run is named by its differences from the world."""

    def __init__(self, path: Path) -> None:
        world = tomllib.loads((path.parents[1] / "world.toml").read_text())
        self.rows: dict[Key, dict[str, str]] = {}
        for r in csv.DictReader(path.read_text().splitlines()):
            position = r.get("position", "")
            key = (difference(r, world), int(r["seed"]), r["split"], position)
            self.rows[(*key, r["layer"], r["space"])] = r
        self.names = list(dict.fromkeys(key[0] for key in self.rows))
        self.seeds = sorted({key[1] for key in self.rows})
        layers = {key[4] for key in self.rows} - {*CONTROLS}
        self.layers = [x for x in layers_in_order(layers) if x.startswith(("embed", "block"))]
        #: Controls have no position, and neither have summaries of version 0.1.0.
        self.positions = list(dict.fromkeys(key[3] for key in self.rows if key[4] not in CONTROLS))

    def value(
        self,
        name: str,
        seed: int,
        layer: str,
        column: str = "final",
        split: str = PAIRS,
        position: str | None = None,
        space: str = "raw",
    ) -> float:
        """Return one number; NaN if the run is missing. By default at the first position."""
        at = self.positions[0] if position is None else position
        row = self.rows.get((name, seed, split, "" if layer in CONTROLS else at, layer, space), {})
        return float(row.get(column) or math.nan)

    def each(self, name: str, layer: str, column: str = "final", **others: Any) -> list[float]:
        """Return the number of each seed."""
        return [self.value(name, seed, layer, column, **others) for seed in self.seeds]

    def best(
        self, name: str, seed: int, column: str = "final", position: str | None = None
    ) -> str | None:
        """Return the layer with the highest value on the training subset, if the run is there."""
        values = {
            (layer, "raw"): self.value(name, seed, layer, column, SEEN, position)
            for layer in self.layers
        }
        best = best_layer(values)
        return best[0] if best else None

    def of_best(
        self,
        name: str,
        seed: int,
        column: str = "final",
        *,
        by: str = "final",
        position: str | None = None,
        split: str = PAIRS,
    ) -> float:
        """Return a number of the layer that is best ``by`` a column on the training subset."""
        best = self.best(name, seed, by, position)
        if best is None:
            return math.nan
        return self.value(name, seed, best, column, split, position)


def difference(row: dict[str, str], world: dict[str, Any]) -> str:
    """Return the settings in which a sweep's run differs from the world it starts from."""
    changed = []
    for key, value in row.items():
        table, dot, name = key.partition(".")
        if dot and name not in FOLLOWING:
            start = world[table][name]
            same = float(value) == start if type(start) is float else value == str(start).lower()
            if not same:
                changed.append(f"{name} = {value}")
    return ", ".join(changed) or BASE
