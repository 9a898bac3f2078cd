"""The scores at the last step: as a DataFrame, as plain text, and as records for JSON."""

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasklens.core.text import aligned, visible
from tasklens.scoring.crossed_text import crossed_table
from tasklens.scoring.score_table import (
    CONTROLS,
    MODEL,
    NO_STEP,
    as_table,
    at_position,
    families_of,
    layers_in_order,
    main_scores,
    of_family,
    positions_of,
    summarise,
    to_frame,
)
from tasklens.scoring.stage_table import are_stages, stage_tables

#: What each classifier is called.
CLASSIFIERS = {
    "probe_task": "linear",
    "centroid_task": "centroid",
    "neighbours_task": "neighbours",
}
#: The columns of the table of scores that identify a record.
KEYS = ("metric", "split", "layer", "space", "position", "k")


def final_table(
    scores: pa.Table | pd.DataFrame, space: str = "raw", position: str = ""
) -> pd.DataFrame:
    """Return the mean ARI against the task at the last step, layers by splits, above its controls.

    Parameters
    ----------
    scores : DataFrame or pyarrow.Table
        As `tasklens.score` returns it, or several concatenated. Of several numbers of clusters the
        first counts.
    space : {"raw", "tsne"}
        Whether the hidden states themselves were clustered or their t-SNE embedding.
    position : str
        The measured position; by default the first of the table.

    Returns
    -------
    pandas.DataFrame
        Its index has the hidden states from the input up, then the controls; its columns are the
        splits. Means are over seeds and cluster seeds; NaN if a split has no such score.

    Raises
    ------
    InputError
        If a column is missing, or a run has no scores at the position.

    Examples
    --------
    >>> import tasklens as tl
    >>> list(tl.final_table(tl.load_run("runs/smoke").scores()).index)
    ['wte', 'embed', 'block1', 'block2', 'ln_f', 'control:length', 'control:symbols', \
'control:input', 'control:input_class']
    """
    rows = to_frame(at_position(main_scores(as_table(scores)), position), ("ari",))
    is_control = rows["layer"].isin(CONTROLS)
    rows = rows[is_control | ((rows["step"] == rows["step"].max()) & (rows["space"] == space))]
    means = summarise(rows, ("layer", "split"))["mean"].unstack("split")
    order = [*layers_in_order(set(means.index) - {*CONTROLS}), *CONTROLS]
    return means.loc[[name for name in order if name in means.index]].rename_axis(columns=None)


def scores_text(table: pa.Table, step_names: Mapping[int, str] = MappingProxyType({})) -> str:
    """Return the scores at the last step as plain text.

    Those of classifiers, of each family, of each k and of crossed columns stand below.
    If there are several positions, their names are above the scores of each. ``step_names`` are
    those of steps that are no training steps, see `tasklens.Run.step_names`. Of several stages of
    one model, each has its scores.
    """
    positions = positions_of(table)
    parts = []
    for position in positions or [""]:
        rows = at_position(table, position)
        main = main_scores(rows)
        if are_stages(step_names):
            text = stage_tables(rows, step_names)
        else:
            text = final_text(main, step_names) + classifier_table(rows, step_names)
        text += family_table(rows) + k_table(rows) + crossed_table(main)
        parts.append(f"position {visible(position)}\n{text}" if len(positions) > 1 else text)
    return "\n".join(parts)


