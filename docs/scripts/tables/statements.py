"""Test statements on the runs of sweeps by a number of each seed and its thresholds.

The statements and their thresholds come from one seed, `FIRST_SEED`, or from one run of another
world, which are no test of them. They were fixed before a number of another seed was looked at. A
statement holds if it does so in each other seed, fails if it does in none, and otherwise is
undecided.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tables.markdown import markdown, number
from tables.sweep_points import Points

#: The seed that the statements were read from, on other rows of training.
FIRST_SEED = 301
HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "fails", "undecided", "not run"


@dataclass(frozen=True)
class Statement:
    """A statement on the runs of a sweep, tested in each seed."""

    sweep: str
    """The file of the sweep, without its ending."""
    text: str
    what: str
    """The number that decides."""
    compute: Callable[[Points, int], float]
    """Return the number of one seed; NaN if a run that it needs is missing."""
    above: float | None = None
    below: float | None = None
    is_answer: bool = False
    """Whether the statement is among the answers, with which the page begins."""

    def holds(self, value: float) -> bool:
        """Return whether a number is on the right side of all thresholds."""
        low = -math.inf if self.above is None else self.above
        high = math.inf if self.below is None else self.below
        return low < value < high

    @property
    def limits(self) -> str:
        """The thresholds as text."""
        parts = [f"> {self.above:g}"] if self.above is not None else []
        return " and ".join([*parts, *([f"< {self.below:g}"] if self.below is not None else [])])


def verdict(holds: Iterable[bool]) -> str:
    """Return the verdict over runs, each of which holds or does not."""
    each = list(holds)
    if not each:
        return NOT_RUN
    return HOLDS if all(each) else UNDECIDED if any(each) else FAILS


def statements_table(statements: Sequence[Statement], points: Mapping[str, Points]) -> str:
    """Return each statement with its number in each seed, and its verdict; by sweep."""
    sweeps = {each.sweep for each in statements} & points.keys()
    seeds = sorted({seed for sweep in sweeps for seed in points[sweep].seeds})
    rows = []
    for statement in statements:
        values = values_of(statement, points)
        cells = [number(values.get(seed, math.nan)) for seed in seeds]
        limits = f"{statement.what}: {statement.limits}"
        rows.append([statement.sweep, statement.text, limits, *cells, judged(statement, values)])
    head = ["sweep", "statement", "should be", *(f"seed {seed}" for seed in seeds), "verdict"]
    return markdown(head, rows)


def values_of(statement: Statement, points: Mapping[str, Points]) -> dict[int, float]:
    """Return the number of each seed that has all runs which the statement needs."""
    sweep = points.get(statement.sweep)
    if sweep is None:
        return {}
    values = {seed: statement.compute(sweep, seed) for seed in sweep.seeds}
    return {seed: value for seed, value in values.items() if not math.isnan(value)}


def judged(statement: Statement, values: Mapping[int, float]) -> str:
    """Return the verdict on a statement over the seeds that it was not read from."""
    return verdict(statement.holds(x) for seed, x in values.items() if seed != FIRST_SEED)
