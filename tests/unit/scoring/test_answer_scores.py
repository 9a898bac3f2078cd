"""Test the scores of answers beyond the most likely token."""

import numpy as np
import pytest

from tasklens.scoring.answer_scores import score_first_tokens, score_whole_answers

#: Answers of up to two tokens: the right one first. The last prompt has no answer at all.
TOKENS = np.array(
    [
        [[4, 5], [6, -1], [7, 8]],
        [[4, -1], [6, 9], [-1, -1]],
        [[4, 5], [4, 6], [-1, -1]],  # both begin alike
        [[4, 5], [-1, -1], [-1, -1]],
        [[-1, -1], [-1, -1], [-1, -1]],
    ]
)
NAN = np.nan


def test_the_right_answer_is_compared_with_those_that_differ() -> None:
    first = np.log([[0.3, 0.2, 0.1], [0.1, 0.2, NAN], [0.5, 0.5, NAN], [0.1, NAN, NAN], [NAN] * 3])
    assert score_first_tokens(first, TOKENS) == {"accuracy_among_first_tokens": 0.5}
    whole = np.log([[0.1, 0.2, 0.1], [0.3, 0.2, NAN], [0.25, 0.1, NAN], [1, NAN, NAN], [NAN] * 3])
    scores = score_whole_answers(whole, TOKENS)
    assert scores["accuracy_among_candidates"] == 2 / 3, "the fourth has no other answer"
    assert scores["answer_probability"] == pytest.approx((0.1 + 0.3 + 0.25 + 1) / 4)
    per_token = (np.log(0.1) / 2 + np.log(0.3) + np.log(0.25) / 2) / 4
    assert scores["answer_log_probability"] == pytest.approx(per_token)


def test_equal_answers_are_not_better_than_each_other() -> None:
    tied = np.log([[0.2, 0.2, 0.1]])
    assert score_first_tokens(tied, TOKENS[:1]) == {"accuracy_among_first_tokens": 0.0}


def test_without_other_answers_there_is_no_accuracy_among_them() -> None:
    alone = TOKENS[3:]
    assert score_first_tokens(np.log([[0.5, NAN, NAN], [NAN] * 3]), alone) == {}
    scores = score_whole_answers(np.log([[0.5, NAN, NAN], [NAN] * 3]), alone)
    assert set(scores) == {"answer_log_probability", "answer_probability"}
    assert score_whole_answers(np.full((1, 3), NAN), TOKENS[4:]) == {}
