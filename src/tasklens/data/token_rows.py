"""Read texts with a tokenizer, and name what it cannot read, or reads in part.

The tokenizers are those of Hugging Face. Only the methods called in this file, and in the files
that import it, are relied on.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from tasklens.core.errors import InputError, first_line, is_panic
from tasklens.core.messages import short

Tokenizer: TypeAlias = Any
Rows: TypeAlias = list[list[int]]
Spans: TypeAlias = list[list[tuple[int, int]]]


def read_bare(
    tokenizer: Tokenizer, texts: Sequence[str], sources: Sequence[str] = ()
) -> tuple[Rows, Spans]:
    """Return the token rows of texts without special tokens, and the characters of each token.

    InputError, with the source of the text, if the tokenizer cannot read one.
    """
    fast = bool(getattr(tokenizer, "is_fast", False))
    options = {"add_special_tokens": False, "return_offsets_mapping": fast}
    read = _call(tokenizer, texts, sources, **options)
    return read["input_ids"], read["offset_mapping"] if fast else [[] for _ in texts]


def read_full(tokenizer: Tokenizer, texts: Sequence[str], sources: Sequence[str] = ()) -> Rows:
    """Return the token rows of texts with the special tokens that the tokenizer adds."""
    rows: Rows = _call(tokenizer, texts, sources, add_special_tokens=True)["input_ids"]
    return rows


def _call(
    tokenizer: Tokenizer, texts: Sequence[str], sources: Sequence[str], **options: bool
) -> dict[str, list[Any]]:
    plain = dict.fromkeys(("truncation", "padding", "return_attention_mask", "verbose"), False)

    def read(some: Sequence[str]) -> dict[str, list[Any]]:
        return dict(tokenizer(list(some), **options, **plain))

    try:
        return read(texts)
    except BaseException as error:
        if not _is_of_a_text(error):
            raise
        raise _unread(read, texts, sources, error) from error


def _is_of_a_text(error: BaseException) -> bool:
    """Return whether an error of a tokenizer is one that a text causes."""
    return is_panic(error) or (isinstance(error, Exception) and not isinstance(error, MemoryError))


def _unread(
    read: Callable[[Sequence[str]], object],
    texts: Sequence[str],
    sources: Sequence[str],
    error: BaseException,
) -> InputError:
    """Return an error that names the first text, and the word in it, that cannot be read."""

    def fails(text: str) -> bool:
        try:
            read([text])
        except BaseException as again:
            if not _is_of_a_text(again):
                raise
            return True
        return False

    i = next((i for i, text in enumerate(texts) if fails(text)), 0)
    text, source = texts[i], f"{sources[i]}: " if sources else ""
    word = short(next((word for word in text.split() if fails(word)), text))
    if re.search("unk", str(error), re.IGNORECASE):
        return InputError(
            f"{source}the tokenizer has no token for {word}, and none for unknown words: give "
            "prompts in its words (a training run has its own in data/*_subset.parquet)"
        )
    return InputError(f"{source}the tokenizer cannot read {word}: {first_line(error)}")


def unknown_words(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    rows: Rows,
    spans: Spans,
    sources: Sequence[str],
) -> list[str]:
    """Return sentences on texts that a tokenizer reads in part only, if any."""
    notes = []
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    unknown = getattr(tokenizer, "unk_token_id", None)
    others = ("bos_token_id", "eos_token_id", "pad_token_id")
    if unknown is not None and unknown not in [getattr(tokenizer, each, None) for each in others]:
        token = str(tokenizer.convert_ids_to_tokens([unknown])[0])
        with_unknown = [
            i for i, row in enumerate(rows) if row.count(unknown) > texts[i].count(token)
        ]
        if with_unknown:
            notes.append(
                f"{_first(with_unknown, texts, sources)} have words that the tokenizer does not "
                f"know and reads as {token}"
            )
    left_out = [
        i
        for i, span in enumerate(spans)
        if is_fast and any(map(_is_written, _between(texts[i], span)))
    ]
    if left_out:
        notes.append(
            f"{_first(left_out, texts, sources)} have characters that the tokenizer leaves out"
        )
    return notes


def _first(rows: Sequence[int], texts: Sequence[str], sources: Sequence[str]) -> str:
    first = f", first {sources[rows[0]]}," if sources else ""
    return f"{len(rows):,} of {len(texts):,} prompts{first}"


def _between(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Yield the characters of a text that are in no token."""
    end = 0
    for begin, stop in spans:
        yield from text[end:begin]
        end = max(end, stop)
    yield from text[end:]


def _is_written(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNPS"
