"""Make tasks and draw their instructions.

There is one random stream each for the functions, the numbers of instructions, the grammars and the
instructions of each task. What training never reads has streams of its own, so that nothing else
depends on it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.dataset_size import check_dataset_size
from tasklens.data.grammar import Grammar, random_grammars
from tasklens.data.task_file import read_task_file
from tasklens.data.tasks import (
    Task,
    TaskSet,
    TaskSettings,
    check_tasks,
    grammars_of,
    revealing_input,
    shares_of,
    symbols_of,
)

REDRAWS = 1000
#: Faults that are expected in a draw of functions, beyond which none is tried: the probability of a
#: draw without any is less than exp(-100).
FAULTS = 100


def make_tasks(settings: TaskSettings, seed: int) -> TaskSet:
    """Make tasks at random, from the user's regular expressions, or from the user's file.

    InputError if the settings cannot be satisfied, or the user's regexes or file break a rule.
    """
    if settings.file:
        return read_task_file(Path(settings.file), settings)

    check_dataset_size(settings)
    n, k = settings.n_tasks, settings.distributions_per_task
    inputs = tuple(f"x{i}" for i in range(settings.n_inputs))
    outputs = tuple(f"y{i}" for i in range(settings.n_outputs))
    functions = _random_functions(settings, inputs, outputs, stream(seed, "functions"))
    variants = _random_variants(settings, n, stream(seed, "variants"))
    if settings.regexes:
        return _with_regexes(settings, functions, variants, inputs, outputs, seed)
    grammars = random_grammars(
        stream(seed, "grammars"),
        settings.symbols,
        settings.min_length,
        settings.max_length,
        [share for number in variants for share in shares_of(number, k)],
    )
    tasks = tuple(
        Task(f"task{i}", functions[i], tuple(grammars[i * k : (i + 1) * k]), variants[i])
        for i in range(n)
    )
    symbols, lengths = tuple(settings.symbols), (settings.min_length, settings.max_length)
    return TaskSet(tasks, inputs, outputs, symbols, *lengths)


def _with_regexes(
    settings: TaskSettings,
    functions: Sequence[dict[str, str]],
    variants: Sequence[int],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    seed: int,
) -> TaskSet:
    """Return tasks with the user's regular expressions, the unseen ones included."""
    grammars = iter(grammars_of(settings.regexes, "regexes"))

    def take(number: int) -> tuple[Grammar, ...]:
        return tuple(islice(grammars, number))

    k, n_unseen = settings.distributions_per_task, settings.unseen_tasks
    tasks = tuple(
        Task(f"task{i}", function, take(k), variants[i], take(settings.unseen_distributions))
        for i, function in enumerate(functions)
    )
    numbers = _random_variants(settings, n_unseen, stream(seed, "unseen variants"))
    unseen = tuple(Task(f"unseen{i}", {}, take(k), number) for i, number in enumerate(numbers))
    symbols, lengths = symbols_of(tasks), (settings.min_length, settings.max_length)
    taskset = TaskSet(tasks, inputs, outputs, symbols, *lengths, unseen)
    check_tasks(taskset)
    return taskset


def with_unseen(taskset: TaskSet, settings: TaskSettings, longest: int, seed: int) -> TaskSet:
    """Add random grammars and tasks that training never reads to random tasks.

    Their strings are at most as long as the longest instruction of the others: the model has no
    further positions. The user's regexes and file name their own. InputError as `random_grammars`.
    """
    n_unseen, k = settings.unseen_tasks, settings.distributions_per_task
    if settings.regexes or settings.file or not (settings.unseen_distributions or n_unseen):
        return taskset
    tasks = taskset.tasks
    symbols, lengths = "".join(symbols_of(tasks)), (settings.min_length, longest)
    known = [grammar for task in tasks for grammar in task.grammars]
    each = settings.unseen_distributions
    drawn = random_grammars(
        stream(seed, "unseen grammars"),
        *(symbols, *lengths),
        [task.n_unseen for task in tasks for _ in range(each)],
        known,
    )
    numbers = _random_variants(settings, n_unseen, stream(seed, "unseen variants"))
    of_tasks = random_grammars(
        stream(seed, "grammars of unseen tasks"),
        *(symbols, *lengths),
        [share for number in numbers for share in shares_of(number, k)],
        [*known, *drawn],
    )
    return replace(
        taskset,
        tasks=tuple(
            replace(task, unseen=tuple(drawn[i * each : (i + 1) * each]))
            for i, task in enumerate(tasks)
        ),
        unseen_tasks=tuple(
            Task(f"unseen{i}", {}, tuple(of_tasks[i * k : (i + 1) * k]), number)
            for i, number in enumerate(numbers)
        ),
    )


class Instruction(NamedTuple):
    """An instruction, and what it was drawn from."""

    text: str
    task: int
    """Number of its task; unseen tasks are numbered after the others."""
    distribution: int
    """Number of its regular expression within its task; unseen ones are numbered after the
    others."""


