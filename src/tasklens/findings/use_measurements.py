"""Measure how the effect of edits is related to ARI and decodability, beside the rules of use.

These numbers have intervals and no thresholds: in which layer clusters are used, and from when in
training on, is stated and not judged.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tasklens.data.instances import JUDGED, UNSEEN_KINDS
from tasklens.findings.curves import Curves
from tasklens.findings.half_way import half_way
from tasklens.findings.measurement import Measurement, measured
from tasklens.findings.statistics import MissingError, row_rank_correlation
from tasklens.findings.use import (
    BECOMES,
    OF_CEILING,
    best_state,
    course,
    effects_of,
    p_value,
    shared,
)
from tasklens.interventions.effects import FLOOR
from tasklens.interventions.repair import DISTANCE, REPAIR, REPAIR_RANDOM
from tasklens.interventions.repair_effects import AUROC, RIGHT
from tasklens.scoring.bootstrap import Floats

#: A number of a run and its copies, (B,).
Number: TypeAlias = Callable[[Curves], Floats]


@dataclass(frozen=True)
class Edited:
    """Numbers of edited pairs of a split at the last checkpoint with edits, over all runs."""

    split: str
    """The run's own name of the split."""
    pairs: int
    """Number of pairs of an instance and another task."""
    able: int
    """Number of pairs whose two tasks the model can do."""
    errors: int
    """Number of wrongly answered instances that were repaired."""

    @classmethod
    def of_runs(cls, runs: Sequence[Curves], split: str) -> "Edited":
        """Return the numbers of a split of the findings."""
        name, every = runs[0].split_names[split], [effects_of(curves) for curves in runs]
        return cls(
            name,
            sum(effects.n_pairs.get(name, 0) for effects in every),
            sum(effects.n_able.get((name, effects.steps[-1]), 0) for effects in every),
            sum(effects.n_errors.get((name, effects.steps[-1]), 0) for effects in every),
        )


@dataclass(frozen=True)
class Use:
    """Layers in which `USE` was tested, and what was measured beside its checks."""

    untested: str = "there are no interventions"
    """Why the clusters' use was not tested; empty if it was."""
    layers: tuple[str, ...] = ()
    """The best layer of each run, in which it was tested."""
    splits: tuple[str, ...] = ()
    """Those of `JUDGED` on which all runs have edits, or what stands for them."""
    n_tasks: int = 0
    """The number of tasks."""
    edited: tuple[Edited, ...] = ()
    """What was edited on each split, with those of `UNSEEN_KINDS`."""
    measurements: tuple[Measurement, ...] = ()
    """How the effect of the shift is related to ARI and decodability, and the effects of edits on
    `UNSEEN_KINDS`; they cannot fail."""


def use_of(runs: Sequence[Curves]) -> Use:
    """Return where the use of clusters is tested, and what is measured beside."""
    try:
        edited = [{key[0] for key in effects_of(curves).effect} for curves in runs]
        layers = tuple(best_state(curves) for curves in runs)
    except MissingError as missing:
        return Use(str(missing))
    splits, further = (
        tuple(
            split
            for split in known
            if all(
                curves.split_names.get(split) in names
                for curves, names in zip(runs, edited, strict=True)
            )
        )
        for known in (JUDGED, UNSEEN_KINDS)
    )
    if not splits:
        return Use("the runs have no edits on a split that all have")
    n_tasks = min(effects_of(curves).n_tasks for curves in runs)
    counts = tuple(Edited.of_runs(runs, split) for split in (*splits, *further))
    measurements = use_measurements(runs, splits, further)
    return Use("", layers, splits, n_tasks, counts, tuple(measurements))


def use_measurements(
    runs: Sequence[Curves], splits: Sequence[str], further: Sequence[str] = ()
) -> list[Measurement]:
    """Return how the effect of the shift is related to ARI and decodability, with intervals.

    ARI and linear probe are taken at the checkpoints with edits, so that all three courses are
    equally exact. Without the scores for a number, it is left out. The order is: the largest
    normalised effect of any layer; rank correlations of effect and ARI; of a series, half-way steps
    and their differences; the repair of errors; shift and repair on each of the ``further`` splits.
    The first of the splits counts, for repair the last one.
    """
    split, last = splits[0], splits[-1]
    numbers: list[tuple[str, str, Number]] = []
    if largest := largest_state(runs, split):
        # The layer is chosen on the first split, so that another one is free of selection.
        what = f"normalised effect of the shift in {largest}, the largest of all layers"
        numbers += [(what, on, _normalised_in(largest, on)) for on in splits]
        what = "p value of the largest effect of all layers among random directions"
        numbers += [(what, split, lambda curves: p_value(curves, split, _layers(curves)))]
    numbers.append(("rank correlation of effect and ARI, over layers", split, _over_layers(split)))
    if any(curves.is_series for curves in runs):
        numbers += _by_step(split)
    numbers += _of_errors(last)
    for other in further:
        shift, floor = (_final(edit, BECOMES, other) for edit in ("shift", FLOOR))
        numbers += [
            ("answers that follow a shift", other, shift),
            ("the same, minus those that follow random directions", other, _minus(shift, floor)),
            *_of_errors(other),  # left out without an own centroid
        ]
    measurements = []
    for what, on, number in numbers:
        with contextlib.suppress(MissingError):
            measurements.append(measured(what, on, number, runs, "use"))
    return measurements


