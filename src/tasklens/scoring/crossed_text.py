"""Print the scores against columns that are crossed with the label."""

from collections.abc import Iterable
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc

from tasklens.core.text import aligned, visible
from tasklens.scoring.score_table import layers_in_order, summarise, to_frame

#: The metrics of a column ``form``, without its name, and what they are called.
SCORES = {
    "ari_of": "ARI of it",
    "ari_within": "ARI within (lowest to highest value)",
    "probe_of": "probe of it",
    "probe_within": "probe within",
    "probe_across": "probe across",
}


def crossed_columns(metrics: Iterable[str]) -> list[str]:
    """Return the names of the crossed columns among the metrics of a table."""
    known = dict.fromkeys(metrics)
    return [each.removeprefix("ari_of_") for each in known if each.startswith("ari_of_")]


def crossed_table(table: pa.Table) -> str:
    """Return the scores against each crossed column at the last step, as plain text.

    Means over cluster seeds, of the space "raw"; empty if no column is crossed. `SCORES` are those
    of `tasklens.scoring.crossed.score_crossed`: of the column itself, and of the label within and
    across its values.
    """
    columns = crossed_columns(table["metric"].unique().to_pylist())
    if not columns:
        return ""
    rows = to_frame(table.filter(pc.field("space") == "raw"))
    rows = rows[rows["step"] == rows["step"].max()]
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in summarise(rows, ("split", "layer", "metric")).itertuples():
        split, layer, metric = row.Index
        scores.setdefault((split, layer), {})[metric] = row.mean
    layers = layers_in_order({layer for _, layer in scores})
    text = ""
    for column, split in product(columns, dict.fromkeys(split for split, _ in scores)):
        metrics = [f"{score}_{column}" for score in SCORES]
        lines = [["layer", *SCORES.values()]]
        for layer in layers:
            known = scores.get((split, layer), {})
            if metrics[0] in known:
                lines.append([layer, *(_cell(known, metric) for metric in metrics)])
        if len(lines) > 1:
            text += f"\n{visible(split)}, against {visible(column)}\n"
            text += "\n".join(aligned(lines)) + "\n"
    return text


def _cell(scores: dict[str, float], metric: str) -> str:
    """Return a score, and for the ARI within values the range over these."""
    if metric not in scores:
        return "    -"
    each = [value for name, value in scores.items() if name.startswith(f"{metric}=")]
    shown = f" ({min(each):z.2f} to {max(each):z.2f})" if each and metric.startswith("ari") else ""
    return f"{scores[metric]:z5.2f}{shown}"
