"""Ask whether the clusters are used: the rules of the finding "used", and what is measured beside.

The paper does not state that clusters are used, so that this group of checks stands apart from its
findings. Effects are those of unseen pairs and instructions at the last checkpoint with edits.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tasklens.findings.curves import Curves
from tasklens.findings.half_way import half_way
from tasklens.findings.measurement import Measurement, measured
from tasklens.findings.rules import INSTRUCTIONS, PAIRS, UNSEEN, Rule
from tasklens.findings.statistics import (
    MissingError,
    judged_layer,
    row_rank_correlation,
    share,
)
from tasklens.interventions.effects import ABLE, LEAST_WAY, NORMALISED, EffectCurves
from tasklens.scoring.bootstrap import Floats

#: The group of findings, which stands apart.
USE = {"used": "a state that is moved to another task's centroid gets that task's answer"}
#: Share of the answers that become those of the target, over pairs that the model can do.
BECOMES = "becomes" + ABLE
#: Edits that should change answers to those of the target less than a shift does, by description.
CONTROLS = {
    "within": "a direction within a task",
    "third": "the direction to a third task",
    "shuffled": "the direction between centroids of shuffled labels",
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


def course(curves: Curves, split: str, state: str, edit: str, metric: str = BECOMES) -> Floats:
    """Return an effect at every checkpoint with edits, (B, S)."""
    key = curves.split_names[split], state, edit, metric
    effect = effects_of(curves).effect.get(key)
    if effect is None:
        raise MissingError(f"run {curves.run!r} has no {edit} of {state} on {key[0]}")
    return effect


def final_effect(
    curves: Curves, split: str, edit: str, metric: str = BECOMES, state: str | None = None
) -> Floats:
    """Return an effect at the last checkpoint with edits, (B,), by default in the best layer."""
    effect = course(curves, split, state or best_state(curves), edit, metric)[:, -1]
    if np.isnan(effect[0]):
        raise MissingError("there is no pair whose two tasks the model can do")
    return effect


# --- The rules ---


def followed(curves: Curves, split: str) -> Floats:
    """Return the share of answers that become the target's by a shift, minus by random ones."""
    shift, random = (final_effect(curves, split, edit) for edit in ("shift", "random"))
    return shift - random


def normalised(curves: Curves, split: str) -> Floats:
    """Return the same as a share of what a state of the target task does."""
    effect = course(curves, split, best_state(curves), "shift", "becomes" + NORMALISED)[:, -1]
    if np.isnan(effect[0]):
        raise MissingError(
            f"a state of the other task moves less than {LEAST_WAY:.0%} of the answers"
        )
    return effect


def control_share(control: str) -> Callable[[Curves, str], Floats]:
    """Return the statistic: the effect of a control, divided by that of the shift."""

    def ratio(curves: Curves, split: str) -> Floats:
        part, whole = (final_effect(curves, split, edit) for edit in (control, "shift"))
        return share(part, whole)

    return ratio


def p_value(curves: Curves, split: str, states: Sequence[str] = ()) -> Floats:
    """Return the p value of the shift among random directions of equal length, (B,), all equal.

    It is (1 + the number of draws with at least its effect) / (1 + the number of draws): Phipson
    and Smyth, "Permutation p-values should never be zero", 2010. Of several states, the largest
    effect of any is compared with the largest of each draw. By default there is only the best
    layer, which was chosen without effects.
    """
    effects, name = effects_of(curves), curves.split_names[split]
    tested = states or [best_state(curves)]
    shifts = [final_effect(curves, split, "shift", state=state) for state in tested]
    each = [effects.draws.get((name, state, "random", BECOMES)) for state in tested]
    draws = [np.empty(0) if drawn is None else drawn[-1] for drawn in each]
    n = min(map(len, draws))  # more draws were made in the layer that is judged
    if not n:
        raise MissingError("there are no random directions")
    random = np.max([drawn[:n] for drawn in draws], axis=0)  # (n,)
    exceed = int(np.sum(random >= max(float(shift[0]) for shift in shifts)))
    return np.full(len(shifts[0]), (1 + exceed) / (1 + n))


def judged_p_value(curves: Curves, split: str) -> Floats:
    """Return the p value in the best layer; MissingError if the draws are too few to be below."""
    state, name = best_state(curves), curves.split_names[split]
    drawn = effects_of(curves).draws.get((name, state, "random", BECOMES), [np.empty(0)])[-1]
    if 1 / (1 + len(drawn)) >= SIGNIFICANCE:
        raise MissingError(
            f"{len(drawn)} random directions are too few: at least {round(1 / SIGNIFICANCE)}"
        )
    return p_value(curves, split)