def _of_errors(split: str) -> list[tuple[str, str, Number]]:
    """Return the numbers of the errors of a split: their repair, and what tells them from hits."""
    repair, random = (_final(edit, RIGHT, split) for edit in (REPAIR, REPAIR_RANDOM))
    return [
        ("errors that become right at their own task's centroid", split, repair),
        ("the same, minus those by random directions", split, _minus(repair, random)),
        (
            "AUROC of the distance to the own centroid, errors against hits",
            split,
            _final(DISTANCE, AUROC, split),
        ),
    ]


def _by_step(split: str) -> list[tuple[str, str, Number]]:
    """Return the numbers of a training: how effect, ARI and decodability go by step."""
    half: dict[str, Number] = {
        name: _half_way_of(name, split) for name in ("ARI", "linear probe", "effect")
    }
    return [
        ("rank correlation of effect and ARI, over steps", split, _over_steps(split)),
        *((f"half way in steps: {name}", split, number) for name, number in half.items()),
        *(
            (f"half way in steps: effect - {name}", split, _minus(half["effect"], half[name]))
            for name in ("ARI", "linear probe")
        ),
    ]


def largest_state(runs: Sequence[Curves], split: str) -> str | None:
    """Return the layer with the largest normalised effect in the mean over runs, if there is any.

    The layer is not chosen in advance: its effect on the same split is the largest of several.
    """
    means = {}
    for state in runs[0].layers:
        with contextlib.suppress(MissingError):
            means[state] = np.mean([_normalised_in(state, split)(curves)[0] for curves in runs])
    known = {state: mean for state, mean in means.items() if np.isfinite(mean)}
    return max(known, key=lambda state: known[state], default=None)


def _layers(curves: Curves) -> list[str]:
    return [layer for layer in curves.layers if layer in effects_of(curves).states]


def _normalised_in(state: str, split: str) -> Number:
    return lambda curves: course(curves, split, state, metric=OF_CEILING)[:, -1]


def _final(edit: str, metric: str, split: str) -> Number:
    """Return the number: an effect in the best layer at the last checkpoint."""
    return lambda curves: course(curves, split, best_state(curves), edit, metric)[:, -1]


def _over_layers(split: str) -> Number:
    """Return the number: the rank correlation of the final effect and ARI over layers."""

    def number(curves: Curves) -> Floats:
        ends = [
            (course(curves, split, layer)[:, -1], curves.ari[split, layer, "raw"])
            for layer in _layers(curves)
        ]
        known = [(end, shared(curves, ari)[:, -1]) for end, ari in ends if np.isfinite(end[0])]
        return _rank_correlation([end for end, _ in known], [ari for _, ari in known])

    return number


def _over_steps(split: str) -> Number:
    """Return the number: the rank correlation of effect and ARI over steps in the best layer."""
    return lambda curves: _rank_correlation(
        *(list(_course_of(name, curves, split)[1].T) for name in ("effect", "ARI"))
    )


def _rank_correlation(effect: Sequence[Floats], ari: Sequence[Floats]) -> Floats:
    """Return the rank correlation of numbers, (B,) each; MissingError if these are too few."""
    if len(effect) < 3:
        raise MissingError(f"{len(effect)} numbers are too few for a rank correlation")
    return row_rank_correlation(np.stack(effect, axis=1), np.stack(ari, axis=1))


def _half_way_of(name: str, split: str) -> Number:
    def number(curves: Curves) -> Floats:
        steps, y = _course_of(name, curves, split)
        if len(steps) < 2:
            raise MissingError("a single checkpoint has no course")
        return half_way(steps, y)

    return number


def _minus(a: Number, b: Number) -> Number:
    return lambda curves: a(curves) - b(curves)


def _course_of(name: str, curves: Curves, split: str) -> tuple[list[int], Floats]:
    """Return the S checkpoints at which the best layer was edited, and a course there, (B, S).

    It is that of the ARI, of the accuracy of the linear probe, or of the effect.
    """
    state = best_state(curves)
    effect = course(curves, split, state)
    known = np.flatnonzero(np.isfinite(effect[0]))
    steps = [effects_of(curves).steps[i] for i in known]
    if name == "effect":
        return steps, effect[:, known]
    if name == "ARI":
        return steps, shared(curves, curves.ari[split, state, "raw"])[:, known]
    if (split, state) not in curves.decoded:
        raise MissingError(f"run {curves.run!r} has no linear probe of {state}")
    return steps, shared(curves, curves.decoded[split, state])[:, known]
