import numpy as np
import pytest

from tasklens.data.token_prompts import Prompts, join


def two(**fields: object) -> Prompts:
    return Prompts(np.array([[1, 2, 3], [4, 5, 6]]), np.array([1, 2]), **fields)  # type: ignore[arg-type]


def test_tokens_up_to_the_position_are_read() -> None:
    assert two().is_read.tolist() == [[True, True, False], [True, True, True]]


def test_joined_prompts_keep_their_order_and_what_all_share() -> None:
    joined = join([two(split="val"), two(split="val")])
    assert joined.ids.tolist() == [[1, 2, 3], [4, 5, 6]] * 2
    assert joined.position.tolist() == [1, 2, 1, 2]
    assert (joined.split, joined.position_name, joined.begin) == ("val", "input", None)
    assert join([two(split="val"), two(split="train")]).split == ""
    assert join([two(split="val"), two()]).split == ""
    spans = join([two(begin=np.array([0, 1]), position_name="mean")] * 2)
    assert spans.begin is not None
    assert (spans.begin.tolist(), spans.position_name) == ([0, 1, 0, 1], "mean")


def test_prompts_of_several_positions_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="too many values"):
        join([two(), two(position_name="instruction_last")])
    with pytest.raises(ValueError, match="prompts with spans and prompts without"):
        join([two(), two(begin=np.array([0, 1]))])
