"""Draw the instances [I; x; y] of a set of tasks: splits, measured subsets, vocabulary."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.core.settings import SettingsBase, with_keywords
from tasklens.data.instances import UNSEEN_KINDS, Instances
from tasklens.data.names import check_distinct, find_position
from tasklens.data.random_tasks import draw_instructions, draw_unseen, make_tasks, with_unseen
from tasklens.data.tasks import TaskSet, TaskSettings
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


class DataSettings(SettingsBase, affects="data"):
    """The splits of the instances, and the measured subsets.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.DataSettings(val_inputs=2, measured_tasks=4).measured_instances
    1000
    """

    val_inputs: Annotated[int, Field(ge=1, lt=2**31)] = 5
    """Number of inputs that are held out from each training instruction (split val)."""
    val_instruction_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each task's instructions that are held out (split val_instruction); at least one
    instruction."""
    measured_tasks: Annotated[int, Field(ge=2, lt=2**31)] = 10
    """Number of tasks, drawn at random, whose instances are measured. By default it is also the
    number of clusters."""
    measured_instances: Annotated[int, Field(ge=10, lt=2**31)] = 1000
    """Number of measured instances per split, drawn at random from those of the measured tasks."""


class TrainingStateSettings(SettingsBase, affects="states"):
    """The positions at which the hidden states of a training run are measured.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.TrainingStateSettings(positions=("input", "instruction_mean")).positions
    ('input', 'instruction_mean')
    """

    positions: Annotated[tuple[PositionName, ...], Field(min_length=1)] = ("input",)
    """Measured positions; figures, findings and the report show the first unless asked otherwise.
    input: the input token. instruction_last: the last token of the instruction. instruction_mean:
    the mean over the instruction. One can be added later, from the weights that were kept."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_distinct(self.positions)
        return self


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
    measured = dict(MEASURED)
    if any(task.unseen for task in tasks.tasks):
        measured["unseen_distribution_subset"] = UNSEEN["unseen_distribution_subset"]
    if tasks.unseen_tasks:
        measured["unseen_task_subset"] = UNSEEN["unseen_task_subset"]
    return measured


def make_dataset(
    tasks: TaskSettings | None = None,
    data: DataSettings | None = None,
    *,
    seed: int = 0,
    **changes: Any,
) -> Dataset:
    """Draw tasks, their instructions, the splits and the measured subsets.

    Parameters
    ----------
    tasks : TaskSettings, optional
    data : DataSettings, optional
    seed : int
        Root seed; the same seed gives the same dataset, byte for byte.
    **changes
        Fields of `TaskSettings` and `DataSettings`, which change those given.

    Returns
    -------
    Dataset
        ``dataset[split]`` has the prompts of a split, which `tasklens.harvest` takes.

    Raises
    ------
    InputError
        If a setting is unknown or out of range, or if the settings cannot be satisfied.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.make_dataset(n_tasks=4, variants_per_task=20, measured_tasks=4, measured_instances=50)
    Dataset(4 tasks; instances: train: 3096, val: 360, val_instruction: 384, train_subset: 50, \
val_subset: 50, val_instruction_subset: 50)
    """
    tasks, data = with_keywords(changes, tasks or TaskSettings(), data or DataSettings())
    taskset = make_tasks(tasks, seed)
    _check(taskset, data)
    drawn = draw_instructions(taskset, seed)
    longest = max(len(each.text) for each in drawn)
    taskset = with_unseen(taskset, tasks, longest, seed)
    unseen = draw_unseen(taskset, longest, seed)
    texts, task, distribution = zip(*drawn, *unseen, strict=True)
    dataset = Dataset(taskset, texts, np.array(task), np.array(distribution))
    dataset.splits |= _split(dataset, len(drawn), data, seed)
    dataset.splits |= _unseen_splits(dataset, len(drawn))
    dataset.splits |= measured_subsets(dataset, data, seed)
    return dataset


def _check(tasks: TaskSet, settings: DataSettings) -> None:
    """Check what the splits need of the tasks."""
    smallest = min(len(task.function) for task in tasks.tasks)
    if settings.val_inputs >= smallest:
        raise InputError(
            f"data.val_inputs = {settings.val_inputs}: should be at most {smallest - 1}, because a "
            f"task has only {smallest} inputs and training needs at least one"
        )
    if settings.measured_tasks > len(tasks.tasks):
        raise InputError(
            f"data.measured_tasks = {settings.measured_tasks}: should be at most the number of "
            f"tasks, {len(tasks.tasks)}"
        )
    if any(task.n_variants < 2 for task in tasks.tasks):
        raise InputError(
            "a task has a single instruction, so that none can be held out for val_instruction; "
            "raise tasks.variants_per_task to 2 or more"
        )


def _split(dataset: Dataset, n_known: int, settings: DataSettings, seed: int) -> dict[str, Split]:
    """Hold out instructions, then some inputs of each other instruction."""
    rng = stream(seed, "splits")
    columns: dict[str, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
    first = 0
    numbers = np.bincount(dataset.instruction_task[:n_known])
    for task, n in zip(dataset.tasks.tasks, numbers.tolist(), strict=True):
        x = dataset.vocabulary.encode(task.function.keys())  # (M,)
        y = dataset.vocabulary.encode(task.function.values())
        n_held = min(n - 1, max(1, round(settings.val_instruction_fraction * n)))
        held = np.zeros(n, dtype=bool)
        held[rng.choice(n, n_held, replace=False)] = True
        # the first val_inputs columns of a random order of the inputs, one order per instruction
        shuffled = rng.permuted(np.tile(np.arange(len(x)), (n, 1)), axis=1)  # (n, M)
        unseen_pair = np.zeros((n, len(x)), dtype=bool)
        np.put_along_axis(unseen_pair, shuffled[:, : settings.val_inputs], True, axis=1)
        masks = {
            "train": ~held[:, None] & ~unseen_pair,
            "val": ~held[:, None] & unseen_pair,
            "val_instruction": np.broadcast_to(held[:, None], unseen_pair.shape),
        }
        for split, mask in masks.items():
            instruction, pair = np.nonzero(mask)
            columns[split].append(np.stack([first + instruction, x[pair], y[pair]]))
        first += n
    return {split: Split(*np.concatenate(parts, axis=1)) for split, parts in columns.items()}


def _unseen_splits(dataset: Dataset, n_known: int) -> dict[str, Split]:
    """Return the splits that training never reads: every instruction from a number on."""
    encode, tasks = dataset.vocabulary.encode, dataset.tasks
    numbers = np.arange(n_known, len(dataset.instructions))
    of_task = dataset.instruction_task[numbers]
    splits = {}
    if (of_task < len(tasks.tasks)).any():
        parts = []
        for i, task in enumerate(tasks.tasks):
            x, y = encode(task.function.keys()), encode(task.function.values())  # (M,)
            own = numbers[of_task == i]  # (n,)
            pairs = np.repeat(own, len(x)), np.tile(x, len(own)), np.tile(y, len(own))
            parts.append(np.stack(pairs))
        splits["unseen_distribution"] = Split(*np.concatenate(parts, axis=1))
    own = numbers[of_task >= len(tasks.tasks)]
    if len(own):
        x = encode(tasks.inputs)
        none = np.full(len(own) * len(x), -1)
        splits["unseen_task"] = Split(np.repeat(own, len(x)), np.tile(x, len(own)), none)
    return splits


def measured_subsets(dataset: Dataset, settings: DataSettings, seed: int) -> dict[str, Split]:
    """Draw the measured tasks once, then instances of these tasks in every split.

    As many unseen tasks are measured, or all if there are fewer. InputError if a split has fewer
    instances of these tasks than the settings require.
    """
    tasks = _measured(len(dataset.tasks.tasks), settings, stream(seed, "measured tasks"))
    rng = stream(seed, "measured unseen tasks")
    unseen = len(dataset.tasks.tasks) + _measured(len(dataset.tasks.unseen_tasks), settings, rng)
    measured = {}
    for name, split in dataset.measured.items():
        chosen = unseen if split == "unseen_task" else tasks
        available = np.flatnonzero(np.isin(dataset.task(split), chosen))
        n = settings.measured_instances
        if n > len(available):
            plural = "s" if len(chosen) > 1 else ""
            raise InputError(
                f"data.measured_instances = {n}: should be at most {len(available)}, the number "
                f"of instances of the {len(chosen)} measured task{plural} in split {split}"
            )
        drawn = stream(seed, "measured instances", split).choice(available, n, replace=False)
        measured[name] = dataset.splits[split].take(np.sort(drawn))
    return measured


def _measured(n: int, settings: DataSettings, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the numbers of the measured tasks among n, (T,)."""
    return rng.choice(n, min(n, settings.measured_tasks), replace=False) if n else np.arange(0)
