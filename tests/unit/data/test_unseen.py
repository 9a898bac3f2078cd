"""Unseen distributions and tasks change nothing else, and are in no other split."""

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from tasklens.core.errors import InputError
from tasklens.data.dataset import MEASURED, SPLITS, UNSEEN, Dataset
from tasklens.data.synthetic import make_dataset
from tasklens.data.synthetic_files import dataset_files, read_dataset
from tasklens.data.task_file import tasks_from_json
from tasklens.data.tasks import TaskSettings

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
    for i, (of_task, own_number) in seen.items():
        assert dataset.distribution_names[i] == f"{tasks[of_task].name}/{own_number}"


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


#: Of two known tasks, with one unseen expression each, and of one unseen task.
REGEXES = ["a[ab]{3,6}", "b[ab]{3,6}", "c[cd]{3,6}", "d[cd]{3,6}", "a[cd]{5}"]
OWN: dict[str, Any] = {
    "regexes": REGEXES,
    "unseen_distributions": 1,
    "unseen_tasks": 1,
    "max_length": 7,
}
OWN |= {"min_length": 4, "variants_per_task": 20, "measured_tasks": 2, "measured_instances": 50}


def test_own_expressions_in_their_order() -> None:
    dataset = make_dataset(**OWN)
    first, second = dataset.tasks.tasks
    (unseen,) = dataset.tasks.unseen_tasks
    every = [first.every_grammar, second.every_grammar, unseen.every_grammar]
    assert [grammar.regex for grammars in every for grammar in grammars] == REGEXES
    assert [len(first.unseen), len(unseen.unseen), unseen.function] == [1, 0, {}]
    own = dataset.splits["unseen_distribution"].instruction
    assert {dataset.instructions[i][0] for i in own} == {"b", "d"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"regexes": REGEXES[:4]},
            "4 regexes: should be distributions_per_task = 1 and unseen_distributions = 1 for each "
            "of two tasks or more, then 1 for each of unseen_tasks = 1",
        ),
        (
            {"regexes": [*REGEXES[:4], "[ab]{6}"]},
            "tasks 'task0' and 'unseen0' share the string 'aaaaaa'",
        ),
        (
            {"regexes": ["[ab]{4,6}", "[ac]{4,7}", *REGEXES[2:4], "b[cd]{5}"]},
            "tasks 'task0' and 'task0' share the string 'aaaa'",
        ),
        (
            {"regexes": [*REGEXES[:4], "[az]{4}z{0,3}"]},
            "task 'unseen0': symbol 'z' of the unseen regex '[az]{4}z{0,3}' is in no regex that "
            "training reads",
        ),
        (
            {"regexes": [*REGEXES[:4], "a[cd]{2}c"]},
            "task 'unseen0': regex 'a[cd]{2}c' matches only 4 strings of length 4 to 7",
        ),
        (
            {"max_length": 9, "regexes": ["a[ab]{3,6}", "[ab]{9}", *REGEXES[2:]]},
            "regex '[ab]{9}' matches only 0 strings of length 4 to 7: should be at least 20; no "
            "unseen instruction is longer than the longest of training and validation",
        ),
    ],
)
def test_refused_expressions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        make_dataset(**{**OWN, "variants_spread": 0.0, **changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def file_content() -> dict[str, Any]:
    return {
        "min_length": 1,
        "max_length": 6,
        "tasks": [
            {"regexes": ["a{1,6}"], "function": {"1": "odd", "2": "even"}, "n_variants": 4},
            {
                "name": "z",
                "regexes": ["b{1,6}"],
                "function": {"1": "even", "2": "odd"},
                "n_variants": 5,
                "unseen_regexes": ["ab{1,5}", "ba{1,5}"],
            },
        ],
        "unseen_tasks": [{"regexes": ["aba{1,4}"], "n_variants": 3}],
    }


def test_a_task_file_names_its_own_unseen_kinds() -> None:
    content = file_content()
    taskset = tasks_from_json(json.dumps(content), "my.json", TaskSettings())
    assert [len(task.unseen) for task in taskset.tasks] == [0, 2]
    assert [task.name for task in taskset.all_tasks] == ["task0", "z", "unseen0"]
    assert taskset.unseen_tasks[0].n_variants == 3
    assert taskset.symbols == ("a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "z"}, "task names: 'z' occurs twice"),
        ({"function": {"1": "odd"}}, "unseen_tasks.0: an unseen task has no function"),
        ({"regexs": []}, "unknown key 'unseen_tasks.0.regexs'; did you mean 'regexes'?"),
        ({"regexes": []}, "task 'unseen0': 0 regexes for n_variants = 3"),
        ({"n_variants": 5}, "regex 'aba{1,4}' matches only 4 strings of length 1 to 6"),
    ],
)
def test_refused_unseen_tasks_of_a_file(change: dict[str, Any], message: str) -> None:
    content = file_content()
    content["unseen_tasks"][0].update(change)
    with pytest.raises(InputError, match=r"^my\.json: ") as error:
        tasks_from_json(json.dumps(content), "my.json")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_examples_of_the_documentation_are_worlds() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/run-directory.md").read_text()
    (document,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    taskset = tasks_from_json(document, "docs/reference/run-directory.md", TaskSettings())
    assert [len(task.unseen) for task in taskset.all_tasks] == [1, 0, 0]
    (regexes,) = re.findall(r"--set 'tasks.regexes=(.*?)'", page)
    own = {"regexes": json.loads(regexes), "unseen_distributions": 1, "unseen_tasks": 1}
    dataset = make_dataset(**own, measured_tasks=2)
    assert [len(task.unseen) for task in dataset.tasks.all_tasks] == [1, 1, 0]
