"""Read the values of cells: which are missing, how each is written as text, which look alike.

One rule holds for all columns that mean something, and for labels given as arrays;
docs/how-to/own-prompts.md states it.
"""

import datetime
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.messages import short

#: The types that a name is made of; a whole float is an int after `plain`.
_KINDS = {str: "a text", bool: "a boolean", int: "a number", float: "a number"}
#: From this number up, neighbouring integers may be one float.
_ROUNDED = 2**53


@dataclass(frozen=True)
class Unreadable:
    """A value of a file that Python does not have, such as a date after the year 9999."""

    text: str
    """What it is, as part of a message."""

    def __str__(self) -> str:
        """Return what the value is."""
        return self.text

    __repr__ = __str__


def plain(value: Any) -> Any:
    """Return a value as JSON has it: text, boolean, number, list, object, or None if it is missing.

    NaN, NaT and NA are missing. A whole number is an int, since pandas turns a column of ints with
    a gap into floats. A date is text. A value of another type, such as bytes, is left as it is.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "mM":
        value = value.tolist()
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if _is_none(value):
        return None
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, datetime.date):  # a datetime, too
        return value.isoformat().removesuffix("T00:00:00").replace("T", " ")
    return value


def _is_none(value: Any) -> bool:
    if isinstance(value, float | Decimal):
        return math.isnan(value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    # Those of pandas, which need not be imported for a file.
    return value is None or type(value).__name__ in ("NaTType", "NAType")


def _number(value: float | Decimal) -> int | float | str:
    if not math.isfinite(value):
        return str(float(value))
    if value == int(value) and (isinstance(value, Decimal) or abs(value) < _ROUNDED):
        return int(value)
    return value if isinstance(value, float) else f"{value.normalize():f}"


def is_missing(value: Any) -> bool:
    """Return whether a value of `plain` is none, or a text in which nothing is seen."""
    return value is None or (isinstance(value, str) and not any(map(_is_visible, value)))


def look(text: str) -> str:
    """Return what is seen of a text: equal for texts that differ in a way that is not seen.

    That is a space at an end, another kind of space, an invisible character, the Unicode
    form of an accent, and ".0".
    """
    seen = "".join(
        " " if unicodedata.category(character) == "Zs" else character
        for character in text
        # Joiners change how writing systems and emoji look.
        if character.isspace() or character in "\u200c\u200d" or _is_visible(character)
    )
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", unicodedata.normalize("NFC", seen).strip())


def _is_visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf")


def names_of(column: str, files: Sequence[Sequence[tuple[str, Any]]]) -> list[list[str]]:
    """Return each value of a column as text, file by file.

    Parameters
    ----------
    column : str
        Name of the column, for messages.
    files : sequence of sequences of (source, value)
        The cells of each file; the values are those of `plain`.

    Raises
    ------
    InputError
        If a value is missing, or is no text, number, boolean or date. If two values of a file have
        one text but are not of one kind, as 1 and "1". If two values of any files look alike.
    """
    # A file without booleans may write them as true or TRUE.
    has_boolean = any(isinstance(value, bool) for cells in files for _, value in cells)
    names: list[list[str]] = []
    seen: dict[str, tuple[str, str]] = {}
    for cells in files:
        missing = [source for source, value in cells if is_missing(value)]
        if missing:
            raise InputError(
                f"{missing[0]}: has no {short(column)}: {len(missing)} of {len(cells)} rows lack "
                "it; fill in all, or remove the column"
            )
        first: dict[str, tuple[Any, str]] = {}
        names.append([])
        for source, value in cells:
            name = name_of(column, source, value)
            other, known = first.setdefault(name, (value, source))
            if _KINDS[type(value)] != _KINDS[type(other)]:
                raise InputError(
                    f"{source}: {short(column)} = {short(value)} is {_KINDS[type(value)]}, but "
                    f"{short(other)} of {known} is {_KINDS[type(other)]}: should be of one kind"
                )
            names[-1].append(name)
        for name, (_, source) in first.items():
            key = look(name).casefold() if has_boolean else look(name)
            other, known = seen.setdefault(key, (name, source))
            if name != other:
                raise InputError(
                    f"{source}: {short(column)} = {ascii(name)[:200]} looks like "
                    f"{ascii(other)[:200]} of {known}: should be written alike if it is the same, "
                    "otherwise differ visibly"
                )
    return names


def name_of(column: str, source: str, value: Any) -> str:
    """Return a value of a column as text; InputError if it is no text, number, boolean or date."""
    if isinstance(value, Unreadable):
        raise InputError(
            f"{source}: {short(column)} is {value}, which cannot be read: should be a text, a "
            "number, a boolean or a date of the years 1 to 9999"
        )
    if type(value) not in _KINDS:
        raise InputError(
            f"{source}: {short(column)} is of the type {type(value).__name__}: should be a text, a "
            "number, a boolean or a date"
        )
    if isinstance(value, float) and abs(value) >= _ROUNDED:
        raise InputError(
            f"{source}: {short(column)} = {value!r} is too large to be exact: should be an integer "
            "or a text"
        )
    return str(value)
