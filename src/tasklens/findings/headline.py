"""Write the result of a verdict as one sentence, which states no more than the checks support."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tasklens.core.text import visible
from tasklens.findings.check import Check, Outcome, check_of
from tasklens.findings.curves import Curves
from tasklens.findings.one_model import ARI_OF_BEST
from tasklens.findings.rules import INSTRUCTIONS, PAIRS, UNSEEN, Rule
from tasklens.findings.statistics import TRAIN, MissingError
from tasklens.findings.use import BECOMES, USE, best_state, course
from tasklens.interventions.effects import FLOOR

if TYPE_CHECKING:
    from tasklens.findings.verdict import Verdict

#: An ARI above the first is called sorted by task, above the second sorted in part: the thresholds
#: of the findings "saturation" and "clusters".
SORTED, IN_PART = 0.8, 0.5
#: What a layer sorts, by split of a training run.
SORTED_THINGS = {
    TRAIN: "the pairs of training",
    PAIRS: "unseen pairs of instruction and input",
    INSTRUCTIONS: "unseen instructions",
}
#: Findings that compare the best layer with controls, of a series and of one model.
AGAINST_CONTROLS = ("not from the inputs", "above the controls")


class Headline(NamedTuple):
    """The result of a verdict in a sentence, and in some words."""

    sentence: str
    short: str


def headline_of(verdict: "Verdict", runs: Sequence[Curves], stage: str = "") -> Headline:
    """Return the result of runs and the verdict on them, of a stage of one model if it has a name.

    It states the ARI of the best layer at the last checkpoint, on the first unseen split if there
    is one. The layer is chosen on the first split.
    """
    if verdict.doubt:
        model = "the model has" if len(runs) == 1 else "a model has"
        return Headline(f"Not tested: {model} not learned its tasks.", "not tested")
    try:
        layers = [best_state(curves) for curves in runs]
        split = next((each for each in UNSEEN if _has(runs, each, layers)), TRAIN)
        sorts, in_part = (_check(runs, split, above) for above in (SORTED, IN_PART))
    except MissingError as missing:
        return Headline(f"Not tested: {missing}.", "not tested")
    if np.isnan(in_part.value):
        return Headline(f"Not tested: {in_part.note or 'the best layer has no ARI'}.", "not tested")
    names = [layer for layer in runs[0].layers if layer in layers]
    best = f"the best layer, {' or '.join(names)},"
    begun = stage or runs[0].is_series
    layer = best if names[1:] else names[0] if begun else f"layer {names[0]}"
    things, number = _things(runs, split), _number(in_part, runs)
    if sorts.verdict == "holds":
        text, short = f"{layer} sorts {things} by task ({number})", "sorts by task"
    elif in_part.verdict == "holds":
        at = "only" if sorts.verdict == "fails" else "at least"
        text, short = f"{layer} sorts {things} by task {at} in part ({number})", "sorts in part"
    elif in_part.verdict == "fails":
        text, short = f"{best} does not sort {things} by task ({number})", "does not sort by task"
    else:
        text = f"it is undecided whether {best} sorts {things} by task ({number})"
        short = "undecided"
    is_positive = in_part.verdict == "holds"
    if is_positive:
        text += _controls(verdict)
    if split == TRAIN:
        text += "; nothing was tested on unseen data"
    text += _use(verdict, runs, split, is_positive=is_positive)
    since = _since(runs, split, layers, SORTED if sorts.verdict == "holds" else IN_PART)
    begin = _begin(runs, since if is_positive else None, stage)
    sentence = f"{begin}{text}."
    ari = f"{names[0] if len(names) == 1 else 'best layer'} {short} (ARI {in_part.value:z.2f})"
    return Headline(
        sentence[0].upper() + sentence[1:], f"{visible(stage)}: {ari}" if stage else ari
    )


def _has(runs: Sequence[Curves], split: str, layers: Sequence[str]) -> bool:
    return all(
        (split, layer, "raw") in curves.ari for curves, layer in zip(runs, layers, strict=True)
    )


def _check(runs: Sequence[Curves], split: str, above: float) -> Check:
    """Check the ARI of the best layer; its interval is that of the findings of one model."""

    def ari(curves: Curves, split: str) -> np.ndarray:
        return curves.final(split, best_state(curves))

    finding = "clusters" if split == TRAIN else "unseen data"
    return check_of(Rule(finding, ari, ARI_OF_BEST, "", above=above), split, runs)


def _things(runs: Sequence[Curves], split: str) -> str:
    """Return what is sorted: pairs or instructions of a training run, otherwise prompts."""
    name = runs[0].split_names[split]
    if name == split:
        return SORTED_THINGS[split]
    return f"{'the' if split == TRAIN else 'the held-out'} prompts of {visible(name)}"


def _number(check: Check, runs: Sequence[Curves]) -> str:
    text = f"ARI {check.value:z.2f}"
    if len(runs) > 1:
        text += f" [{check.low:z.2f}, {check.high:z.2f}], mean over {len(runs)} runs"
    if families := len(runs[0].families):
        text += f", mean over {families} families of tasks"
    return text


def _controls(verdict: "Verdict") -> str:
    """Return what limits the statement: a control that is not far below the layer."""
    (finding,) = (each for each in AGAINST_CONTROLS if each in verdict.findings)
    outcome, check = verdict.outcome(finding), verdict.deciding(finding)
    if outcome == "fails" and check:
        control = check.rule.statistic.removeprefix("ARI of ").partition(", divided by")[0]
        return f", but {control} comes to at least half of that"
    undecided = ", and it is undecided whether all controls stay below half of that"
    return undecided if outcome == "undecided" else ""


def _use(verdict: "Verdict", runs: Sequence[Curves], split: str, *, is_positive: bool) -> str:
    """Return whether the model uses its clusters, with the share of answers that follow a shift."""
    uses, models = ("uses", "the model") if len(runs) == 1 else ("use", "the models")
    use = verdict.use
    if use.untested:
        return f"; whether {models} {uses} this was not tested" if is_positive else ""
    on = split if split in use.splits else use.splits[0]
    follow, floor = (_effect(runs, on, edit) for edit in ("shift", FLOOR))
    followed = ""
    if follow is not None:
        followed = f"if a state is moved to another task's centroid, {follow} of the answers follow"
        followed += f" (random directions: {floor})" if floor is not None else ""
        followed += "" if on == split else f" on {visible(runs[0].split_names[on])}"
    (finding,) = USE
    outcome: Outcome = verdict.outcome(finding)
    if not is_positive:
        return f"; {followed}" if followed else ""
    text = {
        "holds": f", and {models} {uses} it",
        "fails": f"; the test of whether {models} {uses} it fails",
        "undecided": f"; it is undecided whether {models} {uses} it",
    }[outcome]
    return f"{text}: {followed}" if followed else text


def _effect(runs: Sequence[Curves], split: str, edit: str) -> str | None:
    """Return the mean share of answers that follow an edit of the best layer; None if not known."""
    with contextlib.suppress(MissingError):
        each = [course(run, split, best_state(run), edit, BECOMES)[0, -1] for run in runs]
        if np.isfinite(each).all():
            return f"{100 * np.mean(each):.0f} %"
    return None


def _since(runs: Sequence[Curves], split: str, layers: Sequence[str], above: float) -> int | None:
    """Return the index of the checkpoint from which on the ARI of each run is above a threshold.

    None if it is not at the last checkpoint, or if the runs have other checkpoints.
    """
    if len({curves.steps for curves in runs}) > 1:
        return None
    each = [c.ari[split, layer, "raw"][0] for c, layer in zip(runs, layers, strict=True)]  # (S,)
    below = np.flatnonzero(~(np.min(each, axis=0) > above))
    since = int(below[-1]) + 1 if len(below) else 0
    return since if since < len(each[0]) else None


def _begin(runs: Sequence[Curves], since: int | None, stage: str) -> str:
    """Return how the sentence begins: from when on, or for which stage."""
    if not runs[0].is_series:
        return f"in {visible(stage)}, " if stage else ""
    steps = runs[0].steps
    if len({curves.steps[-1] for curves in runs}) > 1:
        return "at the last checkpoint, "
    if since is None or since == len(steps) - 1:
        return f"at the last checkpoint, step {steps[-1]:,}, "
    return f"from step {steps[since]:,} on, " if since else "at each checkpoint, "
