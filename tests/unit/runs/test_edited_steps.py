"""The steps that are edited if none is named."""

from types import SimpleNamespace
from typing import Any

import pytest

from tasklens.runs.edit_plan import default_steps


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({}, (0, 1, 2)),
        ({0: "untrained", 1: "base", 2: "tuned"}, (1, 2)),
        ({0: "untrained"}, (1, 2)),
    ],
    ids=["a training", "stages", "a twin"],
)
def test_an_untrained_twin_is_not_edited_unless_it_is_named(
    names: dict[int, str], expected: tuple[int, ...]
) -> None:
    run: Any = SimpleNamespace(intervenable_steps=(0, 1, 2), step_names=names)
    assert default_steps(run) == expected
    alone: Any = SimpleNamespace(intervenable_steps=(0,), step_names={0: "untrained"})
    assert default_steps(alone) == (0,)
