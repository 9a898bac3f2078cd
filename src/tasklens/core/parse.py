"""Parse TOML and JSON that a user or another program has written.

What the parsers of Python's library answer to by another error than that of wrong syntax is refused
in the same way: deep nesting, which exhausts Python's stack, and numbers of thousands of digits.
"""

import codecs
import json
import re
import tomllib
from collections.abc import Callable, Iterable
from typing import Any

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.text import without_duplicates

#: Deepest nesting that is read. What is read later walks through it by recursion.
DEEPEST = 100
_TOO_DEEP = f"it is nested too deeply; at most {DEEPEST} levels are read"
#: A dotted key of TOML that is too deep, at the beginning of a line or in a table within one.
_DEEP_KEY = re.compile(
    rf"""(?:^|[\[{{,])\s*(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')\s*\.\s*){{{DEEPEST}}}""", re.MULTILINE
)
#: Beginnings of files in other encodings than UTF-8, the longer ones first.
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def parse_toml(content: bytes, source: str) -> dict[str, Any]:
    """Return the tables of a TOML file's content; InputError if it is not TOML.

    The mark of UTF-8 with which some editors begin a file is skipped.
    """
    try:
        return parse_toml_text(decoded(content))
    except ValueError as error:
        raise InputError(f"{source} is not TOML: {error}") from error


def parse_toml_text(text: str) -> dict[str, Any]:
    """Return the tables of TOML as text; ValueError, in one line, if it is not TOML."""
    if text.count(".") > DEEPEST and _DEEP_KEY.search(text):  # the parser takes minutes for it
        raise ValueError(_TOO_DEEP)
    return _parsed(tomllib.loads, text)  # type: ignore[no-any-return]


def parse_json(content: str | bytes, *, unique: bool = True) -> Any:
    """Return the value of JSON as text or in UTF-8; ValueError, in one line, if it is none.

    With ``unique``, a key that occurs twice in an object is refused; otherwise the last value is
    taken, as by most programs.
    """
    text = content if isinstance(content, str) else decoded(content)
    pairs = without_duplicates if unique else None
    return _parsed(lambda each: json.loads(each, object_pairs_hook=pairs), text)


def parse_changes(lines: Iterable[str]) -> dict[str, Any]:
    """Return the changes of ``--set``, by key; InputError if one is none, or if a key repeats."""
    changed: dict[str, Any] = {}
    for line in lines:
        key, equals, text = line.partition("=")
        key = key.strip()
        if not equals:
            raise InputError(
                f"--set {short(line)[1:-1]}: should be key=value, e.g. train.steps=100"
            )
        try:
            value = value_of(text.strip())
        except ValueError as error:
            raise InputError(f"--set {key}: {error}") from error
        if key in changed:
            raise InputError(
                f"--set {key} is given twice: {short(changed[key])} and {short(value)}; give it "
                "once"
            )
        changed[key] = value
    return changed


def value_of(text: str) -> Any:
    """Return a value of the command line as TOML reads it; a bare word is text.

    ValueError, in one line, for what is too deep or too long to be read.
    """
    try:
        table = parse_toml_text(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text  # more keys stand after a line break


def decoded(content: bytes) -> str:
    """Return the text of a file's content in UTF-8; ValueError, in one line, if it is not."""
    for mark, encoding in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise ValueError(f"it is {encoding}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"it is not UTF-8 (byte {content[error.start]:#04x} in line {line}); save it as UTF-8"
        ) from error


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        value = parse(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except ValueError as error:
        if "integer string conversion" in str(error):  # for which Python has no class of its own
            raise ValueError("a number has thousands of digits") from error
        raise
    # Only what has so many brackets or dots can be so deep.
    if sum(map(text.count, "[{.")) > DEEPEST and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def _is_deep(value: Any) -> bool:
    """Return whether a value is nested too deeply, without recursion."""
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return False
    return True
