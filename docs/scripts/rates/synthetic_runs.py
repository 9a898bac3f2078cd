"""Draw synthetic runs whose true curves are known, for `docs/scripts/error_rates.py`.

A run has ten tasks, `embed` and six blocks, and 13 checkpoints. Its true curves are ARIs by split,
layer and checkpoint. They are turned into clusters: of each instruction, all instances are in the
cluster of its task, or all are in a cluster at random. The ARI is then the square of the share of
the first, so that this share is the root of the true ARI. Which instructions are sorted depends on
the instruction, on the layer, and a little on the checkpoint. So the scores of a run vary by the
drawn instructions, together in all cells, as those of real runs do. There are no near-best starts,
which can only widen an interval.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tasklens.data.names import UNTRAINED
from tasklens.findings.curves import Curves
from tasklens.findings.rules import INSTRUCTIONS, PAIRS
from tasklens.findings.statistics import TRAIN
from tasklens.scoring.bootstrap import Floats, resampling_weights

TASKS = 10
LAYERS = ("embed", *(f"block{i}" for i in range(1, 7)))
STEPS = tuple(range(0, 4801, 400))
#: Time of each checkpoint, 0 .. 1.
TIME = np.array(STEPS) / STEPS[-1]
#: Instructions per task and instances per instruction, about as many as in the preset `default`.
#: Unseen pairs have the trained instructions.
SIZES = {TRAIN: (50, 2), PAIRS: (50, 2), INSTRUCTIONS: (15, 7)}
#: An instruction has a standing in the order of being sorted. This share of it is the same in all
#: layers, and these are drawn anew at each checkpoint: `embed` hardly changes in real runs.
SHARED, ANEW, ANEW_IN_EMBED = 0.5, 0.1, 0.001
#: ARI of every layer before training, and at its end.
START = 0.07
FINAL = np.array([0.07, 0.12, 0.30, 0.55, 0.80, 0.92, 0.97])


@dataclass(frozen=True)
class Truth:
    """One synthetic network, without the noise of the drawn instructions."""

    ari: dict[str, Floats]
    """ARI by split, (L, S) each."""
    controls: dict[str, float] = field(
        default_factory=lambda: {
            "control:length": 0.06,
            "control:symbols": 0.2,
            "control:input": 0.0,
        }
    )
    """ARI of each control, in all splits."""
    decoded: dict[str, float] = field(default_factory=dict)
    """Accuracy of the linear classifier in one model, by split."""


def course(rng: np.random.Generator) -> Floats:
    """Return a gradual course from 0 to 1, (S,), whose middle differs between runs."""
    middle, width = 0.4 + 0.03 * rng.normal(), 0.07
    y = 1 / (1 + np.exp(-(TIME - middle) / width))
    return (y - y[0]) / (y[-1] - y[0])  # type: ignore[no-any-return]


def wander(rng: np.random.Generator, spread: float) -> Floats:
    """Return a course that only fluctuates, (S,): a random walk, whose last value has a spread."""
    walk = np.cumsum(rng.normal(size=len(STEPS)))
    return spread * (walk - walk[0]) / np.sqrt(len(STEPS) - 1)  # type: ignore[no-any-return]


def from_to(start: Floats, end: Floats, way: Floats) -> Floats:
    """Return the curves, (L, S), of layers that go from a start to an end, (L,), on a way, (S,)."""
    return start[:, None] + (end - start)[:, None] * way


def sound(rng: np.random.Generator) -> Truth:
    """Return a network in which every finding holds."""
    final = FINAL + 0.01 * rng.normal(size=len(LAYERS))
    curves = from_to(np.full(len(LAYERS), START), final, course(rng))
    curves[0] = START
    return Truth(dict.fromkeys(SIZES, curves))


def synthetic_run(
    truth: Truth,
    number: int,
    rng: np.random.Generator,
    copies: int,
    *,
    ends: bool = False,
    one_model: bool = False,
) -> Curves:
    """Return the scores of a network, as measured and in resampled copies.

    Splits that the truth lacks are left out, and with ``ends`` all checkpoints but the first and
    the last. With ``one_model``, these are an untrained twin and the model.
    """
    names = {0: UNTRAINED} if one_model else {}
    kept = [0, len(STEPS) - 1] if ends or one_model else list(range(len(STEPS)))
    curves = Curves(
        f"run{number}",
        number,
        tuple(STEPS[s] for s in kept),
        step_names=names,
        majority=dict.fromkeys(SIZES, 1 / TASKS),
    )
    seen, unseen = (SIZES[split][0] * TASKS for split in (TRAIN, INSTRUCTIONS))
    group = np.concatenate([np.arange(seen) % TASKS, TASKS + np.arange(unseen) % TASKS])
    weights = resampling_weights(group, copies, rng)  # (1 + copies, U)
    standing = rng.normal(size=len(group))
    for split in truth.ari:
        instances = SIZES[split][1]
        units = slice(seen, None) if split == INSTRUCTIONS else slice(seen)
        ari = np.concatenate(
            [truth.ari[split][:, kept].ravel(), list(truth.controls.values())]
        )  # (P,)
        parts = _parts(ari, split, standing[units], len(kept), rng)
        scores = ari_of_instructions(group[units] % TASKS, parts, instances, weights[:, units])
        for i, layer in enumerate(LAYERS):
            curves.ari[split, layer, "raw"] = scores[:, i * len(kept) : (i + 1) * len(kept)]
        for name, of_control in zip(
            truth.controls, scores[:, -len(truth.controls) :].T, strict=True
        ):
            curves.controls[split, name] = of_control
        if split in truth.decoded:
            put_decoded(curves, truth.decoded[split], split, weights[:, units], rng)
    return curves


def put_decoded(
    curves: Curves, accuracy: float, split: str, weights: Floats, rng: np.random.Generator
) -> None:
    """Put the accuracy of the linear classifier into the curves of one model and its twin.

    That of the twin is by chance. Instances of an instruction are alike: its own accuracy is drawn.
    """
    instructions, instances = weights.shape[1], SIZES[split][1]
    mean = np.array([1 / TASKS, accuracy])
    own = rng.beta(4 * mean, 4 * (1 - mean), size=(instructions, 2))
    right = rng.binomial(instances, own)  # (U, S)
    decoded = weights @ right / (weights.sum(axis=1, keepdims=True) * instances)
    curves.decoded.update({(split, layer): decoded for layer in LAYERS})


def _parts(
    ari: Floats, split: str, standing: Floats, steps: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the cluster of each instruction, (P, U), in the cells and controls of a split.

    ``ari``, (P,), has the layers with their steps, and then the controls. ``standing``, (U,), is a
    normal variable: the standing of each instruction in the order of being sorted.
    """
    n_controls = len(ari) - steps * len(LAYERS)
    layer = np.append(np.repeat(np.arange(len(LAYERS)), steps), len(LAYERS) + np.arange(n_controls))
    shape = layer[-1] + 1, len(standing)
    anew = np.where(layer == 0, ANEW_IN_EMBED, ANEW)[:, None]
    of_layer = _mixed(standing, rng.normal(size=shape), SHARED)[layer]
    order = _mixed(
        of_layer, rng.standard_normal((len(ari), len(standing)), dtype=np.float32), 1 - anew
    )
    wrong = rng.integers(TASKS, size=shape)[layer]
    instructions, instances = SIZES[split]
    # Instances of an instruction are together in any case.
    within = (instances - 1) / (instructions * instances - 1)
    share = np.sqrt(np.clip((ari - within) / (1 - within), 0, 1))
    return np.where(order < ndtri(share)[:, None], np.arange(len(standing)) % TASKS, wrong)


