"""Read the training steps in names, and find those that a series lacks."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, takewhile

#: What precedes a step in a longer name, the surest first: stage1-step-5000-tokens11B is step 5000.
_BEFORE_STEP = (r"(?:global[-_]?)?steps?", r"checkpoints?|ckpt|iter|iteration|ba")
#: Above every step: a longer number in a name is something else.
TOO_LARGE = 10**15


def step_in(name: str) -> int | None:
    """Return the step in a name; a number alone is one, unless it may be a commit or a date."""
    steps = (number_after(before, name) for before in _BEFORE_STEP)
    alone = int(name) if re.fullmatch(r"\d{1,6}", name) else None
    return next((step for step in steps if step is not None), alone)


def without_step(name: str) -> str:
    """Return what a name has beside its step: stage1 of stage1-step-5000."""
    for before in _BEFORE_STEP:
        if number_after(before, name) is not None:
            return re.sub(_after(before), "", name, flags=re.IGNORECASE).strip("-_")
    return "" if step_in(name) is not None else name


def number_after(before: str, name: str) -> int | None:
    """Return the only number in a name after a word, such as step-5 or STEP_5; 5k is none."""
    numbers = {int(digits) for digits in re.findall(_after(before), name, re.IGNORECASE)}
    return numbers.pop() if len(numbers) == 1 and max(numbers) < TOO_LARGE else None


def _after(before: str) -> str:
    """Return the pattern of a number after a word."""
    return rf"(?<![a-z])(?:{before})[-_=]?([0-9]{{1,18}})(?![0-9a-z]|\.\d)"


def missing_steps(steps: Sequence[int]) -> list[int]:
    """Return the steps that a series lacks, judged by the steps that it has.

    If most gaps between neighbours are equal, steps are missing in a gap of a multiple of that.
    """
    steps = steps[_leading_powers(steps) :]
    gaps = [b - a for a, b in pairwise(steps)]
    if not gaps:
        return []
    spacing, n = Counter(gaps).most_common(1)[0]
    if n < 2 or 2 * n < len(gaps):
        return []
    anchor = steps[gaps.index(spacing)]
    return [
        step
        for a, gap in zip(steps[:-1], gaps, strict=True)
        if (a - anchor) % spacing == 0 and gap % spacing == 0
        for step in range(a + spacing, a + gap, spacing)
    ]


def _leading_powers(steps: Sequence[int]) -> int:
    """Return the number of leading steps that are 0 or consecutive powers of two: 0, 1, 2, 4."""
    begin = 1 if steps and steps[0] == 0 else 0
    n = len([*takewhile(lambda pair: pair[1] == 2 ** pair[0], enumerate(steps[begin:]))])
    return begin + n - 1 if begin + n > 2 else 0
