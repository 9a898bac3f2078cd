"""Read the scores of runs that differ in their seed, as means over the cluster seeds."""

import math
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.score_table import (
    CONTROLS,
    NO_STEP,
    at_position,
    layers_in_order,
    main_scores,
    of_family,
    read_score_table,
    summarise,
    to_frame,
)

#: Seed, metric, split, layer, space, step.
Key = tuple[int, str, str, str, str, int]


class Scores:
    """Scores of several runs at their first position and first number of clusters."""

    def __init__(self, paths: Iterable[Path]) -> None:
        table = at_position(pa.concat_tables(map(read_score_table, paths)))
        by = ("seed", "metric", "split", "layer", "space", "step")
        self.values: dict[Key, float] = summarise(to_frame(main_scores(table)), by)[
            "mean"
        ].to_dict()
        #: By the number of clusters, too.
        self.by_k: dict[tuple[int, Key], float] = {
            (int(k), key): value
            for (k, *key), value in summarise(
                to_frame(of_family(table)).dropna(subset=["k"]), ("k", *by)
            )["mean"].items()
            for key in [tuple(key)]
        }
        self.seeds = sorted({key[0] for key in self.values})
        self.steps = sorted({key[5] for key in self.values} - {NO_STEP})
        self.splits = list(dict.fromkeys(key[2] for key in self.values))
        clustered = {key[3] for key in self.values if key[1] == "ari"}
        self.layers = layers_in_order(clustered - set(CONTROLS))
        self.controls = [control for control in CONTROLS if control in clustered]
        self.ks = sorted({k for k, key in self.by_k if key[3] not in CONTROLS})

    def get(
        self, seed: int, metric: str, split: str, layer: str, step: int, space: str = "raw"
    ) -> float:
        """Return one score; NaN if it was not measured."""
        return self.values.get((seed, metric, split, layer, space, step), math.nan)

    def with_most_clusters(
        self, seed: int, metric: str, split: str, layer: str, step: int
    ) -> float:
        """Return one score with the largest number of clusters; NaN if it was not measured."""
        key: Key = (seed, metric, split, layer, "raw", step)
        return self.by_k.get((self.ks[-1], key), math.nan)

    def each(
        self, metric: str, split: str, layer: str, step: int, space: str = "raw"
    ) -> list[float]:
        """Return one score of each seed."""
        return [self.get(seed, metric, split, layer, step, space) for seed in self.seeds]

    def best(self, seed: int, step: int | None = None) -> str:
        """Return the layer with the highest ARI on the training subset at a step, or the last."""
        at = self.steps[-1] if step is None else step
        ari = {(x, "raw"): self.get(seed, "ari", "train_subset", x, at) for x in self.layers}
        best = best_layer(ari)
        assert best is not None, f"seed {seed} has no ARI at step {at}"
        return best[0]

    def of_best(self, metric: str, split: str, step: int | None = None) -> list[float]:
        """Return a score of each seed in its best layer, at the last step or another."""
        at = self.steps[-1] if step is None else step
        return [self.get(seed, metric, split, self.best(seed), at) for seed in self.seeds]
