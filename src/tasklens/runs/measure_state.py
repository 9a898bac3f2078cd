"""Cluster and score one hidden state at one checkpoint: the work of a worker. No torch."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.clustering.cluster import Cell, Clustering, ClusterSettings, PerplexityWarning
from tasklens.core.errors import debugging
from tasklens.core.progress import print_traceback
from tasklens.core.workers import reason
from tasklens.data.instances import Family, Instances, join_families
from tasklens.runs.states_on_disk import read_states
from tasklens.scoring.cell_key import CellKey
from tasklens.scoring.centroid_scores import Answered, Placed, score_centroids
from tasklens.scoring.classifiers import score_probes
from tasklens.scoring.crossed import score_crossed, score_within_tasks
from tasklens.scoring.families import over_families
from tasklens.scoring.partition_agreement import extremes
from tasklens.scoring.residuals import Regressors
from tasklens.scoring.score_cells import (
    MeasureSettings,
    measure_cells,
    prepared_splits,
    score_silhouettes,
)
from tasklens.scoring.score_table import Row

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StateJob:
    """One hidden state at one checkpoint, on every split."""

    states: Path | Floats
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
    answered: Mapping[str, Answered] = field(default_factory=dict)
    """What the model answered, by split, as far as it is known."""
    outputs: Ints | None = None
    """The output token of each task of the first split for each input, see `score_centroids`."""
    regressors: Sequence[Regressors] = ()
    """What is taken out of the states first."""

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
    highest ARI (2, N), and embeddings (N, 2); whether the linear classifier is right, bool (N,);
    of `Placed`, ``distance``, ``nearest`` and ``span`` (N,)."""
    failed: dict[str, str]
    """Why cells failed, by name."""


