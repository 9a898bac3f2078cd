"""Tasks: functions from input to output tokens, each with the grammars of its instructions.

Tasks are drawn at random (`random_tasks`), built from the user's regular expressions, or read from
the user's JSON file (`task_file`). In each case the input token alone reveals neither the task nor
the output, and no string is an instruction of two tasks.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.settings import SettingsBase
from tasklens.core.text import visible
from tasklens.data.cell_values import look
from tasklens.data.grammar import Grammar
from tasklens.data.instances import UNSEEN_KINDS


class TaskSettings(SettingsBase, affects="data"):
    """The tasks of a training run: their number, functions and instructions.

    Examples
    --------
    >>> import tasklens as tl
    >>> settings = tl.TaskSettings(regexes=["(ab|c)d{2,4}", "b(a|d){3}"], min_length=3)
    >>> settings.n_tasks
    2
    """

    n_tasks: Annotated[int, Field(ge=2, lt=2**31)] = 50
    """Number of tasks. With regexes or a file, it follows from these."""
    n_inputs: Annotated[int, Field(ge=1, lt=2**31)] = 48
    """Size of the input vocabulary x0, x1, ..., shared by all tasks."""
    inputs_per_task: Annotated[int, Field(ge=1, lt=2**31)] = 48
    """Number of inputs that each task maps, at most n_inputs."""
    n_outputs: Annotated[int, Field(ge=2, lt=2**31)] = 48
    """Size of the output vocabulary y0, y1, ..., shared by all tasks."""
    symbols: Annotated[str, Field(min_length=1)] = "abcde"
    """Alphabet of random instructions: distinct characters, none of them whitespace."""
    min_length: Annotated[int, Field(ge=1, lt=2**31)] = 6
    """Length of the shortest instructions, in symbols."""
    max_length: Annotated[int, Field(ge=1, lt=2**31)] = 16
    """Length of the longest instructions, in symbols."""
    distributions_per_task: Annotated[int, Field(ge=1, lt=2**31)] = 1
    """Number of regular expressions per task."""
    unseen_distributions: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Number of further regular expressions per task that training never reads (split
    unseen_distribution). Each has as many instructions as one of the others on average."""
    unseen_tasks: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Number of further tasks that training never reads (split unseen_task): they have instructions
    but no function, so there is no right answer."""
    variants_per_task: Annotated[int, Field(ge=1, lt=2**31)] = 152
    """Mean number of distinct instructions per task, exact over all tasks."""
    variants_spread: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest distance of a task's number of instructions from the mean, as a share of the mean;
    0: all numbers are equal."""
    regexes: tuple[str, ...] = ()
    """The user's regular expressions instead of random ones, those of the first task first. The
    unseen_distributions of a task follow its own; those of the unseen_tasks are at the end."""
    file: str = ""
    """Path of the user's task file (JSON) instead of random tasks; it overrides all other settings
    in this table."""

    @model_validator(mode="before")
    @classmethod
    def _count_regexes(cls, values: Any) -> Any:
        """Set the number of tasks to that of the user's regular expressions, if it can be."""
        names = "distributions_per_task", "unseen_distributions", "unseen_tasks"
        regexes = values.get("regexes")
        k, unseen, n_unseen = (values.get(name, cls.model_fields[name].default) for name in names)
        if not isinstance(regexes, list | tuple) or not all(
            isinstance(each, int) for each in (k, unseen, n_unseen)
        ):
            return values
        n_known, of_task = len(regexes) - n_unseen * k, k + unseen
        if 0 < 2 * of_task <= n_known:
            return {**values, "n_tasks": n_known // of_task}
        return values

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.inputs_per_task > self.n_inputs:
            raise ValueError(
                f"inputs_per_task = {self.inputs_per_task}: should be at most n_inputs ="
                f" {self.n_inputs}"
            )
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length = {self.min_length}: should be at most max_length = {self.max_length}"
            )
        if len(set(self.symbols)) < len(self.symbols) or any(map(str.isspace, self.symbols)):
            raise ValueError(
                f"symbols = {self.symbols!r}: should be distinct characters without whitespace"
            )
        if self.variants_per_task - self.spread < self.distributions_per_task:
            raise ValueError(
                f"variants_per_task = {self.variants_per_task} with variants_spread ="
                f" {self.variants_spread} gives some task fewer instructions than"
                f" distributions_per_task = {self.distributions_per_task}"
            )
        if self.regexes and len(self.regexes) != self.n_regexes:
            k, unseen, n_unseen = (
                self.distributions_per_task,
                self.unseen_distributions,
                self.unseen_tasks,
            )
            raise ValueError(
                f"{len(self.regexes)} regexes: should be distributions_per_task = {k}"
                + (f" and unseen_distributions = {unseen}" if unseen else "")
                + " for each of two tasks or more"
                + (f", then {k} for each of unseen_tasks = {n_unseen}" if n_unseen else "")
            )
        if self.regexes and self.file:
            raise ValueError("regexes and file exclude each other: give one of them")
        return self

    @property
    def unseen_kinds(self) -> tuple[str, ...]:
        """Measured splits of unseen kinds that these settings ask for; a file may name others."""
        wanted = self.unseen_distributions, self.unseen_tasks
        return tuple(split for split, n in zip(UNSEEN_KINDS, wanted, strict=True) if n)

    @property
    def n_regexes(self) -> int:
        """Number of regular expressions of all tasks, the unseen ones included."""
        k = self.distributions_per_task
        return self.n_tasks * (k + self.unseen_distributions) + self.unseen_tasks * k

    @property
    def spread(self) -> int:
        """Largest distance of a task's number of variants from the mean."""
        return int(self.variants_spread * self.variants_per_task)


