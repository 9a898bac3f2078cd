"""Define, for each finding, networks in which it is false, for `docs/scripts/error_rates.py`.

The plain null is what the finding denies. At the edge, one number decides the finding. Its mean
over networks is exactly its threshold, so that the finding is just not true. The spreads
between networks are about those of the runs in docs/results/reproduction.md, or larger: 0.14 for
the rise of the upper blocks and 0.15 for the bag of symbols. The ARIs of the best layer and of
`embed` have spreads of 0.01 near 1 and 0 there. Here it is that of the log odds, so that it is
larger halfway.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from rates.synthetic_runs import (
    FINAL,
    LAYERS,
    SIZES,
    START,
    STEPS,
    TIME,
    Truth,
    course,
    from_to,
    sound,
    synthetic_run,
    wander,
)
from tasklens.findings import one_model, statistics
from tasklens.findings.curves import Curves
from tasklens.findings.rules import INSTRUCTIONS, PAIRS, RULES, SEEN_AND_UNSEEN, Rule
from tasklens.findings.statistics import TRAIN
from tasklens.scoring.bootstrap import Floats

Random = np.random.Generator
N_LAYERS = len(LAYERS)
UPPER = LAYERS[-3:]
LOW = np.full(N_LAYERS, START)


@dataclass(frozen=True)
class Null:
    """Networks in which a finding is false, and some in which it is true by a stated effect."""

    finding: str
    plain: Callable[[Random], Truth]
    """Draw a network of the plain null."""
    denied: str
    """Description of the plain null."""
    number: Callable[[Curves, str], Floats]
    """The number that decides the finding, as in its rule."""
    planted: Callable[[Random, float], Truth]
    """Draw a network with about this number, or with another value that raises the number."""
    effects: tuple[float, float, float]
    """Three means of the number with which the finding is true."""
    values: tuple[float, ...]
    """Values from low to high, which give the number means on both sides of all that is wanted."""
    spread: float = 0.0
    """Standard deviation of the value between networks."""
    ends: bool = False
    """True if the finding is only of the first and the last checkpoint."""
    one_model: bool = False
    """True if the finding is one of a model that is no series, of which a table has one."""

    @property
    def runs(self) -> int:
        """Number of networks of a table: as in docs/results/reproduction.md, or one model."""
        return 1 if self.one_model else 3

    def run(self, truth: Truth, number: int, rng: Random, copies: int) -> Curves:
        """Return the scores of a network, with what the finding needs."""
        return synthetic_run(truth, number, rng, copies, ends=self.ends, one_model=self.one_model)

    @property
    def rules(self) -> list[Rule]:
        """The rules of the finding."""
        every = one_model.MODEL_RULES if self.one_model else RULES
        return [rule for rule in every if rule.finding == self.finding]

    @property
    def rule(self) -> Rule:
        """The rule of the number that decides."""
        (rule,) = (rule for rule in self.rules if rule.number is self.number)
        return rule

    @property
    def threshold(self) -> float:
        """The threshold of this rule."""
        return float(self.rule.above if np.isfinite(self.rule.above) else self.rule.below)


def number_of(description: str, rules: tuple[Rule, ...]) -> Callable[[Curves, str], Floats]:
    """Return the number of the rule whose statistic contains a description."""
    (number,) = (rule.number for rule in rules if description in rule.statistic)
    return number


def same(curves: Floats) -> Truth:
    """Return a network with the same true curves, (L, S), on trained data and on unseen pairs."""
    return Truth(dict.fromkeys(SEEN_AND_UNSEEN, curves))


def changed(rng: Random, rows: Mapping[str, Floats]) -> Truth:
    """Return a sound network with other curves, (S,), of some layers."""
    curves = sound(rng).ari[TRAIN].copy()
    for layer, row in rows.items():
        curves[LAYERS.index(layer)] = row
    return same(curves)


def untrained(rng: Random) -> Truth:
    """Return a network in which no finding is true: the ARI of all layers only fluctuates."""
    seen, unseen = (np.stack([START + wander(rng, 0.02) for _ in LAYERS]) for _ in range(2))
    return Truth({TRAIN: seen, PAIRS: seen, INSTRUCTIONS: unseen})


# --- The findings of a training ---


def no_rise(rng: Random) -> Truth:
    """Return a network whose upper blocks wander about an ARI of 0.3."""
    return changed(rng, dict.fromkeys(UPPER, 0.3 + wander(rng, 0.1)))


def rise(rng: Random, gain: float) -> Truth:
    """Return a network whose upper blocks rise gradually, by a gain."""
    return changed(rng, dict.fromkeys(UPPER, 0.2 + gain * course(rng)))


def ends_at(rng: Random, best: float) -> Truth:
    """Return a network whose best layer ends at an ARI, with no other that is about as high."""
    final = FINAL * best / FINAL[-1]
    final[1:-1] *= 0.8
    return same(from_to(LOW, np.maximum(final, START), course(rng)))


def ordered(rng: Random, strength: float, *, without_last: bool = False) -> Truth:
    """Return a network whose final levels follow depth more or less; a strength of 0 is chance.

    The levels are far from each other. Without the last block, that one stays low.
    """
    n = N_LAYERS - without_last
    level = np.argsort(np.argsort(strength * np.arange(n) / (n - 1) + rng.normal(size=n)))
    return same(from_to(LOW, np.append(FINAL[level], LOW[n:]), course(rng)))


def ordered_below(rng: Random, strength: float) -> Truth:
    """Return a network whose levels below the last block follow depth more or less."""
    return ordered(rng, strength, without_last=True)


def embed_moves(rng: Random) -> Truth:
    """Return a network whose `embed` rises like a block, to 0.42."""
    return changed(rng, {"embed": START + 0.35 * course(rng)})


def embed_at(rng: Random, ari: float) -> Truth:
    """Return a network whose `embed` has an ARI all the time."""
    return changed(rng, {"embed": np.full(len(STEPS), ari)})


def unrelated(rng: Random) -> Truth:
    """Return a network whose unseen data have curves of their own, which wander about 0.3."""
    ari = {split: np.tile(0.3 + wander(rng, 0.1), (N_LAYERS, 1)) for split in SIZES}
    return Truth(ari | {TRAIN: sound(rng).ari[TRAIN]})


def behind(rng: Random, gap: float) -> Truth:
    """Return a network whose unseen data end lower by a gap, in the best layer."""
    seen = sound(rng).ari[TRAIN]
    way = (seen - seen[:, :1]) / (seen[-1, -1] - seen[-1, 0])
    return Truth({split: seen - gap * way * (split != TRAIN) for split in SIZES})


def jump(rng: Random, share: float) -> Truth:
    """Return a network in which a share of an even rise is one jump instead."""
    even = np.clip((TIME - 0.15) / 0.6, 0, 1)
    way = (1 - share) * even + share * (np.arange(len(STEPS)) >= rng.integers(4, 7))
    return same(from_to(LOW, FINAL, way))


def from_symbols(rng: Random, share: float) -> Truth:
    """Return a network in which the bag of symbols has a share of the best layer's ARI."""
    truth = sound(rng)
    ari = share * truth.ari[TRAIN][-1, -1]
    curves = {split: truth.ari[split] for split in SEEN_AND_UNSEEN}
    return Truth(curves, truth.controls | {"control:symbols": ari})


