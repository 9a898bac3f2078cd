"""Define the tidy table of scores: columns, rows, files, summaries, and summaries as text."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tasklens.core.errors import InputError, first_line
from tasklens.core.parquet import read_parquet
from tasklens.data.names import find_position, state_order

if TYPE_CHECKING:
    import pandas as pd

Row: TypeAlias = dict[str, str | int | float | None]
"""One row of the table, by column name."""

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("seed", pa.int64()),
        ("step", pa.int64()),  # null for controls, which do not depend on training
        ("split", pa.string()),
        ("family", pa.string()),  # family of the prompts; "" for all, or the mean over families
        ("position", pa.string()),  # position of the hidden state; "" for controls and accuracy
        ("layer", pa.string()),  # hidden state, "control:...", or "model" for the accuracy
        ("space", pa.string()),  # "raw", "tsne", or "" without clusters
        ("k", pa.int64()),
        ("cluster_seed", pa.int64()),  # null without a cluster seed
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)

#: The layer of the accuracies.
MODEL = "model"
CONTROLS = ("control:length", "control:symbols", "control:input", "control:input_class")
#: The lowest and the highest ARI among near-best starts: ends of the range of `ari`.
BAND = ("ari_low", "ari_high")
#: The step of controls in a data frame.
NO_STEP = -1
#: The beginning of a text that spreadsheets run as a formula (OWASP, "CSV Injection").
FORMULA = r"^[=+\-@\t\r\n\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]"


def score_rows(
    values: Mapping[str, float],
    *,
    run: str,
    seed: int,
    step: int | None,
    split: str,
    position: str,
    layer: str,
    space: str = "raw",
    k: int | None = None,
    cluster_seed: int | None = None,
    family: str = "",
) -> list[Row]:
    """Return one row per metric; the other arguments are the columns of these names."""
    columns: Row = {
        "run": run, "seed": seed, "step": step, "split": split, "family": family,
        "position": position, "layer": layer, "space": space, "k": k, "cluster_seed": cluster_seed,
    }  # fmt: skip
    return [
        {**columns, "metric": metric, "value": float(value)} for metric, value in values.items()
    ]


def accuracy_row(run: str, seed: int, step: int, split: str, value: float) -> Row:
    """Return the row of the model's accuracy, in 0 .. 1, on one split at one step."""
    return answer_rows(run, seed, step, split, {"accuracy": value})[0]


def answer_rows(
    run: str, seed: int, step: int, split: str, values: Mapping[str, float]
) -> list[Row]:
    """Return a row for each score of the model's answers, on one split at one step."""
    columns: dict[str, Any] = {"run": run, "seed": seed, "step": step, "split": split}
    return score_rows(values, **columns, position="", layer=MODEL, space="")


