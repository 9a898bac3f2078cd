"""Compare the final scores of two runs, or of two checkpoints: what differs, and how surely."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tasklens.core.errors import InputError
from tasklens.findings.choices import all_with_choices
from tasklens.findings.curves import CHOICES, Curves
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.bootstrap import Floats, interval
from tasklens.scoring.score_table import layers_in_order

#: Stands for the best layer of each run, which may be two different ones.
BEST = "best"
#: Split, hidden state and space.
Key: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Difference:
    """A score that both runs have at their last checkpoints."""

    split: str
    layer: str
    """The hidden state; `BEST` is the best layer of each run. Empty for the model's accuracy."""
    space: str
    """"raw" or "tsne"; empty for the accuracies."""
    first: float
    """The score of the first run."""
    second: float
    """The score of the second run."""
    difference: float
    """Second minus first."""
    low: float
    high: float
    """The interval of the difference, over resampled instructions and the choice of near-best
    partitions; NaN without copies."""


@dataclass(frozen=True)
class Comparison:
    """The final scores of two runs."""

    ari: tuple[Difference, ...]
    """ARI against the task, by space, hidden state from the input up, and split; first in the space
    "raw", in the best layer of each run."""
    decoded: tuple[Difference, ...]
    """Accuracy of the linear probe, in the same order; empty unless it is known for both."""
    accuracy: tuple[Difference, ...]
    """The models' accuracy by split; empty unless it is known for both."""
    best: tuple[tuple[str, str] | None, tuple[str, str] | None]
    """Best hidden state of each run and its space, on the first shared split; see `best_layer`."""
    best_layers: tuple[str | None, str | None]
    """Best hidden state of each run in the space "raw", where `BEST` is measured."""


@dataclass(frozen=True)
class ComparedSteps:
    """Two checkpoints of one run, side by side."""

    names: tuple[str, str]
    """What the checkpoints are called: names of stages, or "step 100"."""
    steps: tuple[int, int]
    scores: Comparison


def compare_curves(first: Curves, second: Curves, *, paired: bool) -> Comparison:
    """Compare two runs, or two checkpoints, on the splits and hidden states that both have.

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
    extremes = _extreme_scores(first, second)
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
    if not finals[0].keys() & finals[1].keys():
        raise InputError(f"{first.run} and {second.run} share no hidden state that was scored")
    raw = [{key: y for key, y in final.items() if key[2] == "raw"} for final in finals]
    layers = [cell and cell[0] for cell in (_best(each, shared[0]) for each in raw)]
    others = [_other_scores(curves) for curves in (first, second)]
    order = ["", BEST, *layers_in_order({state for _, state, _ in (*finals[0], *others[0])})]

    def differences(*pairs: Sequence[dict[Key, Floats]]) -> Iterator[Difference]:
        """Yield the differences of the scores that both runs have, see `_difference`."""
        both = [
            [scores | _in_best(scores, layer) for scores, layer in zip(pair, layers, strict=True)]
            for pair in pairs
        ]
        keys = [key for key in both[0][0] if key in both[0][1] and key[0] in shared]
        keys.sort(key=lambda p: (p[2], order.index(p[1]), shared.index(p[0])))
        for key in keys:
            yield _difference(key, *([a[key], b[key]] for a, b in both), paired=paired)

    rest = [*differences(others)]
    return Comparison(
        ari=tuple(differences(finals, *extremes)),
        decoded=tuple(each for each in rest if each.layer),
        accuracy=tuple(each for each in rest if not each.layer),
        best=(_best(finals[0], shared[0]), _best(finals[1], shared[0])),
        best_layers=(layers[0], layers[1]),
    )


def _final_scores(curves: Curves) -> dict[Key, Floats]:
    """Return the ARI at the last checkpoint, (B,), by split, state and space, if it was taken."""
    return {
        (curves.split_names.get(split, split), state, space): y[:, -1]
        for (split, state, space), y in curves.ari.items()
        if np.isfinite(y[0, -1])
    }


def _other_scores(curves: Curves) -> dict[Key, Floats]:
    """Return the last accuracy of the linear probe, (B,), by split and state, and the model's."""
    last = {(split, state): y[:, -1] for (split, state), y in curves.decoded.items()}
    last |= {(split, ""): y[:, -1] for split, y in curves.accuracy.items()}
    names = curves.split_names
    return {
        (names.get(split, split), state, ""): y
        for (split, state), y in last.items()
        if np.isfinite(y[0])
    }


def _in_best(scores: Mapping[Key, Floats], layer: str | None) -> dict[Key, Floats]:
    """Return the scores of the best layer under the name `BEST`."""
    return {
        (split, BEST, space): y
        for (split, state, space), y in scores.items()
        if state == layer and space != "tsne"
    }


def _extreme_scores(first: Curves, second: Curves) -> list[list[dict[Key, Floats]]]:
    """Return the final scores, (B,), between which differences are greatest and least.

    One run has the near-best partitions with the lowest ARI, the other has those with the highest.
    The original instances come first. Empty if the partitions are not known.
    """
    if not (first.choices or second.choices):
        return []
    of_both = [
        {
            name: {key: np.append(y[-1], y[1:-1]) for key, y in _final_scores(choice).items()}
            for name, choice in zip(CHOICES, curves.choices, strict=True)
        }
        for curves in all_with_choices((first, second))
    ]
    return [
        [of_both[0][a], of_both[1][b]] for a, b in (("lowest", "highest"), ("highest", "lowest"))
    ]


def _difference(
    key: Key, kept: Sequence[Floats], *extremes: Sequence[Floats], paired: bool
) -> Difference:
    """Return the difference of two scores, (B,) each, with its interval, see `_extreme_scores`."""
    low = high = float("nan")
    if min(map(len, kept)) > 1:
        changes = [_change(*pair, paired=paired) for pair in (kept, *extremes)]
        ends = [interval([change], "compare", *key) for change in changes]
        ends += [(change[0], change[0]) for change in changes[1:]]
        low, high = float(min(ends)[0]), float(max(end for _, end in ends))
    first, second = (float(score[0]) for score in kept)
    return Difference(*key, first, second, second - first, low, high)


def _change(first: Floats, second: Floats, *, paired: bool) -> Floats:
    """Return the second score minus the first: as measured, then resampled."""
    n = min(len(first), len(second)) - 1
    # Copies of one number, shifted by one, resample independently of each other.
    copies = second[1 : n + 1] - (first[1 : n + 1] if paired else np.roll(first[1 : n + 1], 1))
    return np.append(second[0] - first[0], copies)


def _best(final: Mapping[Key, Floats], split: str) -> tuple[str, str] | None:
    scores = {key[1:]: float(y[0]) for key, y in final.items() if key[0] == split}
    return best_layer(scores)