def ari_of_instructions(
    task: NDArray[np.int64], parts: NDArray[np.int64], instances: int, weights: Floats
) -> Floats:
    """Return what `Resampling.ari` does if the instances of an instruction are one cluster, (B, P).

    Many partitions at once are about 20 times faster. ``task`` is that of each instruction, (U,),
    ``parts`` are its clusters, (P, U), each with as many instances; ``weights`` are (B, U).
    """
    n = np.zeros((TASKS, len(weights), len(parts), TASKS), dtype=np.float32)
    for t in range(TASKS):
        inside = np.flatnonzero(task == t)
        of_part = parts[:, inside].T[:, :, None] == np.arange(TASKS)  # (U of task, P, K)
        drawn = weights[:, inside].astype(np.float32)
        n[t] = (drawn @ of_part.reshape(len(inside), -1).astype(np.float32)).reshape(n[t].shape)
    # Pairs of an instruction with itself, see `Resampling._pairs`.
    own = (weights * (1 - weights)).sum(axis=1) * instances**2 - weights.sum(axis=1) * instances

    def pairs(sizes: NDArray[np.float32], *axes: int) -> Floats:
        squares = np.square(sizes).sum(axis=axes, dtype=np.float64)
        sums: Floats = squares * instances**2 + own.reshape(-1, *[1] * (squares.ndim - 1))
        return sums

    both, of_cluster = pairs(n, 0, 3), pairs(n.sum(axis=0), 2)  # (B, P)
    of_task = pairs(n[:, :, 0].sum(axis=2), 0)[:, None]  # (B, 1)
    every = (weights.sum(axis=1) ** 2 * instances**2 + own)[:, None]
    expected = of_task * of_cluster / every
    return (both - expected) / ((of_task + of_cluster) / 2 - expected)  # type: ignore[no-any-return]


def _mixed(x: Floats, y: NDArray[np.floating], share: float | Floats) -> Floats:
    """Return a mixture of two normal variables, which is one again; the first has a share of it."""
    mixture: Floats = np.sqrt(share) * x + np.sqrt(1 - share) * y
    return mixture
