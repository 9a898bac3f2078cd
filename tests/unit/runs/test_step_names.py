"""Test which runs are a series of training steps, and what the steps of the others are called."""

from pathlib import Path
from typing import Any

import pytest

from tasklens.models.checkpoint_series import find_checkpoints
from tasklens.runs.directory import RunDir
from tasklens.runs.load_run import run_of
from tasklens.runs.settings import TrainingRunSettings
from tasklens.runs.step_names import names_of_steps


def facts_of(root: Path, *names: str, untrained: bool = False) -> list[dict[str, Any]]:
    """Return the facts about models in directories with some names, as stage states keeps them."""
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text("{}")
    checkpoints = find_checkpoints([str(root / name) for name in names], untrained=untrained)
    keys = ("step", "name", "untrained", "is_training_step")
    return [{key: getattr(each, key) for key in keys} for each in checkpoints]


@pytest.mark.parametrize(
    ("names", "untrained", "expected"),
    [
        (["model"], False, {1: "trained"}),
        (["model"], True, {0: "untrained", 1: "trained"}),
        (["checkpoint-200"], False, {200: "trained"}),
        (["checkpoint-200"], True, {0: "untrained", 200: "trained"}),
        (["checkpoint-0", "checkpoint-9"], False, {}),
        (["step5", "step9"], True, {}),
        (["epoch1", "epoch2"], False, {}),
        (["base", "tuned"], True, {0: "untrained", 1: "base", 2: "tuned"}),
        (["step5", "tuned"], False, {1: "step5", 2: "tuned"}),
    ],
)
def test_a_series_has_two_trained_models_with_training_steps(
    tmp_path: Path, names: list[str], untrained: bool, expected: dict[int, str]
) -> None:
    assert names_of_steps(facts_of(tmp_path, *names, untrained=untrained)) == expected


def test_models_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    names = names_of_steps(facts_of(tmp_path, "a/model", "b/model"))
    assert names == {1: str(tmp_path / "a/model"), 2: str(tmp_path / "b/model")}


def test_the_twin_is_not_guessed_from_its_name(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "mine, untrained")
    assert names_of_steps(facts) == {1: "trained"}


def test_a_training_run_is_a_series(tmp_path: Path) -> None:
    run = run_of(RunDir(tmp_path), TrainingRunSettings())
    assert run.is_series
    assert run.step_names == {}
