"""Read and write the JSON file of tasks."""

import difflib
import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from tasklens.core.errors import InputError
from tasklens.core.settings import one_line
from tasklens.data.tasks import Task, TaskSet, TaskSettings, check_tasks, grammars_of, symbols_of

_T = TypeVar("_T")


def tasks_to_json(taskset: TaskSet) -> str:
    """Return the content of a task file: the same bytes for the same tasks."""
    content = {
        "min_length": taskset.min_length,
        "max_length": taskset.max_length,
        "symbols": taskset.symbols,
        "inputs": taskset.inputs,
        "outputs": taskset.outputs,
        "tasks": [
            {
                "name": task.name,
                "regexes": [grammar.regex for grammar in task.grammars],
                "n_variants": task.n_variants,
                "function": dict(task.function),
            }
            for task in taskset.tasks
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def tasks_from_json(text: str, where: str, settings: TaskSettings | None = None) -> TaskSet:
    """Read and check a task file.

    Parameters
    ----------
    text : str
        The file's content. Each task needs `regexes` and `function`.
    where : str
        Name of the file in error messages, e.g. the path.
    settings : TaskSettings, optional
        Lengths and `n_variants` for what the file leaves out. Tokens and
        symbols that it leaves out are those that its tasks use.

    Raises
    ------
    InputError
        If the file is not as described above, or its tasks break a rule of `check_tasks`.
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
        grammars = grammars_of(entry.regexes, f"{where}: task {name!r}")
        tasks.append(Task(name, entry.function, tuple(grammars), n_variants))
    functions = [task.function for task in tasks]
    inputs = dict.fromkeys(x for function in functions for x in function)
    outputs = dict.fromkeys(y for function in functions for y in function.values())
    taskset = TaskSet(
        tasks=tuple(tasks),
        inputs=file.inputs or tuple(inputs),
        outputs=file.outputs or tuple(outputs),
        symbols=file.symbols or symbols_of(tasks),
        min_length=file.min_length or settings.min_length,
        max_length=file.max_length or settings.max_length,
    )
    check_tasks(taskset, f"{where}: ")
    return taskset


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
    """Return the JSON object as a record of that kind; InputError if it is not one."""
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
