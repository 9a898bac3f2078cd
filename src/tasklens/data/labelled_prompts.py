"""Labelled texts of anybody's: read from a file, checked, and split. No torch."""

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

import pyarrow as pa
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.parquet import read_parquet
from tasklens.core.seeds import stream
from tasklens.core.settings import SettingsBase

#: Sets that come with the package: name, and file in it.
SHIPPED = ("tasks-in-words", "tasks-in-words-equal")
#: Columns that are taken where the settings name none, the first that there is.
USUAL = {
    "label": ("label", "task"),
    "input": ("input",),
    "output": ("output", "answer"),
    "group": ("instruction",),
}
#: The split that all prompts are in where none are held out, and that of the others where some are.
ALL, KEPT = "all", "kept"

Record: TypeAlias = tuple[str, dict[str, Any]]
"""Where a prompt stands, in words, and its columns."""


class PromptSettings(SettingsBase, affects="data"):
    """The labelled prompts, and how they are split."""

    files: Annotated[tuple[str, ...], Field(min_length=1)] = ("tasks-in-words",)
    """JSONL, CSV or Parquet files, or names of sets that come with tasklens. Of several, each is a
    split, called as its file is."""
    text: str = "text"
    """Column of the text. It may go on after the position that is measured."""
    label: str = ""
    """Column of the label that clusters are held against; empty: label, or task."""
    input: str = ""
    """Column of the part of the text that is worked on; empty: input, where there is one."""
    output: str = ""
    """Column of what should follow the input; empty: output or answer, where there is one. The
    model's accuracy is measured by its first token."""
    group: str = ""
    """Column whose equal values make prompts depend on each other: these are drawn together when
    intervals are computed; empty: instruction, where there is one."""
    hold_out: tuple[str, ...] = ()
    """Columns of which each label's values are split: prompts with the values that are held out
    make a split of their own, called held_out_COLUMN. One column, or two."""
    hold_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each label's values that is held out; at least one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check what spans two settings."""
        if self.hold_out and len(self.files) > 1:
            raise ValueError("hold_out splits a single file; several files are splits already")
        if len(set(self.hold_out)) != len(self.hold_out) or len(self.hold_out) > 2:
            raise ValueError(f"hold_out = {list(self.hold_out)}: should be one column, or two")
        if len(self.files) > 3:
            raise ValueError(f"{len(self.files)} files: should be 3 at most, each is a split")
        return self


@dataclasses.dataclass(frozen=True)
class LabelledPrompts:
    """N texts with their labels, split by split.

    Attributes
    ----------
    where : N strings
        Where each stands: file and line.
    text, label : N strings
    input, output, group : N strings, or None
        None where there is no such column.
    columns : {name: N values}
        Everything that the file says.
    splits : {name: slice}
        Which of them are in each split.
    """

    where: tuple[str, ...]
    text: tuple[str, ...]
    label: tuple[str, ...]
    input: tuple[str, ...] | None
    output: tuple[str, ...] | None
    group: tuple[str, ...] | None
    columns: dict[str, tuple[Any, ...]]
    splits: dict[str, slice]

    def __len__(self) -> int:
        return len(self.text)

    @property
    def units(self) -> tuple[str, ...]:
        """What each prompt is drawn with when intervals are computed: those of its group, if any.

        Of a label's own: a phrasing's number may stand for another phrasing under another label.
        """
        group = self.group or tuple(map(str, range(len(self))))
        return tuple(f"{label}\n{its}" for label, its in zip(self.label, group, strict=True))


def read_prompts(settings: PromptSettings | None = None, seed: int = 0) -> LabelledPrompts:
    """Read labelled prompts and split them.

    Parameters
    ----------
    settings : PromptSettings, optional
        By default the set tasks-in-words, undivided.
    seed : int
        Root seed of what is held out.

    Raises
    ------
    InputError
        Where a file cannot be read (with the line), a column is missing, or a label has one value
        or a single prompt.
    """
    settings = settings or PromptSettings()
    parts: dict[str, list[Record]] = {}
    for name in settings.files:
        records = list(_records(name))
        if not records:
            raise InputError(f"{name}: holds no prompt")
        split = Path(name).stem
        if split in parts:
            raise InputError(f"{name}: another file is called {split} too; each is a split")
        parts[split] = records
    names = _columns(parts, settings)
    label = names["label"] or ""
    if len(parts) == 1:
        (records,) = parts.values()
        parts = _held_out(records, label, settings, seed)
    for split, records in parts.items():
        _check_labels(split, records, label, held_out=bool(settings.hold_out) and split != KEPT)
    return _table(parts, names)


