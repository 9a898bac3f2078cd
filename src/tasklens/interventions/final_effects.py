"""Summarise the effects of edits at the last checkpoint, beside the ARI of each state."""

from typing import Any

import pandas as pd
import pyarrow as pa

from tasklens.core.text import aligned, visible
from tasklens.interventions.effects import NORMALISED, in_order
from tasklens.interventions.repair import REPAIR, REPAIR_RANDOM
from tasklens.interventions.repair_effects import RIGHT
from tasklens.scoring.score_table import summarise, to_frame

#: Values of a record: the edit and the metric of each.
VALUES = {
    "becomes": ("shift", "becomes"),
    "stays": ("shift", "stays"),
    "normalised": ("shift", "becomes" + NORMALISED),
    "ceiling": ("patch", "becomes"),
    "random": ("random", "becomes"),
    "random_stays": ("random", "stays"),
    "erased_stays": ("erase", "stays"),
    "repaired": (REPAIR, RIGHT),
    "repaired_random": (REPAIR_RANDOM, RIGHT),
}
HEADINGS = (
    *("state", "ARI", "becomes", "stays", "normalised", "ceiling", "random (its draws)"),
    *("stays", "erased: stays", "repaired (at random)"),
)
KEYS = ["split", "position", "state"]


def final_effects(effects: pd.DataFrame, scores: pa.Table) -> list[dict[str, Any]]:
    """Return a record for each split, position and state that was edited at the last step.

    Parameters
    ----------
    effects : DataFrame
        The tidy table of effects of one run, with at least one step.
    scores : pyarrow.Table
        The scores of the run.

    Returns
    -------
    list of dict
        ``step``, ``split``, ``position``, ``state``, ``ari``, and the names of `VALUES`; None if a
        value was not computed. ``random_low`` and ``random_high`` are the ends of the draws.
    """
    step = effects["step"].max()
    rows = effects[(effects["step"] == step) & (effects["target"] == "") & (effects["state"] != "")]
    rows = rows[rows["alpha"].isna() | (rows["alpha"] == 1)]
    means = rows[rows["draw"].isna()].set_index([*KEYS, "edit", "metric"])["value"].to_dict()
    drawn = rows[rows["draw"].notna()].groupby([*KEYS, "edit", "metric"], observed=True)["value"]
    lows, highs = drawn.min().to_dict(), drawn.max().to_dict()
    ari = to_frame(scores, ("ari",))
    ari = summarise(
        ari[(ari["space"] == "raw") & (ari["step"] == step)], ("split", "position", "layer")
    )["mean"].to_dict()
    known = {row[:3] for row in means}
    order = in_order({state for _, _, state in known})
    splits = list(dict.fromkeys(scores["split"].to_pylist()))
    cells = sorted({key[:2] for key in known}, key=lambda cell: (splits.index(cell[0]), cell))
    records = []
    for split, position in cells:
        for key in ((split, position, state) for state in order):
            if key not in known:
                continue
            records.append(
                {"step": int(step), **dict(zip(KEYS, key, strict=True)), "ari": ari.get(key)}
                | {name: means.get((*key, *value)) for name, value in VALUES.items()}
                | {"random_low": lows.get((*key, *VALUES["random"]))}
                | {"random_high": highs.get((*key, *VALUES["random"]))}
            )
    return records


def effects_text(effects: pd.DataFrame, scores: pa.Table) -> str:
    """Return the effects at the last step as plain text: a table per split and position."""
    records = final_effects(effects, scores)
    step = effects["step"].max()
    counts = effects[(effects["step"] == step) & (effects["state"] == "")]
    numbers = counts.set_index(["split", "position", "metric"])["value"].to_dict()
    lines = [
        f"effects of edits at step {step}: the share of answers that become the other task's, or",
        "stay; all other tokens keep their states, so that earlier ones still carry the own task",
    ]
    for split, position in dict.fromkeys((r["split"], r["position"]) for r in records):
        pairs, able, errors = (
            int(numbers.get((split, position, name), 0))
            for name in ("pairs", "pairs_able", "errors")
        )
        title = (
            f"{split}, at {position}: {pairs:,} pairs of a prompt and another task, of which the"
        )
        lines += ["", visible(f"{title} model can do {able:,}; {errors:,} errors to repair")]
        own = [r for r in records if (r["split"], r["position"]) == (split, position)]
        lines += aligned([HEADINGS, *map(_row, own)])
    return "\n".join(lines) + "\n"


def _row(record: dict[str, Any]) -> list[str]:
    """Return the texts of a record under `HEADINGS`."""
    shown = {
        name: f"{value:z.2f}" if isinstance(value, float) else "-" for name, value in record.items()
    }
    names = ("ari", "becomes", "stays", "normalised", "ceiling")
    return [
        record["state"],
        *(shown[name] for name in names),
        f"{shown['random']} ({shown['random_low']} to {shown['random_high']})",
        shown["random_stays"],
        shown["erased_stays"],
        f"{shown['repaired']} ({shown['repaired_random']})",
    ]
