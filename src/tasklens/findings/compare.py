"""Compare the final scores of two runs: what differs, by how much, and how surely."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasklens.core.errors import InputError
from tasklens.findings.curves import Curves
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.bootstrap import Floats, interval
from tasklens.scoring.score_table import layers_in_order


@dataclass(frozen=True)
class Difference:
    """A score that both runs have at their last checkpoints."""

    split: str
    layer: str
    """The hidden state; empty for the accuracy of the model."""
    space: str
    """"raw" or "tsne"; empty for the accuracy of the model."""
    first: float
    """The score of the first run."""
    second: float
    """The score of the second run."""
    difference: float
    """Second minus first."""
    low: float
    high: float
    """The interval of the difference, over resampled instructions; NaN without copies."""


@dataclass(frozen=True)
class Comparison:
    """The final scores of two runs."""

    ari: tuple[Difference, ...]
    """ARI against the task, by space, hidden state from the input up, and split."""
    accuracy: tuple[Difference, ...]
    """The models' accuracy by split; empty unless it is known for both."""
    best: tuple[tuple[str, str] | None, tuple[str, str] | None]
    """Best hidden state of each run and its space, on the first shared split; see `best_layer`."""


def compare_curves(first: Curves, second: Curves, *, paired: bool) -> Comparison:
    """Compare two runs on the splits and hidden states that both have.

    Parameters
    ----------
    first, second : Curves
        Scores by step, with B resampled copies each. Splits are matched by the runs' own names.
    paired : bool
        True if copy b of both runs resamples the same instructions in the same way. This is so if
        they were measured on the same instances with the same seed. Otherwise the copies are
        combined as independent ones.

    Raises
    ------
    InputError
        If the runs share no split, or no hidden state that was scored at the end of both.
    """
    finals = [_final_scores(curves) for curves in (first, second)]
    splits = [
        [split for split in curves.split_names.values() if any(p[0] == split for p in final)]
        for curves, final in zip((first, second), finals, strict=True)
    ]
    shared = [split for split in splits[0] if split in splits[1]]
    if not shared:
        names = [", ".join(each) for each in splits]
        raise InputError(
            f"{first.run} and {second.run} share no split: one has {names[0]}, the other {names[1]}"
        )
    keys = [key for key in finals[0] if key in finals[1]]
    if not keys:
        raise InputError(f"{first.run} and {second.run} share no hidden state that was scored")
    order = layers_in_order({state for _, state, _ in keys})
    keys.sort(key=lambda p: (p[2], order.index(p[1]), shared.index(p[0])))
    accuracies = [
        {curves.split_names.get(split, split): y[:, -1] for split, y in curves.accuracy.items()}
        for curves in (first, second)
    ]
    return Comparison(
        tuple(_difference(p, finals[0][p], finals[1][p], paired=paired) for p in keys),
        tuple(
            _difference((split, "", ""), *(each[split] for each in accuracies), paired=paired)
            for split in shared
            if all(split in each for each in accuracies)
        ),
        (_best(finals[0], shared[0]), _best(finals[1], shared[0])),
    )


def _final_scores(curves: Curves) -> dict[tuple[str, str, str], Floats]:
    """Return the ARI at the last checkpoint, (B,), by split, state and space, if it was taken."""
    return {
        (curves.split_names.get(split, split), state, space): y[:, -1]
        for (split, state, space), y in curves.ari.items()
        if np.isfinite(y[0, -1])
    }


def _difference(
    key: tuple[str, str, str], first: Floats, second: Floats, *, paired: bool
) -> Difference:
    split, state, space = key
    low = high = float("nan")
    if len(first) > 1 and len(second) > 1:
        n = min(len(first), len(second)) - 1
        # Copies of one number, shifted by one, resample independently of each other.
        copies = second[1 : n + 1] - (first[1 : n + 1] if paired else np.roll(first[1 : n + 1], 1))
        measured = second[:1] - first[:1]
        low, high = interval([np.append(measured, copies)], "compare", *key)
    change = float(second[0] - first[0])
    return Difference(split, state, space, float(first[0]), float(second[0]), change, low, high)


def _best(final: Mapping[tuple[str, str, str], Floats], split: str) -> tuple[str, str] | None:
    scores = {key[1:]: float(y[0]) for key, y in final.items() if key[0] == split}
    return best_layer(scores)
