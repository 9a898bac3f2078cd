"""Special tokens are read once: with templates of chats, at both ends, by any tokenizer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import transformers

from tasklens.core.errors import InputError
from tasklens.data.labelled_prompts import read_prompts
from tasklens.data.special_tokens import SpecialTokens, TokenRows, read_texts
from tasklens.data.tokenize import tokenize
from tiny_tokenizers import byte_level, sentence_piece

TEXTS = ("the city of red", "paint it in green", "answer: blue")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
Make = Callable[..., Any]
KINDS: dict[str, Make] = {
    "byte level": byte_level,
    "sentence piece": sentence_piece,
    "a space before each word": partial(sentence_piece, scheme="always"),
}


@pytest.fixture(scope="module", params=[*KINDS])
def make(request: pytest.FixtureRequest) -> Make:
    return KINDS[request.param]


def names(tokenizer: Any, rows: TokenRows) -> list[str]:
    return [" ".join(tokenizer.convert_ids_to_tokens(row)) for row in rows.ids]


def note_of(tokenizer: Any, *texts: str, special_tokens: SpecialTokens = "auto") -> str:
    """Return the only note, or ""."""
    return " | ".join(read_texts(tokenizer, texts, special_tokens).notes)


def test_a_chat_template_gives_the_tokens_of_transformers_itself(make: Make) -> None:
    tokenizer = make()
    tokenizer.chat_template = TEMPLATE
    chats = [[{"role": "user", "content": text}] for text in TEXTS]
    options: dict[str, Any] = {"add_generation_prompt": True, "return_dict": False}
    texts = [tokenizer.apply_chat_template(c, tokenize=False, **options) for c in chats]
    expected = [tokenizer.apply_chat_template(c, tokenize=True, **options) for c in chats]
    assert all(text.startswith("<s><|user|>") for text in texts)
    rows = read_texts(tokenizer, texts, "auto")
    assert rows.ids == expected
    assert [row.count(tokenizer.bos_token_id) for row in rows.ids] == [1, 1, 1]
    assert rows.summary == "none (auto)"
    assert rows.notes == (
        "3 of 3 prompts begin with <s>, so that the tokenizer's <s> is not added before these "
        "(states.special_tokens=auto)",
    )


def test_plain_texts_are_read_as_transformers_reads_them(make: Make) -> None:
    for ends in (("<s>",), ("<s>", "</s>"), ("", "</s>"), ("",), ("<s> <|user|>", "</s>")):
        tokenizer = make(*ends)
        special_tokens: SpecialTokens
        for special_tokens in ("auto", "add"):
            rows = read_texts(tokenizer, TEXTS, special_tokens)
            expected = tokenizer([*TEXTS], return_offsets_mapping=True)
            assert rows.ids == expected["input_ids"]
            assert rows.offsets == expected["offset_mapping"]
            assert rows.notes == ()
        bare = read_texts(tokenizer, TEXTS, "none")
        assert bare.ids == tokenizer([*TEXTS], add_special_tokens=False)["input_ids"]
        assert (bare.summary, bare.notes) == ("none (none)", ())
        for special, mine, row in zip(rows.special, bare.ids, rows.ids, strict=True):
            assert [t for t, added in zip(row, special, strict=True) if not added] == mine
        assert sum(map(sum, bare.special)) == 0


def test_each_prompt_is_judged_by_itself(make: Make) -> None:
    tokenizer = make()
    mixed = (TEXTS[0], f"<s>{TEXTS[1]}", f" \n<s>{TEXTS[2]}")
    rows = read_texts(tokenizer, mixed, "auto")
    own = tokenizer([*mixed], add_special_tokens=False)["input_ids"]
    assert rows.ids == [tokenizer(TEXTS[0])["input_ids"], *own[1:]]
    assert [row.count(tokenizer.bos_token_id) for row in rows.ids] == [1, 1, 1]
    assert rows.summary == "<s> before 1 of 3 prompts (auto)"
    assert rows.notes[0].startswith("2 of 3 prompts begin with <s>, so that")
    # In the middle, as in a chat of several turns, such a token is no beginning.
    later = f"{TEXTS[0]}</s><s>{TEXTS[1]}"
    assert read_texts(tokenizer, [later], "auto").ids == [tokenizer(later)["input_ids"]]


def test_the_setting_adds_them_twice_or_not_at_all(make: Make) -> None:
    tokenizer = make()
    mixed = [TEXTS[0], f"<s>{TEXTS[1]}"]
    twice = read_texts(tokenizer, mixed, "add")
    assert twice.ids == tokenizer(mixed)["input_ids"]
    assert twice.ids[1][:2] == [tokenizer.bos_token_id] * 2
    assert twice.notes == (
        "1 of 2 prompts begin with <s>, and the tokenizer's <s> is added before it once more "
        "(states.special_tokens=add)",
    )
    bare = read_texts(tokenizer, mixed, "none")
    assert bare.ids == tokenizer(mixed, add_special_tokens=False)["input_ids"]
    assert bare.notes == (
        "1 of 2 prompts begin with <s>, and 1 have no <s> (states.special_tokens=none)",
    )
    assert note_of(tokenizer, *mixed[1:], special_tokens="none") == ""


def test_the_end_of_a_text_is_not_marked_twice(make: Make) -> None:
    tokenizer = make("", "</s>")  # as T5 does
    texts = [TEXTS[0], f"{TEXTS[1]}</s>", f"{TEXTS[2]}</s>\n"]
    rows = read_texts(tokenizer, texts, "auto")
    assert [row.count(tokenizer.eos_token_id) for row in rows.ids] == [1, 1, 1]
    assert rows.ids[1] == tokenizer(TEXTS[1])["input_ids"]
    assert rows.summary == "</s> after 1 of 3 prompts (auto)"
    assert rows.notes[0].startswith("2 of 3 prompts end with </s>, so that the tokenizer's </s> is")
    assert read_texts(tokenizer, texts, "add").ids == tokenizer(texts)["input_ids"]


def test_another_spelling_of_the_beginning_is_one() -> None:
    """A template for a base model whose tokenizer was replaced, or the other way round."""
    tokenizer = byte_level("<|begin_of_text|>")
    for own in ("<|begin_of_text|>", "<s>"):  # <s> is its bos_token, though another one is added
        rows = read_texts(tokenizer, [own + TEXTS[0]], "auto")
        assert names(tokenizer, rows) == [f"{own} the Ġcity Ġof Ġred"]
        assert f"begin with {own}, so that the tokenizer's <|begin_of_text|> is" in rows.notes[0]
    tokenizer = byte_level("<s>")
    rows = read_texts(tokenizer, ["<|begin_of_text|>the city"], "auto")
    assert names(tokenizer, rows) == ["<|begin_of_text|> the Ġcity"]
    rows = read_texts(tokenizer, ["<|user|>the city"], "auto")
    assert names(tokenizer, rows) == ["<s> <|user|> the Ġcity"], "no beginning of a text"
    classifier = byte_level("<s> <|user|>", "</s>")  # two tokens in front
    rows = read_texts(classifier, ["<s><|user|>the city</s>"], "auto")
    assert names(classifier, rows) == ["<s> <|user|> the Ġcity </s>"]


def test_special_tokens_of_another_family_are_named(make: Make) -> None:
    tokenizer = make()
    other = "which the tokenizer reads as plain characters; are they for another model?"
    chat = "<|im_start|>user\nred<|im_end|>"
    assert note_of(tokenizer, chat, "red") == f"1 of 2 prompts have <|im_start|>, {other}"
    assert note_of(tokenizer, "<bos>red", "<bos>blue") == f"2 of 2 prompts have <bos>, {other}"
    assert note_of(tokenizer, "a <| b |> c", "x <b>bold</b>", "<|user|>\nred") == ""
    # A beginning that is read as characters is none: the tokenizer's own is added.
    assert read_texts(tokenizer, ["<bos>red"], "auto").ids[0][0] == tokenizer.bos_token_id


def test_a_tokenizer_that_is_not_fast_is_read_alike() -> None:
    slow = transformers.ByT5Tokenizer()
    texts = ["abc", "abc</s>"]
    with pytest.warns(UserWarning, match="already has </s>"):  # its own warning
        once = read_texts(slow, texts, "auto")
    for rows in (once, read_texts(slow, texts[:1] * 2, "add")):
        assert rows.ids == [slow("abc")["input_ids"]] * 2
        assert rows.offsets == [[], []]
    with pytest.warns(UserWarning, match="already has </s>"):
        assert read_texts(slow, texts, "none").ids == [[100, 101, 102], [100, 101, 102, 1]]


def test_a_tokenizer_that_changes_the_text_is_refused() -> None:
    class Odd:
        def __call__(self, texts: list[str], *, add_special_tokens: bool, **_: bool) -> Any:
            return {"input_ids": [[1, 5, 6] if add_special_tokens else [7] for _ in texts]}

        def get_vocab(self) -> dict[str, int]:
            return {}

    with pytest.raises(
        InputError, match=r"^Odd reads 'a' as other tokens if it adds special ones; "
    ):
        read_texts(Odd(), ["a"], "auto")
    assert read_texts(Odd(), ["a"], "none").ids == [[7]]


def test_the_measured_tokens_are_those_of_the_text_alone(make: Make) -> None:
    """With the beginning in the text or added, the rows and the measured tokens are the same."""
    tokenizer = make("<s>", "</s>")
    columns = {"label": ["x", "x", "y", "y"], "input": ["city", "city", "red", "red"]}
    plain = ["<|user|>the city of", "<|user|>a city", "<|user|>red house", "<|user|>a red dog"]
    for at, after in (("", "</s>"), ("2", "</s>"), ("-1", "</s>"), ("-2", "</s>"), ("last", "")):
        first, second = (
            tokenize(read_prompts({"text": texts, **columns}), tokenizer, at)
            for texts in (plain, [f"<s>{text}{after}" for text in plain])
        )
        assert first.prompts.ids.tolist() == second.prompts.ids.tolist()
        assert first.prompts.position.tolist() == second.prompts.position.tolist()
        assert first.begin.tolist() == second.begin.tolist()
        assert (first.notes, len(second.notes)) == ((), 1 + bool(after))
