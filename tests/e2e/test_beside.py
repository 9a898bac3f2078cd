"""Measuring while training goes on: the same files, earlier."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tasklens.runs.experiment import load_dataset, measure, plot, train_model
from tasklens.runs.measuring import Measurer

from e2e.conftest import Command, Finished, assert_same, changes, contents
from tasklens.core.workers import Processes
from tasklens.runs.directory import RunDir
from tasklens.runs.settings import TrainingRunSettings, read_settings


def test_checkpoints_are_measured_while_training_goes_on(
    command: Command, tiny: Finished, tmp_path: Path
) -> None:
    path = tmp_path / "tiny"
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    run, settings = RunDir(path), read_settings(path / "config.toml", TrainingRunSettings)
    begun: list[int] = []
    real = Measurer.begin

    def begin(self: Measurer, step: int) -> None:
        begun.append(step)
        real(self, step)

    with mock.patch.object(Measurer, "begin", begin):
        train_model(run, settings, beside=1)
        beside = {name.split("/")[1] for name in contents(path, "measured")}
        assert {f"step-{step:08d}" for step in begun} == beside
        assert len(begun) >= 2, "as many as are held at a time, at the least"
        first = begun.copy()
        measure(run, settings)
    assert begun[len(first) :] == [s for s in (0, 1, 2, 4, 8, 12) if s not in first]
    plot(run, settings)
    assert command("verify", path).status == 1  # which run ends with; so short a run holds nothing
    assert command("report", path).status == 0
    assert_same(path, tiny.path)


def test_states_held_for_the_workers_are_bounded(command: Command, tmp_path: Path) -> None:
    """Processes that cannot keep up leave checkpoints to stage measure."""
    path = tmp_path / "tiny"
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    run, settings = RunDir(path), read_settings(path / "config.toml", TrainingRunSettings)
    most = 0
    real = Measurer.begin

    def begin(self: Measurer, step: int) -> None:
        nonlocal most
        real(self, step)
        most = max(most, len(self._begun))

    with (
        mock.patch.object(Measurer, "begin", begin),
        mock.patch.object(Measurer, "collect", lambda self, *, wait: wait and self._begun.clear()),
    ):
        train_model(run, settings, beside=1)
    assert most == 2


@pytest.mark.parametrize(
    ("cores", "keys", "training", "beside"),
    [
        (2, {}, 2, 0),
        (2, {"threads": 1}, 1, 1),
        (8, {}, 6, 2),
        (8, {"workers": 1}, 6, 0),
        (16, {"threads": 4, "workers": 3}, 4, 3),
        (4, {"device": "cuda"}, 1, 3),
    ],
)
def test_cores_are_shared_between_training_and_measuring(
    cores: int, keys: dict[str, object], training: int, beside: int
) -> None:
    train = {key: value for key, value in keys.items() if key != "workers"}
    settings = TrainingRunSettings(workers=keys.get("workers", 0), train=train)
    with mock.patch("tasklens.runs.settings.default_workers", return_value=cores):
        assert settings.cores_training == training


def test_what_is_handed_to_workers_needs_no_torch(tiny: Finished, tmp_path: Path) -> None:
    """A worker imports what it runs; torch and matplotlib would take seconds of each start."""
    handed: list[tuple[Any, Any]] = []

    class Spy(Processes):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            handed.append((function, args))
            return super().submit(function, *args, **kwargs)

    run, settings = RunDir(tiny.path), read_settings(tiny.path / "config.toml", TrainingRunSettings)
    with Spy(1) as workers:
        Measurer(run, settings, load_dataset(run), workers).begin(settings.train.steps)
    assert len(handed) == 3 * 4 + 4, "a cell for each split and state, a probe for each state"
    file = tmp_path / "handed"
    file.write_bytes(pickle.dumps(handed))
    program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); print(*sys.modules)"
    words = [sys.executable, "-c", program, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tasklens.scoring.classifiers" in loaded
    assert loaded.isdisjoint({"torch", "matplotlib"})
