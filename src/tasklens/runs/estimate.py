"""Estimate the memory and the disk that a training run takes, before anything of it is made."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from tasklens.clustering.kmeans import check_starts
from tasklens.core.errors import InputError
from tasklens.core.memory import check_sizes
from tasklens.core.settings import SettingsBase
from tasklens.core.workers import check_workers
from tasklens.data.dataset import MEASURED
from tasklens.data.dataset_size import check_dataset_size
from tasklens.interventions.settings import check_draws
from tasklens.models.devices import check_device, free_bytes
from tasklens.models.gpt2 import state_names
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.models.training_size import Network, Step, check_rows, training_bytes
from tasklens.runs.plan_edits import count_edit_bytes
from tasklens.runs.settings import TrainingRunSettings

#: Bytes of a step in the metrics of training.
METRIC = 110
#: Settings that the bytes of a training step in memory depend on the most.
OF_TRAINING = (
    *("model.n_layer", "model.n_embd", "train.instructions_per_step"),
    *("tasks.n_inputs", "tasks.n_outputs", "tasks.inputs_per_task", "tasks.min_length"),
)
#: Settings that a run's bytes on the disk depend on the most.
OF_DISK = (
    *("train.steps", "data.measured_instances", "model.n_layer", "model.n_embd"),
    *("clusters.cluster_seeds", "interventions.draws", "interventions.test_draws"),
    *("tasks.variants_per_task", "tasks.n_outputs"),
)


def check_run(settings: TrainingRunSettings, directory: Path) -> None:
    """Raise InputError if the memory or the disk of this machine does not hold a new run.

    The message names the setting that is too large, what is free, and what would fit. Its estimate
    is less than what the run needs.
    """
    check_memory_of(settings)
    sizes = {key: value for key, value in settings.flat().items() if key in OF_DISK}
    free = shutil.disk_usage(_existing(directory)).free
    check_sizes("the run", sizes, partial(_disk, settings), free, resource="disk")


def _changed(settings: TrainingRunSettings, sizes: Mapping[str, int]) -> TrainingRunSettings:
    """Return settings with some changed that are not checked, because only their sizes count."""
    tables: dict[str, SettingsBase] = {k: v for k, v in settings if isinstance(v, SettingsBase)}
    for key, value in sizes.items():
        name, _, field = key.partition(".")
        tables[name] = tables[name].model_copy(update={field: value})
    return settings.model_copy(update=tables)


def _disk(settings: TrainingRunSettings, sizes: Mapping[str, int]) -> int:
    """Return the bytes on the disk of a run with some settings changed, at least."""
    changed = _changed(settings, sizes)
    tasks = changed.tasks
    n_instances, n_splits = 0, len(MEASURED)
    if not tasks.file:
        n_instances = tasks.n_tasks * tasks.variants_per_task * tasks.inputs_per_task
        n_splits += len(tasks.unseen_kinds)
    n_parameters = _network(changed).n_parameters
    return sum(count_bytes(changed, n_parameters, n_instances, n_splits).values())


def _training(settings: TrainingRunSettings, sizes: Mapping[str, int]) -> int:
    """Return the bytes in memory of a training step with some settings changed, at least."""
    changed = _changed(settings, sizes)
    tasks, train = changed.tasks, changed.train
    inputs = max(1, tasks.inputs_per_task - changed.data.val_inputs)
    step = Step(
        length=1 if tasks.file else tasks.min_length,
        inputs=1 if tasks.file else min(inputs, train.inputs_per_row or inputs),
        itemsize=train.itemsize(changed.model.n_embd),
    )
    return training_bytes(_network(changed), train.instructions_per_step, step)


def check_memory_of(settings: TrainingRunSettings) -> None:
    """Raise InputError if the memory of this machine does not hold a run; see `check_run`."""
    tasks, data, train, clusters = settings.tasks, settings.data, settings.train, settings.clusters
    check_workers(settings.workers, "workers")
    check_dataset_size(tasks)
    if not tasks.file:  # which has its own sizes
        held_out = data.val_instruction_fraction * tasks.variants_per_task + 1
        n_inputs = max(1, tasks.inputs_per_task - data.val_inputs)
        n_train = tasks.n_tasks * int(tasks.variants_per_task - held_out) * n_inputs
        check_rows(n_train, tasks.min_length + 2)
    check_device(train.device, "train.device")
    sizes = {key: value for key, value in settings.flat().items() if key in OF_TRAINING}
    free = free_bytes(torch.device(train.device))
    check_sizes("a training step", sizes, partial(_training, settings), free)
    for k in settings.measure.numbers(data.measured_tasks):
        check_starts(data.measured_instances, k, clusters.cluster_seeds, clusters.n_init)
    edits = settings.interventions
    draws = {"interventions.draws": edits.draws, "interventions.test_draws": edits.test_draws}
    n_edited = min(edits.instances, data.measured_instances)
    if edits.checkpoints:
        check_draws(draws, (n_edited, settings.model.n_embd))


def _network(settings: TrainingRunSettings) -> Network:
    """Return the network of a run, with as few tokens and positions as it may have."""
    tasks = settings.tasks
    if tasks.file:
        return settings.model.network(vocab_size=3, n_positions=3)
    return settings.model.network(
        vocab_size=2 + tasks.n_inputs + tasks.n_outputs, n_positions=tasks.min_length + 2
    )


def count_bytes(
    settings: TrainingRunSettings, n_parameters: int, n_instances: int, n_splits: int
) -> dict[str, int]:
    """Return the bytes that a run takes on the disk, by kind of file.

    ``n_instances`` are those of all splits, of which ``n_splits`` have measured subsets.
    """
    steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
    weights = 4 * n_parameters
    kept = settings.checkpoints.steps_with_weights(steps, weights)
    names = state_names(settings.model.n_layer)
    n_states = len(steps) * n_splits * len(names) * len(settings.states.positions)
    one_state = 4 * settings.data.measured_instances * settings.model.n_embd
    n_k = len(settings.measure.numbers(settings.data.measured_tasks))
    measured = n_k * settings.data.measured_instances * settings.clusters.cluster_seeds * 2
    shown = min(settings.report.points, settings.data.measured_instances)
    return {
        "data": 8 * n_instances,
        "metrics": METRIC * settings.train.steps,
        "states": n_states * one_state,
        "weights": len(kept) * weights,
        # the new training state is whole before the old one goes
        "to resume from": 2 * 3 * weights,
        "interventions": count_edit_bytes(settings, kept, n_splits),
        "clusters": n_states * measured,
        # two maps in float32; in the page they take half of that
        "report": n_states * shown * 2 * 2 * 4 * 3 // 2,
    }


#: What makes a training run smaller.
SMALLER = "lower checkpoints.weights_gib or data.measured_instances, raise checkpoints.every"


def check_space(directory: Path, n_bytes: int, remedy: str = SMALLER) -> None:
    """Raise InputError if the disk does not hold a run of that size."""
    free = shutil.disk_usage(_existing(directory)).free
    if n_bytes > free:
        raise InputError(
            f"{directory}: the run takes about {megabytes(n_bytes)}, the disk has "
            f"{megabytes(free)} free; {remedy}, or name a directory elsewhere with --out"
        )


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest one above it that exists."""
    return next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())


def megabytes(n: int) -> str:
    """Return a number of bytes in MB."""
    return f"{n / 1e6:,.0f} MB"
