"""Make tasks and draw their instructions.

There is one random stream each for the functions, the numbers of instructions, the grammars and the
instructions of each task.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.dataset_size import check_dataset_size
from tasklens.data.grammar import random_grammars
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
    variants = _random_variants(settings, stream(seed, "variants"))
    if settings.regexes:
        grammars = grammars_of(settings.regexes, "regexes")
    else:
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
    symbols = symbols_of(tasks) if settings.regexes else tuple(settings.symbols)
    taskset = TaskSet(tasks, inputs, outputs, symbols, settings.min_length, settings.max_length)
    if settings.regexes:
        check_tasks(taskset)
    return taskset


def draw_instructions(taskset: TaskSet, seed: int) -> list[list[str]]:
    """Draw each task's distinct instructions, uniformly over the admitted lengths of a language.

    Each task has its own stream, and its `n_variants` instructions are in random order.
    """
    instructions = []
    for i, task in enumerate(taskset.tasks):
        rng = stream(seed, "instructions", i)
        drawn = [
            string
            for grammar, share in zip(task.grammars, task.shares(), strict=True)
            for string in grammar.sample(share, taskset.min_length, taskset.max_length, rng)
        ]
        instructions.append([drawn[j] for j in rng.permutation(len(drawn))])
    return instructions


def _random_variants(settings: TaskSettings, rng: np.random.Generator) -> list[int]:
    """Draw the number of variants of each task, in pairs that are symmetric about the mean."""
    offsets = rng.integers(settings.spread, size=settings.n_tasks // 2, endpoint=True)
    odd = np.zeros(settings.n_tasks % 2, dtype=np.int64)
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