def measure_state(job: StateJob) -> Measured:
    """Cluster and score one hidden state, each family of its instances for itself.

    For every k and both spaces, see `tasklens.scoring.score_cells`; with more than one split, also
    the classifiers of `tasklens.scoring.classifiers`, which learn on the first. With crossed
    columns, also the scores of `tasklens.scoring.crossed`. Then where the states lie among the
    centroids of the first split: `tasklens.scoring.centroid_scores`.
    """
    whole = read_states(job.states, job.state) if isinstance(job.states, Path) else job.states
    of_split = {split: job.instances[split].families for split in job.splits}
    states = prepared_splits(whole, job.splits, job.measure, of_split, job.regressors)
    at = "" if job.is_first else job.position
    cells = [
        (CellKey(split, job.state, space, None if i == 0 else k, at), k)
        for split in states
        for i, k in enumerate(job.measure.k or [None])
        for space in (job.spaces if i == 0 else ("raw",))
    ]
    measured = Measured([], {}, {})
    for key, k in cells:
        identity = (job.seed, job.step, key.split, job.state, key.space)
        families = job.instances[key.split].families
        parts = [
            Cell(*identity, k or known.n_tasks, states[key.split][rows], job.position, job.paired)
            for _, rows, known in families
        ]
        with (
            _attempt(f"{parts[0].name}{at and f' at {at}'}", measured.failed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", PerplexityWarning)  # the stage warns once for all cells
            scored: dict[str, list[Row]] = {}
            clusterings: list[tuple[Family, Cell, Clustering]] = []
            for family, cell in zip(families, parts, strict=True):
                known = {key.split: family.instances}
                ((clustering, rows),) = measure_cells(
                    [cell], instances=known, run=job.run, settings=job.clusters
                )
                if job.silhouettes and key.space == "raw":
                    rows += score_silhouettes(cell, clustering.labels, job.run)
                if key.space == "raw" and key.k is None:
                    rows += score_within_tasks(cell, family.instances, job.run, job.clusters)
                scored[family.name] = rows
                clusterings.append((family, cell, clustering))
            measured.rows.extend(over_families(scored))
            measured.arrays.update(_arrays_of(key, clusterings))
    if job.measure.cross:
        with _attempt(f"{job.name} (crossed columns)", measured.failed):
            measured.rows.extend(_crossed(job, states))
    if len(states) > 1:
        with _attempt(f"{job.name} (classifiers)", measured.failed):
            rows, decoded = _probed(job, states)
            measured.rows.extend(rows)
            for split, right in decoded.items():
                measured.arrays[CellKey(split, job.state, "raw", None, at).name("decoded")] = right
    with _attempt(f"{job.name} (centroids)", measured.failed):
        labels = {
            split: measured.arrays[name]
            for split in states
            for name in [CellKey(split, job.state, "raw", None, at).name("labels")]
            if name in measured.arrays
        }
        rows, placed = _placed(job, states, labels)
        measured.rows.extend(rows)
        for split, each in placed.items():
            key = CellKey(split, job.state, "raw", None, at)
            measured.arrays.update({key.name(kind): x for kind, x in each._asdict().items()})
    return measured


def _arrays_of(
    key: CellKey, clusterings: list[tuple[Family, Cell, Clustering]]
) -> dict[str, npt.NDArray[Any]]:
    """Return what is kept of the clusters of a cell. Those of two families share no number."""
    labels, ends, embeddings = [], [], []
    first = 0
    for family, cell, clustering in clusterings:
        extreme = extremes(family.instances.task, clustering.near_best)[0]
        # More clusters than int16 has numbers for, if there are many families.
        by = np.int32(first) if first else np.int16(0)
        labels.append((family, clustering.labels + by))
        ends.append((family, extreme + by))
        if clustering.embedding is not None:
            embeddings.append((family, clustering.embedding))
        first += cell.k
    arrays = {
        key.name("labels"): join_families(labels, axis=1),
        key.name("extremes"): join_families(ends, axis=1),
    }
    return arrays | ({key.name("embedding"): join_families(embeddings)} if embeddings else {})


def _of_families(
    job: StateJob, states: Mapping[str, Floats]
) -> Iterator[tuple[str, dict[str, Family], dict[str, Any]]]:
    """Yield each family's name, its instances by split, and the columns of its scores."""
    columns = {"run": job.run, "seed": job.seed, "step": job.step, "position": job.position}
    for name, _, _ in job.instances[next(iter(states))].families:
        parts = {
            split: family
            for split in states
            for family in job.instances[split].families
            if family.name == name
        }
        known = {split: family.instances for split, family in parts.items()}
        x = {split: states[split][family.rows] for split, family in parts.items()}
        yield name, parts, {"state": job.state, "states": x, "instances": known, **columns}


def _crossed(job: StateJob, states: Mapping[str, Floats]) -> list[Row]:
    """Score the columns that are crossed with the task, in each family."""
    return over_families(
        {
            name: score_crossed(**arguments, settings=job.clusters, paired=job.paired)
            for name, _, arguments in _of_families(job, states)
        }
    )


def _probed(
    job: StateJob, states: Mapping[str, Floats]
) -> tuple[list[Row], dict[str, npt.NDArray[np.bool_]]]:
    """Score the classifiers, which learn on the first split of each family.

    Return the rows, and whether the linear classifier is right, (N,), by split.
    """
    scored: dict[str, list[Row]] = {}
    right: dict[str, list[tuple[Family, npt.NDArray[np.bool_]]]] = {}
    for name, parts, arguments in _of_families(job, states):
        probed = score_probes(**arguments)
        scored[name] = probed.rows
        for split, decoded in probed.decoded.items():
            right.setdefault(split, []).append((parts[split], decoded))
    return over_families(scored), {split: join_families(each) for split, each in right.items()}


def _placed(
    job: StateJob, states: Mapping[str, Floats], labels: Mapping[str, npt.NDArray[np.integer]]
) -> tuple[list[Row], dict[str, Placed]]:
    """Score the place of the states among the centroids of each family, and return both.

    ``labels``, (S, N), are the clusters of each split.
    """
    scored: dict[str, list[Row]] = {}
    parts_of: dict[str, list[tuple[Family, Placed]]] = {}
    for name, parts, arguments in _of_families(job, states):
        answered = {
            split: Answered(*(x[family.rows] for x in job.answered[split]))
            for split, family in parts.items()
            if split in job.answered
        }
        own = {
            split: labels[split][:, family.rows]
            for split, family in parts.items()
            if split in labels
        }
        scored[name], placed = score_centroids(
            **arguments, answered=answered, labels=own, outputs=job.outputs
        )
        for split, each in placed.items():
            parts_of.setdefault(split, []).append((parts[split], each))
    return over_families(scored), {
        split: Placed(*(join_families([(f, x[i]) for f, x in each]) for i in range(3)))
        for split, each in parts_of.items()
    }


@contextlib.contextmanager
def _attempt(name: str, failed: dict[str, str]) -> Iterator[None]:
    """Note why the block failed, if it does, and continue with the other cells."""
    try:
        yield
    except Exception as error:
        if debugging():
            print_traceback()
        failed[name] = reason(error)
