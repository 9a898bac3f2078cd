"""Compare the time of the whole `default` experiment, from data to figure.

Ours is run, or read from a finished run's manifest. The reference would take hours, so it is
extrapolated: each part is timed in turn with ours and multiplied by the number of times that the
preset needs it. Every product is printed. Drawing the data and the figure is counted with our time,
and scoring the reference's clusters with none.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from cells import chosen_cells
from common import Report, Result, begin, parser
from harvest import Harvesters
from kmeans import better_way, time_cells
from training import time_steps
from tsne import sklearn_cells

from tasklens.clustering.cluster import Cell, ClusterSettings
from tasklens.core.workers import default_workers
from tasklens.data.synthetic import MEASURED, make_dataset
from tasklens.models.gpt2 import state_names
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.runs.directory import RunDir
from tasklens.runs.load_run import load_run
from tasklens.runs.settings import TrainingRunSettings
from tasklens.runs.training_run import ACCURACY_SPLITS, TrainingRun

TARGET = ">= 15"


@dataclass(frozen=True)
class Part:
    """Part of the experiment, with the number of times it is done and the seconds of one time."""

    name: str
    times: float
    ours: float
    theirs: float
    note: str = ""

    def line(self) -> str:
        """Return the arithmetic as a line of text."""
        return (
            f"  {self.name:<22}{self.times:>8,.6g} x {self.theirs:>8.4g} s ="
            f"{self.times * self.theirs:>9,.0f} s   (ours {self.ours:>7.4g} s: "
            f"{self.times * self.ours:,.0f} s)  {self.note}"
        )


def run_ours(out: Path) -> float:
    """Run the default preset, and return the seconds from the command to its end."""
    command = [sys.executable, "-m", "tasklens", "run", "default", "--out", str(out)]
    command += ["--set", "train.precision=auto"]  # as the reference's
    began = time.perf_counter()
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"the run failed:\n{ran.stderr}")
    return time.perf_counter() - began


def stage_seconds(run: RunDir) -> dict[str, float]:
    """Return the seconds of each stage, from the manifest."""
    stages = {name: run.mark(name) for name in ("data", "train", "measure", "plot")}
    missing = [name for name, mark in stages.items() if mark is None]
    if missing:
        raise SystemExit(f"{run.path}: not finished: {', '.join(missing)}")
    return {name: float(mark["seconds"]) for name, mark in stages.items() if mark}


def parts(run: RunDir, settings: TrainingRunSettings, quick: bool) -> list[Part]:
    """Time the parts of both sides in turn."""
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    checkpoints = len(checkpoint_steps(settings.train.steps, settings.checkpoints.every))
    n_cells = len(MEASURED) * len(state_names(settings.model.n_layer))
    step = time_steps(settings, dataset, rounds=3 if quick else 7)
    timed_parts = [
        Part("training steps", settings.train.steps, step.ours, step.theirs, str(step.choice.form))
    ]

    read = Harvesters(settings, dataset).time_subsets(rounds=2 if quick else 5)
    timed_parts.append(Part("harvests", checkpoints, read.ours, read.theirs, read.reader))
    n_last = sum(len(dataset.splits[split]) for split in ACCURACY_SPLITS)
    per_instance = read.ours / read.instances, read.theirs / read.their_instances
    timed_parts.append(Part("instances for accuracy", n_last, *per_instance))

    raw = chosen_cells(run.path, "raw", 12 if quick else 48)
    name, way = better_way(raw, settings.clusters)
    timed_parts.append(
        _cells("cells by KMeans", n_cells * checkpoints, raw, way, settings, 3, name)
    )
    if settings.clusters.tsne != "none":
        times = n_cells * {"last": 1, "all": checkpoints}[settings.clusters.tsne]
        some = chosen_cells(run.path, "tsne", default_workers() * (1 if quick else 3))
        rounds = 1 if quick else 3
        timed_parts.append(_cells("cells by t-SNE", times, some, sklearn_cells, settings, rounds))
    return timed_parts


def _cells(
    name: str,
    times: int,
    some: Sequence[Cell],
    way: Callable[[Sequence[Cell], ClusterSettings], object],
    settings: TrainingRunSettings,
    rounds: int,
    note: str = "one process a core",
) -> Part:
    seconds = time_cells(some, settings.clusters, way, rounds)
    n = len(some)
    return Part(name, times, seconds.ours / n, seconds.theirs / n, f"{note}, {n} cells timed")


def compare(run: RunDir, wall: float | None, quick: bool, report: Report) -> None:
    """Add the row of a finished run; `wall` has its seconds if this script ran it."""
    opened = load_run(run.path)
    assert isinstance(opened, TrainingRun), f"{run.path} trained no model"
    settings = opened.settings
    stages = stage_seconds(run)
    same = stages["data"] + stages["plot"]
    measured = parts(run, settings, quick)
    theirs = same + sum(part.times * part.theirs for part in measured)
    again = same + sum(part.times * part.ours for part in measured)
    print("EXTRAPOLATED: the reference's parts, timed here, times how often the preset needs them")
    for part in measured:
        print(part.line())
    print(f"  {'data and figure':<22}{same:>36,.0f} s   (as ours)")
    print(f"  {'together':<22}{theirs:>36,.0f} s   (ours, extrapolated alike: {again:,.0f} s)")
    mine = wall or sum(stages.values())
    shown = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.items())
    report.add(
        Result(
            what="the default experiment, data to figure",
            against="GPT2LMHeadModel and scikit-learn, extrapolated from its timed parts",
            ours=mine,
            theirs=theirs,
            unit="s",
            ratio=theirs / mine,
            target=TARGET,
            note=f"ours really run: {shown}; ours extrapolated as theirs is: {again:.0f} s, "
            f"ratio {theirs / again:.3g}",
        )
    )


def main() -> None:
    """Run from the command line."""
    arguments = _options().parse_args()
    report = begin(arguments)
    if arguments.run:
        compare(RunDir(arguments.run), None, arguments.quick, report)
        return
    out: Path | None = arguments.out
    with nullcontext(str(out)) if out else tempfile.TemporaryDirectory() as directory:
        path = Path(directory) if out else Path(directory) / "run"
        wall = run_ours(path)
        print(f"ours took {wall:.0f} s", flush=True)
        compare(RunDir(path), wall, arguments.quick, report)


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument("--run", type=Path, help="a finished run, instead of making one")
    options.add_argument("--out", type=Path, help="make the run here, and leave it")
    options.add_argument("--quick", action="store_true", help="time fewer of the parts")
    return options


if __name__ == "__main__":
    main()
