from collections import Counter
from typing import Any

import numpy as np
import pytest

from tasklens.core.errors import InputError
from tasklens.data.dataset import MEASURED, PAD, SPLITS, Dataset
from tasklens.data.synthetic import DataSettings, make_dataset
from tasklens.data.tasks import TaskSettings

Instance = tuple[str, str, str]


def instances(dataset: Dataset, split: str) -> list[Instance]:
    """Return a split as strings (instruction, input, output)."""
    part, tokens = dataset.splits[split], dataset.vocabulary.tokens
    columns = zip(part.instruction, part.input, part.output, strict=True)
    return [(dataset.instructions[i], tokens[x], tokens[y]) for i, x, y in columns]


def test_the_splits_are_all_pairs_each_once(dataset: Dataset) -> None:
    everything = Counter(i for split in SPLITS for i in instances(dataset, split))
    expected = Counter(
        (instruction, x, y)
        for instruction, task in zip(dataset.instructions, dataset.instruction_task, strict=True)
        for x, y in dataset.tasks.tasks[task].function.items()
    )
    assert everything == expected
    assert max(everything.values()) == 1
    assert len(set(dataset.instructions)) == len(dataset.instructions) == 60


def test_whole_instructions_and_inputs_of_the_others_are_held_out(dataset: Dataset) -> None:
    held, train, val = (
        Counter(i for i, _, _ in instances(dataset, split))
        for split in ("val_instruction", "train", "val")
    )
    assert set(held).isdisjoint({*train, *val})
    of_task = dict(zip(dataset.instructions, dataset.instruction_task.tolist(), strict=True))
    n_held = Counter(of_task[i] for i in held)
    for task, n in Counter(of_task.values()).items():
        assert n_held[task] == max(1, round(0.2 * n))
    assert set(train.values()) == {5 - 2}
    assert set(val.values()) == {2}
    assert set(train) == set(val)
    unseen: dict[int, set[frozenset[str]]] = {task: set() for task in n_held}
    for instruction in val:
        inputs = frozenset(x for i, x, _ in instances(dataset, "val") if i == instruction)
        unseen[of_task[instruction]].add(inputs)
    # ten pairs out of five inputs, at least seven instructions: never all the same
    assert all(len(kinds) >= 3 for kinds in unseen.values())


def test_measured_subsets_are_of_their_split_and_of_the_same_tasks(dataset: Dataset) -> None:
    tasks = set()
    for name, split in MEASURED.items():
        drawn = instances(dataset, name)
        assert len(drawn) == len(set(drawn)) == 20
        assert set(drawn) <= set(instances(dataset, split))
        tasks.add(frozenset(dataset.task(name).tolist()))
    assert len(tasks) == 1
    assert len(tasks.pop()) == 3


def test_measured_instances_are_drawn_at_random_from_all_of_them(
    task_settings: TaskSettings, data_settings: DataSettings
) -> None:
    met = set()
    for seed in range(4):
        some = make_dataset(task_settings, data_settings, seed=seed)
        part = some.splits["train_subset"]
        chosen = np.isin(some.task("train"), some.task("train_subset"))
        instructions = some.splits["train"].instruction[chosen]
        # neither the first nor the last of the split alone
        assert part.instruction.min() < np.quantile(instructions, 0.25)
        assert part.instruction.max() > np.quantile(instructions, 0.75)
        met.add(frozenset(some.task("train_subset").tolist()))
    assert len(met) > 1  # the measured tasks differ with the seed


@pytest.mark.parametrize("split", [*SPLITS, *MEASURED])
def test_prompts_spell_the_instruction_and_the_input(dataset: Dataset, split: str) -> None:
    prompts = dataset.prompts(split)
    tokens = dataset.vocabulary.tokens
    rows = zip(prompts.ids, prompts.position, instances(dataset, split), strict=True)
    for row, position, (instruction, x, _) in rows:
        assert [tokens[t] for t in row[: position + 1]] == [*instruction, x]
        assert {tokens[t] for t in row[position + 1 :]} <= {PAD}
    assert prompts.ids.dtype == prompts.position.dtype == np.int64
    assert len(prompts) == len(dataset.splits[split])
    assert (prompts.split, prompts.position_name) == (split, "input")


def test_lengths_and_symbol_counts_by_brute_force(dataset: Dataset) -> None:
    expected = [
        [instruction.count(symbol) for symbol in dataset.tasks.symbols]
        for instruction, _, _ in instances(dataset, "val_subset")
    ]
    assert dataset.symbol_counts("val_subset").tolist() == expected
    assert dataset.n_positions == max(len(i) for i in dataset.instructions) + 2
    assert dataset.instruction_length.tolist() == [len(i) for i in dataset.instructions]


def test_how_many_are_measured_changes_neither_tasks_nor_splits(
    dataset: Dataset, task_settings: TaskSettings, data_settings: DataSettings
) -> None:
    fewer = data_settings.changed(measured_tasks=2, measured_instances=10)
    other = make_dataset(task_settings, fewer, seed=1)
    for split in SPLITS:
        assert instances(other, split) == instances(dataset, split)


def test_vocabulary(dataset: Dataset) -> None:
    tokens = (PAD, *"abcde", *(f"x{i}" for i in range(6)), *(f"y{i}" for i in range(6)))
    assert dataset.vocabulary.tokens == tokens
    assert dataset.vocabulary.encode(["b", PAD, "x0", "b"]).tolist() == [2, 0, 6, 2]
    assert len(dataset.vocabulary) == 18
    again = type(dataset.vocabulary)(["b", "a", "b"])
    assert again.tokens == (PAD, "b", "a"), "a token that comes again is the same token"


SCARCE = (
    "data.measured_instances = {}: should be at most {}, the number of instances of the {} measured"
    " tasks in split {}"
)


@pytest.mark.parametrize(
    ("tasks", "data", "message"),
    [
        ({}, {"val_inputs": 5}, "data.val_inputs = 5: should be at most 4, because a task has only "
         "5 inputs and training needs at least one"),
        ({}, {"measured_tasks": 6}, "data.measured_tasks = 6: should be at most the number of "
         "tasks, 5"),
        ({}, {"measured_tasks": 5, "measured_instances": 51},
         SCARCE.format(51, 50, 5, "val_instruction")),
        ({"variants_per_task": 1}, {}, "a task has a single instruction, so that none can be held "
         "out for val_instruction; raise tasks.variants_per_task to 2 or more"),
        # of 12 instructions of a task 11 are held out, and of the other's 5 inputs 4
        ({}, {"val_inputs": 4, "val_instruction_fraction": 0.9}, SCARCE.format(10, 3, 3, "train")),
        ({"variants_per_task": 2}, {"val_inputs": 1}, SCARCE.format(10, 3, 3, "val")),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_met_are_refused_in_one_line(
    task_settings: TaskSettings,
    data_settings: DataSettings,
    tasks: dict[str, Any],
    data: dict[str, Any],
    message: str,
) -> None:
    few = task_settings.changed(**({"variants_spread": 0} | tasks))
    some = data_settings.changed(**({"measured_instances": 10} | data))
    with pytest.raises(InputError) as error:
        make_dataset(few, some)
    assert str(error.value) == message
