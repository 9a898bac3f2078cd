"""Test the counterfactual answers of the synthetic dataset against a world written by hand."""

from typing import Any, get_args

import numpy as np
import pytest

from tasklens.core.errors import InputError
from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.dataset import MEASURED, Dataset, PositionName, Split
from tasklens.data.synthetic import make_dataset
from tasklens.data.synthetic_counterfactuals import UNSEEN_TASK, counterfactuals_of_dataset
from tasklens.data.tasks import Task, TaskSet

#: The functions of the tasks; task 1 is not measured, and task 3 has no input x1.
FUNCTIONS = (
    {"x0": "y0", "x1": "y1"},
    {"x0": "y1", "x1": "y0"},
    {"x0": "y2", "x1": "y1"},
    {"x0": "y1"},
)
#: Instances (instruction, input) of each split; an instruction's task is its index halved.
TRAIN = ((0, "x0"), (0, "x1"), (1, "x0"), (4, "x0"), (4, "x1"), (5, "x0"), (6, "x0"))
VAL = ((1, "x1"), (5, "x1"), (7, "x0"), (4, "x0"))
#: Settings of a dataset that is drawn.
SMALL: dict[str, Any] = {
    **{"n_tasks": 4, "n_inputs": 6, "inputs_per_task": 5, "n_outputs": 6, "variants_per_task": 12},
    **{"measured_tasks": 3, "measured_instances": 20, "val_inputs": 2},
}
INSTRUCTIONS = ("ab", "aab", "b", "bb", "ba", "bba", "abb", "abab")


@pytest.fixture
def world() -> Dataset:
    """Four tasks with two instructions each, of which three are measured."""
    tasks = tuple(Task(f"t{i}", function, (), 2) for i, function in enumerate(FUNCTIONS))
    dataset = Dataset(
        TaskSet(tasks, ("x0", "x1"), ("y0", "y1", "y2"), ("a", "b"), 1, 4),
        INSTRUCTIONS,
        np.arange(8) // 2,
        np.zeros(8, dtype=np.int64),
    )
    parts = {"train": TRAIN, "val": VAL, "val_instruction": VAL[:3]}
    parts |= {"train_subset": TRAIN, "val_subset": VAL[:3], "val_instruction_subset": VAL[:3]}
    for name, pairs in parts.items():
        dataset.splits[name] = split_of(dataset, pairs)
    return dataset