def content_of(name: str) -> bytes:
    """Return the content of a file of prompts, or of a set that comes with the package."""
    if name in SHIPPED:
        return resources.files("tasklens").joinpath(f"data/prompt_sets/{name}.jsonl").read_bytes()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        shipped = ", ".join(SHIPPED)
        raise InputError(
            f"{name} cannot be read: {error.strerror}; give a .jsonl, .csv or .parquet file, or "
            f"one of {shipped}"
        ) from error


def _records(name: str) -> Iterator[Record]:
    content = content_of(name)
    suffix = ".jsonl" if name in SHIPPED else Path(name).suffix
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if suffix not in readers:
        raise InputError(f"{name}: should be a .jsonl, .csv or .parquet file")
    yield from readers[suffix](name, content)


def _jsonl(name: str, content: bytes) -> Iterator[Record]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            record = json.loads(line.decode())
            json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
            raise InputError(f"{where}: is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise InputError(
                f'{where}: should be an object, as in {{"text": "...", "label": "..."}}'
            )
        yield where, record


def _csv(name: str, content: bytes) -> Iterator[Record]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name} line {line}: is not UTF-8: {error.reason}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for record in reader:
            where = f"{name} line {reader.line_num}"
            if None in record or None in record.values():
                n = len(reader.fieldnames or ())
                raise InputError(f"{where}: should have {n} cells, as the first line has")
            yield where, dict(record)
    except csv.Error as error:
        raise InputError(f"{name} line {reader.reader.line_num}: is not CSV: {error}") from error


def _parquet(name: str, content: bytes) -> Iterator[Record]:
    try:
        rows = read_parquet(content).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name}: not a readable Parquet file: {first}") from error
    for number, record in enumerate(rows, 1):
        yield f"{name} row {number}", record


def _columns(parts: Mapping[str, list[Record]], settings: PromptSettings) -> dict[str, str | None]:
    """Return which column is the text, the label and so on; None for one that there need not be."""
    where, first = next(iter(parts.values()))[0]
    names: dict[str, str | None] = {"text": settings.text}
    for what, usual in USUAL.items():
        said: str = getattr(settings, what)
        names[what] = said or next((name for name in usual if name in first), None)
    if names["label"] is None:
        raise InputError(
            f"{where}: no column of labels; its columns are {', '.join(first)}: name one with "
            "--label"
        )
    wanted = [name for name in (*names.values(), *settings.hold_out) if name is not None]
    for records in parts.values():
        for where, record in records:
            for name in wanted:
                if record.get(name) is None:
                    raise InputError(
                        f"{where}: no {name!r}; its columns are {', '.join(map(str, record))}"
                    )
            if not isinstance(record[settings.text], str) or not record[settings.text].strip():
                raise InputError(f"{where}: {settings.text!r} should be a text")
    return names


def _held_out(
    records: list[Record], label: str, settings: PromptSettings, seed: int
) -> dict[str, list[Record]]:
    """Split prompts by what is held out; those that two columns hold out are in no split.

    A value is held out for a label, not for all: it can be seen with another one, as in the paper
    an input that was never seen after an instruction is seen after others.
    """
    if not settings.hold_out:
        return {ALL: records}
    held: dict[str, set[tuple[str, str]]] = {}
    for column in settings.hold_out:
        values: dict[str, dict[str, None]] = {}  # by label, in the order of the file
        for _, record in records:
            values.setdefault(str(record[label]), {})[str(record[column])] = None
        held[column] = set()
        for of, its in values.items():
            if len(its) < 2:
                raise InputError(
                    f"{settings.files[0]}: label {of!r} has one value of {column!r}, so that none "
                    "can be held out; hold out by another column"
                )
            n = min(len(its) - 1, max(1, round(settings.hold_out_share * len(its))))
            drawn = stream(seed, "hold out", column, of).choice(len(its), n, replace=False)
            held[column] |= {(of, list(its)[i]) for i in drawn}
    parts: dict[str, list[Record]] = {KEPT: []}
    parts |= {f"held_out_{column}": [] for column in settings.hold_out}
    for where, record in records:
        of = str(record[label])
        out = [column for column in held if (of, str(record[column])) in held[column]]
        if len(out) < 2:
            parts[f"held_out_{out[0]}" if out else KEPT].append((where, record))
    return parts


