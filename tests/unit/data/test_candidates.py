"""Test the answers to each prompt under all labels, as tokens."""

from typing import Any

import pytest

from tasklens.data.labelled_prompts import LabelledPrompts, read_prompts
from tasklens.data.tokenize import tokenize
from tiny_tokenizers import byte_level, sentence_piece


@pytest.fixture(scope="module", params=[byte_level, sentence_piece])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param()


def answers_of(tokenizer: Any, prompts: LabelledPrompts, **settings: Any) -> list[list[str]]:
    """Return the candidates of each prompt as texts."""
    candidates = tokenize(prompts, tokenizer, candidates=True, **settings).candidates
    assert candidates is not None
    texts = [
        [tokenizer.decode([t for t in answer if t >= 0]).strip() for answer in row]
        for row in candidates.tolist()
    ]
    return [[text for text in row if text] for row in texts]


def crossed(**columns: Any) -> LabelledPrompts:
    """Return two inputs under two labels, each twice."""
    return read_prompts(
        {
            "text": [f"{word}=" for word in ("one", "one", "two", "two")] * 2,
            "label": ["colour", "shade", "colour", "shade"] * 2,
            "input": ["one", "one", "two", "two"] * 2,
            "output": ["red", "tanred", "blue", "tanblue"] * 2,
        }
        | columns
    )


@pytest.mark.parametrize("position", ["", "last", "0:3"])
def test_the_right_answer_comes_first_then_those_to_the_same_input(
    tokenizer: Any, position: str
) -> None:
    expected = [["red", "tanred"], ["tanred", "red"], ["blue", "tanblue"]]
    assert answers_of(tokenizer, crossed(), position=position)[:3] == expected
    tokenized = tokenize(crossed(), tokenizer, position, candidates=True)
    assert tokenized.candidates is not None
    assert tokenized.prompts.asked is not None
    assert (tokenized.prompts.asked == tokenized.candidates[:, :, 0]).all()
    assert (tokenized.target[:, 0] == tokenized.candidates[:, 0, 0]).all()


def test_the_column_of_answers_decides(tokenizer: Any) -> None:
    given: list[Any] = [{"colour": "red", "shade": "grey"}, None, {"shade": "blue"}, None]
    texts = answers_of(tokenizer, crossed(answers=given * 2))
    assert texts[0] == ["red", "grey"]
    assert texts[2] == ["blue"], "the same answer is none of the others"


def test_there_are_none_without_outputs(tokenizer: Any) -> None:
    columns = {"text": ["a=", "b="] * 2, "label": [*"xxyy"]}
    prompts = read_prompts(columns)
    assert tokenize(prompts, tokenizer, candidates=True).candidates is None
    unique = read_prompts(columns | {"output": ["red", "blue", "red", "7"]})
    assert answers_of(tokenizer, unique) == [["red"], ["blue"], ["red"], ["7"]]
