"""A run that was interrupted and resumed has the bytes of an uninterrupted run."""

import errno
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from conftest import HANG, FullDisk
from e2e.conftest import (
    Command,
    Finished,
    assert_refused,
    assert_same,
    changes,
    contents,
    times,
    without_progress,
)
from e2e.processes import of_session, start_python, wait_for
from e2e.stopping import Stop
from tasklens.models.training import StepLog, Trainer
from tasklens.models.training_batches import TrainingBatch
from tasklens.runs.keep_checkpoints import CheckpointKeeper


def count(path: Path) -> int:
    """Return the number of directories that have their final names."""
    return len(list(path.glob("step-*")))


def stopped(stop: Stop, *arguments: str | Path) -> str:
    """Run ``tasklens ...`` until it stops, with its workers; return what it printed as errors."""
    process = start_python(*stop.program(), *arguments)
    try:
        error = process.communicate(timeout=HANG)[1]
        wait_for(lambda: not of_session(process.pid))
    finally:
        for left in of_session(process.pid):
            left.kill()
    assert process.returncode == (130 if stop.signal == signal.SIGINT else -stop.signal), error
    return without_progress(error)


@pytest.mark.long
def test_a_run_stopped_several_times_ends_in_the_same_bytes(
    tiny: Finished, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / tiny.path.name

    def run_by(workers: int) -> list[str]:
        return ["run", "smoke", *changes(workers=workers), "--out", str(path), "--resume"]

    stops = [
        Stop(str(path), signal.SIGKILL, steps=10),  # two steps after a checkpoint
        Stop(str(path), signal.SIGKILL, steps=12, measured=1, skip=3),
        Stop(str(path), signal.SIGINT, states=6, measured=4),
    ]
    for stop in stops:
        err = stopped(stop, *run_by(2))
        assert "Traceback" not in err
        assert not (path / "scores.parquet").exists()
    assert err == "tasklens: interrupted; resume with --resume\n"
    assert count(path / "measured") < count(path / "states") == 6
    result = command(*run_by(1))
    assert result.status == 0, result.err
    assert_same(path, tiny.path)
    assert list(path.rglob(".tasklens-*")) == []


@pytest.mark.long
def test_workers_end_with_the_process_that_was_killed(copy: Path) -> None:
    shutil.rmtree(copy / "measured")
    stop = Stop(str(copy), signal.SIGKILL, measured=1, alone=True)
    stopped(stop, "measure", copy, "--set", "workers=2")


def test_a_finished_run_is_left_alone(copy: Path, command: Command) -> None:
    before, old = times(copy), contents(copy)
    result = command("run", "smoke", *changes(), "--out", copy, "--resume")
    assert result.status == 0
    assert result.out.splitlines()[-1] == str(copy / "figures" / "figure1.png")
    assert contents(copy) == old
    assert {name for name, at in times(copy).items() if before[name] != at} <= {"config.toml"}


@pytest.mark.parametrize(
    "name",
    [
        *("data/val.parquet", "metrics.jsonl", "scores.csv", "figures/figure1.pdf"),
        *("states/step-00000004/block1.npy", "measured/step-00000002/scores.parquet"),
        *("states/step-00000012/answer-val.npy", "checkpoints/step-00000008/config.json"),
        "checkpoints/step-00000008/model.safetensors",
    ],
)
def test_a_file_that_is_gone_is_made_again(
    copy: Path, command: Command, tiny: Finished, name: str
) -> None:
    (copy / name).unlink()
    result = command("run", "smoke", *changes(), "--out", copy, "--resume")
    assert result.status == 0, result.err
    assert (copy / name).exists()
    assert_same(copy, tiny.path)


def test_a_stage_that_was_stopped_while_made_again_is_not_finished(
    copy: Path, command: Command, tiny: Finished
) -> None:
    shutil.rmtree(copy / "states")
    with full_after(20):
        result = command("train", copy)
    assert result.status == 2
    assert "no space left on the device" in result.err
    for stage in ("measure", "plot"):
        assert_refused(command(stage, copy), f"{copy}: stage train is not finished")
    assert command("run", "smoke", *changes(), "--out", copy, "--resume").status == 0
    assert_same(copy, tiny.path)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        *("states/step-00000002/block1.npy", "checkpoints/step-00000004/model.safetensors"),
        *("metrics.jsonl", "resume/step-00000004.safetensors"),
    ],
)
def test_an_interrupted_training_trusts_nothing_that_it_has_not_checked(
    command: Command, tiny: Finished, tmp_path: Path, name: str
) -> None:
    path = tmp_path / tiny.path.name
    run = ("run", "smoke", *changes(), "--out", path)
    real = CheckpointKeeper.keep

    def killed(keeper: CheckpointKeeper) -> None:
        older = {file: file.read_bytes() for file in (path / "resume").glob("*")}
        real(keeper)
        if keeper.trainer.step == 8:
            for file, content in older.items():  # as if the removal had not been reached
                file.write_bytes(content)
            raise KeyboardInterrupt

    with mock.patch.object(CheckpointKeeper, "keep", killed):
        assert command(*run).status == 130
    assert {file.name for file in (path / "resume").iterdir()} == {
        "step-00000004.safetensors", "step-00000008.safetensors",
    }  # fmt: skip
    content = (path / name).read_bytes()
    (path / name).write_bytes(content.replace(b"1", b"2", 1))
    result = command(*run, "--resume")
    assert result.status == 0, result.err
    damaged = not name.startswith("resume/")
    assert (f"{path / name} is gone or damaged; training again" in result.err) == damaged
    assert_same(path, tiny.path)
    assert [file.name for file in (path / "resume").iterdir()] == ["step-00000012.safetensors"]


