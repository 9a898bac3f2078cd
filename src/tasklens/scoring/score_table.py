"""Labels to metrics: agreement with the task, controls, variance shares, in one tidy table."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tasklens.clustering.cluster import Cell, Clustering, ClusterSettings, cluster
from tasklens.core.errors import InputError
from tasklens.core.parquet import read_parquet
from tasklens.core.seeds import stream
from tasklens.data.instances import Instances
from tasklens.scoring.partition_agreement import adjusted_rand, agreement, contingency
from tasklens.scoring.variance import separation, variance_share

Row: TypeAlias = dict[str, str | int | float | None]
"""One row of the table, by column name."""

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("seed", pa.int64()),
        ("step", pa.int64()),  # null for controls, which no training changes
        ("split", pa.string()),
        ("layer", pa.string()),  # a state's name, "control:...", or "model" for its accuracy
        ("space", pa.string()),  # "raw", "tsne", or "" for what is not clustered
        ("k", pa.int64()),
        ("cluster_seed", pa.int64()),  # null for what depends on none
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)

CONTROLS = ("control:length", "control:symbols", "control:input")


def score_cell(cell: Cell, clustering: Clustering, instances: Instances, run: str) -> list[Row]:
    """Score one cell's clusters, and its states' spread, against what is known of the instances.

    Parameters
    ----------
    cell : Cell
        `x` is (N, D).
    clustering : Clustering
        `labels` is (S, N), from `tasklens.clustering.cluster`.
    instances : Instances
        Of the same N instances in the same order.
    run : str
        Name of the run, for the column of that name.

    Returns
    -------
    list of Row
        For each cluster seed: `ari`, `ami`, `homogeneity`, `completeness` and `v_measure` against
        the task, `ari_input` and `ari_output`, `ari_shuffled` (against the tasks in a random
        order: what chance gives) and `inertia`. In the space "raw", once for the cell:
        `variance_task`, `variance_input` and `variance_output`, see `variance_share`, and
        `separation`, see there. Nothing of the output where none is known.

    Raises
    ------
    InputError
        Where the numbers of states, labels and instances differ.
    """
    n = len(instances.task)
    if len(cell.x) != n or clustering.labels.shape[1:] != (n,):
        raise InputError(
            f"{cell.name}: {len(cell.x)} states and labels of shape {clustering.labels.shape}: "
            f"should be of the {n} instances"
        )
    place: Row = {
        "run": run,
        "seed": cell.seed,
        "step": cell.step,
        "split": cell.split,
        "layer": cell.state,
        "space": cell.space,
        "k": cell.k,
    }
    words = ("shuffled labels", cell.split, cell.step, cell.state, cell.space)
    shuffled = stream(cell.seed, *words).permutation(instances.task)  # (N,)
    rows: list[Row] = []
    for s, labels in enumerate(clustering.labels):
        values = agreement(contingency(instances.task, labels))
        for name, part in instances.parts.items():
            if name != "task":
                values[f"ari_{name}"] = adjusted_rand(contingency(part, labels))
        values["ari_shuffled"] = adjusted_rand(contingency(shuffled, labels))
        values["inertia"] = float(clustering.inertia[s])
        rows += _rows(place, s, values)
    if cell.space == "raw":
        shares = {
            f"variance_{name}": variance_share(cell.x, part)
            for name, part in instances.parts.items()
        }
        shares["separation"] = separation(cell.x, instances.task)
        rows += _rows(place, None, shares)
    return rows


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


def score(
    states: Mapping[str, npt.NDArray[np.float32]],
    instances: Instances,
    settings: ClusterSettings | None = None,
    *,
    space: str = "raw",
    seed: int = 0,
    step: int = 0,
    split: str = "val_subset",
    run: str = "",
) -> pa.Table:
    """Cluster the states of one split at one checkpoint and score them, with the controls.

    Parameters
    ----------
    states : {name: float32 (N, D)}
        As `tasklens.harvest` returns them.
    instances : Instances
        Of the same N instances in the same order; k is the number of tasks among them.
    settings : ClusterSettings, optional
    space : {"raw", "tsne"}
    seed, step, split, run
        For the columns of these names; the clustering's seeds derive from them.

    Returns
    -------
    pyarrow.Table
        Columns of `SCHEMA`, one metric a row; see `score_cell` and `score_controls`.
    """
    settings = settings or ClusterSettings()
    k = instances.n_tasks
    rows = score_controls(instances, k, run, seed, split, settings)
    cells = [Cell(seed, step, split, name, space, k, x) for name, x in states.items()]
    for _, scores in measure_cells(cells, instances={split: instances}, run=run, settings=settings):
        rows += scores
    return to_table(rows)


def score_controls(
    instances: Instances, k: int, run: str, seed: int, split: str, settings: ClusterSettings
) -> list[Row]:
    """Score what needs no model, to hold the scores of states against.

    `control:length` is KMeans on the instruction's length alone, which its position gives away in
    layer 0; `control:symbols` is KMeans on the counts of its symbols, which averaging word
    embeddings gives away; `control:input` takes the input token itself as the cluster.

    Parameters
    ----------
    instances : Instances
        N instances of one split.
    k : int
        Number of clusters.
    run, seed, split
        For the columns of these names; the clustering's seeds are derived from `seed`.
    settings : ClusterSettings
        Starts and cluster seeds, as for the states.

    Returns
    -------
    list of Row
        `ari`, `ami`, `homogeneity`, `completeness` and `v_measure` against the task, for each
        control and cluster seed; the step is null. The k of `control:input` is the number of
        input tokens that occur.
    """
    rows: list[Row] = []
    place: Row = {"run": run, "seed": seed, "step": None, "split": split, "space": "raw"}
    for control, labels in control_labels(instances, k, seed, split, settings).items():
        alone = control == "control:input"
        here = {**place, "layer": control, "k": len(np.unique(instances.input)) if alone else k}
        for s, one in enumerate(labels):
            rows += _rows(here, None if alone else s, agreement(contingency(instances.task, one)))
    return rows


def control_labels(
    instances: Instances, k: int, seed: int, split: str, settings: ClusterSettings
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the clusters that each of `CONTROLS` makes, (S, N); see `score_controls`.

    S is the number of cluster seeds, and 1 for the input token, which depends on none.
    """
    arrays = {
        "control:length": instances.length[:, None],  # (N, 1)
        "control:symbols": instances.symbol_counts,  # (N, A)
    }
    cells = [
        Cell(seed, 0, split, layer, "raw", k, x.astype(np.float32)) for layer, x in arrays.items()
    ]
    labels = {
        cell.state: clustering.labels.astype(np.int64)
        for cell, clustering in zip(cells, cluster(cells, settings), strict=True)
    }
    return labels | {"control:input": instances.input[None]}