def final_text(table: pa.Table, step_names: Mapping[int, str] = MappingProxyType({})) -> str:
    """Return the scores at the last step as plain text: what `tasklens show` prints.

    There is one row per layer and space, and one column per split. A cell is the mean ARI against
    the task, with its lowest and highest value over seeds and cluster seeds. If there are several
    steps, the mean at the first step follows. Below are the controls and the accuracies. Of several
    positions the first counts.
    """
    table = at_position(table)
    rows = summarise(to_frame(table, ("ari", "accuracy")), ("layer", "space", "split", "step"))
    scores = {row.Index: row for row in rows.itertuples()}
    steps = sorted({step for *_, step in scores} - {NO_STEP})
    if not steps:
        return "no scores\n"
    first, last = steps[0], steps[-1]
    splits = list(dict.fromkeys(split for layer, _, split, _ in scores if layer != MODEL))

    def cell(layer: str, space: str, split: str) -> str:
        end = scores.get((layer, space, split, NO_STEP if layer in CONTROLS else last))
        if end is None:
            return "-"
        spread = (
            f" ({end.low:z.2f} to {end.high:z.2f})" if end.size > 1 or end.low < end.high else ""
        )
        begin = scores.get((layer, space, split, first)) if first != last else None
        return f"{end.mean:z5.2f}{spread}".ljust(23) + (f"{begin.mean:z5.2f}" if begin else "")

    names = {(layer, space) for layer, space, _, _ in scores}
    order = [*layers_in_order({layer for layer, _ in names} - {*CONTROLS, MODEL}), *CONTROLS]
    title = (
        f"ARI against the task {_at(last, step_names)}: mean (min to max over seeds and near-best "
        "starts)"
    )
    title += f", then the mean {_at(first, step_names)}" if first != last else ""
    lines = [["layer", "space", *splits]]
    for space in ("raw", "tsne"):
        for layer in order:
            if (layer, space) in names:
                lines.append([layer, space, *(cell(layer, space, split) for split in splits)])
    accuracies = [
        f"{visible(split)} {accuracy.mean:.3f}"
        for (layer, _, split, step), accuracy in scores.items()
        if layer == MODEL and step == last
    ]
    below = [f"accuracy {_at(last, step_names)}: {', '.join(accuracies)}"] if accuracies else []
    return "\n".join([title, *aligned(lines), *below]) + "\n"


def _at(step: int, step_names: Mapping[int, str]) -> str:
    """Return when, or of which model, a score is."""
    return f"of the {visible(step_names[step])} model" if step in step_names else f"at step {step}"


def classifier_table(table: pa.Table, step_names: Mapping[int, str] = MappingProxyType({})) -> str:
    """Return the accuracies of the classifiers at the last step, and at the first, as plain text.

    There is a row per hidden state, and a column per classifier and split. They learn the task on
    the first split; empty if there is no other.
    """
    rows = to_frame(at_position(main_scores(table)), CLASSIFIERS)
    if not len(rows):
        return ""
    means = summarise(rows, ("layer", "split", "metric", "step"))["mean"].to_dict()
    steps = sorted({step for *_, step in means})
    first, last = steps[0], steps[-1]
    known = dict.fromkeys((split, metric) for _, split, metric, _ in means)
    splits = dict.fromkeys(split for split, _ in known)
    columns = [each for each in product(splits, CLASSIFIERS) if each in known]

    def cell(layer: str, split: str, metric: str) -> str:
        ends = (means.get((layer, split, metric, step)) for step in dict.fromkeys((last, first)))
        return "  ".join("   -" if end is None else f"{end:.2f}" for end in ends)

    heads = [
        CLASSIFIERS[metric]
        if i and columns[i - 1][0] == split
        else f"{split}: {CLASSIFIERS[metric]}"
        for i, (split, metric) in enumerate(columns)
    ]
    title = f"\naccuracy of classifiers that predict the task {_at(last, step_names)}"
    title += f", then {_at(first, step_names)}" if first != last else ""
    lines = [["layer", *heads]]
    for layer in layers_in_order({layer for layer, *_ in means}):
        lines.append([layer, *(cell(layer, *column) for column in columns)])
    return "\n".join([title, *aligned(lines)]) + "\n"