def draw_instructions(taskset: TaskSet, seed: int) -> list[Instruction]:
    """Draw each task's distinct instructions, uniformly over the admitted lengths of a language.

    Each task has its own stream, and its `n_variants` instructions are in random order.
    """
    lengths = taskset.min_length, taskset.max_length
    instructions = []
    for i, task in enumerate(taskset.tasks):
        instructions += _drawn(task, i, lengths, stream(seed, "instructions", i))
    return instructions


def draw_unseen(taskset: TaskSet, longest: int, seed: int) -> list[Instruction]:
    """Draw the instructions that training never reads, none longer than `longest`.

    First those of the unseen grammars, task after task, then those of the unseen tasks.
    """
    try:
        return _unseen(taskset, (taskset.min_length, longest), seed)
    except InputError as error:  # only the user's grammars are too small
        raise InputError(
            f"{error}; no unseen instruction is longer than the longest of training and validation"
        ) from None


def _unseen(taskset: TaskSet, lengths: tuple[int, int], seed: int) -> list[Instruction]:
    instructions = []
    for i, task in enumerate(taskset.tasks):
        for j, grammar in enumerate(task.unseen):
            rng = stream(seed, "unseen instructions", i, j)
            number = len(task.grammars) + j
            texts = grammar.sample(task.n_unseen, *lengths, rng)
            instructions += [Instruction(text, i, number) for text in texts]
    for i, task in enumerate(taskset.unseen_tasks, len(taskset.tasks)):
        instructions += _drawn(task, i, lengths, stream(seed, "instructions of unseen tasks", i))
    return instructions


def _drawn(
    task: Task, number: int, lengths: tuple[int, int], rng: np.random.Generator
) -> list[Instruction]:
    """Draw the instructions of all grammars of a task, in random order."""
    drawn = [
        Instruction(text, number, distribution)
        for distribution, (grammar, share) in enumerate(
            zip(task.grammars, task.shares(), strict=True)
        )
        for text in grammar.sample(share, *lengths, rng)
    ]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _random_variants(settings: TaskSettings, n: int, rng: np.random.Generator) -> list[int]:
    """Draw the numbers of variants of n tasks, in pairs that are symmetric about the mean."""
    offsets = rng.integers(settings.spread, size=n // 2, endpoint=True)
    odd = np.zeros(n % 2, dtype=np.int64)
    around = np.concatenate([offsets, -offsets, odd])
    return [settings.variants_per_task + int(offset) for offset in rng.permutation(around)]


def _random_functions(
    settings: TaskSettings, inputs: Sequence[str], outputs: Sequence[str], rng: np.random.Generator
) -> list[dict[str, str]]:
    """Draw uniformly random functions until the input alone reveals neither task nor output."""
    problem = _certain_problem(settings)
    n_draws = 0 if problem else REDRAWS
    for _ in range(n_draws):
        # (task, input): each row is a random permutation; ranks below the bound are mapped
        ranks = rng.random((settings.n_tasks, len(inputs))).argsort(axis=1)
        mapped = ranks < settings.inputs_per_task
        drawn = rng.integers(len(outputs), size=mapped.shape)
        for x in np.flatnonzero(mapped.sum(axis=0) > 1):
            while np.ptp(drawn[mapped[:, x], x]) == 0:  # one output for all tasks that map x
                drawn[:, x] = rng.integers(len(outputs), size=settings.n_tasks)
        functions = [
            {inputs[x]: outputs[row[x]] for x in np.flatnonzero(mask).tolist()}
            for row, mask in zip(drawn, mapped, strict=True)
        ]
        problem = revealing_input({f"task{i}": function for i, function in enumerate(functions)})
        if not problem:
            return functions
    raise InputError(
        f"no valid functions in {n_draws} draws of n_tasks = {settings.n_tasks}, inputs_per_task ="
        f" {settings.inputs_per_task}, n_inputs = {settings.n_inputs}, n_outputs ="
        f" {settings.n_outputs}: {problem}; raise n_tasks, inputs_per_task or n_outputs,"
        " or lower n_inputs"
    )


def _certain_problem(settings: TaskSettings) -> str:
    """Return why no draw of functions can be expected to be valid, or ""."""
    n, n_inputs, mapped = settings.n_tasks, settings.n_inputs, settings.inputs_per_task
    share = mapped / n_inputs
    alone = n_inputs * n * share * (1 - share) ** (n - 1)
    if alone > FAULTS:
        return f"about {alone:.0f} inputs would be mapped by one task only"
    log_functions = mapped * math.log(settings.n_outputs) + (
        math.lgamma(n_inputs + 1) - math.lgamma(mapped + 1) - math.lgamma(n_inputs - mapped + 1)
    )
    if 2 * math.log(n) - math.log(2) - log_functions > math.log(FAULTS):
        return f"there are only about {math.exp(log_functions):.0f} functions"
    return ""
