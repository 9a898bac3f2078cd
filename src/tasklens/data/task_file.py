"""Read and write the JSON file of tasks."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from tasklens.core.downloads import HEAD, stand_in
from tasklens.core.errors import InputError
from tasklens.core.files import read_small_file
from tasklens.core.messages import nearest, short
from tasklens.core.parse import parse_json
from tasklens.core.settings import one_line
from tasklens.core.text import check_characters
from tasklens.data.dataset_size import check_grammars, check_variants
from tasklens.data.tasks import Task, TaskSet, TaskSettings, check_tasks, grammars_of, symbols_of


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


# A key that is absent has a default. One that is there has a value: null and [] are none.
_Count = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
_Names = Annotated[tuple[str, ...], Field(min_length=1)]


class _FileTask(BaseModel, extra="forbid"):
    regexes: tuple[str, ...]
    function: dict[str, str]
    name: Annotated[str, Field(min_length=1)] = ""
    n_variants: _Count = 0


class _File(BaseModel, extra="forbid"):
    tasks: tuple[_FileTask, ...]
    inputs: _Names = ()
    outputs: _Names = ()
    symbols: _Names = ()
    min_length: _Count = 0
    max_length: _Count = 0


def read_task_file(path: Path, settings: TaskSettings) -> TaskSet:
    """Read and check the user's task file; InputError as `tasks_from_json`, or if it is no file."""
    content = read_small_file(path)
    if content and (why := stand_in(content[:HEAD])):
        raise InputError(f"{path} {why}")
    return tasks_from_json(content, str(path), settings)


def tasks_from_json(
    content: str | bytes, source: str, settings: TaskSettings | None = None
) -> TaskSet:
    """Check the content of a task file, in which each task needs `regexes` and `function`.

    Lengths and `n_variants` that the file omits are taken from the settings. Tokens and symbols
    that it omits are those that its tasks use. If the file is damaged, or its tasks break a rule of
    `check_tasks`, InputError is raised; its message begins with `source`, the name of the file.
    """
    try:
        taskset = _taskset(_parsed(content), settings or TaskSettings())
        check_tasks(taskset)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return taskset


def _taskset(file: _File, settings: TaskSettings) -> TaskSet:
    check_grammars(sum(len(entry.regexes) for entry in file.tasks))
    tasks = []
    for i, entry in enumerate(file.tasks):
        name = entry.name or f"task{i}"
        n_variants = entry.n_variants or settings.variants_per_task
        grammars = grammars_of(entry.regexes, f"task {short(name)}")
        tasks.append(Task(name, entry.function, tuple(grammars), n_variants))
    mapped = min((len(task.function) for task in tasks), default=0)
    check_variants(sum(task.n_variants for task in tasks), mapped)
    lengths = settings.changed(  # which checks them
        min_length=file.min_length or settings.min_length,
        max_length=file.max_length or settings.max_length,
    )
    pairs = [pair for task in tasks for pair in task.function.items()]
    return TaskSet(
        tasks=tuple(tasks),
        inputs=file.inputs or tuple(dict.fromkeys(x for x, _ in pairs)),
        outputs=file.outputs or tuple(dict.fromkeys(y for _, y in pairs)),
        symbols=file.symbols or symbols_of(tasks),
        min_length=lengths.min_length,
        max_length=lengths.max_length,
    )


def _parsed(content: str | bytes) -> _File:
    try:
        document = parse_json(content)
        check_characters(document)
    except ValueError as error:
        raise InputError(f"is not a task file: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"should be an object with the keys {', '.join(_File.model_fields)}")
    try:
        return _File.model_validate(document)
    except ValidationError as error:
        for fault in error.errors():
            if fault["type"] == "extra_forbidden":
                *parents, key = map(str, fault["loc"])
                known = (_FileTask if parents else _File).model_fields
                near = nearest(key, [*known])
                key = ".".join([*parents, key])
                raise InputError(f"unknown key {short(key)}; did you mean {near!r}?") from None
        raise one_line(error) from None
