"""Find the first token of the output that should follow a prompt. The module imports no torch.

An output that stands in the text is read there. Otherwise it is read behind the text, with a space
before it or without: docs/reference/answers.md has the rule.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tasklens.data.labelled_prompts import LabelledPrompts
from tasklens.data.special_tokens import TokenRows
from tasklens.data.token_rows import Tokenizer, read_bare

Ints: TypeAlias = npt.NDArray[np.int64]
#: "last", the index of a token, or a span of characters.
Part: TypeAlias = str | int | tuple[int, int]

#: Ends of a text that an output usually follows without a space, as in <|assistant|>, (" and 2+2=.
_JOINS = re.compile(r"""(<[^<>\s]+>|[(\[{“‘«„]|(^|[\s(\[{=:])["'`]+|(?<=\S)[=+*/])$""")
#: Beginnings of the Unicode names of letters that are written without spaces, but are not wide.
_SPACELESS = ("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")
#: Characters for a space in the names of tokens.
SPACES = " ▁Ġ"
#: A text that no tokenizer joins with what follows it.
NEW_LINE = "\n"


class _Trial(NamedTuple):
    """A text with an output, to be read by the tokenizer."""

    prompt: int
    column: int
    text: str
    begin: int
    """Where the output begins, and `stop` where it ends."""
    stop: int
    end: int | None
    """Where the measured part ends; None if the text has no prompt before the output."""


def answer_tokens(
    table: LabelledPrompts,
    tokenizer: Tokenizer,
    parts: list[Part],
    rows: TokenRows,
    position: Ints,
) -> tuple[Ints, tuple[str, ...]]:
    """Return the tokens that are right as the answer, and what is odd about them.

    The answer follows a part of each text, the last token of which is at the position; no answer is
    looked for if the part is a number.

    The tokens are (N, 2): the first token of the output as it most likely follows, and that of the
    other way, with a space or without. A token is -1 if it is not known or the same as the first.
    Sentences for a warning are the second part.
    """
    target = np.full((len(table), 2), -1, dtype=np.int64)
    eos: str = getattr(tokenizer, "eos_token", None) or ""
    headers = headers_of(tokenizer)
    trials = [
        trial for i, part in enumerate(parts) for trial in _trials(table, i, part, headers, eos)
    ]
    texts, sources = [t.text for t in trials], [table.source[t.prompt] for t in trials]
    read = read_bare(tokenizer, texts, sources) if trials else ([], [])
    for trial, row, offsets in zip(trials, *read, strict=True):
        i, begin = trial.prompt, trial.begin
        first = rows.special[i].index(False)
        own = rows.ids[i][first : position[i] + 1]
        if trial.end is None:
            after = next((j for j, span in enumerate(offsets) if span[1] > begin), len(row))
        else:
            after = len(own) if row[: len(own)] == own else len(row)
        if after < len(row) and target[i, trial.column] < 0:
            # A token that has a space only, or a part of the prompt, is not of the output.
            (start, end), earliest = offsets[after], begin if trial.end is None else trial.end
            inside = earliest <= start <= begin < end <= trial.stop
            if inside and tokenizer.convert_ids_to_tokens([row[after]])[0].strip(SPACES):
                target[i, trial.column] = row[after]
    target[(target[:, 0] < 0) | (target[:, 0] == target[:, 1]), 1] = -1
    return target, tuple(_notes(table, target))


def _trials(
    table: LabelledPrompts, i: int, part: Part, headers: tuple[str, ...], eos: str
) -> Iterator[_Trial]:
    """Yield the ways in which the output may follow a part of a prompt."""
    text, output = table.text[i], ((table.output[i] or "") if table.output else "").strip()
    if isinstance(part, int) or not output:
        return
    end = part[1] if isinstance(part, tuple) else len(text.rstrip())
    rest = text[end:].strip()
    if rest:
        begin = text.find(output, end)
        if rest.startswith(output) and not is_one_word(output, text[begin + len(output) :]):
            yield _Trial(i, 0, text, begin, begin + len(output), end)
        return
    # The part may be the end of the output itself, so that no output follows it.
    if table.input is None and text.rstrip().removesuffix(eos).rstrip().endswith(output):
        return
    for column, space in enumerate(spaces(text, output, headers)):
        begin = len(text) + len(space)
        joined = f"{text}{space}{output}"
        yield _Trial(i, column, joined, begin, len(joined), end)
    if part == "last" and text[-1].isspace():
        # The tokenizer may join the measured space with the output, as no model does that reads it.
        yield _Trial(i, 0, NEW_LINE + output, 1, 1 + len(output), None)


def headers_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the headers of chats, such as <|assistant|> and [/INST], but no words."""
    return tuple(name for name in tokenizer.get_added_vocab() if not name.isalnum())


def spaces(text: str, output: str, headers: tuple[str, ...]) -> tuple[str, ...]:
    """Return what may stand between a text and an output that follows it, the likely one first."""
    last, first = text[-1], output[0]
    if last.isspace():
        return ("",)
    if _is_spaceless(first) and (not _is_word(last) or _is_spaceless(last)):
        return ("",)
    if text.endswith(headers) or _is_spaceless(last) or _JOINS.search(text):
        return ("", " ")
    if is_one_word(text, output):
        return (" ",)
    return (" ", "")


def is_one_word(text: str, more: str) -> bool:
    """Return whether a text and more text without a space between them would be one word."""
    around = (text[-1:], more[:1])
    return all(each and _is_word(each) and not _is_spaceless(each) for each in around)


def _is_word(character: str) -> bool:
    """Return whether a character is a letter, a digit, or a mark on a letter."""
    return unicodedata.category(character)[0] in "LNM"


def _is_spaceless(character: str) -> bool:
    """Return whether a character belongs to a script that is written without spaces."""
    name = unicodedata.name(character, "")
    is_wide = unicodedata.east_asian_width(character) in "WF"
    return name.startswith(_SPACELESS) or (is_wide and not name.startswith("HANGUL"))


def _notes(table: LabelledPrompts, target: Ints) -> list[str]:
    """Return what is odd about the right answers."""
    outputs = table.output or ("",) * len(table)
    asked = {i for i, output in enumerate(outputs) if output}
    unknown = sorted(i for i in asked if target[i, 0] < 0)
    notes = []
    if unknown:
        notes.append(
            f"{len(unknown):,} of {len(table):,} prompts are left out of the accuracy, first "
            f"{table.source[unknown[0]]}: no token begins the output behind the prompt (a token "
            "has a space alone, other text, or a part of both)"
        )
    known = asked.difference(unknown)
    n_outputs = len({outputs[i] for i in known})
    if n_outputs > 1 and len({target[i, 0] for i in known}) == 1:
        notes.append(
            f"all {n_outputs} outputs begin with the same token, so that the accuracy does not "
            "tell them apart"
        )
    return notes
