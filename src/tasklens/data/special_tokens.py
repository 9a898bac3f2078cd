"""Read texts with a tokenizer, without a special token that the text has already.

The tokenizers are those of Hugging Face. Only the methods called in this file are relied on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.data.token_rows import Rows, Spans, Tokenizer, read_bare, read_full, unknown_words

SpecialTokens: TypeAlias = Literal["auto", "add", "none"]

#: Spellings of the token that begins a text, in families of models.
BEGINNINGS = (
    *("<s>", "<bos>", "[BOS]", "[CLS]", "<BOS_TOKEN>"),
    *("<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>"),
)
#: Spellings that are special tokens in most families of chat models.
_MARKER = re.compile(r"<\|[^\s<>|]+\|>|<｜[^\s<>｜]+｜>")


@dataclass(frozen=True)
class TokenRows:
    """The tokens of N texts, row by row."""

    ids: Rows
    special: list[list[bool]]
    """Whether the tokenizer added the token, instead of reading it in the text."""
    offsets: Spans
    """First character and end of each token; empty rows if the tokenizer does not give them."""
    summary: str
    """The special tokens that were added, for users."""
    notes: tuple[str, ...]
    """What is odd about the special tokens, as sentences for a warning."""


def read_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    special_tokens: SpecialTokens,
    sources: Sequence[str] = (),
) -> TokenRows:
    """Read texts as rows of tokens.

    Parameters
    ----------
    sources : sequence of str, optional
        File and line of each text, for messages.
    special_tokens : {"auto", "add", "none"}
        none adds no special tokens, add those that the tokenizer adds. auto adds them, too, except
        at an end of a text that has such a token there.

    Raises
    ------
    InputError
        If the tokenizer reads a text as other tokens if it adds special ones, or cannot read it.
    """
    rows, spans = read_bare(tokenizer, texts, sources)
    full = read_full(tokenizer, texts, sources)
    pairs = [_around(*both) for both in zip(rows, full, strict=True)]
    if None in pairs and special_tokens != "none":
        raise InputError(
            f"{type(tokenizer).__name__} reads {short(texts[pairs.index(None)])} as other tokens "
            "if it adds special ones; set states.special_tokens=none"
        )
    vocabulary = tokenizer.get_vocab()
    summary, notes, added = [], _unknown_markers(vocabulary, texts), []
    notes += unknown_words(tokenizer, texts, rows, spans, sources)
    for begins in (True, False):
        offered = [(pair or ([], []))[0 if begins else 1] for pair in pairs]
        own = _own_tokens(tokenizer, vocabulary, texts, rows, offered, begins)
        chosen: Rows = [
            [] if special_tokens == "none" or (special_tokens == "auto" and each) else ids
            for each, ids in zip(own, offered, strict=True)
        ]
        names = _names(tokenizer, offered)
        n = sum(map(bool, chosen))
        if n:
            side = "before" if begins else "after"
            summary.append(f"{names} {side} {n:,} of {len(texts):,} prompts")
        notes += _doubled(own, names, special_tokens, begins)
        added.append(chosen)
    parts = list(zip(*added, rows, spans, strict=True))
    return TokenRows(
        ids=[[*a, *row, *b] for a, b, row, _ in parts],
        special=[[True] * len(a) + [False] * len(row) + [True] * len(b) for a, b, row, _ in parts],
        offsets=[
            [*[(0, 0)] * len(a), *span, *[(0, 0)] * len(b)] if span else []
            for a, b, _, span in parts
        ],
        summary=f"{', '.join(summary) or 'none'} ({special_tokens})",
        notes=tuple(notes),
    )


def _around(row: list[int], full: list[int]) -> tuple[list[int], list[int]] | None:
    """Return what a full row has before and after a row; None if it does not contain the row."""
    n = len(row)
    for begin in range(len(full) - n + 1):
        if full[begin : begin + n] == row:
            return full[:begin], full[begin + n :]
    return None


def _own_tokens(
    tokenizer: Tokenizer,
    vocabulary: Mapping[str, int],
    texts: Sequence[str],
    rows: Rows,
    offered: Rows,
    begins: bool,
) -> list[str]:
    """Return the special token that each text has at an end, "" without one.

    It is one of those that the tokenizer offers there, or another that marks this end of a text.
    Spaces around it do not count. A text that is offered none has none.
    """
    kinds = {token for ids in offered for token in ids}
    if not kinds:
        return [""] * len(texts)
    for attribute in (
        ("bos_token_id", "cls_token_id") if begins else ("eos_token_id", "sep_token_id")
    ):
        token = getattr(tokenizer, attribute, None)
        kinds |= set() if token is None else {token}
    if begins:
        kinds |= {vocabulary[spelling] for spelling in BEGINNINGS if spelling in vocabulary}
    tokens = sorted(kinds)
    names = [*map(str, tokenizer.convert_ids_to_tokens(tokens))]  # some are bytes

    def own(text: str, row: list[int]) -> str:
        has = text.lstrip().startswith if begins else text.rstrip().endswith
        # A spelling whose token is not in the row is read as plain characters.
        pairs = zip(names, tokens, strict=True)
        return next((name for name, token in pairs if has(name) and token in row), "")

    triples = zip(texts, rows, offered, strict=True)
    return [own(text, row) if ids else "" for text, row, ids in triples]


def _names(tokenizer: Tokenizer, rows: Rows) -> str:
    """Return the tokens of the rows, each kind of row once."""
    kinds = sorted({tuple(row) for row in rows if row})
    return " or ".join(
        " ".join(map(str, tokenizer.convert_ids_to_tokens(list(kind)))) for kind in kinds
    )


def _doubled(own: list[str], names: str, special_tokens: str, begins: bool) -> list[str]:
    """Return a sentence on texts that have special tokens of their own, if there are some."""
    n, n_own = len(own), sum(map(bool, own))
    have, side = ("begin with", "before") if begins else ("end with", "after")
    kinds = " or ".join(sorted({each for each in own if each}))
    has = f"{n_own:,} of {n:,} prompts {have} {kinds}"
    setting = f"(states.special_tokens={special_tokens})"
    if n_own and special_tokens == "auto":
        return [f"{has}, so that the tokenizer's {names} is not added {side} these {setting}"]
    if n_own and special_tokens == "add":
        return [f"{has}, and the tokenizer's {names} is added {side} it once more {setting}"]
    if 0 < n_own < n and special_tokens == "none":
        return [f"{has}, and {n - n_own:,} have no {names} {setting}"]
    return []


def _unknown_markers(vocabulary: Mapping[str, int], texts: Sequence[str]) -> list[str]:
    """Return a sentence on texts with special tokens of another family of models, if any."""
    unknown: dict[str, int] = {}
    for text in texts:
        markers = [b for b in BEGINNINGS if text.startswith(b)] + _MARKER.findall(text)
        for marker in dict.fromkeys(markers):
            if marker not in vocabulary:
                unknown[marker] = unknown.get(marker, 0) + 1
    if not unknown:
        return []
    marker = max(unknown, key=lambda each: unknown[each])
    return [
        f"{unknown[marker]:,} of {len(texts):,} prompts have {marker}, which the tokenizer reads "
        "as plain characters; are they for another model?"
    ]
