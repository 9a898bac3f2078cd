"""Compute the effects of edits: which answers become the target's, stay, or become a third task's.

A pair is an instance and a target task, see `Counterfactuals.pairs`. An instance without an own
answer makes no pair with a task whose answer the model gives without an edit; such an answer stays
if it is that of the model, and a change of logits is not known. An effect is averaged over the
targets of each instance first, then over instances, which are resampled by instruction.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tasklens.core.text import without_slash
from tasklens.data.counterfactuals import of_own
from tasklens.data.edited_prompts import Floats, Ints
from tasklens.interventions.cell import Arrays, EditKey
from tasklens.interventions.settings import UNTARGETED
from tasklens.scoring.score_table import layers_in_order

Doubles: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: What is counted or averaged over pairs.
EFFECTS = ("becomes", "stays", "third", "logit_change")
#: The suffix of an effect over pairs whose two tasks the model can do.
ABLE = "_able"
#: The suffix of an effect as a share of the way from random directions, 0, to the full patch, 1.
NORMALISED = "_normalised"
#: The edits between which effects are normalised.
FLOOR, CEILING = "random", "patch"
#: Below this share of answers that the full patch moves, there is nothing to divide up.
LEAST_WAY = 0.1


@dataclass(frozen=True)
class SplitPairs:
    """The N edited prompts of a split at one checkpoint and position, and the pairs they make."""

    tasks: Ints  # (T,)
    family: Ints  # (T,), between whose tasks states are moved
    index: Ints  # (N,), rows among the measured instances of the split
    own: Ints  # (N,)
    unit: Ints  # (N,) or (N, 2)
    answers: Ints  # (N, T)
    pairs: Bools  # (N, T)
    able: Bools  # (N, T), pairs of which the model does both tasks rightly without an edit
    clean_answer: Ints  # (N,)
    clean_likelihood: Floats  # (N, T)

    @classmethod
    def of_arrays(cls, arrays: Arrays, split: str, position: str) -> "SplitPairs":
        """Return the pairs of a split from the arrays of a checkpoint."""

        def get(name: str) -> npt.NDArray[Any]:
            return arrays[f"{split}/{without_slash(position)}/{name}"]

        tasks = get("tasks").astype(np.int64)
        family = arrays.get(f"{split}/{without_slash(position)}/family", np.zeros_like(tasks))
        pairs, able, own = get("pairs") > 0, get("able") > 0, get("own").astype(np.int64)
        answers, clean = get("answers").astype(np.int64), get("clean/answer").astype(np.int64)
        # Without an own answer, that of the model takes its place.
        pairs &= (own >= 0)[:, None] | (answers != clean[:, None])
        return cls(
            tasks=tasks,
            family=family,
            index=get("index").astype(np.int64),
            own=own,
            unit=get("unit").astype(np.int64),
            answers=answers,
            pairs=pairs,
            able=pairs & able & of_own(able, own, True)[:, None],
            clean_answer=clean,
            clean_likelihood=get("clean/likelihood").astype(np.float32),
        )

    def effects(self, edit: str, answer: Ints, likelihood: Floats) -> dict[str, Doubles]:
        """Return each of `EFFECTS` by pair, (R, N, T); NaN where nothing was run or there is none.

        ``answer`` and ``likelihood`` are what `tasklens.interventions.cell.intervene` returns. R is
        1 for a targeted edit, otherwise the number of draws.
        """
        mine = np.where(
            self.own >= 0, of_own(self.answers, self.own, -1), self.clean_answer
        )  # (N,)
        is_answer = (answer[..., None] == self.answers).any(axis=-1) & (answer >= 0)  # of any task
        if edit not in UNTARGETED:
            given, of_task = answer.T[None], is_answer.T[None]  # (1, N, T)
            ran = np.isfinite(likelihood[..., 1]).T[None]
            gain = (likelihood[..., 1] - likelihood[..., 0]).T[None]
        else:
            given, of_task = answer[:, :, None], is_answer[:, :, None]  # (R, N, 1)
            ran = np.isfinite(likelihood)
            gain = (
                likelihood - np.stack([of_own(y, self.own, np.nan) for y in likelihood])[..., None]
            )
        before = self.clean_likelihood - of_own(self.clean_likelihood, self.own, np.nan)[:, None]
        becomes = given == self.answers
        stays = given == mine[:, None]
        values = {
            "becomes": becomes,
            "stays": stays,
            "third": of_task & ~becomes & ~stays,
            "logit_change": gain.astype(np.float64) - before,
        }
        counted = self.pairs & ran
        return {name: np.where(counted, value, np.nan) for name, value in values.items()}


def edit_name(key: EditKey) -> str:
    """Return the name of an edit with its strength, unless that is 1."""
    return key.edit if key.alpha == 1 else f"{key.edit}@{key.alpha:g}"


def splits_in(arrays: Arrays, position: str) -> dict[str, SplitPairs]:
    """Return the pairs of each split that was edited at a position of a checkpoint."""
    splits = [
        name.split("/")[0] for name in arrays if name.endswith(f"/{without_slash(position)}/own")
    ]
    return {split: SplitPairs.of_arrays(arrays, split, position) for split in splits}


def effects_in(
    arrays: Arrays, pairs: SplitPairs, split: str, position: str
) -> Iterator[tuple[str, str, dict[str, Doubles]]]:
    """Yield the state, the edit with its strength, and the effects by metric, (R, N, T) each.

    Metrics are those of `EFFECTS`, over all pairs and over those of `ABLE`; an effect is NaN
    outside them. Behind each shift comes ``third``, which runs nothing of its own.
    """
    for name in arrays:
        key, kind = EditKey.parse(name) or (None, "")
        if key is None or kind != "answer" or key[:2] != (split, position):
            continue
        answer, edit = arrays[name], edit_name(key)
        effects = pairs.effects(key.edit, answer, arrays[key.name("likelihood")])
        yield key.state, edit, _with_able(effects, pairs)
        if key.edit == "shift":
            third = {"becomes": _third(pairs, answer)}
            yield key.state, "third" + edit.removeprefix("shift"), _with_able(third, pairs)


def _with_able(effects: dict[str, Doubles], pairs: SplitPairs) -> dict[str, Doubles]:
    able = {name + ABLE: np.where(pairs.able, value, np.nan) for name, value in effects.items()}
    return effects | able


def in_order(states: Iterable[str]) -> tuple[str, ...]:
    """Return hidden states from the input up, and those that were edited together behind them."""
    every = set(states)
    single = layers_in_order(state for state in every if "+" not in state)
    return (*single, *sorted(state for state in every if "+" in state))


def _third(pairs: SplitPairs, answer: Ints) -> Doubles:
    """Return how often a shift to another task than the target gives the target's answer.

    ``answer``, (T, N), is that of the shift to each task. Returns (1, N, T): the mean over the
    other tasks than the own one and the target, for which there is a pair with another answer.
    """
    n, n_tasks = pairs.answers.shape
    hits, counts = np.zeros((n, n_tasks)), np.zeros((n, n_tasks))
    for c in range(n_tasks):
        ran = pairs.pairs[:, c : c + 1] & (pairs.answers[:, c : c + 1] != pairs.answers)
        hits += ran & (answer[c][:, None] == pairs.answers)
        counts += ran
    share = np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)
    return np.where(pairs.pairs, share, np.nan)[None]


def over_targets(values: Doubles) -> Doubles:
    """Return the mean over the targets of each instance, (R, N), of (R, N, T); NaN without any."""
    return _mean(values, axis=2)


def mean_of_draws(each: Doubles) -> Doubles:
    """Return the mean over instances of each draw, (R,), of (R, N); NaN without any."""
    return _mean(each, axis=1)


def _mean(values: Doubles, axis: int) -> Doubles:
    """Return the mean of what is not NaN, along an axis."""
    n = np.isfinite(values).sum(axis=axis)
    return np.divide(np.nansum(values, axis=axis), n, out=np.full(n.shape, np.nan), where=n > 0)  # type: ignore[no-any-return]


def normalised(
    effects: Mapping[tuple[str, str, str], Doubles],
) -> dict[tuple[str, str, str], Doubles]:
    """Return effects as a share of the way from random directions to the full patch.

    The share is NaN if the full patch moves hardly more answers than random directions do: see
    `LEAST_WAY`.
    """
    shares = {}
    for (state, edit, name), value in effects.items():
        metric = name.removesuffix(ABLE)
        if name == metric or metric not in ("becomes", "logit_change"):
            continue
        ends = [effects.get((state, end, "becomes" + ABLE)) for end in (FLOOR, CEILING)]
        if ends[0] is None or ends[1] is None:
            continue
        floor, ceiling = (effects[state, end, name] for end in (FLOOR, CEILING))
        way = ceiling - floor
        is_way = (way > 0) & bool(ends[1][0] - ends[0][0] >= LEAST_WAY)
        shares[state, edit, metric + NORMALISED] = np.divide(
            value - floor, way, out=np.full(len(way), np.nan), where=is_way
        )
    return shares
