"""Read, validate and split labelled prompts."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.parquet import read_parquet
from tasklens.core.progress import warn
from tasklens.core.seeds import stream
from tasklens.core.settings import SettingsBase, with_keywords
from tasklens.core.text import without_slash
from tasklens.data.cell_values import look
from tasklens.data.prompt_answers import ANSWERS, answers_by_label
from tasklens.data.prompt_columns import USUAL, Prompt, choose_columns, name_columns
from tasklens.data.prompt_families import check_families, family_column
from tasklens.data.prompt_readers import PromptSource, Record, read_records, records_in_memory

#: Name of the split of all prompts if none are held out, and of the other prompts if some are.
ALL, KEPT = "all", "kept"


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
    """Column of the text. The text may continue after the position that is measured."""
    label: str = ""
    """Column of the label that clusters are compared with; empty: label, or task."""
    input: str = ""
    """Column of the input, a part of the text; empty: input, if there is such a column."""
    output: str = ""
    """Column of the output, which should follow the input; empty: output or answer, if there is
    such a column. The model's accuracy is measured by the first token of the output."""
    group: str = ""
    """Column whose equal values make prompts depend on each other. Such prompts are drawn together
    when intervals are computed. Empty: instruction, if there is such a column."""
    family: str = ""
    """Column of the family: tasks are compared with those of the same family only, which are asked
    over the same inputs. Each family is clustered for itself, and a score is the mean over them.
    Empty: family, if there is such a column; none: all prompts are one family."""
    hold_out: tuple[str, ...] = ()
    """One column or two, whose values are held out for each label. Prompts with a value that is
    held out form the split held_out_COLUMN."""
    hold_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each label's values that is held out; at least one value."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hold_out and len(self.files) > 1:
            raise ValueError("hold_out needs a single file; several files are splits already")
        if len(set(self.hold_out)) != len(self.hold_out) or len(self.hold_out) > 2:
            raise ValueError(f"hold_out = {list(self.hold_out)}: should be one column, or two")
        if len(self.files) > 3:
            raise ValueError(f"{len(self.files)} files: should be at most 3; each file is a split")
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
    group: tuple[str, ...] | None
    columns: dict[str, tuple[Any, ...]]
    """All columns of the file."""
    splits: dict[str, slice]
    """Slice of the texts in each split."""
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
    def units(self) -> tuple[tuple[str, str], ...]:
        """Unit that each prompt is drawn with when intervals are computed: its group, or itself.

        Groups of different labels are different units: the same number may mean another phrasing.
        """
        group = self.group or tuple(map(str, range(len(self))))
        return tuple(zip(self.label, group, strict=True))


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
        docs/models.md has the rule for all sources.

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
    columns = choose_columns(parts, {part: getattr(settings, part) for part in USUAL})
    columns["family"] = family_column(columns, settings.family)
    needed = [name for name in (*columns.values(), *settings.hold_out) if name is not None]
    prompts = name_columns(parts, settings.text, needed)
    label = columns["label"] or ""
    if len(prompts) == 1:
        (only,) = prompts.values()
        prompts = _held_out(only, label, settings, seed)
    for split, part in prompts.items():
        _check_labels(split, part, label, held_out=bool(settings.hold_out) and split != KEPT)
    columns["family"] = check_families(prompts, label, columns["family"])
    table = _table(prompts, settings.text, columns)
    if ANSWERS in table.columns:
        try:
            answers_by_label(table)
        except InputError as error:  # only interventions need it, and it may mean something else
            warn(f"{error}; the column is not used")
    return table


