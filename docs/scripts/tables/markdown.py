"""Write numbers and tables as Markdown."""

import math
from collections.abc import Sequence

#: The number of runs from which on a cell has a mean and a range instead of each value.
MANY = 3
MISSING = "-"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float, digits: int = 2) -> str:
    """Return a number; NaN is missing."""
    if math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if digits == 0 else f"{value:z.{digits}f}"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the values of one or two runs, or the mean and the range of more.

    A run that is missing is NaN. It is shown among few runs, and left out of a mean.
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return MISSING
    if len(known) < MANY:
        return ", ".join(number(value, digits) for value in values)
    mean = math.fsum(known) / len(known)
    low, mid, high = (number(value, digits) for value in (min(known), mean, max(known)))
    return f"{mid} ({low} to {high})"


def named_seeds(seeds: Sequence[int]) -> str:
    """Return seeds as text, in the order of the values in a cell."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def not_run(command: str) -> str:
    """Return what stands in place of the table of a study that was not run."""
    return f"*Not run. The command: `{command}`*"
