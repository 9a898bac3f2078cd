"""Choose the columns of labelled prompts, and read those that mean something.

All rows of all files, and the whole header, decide what a column is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.progress import warn
from tasklens.data.cell_values import Unreadable, is_missing, look, names_of
from tasklens.data.chats import MESSAGES, read_messages
from tasklens.data.names import listed
from tasklens.data.prompt_readers import Record

#: Columns that are used if the settings name none: the first of these that the files have.
USUAL = {
    "label": ("label", "task"),
    "input": ("input",),
    "output": ("output", "answer"),
    "group": ("instruction",),
    "family": ("family",),
}


class Prompt(NamedTuple):
    """A prompt with the columns that mean something."""

    source: str
    """File and line."""
    columns: dict[str, Any]
    """All columns, with the values of `tasklens.data.cell_values.plain`."""
    names: dict[str, str]
    """The columns that mean something, as text."""


def choose_columns(
    files: Mapping[str, Sequence[Record]], named: Mapping[str, str], also: Sequence[str] = ()
) -> dict[str, str | None]:
    """Return the column of each part (label, input, ...), or None if there is none.

    Parameters
    ----------
    files : mapping of names of splits to prompts
    named : mapping of parts to columns
        The columns that the settings name; empty if the usual ones should be looked for. A usual
        column without a value counts as absent, unless it is the label.
    also : sequence of str
        Other columns that are used.

    Raises
    ------
    InputError
        If no column of labels is named, and there is none of the usual names.
    """
    records = [record for part in files.values() for _, record in part]
    header = list(dict.fromkeys(name for record in records for name in record))
    chosen: dict[str, str | None] = {}
    for part, column in named.items():
        usual = USUAL[part]
        present = [
            name
            for name in usual
            if name in header
            and (part == "label" or any(not is_missing(record.get(name)) for record in records))
        ]
        near = [name for name in header if name not in usual and _near(name, usual)]
        chosen[part] = column or (present[0] if present else None)
        others = [name for name in (*present[1:], *near) if name not in (*named.values(), *also)]
        if chosen[part] is None and part == "label":
            hint = f"; did you mean {short(near[0])}?" if near else ""
            source = next(iter(files.values()))[0][0]
            raise InputError(
                f"{source}: no column of labels; name one of {listed(header)} with --label{hint}"
            )
        if others and not column:
            used = f"is the column {short(chosen[part])}" if chosen[part] else "has no column"
            warn(f"the {part} {used}; {', '.join(map(short, others))} is not read as {part}")
    return chosen


def name_columns(
    files: Mapping[str, Sequence[Record]], text: str, columns: Iterable[str]
) -> dict[str, list[Prompt]]:
    """Return the prompts of each split, with the values of columns as text.

    The column of the text may have messages instead. InputError if a file lacks the column of the
    text, or one of the others. The same if a text is empty, if messages are none, or for a value
    that `names_of` refuses.
    """
    columns = list(dict.fromkeys(columns))
    cells = [record.get(text) for records in files.values() for _, record in records]
    kinds = set(map(type, cells))
    is_chat = text == MESSAGES or (list in kinds and str not in kinds)
    for records in files.values():
        header = list(dict.fromkeys(name for _, record in records for name in record))
        for column in (text, *columns):
            if column not in header:
                near = [name for name in header if _near(name, [column])]
                hint = f"; did you mean {short(near[0])}?" if near else ""
                raise InputError(
                    f"{records[0][0]}: has no {short(column)}; the columns are {listed(header)}"
                    f"{hint}"
                )
        for source, record in records:
            value = record.get(text)
            if is_chat:
                record[text] = read_messages(source, text, value)
            elif not isinstance(value, str) or is_missing(value):
                given = f" is {value}, and" if isinstance(value, Unreadable) else ""
                raise InputError(
                    f"{source}: {short(text)}{given} should be a text that is not empty"
                )
    names = {
        column: names_of(
            column,
            [[(source, record.get(column)) for source, record in part] for part in files.values()],
        )
        for column in columns
    }
    return {
        split: [
            Prompt(source, record, {column: names[column][i][j] for column in columns})
            for j, (source, record) in enumerate(records)
        ]
        for i, (split, records) in enumerate(files.items())
    }


def check_position(at: str, source: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a measured position that means two things: by its name, or by the values of a column.

    ``at`` is the position as the user names it, ``source`` that of each prompt.
    """
    if at not in columns:
        return
    if at == "last" or re.fullmatch(r"[+-]?\d+|\d+:\d+", at):
        raise InputError(
            f"position {short(at)} is a column, but also means tokens or characters: rename the "
            "column"
        )
    first: tuple[str, str] | None = None
    for prompt, value in zip(source, columns[at], strict=True):
        if (kind := _position_kind(value)) is None:
            continue  # refused with its prompt, since the text may be needed
        first = first or (kind, prompt)
        if kind != first[0]:
            raise InputError(
                f"{prompt}: {short(at)} = {short(value)} is {kind}, but {first[0]} in {first[1]}: "
                "should be of one kind"
            )


def _position_kind(value: Any) -> str | None:
    if isinstance(value, str) and value:
        return "a text"
    if type(value) is int:
        return "the index of a token"
    pair = isinstance(value, list | tuple) and [*map(type, value)] == [int, int]
    return "a pair of characters" if pair else None


def _near(name: str, others: Iterable[str]) -> bool:
    """Return whether a name differs from one of others in case and spaces alone."""
    return _folded(name) in map(_folded, others)


def _folded(name: str) -> str:
    return "".join(look(name).split()).casefold()
