"""TOML and JSON of users' files: what cannot be read is refused, however large or deep it is."""

import itertools

import pytest

from tasklens.core.errors import InputError
from tasklens.core.parse import parse_changes, parse_json, parse_toml

DEEP = 50_000
DIGITS = "9" * 5_000
TOO_DEEP = "it is nested too deeply; at most 100 levels are read"
TOO_LONG = "a number has thousands of digits"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = " + b"[" * DEEP + b"]" * DEEP, TOO_DEEP),
        (b"a = " + b"{a = " * DEEP, TOO_DEEP),
        (b"a." * DEEP + b"a = 1", TOO_DEEP),
        (b"[" + b"a." * DEEP + b"a]", TOO_DEEP),
        (b"a = { b = 1, " + b"'a' . " * DEEP + b"a = 1 }", TOO_DEEP),
        (b"[[" + b"a." * 101 + b"a]]", TOO_DEEP),
        (b"a = " + DIGITS.encode(), TOO_LONG),
        ("a = 1".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        ("a = 1".encode("utf-32"), "it is UTF-32; save it as UTF-8"),
        (b"a = 1\nb = '\xe9'", "it is not UTF-8 (byte 0xe9 in line 2); save it as UTF-8"),
        (b"a = '\0'", "Found invalid character"),
        (b"a = 1\rb = 2", "Expected newline or end of document"),
        (b"\0" * 100, "Invalid statement"),
    ],
    ids=itertools.count(),
)
def test_toml_that_cannot_be_read(content: bytes, reason: str) -> None:
    with pytest.raises(InputError) as error:
        parse_toml(content, "mine.toml")
    assert str(error.value).startswith(f"mine.toml is not TOML: {reason}")
    assert len(str(error.value)) < 150


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * DEEP, TOO_DEEP),
        ("[" * DEEP + "]" * DEEP, TOO_DEEP),
        ("[" * 101 + "]" * 101, TOO_DEEP),
        ('{"a":' * DEEP + "1" + "}" * DEEP, TOO_DEEP),
        (DIGITS, TOO_LONG),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice in one object"),
        ("{}".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (b'"\xff"', "it is not UTF-8 (byte 0xff in line 1); save it as UTF-8"),
        ("", "Expecting value"),
    ],
    ids=itertools.count(),
)
def test_json_that_cannot_be_read(content: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match="^" + reason.replace("(", r"\(").replace(")", r"\)")):
        parse_json(content)


def test_what_can_be_read() -> None:
    assert parse_toml("\ufeffa = 'é'\r\n".encode(), "") == {"a": "é"}
    assert parse_toml(f"a = '{'a.' * DEEP}'".encode(), "") == {"a": "a." * DEEP}
    assert parse_json("\ufeff[1]".encode()) == [1]
    assert parse_json('{"a": 1, "a": 2}', unique=False) == {"a": 2}
    assert parse_json("[" * 100 + "]" * 100)
    assert parse_json("[{}]" + " " * DEEP) == [{}]
    assert len(parse_json("[" + "[]," * DEEP + "[]]")) == DEEP + 1


def test_changes_of_the_command_line() -> None:
    assert parse_changes(["a=1", "b = x", "c=", "d=[1]", "e=2\nf=3"]) == {
        **{"a": 1, "b": "x", "c": "", "d": [1]},
        "e": "2\nf=3",  # a second key is no value
    }
    for text, reason in (("[" * DEEP + "]" * DEEP, TOO_DEEP), (DIGITS, TOO_LONG)):
        with pytest.raises(InputError, match=f"^--set a: {reason}$"):
            parse_changes([f"a={text}"])
