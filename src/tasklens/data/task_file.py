"""Read and write the JSON file of tasks."""

import difflib
import json
from typing import Annotated

from pydantic import BaseModel, Field, StrictInt, ValidationError

from tasklens.core.errors import InputError
from tasklens.core.settings import one_line
from tasklens.core.text import without_duplicates
from tasklens.data.dataset_size import check_grammars
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


class _FileTask(BaseModel, extra="forbid"):
    regexes: tuple[str, ...]
    function: dict[str, str]
    name: str = ""
    n_variants: Annotated[int, Field(ge=1, lt=2**31, strict=True)] | None = None


class _File(BaseModel, extra="forbid"):
    tasks: tuple[_FileTask, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    min_length: StrictInt | None = None
    max_length: StrictInt | None = None


def tasks_from_json(text: str, source: str, settings: TaskSettings | None = None) -> TaskSet:
    """Read and check a task file, in which each task needs `regexes` and `function`.

    Lengths and `n_variants` that the file omits are taken from the settings. Tokens and symbols
    that it omits are those that its tasks use. If the file is damaged, or its tasks break a rule of
    `check_tasks`, InputError is raised; its message begins with `source`, the name of the file.
    """
    try:
        taskset = _taskset(_parsed(text), settings or TaskSettings())
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
        grammars = grammars_of(entry.regexes, f"task {name!r}")
        tasks.append(Task(name, entry.function, tuple(grammars), n_variants))
    pairs = [pair for task in tasks for pair in task.function.items()]
    return TaskSet(
        tasks=tuple(tasks),
        inputs=file.inputs or tuple(dict.fromkeys(x for x, _ in pairs)),
        outputs=file.outputs or tuple(dict.fromkeys(y for _, y in pairs)),
        symbols=file.symbols or symbols_of(tasks),
        min_length=settings.min_length if file.min_length is None else file.min_length,
        max_length=settings.max_length if file.max_length is None else file.max_length,
    )


def _parsed(text: str) -> _File:
    try:
        content = json.loads(text, object_pairs_hook=without_duplicates)
        json.dumps(content, ensure_ascii=False).encode()  # an escape may be half a character
    except ValueError as error:
        raise InputError(f"is not a task file: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"should be an object with the keys {', '.join(_File.model_fields)}")
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        for fault in error.errors():
            if fault["type"] == "extra_forbidden":
                *parents, key = map(str, fault["loc"])
                known = (_FileTask if parents else _File).model_fields
                near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
                key = ".".join([*parents, key])
                raise InputError(f"unknown key {key!r}; did you mean {near!r}?") from None
        raise one_line(error) from None
