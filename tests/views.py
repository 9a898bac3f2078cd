"""A view with known answers: twelve points of three tasks, each with four inputs."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasklens.core.seeds import stream
from tasklens.report.edits_view import NOT_RUN, EditsView, Moves
from tasklens.report.view import MAPS, PLANES, UNKNOWN, SplitView, TaskOverview, TaskView, View
from tasklens.scoring.cluster_tracking import follow
from tasklens.scoring.score_table import Row, score_rows, to_table

VIEW_STEPS = (0, 10, 40)
VIEW_TASK = np.repeat([0, 1, 2], 4)
VIEW_INPUT = np.tile([0, 1, 2, 3], 3)
MIXED = [0, 1, 2, 0] * 3
#: Clusters by split, hidden state and checkpoint. At the end of block2, a point of the last task is
#: in the second task's cluster. On `val_subset` a cluster has no task.
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
#: More answers than a byte has values.
ANSWERS = tuple(f"y{i}" for i in range(400))


#: Effects on `val_subset` at the checkpoints with edits, by edit, metric and hidden state.
EDITED_STEPS = (10, 40)
VIEW_EFFECTS: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("shift", "becomes"): {"embed": (0.0, 0.01), "block1": (0.2, 0.4), "block2": (0.1, 0.02)},
    ("shift", "becomes_able"): {"embed": (0.0, 0.02), "block1": (0.25, 0.5), "block2": (0.1, 0.03)},
    ("shift", "stays"): {"embed": (0.9, 0.95), "block1": (0.5, 0.3), "block2": (0.6, 0.9)},
    ("shift", "logit_change"): {"embed": (0.0, 0.5), "block1": (3.0, 9.0), "block2": (1.0, 2.0)},
    ("shift", "becomes_normalised"): {"block1": (0.5, 0.75)},
    ("patch", "becomes"): {"embed": (0.0, 0.02), "block1": (0.4, 0.6), "block2": (0.8, 1.0)},
    ("random", "becomes"): {"embed": (0.0, 0.0), "block1": (0.01, 0.02), "block2": (0.0, 0.01)},
    ("repair", "right"): {"block1": (0.3, 0.7)},
}
#: The edited points, one of the first task and two of the second, and the right answers of each.
MOVED_POINTS, MOVED_ANSWERS = [1, 5, 7], ((0, 1, 2), (3, 4, UNKNOWN), (6, 7, 6))
#: The answers after the move to each task at the last checkpoint: the own one is not run.
MOVED_TO = {
    "block1": ((NOT_RUN, 1, 0), (3, NOT_RUN, NOT_RUN), (8, NOT_RUN, UNKNOWN)),
    "block2": ((NOT_RUN, 2, 2), (4, NOT_RUN, NOT_RUN), (6, NOT_RUN, 6)),
}
VIEW_CENTROIDS = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 1.5]])


def planted_edits() -> EditsView:
    """Return edits of the view, on `val_subset`, of two hidden states at two checkpoints."""
    usual = {"run": "seen", "seed": 3, "split": "val_subset", "position": "input", "target": ""}
    rows: list[dict[str, Any]] = [
        usual | {"step": step, "state": "", "edit": "", "alpha": None, "draw": None}
        | {"metric": metric, "value": float(value)}
        for step in EDITED_STEPS
        for metric, value in (("pairs", 5), ("pairs_able", 3))
    ]  # fmt: skip
    for (edit, metric), by_state in VIEW_EFFECTS.items():
        for state, values in by_state.items():
            for step, value in zip(EDITED_STEPS, values, strict=True):
                key = usual | {"step": step, "state": state, "edit": edit, "metric": metric}
                alpha = 1.0 if edit == "shift" else None
                rows += [key | {"alpha": alpha, "draw": None, "value": value}]
                # What is not the mean at strength 1 is not shown.
                rows += [key | {"alpha": alpha, "draw": None, "value": 9.0, "target": "plus"}]
                if edit == "shift":
                    rows += [key | {"alpha": 0.5, "draw": None, "value": 9.0}]
                if edit == "random":
                    rows += [key | {"alpha": None, "draw": draw, "value": 9.0} for draw in (0, 1)]
    frame = pd.DataFrame(rows).astype({"step": "Int64", "draw": "Int64", "alpha": "float64"})
    answer = {
        state: np.stack([np.full((3, 3), NOT_RUN), np.array(last)])
        for state, last in MOVED_TO.items()
    }
    moves = Moves(
        point=np.array(MOVED_POINTS),
        tasks=np.arange(3),
        answers=ANSWERS[:9],
        expected=np.array(MOVED_ANSWERS),
        answer=answer,
        centroids={
            (plane, state): np.stack([VIEW_CENTROIDS, scale * VIEW_CENTROIDS]).astype(np.float32)
            for plane in PLANES
            for scale, state in enumerate(MOVED_TO, 1)
        },
    )
    return EditsView(EDITED_STEPS, frame, {"val_subset": moves})


def planted_view(
    *, outputs: bool = True, checkpoints: int = 3, states: Sequence[str] = tuple(VIEW_ARI)
) -> View:
    """Return a view of the first checkpoints and some states; a model run has no outputs."""
    steps = VIEW_STEPS[:checkpoints]
    parts = {"task": VIEW_TASK, "input": VIEW_INPUT, "output": np.arange(12)}
    names = {"task": ("plus", "minus", "swap"), "input": tuple("abcd"), "output": ANSWERS[:12]}
    if not outputs:
        del names["output"], parts["output"]
    rows: list[Row] = []
    splits = {}
    for split, clusters in VIEW_CLUSTERS.items():
        labels = {state: np.array(clusters[state][:checkpoints]) for state in states}
        followed = {state: follow(steps, numbers, VIEW_TASK) for state, numbers in labels.items()}
        random = stream(0, "planted places", split)
        answer = random.integers(len(ANSWERS), size=(checkpoints, 12))
        answer[0, :2] = UNKNOWN, len(ANSWERS) - 1
        splits[split] = SplitView(
            parts=parts,
            instruction=tuple(f"{split} {i}" for i in range(12)),
            answer=answer,
            right=random.random((checkpoints, 12)) < 0.5 if outputs else None,
            maps={
                key: random.normal(scale=scale, size=(checkpoints, 12, 2)).astype(np.float32)
                for scale, key in enumerate(itertools.product(MAPS, states), 1)
            },
            shown_variance={
                (plane, state): np.array([0.1, 0.25, 0.5])[:checkpoints] / scale
                for scale, plane in enumerate(PLANES, 1)
                for state in states
            },
            shown_between={state: np.array([0.3, 0.6, 0.9])[:checkpoints] for state in states},
            assigned={state: tracks.assigned for state, tracks in followed.items()},
            followed=followed,
        )
        usual: dict[str, Any] = {"run": "seen", "seed": 3, "split": split, "k": 3, "position": ""}
        shift = 0.0 if split == "train_subset" else 0.1
        for state, at, seed in itertools.product(states, range(checkpoints), (0, 1)):
            value, noise = VIEW_ARI[state][at], 0.02 * seed - 0.01
            columns = {**usual, "step": steps[at], "layer": state, "cluster_seed": seed}
            scores = {"ari": value + shift + noise, "ari_input": 0.5 - value / 2 + noise}
            scores |= {"ari_output": 0.2 + noise} if outputs else {}
            rows += score_rows(scores, **columns)
            rows += score_rows({"ari": 0.9 + noise}, **columns, space="tsne")
        control = usual | {"step": None, "layer": "control:length", "cluster_seed": 0}
        rows += score_rows({"ari": 0.7}, **control)
    same = np.array([[1, 0.25, 0], [0.25, 1, 0.5], [0, 0.5, 1]])
    tasks = tuple(map(TaskView, names["task"]))
    sizes = {"tasks": 3, "inputs": 4, "outputs": 12} if outputs else {"prompts": 12, "labels": 3}
    return View(
        run="seen",
        seed=3,
        kind="run" if outputs else "probe",
        position="input",
        family="",
        steps=steps,
        states=tuple(states),
        splits=splits,
        names=names,
        answers=ANSWERS,
        table=to_table(rows),
        world=TaskOverview(tasks, sizes, same if outputs else None, np.sqrt(same)),
        settings="seed = 3\n",
        manifest={},
    )
