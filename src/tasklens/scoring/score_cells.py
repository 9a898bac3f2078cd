"""Cells to rows of the score table: clusters against the task, spread of the states, controls."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator
from sklearn.metrics import pairwise_distances, silhouette_score

from tasklens.clustering.cluster import Cell, Clustering, ClusterSettings, cluster
from tasklens.clustering.numba_compile import one_thread
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.core.settings import SettingsBase
from tasklens.data.instances import Instances
from tasklens.scoring.partition_agreement import adjusted_rand, agreement, contingency
from tasklens.scoring.score_table import Row, score_rows
from tasklens.scoring.variance import separation, variance_share

#: Instances at most that a silhouette is computed from: its time grows with their square.
SILHOUETTE_SAMPLE = 2000

Floats = npt.NDArray[np.float32]


class MeasureSettings(SettingsBase, affects="measure"):
    """What is done with the states before they are clustered, and into how many clusters."""

    k: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Numbers of clusters; empty: as many as there are labels. The figure and the findings take
    the first number."""
    center: bool = False
    """Subtract the mean of the split. KMeans alone does not mind."""
    standardize: bool = False
    """Centre, and divide each dimension by its standard deviation in the split."""
    normalize: bool = False
    """Divide each state by its length, after the above: angles alone count then."""
    silhouette: Literal["none", "last", "all"] = "all"
    """At which checkpoints the silhouettes of the clusters are computed."""

    @field_validator("k")
    @classmethod
    def _distinct(cls, k: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(k)) < len(k):
            raise ValueError("should be distinct numbers")
        return k

    def numbers(self, n_labels: int) -> tuple[int, ...]:
        """Return the numbers of clusters for a split with so many labels, the main one first."""
        return self.k or (n_labels,)


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


def measure_cells(
    cells: Sequence[Cell],
    *,
    instances: Mapping[str, Instances],
    run: str,
    settings: ClusterSettings,
) -> list[tuple[Clustering, list[Row]]]:
    """Cluster cells and score each against the instances of its split: what a worker does."""
    return [
        (clustering, score_cell(cell, clustering, instances[cell.split], run))
        for cell, clustering in zip(cells, cluster(cells, settings), strict=True)
    ]


def score_cell(cell: Cell, clustering: Clustering, instances: Instances, run: str) -> list[Row]:
    """Score one cell's clusters, and its states' spread, against what is known of the instances.

    Returns for each cluster seed: `ari`, `ami`, `homogeneity`, `completeness` and `v_measure`
    against the task, `ari_input` and `ari_output`, `ari_shuffled` (against the tasks in a random
    order: what chance gives) and `inertia`. In the space "raw", once for the cell: `variance_task`,
    `variance_input` and `variance_output`, see `variance_share`, and `separation`. Nothing of the
    output if none is known. InputError if the splits, or the numbers of states (N, D), labels
    (S, N) and instances, differ.
    """
    if cell.split != instances.split:
        raise InputError(f"{cell.name}: the instances are those of the split {instances.split!r}")
    return score_parts(cell, clustering, instances.parts, run)


def score_parts(
    cell: Cell,
    clustering: Clustering,
    parts: Mapping[str, npt.NDArray[np.int64]],
    run: str = "",
) -> list[Row]:
    """Score one cell against what its instances are made of, (N,) each; see `score_cell`.

    One of the parts is the task. InputError if the numbers of states, labels and instances differ.
    """
    task, n = parts["task"], len(parts["task"])
    if len(cell.x) != n or clustering.labels.shape[1:] != (n,):
        raise InputError(
            f"{cell.name}: {len(cell.x)} states and labels of shape {clustering.labels.shape}: "
            f"should be of the {n} instances"
        )
    words = ("shuffled labels", cell.split, cell.step, cell.state, cell.space)
    shuffled = stream(cell.seed, *words).permutation(task)  # (N,)
    others = {**parts, "shuffled": shuffled}
    del others["task"]
    rows: list[Row] = []
    for s, labels in enumerate(clustering.labels):
        values = agreement(contingency(task, labels))
        for name, part in others.items():
            values[f"ari_{name}"] = adjusted_rand(contingency(part, labels))
        values["inertia"] = float(clustering.inertia[s])
        rows += score_rows(values, **_place(cell, run), cluster_seed=s)
    if cell.space == "raw":
        shares = {f"variance_{name}": variance_share(cell.x, part) for name, part in parts.items()}
        shares["separation"] = separation(cell.x, task)
        rows += score_rows(shares, **_place(cell, run))
    return rows


