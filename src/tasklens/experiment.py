"""The stages in order, each doing only what is missing in the run directory.

data -> train (with the harvest of every checkpoint) -> measure -> plot
"""

import dataclasses
import io
import json
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tqdm import tqdm

from tasklens.checkpoints import checkpoint_files, read_tensors
from tasklens.clustering import Cell
from tasklens.config import Settings, settings_table, settings_toml
from tasklens.dataset import MEASURED, SPLITS, Dataset, make_dataset
from tasklens.dataset_files import dataset_files, read_dataset
from tasklens.errors import InputError
from tasklens.figures import figure1, render
from tasklens.gpt2 import make_model, state_names
from tasklens.parallel import Workers, default_workers
from tasklens.plan import check_space, count_bytes
from tasklens.rundir import RunDir, digest
from tasklens.schedule import checkpoint_steps
from tasklens.scores import (
    Instances,
    Row,
    accuracy_row,
    instances_of,
    measure_cell,
    read_scores,
    score_controls,
    table_to_csv_bytes,
    table_to_parquet_bytes,
    to_table,
)
from tasklens.states import GPT2Subject, harvest
from tasklens.training import StepLog, Trainer

#: The splits whose accuracy the last checkpoint is asked for in full.
ACCURACY_SPLITS = ("val", "val_instruction")


def stage_inputs(run: RunDir, settings: Settings, stage: str) -> str:
    """Return the hash of what a stage's result depends on: its settings and the stage before."""
    table = settings_table(settings)
    if stage == "data":
        file = settings.tasks.file
        content = Path(file).read_text() if file and Path(file).exists() else ""
        return digest([settings.seed, table["tasks"], table["data"], content])
    if stage == "train":
        keys = ("model", "train", "checkpoints")
        return digest([settings.seed, *(table[k] for k in keys), run.output_hash("data")])
    if stage == "measure":
        return digest([settings.seed, table["clusters"], run.output_hash("train")])
    return digest([table["figure"], run.output_hash("measure")])


def prepare(run: RunDir, settings: Settings, command: str) -> None:
    """Write the settings and the manifest's head into a new or continued run directory."""
    run.write(run.config, settings_toml(settings).encode())
    run.begin(settings.seed, command)


def run_all(run: RunDir, settings: Settings) -> None:
    """Run every stage that is not finished, in order."""
    for stage in STAGES.values():
        stage(run, settings)


def make_data(run: RunDir, settings: Settings) -> None:
    """Stage data: draw the dataset and write it."""
    with _stage(run, settings, "data") as finish:
        if finish is None:
            return
        files = dataset_files(make_dataset(settings.tasks, settings.data, settings.seed))
        run.write_directory(run.data, files)
        finish([run.data / name for name in files])


def load_dataset(run: RunDir) -> Dataset:
    """Read the dataset that stage data left."""
    return read_dataset(lambda name: run.read(run.data / name))


def train_model(run: RunDir, settings: Settings) -> None:
    """Stage train: train from where it stopped, harvesting and keeping checkpoints on the way."""
    _need(run, "data")
    with _stage(run, settings, "train") as finish:
        if finish is None:
            return
        inputs = stage_inputs(run, settings, "train")
        threads = settings.train.threads or default_workers()
        torch.set_num_threads(threads)
        dataset = load_dataset(run)
        model = make_model(settings.model, dataset, settings.seed)
        trainer = Trainer(model, dataset, settings.train, settings.seed)
        keeper = _Keeper(
            run, settings, dataset, trainer, {"inputs": inputs, "threads": str(threads)}
        )
        keeper.resume()
        bar = tqdm(
            desc="train",
            unit="step",
            total=settings.train.steps,
            initial=trainer.step,
            disable=None,
        )
        with bar, run.metrics.open("a", buffering=1) as metrics:

            def on_step(_: Trainer, log: StepLog) -> None:
                metrics.write(json.dumps(log._asdict()) + "\n")
                keeper.keep_if_due()
                bar.set_postfix_str(f"loss {log.loss:.3f}, accuracy {log.accuracy:.2f}", False)
                bar.update()

            trainer.run(on_step)
        run.note(run.metrics)
        finish([run.metrics, *keeper.files(total)], threads=threads)


