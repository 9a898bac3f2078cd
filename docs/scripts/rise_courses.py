"""Print the courses of a sweep through training.

    python docs/scripts/rise_courses.py DIR ... > FILE.csv

DIR is the directory of a sweep with --intervene. Each line has the scores of one layer at one
checkpoint of one run, at its first position: the ARI against the task, and what recovers the task
without clusters. Of edits it has the share of answers that follow: a shift between centroids,
random directions of its length, and the state of a donor. Not all checkpoints have edits.
"""

import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tasklens.core.parquet import read_parquet
from tasklens.scoring.best_layer import is_layer
from tasklens.scoring.score_table import (
    MODEL,
    as_table,
    at_position,
    main_scores,
    summarise,
    table_to_csv_bytes,
    to_frame,
)

SCORES = ("ari", "separation", "probe_task", "neighbours_task")
EDITS = ("shift", "random", "patch")
SPLITS = ("train_subset", "val_subset")


def courses(path: Path) -> pd.DataFrame:
    """Return the courses of the runs of one sweep, one row per run, split, layer and step."""
    scores = at_position(
        main_scores(as_table(read_parquet((path / "scores.parquet").read_bytes())))
    )
    frame = to_frame(scores, (*SCORES, "accuracy"))
    keys = ["run", "seed", "split", "layer", "step"]
    rows = frame[frame["space"].isin(["raw", ""]) & (frame["step"] >= 0)]
    means = summarise(rows, (*keys, "metric"))["mean"].unstack("metric").reset_index()
    accuracy = means[means["layer"] == MODEL].set_index(["run", "seed", "split", "step"])[
        "accuracy"
    ]
    layers = means[means["layer"].map(is_layer)].drop(columns="accuracy")
    layers = layers.join(accuracy, on=["run", "seed", "split", "step"])
    layers = layers.merge(_effects(path), how="left", on=keys)
    points = pd.read_parquet(path / "points.parquet")
    settings = [name for name in points if "." in name]
    layers = layers.merge(points[["run", *settings]].drop_duplicates(), on="run")
    order = ["run", "seed", *settings, *keys[2:], *SCORES, "accuracy", *EDITS]
    return layers[layers["split"].isin(SPLITS)].reindex(columns=order).round(4)


def _effects(path: Path) -> pd.DataFrame:
    """Return the share of answers that follow each edit, as a mean over targets and draws."""
    effects = pd.read_parquet(path / "interventions.parquet")
    first = effects["position"].iloc[0]
    kept = effects[
        (effects["metric"] == "becomes")
        & effects["edit"].isin(EDITS)
        & (effects["target"] == "")
        & effects["draw"].isna()
        & (effects["position"] == first)
        & effects["alpha"].fillna(1.0).eq(1.0)
    ].rename(columns={"state": "layer"})
    keys = ["run", "seed", "split", "layer", "step"]
    return kept.pivot_table("value", keys, "edit", observed=True).reset_index()


if __name__ == "__main__":
    tables = [courses(Path(name)) for name in sys.argv[1:]]
    table = pa.Table.from_pandas(pd.concat(tables), preserve_index=False)
    sys.stdout.buffer.write(table_to_csv_bytes(table))
