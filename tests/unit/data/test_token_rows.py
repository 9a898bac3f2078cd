"""Check that the row and the word are named of a text that a tokenizer cannot read in full."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasklens.core.errors import InputError
from tasklens.data.dataset import Vocabulary
from tasklens.data.labelled_prompts import read_prompts
from tasklens.data.synthetic_files import tokenizer_json
from tasklens.data.tokenize import Tokenized, tokenize

TEXTS = ("a b", "b banana", "a a", "b b")


def read(tokenizer: Any, *texts: str, **columns: Any) -> Tokenized:
    rows = {"text": texts, "label": ["x", "y"] * (len(texts) // 2)} | columns
    return tokenize(read_prompts(rows), tokenizer, "last")


def fast(model: Any, **options: str) -> Any:
    inner = Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, **options)


def own() -> Any:
    content = tokenizer_json(Vocabulary("ab")).decode()
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(content))


KNOWN = {"a": 0, "b": 1}
UNKNOWN = "the tokenizer has no token for {}, and none for unknown words: give prompts in its words"


@pytest.mark.parametrize(
    "tokenizer",
    [
        own(),
        fast(models.WordLevel(KNOWN, unk_token="[UNK]")),
        fast(models.WordPiece(KNOWN, unk_token="[UNK]")),
        fast(models.Unigram([("a", -1.0), ("b", -1.0)])),
    ],
    ids=["own", "words", "word pieces", "unigram"],
)
def test_a_word_that_is_not_known_is_named_with_its_row(tokenizer: Any) -> None:
    assert len(read(tokenizer, "a b", "b a", "a a", "b b").prompts) == 4
    with pytest.raises(InputError) as error:
        read(tokenizer, *TEXTS)
    assert str(error.value).startswith(f"prompt 1: {UNKNOWN.format(repr('banana'))}")


def test_so_is_a_word_of_an_output() -> None:
    with pytest.raises(InputError) as error:
        read(own(), "a b", "b a", "a a", "b b", output=["a", "b", "kiwi", "a"])
    assert str(error.value).startswith(f"prompt 2: {UNKNOWN.format(repr('kiwi'))}")


def test_words_that_are_read_as_unknown_are_counted() -> None:
    tokenizer = fast(models.WordLevel(KNOWN | {"[UNK]": 2}, unk_token="[UNK]"), unk_token="[UNK]")
    assert read(tokenizer, "a b", "b c", "c d", "a").notes == (
        "2 of 4 prompts, first prompt 1, have words that the tokenizer does not know and reads as "
        "[UNK]",
    )
    assert read(tokenizer, "a b", "b [UNK]", "b", "a").notes == ()


def test_an_unknown_token_that_also_ends_a_text_is_no_unknown_word() -> None:
    model = models.WordLevel(KNOWN | {"</s>": 2}, unk_token="</s>")
    tokenizer = fast(model, unk_token="</s>", eos_token="</s>")
    assert read(tokenizer, "a b", "b </s>", "b", "a").notes == ()


def test_characters_that_are_left_out_are_counted() -> None:
    tokenizer = fast(models.BPE(KNOWN, []))
    assert read(tokenizer, "a b", "b qa", "b a?", "a").notes == (
        "2 of 4 prompts, first prompt 1, have characters that the tokenizer leaves out",
    )
    with pytest.raises(InputError, match="prompt 2: the measured part has no token of its own"):
        read(tokenizer, "a b", "b", "q", "a")


class PanicException(BaseException):
    """Stands for the exception of that name, which libraries in Rust raise."""


class Failing:
    """A tokenizer that fails at a word."""

    is_fast = False

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, texts: list[str], **_: bool) -> dict[str, list[Any]]:
        if any("banana" in text for text in texts):
            raise self.error
        return {"input_ids": [[1] for _ in texts]}


@pytest.mark.parametrize("error", [PanicException("no\nway"), RuntimeError("no"), OverflowError()])
def test_a_tokenizer_that_fails_names_the_word(error: BaseException) -> None:
    with pytest.raises(InputError, match=r"^prompt 1: the tokenizer cannot read 'banana': .+$"):
        read(Failing(error), *TEXTS)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_what_no_text_causes_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)):
        read(Failing(error), *TEXTS)
