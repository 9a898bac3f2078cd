"""Split labelled prompts: by a column, or by the values that are held out."""

from collections.abc import Sequence

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.progress import warn
from tasklens.core.seeds import stream
from tasklens.core.text import without_slash
from tasklens.data.cell_values import is_missing
from tasklens.data.prompt_columns import Prompt
from tasklens.data.prompt_readers import Record

#: Name of the split of all prompts if none are held out, and of the other prompts if some are.
ALL, KEPT = "all", "kept"
#: Most splits that files, or a column of them, may have.
MOST_SPLITS = 3


def column_of_splits(records: Sequence[Record], named: str = "") -> str | None:
    """Return the column of the splits, or None; InputError if a named one has too many values."""
    name = named or "split"
    values = [value for _, record in records if not is_missing(value := record.get(name))]
    distinct = list(dict.fromkeys(map(str, values)))
    if len(distinct) <= MOST_SPLITS:
        return name if values or named else None
    line = (
        f"the column {short(name)} has {len(distinct):,} values: at most {MOST_SPLITS} are splits"
    )
    if named:
        raise InputError(line)
    warn(f"{line}; it is not used")
    return None


def split_by(prompts: list[Prompt], column: str) -> dict[str, list[Prompt]]:
    """Split prompts by the values of a column, those that are kept first."""
    names = dict.fromkeys(prompt.names[column] for prompt in prompts)
    parts: dict[str, list[Prompt]] = {
        without_slash(name): [] for name in sorted(names, key=lambda name: name != KEPT)
    }
    for prompt in prompts:
        parts[without_slash(prompt.names[column])].append(prompt)
    return parts


def hold_out(
    prompts: list[Prompt], label: str, columns: Sequence[str], share: float, seed: int
) -> dict[str, list[Prompt]]:
    """Split prompts by values of columns; prompts held out by two columns are in no split.

    A value is held out for one label, not for all. This is as in the paper, in which an input that
    was not seen after one instruction is seen after others.
    """
    if not columns:
        return {ALL: prompts}
    held: dict[str, set[tuple[str, str]]] = {}
    for column in columns:
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
            n = min(size - 1, max(1, round(share * size)))
            drawn = stream(seed, "hold out", column, name).choice(size, n, replace=False)
            held[column] |= {(name, list(distinct)[i]) for i in drawn}
    parts: dict[str, list[Prompt]] = {KEPT: []}
    splits = {column: f"held_out_{without_slash(column)}" for column in columns}
    parts |= {split: [] for split in splits.values()}
    for prompt in prompts:
        name = prompt.names[label]
        out = [column for column in held if (name, prompt.names[column]) in held[column]]
        if len(out) < 2:
            parts[splits[out[0]] if out else KEPT].append(prompt)
    return parts


def check_labels(split: str, prompts: list[Prompt], label: str, *, held_out: bool) -> None:
    """Raise InputError if a split has a single label, or a single prompt with some label."""
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
