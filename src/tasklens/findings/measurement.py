"""Average a number over runs, with its interval, to state it and not to judge it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasklens.findings.choices import widened
from tasklens.findings.curves import Curves
from tasklens.scoring.bootstrap import Floats


@dataclass(frozen=True)
class Measurement:
    """A number of some runs: in each run, and the mean with its interval."""

    what: str
    split: str
    """The run's own name of the split."""
    each: tuple[float, ...]
    value: float
    """NaN if a run has no such number."""
    low: float
    high: float


def measured(
    what: str, split: str, number: Callable[[Curves], Floats], runs: Sequence[Curves], purpose: str
) -> Measurement:
    """Return the mean of a number, (B,) in each run, with its interval.

    ``purpose``, with ``what`` and the split, names the random numbers of the interval.
    """
    values = [number(curves) for curves in runs]
    each = tuple(float(v[0]) for v in values)
    if len(values) == 1 and len(values[0]) == 1:
        low = high = float("nan")
    else:
        low, high = widened(number, runs, purpose, what, split)
    name = runs[0].split_names.get(split, split)
    return Measurement(what, name, each, float(np.mean(each)), low, high)