#: Thresholds were set before the seeds that docs/interventions.md reports were edited.
# fmt: off
USE_RULES = (
    Rule("used", followed, above=0.1, splits=UNSEEN,
         statistic="share of answers that become the other task's by the shift, "
                   "minus by a random direction",
         reason="\"hardly\" means less than a tenth"),
    Rule("used", normalised, above=0.2, splits=UNSEEN,
         statistic="the same, divided by that of a state of the other task (the ceiling)",
         reason="twice what counts as hardly; one vector per pair of tasks need not do all "
                "that a whole state does"),
    *(Rule("used", control_share(control), below=0.5, splits=UNSEEN,
           statistic=f"share of answers that become the other task's by {description}, "
                     "divided by that of the shift",
           reason="most of the effect is then due to the direction to the other task")
      for control, description in CONTROLS.items()),
    Rule("used", judged_p_value, below=SIGNIFICANCE, splits=UNSEEN,
         statistic="p value of the shift among random directions",
         reason="a single layer is tested, on two splits"),
)
# fmt: on


# --- Measurements ---


def use_measurements(runs: Sequence[Curves], split: str = PAIRS) -> list[Measurement]:
    """Return how the effect of the shift is related to ARI and decodability, with intervals.

    ARI and linear probe are taken at the checkpoints with edits, so that all three courses are
    equally exact. Without interventions, or with another hidden state missing, what needs it is
    left out. Order: the layer with the largest normalised effect on ``split``, its effect there and
    on unseen instructions; rank correlations of effect and ARI; half-way steps and their
    differences.
    """
    if not all(curves.effects and split in curves.split_names for curves in runs):
        return []

    def of_layers(curves: Curves) -> Floats:
        layers = [s for s in curves.layers if s in effects_of(curves).states]
        effect = [final_effect(curves, split, "shift", state=s) for s in layers]
        ari = [shared(curves, curves.ari[split, s, "raw"])[:, -1] for s in layers]
        return row_rank_correlation(np.stack(effect, axis=1), np.stack(ari, axis=1))

    def effect(curves: Curves) -> Floats:
        return course(curves, split, best_state(curves), "shift")

    def ari(curves: Curves) -> Floats:
        return shared(curves, curves.ari[split, best_state(curves), "raw"])

    def probe(curves: Curves) -> Floats:
        key = split, best_state(curves)
        if key not in curves.decoded:
            raise MissingError(f"run {curves.run!r} has no linear probe of {key[1]}")
        return shared(curves, curves.decoded[key])

    def of_steps(curves: Curves) -> Floats:
        rows = effect(curves), ari(curves)
        if rows[0].shape[1] < 3:
            raise MissingError("two checkpoints have no order to compare")
        return row_rank_correlation(*rows)

    def half(of_course: Callable[[Curves], Floats]) -> Callable[[Curves], Floats]:
        return lambda curves: half_way(effects_of(curves).steps, of_course(curves))

    def later(of_course: Callable[[Curves], Floats]) -> Callable[[Curves], Floats]:
        return lambda curves: half(effect)(curves) - half(of_course)(curves)

    numbers: list[tuple[str, str, Callable[[Curves], Floats]]] = []
    largest = largest_state(runs, split)
    if largest:
        what = f"normalised effect of the shift in {largest}, the largest"
        numbers += [(what, on, of_largest(largest, on)) for on in (split, INSTRUCTIONS)]
    numbers += [
        ("rank correlation of effect and ARI, over layers", split, of_layers),
        ("rank correlation of effect and ARI, over steps in the best layer", split, of_steps),
        ("half way in steps, best layer: ARI", split, half(ari)),
        ("half way in steps, best layer: linear probe", split, half(probe)),
        ("half way in steps, best layer: effect", split, half(effect)),
        ("half way in steps, best layer: effect - ARI", split, later(ari)),
        ("half way in steps, best layer: effect - linear probe", split, later(probe)),
    ]
    measurements = []
    for what, on, number in numbers:
        try:
            measurements.append(measured(what, on, number, runs, "use"))
        except MissingError:
            continue
    return measurements


def shared(curves: Curves, y: Floats) -> Floats:
    """Return a curve, (B, S), at the checkpoints with edits only."""
    at = [curves.steps.index(step) for step in effects_of(curves).steps]
    return y[:, at]


def largest_state(runs: Sequence[Curves], split: str) -> str | None:
    """Return the layer with the largest normalised effect in the mean over runs, if there is any.

    It is not chosen in advance, so that its effect on the same split is the largest of several.
    """
    means = {}
    for state in runs[0].layers:
        try:
            values = [course(c, split, state, "shift", "becomes" + NORMALISED) for c in runs]
        except MissingError:
            continue
        means[state] = float(np.mean([v[0, -1] for v in values]))
    known = {state: mean for state, mean in means.items() if np.isfinite(mean)}
    return max(known, key=lambda state: known[state], default=None)


def of_largest(state: str, split: str) -> Callable[[Curves], Floats]:
    """Return the number: the normalised effect of the shift of a state at the last checkpoint."""
    return lambda curves: course(curves, split, state, "shift", "becomes" + NORMALISED)[:, -1]
