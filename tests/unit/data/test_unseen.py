"""Unseen distributions and tasks change nothing else, and are in no other split."""

import hashlib
import io
import json
import re
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from tasklens.core.errors import InputError
from tasklens.data.synthetic import MEASURED, SPLITS, UNSEEN, Dataset, make_dataset
from tasklens.data.synthetic_files import dataset_files, read_dataset

#: The settings of the recorded hashes.
WORLD: dict[str, Any] = {
    **{"n_tasks": 5, "n_inputs": 6, "inputs_per_task": 5, "n_outputs": 6, "variants_per_task": 12},
    **{"val_inputs": 2, "val_instruction_fraction": 0.2},
    **{"measured_tasks": 3, "measured_instances": 20, "seed": 1},
}
#: The columns of the Parquet files before there was anything unseen.
COLUMNS = ["task", "instruction_id", "instruction", "input", "output", "text"]
#: SHA-256 (its first digits) of the rows of each split, by the number of distributions per task, as
#: recorded before there was anything unseen.
RECORDED = {
    1: {
        "train": "bd9e67a9c228f313",
        "val": "66be795625b047f7",
        "val_instruction": "9b1b6b6d57173ec8",
        "train_subset": "d4a32da03298188e",
        "val_subset": "f9e1bc0646aef0ef",
        "val_instruction_subset": "3beb9b50b41a36b7",
    },
    3: {
        "train": "d32795ae07c76f3f",
        "val": "95b6946af2a4e6e7",
        "val_instruction": "a42c565b54970338",
        "train_subset": "e81733bd4984037a",
        "val_subset": "24d950d5aca44991",
        "val_instruction_subset": "ca3c3e07dea5b905",
    },
}
#: The same of files.
TOKENIZER = "8668d70ab03a29c0"
TASKS = {1: "25f7fdf937b03688", 3: "84d6e12d36762ce7"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def rows(files: dict[str, bytes], split: str) -> list[dict[str, Any]]:
    table = pq.read_table(io.BytesIO(files[f"{split}.parquet"]))
    return table.to_pylist()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(**WORLD, distributions_per_task=3, unseen_distributions=2, unseen_tasks=4)


@pytest.fixture(scope="module")
def files(dataset: Dataset) -> dict[str, bytes]:
    return dataset_files(dataset)


@pytest.mark.parametrize(("unseen", "tasks"), [(0, 0), (2, 0), (0, 4), (1, 3)])
@pytest.mark.parametrize("m", RECORDED)
def test_the_other_splits_are_those_of_before(m: int, unseen: int, tasks: int) -> None:
    dataset = make_dataset(
        **WORLD, distributions_per_task=m, unseen_distributions=unseen, unseen_tasks=tasks
    )
    files = dataset_files(dataset)
    for split, recorded in RECORDED[m].items():
        before = [{name: row[name] for name in COLUMNS} for row in rows(files, split)]
        assert digest(json.dumps(before).encode()) == recorded, split
    assert digest(files["tokenizer.json"]) == TOKENIZER, "no id changes, and none is new"
    assert (digest(files["tasks.json"]) == TASKS[m]) is not bool(unseen or tasks)
    added = [name for name, n in zip(UNSEEN, (unseen, tasks), strict=True) if n]
    assert list(dataset.measured) == [*MEASURED, *added]
    whole = [*SPLITS, *(UNSEEN[name] for name in added)]
    assert list(dataset.splits) == [*whole, *MEASURED, *added]
    assert dataset.n_positions == make_dataset(**WORLD, distributions_per_task=m).n_positions


@examples(12)
@given(
    st.integers(1, 3), st.integers(0, 2), st.integers(0, 3), st.integers(2, 4), st.integers(0, 999)
)
def test_what_is_unseen_is_in_no_other_split(
    m: int, unseen: int, tasks: int, n_tasks: int, seed: int
) -> None:
    world = WORLD | {"n_tasks": n_tasks, "measured_tasks": 2, "measured_instances": 10}
    world |= {"seed": seed, "variants_per_task": 14}
    dataset = make_dataset(
        **world, distributions_per_task=m, unseen_distributions=unseen, unseen_tasks=tasks
    )
    texts, of_split = dataset.instructions, dataset.splits
    assert len(set(texts)) == len(texts)
    read = {texts[i] for name in (*SPLITS, *MEASURED) for i in of_split[name].instruction.tolist()}
    known = [grammar.regex for task in dataset.tasks.tasks for grammar in task.grammars]
    for name in UNSEEN:
        split = UNSEEN[name]
        if split not in of_split:
            continue
        own = {texts[i] for i in of_split[split].instruction.tolist()}
        assert own.isdisjoint(read)
        assert not any(re.fullmatch(regex, text) for regex in known for text in own)
        assert {texts[i] for i in of_split[name].instruction.tolist()} <= own
    all_tasks = dataset.tasks.all_tasks
    numbers = zip(texts, dataset.instruction_task, dataset.instruction_distribution, strict=True)
    for text, task, distribution in numbers:
        grammars = [*all_tasks[task].grammars, *all_tasks[task].unseen]
        matches = [bool(re.fullmatch(each.regex, text)) for each in grammars]
        assert matches == [i == distribution for i in range(len(grammars))]


def test_an_unseen_distribution_is_of_a_known_task(
    dataset: Dataset, files: dict[str, bytes]
) -> None:
    tasks = {task.name: task for task in dataset.tasks.tasks}
    per_task: dict[tuple[str, int], set[str]] = {}
    pairs = [(row["instruction"], row["input"]) for row in rows(files, "unseen_distribution")]
    assert len(set(pairs)) == len(pairs)
    for row in rows(files, "unseen_distribution"):
        assert row["output"] == tasks[row["task"]].function[row["input"]]
        of_pair = per_task.setdefault((row["task"], row["distribution"]), set())
        of_pair.add(row["instruction"])
    expected = {
        (name, number): task.n_variants // 3 for name, task in tasks.items() for number in (3, 4)
    }
    assert {key: len(strings) for key, strings in per_task.items()} == expected
    assert len(pairs) == 5 * sum(expected.values()), "each with all inputs of its task"
    known = dataset.instances("unseen_distribution_subset")
    assert known.output is not None
    assert set(known.task) <= set(dataset.task("train_subset").tolist())


def test_an_unseen_task_has_no_right_answer(dataset: Dataset, files: dict[str, bytes]) -> None:
    every = rows(files, "unseen_task")
    assert {row["task"] for row in every} == {f"unseen{i}" for i in range(4)}
    assert {row["output"] for row in every} == {None}
    assert {row["text"] for row in every} == {
        " ".join([*row["instruction"], row["input"]]) for row in every
    }
    by_instruction: dict[str, list[str]] = {}
    for row in every:
        by_instruction.setdefault(row["instruction"], []).append(row["input"])
    assert all(inputs == [f"x{i}" for i in range(6)] for inputs in by_instruction.values())
    known = dataset.instances("unseen_task_subset")
    assert known.output is None
    assert "output" not in known.parts
    assert len(np.unique(known.task)) == 3
    assert set(known.task) <= {5, 6, 7, 8}, "numbered after the known tasks"
    assert len(dataset["unseen_task_subset"]) == 20
    assert repr(dataset).startswith("Dataset(5 tasks and 4 unseen ones; instances: train: 147, ")


def test_distributions_are_distinct_over_all_tasks(dataset: Dataset) -> None:
    seen: dict[int, tuple[int, int]] = {}
    for split in dataset.measured:
        known, part = dataset.instances(split), dataset.splits[split]
        assert known.distribution is not None
        number = dataset.instruction_distribution[part.instruction]
        for each, *own in zip(known.distribution, known.task, number, strict=True):
            assert seen.setdefault(each, (own[0], own[1])) == (own[0], own[1])
    assert len(set(seen.values())) == len(seen)
    tasks = dataset.tasks.all_tasks
    for i, (of_task, place) in seen.items():
        assert dataset.distribution_names[i] == f"{tasks[of_task].name}/{place}"


def test_files_are_read_back(dataset: Dataset, files: dict[str, bytes]) -> None:
    again = read_dataset(files.__getitem__)
    assert dataset_files(again) == files
    assert again.tasks == dataset.tasks
    for split in dataset.measured:
        ours, theirs = again.instances(split), dataset.instances(split)
        assert np.array_equal(ours.distribution, theirs.distribution)  # type: ignore[arg-type]
        assert np.array_equal(ours.task, theirs.task)
    readme = files["README.md"].decode()
    assert "5 tasks and 4 unseen ones" in readme
    assert "`output` is null" in readme
    assert "path: unseen_task_subset.parquet" in readme


@pytest.mark.parametrize(("measured", "expected"), [(2, 2), (3, 3), (5, 4)])
def test_as_many_unseen_tasks_are_measured_as_there_are(measured: int, expected: int) -> None:
    dataset = make_dataset(**WORLD | {"measured_tasks": measured}, unseen_tasks=4)
    assert dataset.instances("unseen_task_subset").n_tasks == expected


def test_too_few_unseen_instances_are_refused() -> None:
    many = {"n_tasks": 10, "measured_tasks": 10, "val_instruction_fraction": 0.5}
    many |= {"measured_instances": 100, "variants_spread": 0.0}
    with pytest.raises(InputError) as error:
        make_dataset(**WORLD | many, unseen_tasks=1)
    assert str(error.value) == (
        "data.measured_instances = 100: should be at most 72, the number of instances of the 1 "
        "measured task in split unseen_task"
    )
