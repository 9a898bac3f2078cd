"""Find the token of each labelled prompt after which its answer follows, and tokenize answers.

An answer that stands in the text is replaced by others. Otherwise they are put behind the text, by
the rule of `tasklens.data.answer_tokens`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tasklens.data.answer_tokens import NEW_LINE, SPACES, headers_of, is_one_word, spaces
from tasklens.data.labelled_prompts import LabelledPrompts
from tasklens.data.measured_parts import find_part
from tasklens.data.special_tokens import TokenRows
from tasklens.data.token_rows import Tokenizer, read_bare

Tokens = tuple[int, ...]


class AnswerSite(NamedTuple):
    """The end of what a model reads of a prompt before it answers."""

    stem: str
    """The text before the answer."""
    is_cut: bool
    """True if the answer stands in the text, which is cut before it: no space is put between."""
    ends_open: bool
    """True if a space at the end is read, with which a tokenizer may join the answer."""
    read: int
    """Index of the last token that is read."""
    tokens: Tokens
    """What is read, without special tokens that the tokenizer adds."""
    part: tuple[int, int] | None = None
    """The part that the answer follows, if it is the last of the text."""


def answer_site(
    table: LabelledPrompts,
    i: int,
    output: str,
    rows: TokenRows,
    eos: str,
    part: tuple[int, int] | None = None,
) -> AnswerSite | None:
    """Return the site of a prompt's answer; None if a token has parts of both.

    ``rows`` are all tokens of the texts, and ``eos`` is the token that may end a text. The answer
    may follow a part of the text, which is that of the input unless it is given.
    """
    text, n_before, n = table.text[i], rows.special[i].index(False), rows.special[i].count(False)
    ids, offsets = rows.ids[i][n_before:][:n], rows.offsets[i][n_before:][:n]
    if part is None and table.input is not None:
        part = find_part(table.input[i], text, output)
    begin = _begin(text, output, part[1] if part else 0, eos)
    if begin is not None:
        stem, n = text[:begin], next((j for j, span in enumerate(offsets) if span[1] > begin), 0)
        if n == 0 or offsets[n][0] < len(stem.rstrip()):
            return None
        return AnswerSite(stem, True, False, n_before + n - 1, tuple(ids[:n]))
    if part and not text[part[1] :].strip():
        # The answer follows the input itself, as for the accuracy, whatever spaces end the text.
        inside = [
            j for j, span in enumerate(offsets) if max(part[0], span[0]) < min(part[1], span[1])
        ]
        n = max(inside, default=n - 1) + 1
        return AnswerSite(text, False, False, n_before + n - 1, tuple(ids[:n]), part)
    return AnswerSite(text, False, text[-1].isspace(), n_before + n - 1, tuple(ids))


def _begin(text: str, output: str, end: int, eos: str) -> int | None:
    """Return where the output stands in a text, behind the input's end; None if it does not."""
    if end and text[end:].strip().startswith(output):
        begin = text.index(output, end)
        if not is_one_word(output, text[begin + len(output) :]):
            return begin
    read = text.rstrip().removesuffix(eos).rstrip()
    begin = len(read) - len(output)
    if read.endswith(output) and begin >= max(1, end) and not is_one_word(read[:begin], output):
        return begin
    return None


def tokenize_answers(
    sites: Sequence[AnswerSite], answers: Sequence[str], tokenizer: Tokenizer
) -> list[Tokens]:
    """Return the tokens of each answer at its site; empty if they are not known.

    Of two ways in which an answer may follow, with a space and without, it is the likely one.
    """
    headers = headers_of(tokenizer)
    stems = [
        site.stem if site.is_cut else site.stem + spaces(site.stem, answer, headers)[0]
        for site, answer in zip(sites, answers, strict=True)
    ]
    joined = _read(tokenizer, stems, answers)
    # A tokenizer may join a space at the end with the answer, as no model does that reads it.
    opened = [i for i, site in enumerate(sites) if site.ends_open]
    alone = _read(tokenizer, [NEW_LINE] * len(opened), [answers[i] for i in opened])
    read: list[Tokens] = []
    for site, stem, (row, offsets) in zip(sites, stems, joined, strict=True):
        n, earliest = len(site.tokens), len(site.stem.rstrip())
        fits = tuple(row[:n]) == site.tokens
        read.append(_tokens_from(n, row, offsets, earliest, len(stem), tokenizer) if fits else ())
    for i, (row, offsets) in zip(opened, alone, strict=True):
        if not read[i]:
            n = next((j for j, span in enumerate(offsets) if span[1] > 1), len(row))
            read[i] = _tokens_from(n, row, offsets, 1, 1, tokenizer)
    return read


def _read(
    tokenizer: Tokenizer, stems: Sequence[str], answers: Sequence[str]
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Return the tokens of each stem with its answer, and the characters of each token."""
    texts = [stem + answer for stem, answer in zip(stems, answers, strict=True)]
    return list(zip(*read_bare(tokenizer, texts), strict=True)) if texts else []


def _tokens_from(
    n: int,
    row: list[int],
    offsets: list[tuple[int, int]],
    earliest: int,
    begin: int,
    tokenizer: Tokenizer,
) -> Tokens:
    """Return the tokens from the n-th on, if the first has a part of the answer and of no prompt.

    The answer begins at a character, and a token of it may begin with spaces from the earliest on.
    """
    if n >= len(row) or not earliest <= offsets[n][0] <= begin < offsets[n][1]:
        return ()
    if not tokenizer.convert_ids_to_tokens([row[n]])[0].strip(SPACES):
        return ()
    return tuple(row[n:])