def state_rows(
    values: Mapping[str, float],
    *,
    run: str,
    seed: int,
    step: int,
    split: str,
    layer: str,
    k: int | None = None,
    cluster_seed: int | None = None,
) -> list[Row]:
    """Return the rows of what was scored on a state itself, or on its clusters in it."""
    place: Row = {"run": run, "seed": seed, "step": step, "split": split, "layer": layer}
    return _rows({**place, "space": "raw", "k": k}, cluster_seed, dict(values))


def accuracy_row(run: str, seed: int, step: int, split: str, value: float) -> Row:
    """Return the row that holds the model's accuracy, in 0 .. 1, on one split at one step."""
    place: Row = {"run": run, "seed": seed, "step": step, "split": split, "layer": "model"}
    return _rows({**place, "space": "", "k": None}, None, {"accuracy": float(value)})[0]


def _rows(place: Row, cluster_seed: int | None, values: dict[str, float]) -> list[Row]:
    return [
        {**place, "cluster_seed": cluster_seed, "metric": metric, "value": value}
        for metric, value in values.items()
    ]


def to_table(rows: Iterable[Row]) -> pa.Table:
    """Return the rows, in their order, as a table of `SCHEMA`."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def table_to_csv_bytes(table: pa.Table) -> bytes:
    """Return the table as CSV with a header; null is the empty field, floats round-trip."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def read_scores(path: Path, content: bytes | None = None) -> pa.Table:
    """Read a table of scores.

    Parameters
    ----------
    path : Path
    content : bytes, optional
        The file's content where it was read already.

    Raises
    ------
    InputError
        Where the file is missing, damaged, or has other columns than `SCHEMA`.
    """
    try:
        table = read_parquet(path.read_bytes() if content is None else content)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file of scores") from None
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable Parquet file of scores: {reason}") from error
    for field in SCHEMA:
        if field.name not in table.column_names:
            raise InputError(f"{path}: no column {field.name!r}: should be {SCHEMA.names}")
        if table.schema.field(field.name).type != field.type:
            wrong = table.schema.field(field.name).type
            raise InputError(f"{path}: column {field.name!r} is {wrong}: should be {field.type}")
    return table.select(SCHEMA.names)


