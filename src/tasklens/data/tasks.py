"""Tasks: random functions from input to output tokens, each with the grammars of its instructions.

A `TaskSet` is drawn at random, built on the user's regular expressions, or read from the user's
JSON file; `TaskSet.to_json` writes that same file. Wherever it comes from, the input token alone
tells neither the task nor the output, and no string is an instruction of two tasks.
"""

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.core.settings import SettingsBase, one_line
from tasklens.data.grammar import Grammar, random_grammars

REDRAWS = 1000
_T = TypeVar("_T")


class TaskSettings(SettingsBase, affects="data"):
    """What the tasks are."""

    n_tasks: Annotated[int, Field(ge=2)] = 50
    """Number of tasks."""
    n_inputs: Annotated[int, Field(ge=1)] = 48
    """Size of the input vocabulary x0, x1, ..., shared by all tasks."""
    inputs_per_task: Annotated[int, Field(ge=1)] = 48
    """Number of inputs that each task maps, at most n_inputs."""
    n_outputs: Annotated[int, Field(ge=2)] = 48
    """Size of the output vocabulary y0, y1, ..., shared by all tasks."""
    symbols: Annotated[str, Field(min_length=1)] = "abcde"
    """Alphabet of random instructions: distinct characters, none of them whitespace."""
    min_length: Annotated[int, Field(ge=1)] = 6
    """Length of the shortest instructions, in symbols."""
    max_length: Annotated[int, Field(ge=1)] = 16
    """Length of the longest instructions, in symbols."""
    distributions_per_task: Annotated[int, Field(ge=1)] = 1
    """Number of regular expressions a task."""
    variants_per_task: Annotated[int, Field(ge=1)] = 152
    """Mean number of distinct instructions a task, exact over the task set."""
    variants_spread: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """A task's own number lies within this share of the mean, either way; 0: all are equal."""
    regexes: tuple[str, ...] = ()
    """The user's regular expressions in place of random ones, those of the first task first."""
    file: str = ""
    """Path of the user's task file (JSON) in place of random tasks; what it says overrides all
    other settings here."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.inputs_per_task > self.n_inputs:
            raise ValueError(
                f"inputs_per_task = {self.inputs_per_task} is more mapped inputs than inputs:"
                f" at most n_inputs = {self.n_inputs}"
            )
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length = {self.min_length} must be at most max_length = {self.max_length}"
            )
        if len(set(self.symbols)) < len(self.symbols) or any(map(str.isspace, self.symbols)):
            raise ValueError(
                f"symbols = {self.symbols!r} must be distinct characters, none of them whitespace"
            )
        if self.variants_per_task - self._spread < self.distributions_per_task:
            raise ValueError(
                f"variants_per_task = {self.variants_per_task} with variants_spread ="
                f" {self.variants_spread} leaves a task fewer instructions than"
                f" distributions_per_task = {self.distributions_per_task}"
            )
        n_regexes = self.n_tasks * self.distributions_per_task
        if self.regexes and len(self.regexes) != n_regexes:
            raise ValueError(
                f"regexes has {len(self.regexes)} entries: needed n_tasks x distributions_per_task"
                f" = {n_regexes}"
            )
        if self.regexes and self.file:
            raise ValueError("regexes and file exclude each other: give one of them")
        return self

    @property
    def _spread(self) -> int:
        return int(self.variants_spread * self.variants_per_task)


@dataclass(frozen=True)
class Task:
    """A function from input to output tokens, and how instructions ask for it."""

    name: str
    function: Mapping[str, str]
    grammars: tuple[Grammar, ...]
    n_variants: int

    def shares(self) -> list[int]:
        """Return how many of the instructions come from each grammar, as evenly as possible."""
        return _shares(self.n_variants, len(self.grammars))


@dataclass(frozen=True)
class TaskSet:
    """All tasks, and what they share: tokens, symbols, and the admitted instruction lengths."""

    tasks: tuple[Task, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    symbols: tuple[str, ...]
    min_length: int
    max_length: int

    def to_json(self) -> str:
        """Return the task file: the same bytes for the same tasks."""
        content = {
            "min_length": self.min_length,
            "max_length": self.max_length,
            "symbols": self.symbols,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "tasks": [
                {
                    "name": task.name,
                    "regexes": [grammar.regex for grammar in task.grammars],
                    "n_variants": task.n_variants,
                    "function": dict(task.function),
                }
                for task in self.tasks
            ],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str, settings: TaskSettings | None = None) -> Self:
        """Read and check a task file.

        Parameters
        ----------
        text : str
            The file's content. Each task needs `regexes` and `function`.
        where : str
            What error messages call it, e.g. its path.
        settings : TaskSettings, optional
            Where lengths and `n_variants` come from if the file leaves them out. Tokens and
            symbols that it leaves out are those that its tasks use.

        Raises
        ------
        InputError
            If the file is not as described here, or breaks a rule of this module.
        """
        settings = settings or TaskSettings()
        try:
            content = json.loads(text, object_pairs_hook=_without_duplicates)
        except ValueError as error:
            raise InputError(f"{where}: not a task file: {error}") from None
        file = _checked(_File, content, where)
        tasks = []
        for i, record in enumerate(file.tasks):
            entry = _checked(_FileTask, record, f"{where}: tasks[{i}]")
            name = entry.name or f"task{i}"
            n_variants = entry.n_variants or settings.variants_per_task
            grammars = _grammars(entry.regexes, f"{where}: task {name!r}")
            tasks.append(Task(name, entry.function, tuple(grammars), n_variants))
        functions = [task.function for task in tasks]
        inputs = dict.fromkeys(x for function in functions for x in function)
        outputs = dict.fromkeys(y for function in functions for y in function.values())
        taskset = cls(
            tasks=tuple(tasks),
            inputs=file.inputs or tuple(inputs),
            outputs=file.outputs or tuple(outputs),
            symbols=file.symbols or _used_symbols(tasks),
            min_length=file.min_length or settings.min_length,
            max_length=file.max_length or settings.max_length,
        )
        _check(taskset, f"{where}: ")
        return taskset


def make_tasks(settings: TaskSettings, seed: int) -> TaskSet:
    """Return the tasks that the settings describe: random, on the user's regexes, or from a file.

    Parameters
    ----------
    settings : TaskSettings
        What to make.
    seed : int
        The root seed. Functions, grammars and numbers of variants have streams of their own.

    Raises
    ------
    InputError
        If the settings cannot be met, or the user's regexes or file break a rule.
    """
    if settings.file:
        try:
            text = Path(settings.file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"task file {settings.file}: cannot be read: {error}") from None
        return TaskSet.from_json(text, settings.file, settings)

    n, k = settings.n_tasks, settings.distributions_per_task
    inputs = tuple(f"x{i}" for i in range(settings.n_inputs))
    outputs = tuple(f"y{i}" for i in range(settings.n_outputs))
    functions = _random_functions(settings, inputs, outputs, stream(seed, "functions"))
    variants = _random_variants(settings, stream(seed, "variants"))
    if settings.regexes:
        grammars = _grammars(settings.regexes, "regexes")
    else:
        grammars = random_grammars(
            n * k,
            stream(seed, "grammars"),
            settings.symbols,
            settings.min_length,
            settings.max_length,
            [share for number in variants for share in _shares(number, k)],
        )
    tasks = tuple(
        Task(f"task{i}", functions[i], tuple(grammars[i * k : (i + 1) * k]), variants[i])
        for i in range(n)
    )
    symbols = _used_symbols(tasks) if settings.regexes else tuple(settings.symbols)
    taskset = TaskSet(tasks, inputs, outputs, symbols, settings.min_length, settings.max_length)
    if settings.regexes:
        _check(taskset, "")
    return taskset


def draw_instructions(taskset: TaskSet, seed: int) -> list[list[str]]:
    """Draw each task's distinct instructions, uniformly over the admitted part of each language.

    Parameters
    ----------
    taskset : TaskSet
        The tasks; each has a stream of its own.
    seed : int
        The root seed.

    Returns
    -------
    list of list of str
        For each task its n_variants instructions in random order.
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