def to_table(rows: Iterable[Row]) -> pa.Table:
    """Return the rows, in their order, as a table of `SCHEMA`."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def table_to_csv_bytes(table: pa.Table) -> bytes:
    """Return the table as CSV with a header; null is the empty field, floats round-trip.

    A text gets an apostrophe before it if a spreadsheet would run it as a formula: see `FORMULA`.
    """
    sink = pa.BufferOutputStream()
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = pc.replace_substring_regex(table.column(i), FORMULA, r"'\0")
            table = table.set_column(i, field.name, texts)
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def read_score_table(path: Path, content: bytes | None = None) -> pa.Table:
    """Read a table of scores.

    Parameters
    ----------
    path : Path
    content : bytes, optional
        The file's content if it was read already.

    Raises
    ------
    InputError
        If the file is missing, damaged, or has other columns than `SCHEMA`.
    """
    try:
        table = read_parquet(path.read_bytes() if content is None else content)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file of scores") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: not a readable Parquet file of scores: {first_line(error)}"
        ) from error
    table = _with_families(table)
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing == ["position"]:
        raise InputError(
            f"{path}: no column 'position': tasklens 0.1.0 wrote it; measure the run again, or "
            "convert the table by docs/scripts/convert_scores.py"
        )
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}: should be {SCHEMA.names}")
    for field in SCHEMA:
        wrong = table.schema.field(field.name).type
        if wrong != field.type:
            raise InputError(f"{path}: column {field.name!r} is {wrong}: should be {field.type}")
    return table.select(SCHEMA.names)


def _with_families(table: pa.Table) -> pa.Table:
    """Return a table with the column `family`, which those of earlier versions lack."""
    if "family" in table.column_names:
        return table
    return table.append_column("family", pa.repeat(pa.scalar("", pa.string()), table.num_rows))


def read_scores(path: Path | str) -> "pd.DataFrame":
    """Read a table of scores, such as the ``scores.parquet`` of a run.

    Parameters
    ----------
    path : path

    Returns
    -------
    pandas.DataFrame
        One metric per row, with the columns

        - `run`, `seed`, `step`: the run, its root seed, and the training step; a control, which
          does not depend on training, has no step;
        - `split`, `position`: the split and the measured position;
        - `family`: the family of the prompts; empty for the mean over families, or if all prompts
          are one family;
        - `layer`: the name of the hidden state, ``control:...`` for a control, or ``model`` for the
          accuracy; it is an ordered categorical, from the input up;
        - `space`: ``raw`` if the hidden states themselves were clustered, or ``tsne`` for their
          embedding;
        - `k`, `cluster_seed`: the number of clusters, and which of the clusterings;
        - `metric`, `value`: such as ``ari``, from -1 to 1, or ``accuracy``, from 0 to 1. Of all
          starts of a cell, ``near_best_starts`` end within 1 % of the least inertia; their ARI is
          from ``ari_low`` to ``ari_high``. Those that end in the name of a crossed column, such as
          ``ari_within_form``, are defined in docs/how-to/own-prompts.md. Scores of the hidden
          states without clusters, and those of answers, are below.

    Notes
    -----
    Scores of hidden states in the space ``raw``, as docs/reference/run-directory.md defines them:

    - ``variance_task``, ``variance_input`` and others: the share of the variance between groups;
    - ``separation``: the variance between tasks over the largest within them;
    - ``nc1``: within-task over between-task covariance (Papyan et al. 2020), 0 in a collapse;
    - ``rankme``: the effective rank (Garrido et al. 2023), from 1 to the number of dimensions;
    - ``alpha``: how fast the eigenvalues of the covariance decay (Agrawal et al. 2022);
    - ``task_decodability``: the share whose ten nearest others vote for their task (Han et al.
      2025);
    - ``probe_task``, ``centroid_task``, ``neighbours_task``: accuracies of classifiers that learn
      the task from the first split; ``nc4``: how often the first two of them agree;
    - ``ari_distribution_within_task``: whether each task has a cluster for each distribution of its
      instructions.

    ``accuracy`` is the share of prompts after which the most likely token, of all tokens, is the
    first of the right answer. The other scores of answers are those of a model run:

    - ``accuracy_among_first_tokens``: the share of prompts whose right answer has a likelier first
      token than the answers to the same input under other labels. Answers that begin like the right
      one do not count;
    - ``accuracy_among_candidates``: the same with the probabilities of the whole answers;
    - ``answer_log_probability``: the mean log-probability of the right answer's tokens, in nats per
      token, averaged over prompts;
    - ``answer_probability``: the probability of the whole right answer, averaged over prompts.

    The last three are measured with ``states.answers=whole``.

    Places among the centroids, which are the mean states of the tasks on the first split, have
    these scores; docs/reference/findings.md explains them:

    - ``errors``: the number of wrong answers;
    - ``error_auroc``: the area under the ROC curve with which the distance to the own task's
      centroid tells them from right ones. On the first split the centroid is that of the other
      instances;
    - ``task_ari_accuracy``: the rank correlation over tasks of the ARI and the accuracy of a task;
    - ``span_share``: the share of the squared length, from the mean of the centroids, that lies in
      the span of the centroids; ``span_share_random``: that of a random direction;
    - ``nearest_task_share``: the share of a task's instances with the commonest nearest task;
    - ``answer_of_nearest``: the share of answers that are the output of the nearest task;
      ``answer_of_nearest_random``: that of a task drawn at random.

    Raises
    ------
    InputError
        If the file is missing, damaged, or has other columns.

    Examples
    --------
    >>> import tasklens as tl
    >>> scores = tl.read_scores("runs/smoke/scores.parquet")
    >>> sorted(scores["split"].unique())
    ['train_subset', 'val', 'val_instruction', 'val_instruction_subset', 'val_subset']
    """
    return to_pandas(read_score_table(Path(path)))


def layers_in_order(layers: Iterable[str]) -> list[str]:
    """Return the distinct names of states from the input up: wte, embed, block1, ..., ln_f.

    Those of a block's branches, such as attn1 and mlp1, come before that of the block.
    """
    return sorted(set(layers), key=state_order)


def to_frame(table: pa.Table, metrics: Collection[str] | None = None) -> "pd.DataFrame":
    """Return the rows of some metrics, or of all; controls, which have no step, get `NO_STEP`.

    With `ari` there are copies of the rows of `BAND`, as rows of `ari` for which the column `ends`
    is true: see `summarise`.
    """
    if metrics is not None:
        table = table.filter(pc.field("metric").isin([*metrics, *BAND]))
    step = table["step"].fill_null(NO_STEP)
    frame = table.set_column(table.column_names.index("step"), "step", step).to_pandas()
    copied = np.flatnonzero(frame["metric"].isin(BAND))
    ends = np.arange(len(frame) + len(copied)) >= len(frame)
    frame = frame.iloc[np.append(np.arange(len(frame)), copied)].reset_index(drop=True)
    frame = frame.assign(ends=ends, metric=frame["metric"].mask(ends, "ari"))
    return frame if metrics is None else frame[frame["metric"].isin(metrics)]


def to_pandas(table: pa.Table) -> "pd.DataFrame":
    """Return the table as users of pandas expect it.

    `layer` is an ordered categorical, from the input up, then the controls, then the model. `step`,
    `k` and `cluster_seed` are nullable integers.
    """
    import pandas as pd

    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    order = [*layers_in_order({*frame["layer"]} - {*CONTROLS, MODEL}), *CONTROLS, MODEL]
    kind = pd.CategoricalDtype([name for name in order if name in {*frame["layer"]}], ordered=True)
    return frame.assign(layer=frame["layer"].astype(kind))


def as_table(scores: "pa.Table | pd.DataFrame") -> pa.Table:
    """Return scores as a table of `SCHEMA`; InputError if a column is missing or of wrong type."""
    if isinstance(scores, pa.Table):
        return _with_families(scores)
    scores = scores if "family" in scores else scores.assign(family="")
    missing = [name for name in SCHEMA.names if name not in scores]
    if missing:
        raise InputError(f"scores without the column {missing[0]!r}: should have {SCHEMA.names}")
    try:
        frame = scores.assign(layer=scores["layer"].astype(str))
        return pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"scores: {first_line(error)}") from error


def summarise(rows: "pd.DataFrame", by: Sequence[str]) -> "pd.DataFrame":
    """Return the `mean`, `low`, `high` and `size` of the column `value` for each group of rows.

    Rows that are equal in all columns ``by``, which index the result, are a group; a null equals a
    null. Groups are in the order of their first rows. Rows whose `ends` is true count for `low` and
    `high` only.
    """
    ends = rows["ends"].to_numpy()
    groups = rows.groupby(list(by), sort=False, dropna=False)["value"]
    summary, number = groups.agg(low="min", high="max"), groups.ngroup().to_numpy()[~ends]
    values = rows["value"].to_numpy()[~ends][np.argsort(number, kind="stable")]
    sizes = np.bincount(number, minlength=len(summary))  # (G,)
    begins, means = np.cumsum(sizes) - sizes, np.full(len(sizes), np.nan)
    # The mean of pandas differs from NumPy's in the last bit. NumPy takes all groups of one size
    # at a time, since there may be a million of them.
    for n in set(sizes) - {0}:
        same = sizes == n
        means[same] = values[begins[same, None] + np.arange(n)].mean(axis=1)
    return summary.assign(size=sizes, mean=means)[sizes > 0]


def main_scores(table: pa.Table, family: str = "") -> pa.Table:
    """Return the scores without those of other numbers of clusters than the first of each split.

    The first is that of each run. All positions stay, see `at_position`. The scores are those of
    one family, or by default those over all families.
    """
    table = of_family(table, family)
    rows = table.select(["run", "seed", "split", "layer", "k"]).to_pandas()
    k = rows["k"].mask(rows["layer"].isin(CONTROLS))
    first = k.groupby([rows[name] for name in ("run", "seed", "split")]).transform("first")
    return table.filter(pa.array(k.isna() | (k == first)))


def families_of(table: pa.Table) -> list[str]:
    """Return the distinct families in a table, in the order of its rows; none if there is one."""
    return [family for family in table["family"].unique().to_pylist() if family]


def of_family(table: pa.Table, family: str = "") -> pa.Table:
    """Return the scores of one family, or by default those over all families."""
    return table.filter(pc.field("family") == family)


def positions_of(table: pa.Table) -> list[str]:
    """Return the distinct positions of the hidden states in a table, in the order of its rows."""
    return [position for position in table["position"].unique().to_pylist() if position]


def at_position(table: pa.Table, position: str = "") -> pa.Table:
    """Return the scores at one position, and those that have none: the controls, the accuracy.

    By default the position is the first of the table. InputError if a run of the table has hidden
    states, but none at this position: scores of several positions are not averaged.
    """
    known = positions_of(table)
    if position:
        find_position(position, known)
    elif not known:
        return table
    position = position or known[0]
    rows = table.filter((pc.field("position") == position) | (pc.field("position") == ""))
    if len(known) > 1:
        runs = [
            {*zip(each["run"].to_pylist(), each["seed"].to_pylist(), strict=True)}
            for each in (table, rows)
            for each in [each.filter(pc.field("position") != "")]
        ]
        if lacking := sorted(runs[0] - runs[1]):
            run, seed = lacking[0]
            raise InputError(
                f"the run {run!r} (seed {seed}) has no scores at the position {position!r}; scores "
                "of several positions are not averaged: name one that all runs have"
            )
    return rows
