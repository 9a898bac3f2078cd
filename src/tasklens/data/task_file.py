"""Read and write the JSON file of tasks."""

import json
from pathlib import Path
from typing import Annotated, Any

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
    content: dict[str, Any] = {
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
            | ({"unseen_regexes": [each.regex for each in task.unseen]} if task.unseen else {})
            for task in taskset.tasks
        ],
    }
    if taskset.unseen_tasks:
        content["unseen_tasks"] = [
            {
                "name": task.name,
                "regexes": [grammar.regex for grammar in task.grammars],
                "n_variants": task.n_variants,
            }
            for task in taskset.unseen_tasks
        ]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


# A key that is absent has a default. One that is there has a value: null and [] are none.
_Count = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
_Names = Annotated[tuple[str, ...], Field(min_length=1)]


class _UnseenTask(BaseModel, extra="forbid"):
    regexes: tuple[str, ...]
    name: Annotated[str, Field(min_length=1)] = ""
    n_variants: _Count = 0


class _FileTask(_UnseenTask):
    function: dict[str, str]
    unseen_regexes: _Names = ()


class _File(BaseModel, extra="forbid"):
    tasks: tuple[_FileTask, ...]
    inputs: _Names = ()
    outputs: _Names = ()
    symbols: _Names = ()
    min_length: _Count = 0
    max_length: _Count = 0
    unseen_tasks: Annotated[tuple[_UnseenTask, ...], Field(min_length=1)] = ()


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

    A task may have `unseen_regexes`, which training never reads; `unseen_tasks` have no function.
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
    entries = [*file.tasks, *file.unseen_tasks]
    n_unseen = sum(len(entry.unseen_regexes) for entry in file.tasks)
    check_grammars(sum(len(entry.regexes) for entry in entries) + n_unseen)
    tasks = [_task(entry, entry.name or f"task{i}", settings) for i, entry in enumerate(file.tasks)]
    unseen = [
        _task(entry, entry.name or f"unseen{i}", settings)
        for i, entry in enumerate(file.unseen_tasks)
    ]
    mapped = min((len(task.function) for task in tasks), default=0)
    n_variants = sum(task.n_variants for task in (*tasks, *unseen))
    check_variants(n_variants + sum(each.n_unseen * len(each.unseen) for each in tasks), mapped)
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
        unseen_tasks=tuple(unseen),
    )


def _task(entry: _UnseenTask, name: str, settings: TaskSettings) -> Task:
    """Return the task of an entry; without a function, an unseen one."""
    source = f"task {short(name)}"
    function, unseen = (
        ({}, ()) if not isinstance(entry, _FileTask) else (entry.function, entry.unseen_regexes)
    )
    return Task(
        name,
        function,
        tuple(grammars_of(entry.regexes, source)),
        entry.n_variants or settings.variants_per_task,
        tuple(grammars_of(unseen, source)),
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
                if parents[:1] == ["unseen_tasks"] and key == "function":
                    line = f"{'.'.join(parents)}: an unseen task has no function"
                    raise InputError(line) from None
                entry = _FileTask if parents[:1] == ["tasks"] else _UnseenTask
                known = (entry if parents else _File).model_fields
                near = nearest(key, [*known])
                key = ".".join([*parents, key])
                raise InputError(f"unknown key {short(key)}; did you mean {near!r}?") from None
        raise one_line(error) from None
