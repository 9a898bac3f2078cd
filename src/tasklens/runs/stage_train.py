"""Stage train: train from where it stopped, and keep and harvest checkpoints on the way."""

import json
import os
from collections.abc import Callable

import torch

from tasklens.core.progress import detail, progress, status
from tasklens.core.workers import LOCAL, cores_of_nodes, default_workers, start_workers
from tasklens.models.distributed import ProcessGroup, process_group
from tasklens.models.gpt2 import make_model
from tasklens.models.training import StepLog, Trainer
from tasklens.runs.keep_checkpoints import CheckpointKeeper
from tasklens.runs.settings import TrainingRunSettings
from tasklens.runs.stage_measure import Measurer
from tasklens.runs.training_run import TrainingRun


def train(run: TrainingRun, engine: str = LOCAL, *, measuring: bool = False) -> None:
    """Train the model of a run; if asked, let the engine measure meanwhile on cores that are left.

    What is not reached, or fails, is left to stage measure; the scores do not depend on it.
    """
    run.need("data")
    settings, directory = run.settings, run.directory
    inputs = run.inputs("train")
    with process_group(settings.train.device) as group, directory.stage("train", inputs) as finish:
        if not group.broadcast_flag(finish is not None) or finish is None:
            return
        _train_and_keep(run, group, inputs, finish, engine, measuring)


def _train_and_keep(
    run: TrainingRun,
    group: ProcessGroup,
    inputs: str,
    finish: Callable[..., None],
    engine: str,
    measuring: bool,
) -> None:
    """Train on rank 0, which writes.

    A function of its own, as `_take_all_steps`, so that no trainer is left when the group is
    destroyed: a trainer holds the group, whose threads would outlive Python.
    """
    settings, directory = run.settings, run.directory
    status("train: making the model")
    trainer = _trainer(run, group)
    threads = torch.get_num_threads()
    keeper = CheckpointKeeper(run, trainer, inputs, threads)
    if not trainer.begin(keeper.newest()):
        keeper.keep()
    detail(f"train: {trainer.precision} on {trainer.device}")
    left = cores_left(settings, engine) - (group.local_size - 1) if measuring else 0
    with (
        start_workers(engine if left > 0 else LOCAL, max(1, left), separate=True) as workers,
        progress("train", settings.train.steps, "step", trainer.step) as bar,
        directory.growing(directory.metrics) as metrics,
    ):
        measurer = Measurer(run, workers)

        def measure_beside(step: int) -> None:
            is_whole = not run.lacking(step)  # otherwise a position was added meanwhile
            if left > 0 and is_whole and not measurer.is_full and not measurer.is_done(step):
                measurer.begin(step)

        def on_step(_: Trainer, log: StepLog) -> None:
            metrics.write(json.dumps(log._asdict()) + "\n")
            if trainer.step in run.steps:
                os.fsync(metrics.fileno())
                keeper.keep()
                measure_beside(log.step)
            measurer.keep_done()
            bar.note(f"loss {log.loss:.3f}, accuracy {log.accuracy:.2f}")
            bar.update()

        measure_beside(trainer.step)
        trainer.run(on_step)
        measurer.finish()
    finish(
        [directory.metrics, *keeper.files(settings.train.steps)],
        threads=threads,
        processes=group.size,
        device=str(trainer.device),
        precision=trainer.precision,
    )


def train_with_rank_0(run: TrainingRun) -> None:
    """Take part, on a rank above 0, in the training that rank 0 leads; write nothing."""
    with process_group(run.settings.train.device) as group:
        if group.broadcast_flag():
            _take_all_steps(run, group)


def _take_all_steps(run: TrainingRun, group: ProcessGroup) -> None:
    """Train on a rank above 0; see `_train_and_keep`."""
    trainer = _trainer(run, group)
    trainer.begin({})
    trainer.run(lambda trainer, log: None)


def cores_left(settings: TrainingRunSettings, engine: str) -> int:
    """Return how many cores of an engine are left to measure while this machine trains."""
    if engine == LOCAL and settings.workers == 1:
        return 0
    cores = default_workers() if engine == LOCAL else sum(cores_of_nodes(engine))
    left = max(0, cores - settings.cores_training)
    return min(left, settings.workers or left)


def _trainer(run: TrainingRun, group: ProcessGroup) -> Trainer:
    settings = run.settings
    processes = group.local_size if settings.train.threads == 0 else 1
    torch.set_num_threads(max(1, settings.cores_training // processes))
    model = make_model(run.dataset, settings.model, seed=settings.seed)
    return Trainer(model, run.dataset, settings.train, settings.seed, group)
