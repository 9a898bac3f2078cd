"""Tables of runs that were measured again with other numbers of tasks."""

import csv
from pathlib import Path

import numpy as np

from tables.markdown import markdown, spread
from tasklens.scoring.score_table import CONTROLS, layers_in_order


class TaskNumbers:
    """The scores that `docs/scripts/measured_tasks.py` prints, on unseen pairs."""

    def __init__(self, path: Path) -> None:
        self.scores: dict[tuple[str, int, int, str], dict[str, list[float]]] = {}
        for r in csv.DictReader(path.read_text().splitlines()):
            if r["split"] == "val_subset":
                key = (r["metric"], int(r["step"] or -1), int(r["k"]), r["layer"])
                self.scores.setdefault(key, {}).setdefault(r["seed"], []).append(float(r["value"]))
        measured = [key for key in self.scores if key[0] == "inertia_ratio"]
        self.numbers = sorted({k for _, _, k, _ in measured})
        self.last = max(step for _, step, _, _ in measured)
        self.layers = layers_in_order({name for _, _, _, name in measured})

    def each(self, metric: str, step: int, k: int, layer: str) -> list[float]:
        """Return the number of each seed, a mean over the seeds of KMeans."""
        return [float(np.mean(values)) for values in self.scores[metric, step, k, layer].values()]


def by_number(runs: TaskNumbers) -> str:
    """Return the ARI at the end for each number of measured tasks, and that of the controls."""
    # The number of inputs is another k.
    controls = [name for name in CONTROLS if not name.startswith("control:input")]
    rows = [
        [name, *(spread(runs.each("ari", step, k, name)) for k in runs.numbers)]
        for step, names in ((runs.last, runs.layers), (-1, controls))
        for name in names
    ]
    return markdown(["val_subset", *(f"{k} tasks" for k in runs.numbers)], rows)


def from_means(runs: TaskNumbers) -> str:
    """Return the ARI of KMeans that starts at the means of all tasks."""
    most = runs.numbers[-1]
    metrics = ("ari", "ari_from_means", "inertia_ratio")
    pairs = [(metric, step) for step in (0, runs.last) for metric in metrics]
    rows = [
        [name, *(spread(runs.each(metric, step, most, name)) for metric, step in pairs)]
        for name in runs.layers
    ]
    heads = ("ARI", "ARI, begun at the means", "inertia / so begun")
    columns = [f"{head}, {when}" for when in ("before", "after") for head in heads]
    return markdown([f"{most} tasks", *columns], rows)
