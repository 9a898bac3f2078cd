"""Families of tasks for prompts: those that come with the package, and a user's files.

The tasks of a family are asked over the same inputs, so that an input does not give its task away.
docs/how-to/few-shot-prompts.md describes the files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tasklens.core.downloads import HEAD, stand_in
from tasklens.core.errors import InputError
from tasklens.core.files import read_small_file
from tasklens.core.messages import nearest, short
from tasklens.core.parse import parse_json, parse_toml
from tasklens.core.text import check_characters, visible
from tasklens.data.cell_values import is_missing, name_of, plain
from tasklens.data.names import listed

#: The families that come with the package, each a file of `prompt_sets`.
SHIPPED_FAMILIES = ("adjectives", "countries", "letters", "nouns", "verbs")
#: Name of the family that lists of inputs and outputs form together.
LISTS = "lists"
#: Fewest tasks of a family: there is nothing to compare one task with.
FEWEST_TASKS = 2
_ENDINGS = (".toml", ".json")
_FORMAT = (
    'should have the tables tasks, as in past = "past tense", and inputs, as in eat = ["ate"]; or '
    'be a list, as in [{"input": "eat", "output": "ate"}]'
)

Share: TypeAlias = Literal["all", "common", "none"]


@dataclass(frozen=True)
class Family:
    """Tasks that are asked over the same inputs."""

    name: str
    tasks: Mapping[str, str]
    """What each task is called in a sentence, as in "past tense"."""
    answers: Mapping[str, Mapping[str, str]]
    """The answers to each input, by task."""
    crossed: bool = True
    """Whether each task has an answer to each input."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many inputs were left out, by the reason."""
    shown: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The answers to inputs that are not asked about, but may be examples."""

    def without(self, inputs: Iterable[str], reason: str, *, as_examples: bool = False) -> "Family":
        """Return the family without some inputs, which are counted under a reason.

        They may still be examples, if this is wanted.
        """
        out = set(inputs)
        if not out:
            return self
        answers = {x: ys for x, ys in self.answers.items() if x not in out}
        left_out = {**self.left_out, reason: self.left_out.get(reason, 0) + len(out)}
        shown = {x: self.answers[x] for x in self.answers if x in out} if as_examples else {}
        return replace(self, answers=answers, left_out=left_out, shown={**self.shown, **shown})

    def of_tasks(self, names: Iterable[str]) -> "Family":
        """Return the family with some of its tasks only, and the inputs that these have."""
        kept = set(names)
        tasks = {name: phrase for name, phrase in self.tasks.items() if name in kept}
        answers, shown = (
            {
                x: of_kept
                for x, ys in each.items()
                if (of_kept := {task: y for task, y in ys.items() if task in kept})
            }
            for each in (self.answers, self.shown)
        )
        return replace(self, tasks=tasks, answers=answers, shown=shown)


def choose_families(
    tasks: Sequence[str], families: Sequence[str], share: Share = "all"
) -> list[Family]:
    """Return the families that a user names, without inputs that do not tell their tasks apart.

    Parameters
    ----------
    tasks : sequence of str
        Names of tasks, and files of tasks. Without a file, and if `families` names one of them,
        the families of the package are there, too.
    families : sequence of str
        Names of families; empty: all.
    share : {"all", "common", "none"}
        Which inputs tasks of lists have: the same ones, those that all of them have, or their own.

    Raises
    ------
    InputError
        For an unknown name, a broken file, or a family of a single task.
    """
    files = [name for name in tasks if Path(name).suffix.lower() in _ENDINGS]
    names = [name for name in tasks if name not in files]
    known = _of_files(files, share)
    if names or families or not files:
        known += [shipped_family(name) for name in SHIPPED_FAMILIES]
    _check_names(known)
    chosen = _named(known, families)
    _check_known("task", names, [task for family in chosen for task in family.tasks], _OR_A_FILE)
    if names:
        chosen = [family.of_tasks(names) for family in chosen]
        chosen = [family for family in chosen if family.tasks]
    for family in chosen:
        if len(family.tasks) < FEWEST_TASKS:
            (task,) = family.tasks
            raise InputError(
                f"family {short(family.name)} has the single task {short(task)}: should have "
                f"{FEWEST_TASKS} or more, of which clusters can differ"
            )
    return [_with_distinct_answers(family) for family in chosen]


@cache
def shipped_family(name: str) -> Family:
    """Return a family that comes with the package."""
    file = resources.files("tasklens").joinpath(f"data/prompt_sets/{name}.toml")
    return _family(parse_toml(file.read_bytes(), name), name, name)


def content_of_families() -> bytes:
    """Return the content of the families that come with the package."""
    directory = resources.files("tasklens").joinpath("data/prompt_sets")
    return b"".join(directory.joinpath(f"{name}.toml").read_bytes() for name in SHIPPED_FAMILIES)


_OR_A_FILE = f"; or name a file that ends in {' or '.join(_ENDINGS)}"


def _named(known: list[Family], names: Sequence[str]) -> list[Family]:
    _check_known("family", names, [family.name for family in known])
    return [family for family in known if not names or family.name in names]


def _check_known(kind: str, names: Sequence[str], known: Sequence[str], more: str = "") -> None:
    for name in names:
        if name not in known:
            raise InputError(
                f"no {kind} {short(name)}; the nearest is {nearest(name, known)!r} of "
                f"{listed(known)}{more}"
            )


def _check_names(families: Sequence[Family]) -> None:
    """Refuse two families of one name, and two tasks: a task is a label."""
    seen: dict[str, str] = {}
    for i, family in enumerate(families):
        if family.name in [other.name for other in families[:i]]:
            raise InputError(f"two families are called {short(family.name)}: rename a file")
        for task in family.tasks:
            other = seen.setdefault(task, family.name)
            if other != family.name:
                raise InputError(
                    f"the families {short(other)} and {short(family.name)} both have a task "
                    f"{short(task)}: should differ in name"
                )


def _with_distinct_answers(family: Family) -> Family:
    """Leave out inputs with the same answer under two tasks, or with themselves as an answer."""
    same = [x for x, ys in family.answers.items() if len(set(ys.values())) < len(ys)]
    family = family.without(same, "with the same answer under two tasks")
    itself = [x for x, ys in family.answers.items() if x in ys.values()]
    return family.without(itself, "that are an answer to themselves")


def _of_files(files: Sequence[str], share: Share) -> list[Family]:
    """Return the families of a user's files; all lists together are one family."""
    families: list[Family] = []
    lists: dict[str, dict[str, set[str]]] = {}
    for file in files:
        name, source = Path(file).stem, visible(file)
        content = _content(file, source)
        if isinstance(content, list):
            if name in lists:
                raise InputError(f"{source}: another list is called {short(name)}: rename a file")
            lists[name] = _pairs(content, source)
        elif isinstance(content, dict):
            families.append(_family(content, source, name))
        else:
            raise InputError(f"{source}: {_FORMAT}")
    return [*families, _family_of_lists(lists, share)] if lists else families


