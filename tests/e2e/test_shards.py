"""A sweep in shards, as an array job runs it without Ray, gathered into one table."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock, Timeout

from conftest import HANG
from e2e.conftest import Finished, Result, assert_refused, call, scores_of, without_progress
from e2e.processes import wait_for
from e2e.sweeps import listed, outputs, sweep
from tasklens.runs.run import Run
from tasklens.runs.stage_measure import measure
from tasklens.runs.sweep import PATIENCE, point_run
from tasklens.runs.sweep_file import read_sweep

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("n", [3, 5])
def test_all_shards_are_the_sweep(
    swept: Finished, sweep_file: Path, tmp_path: Path, n: int
) -> None:
    """Run four runs in shards of 2, 1 and 1, or of 1, 1, 1, 1 and 0."""
    path = tmp_path / "out"
    names = list(listed(sweep_file))
    seen: list[str] = []
    for i in range(1, n + 1):
        result = sweep(sweep_file, path, "--shard", f"{i}/{n}")
        mine = names[i - 1 :: n]
        assert (result.status, result.err) == (0, "")
        assert result.out == f"shard {i}/{n}: {len(mine)} of {len(mine)} runs are done\n"
        seen += mine
        assert {run.name for run in (path / "runs").iterdir()} == set(seen)
    assert sorted(seen) == sorted(names)
    left = {"runs", "sweep.toml", "manifest.json", ".lock"}
    assert {p.name for p in path.iterdir()} == left, "a shard makes no table"
    result = call("gather", sweep_file, "--out", path)
    assert (result.status, result.err) == (0, "")
    assert result.out == swept.result.out.replace(str(swept.path), str(path))
    assert outputs(path) == outputs(swept.path)


def test_shards_run_side_by_side(swept: Finished, sweep_file: Path, tmp_path: Path) -> None:
    """Run a shard while another process holds a run of the other shard."""
    path = tmp_path / "out"
    first = read_sweep(sweep_file).points[0]
    with point_run(path, first).directory.locked():
        result = sweep(sweep_file, path, "--shard", "2/2")
    assert (result.status, result.err) == (0, "")
    assert point_run(path, first).directory.is_new()


def test_a_run_that_another_process_holds_is_waited_for(sweep_file: Path, tmp_path: Path) -> None:
    """Release the first run during the wait; a run that stays locked is named."""
    path = tmp_path / "out"
    points = read_sweep(sweep_file).points
    real, waits = FileLock.acquire, []
    with contextlib.ExitStack() as held:
        held.enter_context(point_run(path, points[0]).directory.locked())

        def acquire(self: FileLock, *arguments: Any, **options: Any) -> Any:
            if self.timeout > 0 and Path(self.lock_file).parent.name == points[0].name:
                with pytest.raises(Timeout):
                    real(self, timeout=0)
                waits.append(self.timeout)
                held.close()
            return real(self, *arguments, **options)

        with mock.patch.object(FileLock, "acquire", acquire):
            result = sweep(sweep_file, path, "--shard", "1/4")
    assert (result.status, result.err) == (0, "")
    assert waits == [PATIENCE]
    with (
        mock.patch("tasklens.runs.sweep.PATIENCE", 0.2),
        point_run(path, points[1]).directory.locked(),
    ):
        result = sweep(sweep_file, path, "--shard", "2/4")
    assert result.status == 1
    assert "is in use by another tasklens process" in result.err
    assert len(result.err.splitlines()) == 1


def test_gathering_names_the_runs_that_are_not_done(
    swept: Finished, sweep_file: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(swept.path, tmp_path / "out"))
    names = list(listed(sweep_file))
    shutil.rmtree(path / "runs" / names[1])
    (path / "runs" / names[3] / "scores.parquet").unlink()
    result = call("gather", sweep_file, "--out", path)
    assert result.status == 1
    assert result.err.splitlines() == [f"tasklens: run {names[i]} is not done" for i in (1, 3)]
    assert {row["run"] for row in scores_of(path)} == {names[0], names[2]}
    shutil.rmtree(path / "runs")
    assert_refused(
        call("gather", sweep_file, "--out", path), f"{path}: no run of the sweep is done"
    )


def test_what_is_done_is_gathered_while_the_sweep_is_at_work(
    sweep_file: Path, tmp_path: Path
) -> None:
    """Gather during the measurement of the third of four runs."""
    path, names = tmp_path / "out", list(listed(sweep_file))
    gathered: list[Result] = []
    points: list[set[str]] = []

    def stage(run: Run) -> None:
        if run.directory.path.name == names[2]:
            gathered.append(call("gather", sweep_file, "--out", path))
            points.append({row["run"] for row in scores_of(path / "points.parquet")})
        measure(run)

    with mock.patch("tasklens.runs.sweep.measure", stage):
        assert sweep(sweep_file, path).status == 0
    assert [result.status for result in gathered] == [1]
    assert gathered[0].err.splitlines() == [
        f"tasklens: run {name} is not done" for name in names[2:]
    ]
    assert points == [{*names[:2]}]
    assert {row["run"] for row in scores_of(path / "points.parquet")} == {*names}


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/0", "x", "1/2/3", "-1/3"])
def test_a_shard_out_of_range_is_refused(sweep_file: Path, tmp_path: Path, shard: str) -> None:
    result = sweep(sweep_file, tmp_path / "out", f"--shard={shard}")
    assert_refused(result, f"--shard {shard}: should be i/n with i from 1 to n")
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_is_named_and_its_traceback_is_in_the_log(
    sweep_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    with mock.patch("tasklens.runs.sweep.make_data", side_effect=MemoryError("too\nlarge")):
        result = sweep(sweep_file, path, "--shard", "1/4")
    assert (result.status, result.out) == (1, "shard 1/4: 0 of 1 runs are done\n")
    (line,) = result.err.splitlines()
    (run,) = (path / "runs").iterdir()
    log = run / "log.txt"
    failure = f"failed: MemoryError: too large (see {log})"
    assert line == f"tasklens: run {run.name} {failure}"
    assert "Traceback (most recent call last)" in log.read_text()


# --- The examples ---


@pytest.mark.parametrize("name", ["slurm_array.sh", "slurm_ray.sh", "slurm_torchrun.sh"])
def test_the_scripts_are_bash_and_end_with_their_command(name: str) -> None:
    subprocess.run(["bash", "-n", EXAMPLES / name], check=True)
    text = (EXAMPLES / name).read_text()
    assert text.startswith("#!/bin/bash\n")
    assert "#SBATCH --requeue" in text
    assert "scontrol requeue" in text


@pytest.mark.long
def test_the_array_job_runs_its_shard_and_asks_to_be_queued_again(
    swept: Finished, sweep_file: Path, tmp_path: Path
) -> None:
    """Run the script as SLURM does, with a `scontrol` that records its arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    begun, asked = tmp_path / "begun", tmp_path / "asked"
    scontrol = programs / "scontrol"
    scontrol.write_text(f'#!/bin/bash\necho "$@" >> {asked}\n')
    tasklens = programs / "tasklens"
    # The program begins once the script has handled the signal, which is sent once it waits.
    tasklens.write_text(
        f"#!/bin/bash\ntouch {begun}\nwhile [ ! -e {asked} ]; do sleep 0.1; done\n"
        f'exec {sys.executable} -m tasklens "$@"\n'
    )
    for program in (scontrol, tasklens):
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_ARRAY_JOB_ID": "17",
        "SLURM_ARRAY_TASK_ID": "4",
        "SLURM_ARRAY_TASK_COUNT": "4",
        "SLURM_CPUS_PER_TASK": "1",
    }
    path = tmp_path / "out"
    arguments = ["bash", str(EXAMPLES / "slurm_array.sh"), str(sweep_file), str(path)]
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(begun.exists, process)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=HANG)
    assert (process.returncode, without_progress(err)) == (0, "")
    assert out == "shard 4/4: 1 of 1 runs are done\n"
    assert asked.read_text() == "requeue 17_4\n"
    (name,) = (run.name for run in (path / "runs").iterdir())
    assert name == list(listed(sweep_file))[3]
    mine, theirs = outputs(path / "runs" / name), outputs(swept.path / "runs" / name)
    assert mine == theirs
