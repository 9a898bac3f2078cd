"""Values become names by one rule, that of docs/how-to/own-prompts.md."""

import datetime
import enum
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasklens.core.errors import InputError
from tasklens.data.cell_values import is_missing, names_of, plain


def names(*values: Any) -> list[str]:
    (of_file,) = names_of("label", [cells("a", *values)])
    return of_file


def cells(file: str, *values: Any) -> list[tuple[str, Any]]:
    return [(f"{file} {i}", plain(value)) for i, value in enumerate(values)]


def error_of(*files: list[tuple[str, Any]]) -> str:
    with pytest.raises(InputError) as error:
        names_of("label", files)
    assert "\n" not in str(error.value)
    return str(error.value)


class Colour(str, enum.Enum):  # noqa: UP042 - its str is not its value
    RED = "red"


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (["red", np.str_("red"), Colour.RED], "red"),
        ([1, 1.0, np.int8(1), np.float32(1), np.uint64(1), Decimal("1.00"), np.array(1)], "1"),
        ([-2, -2.0, Decimal("-2E0")], "-2"),
        ([0, 0.0, -0.0, Decimal("-0.0")], "0"),
        ([0.1, np.float64(0.1)], "0.1"),
        ([Decimal("0.10"), Decimal("1E-1"), "0.1"], "0.1"),
        ([True, np.bool_(True)], "True"),
        ([2**60 + 1, np.int64(2**60 + 1)], "1152921504606846977"),
        ([math.inf, np.float32(np.inf), Decimal("Infinity"), "inf"], "inf"),
        ([datetime.date(2024, 2, 1), pd.Timestamp(2024, 2, 1), "2024-02-01"], "2024-02-01"),
        ([datetime.datetime(2024, 2, 1, 12), pd.Timestamp("2024-02-01 12")], "2024-02-01 12:00:00"),
        (["nan", "NaN", "NA", "None", "null"], None),  # of a text, the text
    ],
)
def test_a_value_has_one_name_however_it_is_stored(values: list[Any], name: str | None) -> None:
    assert names(*values) == [value if name is None else name for value in values]


BLANK = ["", " ", "\t\n", "\u00a0", "\u200b", " \ufeff\u00a0\u200b ", "\0\x1b", "\u202e\U000e0041"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        np.float32(np.nan),
        np.datetime64("NaT"),
        pd.NaT,
        pd.NA,
        Decimal("NaN"),
        *BLANK,
    ],
)
def test_a_missing_value_is_no_value_of_its_own(value: Any) -> None:
    assert is_missing(plain(value))
    assert error_of(cells("a", "x", value, "y", value)) == (
        "a 1: has no 'label': 2 of 4 rows lack it; fill in all, or remove the column"
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"red", "bytes"),
        (["red"], "list"),
        (("red",), "list"),
        (np.array([1, 2]), "list"),
        ({"a": 1}, "dict"),
        ({"red"}, "set"),
        (datetime.timedelta(1), "timedelta"),
        (np.datetime64("2024-01-01"), "datetime64"),
        (pd.Interval(0, 1), "Interval"),
        (1j, "complex"),
    ],
)
def test_a_value_that_is_no_class_is_refused(value: Any, kind: str) -> None:
    assert error_of(cells("a", "x", value)) == (
        f"a 1: 'label' is of the type {kind}: should be a text, a number, a boolean or a date"
    )


def test_a_float_that_may_have_been_an_integer_is_refused() -> None:
    """From 2**53 up, pandas gives neighbouring integers one float if a column has a gap."""
    assert names(2.0**53 - 1) == ["9007199254740991"]
    for value in (2.0**53, -(2.0**60), 1e300):
        assert "is too large to be exact" in error_of(cells("a", "x", value))


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        (1, "1", ("a number", "a text")),
        ("1", 1.0, ("a text", "a number")),
        ("True", True, ("a text", "a boolean")),
        (0.5, "0.5", ("a number", "a text")),
    ],
)
def test_two_kinds_of_one_name_are_not_merged_in_a_file(
    first: Any, second: Any, kinds: tuple[str, str]
) -> None:
    assert error_of(cells("a", first, "x", second)) == (
        f"a 2: 'label' = {plain(second)!r} is {kinds[1]}, but {plain(first)!r} of a 0 is "
        f"{kinds[0]}: should be of one kind"
    )
    # A CSV has texts alone, so that two files may differ in the kind.
    assert names_of("label", [cells("a", first), cells("b", second)]) == [[str(plain(first))]] * 2


def test_values_of_several_kinds_are_kept_if_their_names_differ() -> None:
    assert names(1, "one", True, 0.5, "yes") == ["1", "one", "True", "0.5", "yes"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("red", "red "),
        ("red", "\tred"),
        ("red", "re\u200bd"),
        ("red", "\u202ered"),
        ("red", "red\x1b"),
        ("a b", "a\u00a0b"),
        ("a b", "a\u3000b"),
        ("\u00e9", "e\u0301"),
        ("1", "1.0"),
        (1, "1.00"),
        (True, "true"),
        ("FALSE", False),
    ],
)
@pytest.mark.parametrize("is_one_file", [True, False])
def test_values_that_look_alike_are_refused(first: Any, second: Any, is_one_file: bool) -> None:
    files = [cells("a", first, second)] if is_one_file else [cells("a", first), cells("b", second)]
    assert "looks like" in error_of(*files)
    assert error_of(*files).isascii(), "the difference is seen in the message"


def test_texts_that_differ_visibly_are_kept() -> None:
    values = [
        "red",
        "Red",
        "re d",
        "r\u00e9d",
        "\u00b2",
        "2",
        "1.5",
        "1.50",
        "01",
        "a  b",
        "a b",
        "True",
        "true",
    ]
    assert names(*values) == values
    assert names(" red", " red") == [" red"] * 2, "the text of the file, with its spaces"


def test_a_plain_value_is_that_of_json() -> None:
    value = {1: (np.float64(2.0), [math.nan, {"a": np.array([[1, 2]])}]), "b": pd.NA}
    assert plain(value) == {"1": [2, [None, {"a": [[1, 2]]}]], "b": None}
    assert [*map(type, plain([1, 1.5, True, "x"]))] == [int, float, bool, str]