def _content(file: str, source: str) -> Any:
    content = read_small_file(Path(file))
    if content and (why := stand_in(content[:HEAD])):
        raise InputError(f"{source} {why}")
    if Path(file).suffix.lower() == ".toml":
        return parse_toml(content, source)
    try:
        document = parse_json(content)
        check_characters(document)
    except ValueError as error:
        raise InputError(f"{source} is not JSON: {error}") from error
    return document


def _family(content: Mapping[str, Any], source: str, name: str) -> Family:
    """Return the family of the tables `tasks` and `inputs`."""
    tasks, inputs = content.get("tasks"), content.get("inputs")
    if set(content) != {"tasks", "inputs"} or not isinstance(tasks, dict):
        raise InputError(f"{source}: has the keys {listed(list(content))}: {_FORMAT}")
    if not isinstance(inputs, dict) or not tasks:
        raise InputError(f"{source}: {_FORMAT}")
    answers = {}
    for x, ys in inputs.items():
        at = f"{source}: inputs.{visible(x)}"
        if not isinstance(ys, list) or len(ys) != len(tasks):
            raise InputError(
                f"{at}: should be a list of {len(tasks)} answers, in the order of the tasks: "
                f"{listed(list(tasks))}"
            )
        x = _text(x, "the input", at)
        answers[x] = {task: _text(y, task, at) for task, y in zip(tasks, ys, strict=True)}
    phrases = {task: _text(phrase, task, f"{source}: tasks") for task, phrase in tasks.items()}
    return Family(name, phrases, answers)


def _pairs(content: Sequence[Any], source: str) -> dict[str, set[str]]:
    """Return the outputs of each input of a list."""
    pairs: dict[str, set[str]] = {}
    for number, item in enumerate(content, 1):
        at = f"{source}: item {number}"
        if not isinstance(item, dict) or not {"input", "output"} <= set(item):
            raise InputError(
                f'{at}: should have an input and an output, as in {{"input": "eat", '
                '"output": "ate"}'
            )
        x = _text(item["input"], "input", at)
        pairs.setdefault(x, set()).add(_text(item["output"], "output", at))
    if not pairs:
        raise InputError(f"{source}: is an empty list: {_FORMAT}")
    return pairs


def _text(value: Any, column: str, source: str) -> str:
    """Return an input, an answer or a phrase, which is one line of text."""
    value = plain(value)
    if is_missing(value):
        raise InputError(f"{source}: {short(column)} is empty: should be a text")
    text = name_of(column, source, value).strip()
    if "\n" in text or "\r" in text:
        raise InputError(f"{source}: {short(column)} has a line break: should be one line")
    return text


def _family_of_lists(lists: Mapping[str, Mapping[str, set[str]]], share: Share) -> Family:
    """Return the family of lists, which are crossed if their inputs are the same."""
    every = list(dict.fromkeys(x for pairs in lists.values() for x in pairs))
    for task, pairs in lists.items() if share == "all" else ():
        if missing := [x for x in every if x not in pairs]:
            raise InputError(
                f"the list {short(task)} lacks {len(missing):,} of {len(every):,} inputs that "
                f"others have, first {short(missing[0])}: add them, or take the inputs that all "
                "have with --share common, or each list's own with --share none"
            )
    answers = {
        x: {task: min(pairs[x]) for task, pairs in lists.items() if x in pairs} for x in every
    }
    phrases = {task: " ".join(task.replace("-", " ").replace("_", " ").split()) for task in lists}
    family = Family(LISTS, phrases, answers, crossed=share != "none")
    unclear = [x for x in every if any(len(pairs.get(x, ())) > 1 for pairs in lists.values())]
    family = family.without(unclear, "with several outputs in a list")
    if share == "none":
        return family
    some = [x for x, ys in family.answers.items() if len(ys) < len(lists)]
    return family.without(some, "that some lists lack")
