"""Checkpoints to clusters and scores, one file each, while training goes on or after it."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from tasklens.clustering import Cell, Clustering
from tasklens.config import Settings, settings_table
from tasklens.dataset import MEASURED, Dataset
from tasklens.errors import InputError
from tasklens.gpt2 import state_names
from tasklens.keeper import ACCURACY_SPLITS
from tasklens.parallel import Workers
from tasklens.rundir import RunDir, digest
from tasklens.scores import Instances, Row, accuracy_row, instances_of, measure_cell, to_table
from tasklens.tables import parquet_bytes, read_parquet

#: What is left of each checkpoint.
MEASURED_FILES = ("clusters.safetensors", "scores.parquet", "inputs")
#: Checkpoints whose states are held at a time: one being worked on, one so that no worker waits.
AHEAD = 2


def load_states(run: RunDir, step: int) -> dict[str, NDArray[Any]]:
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


class Measurer:
    """Clusters and scores the cells of checkpoints in worker processes, and keeps what they give.

    Parameters
    ----------
    run : RunDir
    settings : Settings
    dataset : Dataset
    workers : Workers
        Where there is but this process, each cell is done as soon as it is begun.
    on_cell : callable, optional
        Called after each cell.
    """

    def __init__(
        self,
        run: RunDir,
        settings: Settings,
        dataset: Dataset,
        workers: Workers,
        on_cell: Callable[[], object] = lambda: None,
    ) -> None:
        self.run, self.settings, self.dataset = run, settings, dataset
        self.workers, self.on_cell = workers, on_cell
        self.instances: dict[str, Instances] = {
            split: instances_of(dataset, split) for split in MEASURED
        }
        self._begun: deque[tuple[int, list[Row], list[Cell], list[Future[Any]]]] = deque()

    def inputs(self, step: int) -> str:
        """Return the hash of what a checkpoint's scores depend on."""
        clusters = settings_table(self.settings)["clusters"]
        states = self.run.noted(self.run.states_of(step))
        return digest([self.settings.seed, clusters, self.run.output_hash("data"), states])

    def done(self, step: int) -> bool:
        """Say whether a checkpoint's scores are there."""
        return self.run.made_from(self.run.measured_at(step), self.inputs(step))

    @property
    def full(self) -> bool:
        """Whether as many checkpoints are begun as may be."""
        return len(self._begun) >= AHEAD

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
        work = partial(
            measure_cell, instances=self.instances, run=self.run.name, settings=settings.clusters
        )
        futures = []
        for cell in cells:
            future = self.workers.submit(work, cell)
            future.add_done_callback(lambda _: self.on_cell())
            futures.append(future)
        self._begun.append((step, rows, cells, futures))

    def collect(self, *, wait: bool) -> None:
        """Keep what the checkpoint begun first gave, and the next, as far as they are done.

        Parameters
        ----------
        wait : bool
            Wait for the first of them.
        """
        while self._begun and (wait or all(future.done() for future in self._begun[0][3])):
            step, rows, cells, futures = self._begun.popleft()
            wait = False
            clusters: dict[str, NDArray[np.generic]] = {}
            for cell, future in zip(cells, futures, strict=True):
                clustering: Clustering
                clustering, scores = future.result()
                rows += scores
                place = f"{cell.split}/{cell.state}/{cell.space}"
                clusters[f"{place}/labels"] = clustering.labels
                if clustering.embedding is not None:
                    clusters[f"{place}/embedding"] = clustering.embedding
            files = {
                "clusters.safetensors": safetensors.numpy.save(clusters),
                "scores.parquet": parquet_bytes(to_table(rows)),
                "inputs": self.inputs(step).encode(),
            }
            self.run.write_directory(self.run.measured_at(step), files)

    def finish(self) -> None:
        """Wait for all that was begun, and keep it."""
        while self._begun:
            self.collect(wait=True)

    def scores(self, step: int) -> pa.Table:
        """Read the scores of a checkpoint."""
        return read_parquet(self.run.read(self.run.measured_at(step) / "scores.parquet"))
