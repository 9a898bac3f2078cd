"""Score cells: the agreement of clusters, the variance of hidden states, and controls."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator
from sklearn.metrics import pairwise_distances

from tasklens.clustering.cluster import (
    MOST_CLUSTERS,
    Cell,
    Clustering,
    ClusterSettings,
    cluster,
)
from tasklens.clustering.numba_compile import one_thread
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.core.settings import Names, SettingsBase
from tasklens.data.instances import Family, Instances, join_families
from tasklens.scoring.families import over_families
from tasklens.scoring.partition_agreement import (
    adjusted_rand,
    agreement,
    contingency,
    counted,
    extremes,
    ranks,
)
from tasklens.scoring.residuals import Regressors, residuals
from tasklens.scoring.score_table import Row, score_rows
from tasklens.scoring.structure import structure

#: Largest number of instances for a silhouette, whose time grows with the square of it.
SILHOUETTE_SAMPLE = 2000

Floats = npt.NDArray[np.float32]


class MeasureSettings(SettingsBase, affects="measure"):
    """Settings of the hidden states before they are clustered, and of the number of clusters."""

    k: tuple[Annotated[int, Field(ge=2, le=MOST_CLUSTERS)], ...] = ()
    """Numbers of clusters, of each family if there are several; empty: the number of labels. The
    figure and the findings use the first of them."""
    residualize: Names = ()
    """Columns that are taken out of the hidden states by a linear regression, which is fitted on
    the first split. Numbers enter as numbers, texts with a regressor for each value. length: the
    number of tokens before the measured part, unless there is a column of this name."""
    cross: Names = ()
    """Columns that are crossed with the label, such as form. The clusters are compared with each of
    them, too, and the label is clustered and predicted within each of the column's values."""
    center: bool = False
    """Subtract the mean of the split, or of the family in it. This alone does not change the
    clusters of KMeans."""
    standardize: bool = False
    """Centre, and divide each dimension by its standard deviation in the split, or the family."""
    normalize: bool = False
    """Divide each hidden state by its length, after the settings above, so that only its direction
    counts."""
    silhouette: Literal["none", "last", "all"] = "all"
    """At which checkpoints the silhouettes of the clusters are computed."""

    @field_validator("k", "residualize", "cross")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError(
                f"should be distinct {'numbers' if info.field_name == 'k' else 'columns'}"
            )
        return values

    def numbers(self, n_labels: int) -> tuple[int, ...]:
        """Return the numbers of clusters of a split with `n_labels` labels, the main first."""
        return self.k or (n_labels,)


def prepared_splits(
    x: Floats,
    splits: Mapping[str, slice],
    settings: MeasureSettings,
    families: Mapping[str, Sequence[Family]],
    regressors: Sequence[Regressors] = (),
) -> dict[str, Floats]:
    """Return the hidden states of each split as they are clustered, (n, D) each.

    ``x``, (N, D), are those of all splits, whose rows are slices. What regressors explain is taken
    out of all splits, then the families of each are prepared.
    """
    whole = residuals(x, regressors) if regressors else x
    return {
        split: prepared(whole[rows], settings, families[split]) for split, rows in splits.items()
    }


def prepared(
    x: Floats, settings: MeasureSettings, families: Sequence[Family] | None = None
) -> Floats:
    """Return the hidden states, (N, D), centred, standardised and normalised by the settings.

    Each of several families is prepared for itself. A dimension that does not vary is not changed,
    and neither is a hidden state of length zero.
    """
    if families and len(families) > 1:
        return join_families([(each, prepared(x[each.rows], settings)) for each in families])
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
    """Cluster cells and score each against the instances of its split, as the job of a worker."""
    return [
        (clustering, score_cell(cell, clustering, instances[cell.split], run))
        for cell, clustering in zip(cells, cluster(cells, settings), strict=True)
    ]