@dataclass(frozen=True)
class Task:
    """A function from input to output tokens, and the grammars of its instructions."""

    name: str
    function: Mapping[str, str]
    """Empty for an unseen task, which has no right answer."""
    grammars: tuple[Grammar, ...]
    n_variants: int
    """Number of distinct instructions of the grammars together."""
    unseen: tuple[Grammar, ...] = ()
    """Further grammars that training never reads."""

    @property
    def every_grammar(self) -> tuple[Grammar, ...]:
        """The grammars, then the unseen ones."""
        return self.grammars + self.unseen

    @property
    def n_unseen(self) -> int:
        """Number of instructions of each unseen grammar: as many as one of the others has."""
        return self.n_variants // max(1, len(self.grammars))

    def shares(self) -> list[int]:
        """Return the number of instructions of each grammar, as equal as possible."""
        return shares_of(self.n_variants, len(self.grammars))


@dataclass(frozen=True)
class TaskSet:
    """All tasks with their common tokens, symbols and admitted instruction lengths."""

    tasks: tuple[Task, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    symbols: tuple[str, ...]
    min_length: int
    max_length: int
    unseen_tasks: tuple[Task, ...] = ()
    """Tasks that training never reads, numbered after the others."""

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """The tasks, then the unseen ones."""
        return self.tasks + self.unseen_tasks


def revealing_input(functions: Mapping[str, Mapping[str, str]]) -> str:
    """Return how an input alone reveals the task or output, or the functions are equal, or ""."""
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


def check_tasks(taskset: TaskSet) -> None:
    """Check the user's tasks against the rules that random tasks obey by construction.

    InputError for the first rule that is broken.
    """
    tasks = taskset.tasks
    if len(tasks) < 2:
        raise InputError(f"{len(tasks)} tasks: should be at least 2")
    if not 1 <= taskset.min_length <= taskset.max_length:
        raise InputError(
            f"min_length = {taskset.min_length} and max_length = {taskset.max_length}:"
            " should be 1 <= min_length <= max_length"
        )
    named = {"inputs": taskset.inputs, "outputs": taskset.outputs, "symbols": taskset.symbols}
    named["task names"] = tuple(task.name for task in taskset.all_tasks)
    for kind, names in named.items():
        alike: dict[str, str] = {}
        for name, times in Counter(names).items():
            if times > 1:
                raise InputError(f"{kind}: {short(name)} occurs twice; all should be distinct")
            other = alike.setdefault(look(name), name)
            if other != name:
                raise InputError(
                    f"{kind}: {name[:50]!a} looks like {other[:50]!a}; all should differ visibly"
                )
    for symbol in taskset.symbols:
        if len(symbol) != 1 or symbol.isspace() or visible(symbol) != symbol:
            raise InputError(
                f"symbol {short(symbol)} should be one character, not whitespace and visible"
            )
    for token in taskset.inputs + taskset.outputs:
        if token.split() != [token] or visible(token) != token:
            raise InputError(
                f"token {short(token)} should be without whitespace and not empty, and visible"
            )
        if token in taskset.symbols:
            raise InputError(f"token {short(token)} is a symbol of the instructions; rename it")
    _check_unseen_symbols(taskset)
    for task in tasks:
        if not task.function:
            raise InputError(f"task {task.name!r}: function maps no input; give at least one")
        _check_task(task, taskset)
    for task in taskset.unseen_tasks:
        _check_task(task, taskset)
    if problem := revealing_input({task.name: task.function for task in tasks}):
        raise InputError(f"{problem}; the input alone should not reveal the task or the output")
    languages = [
        (task.name, grammar) for task in taskset.all_tasks for grammar in task.every_grammar
    ]
    for (name, grammar), (other, other_grammar) in combinations(languages, 2):
        if (shared := grammar.shared_string(other_grammar)) is not None:
            raise InputError(
                f"tasks {name!r} and {other!r} share the string {shared!r} (regexes"
                f" {grammar.regex!r} and {other_grammar.regex!r}): tasks should share no string"
            )


def _check_task(task: Task, taskset: TaskSet) -> None:
    task_name = f"task {task.name!r}: "
    for kind, used, known in (
        ("input", task.function.keys(), taskset.inputs),
        ("output", task.function.values(), taskset.outputs),
        ("symbol", symbols_of([task]), taskset.symbols),
    ):
        for name in sorted(set(used).difference(known)):
            raise InputError(f"{task_name}{kind} {name!r} is not among the {kind}s of the task set")
    if not 1 <= len(task.grammars) <= task.n_variants:
        raise InputError(
            f"{task_name}{len(task.grammars)} regexes for n_variants = {task.n_variants}: should be"
            " at least 1 regex, and at least 1 variant per regex"
        )
    of_grammar = [*zip(task.grammars, task.shares(), strict=True)]
    of_grammar += [(grammar, task.n_unseen) for grammar in task.unseen]
    for grammar, share in of_grammar:
        held = grammar.count(taskset.min_length, taskset.max_length)
        if share > held:
            raise InputError(
                f"{task_name}regex {grammar.regex!r} matches only {held} strings of length"
                f" {taskset.min_length} to {taskset.max_length}: should be at least {share}"
            )


def _check_unseen_symbols(taskset: TaskSet) -> None:
    """Check that training reads each symbol of the unseen expressions: its token is learned."""
    read = set(symbols_of(taskset.tasks))
    unseen = [(task.name, grammar) for task in taskset.tasks for grammar in task.unseen]
    unseen += [(task.name, grammar) for task in taskset.unseen_tasks for grammar in task.grammars]
    for name, grammar in unseen:
        for symbol in sorted(set(grammar.symbols) - read):
            raise InputError(
                f"task {name!r}: symbol {symbol!r} of the unseen regex {grammar.regex!r} is in no"
                " regex that training reads"
            )


def grammars_of(regexes: Sequence[str], source: str) -> list[Grammar]:
    """Return the grammars of regular expressions; an InputError begins with ``source``."""
    try:
        return [Grammar(regex) for regex in regexes]
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def symbols_of(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Return the symbols of all instructions of the tasks but unseen ones, sorted."""
    return tuple(sorted({s for task in tasks for g in task.grammars for s in g.symbols}))


def shares_of(number: int, parts: int) -> list[int]:
    """Split a number into parts that are as equal as possible, the larger ones first."""
    return [number // parts + (i < number % parts) for i in range(parts)]
