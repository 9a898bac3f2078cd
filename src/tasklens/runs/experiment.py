"""The stages in order, each doing only what is missing in the run directory.

data -> train (with the harvest of every checkpoint) -> measure -> plot
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from tqdm import tqdm

from tasklens.runs.settings import TrainingRunSettings
from tasklens.report.figure2 import figure2
from tasklens.data.synthetic import Dataset, make_dataset
from tasklens.data.synthetic_files import dataset_files, read_dataset
from tasklens.models.distributed import World, joined
from tasklens.core.engines import LOCAL, cores_of_nodes, start_workers
from tasklens.core.workers import default_workers
from tasklens.core.errors import CellsFailedError, InputError
from tasklens.report.figure1 import figure1
from tasklens.report.style import render
from tasklens.models.gpt2 import make_model
from tasklens.runs.keeper import Keeper
from tasklens.runs.measuring import MEASURED_FILES, Measurer
from tasklens.runs.settings import ModelRunSettings, TrainingRunSettings
from tasklens.runs.directory import RunDir
from tasklens.core.files import digest, sha256
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.scoring.score_table import Row, read_scores, score_controls, table_to_csv_bytes, to_table
from tasklens.data.instances import Instances
from tasklens.core.parquet import parquet_bytes
from tasklens.models.training import StepLog, Trainer


def stage_inputs(run: RunDir, settings: TrainingRunSettings, stage: str) -> str:
    """Return the hash of what a stage's result depends on: its settings and the stage before."""
    table = settings.model_dump()
    if stage == "data":
        return digest([settings.seed, table["tasks"], table["data"]])
    if stage == "train":
        keys = ("model", "train", "checkpoints")
        return digest([settings.seed, *(table[k] for k in keys), run.output_hash("data")])
    if stage == "measure":
        return digest([settings.seed, table["clusters"], run.output_hash("train")])
    return digest([table["figure"], run.output_hash("measure")])


def prepare(run: RunDir, settings: TrainingRunSettings, command: str) -> None:
    """Write the settings and the manifest's head into a new or continued run directory."""
    run.begin(settings.seed, command)
    run.write(run.config, settings.toml().encode())


def run_all(run: RunDir, settings: TrainingRunSettings, engine: str = LOCAL) -> None:
    """Run every stage that is not finished, in order; measure while training where cores allow.

    Parameters
    ----------
    run : RunDir
    settings : TrainingRunSettings
    engine : str
        What measures, see `tasklens.core.engines.opened`. No result depends on it.

    Raises
    ------
    CellsFailedError
        Where cells could not be measured; the others are.
    """
    make_data(run, settings)
    train_model(run, settings, cores_beside(settings, engine), engine)
    measure(run, settings, engine)
    plot(run, settings)


def cores_beside(settings: TrainingRunSettings, engine: str) -> int:
    """Return how many cores of an engine are left to measure while this machine trains."""
    if engine == LOCAL:
        if settings.workers == 1:
            return 0
        left = default_workers() - settings.cores_training
        return max(0, min(left, settings.workers or left))
    left = max(0, sum(cores_of_nodes(engine)) - settings.cores_training)
    return min(left, settings.workers or left)


def make_data(run: RunDir, settings: TrainingRunSettings) -> None:
    """Stage data: draw the dataset and write it."""
    file = Path(settings.tasks.file) if settings.tasks.file else None
    task_file = sha256(file.read_bytes()) if file and file.is_file() else None
    mark = run.mark("data")
    if mark and task_file and task_file != mark.get("task_file"):
        raise InputError(
            f"{run.path} holds another run: {file} has changed since its data were made; name "
            "another directory with --out"
        )
    with run.stage("data", stage_inputs(run, settings, "data")) as finish:
        if finish is None:
            return
        files = dataset_files(make_dataset(settings.tasks, settings.data, settings.seed))
        run.write_directory(run.data, files)
        finish([run.data / name for name in files], task_file=task_file)


def load_dataset(run: RunDir) -> Dataset:
    """Read the dataset that stage data left."""
    return read_dataset(lambda name: run.read(run.data / name))


def train_model(run: RunDir, settings: TrainingRunSettings, beside: int = 0, engine: str = LOCAL) -> None:
    """Stage train: train from where it stopped, harvesting and keeping checkpoints on the way.

    Parameters
    ----------
    run : RunDir
    settings : TrainingRunSettings
    beside : int
        Cells that are measured at a time meanwhile. What is not got to, or fails, is left to stage
        measure; the scores do not depend on who measured.
    engine : str
        What measures them.
    """
    need(run, settings, "data")
    inputs = stage_inputs(run, settings, "train")
    with joined(settings.train.device) as world, run.stage("train", inputs) as finish:
        if not world.tell(finish is not None) or finish is None:
            return
        beside = max(0, beside - (world.local_size - 1))
        trainer, dataset = _trainer(run, settings, world)
        threads = torch.get_num_threads()
        keeper = Keeper(run, settings, dataset, trainer, inputs, threads)
        if not trainer.begin(keeper.newest()):
            keeper.keep()
        bar = tqdm(
            desc="train",
            unit="step",
            total=settings.train.steps,
            initial=trainer.step,
            disable=None,
        )
        with (
            start_workers(engine if beside else LOCAL, beside or 1, apart=True) as workers,
            bar,
            run.growing(run.metrics) as metrics,
        ):
            measurer = Measurer(run, settings, dataset, workers)

            def measure_beside(step: int) -> None:
                if beside and not measurer.full and not measurer.done(step):
                    measurer.begin(step)

            def on_step(_: Trainer, log: StepLog) -> None:
                metrics.write(json.dumps(log._asdict()) + "\n")
                if keeper.due:
                    os.fsync(metrics.fileno())
                    keeper.keep()
                    measure_beside(log.step)
                measurer.collect(wait=False)
                bar.set_postfix_str(f"loss {log.loss:.3f}, accuracy {log.accuracy:.2f}", False)
                bar.update()

            measure_beside(trainer.step)
            trainer.run(on_step)
            measurer.finish()
        finish(
            [run.metrics, *keeper.files(settings.train.steps)],
            threads=threads,
            processes=world.size,
            device=str(trainer.device),
            precision=trainer.precision,
            seconds_a_step=trainer.calibration,
        )


