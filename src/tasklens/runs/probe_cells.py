"""One state of a probe to clusters and scores: what a worker does."""

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from tasklens.clustering.cluster import Cell, ClusterSettings
from tasklens.scoring.classifiers import score_probes
from tasklens.scoring.score_cells import MeasureSettings, measure_cells, prepared, score_silhouettes
from tasklens.scoring.score_table import Row
from tasklens.data.instances import Instances
from tasklens.runs.states_on_disk import read_states

#: What a state gave: its scores, and its labels and embeddings by name.
Measured: TypeAlias = tuple[list[Row], dict[str, npt.NDArray[Any]]]


@dataclasses.dataclass(frozen=True)
class Job:
    """One state at one checkpoint, on every split."""

    directory: Path
    """Where its file is."""
    state: str
    run: str
    seed: int
    step: int
    splits: dict[str, slice]
    instances: dict[str, Instances]
    spaces: tuple[str, ...]
    measure: MeasureSettings
    clusters: ClusterSettings


def measure_state(job: Job) -> Measured:
    """Cluster and score one state.

    Returns
    -------
    list of Row
        See `tasklens.scoring.score_cells.score_cell`; of every k, in the space "raw", also
        `score_silhouettes`; where there is more than one
        split, what `tasklens.scoring.classifiers.score_probes` learns on the first.
    {name: array}
        Labels, (n_seeds, N), by "split/state/space/labels", of another k than the first by
        "split/state/space/k=K/labels"; embeddings.
    """
    whole = read_states(job.directory, job.state)
    states = {split: prepared(whole[here], job.measure) for split, here in job.splits.items()}
    cells = [
        Cell(job.seed, job.step, split, job.state, space, k, x)
        for split, x in states.items()
        for i, k in enumerate(job.measure.numbers(job.instances[split].n_tasks))
        for space in (job.spaces if i == 0 else ("raw",))
    ]
    measured = measure_cells(cells, instances=job.instances, run=job.run, settings=job.clusters)
    rows: list[Row] = []
    arrays: dict[str, npt.NDArray[Any]] = {}
    for cell, (clustering, scores) in zip(cells, measured, strict=True):
        rows += scores
        place = f"{cell.split}/{cell.state}/{cell.space}"
        first = f"{place}/labels" not in arrays
        arrays[f"{place}/labels" if first else f"{place}/k={cell.k}/labels"] = clustering.labels
        if clustering.embedding is not None:
            arrays[f"{place}/embedding"] = clustering.embedding
        if cell.space == "raw":
            rows += score_silhouettes(cell, clustering.labels, job.run)
    if len(states) > 1:
        about: dict[str, Any] = {"run": job.run, "seed": job.seed, "step": job.step}
        first_split = next(iter(states))
        rows += score_probes(
            job.state, states, instances=job.instances, trained_on=first_split, **about
        )
    return rows, arrays
