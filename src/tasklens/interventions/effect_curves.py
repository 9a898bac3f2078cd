"""Collect the effects of the edits of a run by checkpoint, with resampled copies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tasklens.clustering.numba_compile import one_thread
from tasklens.data.edited_prompts import Ints
from tasklens.interventions.cell import Arrays
from tasklens.interventions.effects import (
    Doubles,
    effects_in,
    in_order,
    mean_of_draws,
    normalised,
    over_targets,
    splits_in,
)
from tasklens.interventions.repair_effects import count_errors, repair_effects
from tasklens.scoring.bootstrap import instance_weights


@dataclass(frozen=True, repr=False)
class EffectCurves:
    """The effects of edits in one run by checkpoint, as arrays of B copies.

    The first copy is as measured, the others are resampled by instruction. An effect that was not
    computed is NaN. A metric is one of `EFFECTS`, alone or with `ABLE`; or ``becomes`` and
    ``logit_change`` with `NORMALISED`. The edits ``repair`` and ``repair_random`` have the metric
    ``right``, the share of wrong answers that become right, and ``distance`` has ``auroc``.
    """

    run: str
    seed: int
    position: str
    steps: tuple[int, ...]
    """The S checkpoints."""
    states: tuple[str, ...]
    """The edited states from the input up, and those that were edited together behind them."""
    effect: dict[tuple[str, str, str, str], Doubles] = field(default_factory=dict)
    """By (split, state, edit, metric), (B, S) each; of a drawn control, the mean over its draws.
    The edit ``third`` is a shift to another task than the target. The strength of an edit is
    written behind it unless it is 1: ``shift@0.5``."""
    draws: dict[tuple[str, str, str, str], list[Doubles]] = field(default_factory=dict)
    """Each draw of a drawn control as measured: one array (R,) per checkpoint, empty if the control
    was not run there. Keys as of `effect`."""
    n_pairs: dict[str, int] = field(default_factory=dict)
    """Number of pairs by split, at the last checkpoint."""
    n_able: dict[tuple[str, int], int] = field(default_factory=dict)
    """Number of pairs whose two tasks the model can do, by split and step."""
    n_errors: dict[tuple[str, int], int] = field(default_factory=dict)
    """Number of wrongly answered prompts that were repaired, by split and step."""
    n_tasks: int = 0
    """Number of tasks between which states are moved; of several families, the least."""

    def __repr__(self) -> str:
        return (
            f"EffectCurves(run {self.run!r}, seed {self.seed}: {len(self.steps)} checkpoints, "
            f"{len(self.states)} hidden states)"
        )

    def at(self, *steps: int) -> "EffectCurves | None":
        """Return the effects at those of some checkpoints that have any; None if there are none."""
        kept = [step for step in self.steps if step in steps]
        i = [self.steps.index(step) for step in kept]
        effect = {key: y[:, i] for key, y in self.effect.items()}
        draws = {key: [each[j] for j in i] for key, each in self.draws.items()}
        return replace(self, steps=tuple(kept), effect=effect, draws=draws) if kept else None

    def final(self, split: str, state: str, edit: str, metric: str) -> Doubles:
        """Return an effect at the last checkpoint, (B,)."""
        return self.effect[split, state, edit, metric][:, -1]


def effect_curves(
    run: str,
    seed: int,
    position: str,
    arrays_by_step: Iterable[tuple[int, Arrays]],
    resampling: Mapping[str, tuple[Ints, Doubles]],
) -> EffectCurves:
    """Return the effects of a run at one position.

    Parameters
    ----------
    run, seed, position
        See `EffectCurves`.
    arrays_by_step : iterable of (step, arrays)
        What the edits left at each checkpoint, ascending.
    resampling : {split: (units, weights)}
        The distinct units of a split, ascending, (U,), and their weights in each copy, (B, U), from
        `tasklens.scoring.bootstrap.resampling_weights`.
    """
    steps: list[int] = []
    values: dict[tuple[str, str, str, str], dict[int, Doubles]] = {}
    draws: dict[tuple[str, str, str, str], dict[int, Doubles]] = {}
    n_pairs: dict[str, int] = {}
    n_able: dict[tuple[str, int], int] = {}
    n_errors: dict[tuple[str, int], int] = {}
    n_tasks = 0
    for step, arrays in arrays_by_step:
        steps.append(step)
        for split, pairs in splits_in(arrays, position).items():
            n_tasks = int(np.unique(pairs.family, return_counts=True)[1].min())
            n_pairs[split] = int(pairs.pairs.sum())
            n_able[split, step] = int(pairs.able.sum())
            units, weights = resampling[split]
            copies_of = instance_weights(pairs.unit, units, weights)  # (B, N)
            of_split: dict[tuple[str, str, str], Doubles] = {}
            for state, edit, effects in effects_in(arrays, pairs, split, position):
                by_metric = {metric: over_targets(value) for metric, value in effects.items()}
                means = _resampled_means([*by_metric.values()], copies_of)
                for (metric, each), mean in zip(by_metric.items(), means, strict=True):
                    of_split[state, edit, metric] = mean
                    if len(each) > 1:
                        at = split, state, edit, metric
                        draws.setdefault(at, {})[step] = mean_of_draws(each)
            of_split |= normalised(of_split)
            for state, edit, metric, value, each in repair_effects(
                arrays, split, position, units, weights
            ):
                of_split[state, edit, metric] = value
                if len(each) > 1:
                    draws.setdefault((split, state, edit, metric), {})[step] = each
            n_errors[split, step] = count_errors(arrays, split, position)
            for (state, edit, metric), value in of_split.items():
                values.setdefault((split, state, edit, metric), {})[step] = value
    copies = {len(value) for by_step in values.values() for value in by_step.values()}
    empty = np.full(max(copies, default=1), np.nan)
    return EffectCurves(
        run,
        seed,
        position,
        tuple(steps),
        in_order({state for _, state, _, _ in values}),
        {
            key: np.stack([by_step.get(step, empty) for step in steps], axis=1)
            for key, by_step in values.items()
        },
        {key: [by_step.get(step, np.empty(0)) for step in steps] for key, by_step in draws.items()},
        n_pairs,
        n_able,
        n_errors,
        n_tasks,
    )


def _resampled_means(values: Sequence[Doubles], copies: Doubles) -> Doubles:
    """Return the mean of each of M effects over draws and instances in each copy, (M, B).

    Effects are (R, N) each, NaN without a pair. ``copies``, (B, N), has how often each instance is
    drawn in a copy.
    """
    sums = np.stack([np.nansum(each, axis=0) for each in values])  # (M, N)
    counts = np.stack([np.isfinite(each).sum(axis=0) for each in values]).astype(np.float64)
    with one_thread():
        sums, n = sums @ copies.T, counts @ copies.T  # (M, B)
    return np.divide(sums, n, out=np.full(n.shape, np.nan), where=n > 0)  # type: ignore[no-any-return]
