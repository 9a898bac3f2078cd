"""Read, validate and split labelled prompts."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.parquet import read_parquet
from tasklens.core.progress import warn
from tasklens.core.settings import Names, SettingsBase, with_keywords
from tasklens.data.cell_values import is_missing, look
from tasklens.data.chats import MESSAGES, Messages, transcript
from tasklens.data.family_column import check_families, family_column
from tasklens.data.prompt_answers import ANSWERS, answers_by_label
from tasklens.data.prompt_columns import USUAL, Prompt, choose_columns, name_columns
from tasklens.data.prompt_readers import PromptSource, Record, read_records, records_in_memory
from tasklens.data.prompt_splits import (
    ALL,
    KEPT,
    MOST_SPLITS,
    check_labels,
    column_of_splits,
    hold_out,
    split_by,
)

#: The groups whose equal values are one unit whatever the label.
CROSSED = CONTEXT, INPUT = "context", "input"


class PromptSettings(SettingsBase, affects="data"):
    """The labelled prompts, and how they are split.

    Examples
    --------
    >>> import tasklens as tl
    >>> prompts = tl.read_prompts(tl.PromptSettings(files=["tasks-in-words"], hold_out=["input"]))
    >>> list(prompts.splits)
    ['kept', 'held_out_input']
    """

    files: Annotated[tuple[str, ...], Field(min_length=1)] = ("tasks-in-words",)
    """JSONL, CSV or Parquet files, or names of sets that come with tasklens. With several files,
    each becomes a split named after the file."""
    text: str = "text"
    """Column of the text, or of messages: a list of role and content each. The chat template of
    the model's tokenizer writes messages as a text. Without a column text it is messages. The text
    may continue after the position that is measured."""
    label: str = ""
    """Column of the label that clusters are compared with; empty: label, or task."""
    input: str = ""
    """Column of the input, a part of the text; empty: input, if there is such a column."""
    output: str = ""
    """Column of the output, which should follow the input; empty: output or answer, if there is
    such a column. The model's accuracy is measured by the first token of the output."""
    group: Names = ()
    """One column or two, whose equal values make prompts depend on each other. Such prompts are
    drawn together when intervals are computed; of two columns, the values of each are drawn. Equal
    values under two labels are two things, except in the columns of contexts and of inputs, which
    are crossed with the label. Empty: instruction, if there is such a column, otherwise context and
    the input, if there are both."""
    family: str = ""
    """Column of the family: tasks are compared with those of the same family only, which are asked
    over the same inputs. Each family is clustered for itself, and a score is the mean over them.
    Empty: family, if there is such a column; none: all prompts are one family."""
    split: str = ""
    """Column of the splits, three at most; a split that is called kept comes first. Empty: split,
    if a single file has such a column with at most three values, and hold_out is empty."""
    hold_out: tuple[str, ...] = ()
    """One column or two, whose values are held out for each label. Prompts with a value that is
    held out form the split held_out_COLUMN."""
    hold_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each label's values that is held out; at least one value."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hold_out and len(self.files) > 1:
            raise ValueError("hold_out needs a single file; several files are splits already")
        if self.split and (self.hold_out or len(self.files) > 1):
            other = "hold_out" if self.hold_out else "several files"
            raise ValueError(
                f"split = {short(self.split)}: {other} makes splits, too; leave out one"
            )
        if len(self.files) > MOST_SPLITS:
            raise ValueError(
                f"{len(self.files)} files: should be at most {MOST_SPLITS}; each file is a split"
            )
        for key, columns in (("hold_out", self.hold_out), ("group", self.group)):
            if len(set(columns)) != len(columns) or len(columns) > 2:
                raise ValueError(f"{key} = {list(columns)}: should be one column, or two")
        return self


