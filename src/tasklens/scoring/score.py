"""Score hidden states in memory: those of a harvest, with the controls, or arrays from anywhere."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasklens.clustering.cluster import Cell, ClusterSettings, cluster
from tasklens.core.errors import InputError
from tasklens.core.settings import with_keywords
from tasklens.data.cell_values import names_of, plain
from tasklens.data.instances import Instances
from tasklens.scoring.crossed import score_within_tasks
from tasklens.scoring.families import over_families
from tasklens.scoring.score_cells import measure_cells, score_controls, score_parts
from tasklens.scoring.score_table import Row, to_pandas, to_table

Floats = npt.NDArray[np.float32]


class HiddenStates(Protocol):
    """Hidden states of one split at one checkpoint and position, such as a `tasklens.Harvest`."""

    @property
    def states(self) -> Mapping[str, Floats]:
        """Arrays of shape (N, D) by name."""

    @property
    def split(self) -> str:
        """The split; empty if it is not known."""

    @property
    def step(self) -> int:
        """Training step of the checkpoint."""

    @property
    def position(self) -> str:
        """Name of the position that was read."""

    @property
    def instances(self) -> Instances | None:
        """The N instances, if they are known."""


def score(
    harvest: HiddenStates,
    settings: ClusterSettings | None = None,
    *,
    instances: Instances | None = None,
    k: int | None = None,
    space: Literal["raw", "tsne"] = "raw",
    seed: int = 0,
    run: str = "",
    **changes: Any,
) -> pd.DataFrame:
    """Cluster the hidden states of a harvest and score the clusters, with the controls.

    Parameters
    ----------
    harvest : Harvest
        As `tasklens.harvest` returns it: its step, split and position are those of the scores.
    settings : ClusterSettings, optional
    instances : Instances, optional
        What the N instances are, if the harvest does not know it.
    k : int, optional
        Number of clusters, of each family if the instances have several; by default the number of
        tasks.
    space : {"raw", "tsne"}
        Whether to cluster the hidden states themselves or their t-SNE embedding.
    seed : int
        Root seed, from which the seeds of the clustering derive.
    run : str
        Name of the run, for the column `run`.
    **changes
        Fields of `ClusterSettings`, which change those given.

    Returns
    -------
    pandas.DataFrame
        One metric per row; see `tasklens.read_scores` for the columns. The rows of the controls
        (``control:length``, ``control:symbols``, ``control:input``) have no step. Classifiers,
        and with them ``nc4``, are left out: they learn from another split.

    Raises
    ------
    InputError
        If the instances are not known, are others than those of the harvest, or if the hidden
        states cannot be clustered.

    Examples
    --------
    >>> import tasklens as tl
    >>> dataset = tl.load_run("runs/smoke").dataset
    >>> model = tl.make_model(dataset, n_layer=2, n_head=2, n_embd=32)
    >>> scores = tl.score(tl.harvest(model, dataset["val_subset"]))
    >>> ari = scores[scores["metric"] == "ari"].groupby("layer", observed=True)["value"].mean()
    >>> list(ari.index)
    ['wte', 'embed', 'block1', 'block2', 'ln_f', 'control:length', 'control:symbols', \
'control:input', 'control:input_class']
    """
    known = instances or harvest.instances
    if known is None:
        raise InputError("the harvest does not know its instances; give them: instances=...")
    if harvest.split not in ("", known.split):
        raise InputError(
            f"hidden states of the split {harvest.split!r} with the instances of "
            f"{known.split!r}: should be of one split"
        )
    (settings,) = with_keywords(changes, settings or ClusterSettings())
    for _, _, part in known.families:
        _number_of_clusters(k, part.n_tasks, len(part.task))
    rows = score_controls(known, k, run, seed, settings)
    scored: dict[str, list[Row]] = {}
    for family, index, part in known.families:
        n = _number_of_clusters(k, part.n_tasks, len(part.task))
        cells = [
            Cell(seed, harvest.step, known.split, name, space, n, x[index], harvest.position)
            for name, x in harvest.states.items()
        ]
        by_split = {known.split: part}
        clustered = measure_cells(cells, instances=by_split, run=run, settings=settings)
        scored[family] = [row for _, scores in clustered for row in scores]
        for cell in cells if space == "raw" else ():
            scored[family] += score_within_tasks(cell, part, run, settings)
    rows += over_families(scored)
    return to_pandas(to_table(rows))


def score_states(
    X: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    settings: ClusterSettings | None = None,
    *,
    k: int | None = None,
    space: Literal["raw", "tsne"] = "raw",
    seed: int = 0,
    **changes: Any,
) -> pd.DataFrame:
    """Cluster arrays from anywhere and score the clusters against labels.

    Parameters
    ----------
    X : array (N, D), or mapping of names to such arrays
        Finite numbers; they are taken as float32.
    labels : array (N,)
        What the clusters are compared with: numbers, strings, booleans or dates, none missing, of
        two distinct values or more. The rule is that of labels of prompts.
    settings : ClusterSettings, optional
    k : int, optional
        Number of clusters; by default the number of distinct labels.
    space : {"raw", "tsne"}
        Whether to cluster the arrays themselves or their t-SNE embedding.
    seed : int
        Root seed, from which the seeds of the clustering derive.
    **changes
        Fields of `ClusterSettings`, which change those given.

    Returns
    -------
    pandas.DataFrame
        One metric per row, as `tasklens.score` returns it; the column `layer` has the name of the
        array, ``X`` if it has none. There are no controls: these need the instances. The labels
        are the tasks of ``nc1``, ``separation`` and ``task_decodability``; ``rankme`` and
        ``alpha`` need none.

    Raises
    ------
    InputError
        If an array is not finite or not (N, D). If the labels are not (N,), have one value, or two
        values that look alike, such as 1 and "1".

    Examples
    --------
    >>> import numpy as np
    >>> import tasklens as tl
    >>> X = np.repeat(np.eye(3), 20, axis=0)
    >>> scores = tl.score_states(X, np.repeat(["a", "b", "c"], 20))
    >>> scores[scores["metric"] == "ari"]["value"].tolist()
    [1.0, 1.0, 1.0]
    """
    (settings,) = with_keywords(changes, settings or ClusterSettings())
    task = _numbered(labels)  # (N,)
    n_labels = int(task.max(initial=-1)) + 1
    if n_labels < 2:
        raise InputError("all labels are equal: should have two distinct values or more")
    k = _number_of_clusters(k, n_labels, len(task))
    rows: list[Row] = []
    for name, array in X.items() if isinstance(X, Mapping) else [("X", X)]:
        try:
            x = np.asarray(array, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is no array of numbers: should be (N, D)") from error
        if x.ndim != 2 or len(x) != len(task):
            raise InputError(f"{name} of shape {x.shape} with {len(task)} labels: should be (N, D)")
        cell = Cell(seed, 0, "", name, space, k, x, "")
        (clustering,) = cluster([cell], settings)
        rows += score_parts(cell, clustering, {"task": task})
    return to_pandas(to_table(rows))


def _numbered(labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the rank of each label among the distinct labels, (N,)."""
    listed = isinstance(labels, list | tuple)
    try:
        # As objects: otherwise None and NaN become texts beside a text, and True a 1 beside a 1.
        mixed = listed and len(set(map(type, labels))) > 1  # type: ignore[arg-type]
        values: npt.NDArray[Any] = np.asarray(labels, dtype=object if mixed else None)
    except ValueError as error:
        raise InputError("labels are of several lengths: should be (N,)") from error
    if values.ndim != 1 or pd.isna(values).any():
        raise InputError(f"labels of shape {values.shape}: should be (N,), none of them missing")
    if values.dtype.kind not in "biuf":
        cells = [
            (f"row {i}", plain(value)) for i, value in enumerate(pd.Series(values, dtype=object))
        ]
        values = np.array(names_of("labels", [cells])[0])
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _number_of_clusters(k: int | None, n_labels: int, n: int) -> int:
    k = n_labels if k is None else k
    if not 1 <= k <= n:
        raise InputError(f"k = {k}: should be in 1 .. {n}, the number of instances")
    return k
