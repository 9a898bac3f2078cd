"""Tokenize labelled prompts and find the measured tokens of each. The module imports no torch.

The tokenizers are those of Hugging Face. Only the methods called in this file are relied on.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self
from urllib.parse import quote

import numpy as np
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.settings import SettingsBase
from tasklens.core.text import visible
from tasklens.data.answer_tokens import Ints, Part, answer_tokens
from tasklens.data.instances import Instances
from tasklens.data.labelled_prompts import LabelledPrompts, codes
from tasklens.data.names import check_distinct, listed
from tasklens.data.prompt_columns import check_position
from tasklens.data.special_tokens import SpecialTokens, read_texts
from tasklens.data.token_prompts import Prompts
from tasklens.data.token_rows import Tokenizer

#: Number of examples that are printed, so that a user sees which tokens are measured.
SHOWN = 3
#: Bytes of the name of a position, which is that of a directory unless the position is the first.
LONGEST_NAME = 200


#: An index, which has fewer digits than Python reads.
_INDEX = r"\d{1,18}"
#: Column of the end of the question, after which the answer follows: measured by default.
SEPARATOR = "separator"
#: What a position may be, for messages.
RIGHT = "last, a column, a text, the index of a token, or characters A:B"


class ModelStateSettings(SettingsBase, affects="states"):
    """The measured positions of each text, and how a text is read up to them.

    Examples
    --------
    >>> import tasklens as tl
    >>> tl.ModelStateSettings(positions=("input", "instruction_mean")).positions
    ('input', 'instruction_mean')
    """

    positions: tuple[str, ...] = ()
    """Measured parts of each text; figures, findings and the report show the first unless asked
    otherwise. Empty: the column separator if it has pairs of numbers, as in prompt sets; without
    one, the input if there is such a column, otherwise last. last: the last token of
    the text. A column: the part of the text that equals its value, except for spaces. In JSONL and
    Parquet, the values may also be indices of tokens, or pairs of numbers (the first character and
    the end). A number: the token with this index in every text, counted from the end if it is
    negative. A:B: characters A to B. Any other text: the part that equals it. If the part occurs
    more than once, the last occurrence is used. Of a part with several tokens the last one is
    measured; with _mean after its name, as in instruction_mean, the mean over all. With _last, as
    in instruction_last, it is the last one, too. A column that has the whole name comes first."""
    max_length: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Most tokens of a prompt, counted up to the measured one; 0: as many as the model reads."""
    special_tokens: SpecialTokens = "auto"
    """The special tokens that the tokenizer adds, such as one that begins each text. auto: they are
    added, but not at an end of a text that has such a token there, as chat templates write it. add:
    they are always added, even twice. none: only those that stand in the text are read."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_distinct(self.positions)
        if "" in self.positions:
            raise ValueError(f"positions: '' is not a position: should be {RIGHT}")
        for position in self.positions[1:]:
            if len(quote(position, safe="")) > LONGEST_NAME:
                raise ValueError(
                    f"positions: {position[:20]!r}... is too long for the name of a directory; "
                    "give it as the first, or name a column or characters"
                )
        return self


@dataclass(frozen=True)
class Tokenized:
    """N labelled prompts as a model reads them."""

    prompts: Prompts
    """Token rows up to the measured token."""
    begin: Ints
    """Index of the first token of the measured part, (N,)."""
    target: Ints
    """Tokens that are right after the measured part, (N, 2), see `answer_tokens`; -1: not known."""
    special_tokens: str = ""
    """The special tokens that were added, for users."""
    notes: tuple[str, ...] = ()
    """What is odd about the special tokens, as sentences for a warning."""
    answer_notes: tuple[str, ...] = ()
    """What is odd about the right answers, as sentences for a warning."""


def tokenize(
    table: LabelledPrompts,
    tokenizer: Tokenizer,
    position: str = "",
    *,
    special_tokens: SpecialTokens = "auto",
    max_length: int = 0,
) -> Tokenized:
    """Turn labelled prompts into token rows up to a position.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        The special tokens that it adds are measured only if the position is a number.
    position : str
        One of the positions of `ModelStateSettings`; empty: the default.

    Raises
    ------
    InputError
        If a text does not have the position, or a prompt is too long. If the tokenizer gives no
        character offsets, and the position needs them.
    """
    at, is_mean = parse_position(table, position)
    parts = measured_parts(table, position)
    fast = bool(getattr(tokenizer, "is_fast", False))
    if not fast and any(isinstance(part, tuple) for part in parts):
        raise InputError(
            f"{type(tokenizer).__name__} is not a fast tokenizer: it gives no character offsets to "
            "find the measured part with; give --position last, or the index of a token"
        )
    rows = read_texts(tokenizer, table.text, special_tokens, table.source)
    spans = zip(table.source, parts, rows.special, rows.offsets, strict=True)
    begin, end = np.array([_tokens(*each) for each in spans], dtype=np.int64).T.copy()  # (N,)
    longest = max_length or np.inf
    for source, last in zip(table.source, end, strict=True):
        if last >= longest:
            raise InputError(
                f"{source}: {last + 1} tokens up to the measured one, but the model reads "
                f"{longest}; shorten the text"
            )
    ids = np.zeros((len(table), int(end.max()) + 1), dtype=np.int64)
    for i, row in enumerate(rows.ids):
        ids[i, : end[i] + 1] = row[: end[i] + 1]
    name = position or default_position(table)
    prompts = Prompts(ids, end, begin if is_mean else None, position_name=name)
    target = np.full((len(table), 2), -1)
    answer_notes: tuple[str, ...] = ()
    if fast:
        target, answer_notes = answer_tokens(table, tokenizer, parts, rows, end, at)
    elif table.output is not None:
        answer_notes = (
            f"{type(tokenizer).__name__} is not a fast tokenizer: it gives no character offsets to "
            "find the first token of an output with; no accuracy is measured",
        )
    return Tokenized(prompts, begin, target, rows.summary, rows.notes, answer_notes)


def default_position(table: LabelledPrompts) -> str:
    """Return the name of the position that is measured if none is named."""
    pairs = table.columns.get(SEPARATOR, ())
    if pairs and all(isinstance(pair, list | tuple) for pair in pairs):
        return SEPARATOR
    return "input" if table.input is not None else "last"


def parse_position(table: LabelledPrompts, position: str) -> tuple[str, bool]:
    """Return the measured part that a position names, and whether the mean over it is measured.

    The part of "input" if this is the input, and of a default position without a column, is empty.
    """
    part, is_mean = position, False
    if not position and default_position(table) == SEPARATOR:
        part = SEPARATOR
    suffixed = re.fullmatch(r"(.+)_(last|mean)", position, re.DOTALL)
    if suffixed and position not in table.columns:
        part, is_mean = suffixed[1], suffixed[2] == "mean"
    if part == "input" and table.input is not None:
        values = table.columns.get("input", table.input)
        # A number, too, is a part of the text, as if no name was given.
        if all(str(value) == name for value, name in zip(values, table.input, strict=True)):
            part = ""
    return part, is_mean


def measured_parts(table: LabelledPrompts, position: str) -> list[Part]:
    """Return the measured part of each text; InputError if a text does not have it."""
    at, _ = parse_position(table, position)
    check_position(at, table.source, table.columns)
    return [_part(table, i, at) for i in range(len(table))]


def instances_of_prompts(table: LabelledPrompts, tokenized: Tokenized, split: str) -> Instances:
    """Return what is known of a split's prompts without any model.

    The input is the value of the input column, or the measured token if there is no such column.
    The symbols are the tokens before the measured part, and their number is the length.
    """
    rows = table.splits[split]
    begin, position = tokenized.begin[rows], tokenized.prompts.position[rows]
    ids = tokenized.prompts.ids[rows]
    row, column = np.nonzero(np.arange(ids.shape[1]) < begin[:, None])  # of (N, T)
    kinds, symbol = np.unique(ids[row, column], return_inverse=True)
    counts = np.zeros((len(ids), max(1, len(kinds))), dtype=np.int64)
    np.add.at(counts, (row, symbol), 1)
    measured = ids[np.arange(len(ids)), position]
    return Instances(
        split=split,
        task=np.array(codes(table.label))[rows],
        input=measured if table.input is None else np.array(codes(table.input))[rows],
        output=None if table.output is None else np.array(codes(table.output))[rows],
        length=begin,
        symbol_counts=counts,
        unit=table.unit_numbers[rows],
    )


def shown(table: LabelledPrompts, tokenized: Tokenized, tokenizer: Tokenizer) -> str:
    """Return a few prompts of the table token by token, with the measured tokens in brackets."""
    lines = []
    prompts = tokenized.prompts
    first = prompts.position if prompts.begin is None else prompts.begin
    for i in np.linspace(0, len(table) - 1, min(SHOWN, len(table))).astype(int):
        names = tokenizer.convert_ids_to_tokens(prompts.ids[i, : prompts.position[i] + 1].tolist())
        tokens = [f"[[{name}]]" if j >= first[i] else f"{name}" for j, name in enumerate(names)]
        right = [token for token in tokenized.target[i].tolist() if token >= 0]
        answer = f"  -> {' or '.join(tokenizer.convert_ids_to_tokens(right))}" if right else ""
        lines.append(visible(f"  {table.label[i]}: {' '.join(tokens)}{answer}"))
    return "\n".join(lines) + "\n"


def _part(table: LabelledPrompts, i: int, at: str) -> Part:
    """Return the measured part: "last", the index of a token, or a span of characters."""
    text, source = table.text[i], table.source[i]
    value: Any = at
    if not at and table.input is not None:
        value = table.input[i]
    elif at in ("", "last"):
        return "last"
    elif at in table.columns:
        value = table.columns[at][i]
    elif re.fullmatch(rf"[+-]?{_INDEX}", at):
        return int(at)
    elif match := re.fullmatch(rf"({_INDEX}):({_INDEX})", at):
        value = [int(match[1]), int(match[2])]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if is_pair and all(isinstance(number, int) for number in value):
        begin, end = value
        if not 0 <= begin < end <= len(text):
            raise InputError(
                f"{source}: characters {begin} to {end} are not in the text, which has {len(text)}"
            )
        return int(begin), int(end)
    if value in (None, ""):
        raise InputError(
            f"{source}: the column {short(at)} has no value, so that the prompt has no such "
            "position: fill it in, or measure another with --position, such as last"
        )
    if not isinstance(value, str):
        raise InputError(
            f"{source}: {short(at)} = {short(value)} is not a position: should be a text, a whole "
            "number (the index of a token), or two (the first character and the end)"
        )
    span = find_part(value, text, table.output[i] if table.output is not None else "")
    if not span:
        hint = ""
        if at not in ("", *table.columns):
            hint = f" and is not one of the columns {listed(table.columns)}"
            hint += "; for the last token give --position last" if at == "input" else ""
        raise InputError(f"{source}: {short(value)} is not in the text {short(text)}{hint}")
    return span


def find_part(value: str, text: str, output: str) -> tuple[int, int] | None:
    """Return the span of the last occurrence of a value in a text, or None.

    Whole words are preferred to parts of words. The output at the end of the text comes last. If
    the text does not have the value, spaces between its characters are ignored: the texts of
    tasklens' own data have a space after each symbol of an instruction.
    """
    end = len(text.rstrip())
    answered = output and text[:end].endswith(output)
    before = end - len(output) if answered else len(text)
    plain = re.escape(value)
    word = rf"(?<!\w){plain}(?!\w)"
    for stop, pattern in ((before, word), (before, plain), (len(text), word), (len(text), plain)):
        spans = [match.span() for match in re.finditer(pattern, text) if match.start() < stop]
        if spans:
            return spans[-1]
    spaced = r"\s*".join(map(re.escape, "".join(value.split())))
    spans = [match.span() for match in re.finditer(rf"(?<!\w){spaced}(?!\w)", text)]
    return spans[-1] if spans else None


def _tokens(
    source: str, part: Part, special: list[bool], offsets: list[tuple[int, int]]
) -> tuple[int, int]:
    """Return the first and the last token of the part."""
    if isinstance(part, int):
        index = part + len(special) if part < 0 else part
        if not 0 <= index < len(special):
            raise InputError(f"{source}: has no token {part}: it has {len(special)} tokens")
        return index, index
    tokens = [j for j, is_special in enumerate(special) if not is_special]
    if isinstance(part, tuple):
        begin, end = part
        tokens = [j for j in tokens if max(begin, offsets[j][0]) < min(end, offsets[j][1])]
    else:
        tokens = tokens[-1:]
    if not tokens:
        raise InputError(f"{source}: the measured part has no token of its own")
    return tokens[0], tokens[-1]
