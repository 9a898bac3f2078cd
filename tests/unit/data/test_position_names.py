"""Test the names of positions in texts, and in settings."""

from typing import Any

import pytest

from e2e.stock import word_level_tokenizer
from tasklens.core.errors import InputError
from tasklens.data.labelled_prompts import read_prompts
from tasklens.data.measured_parts import parse_position
from tasklens.data.synthetic import TrainingStateSettings
from tasklens.data.tokenize import ModelStateSettings, tokenize
from tasklens.runs.settings import ModelRunSettings, TrainingRunSettings

TEXTS = ("one two three four", "three two four one") * 2
TOKENIZER = word_level_tokenizer(("[UNK]", "<s>", "one", "two", "three", "four"))
TABLE: dict[str, Any] = {"text": TEXTS, "label": [*"xyxy"], "input": ["four", "one"] * 2}


def spans(position: str, **columns: Any) -> list[tuple[int, int, bool]]:
    """Return the first and the last token of the part, and whether the mean is measured."""
    table = read_prompts({**TABLE, **columns})
    tokens = tokenize(table, TOKENIZER, position)
    assert tokens.prompts.position_name == (position or "input")
    both = zip(tokens.begin.tolist(), tokens.prompts.position.tolist(), strict=True)
    return [(begin, end, tokens.prompts.begin is not None) for begin, end in both]


@pytest.mark.parametrize(
    ("position", "first"),
    [
        ("", (4, 4, False)),
        ("input", (4, 4, False)),
        ("input_mean", (4, 4, True)),
        ("part", (1, 2, False)),
        ("part_last", (1, 2, False)),
        ("part_mean", (1, 2, True)),
        ("text_mean", (1, 4, True)),
        ("0:7_mean", (1, 2, True)),
        ("-2_mean", (3, 3, True)),
        ("two_mean", (2, 2, True)),
        ("other_mean", (3, 3, False)),  # a column of this name
    ],
)
def test_a_name_may_end_with_what_is_taken_of_the_part(
    position: str, first: tuple[int, int, bool]
) -> None:
    columns: dict[str, Any] = {
        "part": ["one two", "three two"] * 2,
        "other_mean": ["three", "two"] * 2,
    }
    columns["other"] = TEXTS
    assert spans(position, **columns)[0] == first


def test_the_input_has_its_name_in_whatever_column_it_is() -> None:
    renamed = {"text": TEXTS, "label": [*"xyxy"], "x": ["four", "one"] * 2}
    table = read_prompts(renamed, input="x")
    for position in ("", "input", "input_last"):
        assert parse_position(table, position) == ("", False)
    tokens = tokenize(table, TOKENIZER, "input_mean")
    assert tokens.prompts.position.tolist() == [4] * 4


def test_an_unknown_name_lists_the_columns() -> None:
    message = "'nothing' is not in the text 'one two three four' and is not one of the columns"
    for position in ("nothing", "nothing_mean"):
        with pytest.raises(InputError, match=message):
            spans(position)


@pytest.mark.parametrize(
    ("kind", "positions", "message"),
    [
        (TrainingStateSettings, ["middle"], "should be 'input', 'instruction_last' or"),
        (TrainingStateSettings, ["input", "input"], "'input' is given twice; give each"),
        (TrainingStateSettings, [], "at least 1 "),
        (ModelStateSettings, ["a", "b", "a"], "'a' is given twice; give each"),
        (ModelStateSettings, ["a", "b" * 201], "is too long for the name of a directory; give it"),
        (ModelStateSettings, [""], "'' is not a position: should be last, a column"),
    ],
)
def test_positions_that_are_none_are_refused_in_a_line(
    kind: Any, positions: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        kind(positions=positions)
    assert "\n" not in str(caught.value)


def test_the_figure_shows_a_position_that_is_measured() -> None:
    message = r"figure.position = 'input_mean': should be one of states.positions = \['input'\]"
    with pytest.raises(InputError, match=message):
        TrainingRunSettings.from_table({}, ["figure.position=input_mean"])
    both = ["figure.position=a", 'states.positions=["b", "a"]']
    assert ModelRunSettings.from_table({}, both).figure.position == "a"


def test_the_figure_shows_splits_that_are_measured() -> None:
    message = "figure.splits: no split 'unseen tasks'; there are train_subset, val_subset, val_inst"
    chosen = 'figure.splits=["val", "unseen tasks"]'
    with pytest.raises(InputError, match=message):
        TrainingRunSettings.from_table({}, [chosen])
    for key in ("tasks.unseen_tasks=1", 'tasks.file="tasks.json"'):
        assert len(TrainingRunSettings.from_table({}, [chosen, key]).figure.splits) == 2


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("position.at=input", "name positions in states.positions"),
        ("position.over=mean", "a position with _mean after its name is the mean"),
        ("position.max_length=3", "it is states.max_length"),
        ("position.special_tokens=add", "it is states.special_tokens"),
    ],
)
def test_removed_settings_name_the_new_ones(key: str, instead: str) -> None:
    with pytest.raises(InputError, match=f"setting {key.partition('=')[0]} was removed: {instead}"):
        ModelRunSettings.from_table({}, [key])
