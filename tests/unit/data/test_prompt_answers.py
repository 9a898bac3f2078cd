"""Test what is known of the answers to labelled prompts under other labels."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.data.labelled_prompts import (
    LabelledPrompts,
    read_prompts,
    read_table,
    table_of,
)
from tasklens.data.prompt_answers import answers_by_label

Row = dict[str, Any]

#: Two labels; the column of answers has what the outputs have, and more.
ROWS: list[Row] = [
    {"text": "1", "label": "plural", "output": "cats", "answers": {"french": "chat"}},
    {"text": "2", "label": "plural", "output": "oxen", "answers": {"french": " bœuf "}},
    {"text": "3", "label": "french", "output": "4", "answers": {"plural": 4, "french": "4"}},
    {"text": "4", "label": "french", "output": "vrai", "answers": {"plural": True}},
]
KNOWN = [
    {"french": "chat", "plural": "cats"},
    {"french": "bœuf", "plural": "oxen"},
    {"plural": "4", "french": "4"},
    {"plural": "True", "french": "vrai"},
]


def in_json(rows: list[Row]) -> list[Row]:
    return [row | {"answers": json.dumps(row["answers"], ensure_ascii=False)} for row in rows]


def as_jsonl(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + os.linesep for row in rows).encode()


def as_csv(rows: list[Row]) -> bytes:
    text: str = pd.DataFrame(rows).to_csv(index=False)
    return text.encode()


def as_parquet(rows: list[Row]) -> bytes:
    return parquet_bytes(pa.Table.from_pylist(rows))


def prompts_with(*answers: Any) -> LabelledPrompts:
    """Return four prompts of the labels a and b, the first of which have these answers."""
    cells = [*answers, *[None] * (4 - len(answers))]
    return read_prompts(
        {"text": [*"abcd"], "label": [*"aabb"], "output": [*"1234"], "answers": cells}
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", as_jsonl(ROWS)),
        ("b.jsonl", as_jsonl(in_json(ROWS))),
        ("a.csv", as_csv(in_json(ROWS))),
        ("a.parquet", as_parquet(in_json(ROWS))),
        # the objects of a Parquet file have all keys, with nulls, and values of one type
        (
            "b.parquet",
            as_parquet([row | {"answers": known} for row, known in zip(ROWS, KNOWN, strict=True)]),
        ),
    ],
)
def test_a_column_of_answers_is_read_from_each_kind_of_file(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    table = read_prompts(tmp_path / name)
    assert answers_by_label(table) == (KNOWN, ())
    kept = read_table(parquet_bytes(table_of(table)))  # as stage data leaves them
    assert answers_by_label(kept) == (KNOWN, ())


@pytest.mark.parametrize("rows", [ROWS, in_json(ROWS)])
def test_a_column_of_answers_is_read_from_memory(rows: list[Row]) -> None:
    for source in (rows, pd.DataFrame(rows)):
        assert answers_by_label(read_prompts(source)) == (KNOWN, ())


def test_cells_and_answers_may_be_missing() -> None:
    table = prompts_with(None, "", '{"b": null}', {"a": "9", "b": None})
    known = [{"a": "1"}, {"a": "2"}, {"b": "3"}, {"a": "9", "b": "4"}]
    assert answers_by_label(table) == (known, ())


def test_own_answers_may_stand_in_the_column_alone() -> None:
    cells = [{"a": "1", "b": "2"}, {"b": "4"}, {"b": "5"}, {}]
    table = read_prompts({"text": [*"abcd"], "label": [*"aabb"], "answers": cells})
    assert answers_by_label(table) == (cells, ())


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (["x"], "is of the type list: should be an object of an answer for each label, as in {"),
        (3, "is of the type int: should be an object"),
        ("3", "is of the type int: should be an object"),
        ("chat", "is not JSON: Expecting value: line 1 column 1 (char 0): should be an object"),
        ('{"b": "x", "b": "y"}', "is not JSON: the key 'b' occurs twice in one object: should be"),
        (r'{"b": "\ud83d"}', "is not JSON: a text has half a character"),
        ("[" * 100_000, "is not JSON: "),
        ({"c": "x"}, "has the label 'c', which no prompt has; the labels are a, b"),
        ({"b ": "x"}, "has the label 'b ', which no prompt has; the labels are a, b"),
        ({"b": ""}, "has an empty answer for 'b': should be a text, or null if it is not known"),
        ({"b": " \u200b"}, "has an empty answer for 'b'"),
        ({"b": ["x"]}, ".b' is of the type list: should be a text, a number, a boolean or a date"),
        ({"b": {"x": 1}}, ".b' is of the type dict: should be a text"),
        ({"b": 2.0**60}, ".b' = 1.152921504606847e+18 is too large to be exact"),
        ({"a": "7"}, "has '7' for the prompt's own label 'a', but its output is '2': should be"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_wrong_column_is_refused_in_one_line_once_it_is_needed(
    cell: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = prompts_with({"b": "x"}, cell)  # a column of this name may mean something else
    with pytest.raises(InputError) as error:
        answers_by_label(table)
    line = str(error.value)
    assert line.startswith("prompt 1: 'answers")
    assert message in line
    assert "\n" not in line
    warning = capsys.readouterr().err
    assert warning.startswith("tasklens: warning: prompt 1: 'answers")
    assert warning.count("\n") == 1
    assert "; the column is not used" in warning


def test_no_answers_are_derived_without_inputs() -> None:
    table = read_prompts({"text": [*"abcd"], "label": [*"aabb"], "output": [*"1234"]})
    assert answers_by_label(table) == ([{"a": "1"}, {"a": "2"}, {"b": "3"}, {"b": "4"}], ())


def test_answers_are_derived_from_prompts_with_the_same_input() -> None:
    table = read_prompts(
        {
            "text": ["a x", "a y", "a x", "b x", "b z", "b x"],
            "label": [*"aaabbb"],
            "input": [*"xyxxzx"],
            "output": ["1", "2", "1", "3", "4", "3"],
        }
    )
    both = {"a": "1", "b": "3"}
    assert answers_by_label(table) == ([both, {"a": "2"}, both, both, {"b": "4"}, both], ())


def test_outputs_that_contradict_each_other_are_no_answers_and_counted() -> None:
    table = read_prompts(
        {
            "text": ["a x", "a y", "a x", "b x", "b y", "b x"],
            "label": [*"aaabbb"],
            "input": [*"xyxxyx"],
            "output": ["1", "2", "5", "3", "4", "3"],
        }
    )
    known, (note,) = answers_by_label(table)
    assert known == [
        {"a": "1", "b": "3"},
        {"a": "2", "b": "4"},
        {"a": "5", "b": "3"},  # its own output is what its own answer should be
        {"b": "3"},
        {"a": "2", "b": "4"},
        {"b": "3"},
    ]
    assert note == (
        "inputs have several outputs under a label 1 times, first 'x' under 'a': these are no "
        "answers to prompts of other labels"
    )


def test_given_answers_come_before_derived_ones() -> None:
    table = read_prompts(
        {
            "text": ["a x", "a y", "b x", "b y"],
            "label": [*"aabb"],
            "input": [*"xyxy"],
            "output": [*"1234"],
            "answers": [{"b": "7"}, None, None, {"a": "8"}],
        }
    )
    known, _ = answers_by_label(table)
    assert known == [
        {"a": "1", "b": "7"},
        {"a": "2", "b": "4"},
        {"a": "1", "b": "3"},
        {"a": "8", "b": "4"},
    ]
