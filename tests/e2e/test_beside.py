"""Test what is done at the same time: the files are the same, earlier."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from e2e.conftest import Command, Finished, assert_same, changes, contents
from tasklens.core.workers import LOCAL, Processes
from tasklens.runs import pipeline
from tasklens.runs.frame_maker import FrameMaker
from tasklens.runs.load_run import load_run
from tasklens.runs.settings import TrainingRunSettings
from tasklens.runs.stage_intervene import intervene_for_figure
from tasklens.runs.stage_measure import Measurer, measure
from tasklens.runs.stage_plot import plot
from tasklens.runs.stage_train import cores_left, train
from tasklens.runs.training_run import TrainingRun


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the steps that a `Measurer` begins."""
    steps: list[int] = []
    real = Measurer.begin

    def begin(self: Measurer, step: int) -> None:
        steps.append(step)
        real(self, step)

    monkeypatch.setattr(Measurer, "begin", begin)
    return steps


@pytest.fixture
def prepared(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingRun:
    """Return a run with data, on a machine with two cores, one of which trains."""
    path = tmp_path / "tiny"
    assert command("data", "smoke", *changes(), "--out", path).status == 0
    monkeypatch.setattr("tasklens.runs.stage_train.cores_left", lambda *_: 1)
    run = load_run(path)
    assert isinstance(run, TrainingRun)
    return run


@pytest.mark.long
def test_checkpoints_are_measured_during_training(
    command: Command, tiny: Finished, prepared: TrainingRun, begun: list[int]
) -> None:
    path = prepared.directory.path
    train(prepared, measuring=True)
    beside = {name.split("/")[1] for name in contents(path, "measured")}
    assert {f"step-{step:08d}" for step in begun} == beside
    assert len(begun) >= 2, "as many as are held at a time, at the least"
    first = begun.copy()
    measure(prepared)
    intervene_for_figure(prepared)
    assert begun[len(first) :] == [s for s in (0, 1, 2, 4, 8, 12) if s not in first]
    plot(prepared)
    assert command("verify", path).status == 1  # which run ends with; so short a run holds nothing
    assert command("report", path).status == 0
    assert_same(path, tiny.path)


@pytest.mark.long
def test_checkpoints_held_for_the_workers_are_bounded(
    prepared: TrainingRun, begun: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that cannot keep up leave checkpoints to stage measure."""
    monkeypatch.setattr(Measurer, "keep_done", lambda self: None)
    train(prepared, measuring=True)
    assert begun == [0, 1]


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
    affinity = mock.Mock(return_value=range(cores))
    with mock.patch.object(os, "sched_getaffinity", affinity, create=True):
        assert (settings.cores_training, cores_left(settings, LOCAL)) == (training, beside)


@pytest.mark.long
def test_frames_are_made_while_the_figures_are_drawn(
    command: Command, tiny: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny"
    arguments = ("run", "smoke", *changes(workers=2), "--out", path)
    events: list[str] = []
    begin = FrameMaker.begin

    def begins(self: FrameMaker) -> None:
        events.append("frames")
        begin(self)

    def killed(run: TrainingRun) -> None:
        events.append("figures")
        raise KeyboardInterrupt

    monkeypatch.setattr(FrameMaker, "begin", begins)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "plot", killed)
        assert command(*arguments).status == 130
    assert events == ["frames", "figures"]
    assert not (path / "frames.safetensors").exists()
    assert command(*arguments, "--resume").status == 0
    mine, theirs = contents(path), contents(tiny.path)
    assert mine.pop("config.toml") != theirs.pop("config.toml"), "another number of workers"
    assert mine == theirs


def test_what_is_handed_to_workers_needs_no_torch(copy: Path, tmp_path: Path) -> None:
    """A worker imports what it runs; torch and matplotlib would take seconds of each start."""
    handed: list[tuple[Any, Any]] = []

    class Spy(Processes):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            handed.append((function, args))
            return super().submit(function, *args, **kwargs)

    run = load_run(copy)
    run.directory.unfinish("report")
    with Spy(1) as workers:
        Measurer(run, workers).begin(run.steps[-1])
        assert len(handed) == 4, "a job for each hidden state"
        FrameMaker(run, workers).begin()
    assert len(handed) == 4 + 3 + 3 * 4, "for each split, and for each of its hidden states"
    file = tmp_path / "handed"
    file.write_bytes(pickle.dumps(handed))
    program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); print(*sys.modules)"
    command = [sys.executable, "-c", program, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"tasklens.scoring.classifiers", "tasklens.clustering.map_frames"} <= loaded
    assert loaded.isdisjoint({"torch", "matplotlib"})
