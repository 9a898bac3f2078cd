"""Families of prompts: which column they are, what is refused, and that they are kept."""

from typing import Any

import pytest

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.data.labelled_prompts import read_prompts, read_table, table_of

OF_LABEL = {"past": "verbs", "ing": "verbs", "first": "letters", "last": "letters"}


def records(**changes: Any) -> list[dict[str, Any]]:
    """Return two prompts of each of four labels, in two families."""
    return [
        {"text": f"{label} {word} ->", "label": label, "family": family, **changes}
        for label, family in OF_LABEL.items()
        for word in ("walk", "talk")
    ]


def test_the_column_is_found_named_or_switched_off() -> None:
    expected = tuple(family for family in OF_LABEL.values() for _ in range(2))
    table = read_prompts(records())
    assert table.family == expected
    assert read_table(parquet_bytes(table_of(table))).family == expected
    renamed = [{"set" if key == "family" else key: v for key, v in r.items()} for r in records()]
    assert read_prompts(renamed).family is None
    assert read_prompts(renamed, family="set").family == expected
    assert read_prompts(records(), family="none").family is None
    assert read_prompts(records(family="all")).family is None, "one family is none"
    assert read_prompts(records(), label="family").family is None, "the column is the label"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {0: {"family": "letters"}},
            "prompt 1: 'label' = 'past' is of the family 'verbs', but in prompt 0 of 'letters': "
            "should be of one",
        ),
        (
            {2: {"family": "ings"}, 3: {"family": "ings"}},
            "prompt 0: the family 'verbs' has the single value 'past' of 'label' in split all: "
            "should be two or more",
        ),
    ],
)
def test_what_is_no_family_is_refused_with_the_way_out(
    changed: dict[int, dict[str, str]], message: str
) -> None:
    rows = [row | changed.get(i, {}) for i, row in enumerate(records())]
    with pytest.raises(InputError) as caught:
        read_prompts(rows)
    assert str(caught.value) == f'{message}; prompts.family = "none" makes all prompts one family'
    assert read_prompts(rows, family="none").family is None


def test_each_split_has_each_family(tmp_path: Any) -> None:
    import json

    rows = records()
    paths = []
    for name, part in (("kept", rows), ("unseen", rows[:4])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part))
        paths.append(str(path))
    with pytest.raises(InputError, match="the split unseen has the family verbs, and the first sp"):
        read_prompts(files=paths)
