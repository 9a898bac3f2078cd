"""Test after which token of a prompt its answer follows, and the tokens of other answers there."""

from typing import Any

import pytest

from e2e.stock import SPECIAL, word_level_tokenizer
from tasklens.data.answer_sites import AnswerSite, answer_site, tokenize_answers
from tasklens.data.labelled_prompts import LabelledPrompts, read_prompts
from tasklens.data.special_tokens import read_texts
from tiny_tokenizers import ENDS, byte_level, sentence_piece

KINDS = {"byte level": byte_level, "sentence piece": sentence_piece}


@pytest.fixture(scope="module", params=[*KINDS])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param](after="</s>")  # which is read after no text


def table(text: str, output: str = "red", **columns: str) -> LabelledPrompts:
    """Return a prompt four times, with two labels."""
    repeated = {name: [value] * 4 for name, value in columns.items()}
    return read_prompts(
        {"text": [text] * 4, "output": [output] * 4, "label": [*"xxyy"], **repeated}
    )


def site_of(tokenizer: Any, prompts: LabelledPrompts) -> AnswerSite | None:
    assert prompts.output is not None
    rows = read_texts(tokenizer, prompts.text, "auto")
    return answer_site(prompts, 0, prompts.output[0], rows, "</s>")


def answers_at(tokenizer: Any, prompts: LabelledPrompts, *answers: str) -> list[list[str]]:
    """Return the tokens of each answer, checked to continue the site's as in one text."""
    site = site_of(tokenizer, prompts)
    assert site is not None
    tokens = tokenize_answers([site] * len(answers), answers, tokenizer)
    return [tokenizer.convert_ids_to_tokens(list(each)) for each in tokens]


def read(tokenizer: Any, prompts: LabelledPrompts) -> str:
    """Return what is read before the answer, without the token that begins the text."""
    site = site_of(tokenizer, prompts)
    assert site is not None
    rows = read_texts(tokenizer, prompts.text, "auto")
    ids = rows.ids[0][: site.read + 1]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "<s>"
    assert tuple(ids[1:]) == site.tokens
    return prompts.text[0][: rows.offsets[0][site.read][1]]


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_an_answer_follows_the_end_as_the_likely_one_does(tokenizer: Any, end: str) -> None:
    prompts = table(end)
    assert read(tokenizer, prompts).strip() == end.strip()
    after = {"": "red", " ": tokenizer.convert_ids_to_tokens(tokenizer("a red")["input_ids"])[-2]}
    assert answers_at(tokenizer, prompts, "red") == [[after[ENDS[end][0]]]]


@pytest.mark.parametrize("end", [end for end in ENDS if end[-1] != " "], ids=repr)
def test_all_tokens_of_an_answer_are_those_of_the_whole_text(tokenizer: Any, end: str) -> None:
    answer = "blue lamp green"
    (tokens,) = answers_at(tokenizer, table(end), answer)
    n = len(tokenizer(end)["input_ids"]) - 1  # without </s>
    whole = tokenizer(end + ENDS[end][0] + answer)["input_ids"]
    assert tokens == tokenizer.convert_ids_to_tokens(whole[n:-1])
    assert len(tokens) > 2


@pytest.mark.parametrize(
    ("text", "columns", "before"),
    [
        ("the city of red is blue", {}, "the city of red is"),
        ("the city of red is blue ", {}, "the city of red is"),
        ("the city of red is blue</s>", {}, "the city of red is"),
        ("paint red blue", {"input": "red"}, "paint red"),
        ("paint red blue, a lamp", {"input": "red"}, "paint red"),
        ("paint red as blue", {"input": "red"}, "paint red as"),
        ("paint red as", {"input": "red"}, "paint red as"),
        ("paint red", {"input": "red"}, "paint red"),
        ("paint red ", {"input": "red"}, "paint red"),
        ("paint blue", {"input": "blue"}, "paint blue"),  # the input, which is no answer
        ("paint blue blue", {"input": "blue"}, "paint blue"),
        ("paint red", {"input": "lamp"}, "paint red"),  # an input that is not in the text
        ("the lamp is skyblue", {}, "the lamp is skyblue"),  # a part of a word
        ("blue", {}, "blue"),
    ],
)
def test_an_answer_in_the_text_is_replaced(
    tokenizer: Any, text: str, columns: dict[str, str], before: str
) -> None:
    prompts = table(text, "blue", **columns)
    assert read(tokenizer, prompts) == before
    for token, *more in answers_at(tokenizer, prompts, "blue", "green"):
        assert token in ("Ġblue", "▁blue", "Ġgreen", "▁green")
        assert more == []


@pytest.mark.parametrize("text", ["so call:red", "call:red"])
def test_a_token_with_parts_of_prompt_and_answer_has_no_site(text: str) -> None:
    tokenizer = word_level_tokenizer((*SPECIAL, "so", "call:red"))
    assert site_of(tokenizer, table(text)) is None


def test_an_answer_that_is_joined_with_the_prompt_is_unknown() -> None:
    tokenizer = word_level_tokenizer((*SPECIAL, "so", "call", "call:", "red"))
    sites = [site_of(tokenizer, table(text)) for text in ("so call", "so call:", "so call(")]
    known = [site for site in sites if site]
    red = (tokenizer.get_vocab()["red"],)
    # behind an opening bracket there is no space, so that both are one word to the tokenizer
    assert tokenize_answers(known, ["red"] * 3, tokenizer) == [red, red, ()]


def test_a_space_alone_is_no_beginning_of_an_answer() -> None:
    tokenizer = sentence_piece()
    site = site_of(tokenizer, table("answer"))
    assert site is not None
    space, *_ = tokenizer.tokenize("answer 答")[len(tokenizer.tokenize("answer")) :]
    assert space == "▁"
    assert tokenize_answers([site, site], ["red", "答"], tokenizer)[1] == ()