def layers_in_order(layers: Iterable[str]) -> list[str]:
    """Return the distinct names of states from the input up: wte, embed, block1, ..., ln_f."""

    def depth(layer: str) -> tuple[float, str]:
        block = re.fullmatch(r"block(\d+)", layer)
        if block:
            return int(block[1]), layer
        return {"wte": -2.0, "embed": -1.0, "ln_f": np.inf}.get(layer, 1e9), layer

    return sorted(set(layers), key=depth)


class Summary(NamedTuple):
    """The values of one group of rows in short."""

    mean: float
    low: float
    high: float
    size: int


def summarise(
    table: pa.Table, by: Sequence[str], metrics: Collection[str]
) -> dict[tuple[Any, ...], Summary]:
    """Summarise the values of some metrics over each group of rows that agree in some columns.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `SCHEMA`.
    by : sequence of str
        The columns whose values make a group; a null is a value of its own.
    metrics : collection of str

    Returns
    -------
    {values of the columns: Summary}
        In the order of each group's first row. The mean is NumPy's of the values in their order.
    """
    rows = table.filter(pc.is_in(table["metric"], value_set=pa.array(sorted(metrics), pa.string())))
    if not len(rows):
        return {}
    rows = rows.append_column("number", pa.array(np.arange(len(rows))))
    # Without threads the values of a group are in the order of their rows; groups are in none.
    groups = rows.group_by(list(by), use_threads=False)
    groups = groups.aggregate([("value", "list"), ("number", "min")]).sort_by("number_min")
    lists = pa.concat_arrays(groups["value_list"].chunks)
    values, begins = lists.values.to_numpy(), lists.offsets.to_numpy()[:-1]
    counts = np.diff(lists.offsets.to_numpy())  # (G,)
    mean, low, high = np.empty((3, len(counts)))
    for n in np.unique(counts):  # all groups of one size at a time: there may be many groups
        same = counts == n
        block = values[begins[same, None] + np.arange(n)]  # (groups of this size, n)
        mean[same], low[same], high[same] = block.mean(1), block.min(1), block.max(1)
    keys = zip(*(groups[name].to_pylist() for name in by), strict=True)
    columns = (mean.tolist(), low.tolist(), high.tolist(), counts.tolist())
    return dict(zip(keys, map(Summary, *columns), strict=True))


def final_table(table: pa.Table) -> str:
    """Return the scores at the last step as plain text: what `tasklens show` prints.

    One row a layer and space, one column a split: the mean ARI against the task, its lowest and
    highest value over seeds and cluster seeds, and the mean at the first step beside it where
    there is more than one step. Below them the controls, then the accuracies.
    """
    rows = [r for r in table.to_pylist() if r["metric"] in ("ari", "accuracy")]
    steps = sorted({r["step"] for r in rows if r["step"] is not None})
    if not steps:
        return "no scores\n"
    first, last = steps[0], steps[-1]
    values: dict[tuple[str, str, str, int | None], list[float]] = {}
    for r in rows:
        values.setdefault((r["layer"], r["space"], r["split"], r["step"]), []).append(r["value"])
    splits = list(dict.fromkeys(r["split"] for r in rows if r["metric"] == "ari"))

    def cell(layer: str, space: str, split: str) -> str:
        now = values.get((layer, space, split, None if layer in CONTROLS else last), [])
        if not now:
            return "-"
        spread = f" ({min(now):.2f} to {max(now):.2f})" if len(now) > 1 else ""
        begin = values.get((layer, space, split, first), []) if first != last else []
        return f"{np.mean(now):5.2f}{spread}".ljust(23) + (
            f"{np.mean(begin):5.2f}" if begin else ""
        )

    names = {(layer, space) for layer, space, _, _ in values}
    order = [*layers_in_order({layer for layer, _ in names} - {*CONTROLS, "model"}), *CONTROLS]
    title = f"ARI against the task at step {last}: mean (min to max over seeds)"
    title += f", then the mean at step {first}" if first != last else ""
    lines = [["layer", "space", *splits]]
    for space in ("raw", "tsne"):
        for layer in order:
            if (layer, space) in names:
                lines.append([layer, space, *(cell(layer, space, split) for split in splits)])
    accuracies = [
        f"{split} {np.mean(value):.3f}"
        for (layer, _, split, step), value in values.items()
        if layer == "model" and step == last
    ]
    below = [f"accuracy at step {last}: {', '.join(accuracies)}"] if accuracies else []
    return "\n".join([title, *_aligned(lines), *below]) + "\n"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
