import csv
import dataclasses
import json
from collections.abc import Iterable
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.data.labelled_prompts import (
    LabelledPrompts,
    PromptSettings,
    codes,
    read_prompts,
    read_table,
    table_of,
)
from tasklens.data.prompt_readers import SHIPPED, content_of

Rows = list[dict[str, Any]]

ROWS: Rows = [
    {"text": "Plural: ox oxen", "label": "plural", "input": "ox", "output": "oxen", "n": "1"},
    {"text": 'Write "été" twice', "label": "french", "input": "été", "output": "deux", "n": " 2 "},
    {"text": "Many, of: foot feet", "label": "plural", "input": "foot", "output": "feet", "n": ""},
    {"text": "two\nlines: 犬", "label": "french", "input": "犬", "output": "chien", "n": "0x3"},
]


def as_jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: Rows) -> bytes:
    text: str = pd.DataFrame(rows).to_csv(index=False)
    return text.encode()


def as_parquet(rows: Rows) -> bytes:
    return parquet_bytes(pa.Table.from_pylist(rows))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: bytes | Rows) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else as_jsonl(content))
    return name


def read(*files: str, seed: int = 0, **settings: Any) -> LabelledPrompts:
    return read_prompts(PromptSettings(files=files, **settings), seed=seed)


def error_of(*files: str, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        read(*files, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def rows_of(prompts: LabelledPrompts, split: str) -> set[str]:
    """Return the texts of a split, which are distinct."""
    texts = prompts.text[prompts.splits[split]]
    assert len(set(texts)) == len(texts)
    return set(texts)


def crossed(labels: int, values: int, others: int, first: int = 0) -> Rows:
    """Return rows that cross labels with values of the columns `a` and `b`."""
    places = product(range(first, first + labels), range(values), range(others))
    return [
        {"text": f"{i} {j} {k}", "label": f"l{i}", "a": f"a{j}", "b": f"b{k}"} for i, j, k in places
    ]


def values_of(texts: set[str], labels: Iterable[int]) -> list[set[str]]:
    """Return the values of `a` in rows of `crossed`, for each label."""
    split = [text.split() for text in texts]
    return [{value for label, value, _ in split if label == str(n)} for n in labels]


def test_the_three_formats_are_equal() -> None:
    files = {
        "a.jsonl": as_jsonl(ROWS),
        "b.jsonl": b"\n" + as_jsonl(ROWS).replace(b"\n", b"\r\n \r\n"),
        "a.csv": as_csv(ROWS),
        "b.csv": b"\xef\xbb\xbf" + as_csv(ROWS),  # as a spreadsheet saves it
        "a.parquet": as_parquet(ROWS),
    }
    prompts = {name: read(write(name, content)) for name, content in files.items()}
    first = prompts["a.jsonl"]
    assert first.text == tuple(row["text"] for row in ROWS)
    assert first.label == ("plural", "french", "plural", "french")
    assert first.input == ("ox", "été", "foot", "犬")
    assert first.output == ("oxen", "deux", "feet", "chien")
    assert first.groups == {}
    assert first.columns == {name: tuple(row[name] for row in ROWS) for name in ROWS[0]}
    assert first.splits == {"all": slice(0, 4)}
    assert len(first) == 4
    for (name, other), numbers in zip(
        prompts.items(), ("123", "246", "234", "234", "123"), strict=True
    ):
        assert dataclasses.replace(other, source=first.source) == first
        kind = "row" if name == "a.parquet" else "line"
        assert other.source[:3] == tuple(f"{name} {kind} {n}" for n in numbers)


def test_what_is_no_text_is_written_as_one() -> None:
    rows: Rows = [{"text": f"{n}?", "label": n % 2, "input": n, "output": n / 2} for n in range(4)]
    for name, content in (("a.jsonl", as_jsonl(rows)), ("a.parquet", as_parquet(rows))):
        prompts = read(write(name, content))
        assert prompts.label == ("0", "1", "0", "1")
        assert prompts.input == ("0", "1", "2", "3")
        assert prompts.output == ("0", "0.5", "1", "1.5")
        assert prompts.columns["input"] == (0, 1, 2, 3), "the values of the file are kept"


GOOD = b'{"text": "a", "label": "x"}\n'
KIND = b"text,kind\na,x\nb,y\nc,x\nd,y\n"
UNLABELLED = "name one of text, kind with --label"
#: Texts of Parquet that are no UTF-8.
BROKEN_TEXTS = pa.array([b"a", b"b\xff", b"c", b"d"]).buffers()[1:]
TWICE = ": is not JSON: the key 'label' occurs twice in one object"
TWO_LABELS = pa.table([[*"abcd"], [*"xyxy"], [*"xxyy"]], ["text", "label", "label"])
BROKEN = pa.table([pa.StringArray.from_buffers(4, *BROKEN_TEXTS), [*"xyxy"]], ["text", "label"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", GOOD + b'{"text": "a", "label": }\n', " line 2: is not JSON: Expecting value"),
        (
            "a.jsonl",
            GOOD + b"\n" + b'{"text": "\xff"}\n',
            ": it is not UTF-8 (byte 0xff in line 3)",
        ),
        # JSON can express half a surrogate pair, but UTF-8 cannot.
        ("a.jsonl", GOOD + rb'{"text": "\ud83d"}', " line 2: is not JSON: a text has half"),
        ("a.jsonl", GOOD + b'["a"]', ' line 2: should be an object, as in {"text": "...", "label"'),
        ("a.jsonl", b"", ": has no prompt"),
        ("a.jsonl", b"\n \n", ": has no prompt"),
        ("a.csv", b"text,label\n", ": has no prompt"),
        ("a.csv", b"", ": has no prompt"),
        ("a.csv", b"text,label\na,x\nb\xff,y\n", ": it is not UTF-8 (byte 0xff in line 3)"),
        ("a.csv", b"text,label\na,x\nb\n", " line 3: should have 2 cells, as the first line has"),
        ("a.csv", b"text,label\na,x,3\n", " line 2: should have 2 cells, as the first line has"),
        ("a.csv", b"text,label\na,x\n\nb,y,z\n", " line 4: should have 2 cells"),
        ("a.parquet", b"text,label\n", ": is not a readable Parquet file: Parquet magic bytes"),
        ("a.parquet", b"", ": is not a readable Parquet file: Parquet file size is 0 bytes"),
        ("a.parquet", as_parquet(ROWS)[:-9], ": is not a readable Parquet file: Parquet magic"),
        ("a.parquet", parquet_bytes(BROKEN), " row 2: 'text' is a text that is not UTF-8"),
        ("a.txt", GOOD, ": should be a .jsonl, .csv or .parquet file"),
        ("a", GOOD, ": should be a .jsonl, .csv or .parquet file"),
        ("a.csv", KIND, f" line 2: no column of labels; {UNLABELLED}"),
        ("a.csv", b'text,label\na,x\n"b"c,y\n', " line 3: is not CSV: "),
        ("a.csv", b'"text"s,label\na,x\n', " line 1: is not CSV: "),
        # Of two columns of one name, only the last would be read.
        ("a.jsonl", GOOD + b'{"text": "a", "label": "x", "label": "y"}', f" line 2{TWICE}"),
        ("a.jsonl", GOOD + b'{"text": "a", "m": {"label": 1, "label": 2}}', f" line 2{TWICE}"),
        ("a.csv", b"\n\ntext,label,label\na,x,y\n", " line 3: has 'label' twice; the columns are "),
        (
            "a.parquet",
            parquet_bytes(TWO_LABELS),
            ": has 'label' twice; the columns are text, label",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(
    name: str, content: bytes, message: str
) -> None:
    file = write(name, content)
    assert error_of(file).startswith(f"{file}{message}")


COLUMNS = "the columns are text, label, input, output, n"
FILL = "fill in all, or remove the column"
TWO = "should be two or more"
RARE = ROWS[0] | {"label": "rare"}
ONE_VALUE = [*crossed(2, 3, 2), *({"text": f"{i}", "label": "l9", "a": "a0"} for i in range(3))]


@pytest.mark.parametrize(
    ("rows", "message", "settings"),
    [
        ([ROWS[0], {"text": "a"}], f" line 2: has no 'label': 1 of 2 rows lack it; {FILL}", {}),
        (
            [*ROWS, ROWS[2] | {"input": None}],
            f" line 5: has no 'input': 1 of 5 rows lack it; {FILL}",
            {},
        ),
        *(
            (ROWS, f" line 1: has no 'word'; {COLUMNS}", {column: "word"})
            for column in ("text", "label", "input", "output", "group")
        ),
        (ROWS, f" line 1: has no 'word'; {COLUMNS}", {"hold_out": ("word",)}),
        *(
            (
                [*ROWS, ROWS[0] | {"text": text}],
                " line 5: 'text' should be a text that is not empty",
                {},
            )
            for text in ("", " \n", 3, ["a"])
        ),
        (ROWS[::2], f" line 1: 'label' has the single value 'plural' in split all: {TWO}", {}),
        ([*ROWS, RARE], f" line 5: 'label' = 'rare' has a single prompt in split all: {TWO}", {}),
        (
            ONE_VALUE,
            " line 13: label 'l9' has a single value of 'a', which cannot be held out; hold out "
            "another column",
            {"hold_out": ("a",)},
        ),
    ],
)
def test_what_is_wrong_with_a_prompt_is_named_with_its_line(
    rows: Rows, message: str, settings: dict[str, Any]
) -> None:
    file = write("a.jsonl", rows)
    assert error_of(file, **settings) == f"{file}{message}"


@pytest.mark.parametrize(("share", "split"), [(0.2, "held_out_a"), (0.9, "kept")])
def test_a_split_that_is_too_small_is_refused_with_what_helps(share: float, split: str) -> None:
    file = write("a.jsonl", crossed(2, 5, 1))
    source, _, rest = error_of(file, hold_out=("a",), hold_out_share=share).partition(": ")
    assert source in {f"{file} line {number}" for number in range(1, 6)}
    helps = "; raise prompts.hold_out_share" if split != "kept" else ""
    assert rest == (
        f"'label' = 'l0' has a single prompt in split {split}: should be two or more{helps}"
    )
    assert len(read(file, hold_out=("a",), hold_out_share=0.4)) == 10


def test_a_missing_file_is_named() -> None:
    file = "none.jsonl"
    assert error_of(file) == (
        f"{file} cannot be read: No such file or directory; give a .jsonl, .csv or .parquet file, "
        "or one of tasks-in-words, tasks-in-words-equal"
    )
    assert error_of(".").startswith(". is not a file; give a .jsonl")


def test_a_quote_that_is_not_closed_is_named_with_its_line() -> None:
    file = write("a.csv", b'text,label\na,x\n"b,y\nc,z\n')
    ends = tuple(f"{file} line {n}: is not CSV: " for n in (3, 4))  # its own, or that of the end
    assert error_of(file).startswith(ends)


def test_empty_lines_of_a_csv_are_counted() -> None:
    file = write("a.csv", b"text,label\n\na,x\n\n\nb,y\nc,x\nd,y\n")
    assert [source.rpartition(" ")[2] for source in read(file).source] == ["3", "6", "7", "8"]


def test_lines_and_columns_of_a_csv_without_content_are_not_read() -> None:
    """A spreadsheet leaves cells without a name at the end, a text editor lines with spaces."""
    file = write("a.csv", b"text,label,,\na,x,,\n  \nb,y,,\nc,x,,\nd,y,,\n")
    assert read(file).label == ("x", "y", "x", "y")


def test_a_cell_of_a_csv_has_any_length() -> None:
    limit = csv.field_size_limit()
    file = write("a.csv", b"text,label\na,x\n" + b"b " * 80_000 + b",y\nc,x\nd,y\n")
    assert len(read(file).text[1]) == 160_000
    error_of(write("b.csv", b'text,label\n"a"b,x\n'))
    assert csv.field_size_limit() == limit, "the limit holds for all of the process"


def test_a_column_that_nothing_asks_for_may_hold_anything() -> None:
    table = pa.table({name: [row[name] for row in ROWS] for name in ("text", "label")})
    dates = pa.array([4 * 10**17] * 4, pa.int64()).cast(pa.timestamp("us"))  # the year 14645
    more = {
        "until": dates,
        "key": pa.array([b"\xff"] * 4),
        "for": pa.array([{"a": [1.5, None]}] * 4),
    }
    for name, column in more.items():
        table = table.append_column(name, column)
    prompts = read(write("a.parquet", parquet_bytes(table)))
    assert prompts.label == ("plural", "french", "plural", "french")
    assert prompts.columns["for"][0] == {"a": [1.5, None]}
    again = read_table(parquet_bytes(table_of(prompts)))
    assert (again.label, again.columns["for"]) == (prompts.label, prompts.columns["for"])
    file = write("a.parquet", parquet_bytes(table))
    assert "'key' is of the type bytes: should be a text, a number" in error_of(file, label="key")


LABELS = [
    (None, "x", "y"),
    (float("nan"), "x", "y"),
    ("", "x", "y"),
    (" ", "x", "y"),
    (None, 1, 2),
    (None, True, False),
]


@pytest.mark.parametrize(("missing", "first", "second"), LABELS)
@pytest.mark.parametrize("column", ["label", "input", "output", "instruction", "held"])
def test_a_missing_value_is_refused_in_each_source(
    column: str, missing: Any, first: Any, second: Any
) -> None:
    names = ("text", "label", "input", "output", "instruction", "held")
    rows = [dict.fromkeys(names, (first, second)[i % 2]) | {"text": f"t{i}"} for i in range(6)]
    rows[2][column] = missing
    hold_out = ("held",) if column == "held" else ()
    frame = pd.DataFrame(rows)
    blank: Rows = [{name: "" if v in (None, "") else v for name, v in row.items()} for row in rows]
    files = {
        "a.jsonl": as_jsonl(rows),
        "a.csv": as_csv(blank),
        "a.parquet": parquet_bytes(pa.Table.from_pandas(frame)),
    }
    reasons = {
        error_of(write(*file), hold_out=hold_out).partition(": ")[2] for file in files.items()
    }
    for table in (
        frame,
        rows,
        frame.to_dict("list"),
        frame.convert_dtypes(),
        [*map(pd.Series, rows)],
    ):
        with pytest.raises(InputError, match=r"^prompt 2: ") as error:
            read_prompts(table, hold_out=hold_out)
        reasons.add(str(error.value).removeprefix("prompt 2: "))
    assert reasons == {f"has no {column!r}: 1 of 6 rows lack it; {FILL}"}


def test_a_gap_in_another_row_does_not_change_a_label() -> None:
    """A column of ints with a gap is one of floats in pandas, and so in the Parquet of pandas."""
    whole = pd.DataFrame({"text": [*"abcdef"], "label": [1, 2, 1, 2, 1, 2]})
    floats = whole.astype({"label": float})
    files = {
        "a.jsonl": as_jsonl(whole.to_dict("records")),
        "b.parquet": parquet_bytes(pa.Table.from_pandas(floats)),
        "c.csv": as_csv(whole.to_dict("records")),
    }
    assert read(*(write(*file) for file in files.items())).label == ("1", "2") * 9
    assert read_prompts(floats).label == read_prompts(whole.astype("category")).label
    big = [2**60 + 1, 2**60 + 2]
    mixed = [
        {"text": str(i), "label": "xy"[i % 2], **({"id": big[i]} if i < 2 else {})}
        for i in range(4)
    ]
    assert read_prompts(mixed).columns["id"] == (*big, None, None), "no id is rounded"
    # In CSV, 1.0 is another text: as labels of two splits, they would never be equal.
    write("d.csv", as_csv(floats.to_dict("records")))
    assert error_of("a.jsonl", "d.csv").startswith(
        "d.csv line 2: 'label' = '1.0' looks like '1' of "
    )


OPTIONAL = ("input", "output", "answer", "instruction")


@pytest.mark.parametrize("column", OPTIONAL)
def test_a_column_of_some_rows_is_refused_in_any_order(column: str) -> None:
    rows: Rows = [{"text": f"{i}", "label": i % 2} for i in range(6)]
    rows[3][column] = "x"
    for turned in (rows, rows[::-1], rows[3:] + rows[:3]):
        lacking = next(i for i, row in enumerate(turned, 1) if column not in row)
        assert error_of(write("a.jsonl", turned)) == (
            f"a.jsonl line {lacking}: has no {column!r}: 5 of 6 rows lack it; {FILL}"
        )
    # Of two files, one has the column.
    write("a.jsonl", rows[:3] + rows[4:])
    write("b.jsonl", [row | {column: "x"} for row in rows])
    reason = f"a.jsonl line 1: has no {column!r}; the columns are text, label"
    assert error_of("a.jsonl", "b.jsonl") == error_of("b.jsonl", "a.jsonl") == reason


@pytest.mark.parametrize("column", OPTIONAL)
def test_a_column_without_a_value_is_as_if_it_was_absent(column: str) -> None:
    rows: Rows = [{"text": f"{i}", "label": i % 2, column: None} for i in range(6)]
    prompts = read(write("a.csv", as_csv(rows)))
    assert (prompts.input, prompts.output, prompts.groups) == (None, None, {})
    part = {"answer": "output", "instruction": "group"}.get(column, column)
    assert f"has no {column!r}: 6 of 6 rows" in error_of("a.csv", **{part: column})


def test_a_column_of_labels_without_a_value_is_not_replaced() -> None:
    rows: Rows = [{"text": f"{i}", "label": None, "task": i % 2} for i in range(6)]
    assert "has no 'label': 6 of 6 rows lack it" in error_of(write("a.jsonl", rows))


@pytest.mark.parametrize(
    ("columns", "warning"),
    [
        (("label", "task"), "the label is the column 'label'; 'task' is not read as label"),
        (("label", "Label"), "the label is the column 'label'; 'Label' is not read as label"),
        (("label", "output", "answer"), "the output is the column 'output'; 'answer' is not read"),
        (("label", " Output "), "the output has no column; ' Output ' is not read as output"),
        (("label", "Instruction"), "the group has no column; 'Instruction' is not read as group"),
        (("task", "in put"), "the input has no column; 'in put' is not read as input"),
        (("task", "input", "output", "instruction", "outputs"), ""),
    ],
)
def test_a_column_that_could_be_meant_is_named(
    columns: tuple[str, ...], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: Rows = [{"text": f"{i}", **dict.fromkeys(columns, i % 2)} for i in range(4)]
    read(write("a.jsonl", rows))
    printed = capsys.readouterr().err
    assert printed.startswith(f"tasklens: warning: {warning}" if warning else "")
    assert len(printed.splitlines()) == bool(warning)
    named: dict[str, Any] = dict.fromkeys(("label", "input", "output", "group"), columns[0])
    read("a.jsonl", **named)
    assert not capsys.readouterr().err, "what is named was meant"


def test_a_column_that_is_absent_has_a_near_name() -> None:
    rows: Rows = [{"Text": "a", " Label": "x", "more": 1}] * 2
    file = write("a.jsonl", rows)
    names = "name one of Text,  Label, more with --label"
    assert error_of(file) == f"{file} line 1: no column of labels; {names}; did you mean ' Label'?"
    assert error_of(file, label=" Label").endswith("are Text,  Label, more; did you mean 'Text'?")


def test_columns_of_a_frame_have_names_of_their_own() -> None:
    frame = pd.DataFrame([["a", "x", "y"]] * 4, columns=["text", "label", "label"])
    with pytest.raises(
        InputError, match=r"^prompts: has 'label' twice; the columns are text, label"
    ):
        read_prompts(frame)
    with pytest.raises(InputError, match=r"^prompts: has '1' twice"):
        read_prompts(pd.DataFrame([["a", "x", "y"]] * 4, columns=["text", 1, "1"]))


def test_what_no_file_can_hold_is_refused_in_memory_too() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(InputError, match=r"^prompt 0: cannot be written: a value is nested"):
        read_prompts({"text": ["a", "b"], "label": [0, 1], "more": [cycle, None]})
    with pytest.raises(
        InputError, match=r"^prompt 1: cannot be written: a text has half a character, .ud83d,"
    ):
        read_prompts({"text": ["a", "\ud83d"], "label": [0, 1]})


def test_the_usual_names_of_columns_and_others() -> None:
    every = ("label", "task", "output", "answer", "input", "instruction", "text", "more")

    def read_with(*names: str, **settings: Any) -> LabelledPrompts:
        rows = [{name: f"{name} {i % 2}" for name in names} for i in range(4)]
        return read(write("a.jsonl", rows), **settings)

    def parts(x: LabelledPrompts) -> list[str]:
        taken = (x.text, x.label, x.input, x.output, *(x.groups.values() or [None]))
        return ["-" if part is None else part[0].removesuffix(" 0") for part in taken]

    assert parts(read_with(*every)) == ["text", "label", "input", "output", "instruction"]
    assert parts(read_with("text", "task", "answer")) == ["text", "task", "-", "answer", "-"]
    assert parts(read_with("text", "task", "label")) == ["text", "label", "-", "-", "-"]
    others = ("more", "task", "more", "answer", "label")
    names = dict(zip(("text", "label", "input", "output", "group"), others, strict=True))
    assert parts(read_with(*every, **names)) == [*others]


def test_settings_that_do_not_go_together_are_refused() -> None:
    several = "hold_out needs a single file; several files are splits already"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"files": "ab", "hold_out": "c"}, several),
        ({"files": "abcd"}, "4 files: should be at most 3; each file is a split"),
        ({"files": ""}, "files = (): "),
        ({"hold_out": "abc"}, "hold_out = ['a', 'b', 'c']: should be one column, or two"),
        ({"hold_out": "aa"}, "hold_out = ['a', 'a']: should be one column, or two"),
        *(({"hold_out_share": share}, f"hold_out_share = {share}: ") for share in (0, 1, 1.5)),
    ]
    for settings, message in cases:
        names = {k: tuple(v) if isinstance(v, str) else v for k, v in settings.items()}
        with pytest.raises(InputError) as error:
            PromptSettings(**names)
        assert str(error.value).startswith(message)
    assert PromptSettings(files=("a", "b", "c")).files == ("a", "b", "c")


def test_each_of_several_files_is_a_split() -> None:
    Path("deep").mkdir()
    first = write("seen.jsonl", ROWS)
    second = write("new.csv", as_csv(ROWS[::-1]))
    third = write("deep/far.parquet", as_parquet([*ROWS, *ROWS]))
    prompts = read(first, second, third)
    assert prompts.splits == {"seen": slice(0, 4), "new": slice(4, 8), "far": slice(8, 16)}
    texts = tuple(row["text"] for row in ROWS)
    assert prompts.text == texts + texts[::-1] + 2 * texts
    assert prompts.source[3].startswith(f"{first} ")
    assert prompts.source[4].startswith(f"{second} line ")
    assert prompts.source[8] == f"{third} row 1"
    assert list(read(third, first).splits) == ["far", "seen"]


def test_each_of_several_files_needs_a_name_and_labels_of_its_own() -> None:
    first = write("a.jsonl", ROWS)
    second = write("a.csv", as_csv(ROWS))
    assert error_of(first, second) == f"{second}: another file also has the name a; each is a split"
    second = write("b.jsonl", [{"text": "a", "task": "x"}])
    assert error_of(first, second) == f"{second} line 1: has no 'label'; the columns are text, task"
    write("b.jsonl", [ROWS[0], ROWS[2]])
    # Nothing is held out, so that a larger share of it would not help.
    assert error_of(first, second) == (
        f"{second} line 1: 'label' has the single value 'plural' in split b: should be two or more"
    )


@pytest.mark.parametrize(
    ("share", "held"),
    [  # of 2, 3, 5, 8, 12, 13 and 48 values
        (0.2, [1, 1, 1, 2, 2, 3, 10]),
        (0.01, [1, 1, 1, 1, 1, 1, 1]),
        (0.5, [1, 2, 2, 4, 6, 6, 24]),
        (0.99, [1, 2, 4, 7, 11, 12, 47]),
    ],
)
def test_of_each_label_the_share_is_held_out(share: float, held: list[int]) -> None:
    sizes = (2, 3, 5, 8, 12, 13, 48)
    rows = [row | {"label": n} for n in sizes for row in crossed(1, n, 2, first=n)]
    prompts = read(write("a.jsonl", rows), hold_out=("a",), hold_out_share=share)
    assert list(prompts.splits) == ["kept", "held_out_a"]
    out, kept = rows_of(prompts, "held_out_a"), rows_of(prompts, "kept")
    assert out.isdisjoint(kept)
    assert out | kept == {row["text"] for row in rows}
    values, others = values_of(out, sizes), values_of(kept, sizes)
    assert [*map(len, values)] == held
    for n, some, rest in zip(sizes, values, others, strict=True):
        assert rest.isdisjoint(some), "all prompts with a value are in one split"
        assert len(rest) == n - len(some)


def test_a_value_is_held_out_for_a_label_and_not_for_all() -> None:
    prompts = read(write("a.jsonl", crossed(6, 10, 2)), hold_out=("a",))
    out, kept = rows_of(prompts, "held_out_a"), rows_of(prompts, "kept")
    by_label = values_of(out, range(6))
    assert [*map(len, by_label)] == [2] * 6
    assert len(set(map(frozenset, by_label))) > 3, "each label's are drawn alone"
    assert set.union(*by_label) <= set.union(*values_of(kept, range(6)))


def test_what_two_columns_hold_out_is_in_no_split() -> None:
    rows = crossed(4, 9, 7)
    file = write("a.jsonl", rows)
    every = {row["text"] for row in rows}
    by_a = rows_of(read(file, hold_out=("a",)), "held_out_a")
    by_b = rows_of(read(file, hold_out=("b",)), "held_out_b")
    assert len(by_a) == 4 * 2 * 7
    assert len(by_b) == 4 * 1 * 9
    both = read(file, hold_out=("a", "b"))
    assert list(both.splits) == ["kept", "held_out_a", "held_out_b"]
    assert rows_of(both, "kept") == every - by_a - by_b
    assert rows_of(both, "held_out_a") == by_a - by_b
    assert rows_of(both, "held_out_b") == by_b - by_a
    assert len(both) == len(every) - len(by_a & by_b) == 4 * (63 - 2)
    turned = read(file, hold_out=("b", "a"))
    assert list(turned.splits) == ["kept", "held_out_b", "held_out_a"]
    assert all(rows_of(turned, split) == rows_of(both, split) for split in both.splits)


def test_splits_keep_the_order_and_the_columns_of_the_file() -> None:
    rows = crossed(3, 8, 6)
    np.random.default_rng(0).shuffle(rows)
    number = {row["text"]: i for i, row in enumerate(rows)}
    prompts = read(write("a.jsonl", rows), hold_out=("a", "b"))
    for part in prompts.splits.values():
        lines = [number[text] for text in prompts.text[part]]
        assert len(lines) > 5
        assert lines == sorted(lines)
    for i, text in enumerate(prompts.text):
        row = rows[number[text]]
        assert {name: values[i] for name, values in prompts.columns.items()} == row
        assert prompts.label[i] == row["label"]
        assert prompts.source[i].endswith(f" line {number[text] + 1}")
    ends = [part.stop for part in prompts.splits.values()]
    assert [part.start for part in prompts.splits.values()] == [0, *ends[:-1]]
    assert ends[-1] == len(prompts)


def test_the_seed_alone_decides_what_is_held_out() -> None:
    file = write("a.jsonl", crossed(4, 12, 2))
    splits = [read(file, hold_out=("a",), seed=seed) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    out = [rows_of(prompts, "held_out_a") for prompts in splits]
    assert out[0] != out[2] != out[3] != out[0]
    assert read(file, seed=0) == read(file, seed=1), "if nothing is held out, nothing is drawn"


def test_prompts_come_back_from_their_table() -> None:
    rows: Rows = [
        {
            "text": f"the {i}th é犬", "task": f"t{i % 3}", "instruction": "the", "input": i % 7,
            "answer": "x", "at": [i, i + 2], "number": -i, "real": i + 0.1, "yes": i % 2 == 0,
            "deep": {"a": [None, "b"]}, "split": "a column of that name", "columns": 1
        }
        for i in range(42)
    ]  # fmt: skip
    rows[3]["only here"] = "x"
    rows[4]["number"] = None
    file = write("a.jsonl", rows)
    few: Rows = [{"text": "a", "label": n, "output": "no"[n]} for n in (0, 1, 0, 1)]
    first, second = (write(f"{name}.jsonl", few) for name in "cb")
    several = read(first, second)  # without input and group
    assert (several.input, several.groups) == (None, {})
    assert several.output == ("n", "o", "n", "o") * 2
    for prompts in (read(file), read(file, hold_out=("input",)), several):
        table = table_of(prompts)
        assert {field.type for field in table.schema} == {pa.string()}
        again = read_table(parquet_bytes(table))
        assert again == prompts
        assert list(again.splits) == list(prompts.splits)
        assert list(again.columns) == list(prompts.columns)
        assert [*map(type, again.columns.get("real", ()))] in ([float] * 42, [])
        assert again.units == prompts.units


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_are_read_by_name(name: str) -> None:
    prompts = read(name)
    parts = [prompts.groups["instruction"], prompts.input or (), prompts.output or ()]
    assert prompts.text == tuple(map(" ".join, zip(*parts, strict=True)))
    assert len(set(*prompts.units)) == 16 * 12
    assert prompts.source[0] == f"{name} line 1"
    path = resources.files("tasklens").joinpath(f"data/prompt_sets/{name}.jsonl")
    assert content_of(name) == path.read_bytes()
    assert (read_prompts(seed=3) == prompts) == (name == SHIPPED[0]), "the first is the default"
    # Of each task's 12 phrasings two, of 12 prompts each.
    held = read(name, hold_out=("phrasing",))
    assert held.splits == {"kept": slice(0, 1920), "held_out_phrasing": slice(1920, 2304)}
    # Of 12 tasks' 12 inputs two, of 12 prompts each; of 4 tasks' 48 inputs ten, of 3 prompts each.
    n = 12 * 2 * 12 + 4 * 10 * 3
    held = read(name, hold_out=("input",))
    assert held.splits == {"kept": slice(0, 2304 - n), "held_out_input": slice(2304 - n, 2304)}


def test_units_are_the_groups_of_a_label_otherwise_single_prompts() -> None:
    places = ["ax", "ay", "bx", "ax", "bx", "ay", "by"]  # label and group
    rows: Rows = [{"text": p, "label": p[0], "group": p[1]} for p in places]
    file = write("a.jsonl", rows)
    assert codes(*read(file, group="group").units) == codes(places)
    assert len(set(*read(file).units)) == 7


def test_groups_of_two_labels_are_never_one_unit() -> None:
    rows: Rows = [
        {"text": "a", "label": label, "instruction": group}
        for label, group in [("a\nb", "c"), ("a", "b\nc")] * 2
    ]
    prompts = read(write("a.jsonl", rows))
    assert codes(*prompts.units) == [1, 0, 1, 0]


def test_contexts_and_inputs_are_two_kinds_of_units_under_all_labels() -> None:
    rows: Rows = [
        {"text": f"{c} {x} {label}", "label": label, "context": c, "word": x, "no": label + c}
        for label in "pq" for c in "ab" for x in "xyz"
    ]  # fmt: skip
    file = write("a.jsonl", rows)
    prompts = read(file, input="word")
    assert [*prompts.groups] == ["context", "input"]
    context, word = prompts.unit_numbers.T
    assert context.tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    assert word.tolist() == [2, 3, 4] * 4, "numbers of their own"
    assert read_table(parquet_bytes(table_of(prompts))) == prompts
    assert [*read(file).groups] == [], "there is no input"
    assert [*read(file, input="word", group="context").groups] == ["context"]
    both = read(file, group=("no", "word")).unit_numbers
    assert len(np.unique(both[:, 0])) == 4, "a number is of one label"
    assert len(np.unique(both[:, 1])) == 6, "and so is a word that is not named as the input"
    instruction = [row | {"instruction": row["context"]} for row in rows]
    assert [*read(write("b.jsonl", instruction), input="word").groups] == ["instruction"]
    without = [row | {"context": None} for row in rows]
    assert read(write("c.jsonl", without), input="word").groups == {}
    assert error_of(file, group=("no", "no")) == (
        "group = ['no', 'no']: should be one column, or two"
    )


def test_codes_number_the_sorted_values() -> None:
    values = ["b", "a", "b", "B", "10", "9", "", "a"]
    distinct, expected = np.unique(values, return_inverse=True)
    assert codes(values) == expected.tolist()
    assert distinct[codes(values)].tolist() == values
    assert codes([]) == []


def with_splits(*splits: object) -> str:
    rows = [{"text": "a", "label": i % 2, "half": half, "split": split}
            for split in splits for half in "lr" for i in range(2)]  # fmt: skip
    return write("a.jsonl", rows)


def sizes(prompts: LabelledPrompts) -> dict[str, int]:
    return {split: part.stop - part.start for split, part in prompts.splits.items()}


def test_a_column_split_makes_splits_of_which_kept_is_the_first() -> None:
    prompts = read(with_splits("new", "kept", "a/b"))
    assert list(prompts.splits) == ["kept", "new", "a%2Fb"]
    assert prompts.columns["split"] == ("kept",) * 4 + ("new",) * 4 + ("a/b",) * 4
    assert sizes(prompts) == {"kept": 4, "new": 4, "a%2Fb": 4}
    assert sizes(read(with_splits("x", "y"), split="half")) == {"l": 4, "r": 4}
    assert sizes(read(write("b.jsonl", [{"text": "a", "label": i % 2} for i in range(4)]))) == {
        "all": 4
    }


def test_the_column_split_gives_way_to_what_is_named() -> None:
    file = with_splits("x", "y")
    assert sizes(read(file, hold_out=("half",))) == {"kept": 4, "held_out_half": 4}
    other = write("b.jsonl", [{"text": "a", "label": i % 2, "split": "x"} for i in range(4)])
    assert sizes(read(file, other)) == {"a": 8, "b": 4}
    for more in ({"hold_out": ("half",)}, {"files": (str(file), str(other))}):
        with pytest.raises(InputError, match=r"split = 'half': .* makes splits, too"):
            PromptSettings(split="half", **more)


def test_more_values_than_splits_are_no_splits(capsys: pytest.CaptureFixture[str]) -> None:
    file = with_splits(*"abcd")
    assert sizes(read(file)) == {"all": 16}
    assert "the column 'split' has 4 values: at most 3 are splits; it is not used" in (
        capsys.readouterr().err
    )
    with pytest.raises(InputError, match="the column 'split' has 4 values"):
        read(file, split="split")
    with pytest.raises(InputError, match="has no 'part'; the columns are text, label"):
        read(file, split="part")
    with pytest.raises(InputError, match="has no 'split': 4 of 8 rows lack it"):
        read(with_splits("a", None))


def test_a_split_with_a_single_prompt_of_a_label_is_one_line() -> None:
    rows = [{"text": "a", "label": i % 2, "split": "xxxxyyy"[i]} for i in range(7)]
    with pytest.raises(InputError, match="'label' = '1' has a single prompt in split y"):
        read(write("a.jsonl", rows))


def test_few_shot_prompts_are_no_file() -> None:
    with pytest.raises(InputError, match="few-shot is made for the tokenizer of a model"):
        read_prompts("few-shot")
