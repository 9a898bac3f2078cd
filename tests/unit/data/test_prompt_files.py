"""Files of prompts as users have them: each is read rightly, or refused in one line."""

import contextlib
import datetime
import gzip
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes, read_foreign_parquet
from tasklens.data.labelled_prompts import PromptSettings, read_prompts, read_table, table_of

PAIRS = [("a 1", "x"), ("b 2", "y"), ("c 3", "x"), ("d 4", "y")]
ROWS = [{"text": text, "label": label} for text, label in PAIRS]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = b"text,label\n" + "".join(f"{text},{label}\n" for text, label in PAIRS).encode()
COLUMNS: dict[str, list[str]] = {
    "text": [text for text, _ in PAIRS],
    "label": [label for _, label in PAIRS],
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error_of(name: str, content: bytes, **settings: Any) -> str:
    Path(name).write_bytes(content)
    with pytest.raises(InputError) as error:
        read_prompts(PromptSettings(files=(name,), **settings))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1200
    return str(error.value)


def more(line: str) -> bytes:
    return JSONL + line.encode("utf-8", "surrogatepass") + b"\n"


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", JSONL.decode().encode("utf-16"), "a.jsonl: it is UTF-16; save it as UTF-8"),
        ("a.csv", CSV.decode().encode("utf-16"), "a.csv: it is UTF-16; save it as UTF-8"),
        ("a.csv", CSV.decode().encode("utf-16-le"), "a.csv line 1: has a NUL byte: should be text"),
        ("a.jsonl", JSONL + bytes(9), "a.jsonl line 5: has a NUL byte"),
        ("a.csv", CSV + "é,x".encode("latin-1"), "a.csv: it is not UTF-8 (byte 0xe9 in line 6)"),
        *(
            (
                f"a.{kind}",
                gzip.compress(JSONL, mtime=0),
                f"a.{kind} is compressed: decompress it first",
            )
            for kind in ("jsonl", "csv", "parquet")
        ),
        *(
            (f"a.{kind}", LFS, f"a.{kind} is a Git LFS pointer")
            for kind in ("jsonl", "csv", "parquet")
        ),
        ("a.jsonl", more('{"text": "a", "label": ' + "9" * 5000 + "}"), "thousands of digits"),
        ("a.jsonl", more('{"text": "a", "label": 1e400}'), "line 5: 'label' is a number beyond"),
        ("a.jsonl", more("[" * 100_000), "line 5: is not JSON: it is nested too deeply"),
        (
            "a.jsonl",
            more('{"z": ' + "[" * 500 + "]" * 500 + "}"),
            "line 5: is not JSON: it is nest",
        ),
        ("a.jsonl", more(r'{"text": "a", "label": "x", "\ud800": 1}'), "has half a character"),
        ("a.jsonl", b"[" + b",\n".join(JSONL.splitlines()) + b"]", "each line should be an object"),
        ("a.jsonl", b'{\n "text": "a"\n}', "line 1: is not JSON: Expecting property name"),
        ("a.csv", CSV + b'"e,x\n' + b"f,y\n" * 99, "line 6: is not CSV: unexpected end of data in"),
        ("a.csv", CSV.replace(b",", b";"), "line 1: has no comma, but ';'"),
        ("a.csv", b",text,kind\n1,a,x\n", "name one of a column without a name, text, kind with"),
    ],
)
def test_what_is_no_text_of_prompts_is_named(name: str, content: bytes, message: str) -> None:
    assert message in error_of(name, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"\xef\xbb\xbf" + JSONL),
        ("a.jsonl", JSONL.replace(b"\n", b"\r")),
        ("a.csv", CSV.replace(b"\n", b"\r")),
        ("a.JSONL", JSONL),
        ("a.Csv", CSV),
        ("a.PARQUET", parquet_bytes(pa.table(COLUMNS))),
    ],
)
def test_other_line_ends_and_upper_case_endings_are_read(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    prompts = read_prompts(name)
    assert [*zip(prompts.text, prompts.label, strict=True)] == PAIRS


def test_a_cell_of_any_length_is_read_and_makes_no_long_message() -> None:
    long = "w" * 200_000
    Path("a.csv").write_bytes(CSV + f"{long},x\n".encode())
    assert read_prompts("a.csv").text[-1] == long
    assert "has a single prompt in split all" in error_of("a.csv", CSV + f"e,{long}\n".encode())


def test_a_message_lists_some_of_many_columns() -> None:
    row = {"text": "a", "a\nb": 1, " ": 2} | {f"c{i}": i for i in range(10_000)}
    line = error_of("a.jsonl", json.dumps(row).encode())
    assert r"name one of text, a\nb, a column without a name, c0, c1, " in line
    assert "c16, and 9,983 more with --label" in line


def test_what_is_no_file_is_refused_and_not_waited_for() -> None:
    Path("a.parquet").mkdir()
    os.mkfifo("a.jsonl")
    Path("a.csv").symlink_to("/dev/zero")
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        with pytest.raises(InputError, match=rf"^{name} is not a file; give a \.jsonl"):
            read_prompts(name)
    with pytest.raises(InputError, match=r"^a file of prompts has no name; give a \.jsonl"):
        read_prompts(" ")
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        read_prompts("a" * 3000)


def test_a_file_that_the_memory_does_not_hold_is_not_read() -> None:
    with Path("a.jsonl").open("wb") as file:
        file.truncate(2**42)  # without content, so that it needs no disk
    with pytest.raises(InputError, match=r"^a\.jsonl has 4,398\.0 GB, which the free memory of "):
        read_prompts("a.jsonl")


def test_two_files_of_names_that_look_alike_are_refused() -> None:
    for name in ("\u00e1.jsonl", "a\u0301.jsonl"):
        Path(name).write_bytes(JSONL)
    with pytest.raises(InputError, match="another file also has the name"):
        read_prompts(PromptSettings(files=("\u00e1.jsonl", "a\u0301.jsonl")))


# --- Parquet ---


def times(value: int, kind: pa.DataType) -> Callable[[], pa.Array]:
    return lambda: pa.array([value] * 4, pa.int64()).cast(kind)


def structs(*names: str) -> pa.Array:
    far = times(4 * 10**17, pa.timestamp("us"))()
    return pa.StructArray.from_arrays([far for _ in names], [*names])


#: Columns with values that Python does not have, and what a message calls them.
FOREIGN: dict[str, tuple[Callable[[], pa.Array], str]] = {
    "a far time": (times(4 * 10**17, pa.timestamp("us")), "14645-06-30 15:06:40"),
    "a far time with a zone": (times(4 * 10**17, pa.timestamp("us", "UTC")), "14645-06-30"),
    "an unknown zone": (times(0, pa.timestamp("us", "No/Where")), "[us, tz=No/Where]"),
    "a far date": (
        lambda: pa.array([2**31 - 1] * 4, pa.int32()).cast(pa.date32()),
        "(date32[day])",
    ),
    "a long duration": (times(2**62, pa.duration("s")), "(duration[s])"),
    "a list of far times": (
        lambda: pa.array([[4 * 10**17]] * 4, pa.list_(pa.timestamp("us"))),
        "a value of the type list<element: timestamp[us]>",
    ),
    "a map with far keys": (
        lambda: pa.array([[(4 * 10**17, 1)]] * 4, pa.map_(pa.timestamp("us"), pa.int8())),
        "a value of the type map<timestamp[us], int8",
    ),
    "an object of a far time": (lambda: structs("a"), "a value of the type struct<a: timestamp"),
    "an object with a key twice": (lambda: structs("a", "a"), "a value of the type struct<a: time"),
    "far times in a dictionary": (
        lambda: times(4 * 10**17, pa.timestamp("us"))().dictionary_encode(),
        "14645-06-30",
    ),
    "text that is not UTF-8": (
        lambda: pa.StringArray.from_buffers(4, *pa.array([b"\xff"] * 4).buffers()[1:]),
        "a text that is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_only_a_column_that_is_used_needs_values_of_python(name: str) -> None:
    make, shown = FOREIGN[name]
    Path("a.parquet").write_bytes(parquet_bytes(pa.table(COLUMNS | {"more": make()})))
    prompts = read_prompts("a.parquet")
    assert prompts.text == tuple(COLUMNS["text"])
    read_table(parquet_bytes(table_of(prompts)))
    content = parquet_bytes(pa.table(COLUMNS | {"more": make()}))
    for used in ({"label": "more"}, {"hold_out": ("more",)}, {"text": "more"}):
        line = error_of("a.parquet", content, **used)
        assert line.startswith("a.parquet row 1: 'more' is "), line
        assert shown in line


@pytest.mark.parametrize(
    "make",
    [
        times(10**18 + 1, pa.timestamp("ns")),
        times(1, pa.duration("ns")),
        times(1, pa.time64("ns")),
        lambda: pa.array([Decimal("1.50")] * 4, pa.decimal256(76, 2)),
        lambda: pa.array([[("a", 1), ("a", 2)]] * 4, pa.map_(pa.string(), pa.int32())),
        lambda: pa.array(np.ones(4, np.float16)),
        lambda: pa.array(["p", "q"] * 2, pa.large_string()),
        lambda: pa.array(["p", "q"] * 2, pa.string_view()),
        lambda: pa.array(["p", "q"] * 2).dictionary_encode(),
        lambda: pa.array([b"p\xff"] * 4),
        lambda: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 4, pa.binary(16))),
        lambda: pa.nulls(4),
    ],
)
def test_other_types_of_arrow_stop_no_prompts(make: Callable[[], pa.Array]) -> None:
    Path("a.parquet").write_bytes(parquet_bytes(pa.table(COLUMNS | {"more": make()})))
    assert read_prompts("a.parquet").label == tuple(COLUMNS["label"])


def test_texts_of_any_type_of_arrow_are_equal() -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        table = pa.table({name: pa.array(values).cast(kind) for name, values in COLUMNS.items()})
        Path("a.parquet").write_bytes(parquet_bytes(table))
        prompts = read_prompts("a.parquet")
        assert [*zip(prompts.text, prompts.label, strict=True)] == PAIRS


def test_a_nanosecond_of_a_label_counts() -> None:
    stamps = pa.array([10**18 + 1, 10**18 + 2] * 2, pa.int64()).cast(pa.timestamp("ns"))
    Path("a.parquet").write_bytes(parquet_bytes(pa.table(COLUMNS | {"label": stamps})))
    first, second, *_ = read_prompts("a.parquet").label
    assert datetime.datetime.fromisoformat(first[:26]) == datetime.datetime(2001, 9, 9, 1, 46, 40)
    assert (first[-3:], second[-3:]) == ("001", "002")


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"text": pa.nulls(3_000_000)}),
        pa.table({"text": ["long " * 40_000] * 1000}),
    ],
)
def test_a_small_file_of_many_values_is_refused_before_they_are_made(table: pa.Table) -> None:
    content = parquet_bytes(table)
    assert len(content) < 100_000
    with pytest.raises(MemoryError, match=r"its values need about 0\.\d GB of memory, but 0\.1 GB"):
        read_foreign_parquet(content, 10**8)
    assert read_foreign_parquet(content, 10**10).num_rows == table.num_rows


def test_no_flipped_bit_of_a_head_ends_the_process() -> None:
    """Some end it in pyarrow, if the head of a damaged column is asked for."""
    content = parquet_bytes(pa.table({"text": ["a", "b"], "label": ["x", "y"], "n": [1, 2]}))
    for i in range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content)):
        flipped = bytearray(content)
        flipped[i] ^= 1
        with contextlib.suppress(pa.ArrowException, OSError, MemoryError, UnicodeDecodeError):
            read_foreign_parquet(bytes(flipped), 10**9)
