"""One state of a probe to clusters and scores: what a worker does."""

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.metrics import pairwise_distances

from tasklens.clustering.cluster import Cell, ClusterSettings
from tasklens.clustering.numba_compile import one_thread
from tasklens.runs.settings import MeasureSettings
from tasklens.scoring.classifiers import score_probes
from tasklens.core.seeds import stream
from tasklens.scoring.score_table import CONTROLS, Row, final_table, measure_cells, state_rows
from tasklens.data.instances import Instances
from tasklens.scoring.variance import silhouette
from tasklens.runs.states_on_disk import read_states

#: Instances at most that a silhouette is computed from: its time grows with their square.
SILHOUETTE_SAMPLE = 2000

Floats = npt.NDArray[np.float32]
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
        See `tasklens.scoring.score_table.score_cell`; of every k, in the space "raw", also `silhouette`
        (Rousseeuw, 1987; of `SILHOUETTE_SAMPLE` instances at most); where there is more than one
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
            rows += _silhouettes(cell, clustering.labels, job.run)
    if len(states) > 1:
        about: dict[str, Any] = {"run": job.run, "seed": job.seed, "step": job.step}
        first_split = next(iter(states))
        rows += score_probes(
            job.state, states, instances=job.instances, trained_on=first_split, **about
        )
    return rows, arrays


def prepared(x: Floats, settings: MeasureSettings) -> Floats:
    """Return the states, (N, D), centred, standardised and normalised as the settings say.

    A dimension that does not vary is left as it is, and so is a state of length zero.
    """
    x = np.array(x, dtype=np.float32)
    if settings.center or settings.standardize:
        x -= x.mean(axis=0, dtype=np.float64).astype(np.float32)
    if settings.standardize:
        deviation = x.std(axis=0, dtype=np.float64).astype(np.float32)
        x /= np.where(deviation > 0, deviation, 1)
    if settings.normalize:
        length = np.linalg.norm(x, axis=1, keepdims=True)
        x /= np.where(length > 0, length, 1)
    return x


def main_scores(table: pa.Table) -> pa.Table:
    """Return the scores without those of other numbers of clusters than the first of each split."""
    first: dict[str, int] = {}
    kept = []
    for r in table.to_pylist():
        of_state = r["k"] is not None and r["layer"] not in CONTROLS
        kept.append(not of_state or first.setdefault(r["split"], r["k"]) == r["k"])
    return table.filter(pa.array(kept))


def scores_text(table: pa.Table) -> str:
    """Return a probe's scores at the last step as plain text, those of other k below."""
    return final_table(main_scores(table)) + k_table(table)


def k_table(table: pa.Table) -> str:
    """Return ARI, AMI and silhouette at the last step for each number of clusters, as plain text.

    Means over cluster seeds, of the space "raw"; empty where there is but one number.
    """
    wanted = ("ari", "ami", "silhouette")
    rows = [
        r
        for r in table.to_pylist()
        if r["metric"] in wanted and r["space"] == "raw" and r["step"] is not None
    ]
    last = max((r["step"] for r in rows), default=None)
    values: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for r in (r for r in rows if r["step"] == last):
        place = (r["split"], r["layer"], r["k"])
        values.setdefault(place, {}).setdefault(r["metric"], []).append(r["value"])
    of_split: dict[str, set[int]] = {}
    for split, _, k in values:
        of_split.setdefault(split, set()).add(k)
    if all(len(ks) < 2 for ks in of_split.values()):
        return ""
    width = max(len(layer) for _, layer, _ in values)
    lines = []
    for split in dict.fromkeys(split for split, _, _ in values):
        lines.append(f"\n{split}, by the number of clusters:  ARI   AMI   silhouette")
        for (of, layer, k), found in values.items():
            if of != split:
                continue
            numbers = "  ".join(
                f"{np.mean(found[m]):5.2f}" if m in found else "    -" for m in wanted
            )
            lines.append(f"{layer:<{width}}  k = {k:<4}  {numbers}")
    return "\n".join(lines) + "\n"


def _silhouettes(cell: Cell, labels: npt.NDArray[np.integer], run: str) -> list[Row]:
    n = len(cell.x)
    rng = stream(cell.seed, "silhouette", *cell.place)
    some = np.sort(rng.choice(n, min(n, SILHOUETTE_SAMPLE), replace=False))
    rows: list[Row] = []
    with one_thread():
        apart = pairwise_distances(cell.x[some].astype(np.float64))
        for s, one in enumerate(labels[:, some]):
            if 2 <= len(np.unique(one)) < len(some):
                value = silhouette(apart, one)
                rows += state_rows(
                    {"silhouette": value},
                    run=run,
                    seed=cell.seed,
                    step=cell.step,
                    split=cell.split,
                    layer=cell.state,
                    k=cell.k,
                    cluster_seed=s,
                )
    return rows