class _Keeper:
    """What is kept of a training run, and how it goes on after an interruption."""

    def __init__(
        self,
        run: RunDir,
        settings: Settings,
        dataset: Dataset,
        trainer: Trainer,
        conditions: dict[str, str],
    ) -> None:
        self.run, self.dataset, self.trainer = run, dataset, trainer
        self.conditions = conditions
        self.settings = settings
        self.steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
        self.n_parameters = sum(p.numel() for p in trainer.model.parameters())
        self.with_weights = settings.checkpoints.steps_with_weights(
            self.steps, 4 * self.n_parameters
        )
        self.tokenizer = run.read(run.data / "tokenizer.json")

    def resume(self) -> None:
        """Load the newest training state, or keep the checkpoint of step 0."""
        saved = sorted(self.run.resume.glob("step-*.safetensors"))
        if not saved:
            self._announce()
            self.run.metrics.unlink(missing_ok=True)
            self.keep_if_due()
            return
        tensors, conditions = read_tensors(saved[-1], self.run.read(saved[-1]))
        if conditions.get("inputs") != self.conditions["inputs"]:
            raise InputError(
                f"{saved[-1]} was left by training with other settings or data; "
                "name a new directory with --out"
            )
        if conditions.get("threads") != self.conditions["threads"]:
            print(
                f"tasklens: training goes on with {self.conditions['threads']} threads, it began "
                f"with {conditions.get('threads')}: the last bits may differ (train.threads fixes "
                "the number)",
                file=sys.stderr,
            )
        missing = [path for path in self.files(int(tensors["step"])) if not path.exists()]
        if missing:
            print(f"tasklens: {missing[0]} is gone; training again from step 0", file=sys.stderr)
            self.run.remove(saved[-1])
            self.resume()
            return
        self.trainer.load_state(tensors)
        lines = []
        if self.run.metrics.exists():
            lines = self.run.metrics.read_bytes().splitlines(keepends=True)
        # one line a step: what was written after the newest state comes again
        self.run.write(self.run.metrics, b"".join(lines[: self.trainer.step]))

    def _announce(self) -> None:
        """Say what the run will take on the disk, and stop where the disk does not hold it."""
        splits = self.dataset.splits
        n_instances = sum(len(splits[name]) for name in SPLITS)
        sizes = count_bytes(self.settings, self.n_parameters, n_instances)
        check_space(self.run.path, sum(sizes.values()))
        print(
            f"tasklens: {self.run.path} will take about {sum(sizes.values()) / 1e6:,.0f} MB: "
            f"states of {len(self.steps)} checkpoints {sizes['states'] / 1e6:,.0f} MB, weights of "
            f"{len(self.with_weights)} of them {sizes['weights'] / 1e6:,.0f} MB",
            file=sys.stderr,
        )

    def keep_if_due(self) -> None:
        """At a checkpoint step write states, weights and, last, the state to go on from."""
        run, step, model = self.run, self.trainer.step, self.trainer.model
        if step not in self.steps:
            return
        run.write(run.states_of(step), safetensors.numpy.save(self._harvest()))
        if step in self.with_weights:
            seed = self.settings.seed
            files = checkpoint_files(model, self.tokenizer, step=step, seed=seed)
            run.write_directory(run.checkpoint(step), files)
        newest = run.resume / f"step-{step:08d}.safetensors"
        state = safetensors.torch.save(self.trainer.state(), metadata=self.conditions)
        run.write(newest, state)
        for older in run.resume.glob("step-*.safetensors"):
            if older != newest:
                run.remove(older)

    def _harvest(self) -> dict[str, NDArray[np.generic]]:
        """Return the measured instances' states and answers, by "split/name"."""
        subject = GPT2Subject(self.trainer.model)
        tensors: dict[str, NDArray[np.generic]] = {}
        for split in MEASURED:
            got = harvest(subject, self.dataset.prompts(split))
            tensors |= {f"{split}/{name}": state for name, state in got.states.items()}
            tensors[f"{split}/answer"] = got.answer
        if self.trainer.step == self.steps[-1]:
            for split in ACCURACY_SPLITS:
                got = harvest(subject, self.dataset.prompts(split), names=())
                tensors[f"{split}/answer"] = got.answer
        return tensors

    def files(self, until: int) -> list[Path]:
        """Return what is kept of the checkpoints up to a step."""
        weights = [self.run.checkpoint(step) / "model.safetensors" for step in self.with_weights]
        states = [self.run.states_of(step) for step in self.steps]
        return (
            states[: bisect_right(self.steps, until)]
            + weights[: bisect_right(self.with_weights, until)]
        )


def load_states(run: RunDir, step: int) -> dict[str, NDArray[np.generic]]:
    """Read what was harvested at a checkpoint: {"split/name": array (N, D), "split/answer": (N,)}.

    Raises
    ------
    InputError
        Where the file is missing or damaged.
    """
    path = run.states_of(step)
    try:
        return safetensors.numpy.load(run.read(path))  # type: ignore[no-any-return]
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); remove it and train again") from error


def measure(run: RunDir, settings: Settings) -> None:
    """Stage measure: cluster and score every cell, then write the tidy table."""
    _need(run, "train")
    with _stage(run, settings, "measure") as finish:
        if finish is None:
            return
        inputs = stage_inputs(run, settings, "measure")
        dataset = load_dataset(run)
        instances = {split: instances_of(dataset, split) for split in MEASURED}
        steps = checkpoint_steps(settings.train.steps, settings.checkpoints.every)
        tables = [_measure_controls(run, settings, instances)]
        cells = len(MEASURED) * len(state_names(settings.model.n_layer))
        total = cells * sum(len(_spaces(settings, step)) for step in steps)
        bar = tqdm(desc="measure", unit="cell", total=total, disable=None)
        with Workers(settings.workers or default_workers()) as workers, bar:
            for step in steps:
                path = run.scores_of(step)
                if run.made_from(path, inputs):
                    bar.update(cells * len(_spaces(settings, step)))
                else:
                    files = _measure_step(run, settings, dataset, instances, step, workers, bar)
                    run.write_directory(path.parent, files | {"inputs": inputs.encode()})
                tables.append(pq.read_table(io.BytesIO(run.read(path))))
        table = pa.concat_tables(tables)
        run.write(run.scores_parquet, table_to_parquet_bytes(table))
        run.write(run.scores_csv, table_to_csv_bytes(table))
        finish([run.scores_parquet, run.scores_csv])


