"""Check a rule on runs: the mean of a number, with its interval, against a threshold.

A check is a number of each run, averaged over runs. It holds if its whole interval is on the right
side of its threshold. It fails if the whole interval is on the wrong side. Otherwise it is
undecided. The interval contains the choice among near-best partitions, and Student's t interval of
the runs' numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from tasklens.findings.choices import widened
from tasklens.findings.curves import Curves
from tasklens.findings.rules import Rule
from tasklens.findings.statistics import MissingError
from tasklens.scoring.bootstrap import interval_of_runs

Outcome: TypeAlias = Literal["holds", "fails", "undecided"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Check:
    """A rule that was applied to runs, on one split."""

    rule: Rule
    split: str
    each: tuple[float, ...]
    """The number of each run."""
    value: float
    """The mean of the numbers; NaN if something is missing."""
    low: float
    high: float
    """The interval of the mean, from `low` to `high`."""
    verdict: Outcome
    note: str = ""
    """The reason why the check is undecided, if it is not the interval."""


def check_of(rule: Rule, split: str, runs: Sequence[Curves]) -> Check:
    """Apply a rule to runs, on one split."""
    nan, name = float("nan"), runs[0].split_names[split]
    try:
        values = [rule.number(curves, split) for curves in runs]
    except MissingError as missing:
        return Check(rule, name, (), nan, nan, nan, "undecided", str(missing))
    each = tuple(float(v[0]) for v in values)
    if len(values) == 1 and len(values[0]) == 1:
        note = "no interval: a single table of scores; give the run's directory or more seeds"
        return Check(rule, name, each, each[0], nan, nan, "undecided", note)
    purpose = (rule.finding, rule.purpose or rule.statistic, split)
    low, high = widened(lambda curves: rule.number(curves, split), runs, *purpose)
    ends = interval_of_runs(each)
    if not np.isnan(ends[0]):
        low, high = min(low, ends[0]), max(high, ends[1])
    outcome: Outcome = "undecided"
    if low > rule.above and high < rule.below:
        outcome = "holds"
    elif high <= rule.above or low >= rule.below:
        outcome = "fails"
    return Check(rule, name, each, float(np.mean(each)), low, high, outcome)


def margin(check: Check) -> float:
    """Return how far inside its threshold a check's interval ends; least if it has no number."""
    margin = min(check.low - check.rule.above, check.rule.below - check.high)
    return -np.inf if np.isnan(margin) else margin