# --- Random parts ---


def _shares(number: int, parts: int) -> list[int]:
    return [number // parts + (i < number % parts) for i in range(parts)]


def _random_variants(settings: TaskSettings, rng: np.random.Generator) -> list[int]:
    """Return a number for each task; two tasks of a pair lie on both sides of the mean."""
    offsets = rng.integers(settings._spread, size=settings.n_tasks // 2, endpoint=True)
    odd = np.zeros(settings.n_tasks % 2, dtype=np.int64)
    around = np.concatenate([offsets, -offsets, odd])
    return [settings.variants_per_task + int(offset) for offset in rng.permutation(around)]


def _random_functions(
    settings: TaskSettings,
    inputs: Sequence[str],
    outputs: Sequence[str],
    rng: np.random.Generator,
) -> list[dict[str, str]]:
    """Return uniformly random functions, drawn again until the input alone tells nothing."""
    problem = ""
    for _ in range(REDRAWS):
        # (task, input): a random permutation a row, of which the numbers below a bound are mapped
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
        problem = _telling({f"task{i}": function for i, function in enumerate(functions)})
        if not problem:
            return functions
    raise InputError(
        f"no functions found in {REDRAWS} draws of n_tasks = {settings.n_tasks}, inputs_per_task ="
        f" {settings.inputs_per_task}, n_inputs = {settings.n_inputs}, n_outputs ="
        f" {settings.n_outputs}: {problem}; raise n_tasks, inputs_per_task or n_outputs,"
        " or lower n_inputs"
    )


# --- Rules ---


def _telling(functions: Mapping[str, Mapping[str, str]]) -> str:
    """Say where an input alone tells the task or the output, or two functions are one; or ''."""
    images: dict[str, dict[str, str]] = {}
    for name, function in functions.items():
        for x, y in function.items():
            images.setdefault(x, {})[name] = y
    for x, ys in images.items():
        if len(ys) < 2:
            return f"input {x!r} is mapped by task {next(iter(ys))!r} only"
        if len(set(ys.values())) < 2:
            return f"all tasks that map input {x!r} map it to {next(iter(ys.values()))!r}"
    seen: dict[frozenset[tuple[str, str]], str] = {}
    for name, function in functions.items():
        earlier = seen.setdefault(frozenset(function.items()), name)
        if earlier != name:
            return f"tasks {earlier!r} and {name!r} have the same function"
    return ""


def _check(taskset: TaskSet, where: str) -> None:
    """Hold the user's tasks to the rules that random ones keep by construction."""
    tasks = taskset.tasks
    if len(tasks) < 2:
        raise InputError(f"{where}{len(tasks)} tasks: needed at least 2")
    if not 1 <= taskset.min_length <= taskset.max_length:
        raise InputError(
            f"{where}min_length = {taskset.min_length} and max_length = {taskset.max_length}:"
            " needed 1 <= min_length <= max_length"
        )
    named = {"inputs": taskset.inputs, "outputs": taskset.outputs, "symbols": taskset.symbols}
    named["task names"] = tuple(task.name for task in tasks)
    for kind, names in named.items():
        for name, times in Counter(names).items():
            if times > 1:
                raise InputError(f"{where}{kind}: {name!r} occurs twice; each must be distinct")
    for symbol in taskset.symbols:
        if len(symbol) != 1 or symbol.isspace():
            raise InputError(f"{where}symbol {symbol!r} must be one character, not whitespace")
    for token in taskset.inputs + taskset.outputs:
        if token.split() != [token]:
            raise InputError(f"{where}token {token!r} must be without whitespace and not empty")
        if token in taskset.symbols:
            raise InputError(f"{where}token {token!r} is a symbol of the instructions; rename it")
    for task in tasks:
        _check_task(task, taskset, f"{where}task {task.name!r}: ")
    if problem := _telling({task.name: task.function for task in tasks}):
        raise InputError(f"{where}{problem}; the input alone must not tell the task or the output")
    languages = [(task.name, grammar) for task in tasks for grammar in task.grammars]
    for (name, grammar), (other, other_grammar) in combinations(languages, 2):
        if (shared := grammar.shared_string(other_grammar)) is not None:
            raise InputError(
                f"{where}tasks {name!r} and {other!r} share the string {shared!r} (regexes"
                f" {grammar.regex!r} and {other_grammar.regex!r}): no two may have one in common"
            )


def _check_task(task: Task, taskset: TaskSet, where: str) -> None:
    if not task.function:
        raise InputError(f"{where}function maps no input; give at least one")
    for kind, used, known in (
        ("input", task.function.keys(), taskset.inputs),
        ("output", task.function.values(), taskset.outputs),
        ("symbol", _used_symbols([task]), taskset.symbols),
    ):
        for name in sorted(set(used).difference(known)):
            raise InputError(f"{where}{kind} {name!r} is not among the {kind}s of the task set")
    if not 1 <= len(task.grammars) <= task.n_variants:
        raise InputError(
            f"{where}{len(task.grammars)} regexes for n_variants = {task.n_variants}: needed at"
            " least 1 regex, and a variant for each"
        )
    for grammar, share in zip(task.grammars, task.shares(), strict=True):
        held = grammar.count(taskset.min_length, taskset.max_length)
        if share > held:
            raise InputError(
                f"{where}regex {grammar.regex!r} holds only {held} strings of length"
                f" {taskset.min_length} to {taskset.max_length}, {share} asked for"
            )


def _grammars(regexes: Sequence[str], where: str) -> list[Grammar]:
    try:
        return [Grammar(regex) for regex in regexes]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _used_symbols(tasks: Sequence[Task]) -> tuple[str, ...]:
    return tuple(sorted({s for task in tasks for g in task.grammars for s in g.symbols}))


# --- The task file ---


@dataclass(frozen=True)
class _FileTask:
    regexes: tuple[str, ...]
    function: dict[str, str]
    name: str = ""
    n_variants: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class _File:
    tasks: tuple[dict[str, Any], ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    min_length: int | None = None
    max_length: int | None = None


def _checked(kind: type[_T], record: object, where: str) -> _T:
    """Return the JSON object as that kind of record, or say what is wrong with it."""
    known = kind.__annotations__
    if not isinstance(record, dict):
        raise InputError(f"{where}: must be an object with the keys {', '.join(known)}")
    for key in record:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
            raise InputError(f"{where}: unknown key {key!r}; did you mean {near!r}?")
    for key in known:
        if key not in record and not hasattr(kind, key):
            raise InputError(f"{where}: {key!r} is missing")
    try:
        return TypeAdapter(kind).validate_python(record)
    except ValidationError as error:
        raise InputError(f"{where}: {one_line(error)}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return record
