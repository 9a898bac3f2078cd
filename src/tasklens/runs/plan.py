"""Plan a run: how long it takes, by timing some of it on this machine, and its size on the disk."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tasklens.clustering.cluster import Cell, ClusterSettings, cluster
from tasklens.clustering.map_frames import next_frame
from tasklens.core.progress import status
from tasklens.core.workers import default_workers
from tasklens.data.dataset import Dataset
from tasklens.models.gpt2 import GPT2, make_model, state_names
from tasklens.models.gpt2_subject import harvest_measured
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.models.training import Trainer
from tasklens.runs.estimate import check_memory_of, count_bytes, megabytes
from tasklens.runs.fit_settings import draw_dataset
from tasklens.runs.plan_edits import time_edits
from tasklens.runs.settings import TrainingRunSettings
from tasklens.scoring.score_cells import score_silhouettes

#: Times that something is timed, at least and at most, and the seconds after which it is enough.
LEAST_TIMES, MOST_TIMES, ENOUGH_SECONDS = 2, 6, 4.0
#: If a step with few instructions takes more seconds than this, no whole step is timed.
LONG_STEP = 0.3
#: The machine is busy in two cases: its load was above this share of its cores before, or the
#: slowest of the timed steps took longer than the fastest by this factor.
IDLE_SHARE, STEADY = 0.25, 1.5
#: Checkpoints that are listed at either end.
LISTED = 3


class Seconds(NamedTuple):
    """Time that some work takes, at best and at worst."""

    low: float
    high: float

    def times(self, n: float) -> "Seconds":
        """Return the time of n repetitions."""
        return Seconds(n * self.low, n * self.high)

    def plus(self, other: "Seconds") -> "Seconds":
        """Return the time of both, one after the other."""
        return Seconds(self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        """Return the range in seconds, minutes or hours."""
        size, unit = (
            (3600, "h") if self.high >= 7200 else (60, "min") if self.high >= 120 else (1, "s")
        )
        digits = 1 if size == 3600 else 0
        low, high = f"{self.low / size:.{digits}f}", f"{self.high / size:.{digits}f}"
        return f"{high} {unit}" if low == high else f"{low} to {high} {unit}"


@dataclass(frozen=True)
class Plan:
    """A run's steps, seconds by stage and bytes by kind."""

    n_parameters: int
    steps: tuple[int, ...]
    with_weights: tuple[int, ...]
    instances: int
    seconds: dict[str, Seconds]
    n_bytes: dict[str, int]
    busy: str
    """Why the seconds are not those of an idle machine; empty if they are."""

    @property
    def total(self) -> Seconds:
        """Time that the run takes."""
        total = Seconds(0, 0)
        for each in self.seconds.values():
            total = total.plus(each)
        return total

    def document(self) -> dict[str, Any]:
        """Return the plan as what ``--json`` prints."""
        seconds = self.seconds | {"total": self.total}
        return {
            "parameters": self.n_parameters,
            "training instances": self.instances,
            "checkpoints": self.steps,
            "checkpoints with weights": self.with_weights,
            "seconds": {name: {"low": s.low, "high": s.high} for name, s in seconds.items()},
            "bytes": self.n_bytes | {"total": sum(self.n_bytes.values())},
            "busy": self.busy,
        }

    def text(self) -> str:
        """Return the plan as ``--dry-run`` prints it."""
        steps = [str(step) for step in self.steps]
        if len(steps) > 2 * LISTED + 1:
            steps[LISTED:-LISTED] = ["..."]
        lines = [
            f"model: {self.n_parameters:,} parameters",
            f"data: {self.instances:,} training instances",
            f"checkpoints: {len(self.steps):,}, at steps {', '.join(steps)}; "
            f"weights kept of {len(self.with_weights):,}",
            "time on this machine, from timing some of the work (starting: up to a minute)",
            *(
                f"  {name:<16}{s!s:>16}"
                for name, s in (self.seconds | {"total": self.total}).items()
            ),
        ]
        if self.busy:
            lines.append(f"  the machine is busy ({self.busy}): an idle one is faster")
        sizes = self.n_bytes | {"total": sum(self.n_bytes.values())}
        lines.append("disk")
        lines += [f"  {name:<16}{megabytes(n):>16}" for name, n in sizes.items()]
        return "\n".join(lines) + "\n"


