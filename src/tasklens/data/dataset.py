"""Hold a synthetic dataset: its vocabulary, its splits, and the prompts and instances of each."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.instances import UNSEEN_KINDS, Instances
from tasklens.data.names import find_position
from tasklens.data.tasks import TaskSet
from tasklens.data.token_prompts import Prompts

PAD = "<pad>"
SPLITS = ("train", "val", "val_instruction")
#: Split that each measured subset is drawn from.
MEASURED = {
    "train_subset": "train",
    "val_subset": "val",
    "val_instruction_subset": "val_instruction",
}

#: The same for splits that training never reads, if the settings ask for them. Those of
#: ``unseen_distribution`` are of known tasks, so that their right answers are known. But nothing
#: tells a model to which task an unseen distribution belongs: accuracy is about chance by
#: construction. Those of ``unseen_task`` have no right answer.
UNSEEN = {measured: measured.removesuffix("_subset") for measured in UNSEEN_KINDS}

#: Names of the positions of an instance [I; x]: x, the last token of I, and the mean over I.
PositionName: TypeAlias = Literal["input", "instruction_last", "instruction_mean"]


class Vocabulary:
    """Tokens and their ids: padding, then the given tokens without repetition."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = tuple(dict.fromkeys((PAD, *tokens)))
        self.id = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """Return the ids of the tokens, (n,)."""
        return np.array([self.id[token] for token in tokens], dtype=np.int64)


@dataclasses.dataclass(frozen=True)
class Split:
    """Columns of N instances, each int64 (N,).

    `instruction` has indices into `Dataset.instructions`; `input` and `output` are token ids.
    An `output` of -1: there is no right answer.
    """

    instruction: NDArray[np.int64]
    input: NDArray[np.int64]
    output: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.instruction)

    def take(self, index: NDArray[np.int64]) -> "Split":
        """Return the instances at these indices."""
        return Split(self.instruction[index], self.input[index], self.output[index])