def train_along(run: RunDir, settings: TrainingRunSettings) -> None:
    """Take part in the training that another process of torchrun's leads; write nothing."""
    with joined(settings.train.device) as world:
        if not world.tell():
            return
        trainer, _ = _trainer(run, settings, world)
        steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)

        def on_step(trainer: Trainer, _: StepLog) -> None:
            if trainer.step in steps:
                trainer.state()  # of which this process may have a part

        if not trainer.begin({}):
            trainer.state()
        trainer.run(on_step)


def _trainer(run: RunDir, settings: TrainingRunSettings, world: World) -> tuple[Trainer, Dataset]:
    shared = world.local_size if settings.train.threads == 0 else 1
    torch.set_num_threads(max(1, settings.cores_training // shared))
    dataset = load_dataset(run)
    model = make_model(settings.model, dataset, settings.seed)
    trainer = Trainer(model, dataset, settings.train, settings.seed, world)
    return trainer, dataset


def load_scores(run: RunDir) -> pa.Table:
    """Read the tidy table that stage measure left."""
    return read_scores(run.scores_parquet, run.read(run.scores_parquet))


def measure(run: RunDir, settings: TrainingRunSettings, engine: str = LOCAL) -> None:
    """Stage measure: cluster and score every cell, then write the tidy table.

    Raises
    ------
    CellsFailedError
        Where cells failed for reasons of their own; the checkpoints of the others are kept, and the
        next call does what is missing.
    """
    need(run, settings, "train")
    with run.stage("measure", stage_inputs(run, settings, "measure")) as finish:
        if finish is None:
            return
        dataset = load_dataset(run)
        steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
        bar = tqdm(desc="measure", unit="cell", disable=None)
        with start_workers(engine, settings.workers) as workers, bar:
            measurer = Measurer(run, settings, dataset, workers, bar.update)
            missing = [step for step in steps if not measurer.done(step)]
            bar.total = sum(map(measurer.n_cells, missing))
            for step in missing:
                if measurer.full:
                    measurer.collect(wait=True)
                measurer.begin(step)
            measurer.finish()
        if measurer.failed:
            raise CellsFailedError(measurer.failed)
        tables = [_measure_controls(run, settings, measurer.instances)]
        tables += [measurer.scores(step) for step in steps]
        table = pa.concat_tables(tables)
        run.write(run.scores_parquet, parquet_bytes(table))
        run.write(run.scores_csv, table_to_csv_bytes(table))
        files = [run.measured_at(step) / name for step in steps for name in MEASURED_FILES]
        finish([run.scores_parquet, run.scores_csv, *files])


def _measure_controls(run: RunDir, settings: TrainingRunSettings, instances: dict[str, Instances]) -> pa.Table:
    rows: list[Row] = []
    for split, known in instances.items():
        rows += score_controls(
            known, known.n_tasks, run.name, settings.seed, split, settings.clusters
        )
    return to_table(rows)


def plot(run: RunDir, settings: TrainingRunSettings) -> None:
    """Stage plot: draw the figures."""
    need(run, settings, "measure")
    with run.stage("plot", stage_inputs(run, settings, "plot")) as finish:
        if finish is None:
            return
        scores = load_scores(run)
        paths = []
        for number, figure in ((1, figure1(scores, settings.figure)), (2, figure2(scores))):
            for suffix in FORMATS:
                paths.append(run.figure(suffix, number))
                run.write(paths[-1], render(figure, suffix))
        finish(paths)


#: Files of each figure.
FORMATS: tuple[Literal["png", "pdf"], ...] = ("png", "pdf")

STAGES = ("data", "train", "measure", "plot")


def need(run: RunDir, settings: TrainingRunSettings, stage: str) -> None:
    """Raise InputError where a stage, or one before it, was not finished under these settings."""
    before = STAGES[: STAGES.index(stage)]
    for needed in (stage, *before):
        if run.mark(needed) is None:
            raise InputError(
                f"{run.path}: stage {needed} is not finished; run it first: "
                f"tasklens {needed} {run.path}"
            )
    for needed in (*before, stage):
        mark = run.mark(needed)
        if mark and mark["inputs"] != stage_inputs(run, settings, needed):
            raise InputError(
                f"{run.path}: stage {needed} was finished under other settings than those in "
                f"{run.config.name}; restore the file, or name a new directory with --out"
            )


def kind_of(run: RunDir) -> type[Any]:
    """Return what the settings of a run directory are: `Settings`, or those of a probe."""
    return ModelRunSettings if run.is_probe else TrainingRunSettings
