"""Checkpoints to clusters and scores, one file each, while training goes on or after it."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from tasklens.clustering.cluster import Cell, Clustering
from tasklens.runs.settings import TrainingRunSettings
from tasklens.data.synthetic import MEASURED, Dataset
from tasklens.core.errors import InputError
from tasklens.models.gpt2 import state_names
from tasklens.runs.keeper import ACCURACY_SPLITS
from tasklens.core.workers import Workers, failure, reason
from tasklens.scoring.classifiers import classify
from tasklens.runs.directory import RunDir
from tasklens.core.files import digest
from tasklens.scoring.score_cells import measure_cells
from tasklens.scoring.score_table import Row, accuracy_row, to_table
from tasklens.data.instances import Instances, instances_of
from tasklens.core.parquet import parquet_bytes, read_parquet

#: What a worker makes of some cells.
Measured: TypeAlias = list[tuple[Clustering, list[Row]]]
#: What is left of each checkpoint.
MEASURED_FILES = ("clusters.safetensors", "scores.parquet", "inputs")
#: Checkpoints whose states are held at a time, at least: one being worked on, one so that no worker
#: waits.
AHEAD = 2


def load_states(run: RunDir, step: int) -> dict[str, NDArray[Any]]:
    """Read what was harvested at a checkpoint: {"split/name": array (N, D), "split/answer": (N,)}.

    Raises
    ------
    InputError
        Where the file is missing or damaged.
    """
    return _load(run, run.states_of(step), "train")


def load_clusters(run: RunDir, step: int) -> dict[str, NDArray[Any]]:
    """Read what measuring a checkpoint left: labels, embeddings and answers by name.

    Raises
    ------
    InputError
        Where the file is missing or damaged.
    """
    return _load(run, run.measured_at(step) / "clusters.safetensors", "measure")


def _load(run: RunDir, path: Path, stage: str) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.numpy.load(run.read(path))  # type: ignore[no-any-return]
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); remove it and {stage} again") from error


class _Begun(NamedTuple):
    """A checkpoint that is being measured."""

    step: int
    rows: list[Row]
    answers: dict[str, NDArray[Any]]
    futures: list[tuple[list[Cell], Future[Measured]]]
    probes: dict[str, Future[list[Row]]]

    @property
    def done(self) -> bool:
        """Whether nothing of it is to be waited for."""
        return all(f.done() for _, f in self.futures) and all(
            f.done() for f in self.probes.values()
        )

    def failed(self) -> dict[str, str]:
        """Wait for all of it; return which cells failed, and why."""
        named: dict[str, Future[Any]] = {
            f"step {self.step}, {state} (classifiers)": future
            for state, future in self.probes.items()
        }
        named |= {"; ".join(cell.name for cell in cells): f for cells, f in self.futures}
        errors = {name: failure(future) for name, future in named.items()}
        return {name: reason(error) for name, error in errors.items() if error}


class Measurer:
    """Clusters and scores the cells of checkpoints in worker processes, and keeps what they give.

    Parameters
    ----------
    run : RunDir
    settings : TrainingRunSettings
    dataset : Dataset
    workers : Workers
        Where there is but this process, each cell is done as soon as it is begun.
    on_cells : callable, optional
        Called after every so many cells, with their number.

    Attributes
    ----------
    failed : {cell: reason}
        Cells that failed for reasons of their own. Nothing is kept of their checkpoint, and it is
        not done.
    """

    def __init__(
        self,
        run: RunDir,
        settings: TrainingRunSettings,
        dataset: Dataset,
        workers: Workers,
        on_cells: Callable[[int], object] = lambda n: None,
    ) -> None:
        self.run, self.settings, self.dataset = run, settings, dataset
        self.workers, self.on_cells = workers, on_cells
        self.instances: dict[str, Instances] = {
            split: instances_of(dataset, split) for split in MEASURED
        }
        self.failed: dict[str, str] = {}
        self._begun: deque[_Begun] = deque()
        about: dict[str, Any] = {"instances": self.instances, "run": run.name}
        self._measure = partial(measure_cells, settings=settings.clusters, **about)
        self._classify = partial(classify, seed=settings.seed, **about)

    def inputs(self, step: int) -> str:
        """Return the hash of what a checkpoint's scores depend on."""
        clusters = self.settings.model_dump()["clusters"]
        states = self.run.noted(self.run.states_of(step))
        return digest([self.settings.seed, clusters, self.run.output_hash("data"), states])

    def done(self, step: int) -> bool:
        """Say whether a checkpoint's scores are there."""
        return self.run.made_from(self.run.measured_at(step), self.inputs(step))

    @property
    def full(self) -> bool:
        """Whether as many checkpoints are begun as may be."""
        n_states = len(state_names(self.settings.model.n_layer))
        tasks = n_states * (1 + len(MEASURED))  # of a checkpoint, at least
        return len(self._begun) >= max(AHEAD, 1 + 2 * self.workers.count // tasks)

    def n_cells(self, step: int) -> int:
        """Return how many cells a checkpoint has."""
        n_states = len(state_names(self.settings.model.n_layer))
        return len(MEASURED) * n_states * len(self._spaces(step))

    def _spaces(self, step: int) -> tuple[str, ...]:
        tsne = {"none": False, "last": step == self.settings.train.steps, "all": True}
        return ("raw", "tsne") if tsne[self.settings.clusters.tsne] else ("raw",)

    def begin(self, step: int) -> None:
        """Hand the cells of a checkpoint to the workers."""
        settings = self.settings
        tensors = load_states(self.run, step)
        cells = [
            Cell(
                settings.seed, step, split, state, space, here.n_tasks, tensors[f"{split}/{state}"]
            )
            for split, here in self.instances.items()
            for state in state_names(settings.model.n_layer)
            for space in self._spaces(step)
        ]
        rows: list[Row] = []
        for split in (*MEASURED, *ACCURACY_SPLITS):
            if f"{split}/answer" in tensors:
                hits = tensors[f"{split}/answer"] == self.dataset.splits[split].output
                share = float(np.mean(hits))
                rows.append(accuracy_row(self.run.name, settings.seed, step, split, share))
        futures = []
        for group in self._groups(cells):
            on_gpu = settings.clusters.device != "cpu" and group[0].space == "tsne"
            future = self.workers.submit(self._measure, group, gpus=int(on_gpu))
            future.add_done_callback(partial(self._count, len(group)))
            futures.append((group, future))
        answers = {f"{split}/answer": tensors[f"{split}/answer"] for split in MEASURED}
        probes = {
            state: self.workers.submit(
                self._classify,
                (step, state, {split: tensors[f"{split}/{state}"] for split in self.instances}),
            )
            for state in state_names(settings.model.n_layer)
        }
        self._begun.append(_Begun(step, rows, answers, futures, probes))

    def _count(self, n: int, _: object) -> None:
        self.on_cells(n)

    def _groups(self, cells: list[Cell]) -> list[list[Cell]]:
        """Return what is done at a time: a cell, or all that a GPU embeds at once."""
        if self.settings.clusters.device == "cpu":
            return [[cell] for cell in cells]
        embedded = [cell for cell in cells if cell.space == "tsne"]
        alone = [[cell] for cell in cells if cell.space != "tsne"]
        return [*alone, embedded] if embedded else alone

    def collect(self, *, wait: bool) -> None:
        """Keep what the checkpoint begun first gave, and the next, as far as they are done.

        Parameters
        ----------
        wait : bool
            Wait for the first of them.
        """
        while self._begun and (wait or self._begun[0].done):
            begun = self._begun.popleft()
            step, rows, answers, futures, probes = begun
            wait = False
            if failed := begun.failed():
                self.failed |= failed
                continue
            clusters: dict[str, NDArray[np.generic]] = {**answers}
            for group, future in futures:
                for cell, (clustering, scores) in zip(group, future.result(), strict=True):
                    rows += scores
                    place = f"{cell.split}/{cell.state}/{cell.space}"
                    clusters[f"{place}/labels"] = clustering.labels
                    if clustering.embedding is not None:
                        clusters[f"{place}/embedding"] = clustering.embedding
            for probe in probes.values():
                rows += probe.result()
            files = {
                "clusters.safetensors": safetensors.numpy.save(clusters),
                "scores.parquet": parquet_bytes(to_table(rows)),
                "inputs": self.inputs(step).encode(),
            }
            self.run.write_directory(self.run.measured_at(step), files)

    def finish(self) -> None:
        """Wait for all that was begun, and keep what did not fail."""
        while self._begun:
            self.collect(wait=True)

    def scores(self, step: int) -> pa.Table:
        """Read the scores of a checkpoint."""
        return read_parquet(self.run.read(self.run.measured_at(step) / "scores.parquet"))