def _measure_controls(run: RunDir, settings: Settings, instances: dict[str, Instances]) -> pa.Table:
    rows: list[Row] = []
    for split, known in instances.items():
        k = len(np.unique(known.task))
        rows += score_controls(known, k, run.name, settings.seed, split, settings.clusters)
    return to_table(rows)


def _measure_step(
    run: RunDir,
    settings: Settings,
    dataset: Dataset,
    instances: dict[str, Instances],
    step: int,
    workers: Workers,
    bar: tqdm,
) -> dict[str, bytes]:
    """Return the clusters and the scores of one checkpoint, as files."""
    tensors = load_states(run, step)
    cells = [
        Cell(settings.seed, step, split, state, space, len(np.unique(known.task)), x)
        for split, known in instances.items()
        for state, x in _states_of(tensors, split).items()
        for space in _spaces(settings, step)
    ]
    rows: list[Row] = []
    for split in (*MEASURED, *ACCURACY_SPLITS):
        if f"{split}/answer" in tensors:
            share = float(np.mean(tensors[f"{split}/answer"] == dataset.splits[split].output))
            rows.append(accuracy_row(run.name, settings.seed, step, split, share))
    work = partial(measure_cell, instances=instances, run=run.name, settings=settings.clusters)
    clusters: dict[str, NDArray[np.generic]] = {}
    for cell, (clustering, scores) in zip(cells, workers.map(work, cells), strict=True):
        bar.update()
        rows += scores
        place = f"{cell.split}/{cell.state}/{cell.space}"
        clusters[f"{place}/labels"] = clustering.labels
        if clustering.embedding is not None:
            clusters[f"{place}/embedding"] = clustering.embedding
    return {
        "clusters.safetensors": safetensors.numpy.save(clusters),
        "scores.parquet": table_to_parquet_bytes(to_table(rows)),
    }


def _spaces(settings: Settings, step: int) -> tuple[str, ...]:
    """Return the spaces that a checkpoint is clustered in."""
    tsne = {"none": False, "last": step == settings.train.steps, "all": True}
    return ("raw", "tsne") if tsne[settings.clusters.tsne] else ("raw",)


def _states_of(
    tensors: dict[str, NDArray[np.generic]], split: str
) -> dict[str, NDArray[np.float32]]:
    prefix = f"{split}/"
    return {
        key.removeprefix(prefix): value.astype(np.float32, copy=False)
        for key, value in tensors.items()
        if key.startswith(prefix) and not key.endswith("/answer")
    }


def plot(run: RunDir, settings: Settings) -> None:
    """Stage plot: draw the figure."""
    _need(run, "measure")
    with _stage(run, settings, "plot") as finish:
        if finish is None:
            return
        figure = figure1(read_scores(run.scores_parquet), settings.figure)
        paths = [run.figure("png"), run.figure("pdf")]
        run.write(paths[0], render(figure, "png"))
        run.write(paths[1], render(figure, "pdf"))
        finish(paths)


STAGES: dict[str, Callable[[RunDir, Settings], None]] = {
    "data": make_data,
    "train": train_model,
    "measure": measure,
    "plot": plot,
}


def _need(run: RunDir, stage: str) -> None:
    if stage not in run.read_manifest().get("stages", {}):
        raise InputError(
            f"{run.path}: stage {stage} is not finished; run it first: tasklens {stage} {run.path}"
        )


@contextmanager
def _stage(run: RunDir, settings: Settings, stage: str) -> Iterator[Callable[..., None] | None]:
    """Give the function that marks the stage as finished, or None where it already is."""
    inputs = stage_inputs(run, settings, stage)
    if run.finished(stage, inputs):
        yield None
        return
    began = time.perf_counter()

    def finish(files: list[Path], **about: object) -> None:
        seconds = round(time.perf_counter() - began, 2)
        run.finish(stage, inputs, files, seconds=seconds, **about)

    yield finish


def first_difference(old: Settings, new: Settings) -> str | None:
    """Return the first key in which two runs' settings differ, or None."""
    for table in dataclasses.fields(Settings):
        a, b = getattr(old, table.name), getattr(new, table.name)
        if a == b or table.name == "workers":
            continue
        if not dataclasses.is_dataclass(a):
            return table.name
        for key in dataclasses.fields(a):
            if getattr(a, key.name) != getattr(b, key.name):
                return f"{table.name}.{key.name}"
    return None
