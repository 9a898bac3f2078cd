"""Curves to a verdict: each rule checked on each split, with an interval.

A check is a number of each run, averaged over runs. It holds if its whole interval is on the right
side of its threshold, fails if all of it is on the wrong side, and is undecided otherwise.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.findings.curves import Curves
from tasklens.findings.half_way import Timing, timings
from tasklens.findings.rules import FINDINGS, RULES, Rule
from tasklens.findings.statistics import MissingError
from tasklens.scoring.bootstrap import CONFIDENCE, interval

Outcome: TypeAlias = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Check:
    """A rule applied to runs, on one split."""

    rule: Rule
    split: str
    each: tuple[float, ...]
    """The number of each run."""
    value: float
    """Their mean; NaN if something is missing."""
    low: float
    high: float
    """The interval around it."""
    verdict: Outcome
    note: str = ""
    """Why it is undecided, if its interval is not the reason."""


@dataclass(frozen=True)
class Verdict:
    """The checks of some runs.

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
    over: str = ""
    """What the intervals are over: "runs", "instructions", or both."""
    timings: tuple[Timing, ...] = ()
    """When each layer's clusters and the skill were half there: no finding, so nothing to fail."""

    def checks_of(self, finding: str) -> list[Check]:
        """Return the checks that a finding rests on."""
        return [check for check in self.checks if check.rule.finding == finding]

    def outcome(self, finding: str) -> Outcome:
        """Return the verdict on a finding: that of the worst of its checks."""
        outcomes = {check.verdict for check in self.checks_of(finding)} or {"undecided"}
        if "fails" in outcomes:
            return "fails"
        return "undecided" if "undecided" in outcomes else "holds"

    @property
    def holds(self) -> bool:
        """Whether every finding holds."""
        return all(self.outcome(finding) == "holds" for finding in FINDINGS)


def judge(runs: Sequence[Curves]) -> Verdict:
    """Check the findings on runs of one setting that differ in their seed.

    InputError if there is no run, one is given twice, or lacks the embedding or the layers above.
    """
    names = tuple((curves.run, curves.seed) for curves in runs)
    if not runs:
        raise InputError("no run to verify: give at least one")
    for curves in runs:
        if names.count((curves.run, curves.seed)) > 1:
            raise InputError(f"run {curves.run!r} with seed {curves.seed} is given twice")
        if len(curves.layers) < 2 or curves.layers[0] != "embed":
            raise InputError(
                f"run {curves.run!r}: its layers are {curves.layers}: should be embed and blocks"
            )
    # A split that was never held out has no check.
    checks = tuple(
        _check(rule, split, runs)
        for rule in RULES
        for split in rule.splits
        if all(split in curves.split_names for curves in runs)
    )
    resampled = any(len(y) > 1 for curves in runs for y in curves.ari.values())
    over = ["runs"] * (len(runs) > 1) + ["instructions"] * resampled
    return Verdict(names, checks, " and ".join(over), tuple(timings(runs)))


def _check(rule: Rule, split: str, runs: Sequence[Curves]) -> Check:
    nan, name = float("nan"), runs[0].split_names[split]
    try:
        values = [rule.number(curves, split) for curves in runs]
    except MissingError as missing:
        return Check(rule, name, (), nan, nan, nan, "undecided", str(missing))
    each = tuple(float(v[0]) for v in values)
    if len(values) == 1 and len(values[0]) == 1:
        note = "no interval: a single table of scores; give the run's directory or more seeds"
        return Check(rule, name, each, each[0], nan, nan, "undecided", note)
    low, high = interval(values, rule.finding, rule.statistic, split)
    outcome: Outcome = "undecided"
    if low > rule.above and high < rule.below:
        outcome = "holds"
    elif high <= rule.above or low >= rule.below:
        outcome = "fails"
    return Check(rule, name, each, float(np.mean(each)), low, high, outcome)


def verdict_json(verdict: Verdict) -> bytes:
    """Return the verdict as JSON; what is missing or not finite is null."""
    content = {
        "holds": verdict.holds,
        "runs": [{"run": run, "seed": seed} for run, seed in verdict.runs],
        "confidence": CONFIDENCE,
        "intervals over": verdict.over,
        "findings": [
            {
                "finding": finding,
                "sentence": sentence,
                "verdict": verdict.outcome(finding),
                "checks": [_check_data(check) for check in verdict.checks_of(finding)],
            }
            for finding, sentence in FINDINGS.items()
        ],
        "half way": [
            {"what": t.what, "split": t.split, "each": t.each, "step": t.value}
            | {"low": t.low, "high": t.high}
            for t in verdict.timings
        ],
    }
    return (json.dumps(_finite(content), indent=1, allow_nan=False) + "\n").encode()


def _check_data(check: Check) -> dict[str, Any]:
    numbers = {"value": check.value, "low": check.low, "high": check.high}
    limits = {"above": check.rule.above, "below": check.rule.below}
    return {
        "statistic": check.rule.statistic,
        "split": check.split,
        "verdict": check.verdict,
        "each": check.each,
        **(numbers | limits),
        "reason": check.rule.reason,
        "note": check.note,
    }


def _finite(content: Any) -> Any:
    """Return the same with None in the place of numbers that JSON does not have."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def verdict_text(verdict: Verdict, *, checks: bool = True) -> str:
    """Return the verdict as plain text: what `tasklens verify` prints.

    Without its checks it is one line per finding: what `tasklens run` ends with.
    """
    outcomes = [verdict.outcome(finding) for finding in FINDINGS]
    counts = ", ".join(f"{outcomes.count(o)} {o}" for o in ("holds", "fails", "undecided"))
    total = f"{len(outcomes)} findings: {counts}"
    lines = []
    for finding, sentence in FINDINGS.items():
        lines.append(f"{verdict.outcome(finding):<9}  {finding}: {sentence}")
        if checks:
            lines += [*_check_lines(verdict.checks_of(finding)), ""]
    if verdict.timings and checks:
        split = split_name(verdict.timings[0].split)
        lines.append(f"Half way from first to last, in steps, on {split}:")
        for t in verdict.timings:
            lines.append(f"               {t.what:<20} {t.value:8.0f}  [{t.low:.0f}, {t.high:.0f}]")
        lines.append("")
    if len(verdict.runs) == 1 and verdict.over:
        total += "; of one run: another seed may differ by more than these intervals say"
    return "\n".join([*lines, total, ""])


def _check_lines(checks: Sequence[Check]) -> list[str]:
    if not checks:
        return ["             no data were held out"]
    lines, rule = [], None
    for check in checks:
        if check.rule is not rule:
            rule = check.rule
            lines.append(f"             {rule.statistic} ({rule.threshold})")
        about = check.note or f"{check.value:6.2f}  [{check.low:.2f}, {check.high:.2f}]"
        lines.append(f"               {split_name(check.split):<20} {check.verdict:<9}  {about}")
    return lines
