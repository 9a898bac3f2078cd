"""Time the whole `default` run, data to report, and compare it with the stack a user would write.

Ours is run, or read from a finished run's manifest. The reference would take hours, so it is
extrapolated: each part is timed in turn with ours and multiplied by the number of times that the
run needs it. Every product is printed. "The same" has two meanings, and each has a row:

- As many instances: the reference trains on as many instances as ours.
- To the same accuracy: the reference trains by its own recipe until its recorded course
  (courses.py) reaches 0.98 on unseen pairs. Ours still trains to the end of its schedule.

In both rows the reference has as many checkpoints, harvests and cells. Drawing the data, the figure
and the page count with our seconds. Scores, classifiers and intervals count with none.
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
from courses import COURSES, SEED, Course, checked, expected_reference
from harvest import Harvesters
from kmeans import better_way, time_cells
from reference import Recipe
from training import StepTimes, time_steps
from tsne import sklearn_cells

from tasklens.clustering.cluster import Cell, ClusterSettings
from tasklens.core.workers import default_workers
from tasklens.data.dataset import MEASURED
from tasklens.data.synthetic import make_dataset
from tasklens.models.gpt2 import state_names
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.runs.directory import RunDir
from tasklens.runs.load_run import load_run
from tasklens.runs.settings import TrainingRunSettings
from tasklens.runs.training_run import ACCURACY_SPLITS, TrainingRun

#: Seconds.
TARGET = "<= 240"
#: The accuracy on unseen pairs to which the reference trains.
GOAL = 0.98


@dataclass(frozen=True)
class Part:
    """Part of the run, with the number of times it is done and the seconds of one time.

    The reference does it ``their_times``, by default as often.
    """

    name: str
    times: float
    ours: float
    theirs: float
    note: str = ""
    their_times: float | None = None

    @property
    def our_seconds(self) -> float:
        """Seconds of ours, extrapolated."""
        return self.times * self.ours

    @property
    def their_seconds(self) -> float:
        """Seconds of the reference, extrapolated."""
        return (self.times if self.their_times is None else self.their_times) * self.theirs

    def line(self) -> str:
        """Return the arithmetic as a line of text."""
        theirs = self.times if self.their_times is None else self.their_times
        return (
            f"  {self.name:<22}{theirs:>8,.6g} x {self.theirs:>8.4g} s ="
            f"{self.their_seconds:>9,.0f} s   (ours {self.times:,.6g} x {self.ours:.4g} s = "
            f"{self.our_seconds:,.0f} s)  {self.note}"
        )


def run_ours(out: Path) -> float:
    """Run the default preset, and return the seconds from the command to its end."""
    command = [sys.executable, "-m", "tasklens", "run", "default", "--out", str(out)]
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


def training_parts(
    settings: TrainingRunSettings, times: StepTimes, course: Course
) -> dict[str, Part]:
    """Return the training of each row, by the row's name, given the course of the reference."""
    steps, form = settings.train.steps, str(times.choice.form)
    same = Part("training steps", steps, times.ours, times.theirs(times.instances), form)
    reached = course.steps_to(GOAL)
    theirs = reached or course.steps
    note = f"{form}; steps of {course.batch_size} instances, by its course of seed "
    note += f"{course.settings['seed']}"
    if not reached:
        note += f"; A LOWER BOUND: it never reached {GOAL:g}"
    part = Part("training steps", steps, times.ours, times.theirs(course.batch_size), note, theirs)
    return {"as many instances": same, f"to accuracy {GOAL:g}": part}


def other_parts(run: RunDir, settings: TrainingRunSettings, quick: bool) -> list[Part]:
    """Time the parts of both sides after training, in turn."""
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    checkpoints = len(checkpoint_steps(settings.train.steps, settings.checkpoints.every))
    n_cells = len(MEASURED) * len(state_names(settings.model.n_layer))
    timed_parts = []
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


def compare(run: RunDir, wall: float | None, quick: bool, courses: Path, report: Report) -> None:
    """Add the rows of a finished run; `wall` has its seconds if this script ran it."""
    opened = load_run(run.path)
    assert isinstance(opened, TrainingRun), f"{run.path} trained no model"
    settings = opened.settings
    stages = stage_seconds(run)
    shown = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.items())
    rest = 0.0
    if wall:
        rest = wall - sum(stages.values())
        shown += f", the rest (start, verdict, page) {rest:.0f} s"
        report.add(
            Result(
                what="the default run, data to figure and report",
                against="",
                ours=wall,
                unit="s",
                target=TARGET,
                note=shown,
            )
        )
    reference = expected_reference(settings.changed(seed=SEED), Recipe())
    course = checked(courses, {"reference": reference})["reference"]
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    times = time_steps(settings, dataset, rounds=3 if quick else 7)
    others = other_parts(run, settings, quick)
    bound = (
        f"bound of training by tokens {times.their_tokens / times.tokens:.3g}: an instance is "
        f"{times.their_tokens:.3g} tokens of theirs and {times.tokens:.3g} of ours"
    )
    as_ours = stages["data"] + stages["plot"] + rest
    mine = wall or sum(stages.values())
    for name, training in training_parts(settings, times, course).items():
        theirs = as_ours + sum(part.their_seconds for part in [training, *others])
        again = as_ours + sum(part.our_seconds for part in [training, *others])
        print(f"EXTRAPOLATED, {name}: the reference's parts, timed here, times how often each is")
        for part in [training, *others]:
            print(part.line())
        print(f"  {'data, figure and page':<22}{as_ours:>31,.0f} s   (as ours)")
        print(f"  {'together':<22}{theirs:>31,.0f} s   (ours, extrapolated alike: {again:,.0f} s)")
        report.add(
            Result(
                what=f"the default run, {name}",
                against="GPT2LMHeadModel and scikit-learn, extrapolated from its timed parts",
                ours=mine,
                theirs=theirs,
                unit="s",
                ratio=theirs / mine,
                note=f"theirs: training {training.their_seconds:,.0f} s ({training.note}), "
                f"{_seconds(others)}; {bound}",
            )
        )


def _seconds(parts: Sequence[Part]) -> str:
    return ", ".join(f"{part.name} {part.their_seconds:,.0f} s" for part in parts)


def main() -> None:
    """Run from the command line."""
    arguments = _options().parse_args()
    report = begin(arguments)
    if arguments.run:
        compare(RunDir(arguments.run), None, arguments.quick, arguments.courses, report)
        return
    out: Path | None = arguments.out
    with nullcontext(str(out)) if out else tempfile.TemporaryDirectory() as directory:
        path = Path(directory) if out else Path(directory) / "run"
        wall = run_ours(path)
        print(f"ours took {wall:.0f} s", flush=True)
        compare(RunDir(path), wall, arguments.quick, arguments.courses, report)


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument("--run", type=Path, help="a finished run, instead of making one")
    options.add_argument("--out", type=Path, help="make the run here, and leave it")
    options.add_argument("--courses", type=Path, default=COURSES, help="see accuracy.py")
    options.add_argument("--quick", action="store_true", help="time fewer of the parts")
    return options


if __name__ == "__main__":
    main()
