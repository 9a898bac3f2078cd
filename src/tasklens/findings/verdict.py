"""Judge the findings on runs: apply each rule to each split, and collect the checks.

docs/scripts/error_rates.py counts how often a finding that is false holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.messages import nearest, short
from tasklens.data.instances import UNSEEN_KINDS
from tasklens.findings.check import Check, Outcome, check_of, margin
from tasklens.findings.curves import Curves, units_of
from tasklens.findings.half_way import timings
from tasklens.findings.headline import headline_of
from tasklens.findings.location import Location, location_of
from tasklens.findings.measurement import Measurement
from tasklens.findings.one_model import MODEL_FINDINGS, MODEL_RULES, NO_ROOM
from tasklens.findings.rules import FINDINGS, RULES
from tasklens.findings.statistics import TRAIN
from tasklens.findings.unseen_measurements import unseen_measurements
from tasklens.findings.use import USE, USE_RULES
from tasklens.findings.use_measurements import Use, use_of

#: A model has learned its tasks if its accuracy has made this much of the way from chance to 1.
LEAST_SKILL = 0.1


@dataclass(frozen=True, repr=False)
class Verdict:
    """The checks of all findings on some runs.

    Examples
    --------
    >>> import tasklens as tl
    >>> verdict = tl.verify("runs/smoke")
    >>> verdict.holds, verdict.outcome("saturation")
    (False, 'fails')
    """

    runs: tuple[tuple[str, int], ...]
    """Name and seed of each run."""
    checks: tuple[Check, ...]
    """The checks of all findings, and those of `USE`, which stands apart."""
    over: str = ""
    """What the intervals vary: "runs", the units of `Curves.units`, such as "instructions", and
    "near-best starts", as far as known."""
    timings: tuple[Measurement, ...] = ()
    """The steps at which ARI and accuracy were half way; they are no finding and cannot fail."""
    doubt: str = ""
    """Why the scores mean nothing; empty unless a model has not learned its tasks."""
    use: Use = field(default_factory=Use)
    """The layers in which `USE` was tested, and what was measured beside its checks."""
    findings: Mapping[str, str] = field(default_factory=lambda: FINDINGS)
    """The sentence of each finding that was tested: the paper's of a series of checkpoints, those
    of `tasklens.findings.one_model` of one model."""
    location: Location | None = None
    """Where the clusters of one model are; None for a series."""
    unseen: tuple[Measurement, ...] = ()
    """What was measured on each split of unseen data; these numbers cannot fail."""
    unjudged: tuple[str, ...] = ()
    """Splits of unseen kinds, on which scores are measured and no finding is judged: nothing tells
    a model to which task they belong."""
    stages: Mapping[str, "Verdict"] = field(default_factory=dict)
    """The verdict on each stage of one model, by its name. The last of them has the checks that
    this verdict has. Empty unless there are several stages."""
    headline: str = ""
    """The result in one sentence."""
    title: str = ""
    """The result in some words."""

    @property
    def is_series(self) -> bool:
        """True if the runs are trainings; False if each is one model, with or without its twin."""
        return self.findings is FINDINGS

    def __repr__(self) -> str:
        lists = {
            outcome: [finding for finding in self.findings if self.outcome(finding) == outcome]
            for outcome in ("holds", "fails", "undecided")
        }
        holds = lists.pop("holds")
        others = [f"; {outcome}: {', '.join(names)}" for outcome, names in lists.items() if names]
        others += [
            f"; {finding}: {self.outcome(finding)}" for finding in USE if not self.use.untested
        ]
        return f"Verdict({len(holds)} of {len(self.findings)} findings hold{''.join(others)})"

    def checks_of(self, finding: str) -> list[Check]:
        """Return the checks of a finding; InputError for a name that is none."""
        known = (*self.findings, *USE)
        if finding not in known:
            raise InputError(
                f"no finding {short(finding)}; the nearest is {nearest(finding, known)!r}"
            )
        return [check for check in self.checks if check.rule.finding == finding]

    def outcome(self, finding: str) -> Outcome:
        """Return the verdict on a finding, which is the worst verdict of its checks."""
        outcomes = {check.verdict for check in self.checks_of(finding)} or {"undecided"}
        if "fails" in outcomes:
            return "fails"
        return "undecided" if "undecided" in outcomes else "holds"

    @property
    def holds(self) -> bool:
        """True if every finding holds; `USE` stands apart."""
        return all(self.outcome(finding) == "holds" for finding in self.findings)

    def deciding(self, finding: str) -> Check | None:
        """Return the check that decides a finding, which is the one with the least margin.

        If the finding holds, only the checks with the thresholds of the first one count: these are
        what its sentence is about. None if it has no check.
        """
        checks, outcome = self.checks_of(finding), self.outcome(finding)
        if outcome == "holds":
            first = checks[0].rule
            checks = [c for c in checks if c.rule.threshold == first.threshold]
        else:
            checks = [c for c in checks if c.verdict == outcome]
        return min(checks, key=margin, default=None)


def judge(runs: Sequence[Curves]) -> Verdict:
    """Check the findings on runs of one setting that differ in their seed.

    Runs of one model, with or without its untrained twin, have other findings than a series. Of
    several stages of one model, each is judged by itself, beside the same untrained twin.
    InputError if there is no run, a run is given twice, or it lacks `embed` or blocks.
    """
    names = tuple((curves.run, curves.seed) for curves in runs)
    if not runs:
        raise InputError("no run to verify: give at least one")
    for curves in runs:
        if names.count((curves.run, curves.seed)) > 1:
            raise InputError(f"run {curves.run!r} with seed {curves.seed} is given twice")
        if len(curves.layers) < 2 or curves.layers[0] != "embed":
            raise InputError(
                f"run {curves.run!r}: the layers are {curves.layers}: should be embed and blocks"
            )
    stages = {}
    for step, name in runs[0].stages.items() if len(runs[0].stages) > 1 else ():
        twin = [each for each in runs[0].steps if each not in runs[0].stages]
        stages[name] = _judge([curves.at(*twin, step) for curves in runs], name)
    return replace(stages[name], stages=stages) if stages else _judge(runs)


def _judge(runs: Sequence[Curves], stage: str = "") -> Verdict:
    """Judge runs of one model or its stage, or of a series of checkpoints each, see `judge`."""
    names = tuple((curves.run, curves.seed) for curves in runs)
    use, is_series = use_of(runs), any(curves.is_series for curves in runs)
    # If a split was not held out, or there are few tasks, some checks are left out.
    tested = [
        (rule, split)
        for rule in (RULES if is_series else MODEL_RULES)
        for split in rule.splits
        if all(split in curves.split_names for curves in runs)
    ]
    few = [rule for rule in USE_RULES if rule.tasks > use.n_tasks]
    tested += [(rule, split) for rule in USE_RULES if rule not in few for split in use.splits]
    checks = _with_room([check_of(rule, split, runs) for rule, split in tested])
    resampled = any(len(y) > 1 for curves in runs for y in curves.ari.values())
    over = ["runs"] * (len(runs) > 1) + units_of(runs) * resampled
    over += ["near-best starts"] * (bool(over) and any(curves.choices for curves in runs))
    unseen = tuple(unseen_measurements(runs))
    listed = " and ".join([", ".join(over[:-1]), over[-1]] if over[1:] else over)
    unjudged = tuple(split for split in UNSEEN_KINDS if any(split == key[0] for key in runs[0].ari))
    verdict = Verdict(names, checks, listed, use=use, unseen=unseen, unjudged=unjudged)
    if is_series:
        verdict = replace(verdict, timings=tuple(timings(runs)), doubt=_doubt(runs))
    else:
        verdict = replace(verdict, findings=MODEL_FINDINGS, location=location_of(runs))
    sentence, short_form = headline_of(verdict, runs, stage)
    return replace(verdict, headline=sentence, title=short_form)


def _with_room(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return checks without those that no model could pass, if their rule has another number."""
    decided = {check.rule for check in checks if not np.isnan(check.value)}
    return tuple(c for c in checks if c.note != NO_ROOM or c.rule not in decided)


def _doubt(runs: Sequence[Curves]) -> str:
    """Return, in a sentence, why the scores mean nothing, or an empty text.

    They mean nothing if a model has not learned its tasks, see `LEAST_SKILL`.
    """
    for curves in runs:
        if TRAIN not in curves.accuracy or np.isnan(curves.chance):
            continue
        accuracy, chance = curves.accuracy[TRAIN][0, -1], curves.chance
        if accuracy - chance < LEAST_SKILL * (1 - chance):
            return (
                f"After {curves.steps[-1]:,} steps the model of {curves.run} answers "
                f"{accuracy:.0%} of {curves.split_names[TRAIN]} ({chance:.0%} by chance), so that "
                "its scores mean nothing: the run only tries out the tool"
            )
    return ""