# --- The findings of one model ---


def model(
    *, train: float = 0.97, unseen: float = 0.97, twin: float = START, accuracy: float = 0.9
) -> Truth:
    """Return one model, by the ARI of its best layer and of its twin's, and by its accuracy.

    The twin is the first checkpoint. The accuracy is that of the linear classifier.
    """
    ari = {}
    for split in SIZES:
        best = train if split == TRAIN else unseen
        curves = np.full((N_LAYERS, len(STEPS)), START)
        curves[:, -1] = np.maximum(FINAL * best / FINAL[-1], START)
        curves[-2, 0] = twin
        ari[split] = curves
    controls = {"control:symbols": 0.2, "control:length": 0.06, "control:input_class": 0.0}
    return Truth(ari, controls, dict.fromkeys(SIZES, accuracy))


# fmt: off
NULLS = (
    Null("emergence", no_rise, "the upper blocks wander about 0.3",
         statistics.upper_gain, rise, (0.34, 0.48, 0.62),
         values=(0, 0.1, 0.2, 0.3, 0.5, 0.7), spread=0.14),
    Null("saturation", lambda rng: ends_at(rng, 0.5), "the best layer ends at 0.5",
         statistics.best_final, lambda rng, odds: ends_at(rng, expit(odds)), (0.85, 0.9, 0.95),
         values=(0, 1, 1.5, 2, 3, 4), spread=0.6),
    Null("depth", lambda rng: ordered(rng, 0), "the layers are in random order",
         statistics.rank_with_layer, ordered, (0.8, 0.9, 0.97),
         values=(0, 1, 2, 3, 4, 6, 8, 12, 20), ends=True),
    Null("depth below the last block", lambda rng: ordered_below(rng, 0),
         "the layers are in random order",
         statistics.rank_with_layer_below, ordered_below, (0.8, 0.9, 0.97),
         values=(0, 1, 2, 3, 4, 6, 8, 12, 20), ends=True),
    Null("baseline", embed_moves, "`embed` rises to 0.42",
         statistics.embedding_final, lambda rng, odds: embed_at(rng, expit(odds)),
         (0.15, 0.1, 0.06),
         values=(-4, -3, -2.5, -2, -1.7, -1.4, -1.1, 0), spread=0.3),
    Null("generalisation", unrelated, "the curves of unseen data wander about 0.3",
         statistics.generalisation_gap, behind, (0.07, 0.05, 0.03),
         values=(-0.02, 0, 0.03, 0.06, 0.1, 0.15), spread=0.03),
    Null("gradual", lambda rng: jump(rng, 0.9), "nine tenths of the rise are one jump",
         statistics.largest_jump, jump, (0.45, 0.4, 0.3),
         values=(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), spread=0.05),
    Null("not from the inputs", lambda rng: from_symbols(rng, 1),
         "the bag of symbols is as high as the best layer",
         number_of("bag of symbols", RULES), from_symbols, (0.35, 0.2, 0.1),
         values=(0, 0.2, 0.4, 0.6, 0.8), spread=0.15, ends=True),
    Null("clusters", lambda _: model(train=START), "there are no clusters",
         one_model.best_ari, lambda _, ari: model(train=ari), (0.55, 0.6, 0.7),
         values=(0.3, 0.4, 0.5, 0.6, 0.8), one_model=True),
    Null("above the controls", lambda _: model(twin=0.97), "the untrained twin is as high",
         number_of("untrained twin", one_model.MODEL_RULES[:6]),
         lambda _, share: model(twin=share * 0.97), (0.45, 0.4, 0.3),
         values=(0.1, 0.3, 0.4, 0.5, 0.6, 0.8), one_model=True),
    Null("unseen data", lambda _: model(unseen=START), "unseen data have no clusters",
         one_model.best_ari, lambda _, ari: model(unseen=ari), (0.55, 0.6, 0.7),
         values=(0.3, 0.4, 0.5, 0.6, 0.8), one_model=True),
    Null("decodable", lambda _: model(accuracy=0.1), "the classifier guesses",
         one_model.decoded_way, lambda _, way: model(accuracy=0.1 + 0.9 * way), (0.55, 0.6, 0.7),
         values=(0.3, 0.5, 0.7, 0.9), one_model=True),
)
# fmt: on
