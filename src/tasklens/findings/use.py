"""Define the rules of the finding "used": answers follow a state that is moved to another task.

The paper does not state that clusters are used, so that this group of checks stands apart from its
findings. Effects are those of unseen pairs and instructions at the last checkpoint with edits.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tasklens.findings.curves import Curves
from tasklens.findings.rules import UNSEEN, Rule
from tasklens.findings.statistics import MissingError, judged_layer, share
from tasklens.interventions.effect_curves import EffectCurves
from tasklens.interventions.effects import ABLE, LEAST_WAY, NORMALISED
from tasklens.scoring.bootstrap import Floats

#: The group of findings, which stands apart.
USE = {"used": "a state that is moved to another task's centroid gets that task's answer"}
#: What has to be known with each effect of an edit.
CAVEAT = "earlier tokens still carry the own task"
#: Share of the answers that become those of the target: over all pairs, which are the same at each
#: checkpoint; over pairs whose two tasks the model can do; and normalised.
BECOMES, OF_ABLE, OF_CEILING = "becomes", "becomes" + ABLE, "becomes" + NORMALISED
#: Edits that answers should follow less than a shift, by description, and the least number of tasks
#: for a check. Centroids of shuffled labels lie in the span of the others, so that with few tasks
#: they often point to the target: with two, a shift between them is the shift itself or its
#: opposite. A test counts how often.
CONTROLS = {
    "within": ("a direction within a task", 2),
    "third": ("the direction to a third task", 3),
    "shuffled": ("a shift of shuffled labels", 5),
}
#: The p value should be below this.
SIGNIFICANCE = 0.01


def effects_of(curves: Curves) -> EffectCurves:
    """Return the effects of edits on a run; MissingError if there are none."""
    if curves.effects is None:
        raise MissingError(f"run {curves.run!r} has no interventions")
    return curves.effects


def best_state(curves: Curves) -> str:
    """Return the layer whose hidden states have the highest final ARI on `train_subset`.

    The edits change the hidden states themselves, so that their t-SNE maps are no candidates.
    """
    return judged_layer(curves, complete=False, space="raw")[0]


def course(
    curves: Curves, split: str, state: str, edit: str = "shift", metric: str = BECOMES
) -> Floats:
    """Return an effect at every checkpoint with edits, (B, S)."""
    key = curves.split_names[split], state, edit, metric
    effect = effects_of(curves).effect.get(key)
    if effect is None:
        raise MissingError(f"run {curves.run!r} has no {edit} of {state} on {key[0]}")
    return effect


def final_effect(curves: Curves, split: str, state: str, edit: str) -> Floats:
    """Return an effect over pairs that the model can do, (B,), at the last checkpoint."""
    effect = course(curves, split, state, edit, OF_ABLE)[:, -1]
    if np.isnan(effect[0]):
        effects = effects_of(curves)
        if not effects.n_able.get((curves.split_names[split], effects.steps[-1])):
            raise MissingError("there is no pair whose two tasks the model can do")
        raise MissingError(f"run {curves.run!r} has no {edit} of {state} at its last edited step")
    return effect


def shared(curves: Curves, y: Floats) -> Floats:
    """Return a curve, (B, S), at the checkpoints with edits only."""
    return y[:, [curves.steps.index(step) for step in effects_of(curves).steps]]


def of_shuffled_labels(effects: EffectCurves) -> EffectCurves:
    """Return effects in which a shift is that between the centroids of shuffled labels."""
    unknown = np.full((1, len(effects.steps)), np.nan)
    changed = {
        key: effects.effect.get((*key[:2], "shuffled", key[3]), unknown) if key[2] == "shift" else y
        for key, y in effects.effect.items()
    }
    return replace(effects, effect=changed)


# --- The rules ---


def normalised(curves: Curves, split: str) -> Floats:
    """Return the effect of the shift between those of random directions, 0, and of a patch, 1."""
    effect = course(curves, split, best_state(curves), metric=OF_CEILING)[:, -1]
    if np.isnan(effect[0]):
        raise MissingError(
            f"a state of the other task moves less than {LEAST_WAY:.0%} of the answers"
        )
    return effect


def above_random(curves: Curves, split: str) -> Floats:
    """Return the effect of the shift minus that of random directions, as shares of all answers."""
    state = best_state(curves)
    return final_effect(curves, split, state, "shift") - final_effect(
        curves, split, state, "random"
    )


def control_share(control: str) -> Callable[[Curves, str], Floats]:
    """Return the statistic: the effect of a control, divided by that of the shift."""

    def ratio(curves: Curves, split: str) -> Floats:
        state = best_state(curves)
        return share(
            final_effect(curves, split, state, control), final_effect(curves, split, state, "shift")
        )

    return ratio


def p_value(curves: Curves, split: str, states: Sequence[str]) -> Floats:
    """Return the p value of the shift among random directions of equal length, (B,), all equal.

    It is (1 + the number of draws with at least its effect) / (1 + the number of draws): Phipson
    and Smyth, "Permutation p-values should never be zero", 2010. Of several states, the largest
    effect of any is compared with the largest of each draw.
    """
    drawn = [_draws(curves, split, state) for state in states]
    n = min(map(len, drawn))  # there are more draws in the layer that is judged
    if not n:
        raise MissingError("there are no random directions")
    shifts = [final_effect(curves, split, state, "shift") for state in states]
    largest = max(float(shift[0]) for shift in shifts)
    exceeding = int(np.sum(np.max([draws[:n] for draws in drawn], axis=0) >= largest))
    return np.full(len(shifts[0]), (1 + exceeding) / (1 + n))


def judged_p_value(curves: Curves, split: str) -> Floats:
    """Return the p value in the best layer, which was chosen without effects.

    MissingError if it could not be below `SIGNIFICANCE`.
    """
    state = best_state(curves)
    n = len(_draws(curves, split, state))
    if 1 / (1 + n) >= SIGNIFICANCE:
        least = round(1 / SIGNIFICANCE)
        raise MissingError(f"{n} random directions are too few: at least {least}")
    return p_value(curves, split, [state])


def _draws(curves: Curves, split: str, state: str) -> Floats:
    """Return the effect of each random direction at the last checkpoint with edits, (R,)."""
    key = curves.split_names[split], state, "random", OF_ABLE
    draws = effects_of(curves).draws.get(key)
    return draws[-1] if draws else np.empty(0)


#: Thresholds were set before the seeds that docs/results/interventions.md reports were edited.
# fmt: off
USE_RULES = (
    Rule("used", normalised, above=0.2, splits=UNSEEN,
         statistic="answers that follow a shift, from random directions (0) to a patch (1)",
         reason="twice what counts as hardly; one vector per pair of tasks need not do all "
                "that a real state of the other task does"),
    Rule("used", above_random, above=0.1, splits=UNSEEN,
         statistic="share of answers that follow a shift, minus that of random directions",
         reason="\"hardly\" means less than a tenth, also if a patch does little more"),
    *(Rule("used", control_share(control), below=0.5, splits=UNSEEN,
           statistic=f"share that follows {description}, divided by that of a shift",
           reason="most of the effect is then due to the direction to the other task"
                  + (f"; left out with fewer than {tasks} tasks" if tasks > 2 else ""),
           tasks=tasks)
      for control, (description, tasks) in CONTROLS.items()),
    Rule("used", judged_p_value, below=SIGNIFICANCE, splits=UNSEEN,
         statistic="p value of a shift among random directions",
         reason="one layer is tested, which was chosen without edits, on two splits"),
)
# fmt: on
