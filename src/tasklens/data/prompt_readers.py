"""Read labelled prompts: JSONL, CSV and Parquet files, prompt sets of the package, tables."""

import contextlib
import csv
import io
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from tasklens.core.downloads import HEAD, stand_in
from tasklens.core.errors import InputError, first_line
from tasklens.core.files import check_is_file
from tasklens.core.memory import free_memory
from tasklens.core.messages import short
from tasklens.core.parquet import read_foreign_parquet
from tasklens.core.parse import decoded, parse_json
from tasklens.core.text import check_characters, visible
from tasklens.data.cell_values import Unreadable, plain
from tasklens.data.names import listed

if TYPE_CHECKING:
    import pandas as pd

#: Names of the prompt sets that come with the package.
SHIPPED = ("tasks-in-words", "tasks-in-words-equal")
#: Name of the prompts that are made for the tokenizer of a model that is measured.
FEW_SHOT = "few-shot"

Record: TypeAlias = tuple[str, dict[str, Any]]
"""Source of a prompt, as file and line, and its columns."""

PromptSource: TypeAlias = (
    "str | Path | pd.DataFrame | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]"
)
"""A file, the name of a prompt set, or prompts in memory: as columns, or as records."""

#: Bytes of memory for each byte of a file of prompts in JSONL or CSV, at least.
EXPANSION = 4
_RIGHT = f"give a .jsonl, .csv or .parquet file, or one of {', '.join(SHIPPED)}"


def content_of(name: str) -> bytes:
    """Return the content of a file of prompts, or of a prompt set of the package."""
    if name in SHIPPED:
        return resources.files("tasklens").joinpath(f"data/prompt_sets/{name}.jsonl").read_bytes()
    if name == FEW_SHOT:
        raise InputError(
            f"{FEW_SHOT} is made for the tokenizer of a model, by tasklens probe: to have it as a "
            "file, call tasklens prompts icl"
        )
    if not name.strip():
        raise InputError(f"a file of prompts has no name; {_RIGHT}")
    path, shown = Path(name), short(name)[1:-1]
    try:
        check_is_file(path, _RIGHT)
        size, free = path.stat().st_size, free_memory()
        if size * EXPANSION > free:
            raise InputError(
                f"{shown} has {size / 1e9:,.1f} GB, which the free memory of "
                f"{free / 1e9:,.1f} GB does not hold; give fewer prompts"
            )
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{shown} cannot be read: {error.strerror}; {_RIGHT}") from error
    why = stand_in(content[:HEAD]) if content else ""  # an empty table has its own line
    if why:
        raise InputError(f"{shown} {why}")
    return content


def read_records(name: str) -> Iterator[Record]:
    """Yield the prompts of a file, or of a prompt set of the package.

    InputError if the file cannot be read, with the line or row that is wrong if there is one.
    """
    suffix = ".jsonl" if name in SHIPPED else Path(name).suffix.lower()
    readers: dict[str, Callable[[str, bytes], Iterator[Record]]]
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    content = content_of(name)
    name = visible(name)  # a source is one line
    if suffix not in readers:
        raise InputError(f"{name}: should be a .jsonl, .csv or .parquet file")
    if content and (why := stand_in(content[:HEAD]) or _compressed(content)):
        raise InputError(f"{name} {why}")
    for source, record in readers[suffix](name, content):
        yield source, {column: plain(value) for column, value in record.items()}


def _compressed(content: bytes) -> str:
    """Return a sentence if a content is compressed, otherwise an empty text."""
    beginnings = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
    return "is compressed: decompress it first" if content.startswith(beginnings) else ""


def records_in_memory(table: PromptSource) -> list[Record]:
    """Return the prompts of a DataFrame, of a mapping of columns, or of a sequence of records.

    InputError if the table has another type, or if two of its columns have one name.
    """
    import pandas as pd

    try:
        # As objects: otherwise a column of ints with a gap becomes floats, which may be rounded.
        frame = pd.DataFrame(table, dtype=object)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"prompts: {first_line(error)}: should be a path, a DataFrame, or columns, as in "
            '{"text": [...], "label": [...]}'
        ) from error
    if frame.empty:
        raise InputError("prompts: should have at least one prompt")
    columns = [str(name) for name in frame.columns]
    _check_header("prompts", columns)
    records = []
    for number, row in enumerate(frame.itertuples(index=False, name=None)):
        try:
            record = {name: plain(value) for name, value in zip(columns, row, strict=True)}
            check_characters(record)
        except RecursionError as error:
            raise InputError(
                f"prompt {number}: cannot be written: a value is nested too deeply"
            ) from error
        except ValueError as error:  # of check_characters, or a cycle, or thousands of digits
            raise InputError(f"prompt {number}: cannot be written: {first_line(error)}") from error
        records.append((f"prompt {number}", record))
    return records