def make_plan(settings: TrainingRunSettings) -> Plan:
    """Make the dataset and the model in memory and time what the run repeats. Writes nothing.

    InputError as `check_memory_of`.
    """
    check_memory_of(settings)
    load = os.getloadavg()[0] / default_workers()
    status("plan: making the data and the model")
    began = time.perf_counter()
    dataset = draw_dataset(settings)
    data_seconds = time.perf_counter() - began
    torch.set_num_threads(settings.cores_training)
    model = make_model(dataset, settings.model, seed=settings.seed)
    n_parameters = sum(p.numel() for p in model.parameters())
    steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
    status("plan: timing steps of training")
    step_seconds = _time_steps(model, dataset, settings)
    status("plan: timing a harvest")
    positions = settings.states.positions
    harvest_seconds = _timed(lambda: harvest_measured(model, dataset, positions), least=1)
    status("plan: timing the clustering")
    raw, tsne = _time_cells(settings)
    status("plan: timing the edits of hidden states")
    with_weights = settings.checkpoints.steps_with_weights(steps, 4 * n_parameters)
    each = [time_edits(model, dataset, settings, with_weights) for _ in range(LEAST_TIMES)]
    edit_seconds = Seconds(min(each), max(each)).times(settings.cores_training)
    status("plan: timing the frames of the report")
    frame_seconds = _time_frame(settings)
    cells = len(dataset.measured) * len(state_names(settings.model.n_layer)) * len(positions)
    n_k = len(settings.measure.numbers(settings.data.measured_tasks))
    n_tsne = {"none": 0, "last": 1, "all": len(steps)}[settings.clusters.tsne]
    workers = settings.workers or default_workers()
    busy = ""
    if load > IDLE_SHARE:
        busy = f"its load is {load:.0%} of its cores"
    elif step_seconds.high > STEADY * step_seconds.low:
        busy = f"a step takes {step_seconds.low:.2g} to {step_seconds.high:.2g} s"
    measure_seconds = raw.times(n_k * len(steps)).plus(tsne.times(n_tsne))
    return Plan(
        n_parameters=n_parameters,
        steps=steps,
        with_weights=with_weights,
        instances=len(dataset.splits["train"]),
        seconds={
            "data": Seconds(data_seconds, data_seconds),
            "train": step_seconds.times(settings.train.steps),
            "harvest": harvest_seconds.times(len(steps)),
            "measure": measure_seconds.times(cells / workers),
            "interventions": edit_seconds.times(1 / workers),
            "report": frame_seconds.times(cells * len(steps) / workers),
        },
        n_bytes=count_bytes(settings, n_parameters, dataset.n_instances, len(dataset.measured)),
        busy=busy,
    )


def _timed(action: Callable[[], object], least: int = LEAST_TIMES) -> Seconds:
    """Return the seconds of an action, done a few times."""
    seconds: list[float] = []
    while len(seconds) < least or (len(seconds) < MOST_TIMES and sum(seconds) < ENOUGH_SECONDS):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return Seconds(min(seconds), max(seconds))


def _time_steps(model: GPT2, dataset: Dataset, settings: TrainingRunSettings) -> Seconds:
    """Return the seconds of a step, after a warm-up with few instructions per step.

    If even they take long, a step is estimated from them: the time of a large model is proportional
    to the number of instructions.
    """
    train = settings.train
    few = max(1, train.instructions_per_step // 8)
    trainer = Trainer(model, dataset, train.changed(instructions_per_step=few), settings.seed)
    batches = trainer.batches()
    trainer.take_step(next(batches))
    of_few = _timed(lambda: trainer.take_step(next(batches)))
    if of_few.low > LONG_STEP:
        return of_few.times(train.instructions_per_step / few)
    whole = Trainer(model, dataset, train, settings.seed).batches()
    return _timed(lambda: trainer.take_step(next(whole)))


def _time_cells(settings: TrainingRunSettings) -> tuple[Seconds, Seconds]:
    """Return the seconds of one cell in the raw space and after t-SNE, on random points."""
    x = _points(settings.data.measured_instances, settings.model.n_embd)

    def work(space: str, clusters: ClusterSettings = settings.clusters) -> None:
        cell = Cell(0, 0, "", "", space, settings.data.measured_tasks, x)
        (clustering,) = cluster([cell], clusters)
        if space == "raw" and settings.measure.silhouette == "all":
            score_silhouettes(cell, clustering.labels, "")

    work("raw")  # which compiles
    raw = _timed(lambda: work("raw"))
    if settings.clusters.tsne == "none":
        return raw, Seconds(0, 0)
    work("tsne", settings.clusters.changed(tsne_max_iter=250))  # which compiles
    return raw, _timed(lambda: work("tsne"))


def _time_frame(settings: TrainingRunSettings) -> Seconds:
    """Return the seconds of one frame of the report's map, on random points."""
    n = min(settings.report.points, settings.data.measured_instances)
    x, before = _points(n, settings.model.n_embd), _points(n, 2)
    report = settings.report

    def work() -> None:
        next_frame(
            x,
            before,
            perplexity=report.perplexity,
            exaggeration=report.exaggeration,
            stay=report.stay,
            seed=0,
        )

    work()  # which compiles
    return _timed(work)


def _points(n: int, width: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((n, width), dtype=np.float32)