def _held_out(
    prompts: list[Prompt], label: str, settings: PromptSettings, seed: int
) -> dict[str, list[Prompt]]:
    """Split prompts by the values held out; prompts held out by two columns are in no split.

    A value is held out for one label, not for all. This is as in the paper, in which an input that
    was not seen after one instruction is seen after others.
    """
    if not settings.hold_out:
        return {ALL: prompts}
    held: dict[str, set[tuple[str, str]]] = {}
    for column in settings.hold_out:
        # Per label, in the order of the file; each value with the first prompt that has it.
        values: dict[str, dict[str, str]] = {}
        for prompt in prompts:
            of_label = values.setdefault(prompt.names[label], {})
            of_label.setdefault(prompt.names[column], prompt.source)
        held[column] = set()
        for name, distinct in values.items():
            size = len(distinct)
            if size < 2:
                (source,) = distinct.values()
                raise InputError(
                    f"{source}: label {short(name)} has a single value of {short(column)}, which "
                    "cannot be held out; hold out another column"
                )
            n = min(size - 1, max(1, round(settings.hold_out_share * size)))
            drawn = stream(seed, "hold out", column, name).choice(size, n, replace=False)
            held[column] |= {(name, list(distinct)[i]) for i in drawn}
    parts: dict[str, list[Prompt]] = {KEPT: []}
    splits = {column: f"held_out_{without_slash(column)}" for column in settings.hold_out}
    parts |= {split: [] for split in splits.values()}
    for prompt in prompts:
        name = prompt.names[label]
        out = [column for column in held if (name, prompt.names[column]) in held[column]]
        if len(out) < 2:
            parts[splits[out[0]] if out else KEPT].append(prompt)
    return parts


def _check_labels(split: str, prompts: list[Prompt], label: str, *, held_out: bool) -> None:
    needed = "should be two or more" + ("; raise prompts.hold_out_share" if held_out else "")
    sources: dict[str, list[str]] = {}
    for prompt in prompts:
        sources.setdefault(prompt.names[label], []).append(prompt.source)
    if len(sources) < 2:
        first, value = (prompts[0].source, next(iter(sources))) if prompts else (split, "")
        raise InputError(
            f"{first}: {short(label)} has the single value {short(value)} in split {split}: "
            f"{needed}"
        )
    for value, of_value in sources.items():
        if len(of_value) == 1:
            raise InputError(
                f"{of_value[0]}: {short(label)} = {short(value)} has a single prompt in split "
                f"{split}: {needed}"
            )


def _table(
    parts: Mapping[str, list[Prompt]], text: str, named: Mapping[str, str | None]
) -> LabelledPrompts:
    prompts = [prompt for part in parts.values() for prompt in part]
    columns = dict.fromkeys(name for prompt in prompts for name in prompt.columns)
    names: dict[str, Any] = {
        part: None if column is None else tuple(prompt.names[column] for prompt in prompts)
        for part, column in named.items()
    }
    return LabelledPrompts(
        source=tuple(prompt.source for prompt in prompts),
        text=tuple(prompt.columns[text] for prompt in prompts),
        **names,
        columns={name: tuple(p.columns.get(name) for p in prompts) for name in columns},
        splits=_slices({split: len(part) for split, part in parts.items()}),
    )


def _slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Return the slice of each split in a table of all splits, from their sizes."""
    ends = [0, *accumulate(sizes.values())]
    return {split: slice(*pair) for split, pair in zip(sizes, pairwise(ends), strict=True)}


_PARTS = ("source", "text", *USUAL)


def table_of(prompts: LabelledPrompts) -> pa.Table:
    """Return labelled prompts as a table of strings, which `read_table` reads.

    Its columns are `split`, `source`, `text`, `label`, `input`, `output`, `group`, `family` and
    `columns`. The parts from `input` to `family` are null if absent; `columns` is JSON of all
    columns of the file.
    """
    split = [name for name, part in prompts.splits.items() for _ in range(part.stop - part.start)]
    parts = {part: getattr(prompts, part) or [None] * len(prompts) for part in _PARTS}
    rows = zip(*prompts.columns.values(), strict=True)
    records = [
        json.dumps(
            dict(zip(prompts.columns, row, strict=True)),
            ensure_ascii=False,
            allow_nan=False,
            default=str,
        )
        for row in rows
    ]
    columns = {"split": split, **parts, "columns": records}
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def read_table(content: bytes) -> LabelledPrompts:
    """Return the labelled prompts of a table of `table_of`, given as a Parquet file's content."""
    columns = read_parquet(content).to_pydict()
    parts: dict[str, Any] = {
        part: None if None in columns[part] else tuple(columns[part]) for part in _PARTS
    }
    records = [json.loads(text) for text in columns["columns"]]
    names = dict.fromkeys(name for record in records for name in record)
    parts["columns"] = {name: tuple(record[name] for record in records) for name in names}
    return LabelledPrompts(**parts, splits=_slices(Counter(columns["split"])))


def codes(values: Sequence[Any]) -> list[int]:
    """Return the rank of each value among the distinct values."""
    number = {value: i for i, value in enumerate(sorted(set(values)))}
    return [number[value] for value in values]
