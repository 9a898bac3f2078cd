"""The table of tasks: planted places, and the numbers of each task by scikit-learn."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from planted import planted_instances
from tasklens.core.errors import InputError
from tasklens.data.instances import Instances
from tasklens.runs.per_task import per_task
from tasklens.runs.run import Run
from tasklens.scoring.cell_key import CellKey

SEEN, HELD, NEW = "train_subset", "val_subset", "unseen_task_subset"
N, TASKS, INPUTS = 60, 3, 5
NAMES = {0: "sum", 1: "copy", 2: "next", 3: "new"}
COLUMNS = [
    *("task", "n", "ari", "accuracy", "distance", "errors", "error_auroc", "nearest_task"),
    *("nearest_task_share", "span_share", "answer_of_nearest"),
]
#: A task answers an input by a number of its own; task 2 has no output for the first input.
OUTPUTS = np.arange(INPUTS * TASKS).reshape(INPUTS, TASKS)
OUTPUTS[0, 2] = -1


def instances(split: str, task: NDArray[np.int64], **known: Any) -> Instances:
    return planted_instances(task, split, input=np.arange(N) % INPUTS, **known)


def run_of(known: dict[str, Instances], arrays: dict[str, Any], **more: Any) -> Run:
    """Return what `per_task` reads of a run with one checkpoint and one hidden state."""
    families = [f.name for f in known[SEEN].families if f.name]
    run = SimpleNamespace(
        directory=SimpleNamespace(path="runs/mine"),
        need=lambda stage: None,
        steps=(0, 7),
        find_step=lambda step: step,
        splits=dict.fromkeys(known),
        unseen=HELD,
        positions=("input",),
        position=lambda name: "input",
        state_names=("block1",),
        cell=lambda split, state, space, position: CellKey(split, state, space),
        clusters=lambda step: arrays if step == 7 else {},
        names_at=lambda position: {"task": NAMES},
        instances_at=lambda position: known,
        instances_by_split=known,
        families=families,
        outputs=OUTPUTS,
    )
    vars(run).update(more)
    return cast(Run, run)


def planted(rng: np.random.Generator) -> tuple[dict[str, Instances], dict[str, Any]]:
    task = np.arange(N) % TASKS
    known = {SEEN: instances(SEEN, task), HELD: instances(HELD, task)}
    known[NEW] = instances(NEW, np.full(N, TASKS))
    arrays: dict[str, Any] = {}
    for split in known:
        name = f"{split}/block1/raw"
        arrays |= {
            f"{name}/labels": rng.integers(3, size=(2, N)),
            f"{name}/distance": rng.random(N).astype(np.float32),
            f"{name}/nearest": np.where(rng.random(N) < 0.7, task, 1),
            f"{name}/span": rng.random(N).astype(np.float32),
            f"{split}/answer": OUTPUTS[np.arange(N) % INPUTS, 1],
            f"{split}/correct": rng.integers(0, 2, size=N).astype(np.int8),
        }
    arrays[f"{NEW}/block1/raw/distance"] = np.full(N, np.nan, np.float32)
    del arrays[f"{NEW}/correct"]
    return known, arrays


def test_each_task_has_the_numbers_of_its_instances() -> None:
    known, arrays = planted(np.random.default_rng(0))
    table = per_task(run_of(known, arrays), 7, HELD, "block1")
    assert list(table.columns) == COLUMNS
    assert table["task"].tolist() == ["sum", "copy", "next"]
    assert table["n"].tolist() == [N // TASKS] * TASKS
    task, cell = known[HELD].task, f"{HELD}/block1/raw"
    for t, row in table.iterrows():
        mine = task == t
        right, distance = arrays[f"{HELD}/correct"][mine], arrays[f"{cell}/distance"][mine]
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["errors"] == (right == 0).sum()
        assert row["error_auroc"] == pytest.approx(roc_auc_score(right == 0, distance))
        assert row["distance"] == pytest.approx(distance.mean())
        assert row["span_share"] == pytest.approx(arrays[f"{cell}/span"][mine].mean())
        best = [
            max(adjusted_rand_score(mine, labels == c) for c in range(3))
            for labels in arrays[f"{cell}/labels"]
        ]
        assert row["ari"] == pytest.approx(np.mean(best))
        near = np.bincount(arrays[f"{cell}/nearest"][mine], minlength=TASKS)
        assert row["nearest_task"] == NAMES[int(near.argmax())]
        assert row["nearest_task_share"] == near.max() / near.sum()
        # All answers are those of task 1.
        has = OUTPUTS[known[HELD].input[mine], arrays[f"{cell}/nearest"][mine]] >= 0
        by_nearest = (arrays[f"{cell}/nearest"][mine] == 1)[has].mean()
        assert row["answer_of_nearest"] == pytest.approx(by_nearest)


def test_a_task_without_right_answers_has_a_place_and_no_errors() -> None:
    known, arrays = planted(np.random.default_rng(1))
    table = per_task(run_of(known, arrays), 7, NEW, "block1")
    assert len(table) == 1
    row = table.iloc[0]
    assert row["task"] == "new"
    assert 0 < row["nearest_task_share"] < 1
    assert 0 < row["answer_of_nearest"] < 1
    assert row[["accuracy", "distance", "errors", "error_auroc"]].isna().all()


def test_without_outputs_there_are_no_answers_of_the_nearest() -> None:
    known, arrays = planted(np.random.default_rng(2))
    table = per_task(run_of(known, arrays, outputs=None), 7, HELD, "block1")
    assert table["answer_of_nearest"].isna().all()
    assert table["accuracy"].notna().all()


def test_tasks_of_two_families_have_a_column_of_their_family() -> None:
    known, arrays = planted(np.random.default_rng(3))
    number = (known[HELD].task > 1).astype(np.int64)
    names = ("first", "second")
    two = {
        split: instances(split, known[split].task, family=number, family_names=names)
        for split in (SEEN, HELD)
    }
    table = per_task(run_of(two, arrays), 7, HELD, "block1")
    assert table["family"].tolist() == ["first", "first", "second"]
    assert list(table.columns) == ["family", *COLUMNS]
    alone = per_task(run_of(known, arrays), 7, HELD, "block1")
    same = ["n", "accuracy", "distance", "errors", "span_share"]
    assert table[same].equals(alone[same])


def test_a_state_without_distances_is_refused_in_a_line() -> None:
    known, _ = planted(np.random.default_rng(4))
    with pytest.raises(InputError, match="no distances to centroids in block1: these need two"):
        per_task(run_of(known, {}), 7, HELD, "block1")
