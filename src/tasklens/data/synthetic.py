"""Draw the instances [I; x; y] of a set of tasks: splits and measured subsets."""

from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.core.settings import SettingsBase, with_keywords
from tasklens.data.dataset import SPLITS, Dataset, PositionName, Split
from tasklens.data.names import check_distinct
from tasklens.data.random_tasks import draw_instructions, draw_unseen, make_tasks, with_unseen
from tasklens.data.tasks import TaskSet, TaskSettings


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
