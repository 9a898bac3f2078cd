"""Cluster and score one hidden state at one checkpoint: the work of a worker. No torch."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.clustering.cluster import Cell, ClusterSettings, PerplexityWarning
from tasklens.core.errors import debugging
from tasklens.core.progress import print_traceback
from tasklens.core.workers import reason
from tasklens.data.instances import Instances
from tasklens.runs.states_on_disk import read_states
from tasklens.scoring.cell_key import CellKey
from tasklens.scoring.classifiers import score_probes
from tasklens.scoring.partition_agreement import extremes
from tasklens.scoring.score_cells import (
    MeasureSettings,
    measure_cells,
    prepared,
    score_silhouettes,
)
from tasklens.scoring.score_table import Row


@dataclass(frozen=True)
class StateJob:
    """One hidden state at one checkpoint, on every split."""

    states: Path | npt.NDArray[np.float32]
    """The directory that holds it, or, for a worker that does not see the directory, (N, D)."""
    state: str
    run: str
    seed: int
    step: int
    position: str
    paired: bool
    """Whether all steps have the same seeds; see `tasklens.clustering.cluster.Cell`."""
    is_first: bool
    """Whether it is the first of the measured positions, whose arrays have no name of it."""
    splits: dict[str, slice]
    instances: dict[str, Instances]
    spaces: tuple[str, ...]
    silhouettes: bool
    measure: MeasureSettings
    clusters: ClusterSettings

    @property
    def name(self) -> str:
        """The name of the job in messages."""
        at = "" if self.is_first else f", {self.position}"
        return f"step {self.step}, {self.state}{at}"


class Measured(NamedTuple):
    """Scores and clusters of a hidden state."""

    rows: list[Row]
    arrays: dict[str, npt.NDArray[Any]]
    """By the names of `CellKey`: labels (S, N), the near-best partitions with the lowest and the
    highest ARI (2, N), and embeddings (N, 2); whether the linear classifier is right, bool (N,)."""
    failed: dict[str, str]
    """Why cells failed, by name."""


def measure_state(job: StateJob) -> Measured:
    """Cluster and score one hidden state.

    For every k and both spaces, see `tasklens.scoring.score_cells`; with more than one split, also
    the classifiers of `tasklens.scoring.classifiers`, which learn on the first.
    """
    whole = read_states(job.states, job.state) if isinstance(job.states, Path) else job.states
    states = {split: prepared(whole[rows], job.measure) for split, rows in job.splits.items()}
    at = "" if job.is_first else job.position
    cells = [
        (CellKey(split, job.state, space, None if i == 0 else k, at), k)
        for split in states
        for i, k in enumerate(job.measure.numbers(job.instances[split].n_tasks))
        for space in (job.spaces if i == 0 else ("raw",))
    ]
    measured = Measured([], {}, {})
    for key, k in cells:
        identity = (job.seed, job.step, key.split, job.state, key.space, k)
        cell = Cell(*identity, x=states[key.split], position=job.position, paired=job.paired)
        with (
            _attempt(f"{cell.name}{at and f' at {at}'}", measured.failed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", PerplexityWarning)  # the stage warns once for all cells
            ((clustering, rows),) = measure_cells(
                [cell], instances=job.instances, run=job.run, settings=job.clusters
            )
            if job.silhouettes and key.space == "raw":
                rows += score_silhouettes(cell, clustering.labels, job.run)
            measured.rows.extend(rows)
            measured.arrays[key.name("labels")] = clustering.labels
            task = job.instances[key.split].task
            measured.arrays[key.name("extremes")] = extremes(task, clustering.near_best)[0]
            if clustering.embedding is not None:
                measured.arrays[key.name("embedding")] = clustering.embedding
    if len(states) > 1:
        columns: dict[str, Any] = {"run": job.run, "seed": job.seed, "step": job.step}
        columns["position"] = job.position
        with _attempt(f"{job.name} (classifiers)", measured.failed):
            probed = score_probes(job.state, states, instances=job.instances, **columns)
            measured.rows.extend(probed.rows)
            for split, right in probed.decoded.items():
                measured.arrays[CellKey(split, job.state, "raw", None, at).name("decoded")] = right
    return measured


@contextlib.contextmanager
def _attempt(name: str, failed: dict[str, str]) -> Iterator[None]:
    """Note why the block failed, if it does, and continue with the other cells."""
    try:
        yield
    except Exception as error:
        if debugging():
            print_traceback()
        failed[name] = reason(error)