def family_table(table: pa.Table) -> str:
    """Return the ARI against the task at the last step within each family, as plain text.

    Means over seeds and cluster seeds, of the space "raw" and the first number of clusters; empty
    if there is one family.
    """
    lines = []
    for family in families_of(table):
        rows = to_frame(main_scores(table, family), ("ari",))
        rows = rows[(rows["space"] == "raw") & rows["step"].isin([NO_STEP, rows["step"].max()])]
        for (layer, split), mean in summarise(rows, ("layer", "split"))["mean"].items():
            lines.append((split, layer, family, mean))
    frame = pd.DataFrame(lines, columns=["split", "layer", "family", "ari"])
    text = ""
    for split, rows in frame.groupby("split", sort=False):
        means = rows.pivot(index="layer", columns="family", values="ari")
        order = [*layers_in_order({*means.index} - {*CONTROLS}), *CONTROLS]
        table_of_split = [
            [layer, *(f"{means.at[layer, family]:z5.2f}" for family in means)]
            for layer in order
            if layer in means.index
        ]
        heading = ["layer", *map(visible, means)]
        text += f"\n{visible(str(split))}, ARI within each family:\n"
        text += "\n".join(aligned([heading, *table_of_split])) + "\n"
    return text


def k_table(table: pa.Table) -> str:
    """Return ARI, AMI and silhouette at the last step for each number of clusters, as plain text.

    Means over cluster seeds and families, of the space "raw"; empty if there is only one number.
    """
    metrics = ("ari", "ami", "silhouette")
    rows = to_frame(of_family(table).filter(pc.field("space") == "raw"), metrics)
    rows = rows.dropna(subset="k")  # it differs between families
    rows = rows[(rows["step"] == rows["step"].max()) & ~rows["layer"].isin(CONTROLS)]
    means = summarise(rows, ("split", "layer", "k", "metric"))["mean"].to_dict()
    cells = list(dict.fromkeys((split, layer, k) for split, layer, k, _ in means))
    if len({(split, k) for split, _, k in cells}) == len({split for split, _, _ in cells}):
        return ""
    width = max(len(layer) for _, layer, _ in cells)
    lines = []
    for split in dict.fromkeys(split for split, _, _ in cells):
        lines.append(f"\n{visible(split)}, by the number of clusters:  ARI   AMI   silhouette")
        for cell in (cell for cell in cells if cell[0] == split):
            values = [means.get((*cell, metric)) for metric in metrics]
            text = "  ".join("    -" if value is None else f"{value:z5.2f}" for value in values)
            lines.append(f"{cell[1]:<{width}}  k = {cell[2]:<4}  {text}")
    return "\n".join(lines) + "\n"


def final_scores(table: pa.Table, *, every_step: bool = False) -> list[dict[str, Any]]:
    """Return a record for each score at the last step, or at every step.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `tasklens.scoring.score_table.SCHEMA`. Of several families, the means count.

    Returns
    -------
    list of dict
        The values of `KEYS` (None if one does not apply), and ``mean``, ``low`` and ``high`` over
        the ``n`` seeds and cluster seeds. ``step`` is the step, or None for a control, which
        has no step. ``first`` is the mean at the first step; NaN if there is only one step.
    """
    rows = to_frame(of_family(table))
    steps = sorted(set(rows["step"]) - {NO_STEP})
    if not steps:
        return []
    shown = rows if every_step else rows[rows["step"].isin([NO_STEP, steps[-1]])]
    last = summarise(shown, (*KEYS, "step"))
    first: dict[Any, float] = {}
    if len(steps) > 1:
        first = summarise(rows[rows["step"] == steps[0]], KEYS)["mean"].to_dict()
        first = {_hashable(key): mean for key, mean in first.items()}
    records = []
    for row in last.itertuples():
        *key, step = row.Index
        values = [None if pd.isna(value) else value for value in key]
        records.append(
            dict(zip(KEYS, values, strict=True))
            | {"k": None if values[-1] is None else int(values[-1])}
            | {"step": None if step == NO_STEP else int(step)}
            | {"mean": row.mean, "low": row.low, "high": row.high, "n": row.size}
            | {"first": first.get(_hashable(key), float("nan"))}
        )
    return records


def _hashable(key: Any) -> tuple[Any, ...]:
    """Return the values of a group, with None instead of NaN, which does not equal itself."""
    return tuple(None if pd.isna(value) else value for value in key)
