"""Paths that are no run, runs that are not whole or may only be read, and what is left behind."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from e2e.conftest import (
    Finished,
    Result,
    assert_refused,
    assert_same,
    call,
    changes,
    contents,
)
from e2e.stock import Stock
from tasklens.runs.directory import RunDir
from tasklens.runs.keep_checkpoints import CheckpointKeeper

READING = ("show", "verify", "report", "follow", "measure", "plot", "intervene")


def test_a_path_that_is_no_run_is_described(tiny: Finished, stock: Stock, tmp_path: Path) -> None:
    file, empty, sweep = (tmp_path / name for name in ("mine.txt", "empty", "sweep"))
    file.write_text("mine")
    empty.mkdir()
    (sweep / "runs").mkdir(parents=True)
    (sweep / "sweep.toml").touch()
    table = {
        tmp_path / "gone": "there is no such directory; make one with: tasklens run PRESET",
        file: "it is a file; make one with",
        empty: "it is empty; make one with",
        tiny.path / "scores.csv": f"it is in the run directory {tiny.path}; name that",
        tiny.path / "data": f"it is in the run directory {tiny.path}; name that",
        stock.models / "checkpoint-100": "it is a model; measure it with: tasklens probe ",
        sweep: f"it is the directory of a sweep; name one of the runs in {sweep}/runs",
    }
    for path, description in table.items():
        for command in READING if path == empty else ("show",):
            line = assert_refused(call(command, path), f"{path} is not a run directory: ")
            assert description in line
    assert list(empty.iterdir()) == []
    line = assert_refused(call("verify", tiny.path / "scores.csv"), "scores.csv is a file: ")
    assert "ends in .parquet" in line


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        ("run", "config.toml", ", which has the settings of the run, is gone; restore it, or run "),
        ("run", "manifest.json", " is gone; the files of the run are checked with it: restore it"),
        ("run", "data/tasks.json", " is gone, a file of what the model is asked; restore it, or "),
        ("probe", "data/prompts.parquet", " is gone, the labelled prompts; restore it, or run ag"),
    ],
)
def test_a_lost_file_is_named(
    kind: str, name: str, line: str, request: pytest.FixtureRequest
) -> None:
    copy: Path = request.getfixturevalue("copy" if kind == "run" else "probe_copy")
    (copy / name).unlink()
    for command in ("verify", "report", "measure"):
        assert "--resume" in assert_refused(call(command, copy), f"{copy / name}{line}")


def test_an_unfinished_run_is_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "run"
    real = CheckpointKeeper.keep

    def killed(keeper: CheckpointKeeper) -> None:
        real(keeper)
        if keeper.trainer.step == 8:
            raise KeyboardInterrupt

    with mock.patch.object(CheckpointKeeper, "keep", killed):
        assert call("run", "smoke", *changes(), "--out", path).status == 130
    for command in READING:
        assert_refused(
            call(command, path),
            f"{path}: stage train is not finished: training stopped at step 8 of 12; finish the "
            f"run: tasklens run ... --out {path} --resume",
        )


# --- A refused command leaves nothing ---


def test_a_refused_command_leaves_no_directory(
    tiny: Finished, stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = "x" * 300
    for arguments in (
        ["run", "smoke", "--set", "tasks.symbols=a", "--out", "a/b/c"],
        ["data", "smoke", "--set", "tasks.file=gone.json", "--out", "a/b/c"],
        ["data", "smoke", "--out", f"a/{long}"],
        ["probe", "gone", "--prompts", stock.prompts, "--out", "a/b/c"],
        ["probe", stock.models, "--prompts", "gone.jsonl", "--out", "a/b/c"],
        ["report", tiny.path, "--out", f"a/{long}.html"],
        ["verify", tiny.path, "--out", f"a/{long}.json"],
    ):
        assert call(*arguments).status == 2
        assert list(tmp_path.iterdir()) == [], arguments


# --- A run that may only be read ---

#: Of the capabilities of root, those by which it may read and write everything.
CAPABILITIES = (1, 2)
#: What `prctl` does: PR_CAPBSET_DROP.
DROP = 24


def without_capabilities() -> None:
    """Let the next program of this process respect permissions, even as root."""
    libc = ctypes.CDLL(None)
    for capability in CAPABILITIES:
        libc.prctl(DROP, capability)


PROGRAM = (
    "import json, sys; from e2e.conftest import call; "
    "results = [call(*arguments) for arguments in json.load(sys.stdin)]; "
    "json.dump([[each.status, each.out, each.err] for each in results], sys.stdout)"
)


def call_as_another_user(*commands: list[Any]) -> list[Any]:
    """Run commands, in one process, as a user who has no more than the permissions of files."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([list(map(str, arguments)) for arguments in commands]),
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=without_capabilities,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.long
def test_a_run_is_read_and_reported_by_a_user_who_may_not_write(copy: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (copy / "verdict.json").unlink()
    before = contents(copy)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    show, report, verify, refused, measured = call_as_another_user(
        ["show", copy],
        ["report", copy, "--out", page],
        ["verify", copy],
        ["report", copy],
        ["measure", copy, "--set", "clusters.n_init=2"],
    )
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    assert show[0] == 0
    assert report == [0, f"{page}\n", ""]
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert verify[0] == 1, "the findings are not tested after 12 steps"
    assert verify[2].endswith("the verdict is only printed; or give --out\n")
    assert refused[::2] == [
        2,
        f"tasklens: error: {copy} cannot be written by this user; name a file with --out\n",
    ]
    assert measured[::2] == [2, f"tasklens: error: cannot write {copy}: Permission denied\n"]
    assert contents(copy) == before


# --- Workers that are killed ---


def killed(*_: object) -> None:
    """End the process of a worker, as the kernel does if memory is short."""
    os._exit(1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("function", "gone"),
    [
        ("frame_maker.state_frames", "frames.safetensors"),
        ("stage_measure.measure_state", "measured"),
        ("stage_intervene.edit_state", "interventions"),
    ],
)
def test_a_worker_that_is_killed_is_one_line_and_nothing_is_lost(
    tiny: Finished, copy: Path, function: str, gone: str
) -> None:
    remove = shutil.rmtree if (copy / gone).is_dir() else os.unlink
    remove(copy / gone)

    def again(workers: int) -> Result:
        return call("run", "smoke", *changes(workers=workers), "--out", copy, "--resume")

    with mock.patch(f"tasklens.runs.{function}", killed):
        result = again(2)
    *others, line = result.err.splitlines()
    assert result.status == 2
    assert line.startswith("tasklens: error: a worker process was killed, perhaps")
    assert all(other.endswith("made again") for other in others), "the edits that are gone"
    RunDir(copy).check(copy / "scores.parquet")
    assert again(1).status == 0
    assert_same(copy, tiny.path)