def score_silhouettes(
    cell: Cell, labels: npt.NDArray[np.integer], run: str, sample: int = SILHOUETTE_SAMPLE
) -> list[Row]:
    """Score how much nearer a state is to its own cluster than to the next (Rousseeuw, 1987).

    Returns `silhouette`, in -1 .. 1, for each cluster seed, the rows of ``labels``, (S, N): a mean
    over ``sample`` instances at most. A single cluster, or one per instance, has none.
    """
    n = len(cell.x)
    rng = stream(cell.seed, "silhouette", *cell.place)
    chosen = np.sort(rng.choice(n, min(n, sample), replace=False))  # (M,)
    rows: list[Row] = []
    with one_thread():
        distances = pairwise_distances(cell.x[chosen].astype(np.float64))  # (M, M)
        for s, clusters in enumerate(labels[:, chosen]):
            if 2 <= len(np.unique(clusters)) < len(chosen):
                value = silhouette_score(distances, clusters, metric="precomputed")
                rows += score_rows({"silhouette": value}, **_place(cell, run), cluster_seed=s)
    return rows


def score_controls(
    instances: Instances, k: int, run: str, seed: int, settings: ClusterSettings
) -> list[Row]:
    """Score what needs no model, to compare the scores of states with.

    `control:length` is KMeans on the instruction's length alone, which its position gives away in
    layer 0; `control:symbols` is KMeans on the counts of its symbols, which averaging word
    embeddings gives away; `control:input` takes the input token itself as the cluster.

    Returns every measure of `agreement` for each control and cluster seed; the step is null. The k
    of `control:input` is the number of input tokens that occur.
    """
    rows: list[Row] = []
    place: dict[str, Any] = {"run": run, "seed": seed, "step": None, "split": instances.split}
    for control, labels in control_labels(instances, k, seed, settings).items():
        alone = control == "control:input"
        place |= {"layer": control, "k": len(np.unique(instances.input)) if alone else k}
        for s, clusters in enumerate(labels):
            values = agreement(contingency(instances.task, clusters))
            rows += score_rows(values, **place, position="", cluster_seed=None if alone else s)
    return rows


def control_labels(
    instances: Instances, k: int, seed: int, settings: ClusterSettings
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the clusters that each of `CONTROLS` makes, (S, N); see `score_controls`.

    S is the number of cluster seeds, and 1 for the input token, which depends on none.
    """
    arrays = {
        "control:length": instances.length[:, None],  # (N, 1)
        "control:symbols": instances.symbol_counts,  # (N, A)
    }
    cells = [
        Cell(seed, 0, instances.split, layer, "raw", k, x.astype(np.float32))
        for layer, x in arrays.items()
    ]
    labels = {
        cell.state: clustering.labels.astype(np.int64)
        for cell, clustering in zip(cells, cluster(cells, settings), strict=True)
    }
    return labels | {"control:input": instances.input[None]}


def _place(cell: Cell, run: str) -> dict[str, Any]:
    """Return the columns that tell the rows of one cell from those of others."""
    return {
        "run": run, "seed": cell.seed, "step": cell.step, "split": cell.split,
        "position": cell.position, "layer": cell.state, "space": cell.space, "k": cell.k,
    }  # fmt: skip