def _check_header(name: str, columns: Sequence[str]) -> None:
    """Raise InputError if two columns have one name: only the last would be read."""
    twice = [column for column, n in Counter(columns).items() if n > 1 and column]
    if twice:
        raise InputError(f"{name}: has {short(twice[0])} twice; the columns are {listed(columns)}")


def _jsonl(name: str, content: bytes) -> Iterator[Record]:
    text = _text(name, content)
    # Lines end as most editors write them, or by a carriage return alone, as very old ones do. In
    # JSON neither stands within a text.
    for number, line in enumerate(text.split("\n" if "\n" in text else "\r"), 1):
        if not line.strip():
            continue
        source = f"{name} line {number}"
        try:
            record = parse_json(line)
            if "\\u" in line:
                check_characters(record)
        except ValueError as error:
            hint = ""
            if line.lstrip().startswith(("[", "{")) and line.rstrip()[-1] in "[{,":
                hint = ": each line should be an object of its own"
            raise InputError(f"{source}: is not JSON: {error}{hint}") from error
        if not isinstance(record, dict):
            raise InputError(
                f'{source}: should be an object, as in {{"text": "...", "label": "..."}}'
            )
        for column, value in record.items():
            # Two numbers beyond all floats, such as 1e400 and 1e500, would be one.
            if isinstance(value, float) and math.isinf(value) and "Infinity" not in line:
                raise InputError(
                    f"{source}: {short(column)} is a number beyond 1e308: should be a text"
                )
        yield source, record


def _csv(name: str, content: bytes) -> Iterator[Record]:
    text = _text(name, content)
    rows: list[tuple[int, list[str]]] = []
    begin = 1
    with _any_length_of_cells():
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            for row in reader:
                rows.append((reader.line_num, row))
                begin = reader.line_num + 1
        except csv.Error as error:
            why = str(error)
            if reader.line_num > begin:
                why = f"{why} in line {reader.line_num}: is a quote not closed?"
            raise InputError(f"{name} line {begin}: is not CSV: {why}") from error
    rows = [(line, row) for line, row in rows if len(row) > 1 or "".join(row).strip()]
    if not rows:
        return
    (line, columns), *rows = rows
    _check_header(f"{name} line {line}", columns)
    if len(columns) == 1 and (others := [each for each in ";\t|" if each in columns[0]]):
        raise InputError(
            f"{name} line {line}: has no comma, but {short(others[0])}: should have commas between "
            "cells"
        )
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"{name} line {line}: should have {len(columns)} cells, as the first line has"
            )
        yield f"{name} line {line}", dict(zip(columns, row, strict=True))


def _text(name: str, content: bytes) -> str:
    """Return the text of a file; InputError if it is not UTF-8, with the line."""
    if (begin := content.find(b"\0")) >= 0 and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        line = content.count(b"\n", 0, begin) + 1
        raise InputError(
            f"{name} line {line}: has a NUL byte: should be text in UTF-8 (UTF-16 has such bytes)"
        )
    try:
        return decoded(content)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


@contextlib.contextmanager
def _any_length_of_cells() -> Iterator[None]:
    """Lift the limit on a cell of CSV, which holds for the whole process, until the block ends."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _parquet(name: str, content: bytes) -> Iterator[Record]:
    try:
        table = read_foreign_parquet(content, free_memory() // 2)
    except MemoryError as error:
        raise InputError(f"{name}: {error}; give fewer prompts or columns") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: is not a readable Parquet file: {first_line(error)}") from error
    _check_header(name, table.column_names)
    columns = [_values(column) for column in table.columns]
    for number, row in enumerate(zip(*columns, strict=True), 1):
        yield f"{name} row {number}", dict(zip(table.column_names, row, strict=True))


#: What Arrow raises for a value that Python does not have.
_NOT_IN_PYTHON = (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column; those that Python does not have are `Unreadable`."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except _NOT_IN_PYTHON:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    kind = scalar.type.value_type if pa.types.is_dictionary(scalar.type) else scalar.type
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return Unreadable("a text that is not UTF-8")
    except _NOT_IN_PYTHON:
        with contextlib.suppress(*_NOT_IN_PYTHON):
            return Unreadable(f"{scalar.cast(pa.string()).as_py()} ({kind})")
        return Unreadable(f"a value of the type {kind}")
