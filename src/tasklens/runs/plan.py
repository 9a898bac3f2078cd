"""What a run will do, and what it will cost: time by timing some of it here, disk by counting."""

import shutil
import statistics
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tasklens.clustering.cluster import Cell, cluster
from tasklens.clustering.map_frames import next_frame
from tasklens.core.errors import InputError
from tasklens.core.workers import default_workers
from tasklens.data.synthetic import MEASURED, Dataset, make_dataset
from tasklens.data.token_prompts import join
from tasklens.models.gpt2 import GPT2, make_model, state_names
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.models.training import Trainer
from tasklens.runs.settings import TrainingRunSettings
from tasklens.scoring.score_cells import score_silhouettes

#: Steps that are timed, after one that is not.
TIMED_STEPS = 5


@dataclass(frozen=True)
class Plan:
    """A run's steps, seconds by stage and bytes by kind."""

    n_parameters: int
    steps: tuple[int, ...]
    with_weights: tuple[int, ...]
    instances: int
    seconds: dict[str, float]
    n_bytes: dict[str, int]

    def text(self) -> str:
        """Return the plan as ``--dry-run`` prints it."""
        total = sum(self.seconds.values())
        seconds = "\n".join(f"  {name:<22}{_minutes(s):>10}" for name, s in self.seconds.items())
        sizes = "\n".join(f"  {name:<22}{_megabytes(n):>10}" for name, n in self.n_bytes.items())
        return (
            f"model: {self.n_parameters:,} parameters\n"
            f"data: {self.instances:,} training instances\n"
            f"checkpoints: {len(self.steps)}, at steps {', '.join(map(str, self.steps))}\n"
            f"weights kept of {len(self.with_weights)} of them\n"
            f"time on this machine, from {TIMED_STEPS} steps, one harvest and one cell of each kind"
            f"\n{seconds}\n"
            f"  {'together':<22}{_minutes(total):>10}\n"
            f"disk\n{sizes}\n"
            f"  {'together':<22}{_megabytes(sum(self.n_bytes.values())):>10}\n"
        )


def count_bytes(
    settings: TrainingRunSettings, n_parameters: int, n_instances: int
) -> dict[str, int]:
    """Return the disk that a run will take, by what it is for."""
    steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
    weights = 4 * n_parameters
    kept = settings.checkpoints.steps_with_weights(steps, weights)
    names = state_names(settings.model.n_layer)
    one_state = 4 * settings.data.measured_instances * settings.model.n_embd
    n_k = len(settings.measure.numbers(settings.data.measured_tasks))
    measured = n_k * settings.data.measured_instances * settings.clusters.cluster_seeds * 2
    shown = min(settings.report.points, settings.data.measured_instances)
    return {
        "data": 8 * n_instances,
        "states": len(steps) * len(MEASURED) * len(names) * one_state,
        "weights": len(kept) * weights,
        # the new training state is whole before the old one goes
        "to resume from": 2 * 3 * weights,
        "clusters": len(steps) * len(MEASURED) * len(names) * measured,
        # two maps in float32; in the page they take half of that
        "report": len(steps) * len(MEASURED) * len(names) * shown * 2 * 2 * 4 * 3 // 2,
    }


#: What makes a training run smaller.
SMALLER = "lower checkpoints.weights_gib or data.measured_instances, raise checkpoints.every"


def check_space(where: Path, n_bytes: int, remedy: str = SMALLER) -> None:
    """Raise InputError if the disk does not hold a run of that size."""
    parent = next(p for p in (where.absolute(), *where.absolute().parents) if p.exists())
    free = shutil.disk_usage(parent).free
    if n_bytes > free:
        raise InputError(
            f"{where}: the run takes about {_megabytes(n_bytes)}, the disk has "
            f"{_megabytes(free)} free; {remedy}, or name a directory elsewhere with --out"
        )


def make_plan(settings: TrainingRunSettings) -> Plan:
    """Make the dataset and the model in memory and time what the run repeats. Writes nothing."""
    began = time.perf_counter()
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    data_seconds = time.perf_counter() - began
    torch.set_num_threads(settings.cores_training)
    model = make_model(dataset, settings.model, seed=settings.seed)
    n_parameters = sum(p.numel() for p in model.parameters())
    steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
    step_seconds = _time_steps(model, dataset, settings)
    began = time.perf_counter()
    harvest(GPT2Subject(model), join([dataset.prompts(split) for split in MEASURED]))
    harvest_seconds = time.perf_counter() - began
    raw, tsne = _time_cells(settings)
    cells = len(MEASURED) * len(state_names(settings.model.n_layer))
    n_k = len(settings.measure.numbers(settings.data.measured_tasks))
    n_tsne = {"none": 0, "last": 1, "all": len(steps)}[settings.clusters.tsne]
    workers = settings.workers or default_workers()
    instances = sum(len(split) for name, split in dataset.splits.items() if name not in MEASURED)
    return Plan(
        n_parameters=n_parameters,
        steps=steps,
        with_weights=settings.checkpoints.steps_with_weights(steps, 4 * n_parameters),
        instances=len(dataset.splits["train"]),
        seconds={
            "data": data_seconds,
            "train": step_seconds * settings.train.steps,
            "harvest": harvest_seconds * len(steps),
            "measure": cells * (n_k * raw * len(steps) + tsne * n_tsne) / workers,
            "report": cells * _time_frame(settings) * len(steps) / workers,
        },
        n_bytes=count_bytes(settings, n_parameters, instances),
    )


def _time_steps(model: GPT2, dataset: Dataset, settings: TrainingRunSettings) -> float:
    """Return the seconds of a step, the median of some after a warm-up."""
    trainer = Trainer(model, dataset, settings.train, settings.seed)
    seconds = []
    for batch in islice(trainer.batches(), 1 + TIMED_STEPS):
        began = time.perf_counter()
        trainer.take_step(batch)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _time_cells(settings: TrainingRunSettings) -> tuple[float, float]:
    """Return the seconds of one cell in the raw space and after t-SNE, on random points."""
    n, width = settings.data.measured_instances, settings.model.n_embd
    x = _points(n, width)
    seconds: list[float] = []
    for space in ("raw", "tsne"):
        if space == "tsne" and settings.clusters.tsne == "none":
            return seconds[0], 0.0
        cell = Cell(0, 0, "", "", space, settings.data.measured_tasks, x)
        cluster([cell], settings.clusters)  # which compiles
        began = time.perf_counter()
        (clustering,) = cluster([cell], settings.clusters)
        if space == "raw" and settings.measure.silhouette == "all":
            score_silhouettes(cell, clustering.labels, "")
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def _time_frame(settings: TrainingRunSettings) -> float:
    """Return the seconds of one frame of the report's map, on random points."""
    n = min(settings.report.points, settings.data.measured_instances)
    x, before = _points(n, settings.model.n_embd), _points(n, 2)
    report = settings.report
    next_frame(x, before, perplexity=report.perplexity, stay=report.stay, seed=0)  # which compiles
    began = time.perf_counter()
    next_frame(x, before, perplexity=report.perplexity, stay=report.stay, seed=0)
    return time.perf_counter() - began


def _points(n: int, width: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((n, width), dtype=np.float32)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _megabytes(n: int) -> str:
    return f"{n / 1e6:,.0f} MB"