@dataclasses.dataclass(frozen=True, repr=False)
class LabelledPrompts:
    """N texts with their labels, split by split; a part is None if there is no such column.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.read_prompts("tasks-in-words").label[:2]
    ('plural', 'plural')
    """

    source: tuple[str, ...]
    """File and line of each text."""
    text: tuple[str, ...]
    label: tuple[str, ...]
    input: tuple[str, ...] | None
    output: tuple[str, ...] | None
    groups: dict[str, tuple[str, ...]]
    """The columns, two at most, whose equal values make prompts depend on each other; the column of
    the input has the name input."""
    columns: dict[str, tuple[Any, ...]]
    """All columns of the file."""
    splits: dict[str, slice]
    """Slice of the texts in each split."""
    messages: tuple[Messages, ...] | None = None
    """The messages of which a chat template writes each text."""
    is_rendered: bool = False
    """Whether it has written them: see `tasklens.data.chats.rendered`."""
    family: tuple[str, ...] | None = None
    """None, too, if all prompts are one family."""

    def __len__(self) -> int:
        return len(self.text)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {rows.stop - rows.start}" for name, rows in self.splits.items())
        return (
            f"LabelledPrompts({len(self)} prompts, {len(set(self.label))} labels; splits: {sizes})"
        )

    @property
    def units(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The unit of each prompt, for each kind of unit that is drawn for intervals.

        There are one kind or two: those of `groups`, or each prompt alone. Equal values of two
        labels are two units, since the same number may mean another phrasing, except `CROSSED`.
        """
        alone = {"": tuple(map(str, range(len(self))))}
        return tuple(
            tuple(zip([""] * len(self) if name in CROSSED else self.label, values, strict=True))
            for name, values in (self.groups or alone).items()
        )

    @property
    def unit_numbers(self) -> npt.NDArray[np.int64]:
        """The number of each prompt's unit: (N,), or (N, 2) of both kinds, all distinct."""
        kinds = [np.array(codes(values), dtype=np.int64) for values in self.units]
        if len(kinds) == 1:
            return kinds[0]
        return np.stack([kinds[0], kinds[1] + kinds[0].max() + 1], axis=1)


def read_prompts(
    source: "PromptSource | PromptSettings | None" = None, *, seed: int = 0, **changes: Any
) -> LabelledPrompts:
    """Read labelled prompts from files or from memory, and split them.

    Parameters
    ----------
    source : path, DataFrame, mapping of columns, sequence of records, or PromptSettings, optional
        A JSONL, CSV or Parquet file, or the name of a prompt set that comes with tasklens; or the
        prompts themselves, as columns or as records. By default the prompt set tasks-in-words.
    seed : int
        Root seed, from which the held-out values derive.
    **changes
        Fields of `PromptSettings`, such as ``label="topic"``, which change those given.

    Raises
    ------
    InputError
        If a file cannot be read (with the line), or a column is missing. If a split has a single
        label, or a single prompt with some label. If a label is of two families, or a split lacks
        one. If a setting is unknown or out of range. If a value is missing or ambiguous:
        docs/how-to/own-prompts.md has the rule for all sources.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.read_prompts({"text": ["1 + 1", "2 + 2", "cat", "dog"], "label": [0, 0, 1, 1]})
    LabelledPrompts(4 prompts, 2 labels; splits: all: 4)
    >>> tl.read_prompts("tasks-in-words", hold_out=["instruction"])
    LabelledPrompts(2304 prompts, 16 labels; splits: kept: 1920, held_out_instruction: 384)
    """
    settings = source if isinstance(source, PromptSettings) else PromptSettings()
    if isinstance(source, str | Path):
        settings = settings.changed(files=(str(source),))
    (settings,) = with_keywords(changes, settings)
    parts: dict[str, list[Record]] = {}
    if source is None or isinstance(source, str | Path | PromptSettings):
        for name in settings.files:
            records = list(read_records(name))
            if not records:
                raise InputError(f"{name}: has no prompt")
            split = Path(name).stem
            if look(split) in map(look, parts):
                raise InputError(f"{name}: another file also has the name {split}; each is a split")
            parts[split] = records
    else:
        parts[ALL] = records_in_memory(source)
    first, *second = settings.group or ("",)
    named = {part: getattr(settings, part) for part in USUAL if part != "group"}
    columns = choose_columns(parts, named | {"group": first}, also=second)
    columns["family"] = family_column(columns, settings.family)
    groups = _groups(parts, columns, second)
    splits: str | None = None
    if len(parts) == 1 and not settings.hold_out:
        (records,) = parts.values()
        splits = column_of_splits(records, settings.split)
    needed = [*columns.values(), *groups.values(), *settings.hold_out, splits]
    header = {name for part in parts.values() for _, record in part for name in record}
    is_usual = settings.text == "text" and "text" not in header and MESSAGES in header
    text = MESSAGES if is_usual else settings.text
    prompts = name_columns(parts, text, filter(None, needed))
    label = columns["label"] or ""
    if len(prompts) == 1:
        (only,) = prompts.values()
        share = settings.hold_out_share
        prompts = (
            split_by(only, splits)
            if splits
            else hold_out(only, label, settings.hold_out, share, seed)
        )
    for split, part in prompts.items():
        check_labels(split, part, label, held_out=bool(settings.hold_out) and split != KEPT)
    columns["family"] = check_families(prompts, label, columns["family"])
    table = _table(prompts, text, columns, groups)
    if ANSWERS in table.columns:
        try:
            answers_by_label(table)
        except InputError as error:  # only interventions need it, and it may mean something else
            warn(f"{error}; the column is not used")
    return table


def _groups(
    parts: Mapping[str, Sequence[Record]], columns: dict[str, str | None], second: Sequence[str]
) -> dict[str, str]:
    """Take the group from the chosen columns; return the columns of the units by name."""
    group, word = columns.pop("group"), columns["input"]
    chosen = [name for name in (group, *second) if name is not None]
    if not chosen and word is not None:
        records = [record for part in parts.values() for _, record in part]
        if any(not is_missing(record.get(CONTEXT)) for record in records):
            chosen = [CONTEXT, word]
    return {INPUT if name == word else name: name for name in chosen}


def _table(
    parts: Mapping[str, list[Prompt]],
    text: str,
    named: Mapping[str, str | None],
    groups: Mapping[str, str],
) -> LabelledPrompts:
    prompts = [prompt for part in parts.values() for prompt in part]
    columns = dict.fromkeys(name for prompt in prompts for name in prompt.columns)
    names: dict[str, Any] = {
        part: None if column is None else tuple(prompt.names[column] for prompt in prompts)
        for part, column in named.items()
    }
    texts = [prompt.columns[text] for prompt in prompts]
    messages = None if isinstance(texts[0], str) else tuple(texts)
    return LabelledPrompts(
        source=tuple(prompt.source for prompt in prompts),
        text=tuple(texts if messages is None else map(transcript, messages)),
        **names,
        groups={
            name: tuple(prompt.names[column] for prompt in prompts)
            for name, column in groups.items()
        },
        columns={name: tuple(p.columns.get(name) for p in prompts) for name in columns},
        splits=_slices({split: len(part) for split, part in parts.items()}),
        messages=messages,
    )


def _slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Return the slice of each split in a table of all splits, from their sizes."""
    ends = [0, *accumulate(sizes.values())]
    return {split: slice(*pair) for split, pair in zip(sizes, pairwise(ends), strict=True)}


_PARTS = ("source", "text", *(part for part in USUAL if part != "group"))


def table_of(prompts: LabelledPrompts) -> pa.Table:
    """Return labelled prompts as a table of strings, which `read_table` reads.

    Its columns are `split`, `source`, `text`, `label`, `input`, `output`, `family`, `messages`,
    `groups` and `columns`. `input`, `output`, `family` and `messages` are null if absent. The last
    three are JSON: of the messages, of the units, and of all columns of the file.
    """
    split = [name for name, part in prompts.splits.items() for _ in range(part.stop - part.start)]
    parts = {part: getattr(prompts, part) or [None] * len(prompts) for part in _PARTS}
    objects = {
        "groups": _as_json(prompts.groups, len(prompts)),
        "columns": _as_json(prompts.columns, len(prompts)),
    }
    messages: list[str | None] = [None] * len(prompts)
    if prompts.messages is not None:
        messages = [json.dumps(each, ensure_ascii=False) for each in prompts.messages]
    columns = {"split": split, **parts, MESSAGES: messages, **objects}
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def _as_json(columns: Mapping[str, Sequence[Any]], n: int) -> list[str]:
    """Return each of n rows of columns as a JSON object."""
    rows = zip(*columns.values(), strict=True) if columns else [()] * n
    return [
        json.dumps(
            dict(zip(columns, row, strict=True)), ensure_ascii=False, allow_nan=False, default=str
        )
        for row in rows
    ]


def read_table(content: bytes) -> LabelledPrompts:
    """Return the labelled prompts of a table of `table_of`, given as a Parquet file's content."""
    columns = read_parquet(content).to_pydict()
    parts: dict[str, Any] = {
        part: None if None in columns[part] else tuple(columns[part]) for part in _PARTS
    }
    for part in ("groups", "columns"):
        records = [json.loads(text) for text in columns[part]]
        names = dict.fromkeys(name for record in records for name in record)
        parts[part] = {name: tuple(record[name] for record in records) for name in names}
    if None not in columns[MESSAGES]:
        parts[MESSAGES] = tuple(map(json.loads, columns[MESSAGES]))
    return LabelledPrompts(**parts, splits=_slices(Counter(columns["split"])))


def codes(values: Sequence[Any]) -> list[int]:
    """Return the rank of each value among the distinct values."""
    number = {value: i for i, value in enumerate(sorted(set(values)))}
    return [number[value] for value in values]