@dataclasses.dataclass(eq=False, repr=False)
class Dataset:
    """The instances of a set of tasks, by split.

    Examples
    --------
    >>> import tasklens as tl
    >>> dataset = tl.load_run("runs/smoke").dataset
    >>> list(dataset.splits)[:3]
    ['train', 'val', 'val_instruction']
    >>> dataset["val_subset"].instances.n_tasks
    4
    """

    tasks: TaskSet
    instructions: tuple[str, ...]
    instruction_task: NDArray[np.int64]
    """Task of each instruction, (n_instructions,), as an index into ``tasks.all_tasks``."""
    instruction_distribution: NDArray[np.int64]
    """Number of the regular expression of each instruction within its task, (n_instructions,);
    unseen ones are numbered after the others."""
    splits: dict[str, Split] = dataclasses.field(default_factory=dict)
    """Instances by split: of `SPLITS`, of splits that training never reads, and of the measured
    subsets, `measured`."""

    def __post_init__(self) -> None:
        tasks = self.tasks
        if PAD in (*tasks.inputs, *tasks.outputs):
            raise InputError(f"{PAD!r} is the padding token; rename the input or output")
        self.vocabulary = Vocabulary((*tasks.symbols, *tasks.inputs, *tasks.outputs))
        self.measured = measured_splits(tasks)
        """Split that each measured subset is drawn from."""

    @functools.cached_property
    def n_positions(self) -> int:
        """Number of positions of the longest instruction with its input and output."""
        return max(map(len, self.instructions)) + 2

    @functools.cached_property
    def instruction_length(self) -> NDArray[np.int64]:
        """Symbols in each instruction, (n_instructions,)."""
        return np.array([len(i) for i in self.instructions], dtype=np.int64)

    @functools.cached_property
    def instruction_ids(self) -> NDArray[np.int64]:
        """Token ids of each instruction, padded at the end, (n_instructions, longest)."""
        ids = np.zeros((len(self.instructions), self.n_positions - 2), dtype=np.int64)
        for i, text in enumerate(self.instructions):
            ids[i, : len(text)] = self.vocabulary.encode(text)
        return ids

    def task(self, split: str) -> NDArray[np.int64]:
        """Return the task of each instance of a split, (N,)."""
        return self.instruction_task[self.splits[split].instruction]

    @property
    def n_instances(self) -> int:
        """Number of instances of all splits but the measured subsets, which are among them."""
        return sum(len(self.splits[split]) for split in self.measured.values())

    def distribution(self, split: str) -> NDArray[np.int64]:
        """Return the distribution of each instance of a split, (N,), distinct over all tasks."""
        n_each = [len(task.every_grammar) for task in self.tasks.all_tasks]
        first = np.cumsum([0, *n_each])[:-1]  # (n_tasks,)
        number = self.instruction_distribution[self.splits[split].instruction]
        return first[self.task(split)] + number

    @functools.cached_property
    def distribution_names(self) -> tuple[str, ...]:
        """The name of each distribution, by the numbers of `distribution`: ``task3/0``."""
        tasks = self.tasks.all_tasks
        return tuple(f"{task.name}/{i}" for task in tasks for i in range(len(task.every_grammar)))

    def prompts(self, split: str, position: str = "input") -> Prompts:
        """Return the prompt [I; x] of each instance of a split, measured at a position.

        Parameters
        ----------
        split : str
        position : {"input", "instruction_last", "instruction_mean"}
            Whether to measure at x, at the last token of I, or the mean over I.

        Raises
        ------
        InputError
            For an unknown split or position; it lists those that there are.
        """
        if split not in self.splits:
            raise InputError(f"no split {split!r}; there are {', '.join(self.splits)}")
        return self.prompts_of(self.splits[split], position, split)

    def prompts_of(self, part: Split, position: str = "input", split: str = "") -> Prompts:
        """Return the prompt of each instance, measured at a position; see `prompts`."""
        find_position(position, get_args(PositionName))
        length = self.instruction_length[part.instruction]
        ids = np.zeros((len(part), self.n_positions - 1), dtype=np.int64)
        ids[:, :-1] = self.instruction_ids[part.instruction]
        ids[np.arange(len(part)), length] = part.input
        last = length if position == "input" else length - 1
        begin = np.zeros_like(last) if position == "instruction_mean" else None
        return Prompts(ids, last, begin, split, position)

    def instances(self, split: str) -> Instances:
        """Return the instances of a split."""
        part = self.splits[split]
        return Instances(
            split=split,
            task=self.task(split),
            input=part.input,
            output=part.output if (part.output >= 0).all() else None,
            length=self.instruction_length[part.instruction],
            symbol_counts=self.symbol_counts(split),
            unit=part.instruction,
            distribution=self.distribution(split),
        )

    def __getitem__(self, key: str | tuple[str, str]) -> Prompts:
        """Return the `prompts` of a split, or of (split, position), with their instances."""
        prompts = self.prompts(*((key,) if isinstance(key, str) else key))
        return dataclasses.replace(prompts, instances=self.instances(prompts.split))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}: {len(part)}" for split, part in self.splits.items())
        unseen = f" and {n} unseen ones" if (n := len(self.tasks.unseen_tasks)) else ""
        return f"Dataset({len(self.tasks.tasks)} tasks{unseen}; instances: {sizes})"

    def symbol_counts(self, split: str) -> NDArray[np.int64]:
        """Return how often each symbol occurs in each instance's instruction, (N, n_symbols)."""
        symbols = self.vocabulary.encode(self.tasks.symbols)
        each = [(self.instruction_ids == symbol).sum(axis=1) for symbol in symbols]
        return np.stack(each, axis=1)[self.splits[split].instruction]


def measured_splits(tasks: TaskSet) -> dict[str, str]:
    """Return the measured subsets of a dataset, and the split that each is drawn from."""
    are_there = any(task.unseen for task in tasks.tasks), bool(tasks.unseen_tasks)
    unseen = zip(UNSEEN.items(), are_there, strict=True)
    return MEASURED | dict(names for names, is_there in unseen if is_there)
