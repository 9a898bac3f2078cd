"""Collect the ARI and the accuracy of each run by step, with resampled copies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasklens.core.errors import InputError
from tasklens.data.synthetic import MEASURED
from tasklens.scoring.best_layer import is_layer
from tasklens.scoring.bootstrap import Floats, Resampling
from tasklens.scoring.score_table import CONTROLS, NO_STEP, layers_in_order, summarise, to_frame

#: Labels by (step, split, layer, space), (n_seeds, N) each.
Labels = Mapping[tuple[int, str, str, str], npt.NDArray[np.integer]]

#: In a training run, the splits of the findings have the same names.
SPLIT_NAMES: Mapping[str, str] = {split: split for split in MEASURED}


@dataclass(frozen=True, repr=False)
class Curves:
    """The scores of one run as arrays of B copies: the first as measured, the others resampled.

    A score that was not computed, such as that of t-SNE at most checkpoints, is NaN.
    """

    run: str
    seed: int
    steps: tuple[int, ...]
    """The S checkpoints."""
    ari: dict[tuple[str, str, str], Floats] = field(default_factory=dict)
    """ARI against the task by (split, layer, space), mean over cluster seeds, (B, S) each."""
    accuracy: dict[str, Floats] = field(default_factory=dict)
    """The model's accuracy by split, (B, S) each."""
    controls: dict[tuple[str, str], Floats] = field(default_factory=dict)
    """ARI of each of `CONTROLS` by (split, control), (B,) each."""
    split_names: Mapping[str, str] = field(default_factory=lambda: SPLIT_NAMES)
    """The run's own name of each split of the findings. The first is the split that training has
    seen, or the split that takes its role."""
    chance: float = float("nan")
    """Accuracy of always answering the commonest output of the first split, in 0 .. 1; NaN if it is
    not known, or if the model was not trained on these tasks."""

    def __repr__(self) -> str:
        contents = f"{len(self.steps)} checkpoints, {len(self.layers)} layers"
        return f"Curves(run {self.run!r}, seed {self.seed}: {contents}, B = {self.copies})"

    @property
    def copies(self) -> int:
        """B, the number of copies of each score."""
        return len(next(iter(self.ari.values()), ()))

    @property
    def layers(self) -> list[str]:
        """The layers in their order: `embed`, `block1` .. `blockL`."""
        return layers_in_order({layer for _, layer, _ in self.ari if is_layer(layer)})

    def final(self, split: str, layer: str, space: str = "raw") -> Floats:
        """Return the ARI at the last checkpoint, (B,)."""
        return self.ari[split, layer, space][:, -1]


def curves_of_table(table: pa.Table, metric: str = "ari") -> list[Curves]:
    """Return the curves of each run in a table of scores, without resampled copies (B = 1).

    ``metric`` is the agreement with the task. With "ari_shuffled" it is the agreement by chance.
    InputError if the table has no such score of a hidden state.
    """
    other = {
        "model": "accuracy",
        **dict.fromkeys(CONTROLS, "ari"),
    }  # metrics of lines that are no hidden state
    rows = to_frame(table, {metric, "ari", "accuracy"})
    rows = rows[rows["metric"] == rows["layer"].map(other).fillna(metric)]
    means = summarise(rows, ("run", "seed", "split", "layer", "space", "step"))["mean"]
    runs = []
    for (run, seed), of_run in means.groupby(level=("run", "seed"), sort=False):
        courses = of_run.droplevel(["run", "seed"]).unstack("step").sort_index(axis=1)
        of_state = ~courses.index.isin(other, level="layer")
        steps = courses.columns[courses[of_state].notna().any()]
        curves = Curves(run, seed, tuple(steps.tolist()))
        for (split, layer, space), course in courses.iterrows():
            if layer in CONTROLS:
                curves.controls[split, layer] = np.array([course[NO_STEP]])
            elif layer == "model":
                curves.accuracy[split] = np.array([course[steps]])
            else:
                curves.ari[split, layer, space] = np.array([course[steps]])
        if curves.ari:
            runs.append(curves)
    if not runs:
        metrics = ", ".join(sorted(set(table["metric"].to_pylist()))) or "none"
        raise InputError(f"the table has no {metric} of a hidden state; its metrics are {metrics}")
    return runs


def curves_of_labels(
    run: str,
    seed: int,
    labels: Labels,
    hits: Mapping[tuple[int, str], npt.NDArray[np.bool_]],
    controls: Mapping[tuple[str, str], npt.NDArray[np.integer]],
    resampling: Mapping[str, Resampling],
    on_cell: Callable[[], object] = lambda: None,
    split_names: Mapping[str, str] = SPLIT_NAMES,
    chance: float = float("nan"),
) -> Curves:
    """Score the clusters of a run's cells under resampled instances.

    Parameters
    ----------
    run, seed
        Name and seed of the run.
    labels : mapping
        Clusters, (n_seeds, N), by (step, split, layer, space). Splits are those of the findings.
    hits : mapping
        Whether the model's answer is right, (N,), by (step, split).
    controls : mapping
        Clusters of each control, (n_seeds, N), by (split, control).
    resampling : mapping
        Resampled instances by split, each with the same number B of copies.
    on_cell : callable
        Called after each cell.
    split_names, chance
        See `Curves`.
    """
    steps = tuple(sorted({step for step, *_ in labels}))
    curves = Curves(run, seed, steps, split_names=split_names, chance=chance)

    def ari(split: str, seeds: npt.NDArray[np.integer]) -> Floats:
        each = [resampling[split].ari(clusters.astype(np.int64)) for clusters in seeds]
        return np.mean(each, axis=0)  # type: ignore[no-any-return]

    def put(courses: dict[Any, Floats], key: object, step: int, values: Floats) -> None:
        empty = np.full((len(values), len(steps)), np.nan)  # (B, S)
        courses.setdefault(key, empty)[:, steps.index(step)] = values

    for (step, split, layer, space), seeds in labels.items():
        put(curves.ari, (split, layer, space), step, ari(split, seeds))
        on_cell()
    for (step, split), right in hits.items():
        put(curves.accuracy, split, step, resampling[split].mean(right))
    for (split, control), seeds in controls.items():
        curves.controls[split, control] = ari(split, seeds)
    return curves