def _check_labels(split: str, records: list[Record], label: str, *, held_out: bool) -> None:
    more = "; raise prompts.hold_out_share" if held_out else ""
    first = records[0][0] if records else split
    counts = Counter(str(record[label]) for _, record in records)
    if len(counts) < 2:
        raise InputError(
            f"{first}: {label!r} has the one value {next(iter(counts), '')!r} in split {split}: "
            f"should have two or more{more}"
        )
    alone = next((value for value, n in counts.items() if n == 1), None)
    if alone is not None:
        where = next(where for where, record in records if str(record[label]) == alone)
        raise InputError(
            f"{where}: {label!r} = {alone!r} has this one prompt in split {split}: should have two "
            f"or more{more}"
        )


def _table(parts: Mapping[str, list[Record]], names: Mapping[str, str | None]) -> LabelledPrompts:
    records = [record for of_split in parts.values() for record in of_split]
    ends = [0]
    for of_split in parts.values():
        ends.append(ends[-1] + len(of_split))
    splits = {split: slice(ends[i], ends[i + 1]) for i, split in enumerate(parts)}

    def strings(what: str) -> tuple[str, ...] | None:
        name = names[what]
        return None if name is None else tuple(str(record[name]) for _, record in records)

    columns = dict.fromkeys(name for _, record in records for name in record)
    return LabelledPrompts(
        where=tuple(where for where, _ in records),
        text=strings("text") or (),
        label=strings("label") or (),
        input=strings("input"),
        output=strings("output"),
        group=strings("group"),
        columns={name: tuple(record.get(name) for _, record in records) for name in columns},
        splits=splits,
    )


_PARTS = ("where", "text", "label", "input", "output", "group")


def table_of(prompts: LabelledPrompts) -> pa.Table:
    """Return labelled prompts as a table, to be read by `read_table`; a part there is not is null.

    Columns `split`, `where`, `text`, `label`, `input`, `output`, `group`, and `columns`, which is
    JSON of everything that the file said; all of strings.
    """
    split = [name for name, here in prompts.splits.items() for _ in range(here.stop - here.start)]
    columns: dict[str, Any] = {"split": split}
    for part in _PARTS:
        values = getattr(prompts, part)
        columns[part] = [None] * len(prompts) if values is None else list(values)
    names, rows = list(prompts.columns), zip(*prompts.columns.values(), strict=True)
    columns["columns"] = [
        json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=str)
        for row in rows
    ]
    schema = pa.schema([(name, pa.string()) for name in columns])
    return pa.table(columns, schema=schema)


def read_table(content: bytes) -> LabelledPrompts:
    """Read what `table_of` has made, as the content of a Parquet file."""
    columns = read_parquet(content).to_pydict()
    parts: dict[str, Any] = {
        part: None if None in columns[part] else tuple(columns[part]) for part in _PARTS
    }
    ends = Counter(columns["split"])
    splits, begin = {}, 0
    for name in dict.fromkeys(columns["split"]):
        splits[name] = slice(begin, begin + ends[name])
        begin += ends[name]
    records = [json.loads(said) for said in columns["columns"]]
    names = dict.fromkeys(name for record in records for name in record)
    said = {name: tuple(record[name] for record in records) for name in names}
    return LabelledPrompts(**parts, columns=said, splits=splits)


def codes(values: Sequence[str]) -> list[int]:
    """Return a number for each value, equal for equal ones, in the order of the sorted values."""
    number = {value: i for i, value in enumerate(sorted(set(values)))}
    return [number[value] for value in values]
