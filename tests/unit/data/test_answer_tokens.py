"""The right answer is the token that follows the prompt, however the prompt is written."""

from typing import Any

import pytest

from tasklens.data.labelled_prompts import LabelledPrompts, read_prompts
from tasklens.data.tokenize import Tokenized, shown, tokenize
from tiny_tokenizers import ENDS, byte_level, sentence_piece

KINDS = {"byte level": byte_level, "sentence piece": sentence_piece}


@pytest.fixture(scope="module", params=[*KINDS])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def table(*texts: str, output: str | list[str] = "red", **columns: list[str]) -> LabelledPrompts:
    """Return the prompts four times, with two labels."""
    outputs = [output] * len(texts) if isinstance(output, str) else output
    columns |= {"text": [*texts], "output": outputs}
    repeated = {name: 4 * values for name, values in columns.items()}
    return read_prompts({**repeated, "label": [label for label in "xxyy" for _ in texts]})


def read(tokenizer: Any, prompts: LabelledPrompts, **settings: Any) -> Tokenized:
    return tokenize(prompts, tokenizer, **settings)


def right(tokenizer: Any, prompts: LabelledPrompts, **settings: Any) -> list[list[str]]:
    """Return the right answers of each prompt."""
    target = read(tokenizer, prompts, **settings).target
    assert target.shape == (len(prompts), 2)
    rows = [[token for token in row if token >= 0] for row in target.tolist()]
    return [tokenizer.convert_ids_to_tokens(row) for row in rows[: len(rows) // 4]]


def following(tokenizer: Any, text: str, continued: str) -> str:
    """Return the token after a text, once it is continued, by transformers."""
    ids = tokenizer(text)["input_ids"]
    longer = tokenizer(continued)["input_ids"]
    assert longer[: len(ids)] == ids
    return str(tokenizer.convert_ids_to_tokens(longer)[len(ids)])


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_the_answer_is_the_token_after_the_prompt(tokenizer: Any, end: str) -> None:
    marks = {"": "red", " ": tokenizer.convert_ids_to_tokens(tokenizer("a red")["input_ids"])[-1]}
    expected = [marks[space] for space in ENDS[end]]
    assert right(tokenizer, table(end)) == [expected]
    if end[-1] != " ":  # where the space before the output is not joined with it
        for space, token in zip(ENDS[end], expected, strict=True):
            assert following(tokenizer, end, f"{end}{space}red") == token
    prompts = table(end)
    answer = " or ".join(expected)
    assert (
        shown(prompts, read(tokenizer, prompts), tokenizer).splitlines()[0].endswith(f"-> {answer}")
    )


@pytest.mark.parametrize("output", ["red", " red", "red ", "\nred"])
def test_spaces_around_an_output_do_not_count(tokenizer: Any, output: str) -> None:
    assert right(tokenizer, table("answer:", "red is", output=output)) == right(
        tokenizer, table("answer:", "red is")
    )


def test_the_text_itself_shows_what_follows(tokenizer: Any) -> None:
    """An output in the text counts as it is written there; it is read behind a new line."""
    spaced = tokenizer.convert_ids_to_tokens(tokenizer("a red")["input_ids"])[-1]
    texts = ["city: red", "city:red", "city:\nred", "city: red blue", "city: \n red"]
    prompts = table(*texts, input=["city:"] * 5)
    first, joined, line, before, both = right(tokenizer, prompts)
    assert [first, joined, line, before] == [[spaced], ["red"], ["red"], [spaced]]
    assert both in ([spaced], ["red"]), "as the tokenizer splits the new line"
    part = table("city:\nred", part=["city:\n"])
    assert right(tokenizer, part, position="part") == [line]
    # What the text has after the input, though nothing that is measured, stands before the output.
    inputs = table("the city", "the city ", "the city\n", input=["city"] * 3)
    assert right(tokenizer, inputs) == [[spaced], [spaced], []]


def test_scripts_without_spaces(tokenizer: Any) -> None:
    output = "赤"
    # The first byte of its UTF-8, e8 b5 a4.
    first = ["<0xE8>" if "<0xE8>" in tokenizer.get_vocab() else "è"]
    joined = (
        "答案：",
        "答案:",
        "首都是",
        "「",
        "answer:",
        "answer: ",
        "answer:\n",
        "<|assistant|>",
    )
    assert right(tokenizer, table(*joined, output=output)) == [first] * len(joined)
    # After a word of another script it is not known whether a space comes first.
    assert right(tokenizer, table("the city is", output=output)) == [[]]
    # Korean has spaces.
    korean = table("답은", output="빨강")
    assert right(tokenizer, korean) == [[]], "this tokenizer has a space as a token of its own"


def test_a_space_alone_is_no_answer(tokenizer: Any) -> None:
    """All outputs would begin with it; 7 is no part of a longer token."""
    prompts = table("red is", "answer:", "answer: ", "answer:\n", "2+2=", output="7")
    assert right(tokenizer, prompts) == [[], [], ["7"], ["7"], ["7"]]
    (note,) = read(tokenizer, table("red is", "answer: ", output=["7", "8"])).answer_notes
    assert note == (
        "4 of 8 prompts are left out of the accuracy, first prompt 0: no token begins the output "
        "behind the prompt (a token has a space alone, other text, or a part of both)"
    )


def test_what_joins_the_prompt_and_the_output_is_not_known(tokenizer: Any) -> None:
    """The letters of "red" are one token, so that no token begins after the first of them."""
    prompts = table('paint "re', "red", part=["re", "re"], output=["d", "d"])
    assert right(tokenizer, prompts, position="part")[1] == []


def test_outputs_that_begin_alike_are_named(tokenizer: Any) -> None:
    prompts = table("answer:", "red is", output=["red blue", "red green"])
    assert read(tokenizer, prompts).answer_notes == (
        "all 2 outputs begin with the same token, so that the accuracy does not tell them apart",
    )
    assert read(tokenizer, table("answer:", "red is")).answer_notes == (), "one output"
    assert read(tokenizer, table("answer:", "red is", output=["red", "blue"])).answer_notes == ()


def test_the_beginning_of_the_text_does_not_matter(tokenizer: Any) -> None:
    texts = ["answer:", "<s>answer:", "<s><|assistant|>\n"]
    once = right(tokenizer, table(*texts))
    assert once[0] == once[1]
    assert once[2] == ["red"]
    for special_tokens in ("add", "none"):
        assert right(tokenizer, table(*texts), special_tokens=special_tokens) == once


def test_without_offsets_a_line_tells_that_no_accuracy_is_measured() -> None:
    import transformers

    tokenized = read(transformers.ByT5Tokenizer(), table("answer:", "red is"))
    assert (tokenized.target == -1).all()
    assert tokenized.answer_notes[0].startswith("ByT5Tokenizer is not a fast tokenizer")


def test_a_longer_word_in_the_text_is_not_the_output(tokenizer: Any) -> None:
    """The answer is asked for behind the longer word, which stays a part of the prompt."""
    prompts = table("city: redred", "city: red.", "city: red 7", input=["city:"] * 3)
    assert [bool(each) for each in right(tokenizer, prompts)] == [True, True, True]
    rows = read(tokenizer, prompts).prompts
    assert (rows.answered[:3] > rows.position[:3]).tolist() == [True, False, False]


def test_the_answer_is_that_before_the_end_whatever_ends_the_text(tokenizer: Any) -> None:
    ended = table("answer: red</s>", "answer: red</s>\n", "answer: red", "answer:\n</s>")
    targets = right(tokenizer, ended)
    assert [len(each) for each in targets] == [1, 1, 1, 2]
    assert targets[0] == targets[1] == targets[2] == right(tokenizer, table("answer:"))[0][:1]


@pytest.mark.parametrize("position", ["last", "city", "0", "0:4", "city_mean"])
def test_the_answer_does_not_depend_on_what_is_measured(tokenizer: Any, position: str) -> None:
    """It is read where it follows: behind the text, or before the output in it."""
    prompts = table("the city is: red", "the city is:", "the city is: red</s>")
    default = read(tokenizer, prompts)
    other = read(tokenizer, prompts, position=position)
    assert (other.target == default.target).all()
    assert (other.prompts.answered == default.prompts.answered).all()
    end = default.prompts.answered[1]
    assert (default.prompts.answered == end).all(), "before the output"
    names = tokenizer.convert_ids_to_tokens(default.prompts.ids[0, : end + 1].tolist())
    assert names[-1] == ":"
    assert other.prompts.last.min() >= end, "the prompt is read up to the site"


def test_an_answer_in_the_text_follows_a_measured_part(tokenizer: Any) -> None:
    """The part is the site itself; otherwise the answer would follow the whole text."""
    prompts = table("city: red or blue", part=["city:"])
    at_part, at_end = (read(tokenizer, prompts, position=at) for at in ("part", "last"))
    assert (at_part.prompts.answered == at_part.prompts.position).all()
    assert (at_end.prompts.answered > at_part.prompts.position).all()
    assert right(tokenizer, prompts, position="part") == [right(tokenizer, table("city:"))[0][:1]]
