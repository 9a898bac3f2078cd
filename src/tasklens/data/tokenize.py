"""Tokenize labelled prompts and find the measured tokens of each. The module imports no torch.

The tokenizers are those of Hugging Face. Only the methods called in this file are relied on.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self
from urllib.parse import quote

import numpy as np
from pydantic import Field, model_validator

from tasklens.core.errors import InputError
from tasklens.core.settings import SettingsBase
from tasklens.core.text import visible
from tasklens.data.answer_sites import AnswerSite, answer_site
from tasklens.data.answer_tokens import Ints, Part, answer_tokens, is_one_word
from tasklens.data.candidates import candidate_tokens
from tasklens.data.chats import rendered
from tasklens.data.instances import Instances
from tasklens.data.labelled_prompts import LabelledPrompts, codes
from tasklens.data.measured_parts import default_position, measured_parts, parse_position
from tasklens.data.names import check_distinct
from tasklens.data.special_tokens import SpecialTokens, TokenRows, read_texts
from tasklens.data.token_prompts import Prompts
from tasklens.data.token_rows import Tokenizer

#: Number of examples that are printed, so that a user sees which tokens are measured.
SHOWN = 3
#: Bytes of the name of a position, which is that of a directory unless the position is the first.
LONGEST_NAME = 200


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
    otherwise. Empty: the column separator if it has pairs of numbers, as in prompt sets; otherwise
    the input, if there is such a column and prompts are texts; otherwise last. last: the last token
    of the text. A column: the part of the text that equals its value, except for spaces. In JSONL
    and Parquet, the values may also be indices of tokens, or pairs of numbers (the first character
    and the end). A number: the token with this index in every text, counted from the end if it is
    negative. A:B: characters A to B. Any other text: the part that equals it. If the part occurs
    more than once, the last occurrence is used. Of a part with several tokens the last one is
    measured; with _mean after its name, as in instruction_mean, the mean over all. With _last, as
    in instruction_last, it is the last one, too. A column that has the whole name comes first."""
    max_length: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Most tokens of a prompt, counted up to the measured one; 0: as many as the model reads."""
    generation_prompt: bool = True
    """Of prompts that are messages: whether the chat template also writes how the assistant's
    answer begins. The position header is the last token of that."""
    answers: Literal["first", "whole"] = "first"
    """How the answers to a prompt under different labels are compared. first: by their first
    tokens, which costs nothing. whole: also by the probability of all their tokens; the prompts are
    then read once more with each answer of several tokens. See `tasklens.read_scores`."""
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
    """Token rows up to the measured token, or to the one after which the answer follows."""
    begin: Ints
    """Index of the first token of the measured part, (N,)."""
    target: Ints
    """Tokens that are right as the answer, (N, 2), see `answer_tokens`; -1: not known."""
    candidates: Ints | None = None
    """The answers to each prompt as tokens, (N, K, L), see `candidate_tokens`."""
    rendered: LabelledPrompts | None = None
    """The prompts with their texts, if a chat template has written these."""
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
    candidates: bool = False,
    generation_prompt: bool = True,
) -> Tokenized:
    """Turn labelled prompts into token rows up to a position, or to the end of what is asked.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        The special tokens that it adds are measured only if the position is a number.
    position : str
        One of the positions of `ModelStateSettings`; empty: the default.
    candidates : bool
        Whether the answers to each prompt under other labels are wanted, too.
    generation_prompt : bool
        How messages are written as a text: see `ModelStateSettings`.

    Raises
    ------
    InputError
        If a text does not have the position, or a prompt is too long. If the tokenizer gives no
        character offsets, and the position needs them.
    """
    table = rendered(table, tokenizer, generation_prompt=generation_prompt)
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
    target = np.full((len(table), 2), -1)
    sites: list[AnswerSite | None] = [None] * len(table)
    followed: list[Part] = []
    answer_notes: tuple[str, ...] = ()
    if table.output is not None and fast:
        eos: str = getattr(tokenizer, "eos_token", None) or ""
        sites, followed = _sites(table, parts, at, rows, eos)
    elif table.output is not None:
        answer_notes = (
            f"{type(tokenizer).__name__} is not a fast tokenizer: it gives no character offsets to "
            "find the first token of an output with; no accuracy is measured",
        )
    answer_at = np.array(
        [m if site is None else site.read for site, m in zip(sites, end, strict=True)]
    )
    if table.output is not None and fast:
        target, answer_notes = answer_tokens(table, tokenizer, followed, rows, answer_at)
    last = np.maximum(end, answer_at)  # (N,)
    longest = max_length or np.inf
    for source, each in zip(table.source, last, strict=True):
        if each >= longest:
            raise InputError(
                f"{source}: {each + 1} tokens up to the last that is read, but the model reads "
                f"{longest}; shorten the text"
            )
    ids = np.zeros((len(table), int(last.max()) + 1), dtype=np.int64)
    for i, row in enumerate(rows.ids):
        ids[i, : last[i] + 1] = row[: last[i] + 1]
    name = position or default_position(table)
    prompts = Prompts(ids, end, begin if is_mean else None, position_name=name, answer_at=answer_at)
    tokens = candidate_tokens(table, sites, tokenizer) if candidates and fast else None
    if tokens is not None:
        prompts = replace(prompts, asked=tokens[:, :, 0])
    written = table if table.is_rendered else None
    return Tokenized(
        prompts, begin, target, tokens, written, rows.summary, rows.notes, answer_notes
    )


def _sites(
    table: LabelledPrompts, parts: list[Part], at: str, rows: TokenRows, eos: str
) -> tuple[list[AnswerSite | None], list[Part]]:
    """Return where the answer to each prompt is read, and the part of the text that it follows.

    An answer follows the measured part if the output does, or if nothing does. Otherwise it follows
    what stands before the output, or the whole text.
    """
    assert table.output is not None
    sites: list[AnswerSite | None] = []
    followed: list[Part] = []
    for i, (text, part) in enumerate(zip(table.text, parts, strict=True)):
        output = (table.output[i] or "").strip()
        own = (
            part
            if isinstance(part, tuple) and _ends_question(text, part, output, at, eos)
            else None
        )
        site = answer_site(table, i, output, rows, eos, own) if output else None
        sites.append(site)
        if site is None:
            followed.append(-1)  # no part of the text
        elif site.is_cut:
            followed.append((0, len(site.stem.rstrip())))
        else:
            followed.append(site.part or "last")
    return sites, followed


def _ends_question(text: str, part: tuple[int, int], output: str, at: str, eos: str) -> bool:
    """Return whether the answer follows a measured part of the text."""
    rest = text[part[1] :]
    if rest.strip():
        begin = text.find(output, part[1])
        return rest.strip().startswith(output) and not is_one_word(
            output, text[begin + len(output) :]
        )
    # The measured part may be the end of the output itself.
    return at == "" or not text.rstrip().removesuffix(eos).rstrip().endswith(output)


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
        family=None if table.family is None else np.array(codes(table.family))[rows],
        family_names=tuple(sorted(set(table.family or ()))),
    )


def shown(table: LabelledPrompts, tokenized: Tokenized, tokenizer: Tokenizer) -> str:
    """Return a few prompts as they are read, with the measured tokens in brackets."""
    lines = []
    prompts = tokenized.prompts
    first = prompts.position if prompts.begin is None else prompts.begin
    for i in np.linspace(0, len(table) - 1, min(SHOWN, len(table))).astype(int):
        names = tokenizer.convert_ids_to_tokens(prompts.ids[i, : prompts.last[i] + 1].tolist())
        tokens = [
            f"[[{name}]]" if first[i] <= j <= prompts.position[i] else f"{name}"
            for j, name in enumerate(names)
        ]
        right = [token for token in tokenized.target[i].tolist() if token >= 0]
        answer = f"  -> {' or '.join(tokenizer.convert_ids_to_tokens(right))}" if right else ""
        lines.append(visible(f"  {table.label[i]}: {' '.join(tokens)}{answer}"))
    return "\n".join(lines) + "\n"


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
