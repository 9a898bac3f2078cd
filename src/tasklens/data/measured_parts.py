"""Find the measured part of each labelled prompt in its text. The module imports no torch."""

import re
from typing import Any

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.data.answer_tokens import Part
from tasklens.data.labelled_prompts import LabelledPrompts
from tasklens.data.names import listed
from tasklens.data.prompt_columns import check_position

#: An index, which has fewer digits than Python reads.
_INDEX = r"\d{1,18}"
#: Column of the end of the question, after which the answer follows: measured by default.
SEPARATOR = "separator"


def default_position(table: LabelledPrompts) -> str:
    """Return the name of the position that is measured if none is named."""
    pairs = table.columns.get(SEPARATOR, ())
    if pairs and all(isinstance(pair, list | tuple) for pair in pairs):
        return SEPARATOR
    return "input" if table.input is not None and table.messages is None else "last"


def parse_position(table: LabelledPrompts, position: str) -> tuple[str, bool]:
    """Return the measured part that a position names, and whether the mean over it is measured.

    The part of "input" if this is the input, and of a default position without a column, is empty.
    """
    part, is_mean = position, False
    default = default_position(table)
    if not position and (default == SEPARATOR or table.messages is not None):
        part = default
    suffixed = re.fullmatch(r"(.+)_(last|mean)", position, re.DOTALL)
    if suffixed and position not in table.columns:
        part, is_mean = suffixed[1], suffixed[2] == "mean"
    if part == "input" and table.input is not None:
        values = table.columns.get("input", table.input)
        # A number, too, is a part of the text, as if no name was given.
        if all(str(value) == name for value, name in zip(values, table.input, strict=True)):
            part = ""
    return part, is_mean


def measured_parts(table: LabelledPrompts, position: str) -> list[Part]:
    """Return the measured part of each text; InputError if a text does not have it."""
    at, _ = parse_position(table, position)
    check_position(at, table.source, table.columns)
    return [_part(table, i, at) for i in range(len(table))]


def _part(table: LabelledPrompts, i: int, at: str) -> Part:
    """Return the measured part: "last", the index of a token, or a span of characters."""
    text, source = table.text[i], table.source[i]
    value: Any = at
    if not at and table.input is not None:
        value = table.input[i]
    elif at in ("", "last"):
        return "last"
    elif at in table.columns:
        value = table.columns[at][i]
    elif re.fullmatch(rf"[+-]?{_INDEX}", at):
        return int(at)
    elif match := re.fullmatch(rf"({_INDEX}):({_INDEX})", at):
        value = [int(match[1]), int(match[2])]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if is_pair and all(isinstance(number, int) for number in value):
        begin, end = value
        if not 0 <= begin < end <= len(text):
            raise InputError(
                f"{source}: characters {begin} to {end} are not in the text, which has {len(text)}"
            )
        return int(begin), int(end)
    if value in (None, ""):
        raise InputError(
            f"{source}: the column {short(at)} has no value, so that the prompt has no such "
            "position: fill it in, or measure another with --position, such as last"
        )
    if not isinstance(value, str):
        raise InputError(
            f"{source}: {short(at)} = {short(value)} is not a position: should be a text, a whole "
            "number (the index of a token), or two (the first character and the end)"
        )
    span = find_part(value, text, table.output[i] if table.output is not None else "")
    if not span:
        hint = ""
        if at not in ("", *table.columns):
            hint = f" and is not one of the columns {listed(table.columns)}"
            hint += "; for the last token give --position last" if at == "input" else ""
        raise InputError(f"{source}: {short(value)} is not in the text {short(text)}{hint}")
    return span


def find_part(value: str, text: str, output: str) -> tuple[int, int] | None:
    """Return the span of the last occurrence of a value in a text, or None.

    Whole words are preferred to parts of words. The output at the end of the text comes last. If
    the text does not have the value, spaces between its characters are ignored: the texts of
    tasklens' own data have a space after each symbol of an instruction.
    """
    end = len(text.rstrip())
    answered = output and text[:end].endswith(output)
    before = end - len(output) if answered else len(text)
    plain = re.escape(value)
    word = rf"(?<!\w){plain}(?!\w)"
    for stop, pattern in ((before, word), (before, plain), (len(text), word), (len(text), plain)):
        spans = [match.span() for match in re.finditer(pattern, text) if match.start() < stop]
        if spans:
            return spans[-1]
    spaced = r"\s*".join(map(re.escape, "".join(value.split())))
    spans = [match.span() for match in re.finditer(rf"(?<!\w){spaced}(?!\w)", text)]
    return spans[-1] if spans else None
