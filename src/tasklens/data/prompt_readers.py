"""Read labelled prompts: JSONL, CSV and Parquet files, prompt sets of the package, tables."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from tasklens.core.errors import InputError, first_line
from tasklens.core.parquet import read_parquet

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
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror}; give a .jsonl, .csv or .parquet file, or "
            f"one of {', '.join(SHIPPED)}"
        ) from error


def read_records(name: str) -> Iterator[Record]:
    """Yield the prompts of a file, or of a prompt set of the package.

    InputError if the file cannot be read, with the line or row that is wrong if there is one.
    """
    content = content_of(name)
    suffix = ".jsonl" if name in SHIPPED else Path(name).suffix
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if suffix not in readers:
        raise InputError(f"{name}: should be a .jsonl, .csv or .parquet file")
    yield from readers[suffix](name, content)


def records_in_memory(table: PromptSource) -> list[Record]:
    """Return the prompts of a DataFrame, of a mapping of columns, or of a sequence of records.

    InputError if the table has another type. A missing value counts as a missing column.
    """
    try:
        frame = pd.DataFrame(table)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"prompts: {first_line(error)}: should be a path, a DataFrame, or columns, as in "
            '{"text": [...], "label": [...]}'
        ) from error
    if frame.empty:
        raise InputError("prompts: should have at least one prompt")
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [
        (f"prompt {number}", {str(name): value for name, value in record.items()})
        for number, record in enumerate(records)
    ]


def _jsonl(name: str, content: bytes) -> Iterator[Record]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        source = f"{name} line {number}"
        try:
            record = json.loads(line.decode())
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
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for record in reader:
            source = f"{name} line {reader.line_num}"
            if None in record or None in record.values():
                n = len(reader.fieldnames or ())
                raise InputError(f"{source}: should have {n} cells, as the first line has")
            yield source, dict(record)
    except csv.Error as error:
        raise InputError(f"{name} line {reader.reader.line_num}: is not CSV: {error}") from error


def _parquet(name: str, content: bytes) -> Iterator[Record]:
    try:
        rows = read_parquet(content).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: is not a readable Parquet file: {first_line(error)}") from error
    yield from ((f"{name} row {number}", record) for number, record in enumerate(rows, 1))
