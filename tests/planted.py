"""Scores with a known answer, of a network of six blocks in which every finding holds or not; a
view with one; and instances of planted tasks."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasklens.core.seeds import stream
from tasklens.data.instances import Instances
from tasklens.data.synthetic import MEASURED
from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.report.view import MAPS, SplitView, TaskOverview, TaskView, View
from tasklens.scoring.cluster_tracking import follow
from tasklens.scoring.score_table import Row, accuracy_row, score_rows, to_table

#: From split, layer (0 .. 6) and step to an ARI.
Ari = Callable[[str, int, int], float]

BLOCKS = 6
LAST = 1600
#: 0, the powers of two below 200, and its multiples.
STEPS = checkpoint_steps(LAST, 200)
#: Nothing is put on top of a planted ARI that is larger.
NOISE = 0.003
CONTROLS = {"control:length": 0.1, "control:symbols": 0.2, "control:input": 0.0}
#: What the best layer ends at; layer 0 stays at `LOW`.
HIGH, LOW = 0.89, 0.05
#: How much lower unseen data score at the end.
GAPS = {"train_subset": 0.0, "val_subset": 0.03, "val_instruction_subset": 0.05}


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
    splits: tuple[str, ...] = tuple(MEASURED),
    controls: Mapping[str, float] = CONTROLS,
) -> pa.Table:
    """Return the scores of some seeds, with a little noise and what else a table holds.

    `wte` and `ln_f`, which are no layers, score highest of all from the start: nothing may take
    them for one.
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


def planted_instances(task: NDArray[np.int64], split: str = "s", **known: Any) -> Instances:
    """Return instances of these tasks, (N,); what is not given is the same for all of them."""
    same = np.zeros_like(task)
    usual = {"input": same, "output": None, "length": same, "symbol_counts": same[:, None]}
    return Instances(split=split, task=task, unit=same, **{**usual, **known})


# --- A view ---

VIEW_STEPS = (0, 10, 40)
#: Twelve points: three tasks of four, each with four inputs; the output is that of (task, input).
VIEW_TASK = np.repeat([0, 1, 2], 4)
VIEW_INPUT = np.tile([0, 1, 2, 3], 3)
MIXED = [0, 1, 2, 0] * 3
#: Clusters by split, state and checkpoint. At the end block 2 holds a point of the last task in the
#: second task's cluster, and on unseen pairs has a cluster to spare.
VIEW_CLUSTERS = {
    "train_subset": {
        "embed": [MIXED] * 3,
        "block1": [MIXED, MIXED, [0] * 4 + [1, 1, 2, 2] * 2],
        "block2": [MIXED, [1] * 8 + [0] * 4, [2] * 4 + [0] * 4 + [0] + [1] * 3],
    },
    "val_subset": {
        "embed": [MIXED] * 3,
        "block1": [MIXED, [0] * 4 + [1, 1, 2, 2] * 2, [0] * 4 + [1, 1, 2, 2] * 2],
        "block2": [MIXED, MIXED, [5] * 4 + [3] * 4 + [3, 8, 8, 9]],
    },
}
#: The ARI of a state's clusters by checkpoint; two cluster seeds lie 0.02 apart around it.
VIEW_ARI = {"embed": (0.0, 0.02, 0.04), "block1": (0.05, 0.3, 0.6), "block2": (0.1, 0.25, 0.81)}


def planted_view(*, outputs: bool = True) -> View:
    """Return a view of twelve points with known answers; without outputs, a probe's."""
    names = {
        "task": ("plus", "minus", "swap"),
        "input": ("a", "b", "c", "d"),
        "output": tuple(f"y{i}" for i in range(12)),
    }
    parts = {"task": VIEW_TASK, "input": VIEW_INPUT, "output": np.arange(12)}
    if not outputs:
        del names["output"], parts["output"]
    rows: list[Row] = []
    splits = {}
    for split, clusters in VIEW_CLUSTERS.items():
        shift = 0.0 if split == "train_subset" else 0.1
        followed = {s: follow(VIEW_STEPS, np.array(x), VIEW_TASK) for s, x in clusters.items()}
        random = stream(0, "planted places", split)
        places = random.normal(size=(2, len(clusters), 1, 12, 2)) * [[[1]], [[3]], [[9]]]
        splits[split] = SplitView(
            parts=parts,
            instruction=tuple(f"{split} {i}" for i in range(12)),
            answer=np.tile(np.arange(12) % 2, (3, 1)),
            right=np.tile(np.arange(12) % 3 == 0, (3, 1)) if outputs else None,
            maps={
                (which, state): places[m, i].astype(np.float32)
                for m, which in enumerate(MAPS)
                for i, state in enumerate(clusters)
            },
            shown_variance={state: np.array([0.1, 0.25, 0.5]) for state in clusters},
            assigned={state: tracks.assigned for state, tracks in followed.items()},
            followed=followed,
        )
        usual: dict[str, Any] = {"run": "seen", "seed": 3, "split": split, "k": 3, "position": ""}
        for state, values in VIEW_ARI.items():
            for (step, value), seed in itertools.product(
                zip(VIEW_STEPS, values, strict=True), (0, 1)
            ):
                place = {**usual, "step": step, "layer": state, "cluster_seed": seed}
                apart = 0.02 * seed - 0.01
                scores = {"ari": value + shift + apart, "ari_input": 0.5 - value / 2 + apart}
                scores |= {"ari_output": 0.2 + apart} if outputs else {}
                rows += score_rows(scores, **place)
                rows += score_rows({"ari": 0.9 + apart}, **place, space="tsne")
        control = usual | {"step": None, "layer": "control:length", "cluster_seed": 0}
        rows += score_rows({"ari": 0.7}, **control)
    same = np.array([[1, 0.25, 0], [0.25, 1, 0.5], [0, 0.5, 1]])
    return View(
        run="seen",
        seed=3,
        kind="run" if outputs else "probe",
        steps=VIEW_STEPS,
        states=tuple(VIEW_ARI),
        splits=splits,
        names=names,
        answers=("y0", "y1"),
        table=to_table(rows),
        world=TaskOverview(
            tasks=tuple(TaskView(name) for name in names["task"]),
            sizes={"tasks": 3},
            same_output=same if outputs else None,
            same_symbols=np.sqrt(same),
        ),
        settings="seed = 3\n",
        manifest={},
    )
