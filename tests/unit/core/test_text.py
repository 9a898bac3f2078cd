"""Values as JSON and as aligned rows."""

import json
from pathlib import Path

import numpy as np

from tasklens.core.text import aligned, json_text


def test_json_has_plain_values_and_null_for_what_it_lacks() -> None:
    document = {
        "numbers": (1, 2.5, True, None),
        "lost": [float("nan"), float("inf"), np.float64("nan")],
        "array": np.array([[1, 2], [3, 4]]),
        "scalar": np.int64(7),
        "path": Path("runs") / "first",
        3: "a number as key",
    }
    assert json.loads(json_text(document)) == {
        "numbers": [1, 2.5, True, None],
        "lost": [None, None, None],
        "array": [[1, 2], [3, 4]],
        "scalar": 7,
        "path": "runs/first",
        "3": "a number as key",
    }
    assert not json_text(document).endswith("\n")


def test_columns_are_aligned_without_spaces_at_the_end() -> None:
    assert aligned([["a", "bb", "c"], ["long", "", ""]]) == ["a     bb  c", "long"]
