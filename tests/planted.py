"""Scores of a network of six blocks in which each finding holds or fails as planted.

There are also effects of edits in such a network, and instances of planted tasks.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasklens.core.seeds import stream
from tasklens.data.instances import JUDGED, UNSEEN_KINDS, Instances
from tasklens.findings.curves import Curves, curves_of_table
from tasklens.interventions.effect_curves import EffectCurves
from tasklens.interventions.effects import LEAST_WAY
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.scoring.score_table import Row, accuracy_row, score_rows, to_table

#: From split, layer (0 .. 6) and step to an ARI.
Ari = Callable[[str, int, int], float]

BLOCKS = 6
LAST = 1600
#: 0, the powers of two below 200, and its multiples.
STEPS = checkpoint_steps(LAST, 200)
#: Largest noise on a planted ARI.
NOISE = 0.003
#: The splits with edits.
UNSEEN = ("val_subset", "val_instruction_subset")
CONTROLS = {"control:length": 0.1, "control:symbols": 0.2, "control:input": 0.0}
#: Final ARI of the best layer; `embed` stays at `LOW`.
HIGH, LOW = 0.89, 0.05
#: How much lower unseen data score at the end.
GAPS = {"train_subset": 0.0, "val_subset": 0.03, "val_instruction_subset": 0.05}
#: On unseen kinds nothing forms clusters by task.
GAPS |= dict.fromkeys(UNSEEN_KINDS, HIGH - LOW)


def risen(step: int) -> float:
    """Return the planted course, 0 .. 1: a straight rise from step 100 to 1000."""
    return min(max(step - 100, 0) / 900, 1.0)


def final(split: str, layer: int) -> float:
    """Return the planted ARI at the end: each layer higher than the one below."""
    return LOW + (HIGH - LOW - GAPS[split]) * layer / BLOCKS


def sound(split: str, layer: int, step: int) -> float:
    """Return the ARI of a network in which every finding holds."""
    return LOW + (final(split, layer) - LOW) * risen(step)


def planted_table(
    ari: Ari = sound,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: tuple[int, ...] = STEPS,
    splits: tuple[str, ...] = JUDGED,
    controls: Mapping[str, float] = CONTROLS,
) -> pa.Table:
    """Return the scores of some seeds, with a little noise and all other columns.

    `wte` and `ln_f` are no layers. They score highest from the start, so that a test shows if they
    are taken for layers.
    """
    rows: list[Row] = []
    names = ["embed", *(f"block{i + 1}" for i in range(BLOCKS))]
    for seed in seeds:
        random = stream(seed, "planted noise")
        for split in splits:
            base: dict[str, Any] = {"run": "planted", "seed": seed, "split": split}
            base |= {"k": 10, "cluster_seed": 0}
            for name, value in controls.items():
                rows += score_rows({"ari": value}, **base, step=None, position="", layer=name)
            for step in steps:
                values = {name: ari(split, i, step) for i, name in enumerate(names)}
                for name, value in {"wte": 0.99, **values, "ln_f": 0.99}.items():
                    scores = {"ari": value + NOISE * random.uniform(-1, 1)}
                    scores |= {"ari_shuffled": NOISE * random.uniform(-1, 1), "inertia": 1e6}
                    rows += score_rows(scores, **base, step=step, position="input", layer=name)
                rows.append(accuracy_row("planted", seed, step, split, risen(step)))
    return to_table(rows)


#: From edit, layer (0 .. 6) and step to the share of answers that follow.
Effect = Callable[[str, int, int], float]
#: The final share by layer; a patch moves too little in the lowest for a share of it.
SHIFT = (0.0, 0.01, 0.05, 0.3, 0.7, 0.6, 0.4)
PATCH = (0.0, 0.02, 0.08, 0.4, 0.9, 0.95, 1.0)
#: The shares of controls, and the largest of the random directions.
CONTROL = {"random": 0.01, "within": 0.02, "third": 0.04, "shuffled": 0.03}
LARGEST_DRAW = 0.02
#: The checkpoints with edits; random directions, of which more are drawn in the last block.
EDITED = (0, *range(200, LAST + 1, 200))
DRAWS, TEST_DRAWS = 20, 199


def used(edit: str, layer: int, step: int) -> float:
    """Return the effect in a network that uses its clusters, from some time after they form."""
    if edit == "shift":
        return SHIFT[layer] * min(max(step - 400, 0) / 1200, 1.0)
    return PATCH[layer] * risen(step) if edit == "patch" else CONTROL[edit]


def with_effects(
    curves: Curves,
    effect: Effect = used,
    *,
    draws: int = TEST_DRAWS,
    largest: float = LARGEST_DRAW,
    splits: tuple[str, ...] = UNSEEN,
    n_tasks: int = 10,
) -> Curves:
    """Return curves with planted effects of edits and accuracies of a linear probe.

    The random directions have effects that are evenly spaced up to the largest one.
    """
    effects: dict[tuple[str, str, str, str], NDArray[np.float64]] = {}
    drawn = {}
    for split, (i, layer) in itertools.product(splits, enumerate(curves.layers)):
        of_edit = {
            edit: np.array([[effect(edit, i, step) for step in EDITED]])
            for edit in ("shift", "patch", *CONTROL)
        }
        way = of_edit["patch"] - of_edit["random"]
        share = np.full_like(way, np.nan)
        gain = of_edit["shift"] - of_edit["random"]
        np.divide(gain, way, out=share, where=way >= LEAST_WAY)
        effects[split, layer, "shift", "becomes_normalised"] = share
        for metric in ("becomes", "becomes_able"):
            effects |= {(split, layer, edit, metric): y for edit, y in of_edit.items()}
            counts = [DRAWS] * (len(EDITED) - 1) + [draws if i == BLOCKS else DRAWS]
            key = split, layer, "random", metric
            drawn[key] = [np.linspace(0, largest, n) for n in counts]
        curves.decoded[split, layer] = np.array([[min(step / 400, 1.0) for step in curves.steps]])
    layers = tuple(curves.layers)
    able = {(split, step): 90 for split in splits for step in EDITED}
    edited = EffectCurves(
        *(curves.run, curves.seed, "input", EDITED, layers, effects, drawn),
        n_pairs=dict.fromkeys(splits, 100),
        n_able=able,
        n_tasks=n_tasks,
    )
    return replace(curves, effects=edited)


def planted_runs(effect: Effect = used, ari: Ari = sound, **what: Any) -> list[Curves]:
    """Return the curves of three seeds with planted scores and effects; see `with_effects`."""
    return [with_effects(c, effect, **what) for c in curves_of_table(planted_table(ari))]


def near_square(width: float = 1.003) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return states near the corners of a rectangle of height 1, (80, 2), and their corners, (80,).

    Two clusters are the left and the right half (``corner // 2``), or the upper and the lower half
    (``corner % 2``). The inertia of the second is higher by about twice the excess of the width.
    """
    corner = np.arange(80) % 4
    x = np.stack([width * (corner // 2), corner % 2], axis=1)
    return (x + 0.01 * stream(0, "square").normal(size=x.shape)).astype(np.float32), corner


def with_band(
    table: pa.Table, low: Callable[[Row], float], high: Callable[[Row], float]
) -> pa.Table:
    """Return a table in which each clustered row of `ari` has a band, from functions of the row."""
    rows: list[Row] = table.to_pylist()
    for row in table.to_pylist():
        if row["metric"] == "ari" and row["layer"] != "control:input":
            once = row | {"cluster_seed": None}
            rows += [once | {"metric": "ari_low", "value": low(row)}]
            rows += [once | {"metric": "ari_high", "value": high(row)}]
    return to_table(rows)


def planted_instances(task: NDArray[np.int64], split: str = "s", **known: Any) -> Instances:
    """Return instances of these tasks, (N,); other columns are constant unless given."""
    same = np.zeros_like(task)
    usual = {"input": same, "output": None, "length": same, "symbol_counts": same[:, None]}
    return Instances(split=split, task=task, unit=same, **{**usual, **known})
