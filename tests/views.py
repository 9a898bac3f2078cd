"""A view with known answers: twelve points of three tasks, each with four inputs."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasklens.core.seeds import stream
from tasklens.report.view import MAPS, UNKNOWN, SplitView, TaskOverview, TaskView, View
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
            shown_variance={state: np.array([0.1, 0.25, 0.5])[:checkpoints] for state in states},
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