def test_a_directory_in_place_of_the_metrics_is_named(copy: Path, command: Command) -> None:
    (copy / "metrics.jsonl").unlink()
    (copy / "metrics.jsonl").mkdir()
    result = command("run", "smoke", *changes(), "--out", copy, "--resume")
    assert_refused(result, f"{copy / 'metrics.jsonl'} is not a file; remove it and run")


# --- A full disk ---


def full_after(n: float) -> AbstractContextManager[FullDisk]:
    return mock.patch.object(os, "fsync", FullDisk(n))


SMALL = changes(train__steps=4, train__warmup_steps=2, checkpoints__every=4)


@pytest.fixture(scope="module")
def small(command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run of four steps, and its number of syncs to the disk."""
    path = tmp_path_factory.mktemp("whole") / "small"
    with full_after(float("inf")) as disk:
        assert command("run", "smoke", *SMALL, "--out", path).status == 0
    return path, disk.calls


def test_a_checkpoint_is_synced_once_for_each_file_and_rename_and_the_manifest(
    command: Command, tmp_path: Path
) -> None:
    calls, path = {}, tmp_path / "small"
    assert command("data", "smoke", *SMALL, "--out", path).status == 0
    for stage in ("train", "measure"):
        with full_after(float("inf")) as disk:
            assert command(stage, path).status == 0
        calls[stage] = disk.calls
    n = len(list((path / "states").iterdir()))
    assert n == 4
    # With each its training state and its lines of the metrics; three directories are renamed into.
    files = len(contents(path, "states", "checkpoints")) + 2 * n
    end = 2  # the manifest has the hash of the metrics, then the mark of the stage
    assert calls["train"] <= files + 3 * n + n + end
    # Before them the settings, after them the table, as Parquet and as CSV, and the mark.
    assert calls["measure"] <= len(contents(path, "measured")) + n + n + 5 + 2 * 3 + 1


def full_if(due: Callable[..., bool], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that fails as on a full disk if a condition holds."""

    def call(*arguments: Any, **options: Any) -> Any:
        if due(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    return call


@pytest.mark.long
@pytest.mark.parametrize("when", [0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.99, "unrecorded", "metrics"])
def test_a_full_disk_is_one_line_and_loses_nothing(
    small: tuple[Path, int], command: Command, tmp_path: Path, when: float | str
) -> None:
    """After a share of the syncs, before the last checkpoint is recorded, or in the metrics."""
    whole, calls = small
    assert calls > 100
    path, steps = tmp_path / "small", itertools.count(1)
    last = path / "resume" / "step-00000004.safetensors"
    disk: AbstractContextManager[object]
    if when == "unrecorded":  # complete, but the manifest does not have the hashes of its files
        disk = mock.patch.object(os, "fsync", full_if(lambda _: last.exists(), os.fsync))
    elif when == "metrics":

        def third(value: object) -> bool:
            return isinstance(value, dict) and "grad_norm" in value and next(steps) == 3

        disk = mock.patch.object(json, "dumps", full_if(third, json.dumps))
    else:
        disk = full_after(int(float(when) * calls))
    with disk:
        result = command("run", "smoke", *SMALL, "--out", path)
    at = path / "metrics.jsonl" if when == "metrics" else ""
    assert_refused(result, f"no space left on the device while writing {at}", "--resume")
    assert last.exists() or when != "unrecorded"
    before = contents(path)
    result = command("run", "smoke", *SMALL, "--out", path, "--resume")
    assert result.status == 0, result.err
    assert_same(path, whole)
    assert list(path.rglob(".tasklens-*")) == []
    finished = ("data/", "checkpoints/step-", "states/step-")
    kept = {name: content for name, content in before.items() if name.startswith(finished)}
    assert {name: contents(path)[name] for name in kept} == kept


def test_a_disk_that_is_too_small_is_refused_before_training(
    command: Command, tmp_path: Path
) -> None:
    usage = mock.Mock(free=1000)
    path = tmp_path / "run"
    with mock.patch.object(shutil, "disk_usage", return_value=usage):
        result = command("run", "smoke", *SMALL, "--out", path)
    assert_refused(result, f"{path}: the run takes about ", "the disk has 0 MB free", "--out")
    assert not (path / "checkpoints").exists()
    assert command("run", "smoke", *SMALL, "--out", path, "--resume").status == 0


@pytest.mark.long
def test_a_run_resumes_in_the_precision_that_it_began_in(command: Command, tmp_path: Path) -> None:
    keys = ("run", "smoke", *changes(model__n_embd=128, train__precision="auto"), "--out")
    whole, stopped = tmp_path / "whole" / "run", tmp_path / "stopped" / "run"
    real = Trainer.take_step

    def interrupted(self: Trainer, batch: TrainingBatch) -> StepLog:
        if self.step == 9:
            raise KeyboardInterrupt
        return real(self, batch)

    with mock.patch("tasklens.models.training.multiplies_bf16", return_value=True):
        assert command(*keys, whole).status == 0
        with mock.patch.object(Trainer, "take_step", interrupted):
            assert command(*keys, stopped).status == 130
    with mock.patch("tasklens.models.training.multiplies_bf16", return_value=False):
        assert command(*keys, stopped, "--resume").status == 0
    assert_same(whole, stopped)
    mark = json.loads((stopped / "manifest.json").read_text())["stages"]["train"]
    assert mark["precision"] == "bf16"
    assert mark["device"] == "cpu"
