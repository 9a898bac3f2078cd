"""Check with a tokenizer that the answers to a prompt begin with different tokens."""

from collections.abc import Sequence

from tasklens.core.errors import InputError
from tasklens.data.answer_sites import Tokens, answer_site, tokenize_answers
from tasklens.data.labelled_prompts import LabelledPrompts
from tasklens.data.special_tokens import read_texts
from tasklens.data.token_rows import Tokenizer


def first_tokens(
    tokenizer: Tokenizer, texts: Sequence[str], inputs: Sequence[str], answers: Sequence[str]
) -> list[int | None]:
    """Return the first token of each answer as it follows its text; None if it is not known.

    It is the token that `tasklens intervene` expects: see `tasklens.data.answer_sites`. It is not
    known if one token has parts of the text and of the answer, or stands for unknown words.

    Raises
    ------
    InputError
        If the tokenizer gives no character offsets, or cannot read a text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} is not a fast tokenizer: it gives no character offsets to "
            "find the first token of an answer with; leave out --tokenizer"
        )
    table = LabelledPrompts(
        source=tuple(f"prompt {i}" for i in range(len(texts))),
        text=tuple(texts),
        label=("",) * len(texts),
        input=tuple(inputs),
        output=tuple(answers),
        groups={},
        columns={},
        splits={},
    )
    rows = read_texts(tokenizer, texts, "auto")
    eos: str = getattr(tokenizer, "eos_token", None) or ""
    sites = [answer_site(table, i, answer, rows, eos) for i, answer in enumerate(answers)]
    known = [i for i, site in enumerate(sites) if site is not None]
    read = tokenize_answers(
        [site for site in sites if site is not None], [answers[i] for i in known], tokenizer
    )
    tokens: dict[int, Tokens] = dict(zip(known, read, strict=True))
    unknown = getattr(tokenizer, "unk_token_id", None)
    first = [next(iter(tokens.get(i, ())), None) for i in range(len(texts))]
    return [None if token == unknown else token for token in first]
