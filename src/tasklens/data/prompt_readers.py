"""Read labelled prompts: JSONL, CSV and Parquet files, prompt sets of the package, tables."""

import contextlib
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from tasklens.core.downloads import HEAD, stand_in
from tasklens.core.errors import InputError, first_line
from tasklens.core.parquet import read_parquet
from tasklens.core.text import without_duplicates
from tasklens.data.cell_values import plain

#: Names of the prompt sets that come with the package.
SHIPPED = ("tasks-in-words", "tasks-in-words-equal")

Record: TypeAlias = tuple[str, dict[str, Any]]
"""Source of a prompt, as file and line, and its columns."""

PromptSource: TypeAlias = (
    str | Path | pd.DataFrame | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]
)
"""A file, the name of a prompt set, or prompts in memory: as columns, or as records."""


def content_of(name: str) -> bytes:
    """Return the content of a file of prompts, or of a prompt set of the package."""
    if name in SHIPPED:
        return resources.files("tasklens").joinpath(f"data/prompt_sets/{name}.jsonl").read_bytes()
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror}; give a .jsonl, .csv or .parquet file, or "
            f"one of {', '.join(SHIPPED)}"
        ) from error
    why = stand_in(content[:HEAD]) if content else ""  # an empty table has its own line
    if why:
        raise InputError(f"{name} {why}")
    return content


def read_records(name: str) -> Iterator[Record]:
    """Yield the prompts of a file, or of a prompt set of the package.

    InputError if the file cannot be read, with the line or row that is wrong if there is one.
    """
    content = content_of(name)
    suffix = ".jsonl" if name in SHIPPED else Path(name).suffix
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if suffix not in readers:
        raise InputError(f"{name}: should be a .jsonl, .csv or .parquet file")
    for source, record in readers[suffix](name, content):
        yield source, {column: plain(value) for column, value in record.items()}


def records_in_memory(table: PromptSource) -> list[Record]:
    """Return the prompts of a DataFrame, of a mapping of columns, or of a sequence of records.

    InputError if the table has another type, or if two of its columns have one name.
    """
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
            json.dumps(record, ensure_ascii=False, default=str).encode()
        except (ValueError, RecursionError) as error:  # half a surrogate pair, or a cycle
            raise InputError(f"prompt {number}: cannot be written: {error}") from error
        records.append((f"prompt {number}", record))
    return records


def _check_header(name: str, columns: Sequence[str]) -> None:
    """Raise InputError if two columns have one name: only the last would be read."""
    twice = [column for column, n in Counter(columns).items() if n > 1 and column]
    if twice:
        raise InputError(f"{name}: has {twice[0]!r} twice; the columns are {', '.join(columns)}")


def _jsonl(name: str, content: bytes) -> Iterator[Record]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        source = f"{name} line {number}"
        try:
            record = json.loads(line.decode(), object_pairs_hook=without_duplicates)
            json.dumps(record, ensure_ascii=False).encode()  # refuses half a surrogate pair
        except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
            raise InputError(f"{source}: is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise InputError(
                f'{source}: should be an object, as in {{"text": "...", "label": "..."}}'
            )
        yield source, record


def _csv(name: str, content: bytes) -> Iterator[Record]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name} line {line}: is not UTF-8: {error.reason}") from error
    with _any_length_of_cells():
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise InputError(f"{name} line {reader.line_num}: is not CSV: {error}") from error
    rows = [(line, row) for line, row in rows if len(row) > 1 or "".join(row).strip()]
    if not rows:
        return
    (line, columns), *rows = rows
    _check_header(f"{name} line {line}", columns)
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"{name} line {line}: should have {len(columns)} cells, as the first line has"
            )
        yield f"{name} line {line}", dict(zip(columns, row, strict=True))


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
        table = read_parquet(content)
        _check_header(name, table.column_names)
        columns = [_values(column) for column in table.columns]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: is not a readable Parquet file: {first_line(error)}") from error
    for number, row in enumerate(zip(*columns, strict=True), 1):
        yield f"{name} row {number}", dict(zip(table.column_names, row, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except (OverflowError, ValueError):  # a date that Python does not have
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