def score_cell(cell: Cell, clustering: Clustering, instances: Instances, run: str) -> list[Row]:
    """Score the clusters and the variance of one cell against its instances.

    Rows for each cluster seed:

    - `ari`, `ami`, `homogeneity`, `completeness` and `v_measure` against the task;
    - `ari_input` and, if outputs are known, `ari_output`;
    - `ari_of_form`, if the instances have a crossed column ``form``;
    - `ari_shuffled`: against the tasks in a random order, which is the ARI by chance;
    - `inertia`.

    Rows for the cell:

    - `ari_low` and `ari_high`: the lowest and the highest ARI against the task among the near-best
      partitions, see `Clustering.near_best`;
    - `near_best_starts`: the number of starts that ended in them.

    In the space "raw", also those of `structure`. In the space "tsne", also `perplexity`, which is
    lower than that of the settings if there are too few instances.

    InputError if the splits, or the numbers of states (N, D), labels (S, N) and instances, differ.
    """
    if cell.split != instances.split:
        raise InputError(f"{cell.name}: the instances are those of the split {instances.split!r}")
    crossed = {f"of_{name}": _codes(values) for name, values in instances.crossed.items()}
    return score_parts(cell, clustering, instances.parts | crossed, run)


def _codes(values: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Return the rank of each value among the distinct values, (N,)."""
    return np.unique(values, return_inverse=True)[1]


def score_parts(
    cell: Cell,
    clustering: Clustering,
    parts: Mapping[str, npt.NDArray[np.int64]],
    run: str = "",
) -> list[Row]:
    """Score one cell against the parts of its instances, (N,) each; see `score_cell`.

    One of the parts is "task". InputError if the numbers of states, labels and instances differ.
    """
    task, n = parts["task"], len(parts["task"])
    if len(cell.x) != n or clustering.labels.shape[1:] != (n,):
        raise InputError(
            f"{cell.name}: {len(cell.x)} hidden states and labels of shape "
            f"{clustering.labels.shape}: should be of the {n} instances"
        )
    purpose = ("shuffled labels", cell.split, cell.step, cell.state, cell.space)
    shuffled = stream(cell.seed, *purpose).permutation(task)  # (N,)
    others = {name: ranks(part) for name, part in {**parts, "shuffled": shuffled}.items()}
    task_rank = others.pop("task")
    rows: list[Row] = []
    for s, labels in enumerate(map(ranks, clustering.labels)):
        values = agreement(counted(task_rank, labels))
        for name, part in others.items():
            values[f"ari_{name}"] = adjusted_rand(counted(part, labels))
        values["inertia"] = float(clustering.inertia[s])
        rows += score_rows(values, **_columns(cell, run), cluster_seed=s)
    rows += score_rows(_band(clustering, task), **_columns(cell, run))
    if clustering.perplexity is not None:
        rows += score_rows({"perplexity": clustering.perplexity}, **_columns(cell, run))
    if cell.space == "raw":
        rows += score_rows(structure(cell, parts), **_columns(cell, run))
    return rows


def _band(clustering: Clustering, task: npt.NDArray[np.integer]) -> dict[str, float]:
    """Return the range of the ARI among the near-best partitions, and how many starts these are."""
    _, low, high = extremes(task, clustering.near_best)
    return {"ari_low": low, "ari_high": high, "near_best_starts": clustering.near_best_starts}


def score_silhouettes(
    cell: Cell, labels: npt.NDArray[np.integer], run: str, sample: int = SILHOUETTE_SAMPLE
) -> list[Row]:
    """Score the silhouette: how much nearer a state is to its cluster than to the next cluster.

    There is one row `silhouette`, in -1 .. 1, per cluster seed, which are the rows of ``labels``,
    (S, N). It is a mean over at most ``sample`` instances (Rousseeuw, 1987). A single cluster, or
    one cluster per instance, has no silhouette.
    """
    n = len(cell.x)
    rng = stream(cell.seed, "silhouette", *cell.key)
    chosen = np.sort(rng.choice(n, min(n, sample), replace=False))  # (M,)
    rows: list[Row] = []
    with one_thread():
        distances = pairwise_distances(cell.x[chosen].astype(np.float64))  # (M, M)
        for s, clusters in enumerate(labels[:, chosen]):
            if 2 <= len(np.unique(clusters)) < len(chosen):
                values = {"silhouette": _silhouette(distances, ranks(clusters))}
                rows += score_rows(values, **_columns(cell, run), cluster_seed=s)
    return rows


def _silhouette(distances: npt.NDArray[np.float64], cluster: npt.NDArray[np.int64]) -> float:
    """Return the mean silhouette of M points, of which each is in a cluster 0 .. K - 1.

    ``distances`` is (M, M), ``cluster`` (M,). A point that is alone, or that equals all of its own
    and of another cluster, counts as 0.
    """
    member = (cluster[:, None] == np.arange(cluster.max() + 1)).astype(np.float64)  # (M, K)
    sums, sizes, own = distances @ member, member.sum(axis=0), member > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        within = sums[own] / (sizes[cluster] - 1)  # (M,): a point is no neighbour of its own
        nearest = np.where(own, np.inf, sums / sizes).min(axis=1)
        return float(np.mean(np.nan_to_num((nearest - within) / np.maximum(nearest, within))))


def score_controls(
    instances: Instances, k: int | None, run: str, seed: int, settings: ClusterSettings
) -> list[Row]:
    """Score clusters that need no model, for comparison with the scores of hidden states.

    - `control:length`: KMeans on the length of the instruction, which `embed` contains through the
      position;
    - `control:symbols`: KMeans on the counts of its symbols, which a mean of word embeddings
      contains;
    - `control:input`: the input token is the cluster;
    - `control:input_class`: the class of the input is the cluster, see `Instances.input_class`.

    There are all measures of `agreement` for each control and cluster seed; the step is null. The
    first two have the range over near-best starts, too, as a cell has. The k of the others is the
    number of distinct input tokens, or of classes; that of the first two is the number of tasks if
    it is None.
    """
    return over_families(
        {
            name: _score_controls(family, k or family.n_tasks, run, seed, settings)
            for name, _, family in instances.families
        }
    )


def _score_controls(
    instances: Instances, k: int, run: str, seed: int, settings: ClusterSettings
) -> list[Row]:
    """Score the controls of one family."""
    rows: list[Row] = []
    columns: dict[str, Any] = {"run": run, "seed": seed, "step": None, "split": instances.split}
    columns["position"] = ""
    for control, clustering in control_clusters(instances, k, seed, settings).items():
        columns |= {"layer": control, "k": k}
        for s, labels in enumerate(clustering.labels):
            rows += score_rows(
                agreement(contingency(instances.task, labels)), **columns, cluster_seed=s
            )
        rows += score_rows(_band(clustering, instances.task), **columns)
    for control, part in input_controls(instances).items():
        columns |= {"layer": control, "k": len(np.unique(part))}
        rows += score_rows(agreement(contingency(instances.task, part)), **columns)
    return rows


def input_controls(instances: Instances) -> dict[str, npt.NDArray[np.int64]]:
    """Return the clusters, (N,), of the controls that know the input only."""
    return {"control:input": instances.input, "control:input_class": instances.input_class}


def control_clusters(
    instances: Instances, k: int, seed: int, settings: ClusterSettings
) -> dict[str, Clustering]:
    """Cluster the instances for each control but those of the input; see `score_controls`."""
    arrays = {
        "control:length": instances.length[:, None],  # (N, 1)
        "control:symbols": instances.symbol_counts,  # (N, A)
    }
    cells = [
        Cell(seed, 0, instances.split, layer, "raw", k, x.astype(np.float32))
        for layer, x in arrays.items()
    ]
    return dict(zip(arrays, cluster(cells, settings), strict=True))


def _columns(cell: Cell, run: str) -> dict[str, Any]:
    """Return the columns that identify the rows of a cell."""
    return {
        "run": run, "seed": cell.seed, "step": cell.step, "split": cell.split,
        "position": cell.position, "layer": cell.state, "space": cell.space, "k": cell.k,
    }  # fmt: skip
