"""Collect the scores of each run by step, and the effects of edits, with resampled copies."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasklens.clustering.kmeans import renumbered
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.instances import SPLIT_MEANINGS
from tasklens.data.names import UNTRAINED
from tasklens.interventions.effect_curves import EffectCurves
from tasklens.scoring.best_layer import is_layer
from tasklens.scoring.bootstrap import FamilyResampling, Floats, Resampling
from tasklens.scoring.score_table import (
    BAND,
    CONTROLS,
    NO_STEP,
    at_position,
    layers_in_order,
    main_scores,
    summarise,
    to_frame,
)

if TYPE_CHECKING:
    import pandas as pd

#: Labels by (step, split, layer, space), (n_seeds, N) each.
Labels = Mapping[tuple[int, str, str, str], npt.NDArray[np.integer]]
#: Labels by (split, control), (n_seeds, N) each.
ControlLabels = Mapping[tuple[str, str], npt.NDArray[np.integer]]
#: Distances to the own centroid, and shares of the states in the span, (N,) each.
Places = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

#: Which of the near-best partitions stand for the kept clusters: in each cell the one with the
#: lowest ARI, or the highest; or one of both, drawn for each cell and copy, for the numbers that
#: compare cells, such as a gap between splits.
CHOICES = ("lowest", "highest", "drawn")
#: Number of draws for a run without resampled copies.
DRAWN = 400

#: Scores of `tasklens.scoring.centroid_scores` that curves have.
PLACED = ("error_auroc", "errors", "span_share")

#: In a training run, the splits of the findings have the same names.
SPLIT_NAMES: Mapping[str, str] = {split: split for split in SPLIT_MEANINGS}


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
    decoded: dict[tuple[str, str], Floats] = field(default_factory=dict)
    """Accuracy of the linear probe, which predicts the task, by (split, layer), (B, S) each."""
    placed: dict[tuple[str, str, str], Floats] = field(default_factory=dict)
    """Scores of the places among the centroids by (metric of `PLACED`, split, layer), (B, S) each.
    They are NaN at all checkpoints of a training but the last."""
    step_names: Mapping[int, str] = field(default_factory=dict)
    """The names of the steps if these are no training steps, see `Run.step_names`."""
    majority: Mapping[str, float] = field(default_factory=dict)
    """Share of the commonest task, in 0 .. 1, by split."""
    units: tuple[str, ...] = ("instructions",)
    """What the resampled copies draw, for readers; see `Run.unit_names`."""
    effects: EffectCurves | None = None
    """Effects of edits of the hidden states; None without interventions."""
    families: tuple["Curves", ...] = ()
    """The scores within each family of tasks, without copies and by the run's own names of splits;
    empty if all tasks are one family."""
    choices: tuple["Curves", ...] = ()
    """The same run with other near-best partitions, see `CHOICES`; empty if they are not known. The
    first row of each score is that of this run, from which layers are chosen. The others are of
    the other partitions: resampled copies, and last the original sample."""

    def __repr__(self) -> str:
        contents = f"{len(self.steps)} checkpoints, {len(self.layers)} layers"
        return f"Curves(run {self.run!r}, seed {self.seed}: {contents}, B = {self.copies})"

    @property
    def copies(self) -> int:
        """B, the number of copies of each score."""
        return len(next(iter(self.ari.values()), ()))

    @property
    def is_series(self) -> bool:
        """True for checkpoints of a training; False for one model, with or without its twin."""
        return len(self.steps) > 1 and not self.step_names

    @property
    def stages(self) -> dict[int, str]:
        """The names of the models that were trained, by step; empty for a series."""
        names = {step: self.step_names.get(step, UNTRAINED) for step in self.steps}
        return {step: name for step, name in names.items() if name != UNTRAINED}

    @property
    def layers(self) -> list[str]:
        """The layers in their order: `embed`, `block1` .. `blockL`."""
        return layers_in_order({layer for _, layer, _ in self.ari if is_layer(layer)})

    def final(self, split: str, layer: str, space: str = "raw") -> Floats:
        """Return the ARI at the last checkpoint, (B,)."""
        return self.ari[split, layer, space][:, -1]

    def at(self, *steps: int, run: str = "") -> "Curves":
        """Return the curves of some checkpoints, which may have the name of another run.

        Those of two checkpoints can be compared like two runs: copy b resamples both alike.
        """
        i = [self.steps.index(step) for step in steps]
        return replace(
            self,
            run=run or self.run,
            steps=steps,
            ari={key: y[:, i] for key, y in self.ari.items()},
            accuracy={split: y[:, i] for split, y in self.accuracy.items()},
            decoded={key: y[:, i] for key, y in self.decoded.items()},
            placed={key: y[:, i] for key, y in self.placed.items()},
            effects=self.effects and self.effects.at(*steps),
            choices=tuple(each.at(*steps, run=run) for each in self.choices),
        )

    def with_choices(self, low: "Curves", high: "Curves") -> "Curves":
        """Return the curves with those of each of `CHOICES`.

        ``low`` and ``high`` have the scores of the near-best partitions with the lowest and the
        highest ARI, with the same keys and shapes.
        """
        return replace(self, choices=tuple(self._chosen(name, low, high) for name in CHOICES))

    def _chosen(self, choice: str, low: "Curves", high: "Curves") -> "Curves":
        """Return the curves of a choice, see `choices`."""

        def rows(kept: Floats, ends: Sequence[Floats], *key: str) -> Floats:
            both = np.stack(ends)  # (2, B, ...)
            copies = both[:, 1:] if len(kept) > 1 else np.repeat(both, DRAWN, axis=1)
            both = np.concatenate([copies, both[:, :1]], axis=1)
            share = {"lowest": 1.0, "highest": 0.0, "drawn": 0.5}[choice]  # of the lowest
            drawn = stream(self.seed, "near-best partitions", *key).random(both.shape[1:])
            return np.concatenate([kept[:1], np.where(drawn < share, *both)])

        return replace(
            self,
            ari={key: rows(y, [low.ari[key], high.ari[key]], *key) for key, y in self.ari.items()},
            accuracy={split: rows(y, [y, y]) for split, y in self.accuracy.items()},
            controls={
                key: rows(y, [low.controls[key], high.controls[key]], *key)
                for key, y in self.controls.items()
            },
            decoded={key: rows(y, [y, y]) for key, y in self.decoded.items()},
            placed={key: rows(y, [y, y]) for key, y in self.placed.items()},
            effects=self.effects
            and replace(
                self.effects,
                effect={key: rows(y, [y, y]) for key, y in self.effects.effect.items()},
            ),
        )


def units_of(runs: Iterable[Curves]) -> list[str]:
    """Return what the resampled copies of runs draw."""
    return list(dict.fromkeys(unit for curves in runs for unit in curves.units))


def curves_of_table(table: pa.Table, metric: str = "ari", family: str = "") -> list[Curves]:
    """Return the curves of each run in a table of scores, without resampled copies (B = 1).

    ``metric`` is the agreement with the task. With "ari_shuffled" it is the agreement by chance.
    With "ari" there are choices if the table has the metrics `BAND`. Of several numbers of clusters
    and positions the first counts; of several families the one that is named, or their mean.
    InputError if the table has no such score of a hidden state, or a run has none at that position.
    """
    other = {
        "model": "accuracy",
        **dict.fromkeys(CONTROLS, metric if metric in ("ami", "v_measure") else "ari"),
    }  # metrics of lines that are no hidden state
    rows = to_frame(at_position(main_scores(table, family)), {metric, "ari", "accuracy", *BAND})
    by = ("run", "seed", "split", "layer", "space", "step")
    means = summarise(rows[rows["metric"] == rows["layer"].map(other).fillna(metric)], by)["mean"]
    runs = list(_curves_of_means(means, other))
    if not runs:
        metrics = ", ".join(sorted(set(table["metric"].to_pylist()))) or "none"
        raise InputError(f"the table has no {metric} of a hidden state; its metrics are {metrics}")
    if metric != "ari":
        return runs
    runs = [*_with_places(runs, at_position(main_scores(table, family)))]
    if not rows["metric"].isin(BAND).any():
        return runs
    ends = []
    for name in BAND:
        end = rows[rows["metric"] == name].groupby(list(by))["value"].mean()
        ends.append(list(_curves_of_means(end.reindex(means.index).fillna(means), other)))
    return [each.with_choices(*both) for each, *both in zip(runs, *ends, strict=True)]


def _with_places(runs: Iterable[Curves], table: pa.Table) -> Iterator[Curves]:
    """Yield the curves of runs with the scores `PLACED` of a table, as far as it has them."""
    rows = to_frame(table, PLACED)
    for curves in runs:
        mine = rows[(rows["run"] == curves.run) & (rows["seed"] == curves.seed)]
        placed = {}
        for key, course in mine.groupby(["metric", "split", "layer"], observed=True, sort=False):
            values = course.set_index("step")["value"].reindex(curves.steps)
            placed[key] = values.to_numpy(dtype=np.float64)[None]
        yield replace(curves, placed=placed)


def _curves_of_means(means: "pd.Series[float]", other: Mapping[str, str]) -> Iterator[Curves]:
    """Yield the curves of each run from its scores by run, seed, split, layer, space and step."""
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
            yield curves


def curves_of_labels(
    run: str,
    seed: int,
    labels: Labels,
    hits: Mapping[tuple[int, str], npt.NDArray[np.bool_]],
    controls: ControlLabels,
    resampling: Mapping[str, Resampling | FamilyResampling],
    on_cell: Callable[[], object] = lambda: None,
    split_names: Mapping[str, str] = SPLIT_NAMES,
    chance: float = float("nan"),
    extremes: tuple[Labels, ControlLabels] = ({}, {}),
    decoded: Mapping[tuple[int, str, str], npt.NDArray[np.bool_]] = MappingProxyType({}),
    placed: Mapping[tuple[int, str, str], tuple[npt.NDArray[np.float32], ...]] = MappingProxyType(
        {}
    ),
    effects: EffectCurves | None = None,
    *,
    step_names: Mapping[int, str] = MappingProxyType({}),
    majority: Mapping[str, float] = MappingProxyType({}),
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
    extremes : pair of mappings
        The near-best partitions with the lowest and the highest ARI, (2, N), of cells and controls.
        The curves have choices if there are any; a cell without has its kept clusters only.
    decoded : mapping
        Whether the linear probe predicts the task, (N,), by (step, split, layer).
    placed : mapping
        The distance of each instance to its own centroid and the share of its state in the span,
        (N,) each, by (step, split, layer); see `tasklens.scoring.centroid_scores.Placed`.
    effects : EffectCurves, optional
        Effects of edits, with the same number B of copies.
    step_names, majority
        See `Curves`.
    """
    steps = tuple(sorted({step for step, *_ in labels}))
    each = tuple(Curves(run, seed, steps, split_names=split_names, chance=chance) for _ in range(3))

    def scores(
        split: str, seeds: npt.NDArray[np.integer], ends: Iterable[npt.NDArray[np.integer]]
    ) -> tuple[Floats, Floats, Floats]:
        """Return the mean ARI of the kept clusters, and that of both ends, (B,) each."""
        known: dict[bytes, Floats] = {}  # by partition: many starts end in the same
        values = []
        for clusters in (*seeds, *ends):
            partition = renumbered(clusters)
            content = partition.tobytes()
            if content not in known:
                known[content] = resampling[split].ari(partition)
            values.append(known[content])
        kept = np.mean(values[: len(seeds)], axis=0)
        low, high = values[len(seeds) :] or (kept, kept)
        return kept, low, high

    def put(courses: dict[Any, Floats], key: object, step: int, values: Floats) -> None:
        empty = np.full((len(values), len(steps)), np.nan)  # (B, S)
        courses.setdefault(key, empty)[:, steps.index(step)] = values

    for (step, split, layer, space), seeds in labels.items():
        ends = extremes[0].get((step, split, layer, space), ())
        for curves, values in zip(each, scores(split, seeds, ends), strict=True):
            put(curves.ari, (split, layer, space), step, values)
        on_cell()
    for (split, control), seeds in controls.items():
        ends = extremes[1].get((split, control), ())
        for curves, values in zip(each, scores(split, seeds, ends), strict=True):
            curves.controls[split, control] = values
    kept, low, high = each
    kept = replace(kept, effects=effects, step_names=step_names, majority=majority)
    for (step, split), right in hits.items():
        put(kept.accuracy, split, step, resampling[split].mean(right))
    for (step, split, layer), right in decoded.items():
        put(kept.decoded, (split, layer), step, resampling[split].mean(right))
    for (step, split, layer), (distance, span) in placed.items():
        put(kept.placed, ("span_share", split, layer), step, resampling[split].mean(span))
        if (step, split) in hits and np.isfinite(distance).all():
            wrong = ~hits[step, split]
            put(kept.placed, ("errors", split, layer), step, resampling[split].sum(wrong))
            area = resampling[split].auroc(distance, wrong)
            put(kept.placed, ("error_auroc", split, layer), step, area)
    return kept.with_choices(low, high) if any(extremes) else kept