def split_of(dataset: Dataset, pairs: tuple[tuple[int, str], ...]) -> Split:
    outputs = [FUNCTIONS[instruction // 2][x] for instruction, x in pairs]
    encode = dataset.vocabulary.encode
    return Split(np.array([i for i, _ in pairs]), encode(x for _, x in pairs), encode(outputs))


def answers_in_words(dataset: Dataset, moved: Counterfactuals) -> list[list[str | None]]:
    names = [dataset.vocabulary.tokens[token] for token in moved.tokens[:, 0]]
    return [[None if a < 0 else names[a] for a in row] for row in moved.answers.tolist()]


def text_of(dataset: Dataset, ids: np.ndarray, read: int) -> str:
    return " ".join(dataset.vocabulary.tokens[token] for token in ids[: read + 1])


def test_answers_are_those_of_each_measured_task_to_the_same_input(world: Dataset) -> None:
    moved = counterfactuals_of_dataset(world, "train_subset", n=100)
    assert moved.tasks.tolist() == [0, 2, 3]
    # x1 after tasks 0 and 2 is y1 in both, and task 3 lacks it: these prompts have no pair
    assert moved.index.tolist() == [0, 2, 3, 5, 6]
    assert answers_in_words(world, moved) == [["y0", "y2", "y1"]] * 5
    assert moved.own.tolist() == [0, 0, 1, 1, 2]
    assert moved.unit.tolist() == [0, 1, 4, 5, 6]
    assert moved.pairs.tolist() == [
        *[[False, True, True]] * 2,
        *[[True, False, True]] * 2,
        [True, True, False],
    ]
    (note,) = moved.notes
    assert note.startswith("train_subset: 2 of 7 prompts are left out")


def test_an_input_that_a_task_lacks_has_no_answer(world: Dataset) -> None:
    # task 2 maps x1 to y2, so that the prompts with x1 have a pair
    changed = dict(FUNCTIONS[2], x1="y2")
    tasks = list(world.tasks.tasks)
    tasks[2] = Task("t2", changed, (), 2)
    world.tasks = TaskSet(tuple(tasks), ("x0", "x1"), ("y0", "y1", "y2"), ("a", "b"), 1, 4)
    moved = counterfactuals_of_dataset(world, "val_subset", n=100)
    assert answers_in_words(world, moved)[:2] == [["y1", "y2", None]] * 2
    assert (moved.donor[:2, 2] == -1).all()
    assert moved.notes == ("val_subset: 2 of 6 answers under another task are unknown",)


def test_a_donor_is_of_the_whole_split_and_has_the_same_input(world: Dataset) -> None:
    moved = counterfactuals_of_dataset(world, "val_subset", n=100)
    assert moved.index.tolist() == [2]  # task 3 (instruction abab), input x0
    assert text_of(world, moved.prompts.ids[0], moved.prompts.read[0]) == "a b a b x0"
    # the only instance of val with x0 and another task is that of instruction 4, of task 2
    assert moved.donor.tolist() == [[-1, 0, -1]]
    assert text_of(world, moved.donors.ids[0], moved.donors.read[0]) == "b a x0"


@pytest.mark.parametrize(
    ("position", "begin", "end"),
    [("input", 4, 4), ("instruction_last", 3, 3), ("instruction_mean", 0, 3)],
)
def test_a_position_decides_the_edited_tokens_alone(
    world: Dataset, position: str, begin: int, end: int
) -> None:
    moved = counterfactuals_of_dataset(world, "val_subset", position, n=100)
    plain = counterfactuals_of_dataset(world, "val_subset", n=100)
    assert moved.position == position
    for prompts, others in ((moved.prompts, plain.prompts), (moved.donors, plain.donors)):
        assert (prompts.ids == others.ids).all()
        assert (prompts.read == others.read).all()
    assert (moved.prompts.read.tolist(), moved.donors.read.tolist()) == ([4], [2])
    assert (moved.prompts.begin.tolist(), moved.prompts.end.tolist()) == ([begin], [end])
    assert moved.donors.end.tolist() == [end - 2]  # an instruction of two symbols


@pytest.mark.parametrize("split", MEASURED)
@pytest.mark.parametrize("position", get_args(PositionName))
def test_prompts_and_donors_are_instances_of_the_dataset(
    dataset: Dataset, split: str, position: str
) -> None:
    moved = counterfactuals_of_dataset(dataset, split, position, n=12, seed=5)
    part, task = dataset.splits[split], dataset.task(split)
    tokens = dataset.vocabulary.tokens
    assert 0 < len(moved.prompts) <= 12
    assert (np.diff(moved.index) > 0).all()
    assert (moved.tasks[moved.own] == task[moved.index]).all()
    own = moved.answers[np.arange(len(moved.own)), moved.own]
    assert (moved.tokens[own, 0] == part.output[moved.index]).all()
    pool = {
        (instruction, x)
        for instruction, x in zip(
            dataset.splits[MEASURED[split]].instruction,
            dataset.splits[MEASURED[split]].input,
            strict=True,
        )
    }
    by_text = {text: i for i, text in enumerate(dataset.instructions)}
    donors = [
        (by_text["".join(tokens[token] for token in ids[:read])], ids[read])
        for ids, read in zip(moved.donors.ids, moved.donors.read, strict=True)
    ]
    assert len(set(donors)) == len(donors)
    assert set(moved.donor[moved.donor >= 0]) == set(range(len(donors)))
    for i, row in enumerate(moved.index):
        x = part.input[row]
        assert moved.prompts.ids[i, moved.prompts.read[i]] == x
        assert moved.donor[i, moved.own[i]] == -1
        for column, number in enumerate(moved.tasks):
            function = dataset.tasks.tasks[number].function
            answer = moved.answers[i, column]
            right = function.get(tokens[x])
            assert (tokens[moved.tokens[answer, 0]] if answer >= 0 else None) == right
            if column == moved.own[i]:
                continue
            donor = moved.donor[i, column]
            if donor < 0:
                of_task = {j for j, y in pool if y == x and dataset.instruction_task[j] == number}
                assert not of_task
                continue
            instruction, y = donors[donor]
            assert (instruction, y) in pool
            assert y == x
            assert instruction != part.instruction[row]
            assert dataset.instruction_task[instruction] == number


def test_all_centroids_are_of_the_training_subset(dataset: Dataset) -> None:
    moved = counterfactuals_of_dataset(dataset, "val_subset", n=12)
    (fold,) = moved.folds
    assert fold.fit.tolist() == list(range(20))
    assert fold.edited.tolist() == list(range(len(moved.prompts)))


def test_the_seed_decides_the_prompts_and_the_donors(dataset: Dataset) -> None:
    first, again, other = (
        counterfactuals_of_dataset(dataset, "train_subset", n=8, seed=seed) for seed in (1, 1, 2)
    )
    assert (first.index == again.index).all()
    assert (first.donor == again.donor).all()
    assert (first.donors.ids == again.donors.ids).all()
    assert first.index.tolist() != other.index.tolist()


def test_donors_are_drawn_from_all_that_fit(dataset: Dataset) -> None:
    pool, task = dataset.splits["train"], dataset.task("train")
    drawn: dict[tuple[int, int], set[bytes]] = {}
    for seed in range(40):
        moved = counterfactuals_of_dataset(dataset, "train_subset", n=20, seed=seed)
        for i, column in np.argwhere(moved.donor >= 0):
            x = dataset.splits["train_subset"].input[moved.index[i]]
            ids = moved.donors.ids[moved.donor[i, column]].tobytes()
            drawn.setdefault((int(x), int(moved.tasks[column])), set()).add(ids)
    for (x, number), donors in drawn.items():
        assert len(donors) == ((pool.input == x) & (task == number)).sum()


def test_what_has_no_other_answer_is_refused(world: Dataset) -> None:
    world.splits["val_subset"] = world.splits["val_subset"].take(np.array([0, 1]))
    with pytest.raises(InputError, match=r"^split val_subset: no prompt has a right answer"):
        counterfactuals_of_dataset(world, "val_subset")


def test_a_single_task_is_refused(world: Dataset) -> None:
    world.splits["train_subset"] = world.splits["train_subset"].take(np.array([0, 1]))
    with pytest.raises(InputError, match=r"^split train_subset has a single task"):
        counterfactuals_of_dataset(world, "val_subset")


def test_a_task_without_a_centroid_is_no_task(world: Dataset) -> None:
    world.splits["train_subset"] = world.splits["train_subset"].take(np.arange(6))
    with pytest.raises(InputError, match="no prompt has a right answer"):
        counterfactuals_of_dataset(world, "val_subset")  # the only pair is of task 3


@pytest.mark.parametrize(("split", "position"), [("val", "input"), ("val_subset", "output")])
def test_unknown_splits_and_positions_are_refused(
    dataset: Dataset, split: str, position: str
) -> None:
    with pytest.raises(InputError, match=r"^no (measured subset 'val'|position 'output'); there"):
        counterfactuals_of_dataset(dataset, split, position)


def test_an_unseen_task_has_no_own_answer_and_donors_of_training() -> None:
    dataset = make_dataset(**SMALL, unseen_tasks=2)
    moved = counterfactuals_of_dataset(dataset, UNSEEN_TASK, n=12)
    part = dataset.splits[UNSEEN_TASK]
    assert (moved.own == -1).all()
    assert (moved.task == dataset.task(UNSEEN_TASK)[moved.index]).all()
    assert not np.isin(moved.task, moved.tasks).any()
    assert (moved.pairs == (moved.answers >= 0)).all(), "no own answer: each known one is a pair"
    (fold,) = moved.folds
    assert len(fold.fit) == 20 + len(part), "centroids of the known tasks and of their own"
    texts = {dataset.instructions[i] for i in dataset.splits["train"].instruction}
    tokens = dataset.vocabulary.tokens
    for ids, read in zip(moved.donors.ids, moved.donors.read, strict=True):
        assert "".join(tokens[token] for token in ids[:read]) in texts
    for i, column in zip(*np.nonzero(moved.donor >= 0), strict=True):
        donor = moved.donor[i, column]
        x = moved.donors.ids[donor, moved.donors.read[donor]]
        assert x == part.input[moved.index[i]]


def test_donors_of_an_unseen_distribution_are_of_training() -> None:
    dataset = make_dataset(**SMALL, unseen_distributions=1)
    split = "unseen_distribution_subset"
    moved = counterfactuals_of_dataset(dataset, split, n=12)
    assert (moved.tasks[moved.own] == dataset.task(split)[moved.index]).all()
    assert (moved.task == dataset.task(split)[moved.index]).all()
    texts = {dataset.instructions[i] for i in dataset.splits["train"].instruction}
    tokens = dataset.vocabulary.tokens
    for ids, read in zip(moved.donors.ids, moved.donors.read, strict=True):
        assert "".join(tokens[token] for token in ids[:read]) in texts


def test_an_instance_whose_task_has_no_centroid_makes_no_pair(world: Dataset) -> None:
    world.splits["val_subset"] = split_of(world, (*VAL[:3], (2, "x0")))  # of task 1
    moved = counterfactuals_of_dataset(world, "val_subset", n=100)
    assert moved.index.max() < 3
    assert (moved.own >= 0).all()
