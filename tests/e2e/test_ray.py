"""The Ray engine on a cluster of several nodes: equal bytes, failures and refusals."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import safetensors.numpy

from conftest import HANG
from e2e import ray_cluster
from e2e.conftest import (
    Command,
    Finished,
    Probed,
    assert_refused,
    assert_same,
    changes,
    times,
    without_progress,
)
from e2e.processes import of_session, start, wait_for
from e2e.stock import Stock
from e2e.sweeps import AXES, outputs, touched, write_sweep
from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.files import sha256
from tasklens.core.ray_workers import RETRIES, RayWorkers, connect
from tasklens.core.workers import start_workers
from tasklens.runs.directory import RunDir
from tasklens.runs.sweep import run_point
from tasklens.runs.sweep_file import read_sweep

#: Variables for Ray: it reports no usage, and it notices a lost node after a second.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "300",
    "RAY_health_check_failure_threshold": "3",
    # A node that is lost refuses at once; one that is only busy is waited for.
    "RAY_health_check_timeout_ms": str(1000 * HANG),
    "RAY_gcs_server_port_wait_time_s": str(HANG),
}


class TheCluster:
    """A cluster in another process, and its address."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ray_cluster.__file__],
            env=os.environ | QUIET,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",  # as on a cluster, whose nodes do not start in the user's directory
            start_new_session=True,
        )
        assert self.process.stdout
        self.engine = f"ray:{self.process.stdout.readline().strip()}"

    def order(self, word: str) -> None:
        """Send the cluster a command (`drop` or `add`), and wait until it is done."""
        assert self.process.stdin
        assert self.process.stdout
        print(word, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        """End the cluster and all processes that it has started."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.communicate(timeout=HANG)
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[TheCluster]:
    """Three nodes of a core each, to which this process is connected meanwhile."""
    import ray

    cluster = TheCluster()
    try:
        connect(cluster.engine.removeprefix("ray:"))
        yield cluster
    finally:
        ray.shutdown()
        cluster.close()


@pytest.fixture
def workers(cluster: TheCluster) -> Iterator[RayWorkers]:
    with start_workers(cluster.engine, 0) as these:
        assert isinstance(these, RayWorkers)
        yield these


# --- Items ---


def test_items_come_back_with_their_results_their_own_errors_and_what_they_print(
    workers: RayWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    def root(x: float) -> float:
        import sys

        if x < 0:
            raise InputError(f"{x}: should be positive")
        print("tasklens: slower", file=sys.stderr)
        return float(x**0.5)

    assert workers.remote
    outcomes = {outcome.item: outcome for outcome in workers.outcomes(root, [4.0, -1.0, 9.0])}
    assert (outcomes[4.0].result, outcomes[9.0].result) == (2.0, 3.0)
    assert isinstance(outcomes[-1.0].error, InputError)
    assert str(outcomes[-1.0].error) == "-1.0: should be positive"
    assert capsys.readouterr() == ("", "tasklens: slower\n" * 2)
    assert list(workers.map(root, [1.0, 16.0, 4.0])) == [1.0, 4.0, 2.0], "in order"


def test_arrays_can_be_written_to_as_in_any_process(workers: RayWorkers) -> None:
    """Arrays in the object store are read-only, and the kernels are compiled for others."""

    def doubled(item: tuple[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        name, x = item
        assert name == "x"
        x *= 2
        return x

    x = np.arange(300_000, dtype=np.float32).reshape(3, -1)
    np.testing.assert_array_equal(workers.submit(doubled, ("x", x)).result(), 2 * x)
    assert x[0, 1] == 1, "which is a copy"


def test_items_go_to_all_nodes(workers: RayWorkers, tmp_path: Path) -> None:
    """Each item waits until one item runs on each node."""
    n_nodes = ray_cluster.N_NODES

    def node(i: int) -> str:
        import time

        import ray

        (tmp_path / str(i)).touch()
        end = time.monotonic() + HANG
        while len(list(tmp_path.iterdir())) < n_nodes and time.monotonic() < end:
            time.sleep(0.01)
        return str(ray.get_runtime_context().get_node_id())

    assert workers.count == n_nodes
    assert len({result for _, result, _ in workers.outcomes(node, range(n_nodes))}) == n_nodes


def test_no_more_items_at_a_time_than_workers(cluster: TheCluster, tmp_path: Path) -> None:
    def alone(i: int) -> int:
        import time

        taken = tmp_path / "taken"
        taken.mkdir()  # this fails if another item has it
        time.sleep(0.05)
        taken.rmdir()
        return i

    with start_workers(cluster.engine, 1) as workers:
        assert workers.count == 1
        outcomes = list(workers.outcomes(alone, range(6)))
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert sorted(outcome.result for outcome in outcomes) == [*range(6)]


def test_an_item_whose_worker_is_killed_is_begun_again_or_given_up(
    workers: RayWorkers, tmp_path: Path
) -> None:
    def dies(i: int) -> int:
        import os
        import signal

        tries = tmp_path / str(i)
        with tries.open("a") as file:
            file.write("x")
        if i == 2 or (i % 3 == 0 and tries.read_text() == "x"):
            os.kill(os.getpid(), signal.SIGKILL)
        return i * i

    outcomes = {item: (result, error) for item, result, error in workers.outcomes(dies, range(9))}
    error = outcomes.pop(2)[1]
    assert outcomes == {i: (i * i, None) for i in (0, 1, *range(3, 9))}
    assert isinstance(error, InputError)
    assert re.match(
        rf"^its worker died {RETRIES + 1} times \(killed, or out of memory\)", str(error)
    )
    assert "\n" not in str(error)
    tries = [(tmp_path / str(i)).read_text() for i in range(9)]
    assert [tries[i] for i in (0, 2, 3, 6)] == ["xx", "x" * (RETRIES + 1), "xx", "xx"]


def test_items_of_a_lost_node_begin_again_on_another_node(
    cluster: TheCluster, workers: RayWorkers, tmp_path: Path
) -> None:
    def slow(i: int) -> int:
        import os
        import time

        (tmp_path / f"{i}-{os.getpid()}").touch()
        while not (tmp_path / "lost").exists():
            time.sleep(0.01)
        return -i

    futures = [workers.submit(slow, i) for i in range(ray_cluster.N_NODES)]
    wait_for(lambda: len(list(tmp_path.iterdir())) == ray_cluster.N_NODES)
    cluster.order("drop")
    (tmp_path / "lost").touch()
    assert [future.result(timeout=HANG) for future in futures] == [0, -1, -2]
    assert len(list(tmp_path.iterdir())) == ray_cluster.N_NODES + 2, "one of them was begun twice"
    cluster.order("add")


def test_items_that_no_node_has_room_for_are_refused(cluster: TheCluster) -> None:
    most = "at most they have 1 CPUs and 0 GPUs$"
    for needs, wanted in (
        ({"cpus": 2}, "2 CPUs and 0 GPUs"),
        ({"gpus": 0.5}, "1 CPUs and 0.5 GPUs"),
    ):
        with pytest.raises(InputError, match=f"^no node of the Ray cluster has {wanted}; {most}"):
            start_workers(cluster.engine, 0, **needs)


# --- Commands ---


def test_a_run_is_the_same_bytes(
    cluster: TheCluster, tiny: Finished, command: Command, tmp_path: Path
) -> None:
    path = tmp_path / tiny.path.name
    result = command("run", "smoke", *changes(), "--out", path, "--engine", cluster.engine)
    assert result.status == 0
    assert result.err.startswith(f"tasklens: {path} will take about ")
    own = "tasklens: interventions: "
    others = [line for line in result.err.splitlines() if not line.startswith(own)]
    assert len(others) == 1, "Ray prints nothing"
    assert result.out == tiny.result.out.replace(str(tiny.path), str(path))
    assert_same(path, tiny.path)
    before = times(path / "measured")
    again = command("measure", path, "--engine", cluster.engine)
    assert (again.status, again.err) == (0, "")
    assert times(path / "measured") == before


def test_a_probe_is_the_same_bytes(
    cluster: TheCluster, probed: Probed, stock: Stock, command: Command, tmp_path: Path
) -> None:
    """Three replicas of each model read the prompts, if the cluster has as many nodes."""
    path = tmp_path / probed.path.name
    result = command(*stock.command("--out", path, "--engine", cluster.engine))
    assert result.status == 0, result.err
    assert result.out == probed.result.out.replace(str(probed.path), str(path))
    assert result.err == probed.result.err
    assert_same(path, probed.path, "measured", "data", "figures", "scores.parquet", "scores.csv")
    alone = tmp_path / "alone" / probed.path.name
    model = stock.models / "checkpoint-100"
    arguments = stock.command("--out", alone, "--engine", cluster.engine, models=model)
    assert command(*arguments).status == 0
    assert len(list((alone / "states").glob("*/shard-*"))) == ray_cluster.N_NODES
    labels, theirs = (
        safetensors.numpy.load_file(p / "measured" / "step-00000100" / "clusters.safetensors")
        for p in (alone, probed.path)
    )
    assert labels.keys() == theirs.keys()
    for key, value in labels.items():
        np.testing.assert_array_equal(value, theirs[key])


def test_a_sweep_is_the_same_bytes_also_by_a_relative_path(
    cluster: TheCluster,
    swept: Finished,
    sweep_file: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run with a path relative to the directory of the driver, in which no node runs."""
    monkeypatch.chdir(tmp_path)
    result = command("sweep", sweep_file, "--out", "out", "--engine", cluster.engine)
    assert (result.status, result.err) == (0, "")
    assert outputs(tmp_path / "out") == outputs(swept.path)
    before = touched(tmp_path / "out")
    assert command("sweep", sweep_file, "--out", "out", "--engine", cluster.engine).status == 0
    assert touched(tmp_path / "out") == before, "nothing is done twice"


def test_edits_are_the_same_bytes(
    cluster: TheCluster, copy: Path, command: Command, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(copy, tmp_path / "ray" / copy.name))
    edits = ("--edit", "swap", "--edit", "erase_random", "--set", "workers=3")
    assert command("intervene", copy, *edits[:-2]).status == 0
    result = command("intervene", other, *edits, "--engine", cluster.engine)
    assert result.status == 0, result.err
    assert_same(copy, other, "interventions", "interventions.parquet", "verdict.json")


def write(run: RunDir, path: Path, content: bytes) -> None:
    """Write a file, and its hash into the manifest."""
    path.write_bytes(content)
    with run.batch() as manifest:
        manifest["files"][path.relative_to(run.path).as_posix()] = sha256(content)


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.long)])
def test_a_cell_that_fails_is_named_and_tried_again(
    request: pytest.FixtureRequest, tiny: Finished, command: Command, tmp_path: Path, engine: str
) -> None:
    if engine == "ray":
        engine = request.getfixturevalue("cluster").engine
    path = Path(shutil.copytree(tiny.path, tmp_path / tiny.path.name))
    shutil.rmtree(path / "measured")
    (path / "scores.parquet").unlink()
    run = RunDir(path)
    file = run.states_at(4) / "block1.npy"
    before, states, content = file.read_bytes(), np.load(file), io.BytesIO()
    states[13, 1] = np.nan  # the fourth instance of the second split
    np.save(content, states)
    write(run, file, content.getvalue())
    result = command("measure", path, "--engine", engine)
    assert result.status == 1
    assert result.out == ""
    *lines, last = result.err.splitlines()
    cell, classifiers = sorted(lines, key=lambda line: "classifiers" in line)
    assert cell == (
        "tasklens: cell step 4, val_subset, block1 (raw) failed: step 4, val_subset, block1 (raw): "
        "the hidden states of 1 of 10 instances are not finite, the first of them instance 3"
    )
    assert classifiers.startswith(
        "tasklens: cell step 4, block1 (classifiers) failed: ValueError: Input X contains NaN"
    )
    assert last == f"tasklens: {CellsFailedError({}).again}"
    measured = {p.name for p in (path / "measured").iterdir()}
    assert measured == {p.name for p in (tiny.path / "measured").iterdir()} - {"step-00000004"}
    again = command("measure", path, "--engine", engine)
    assert (again.status, again.err) == (1, result.err), "tried again"
    write(run, file, before)
    others = times(path / "measured")
    assert command("measure", path, "--engine", engine).status == 0
    assert_same(path, tiny.path, "measured", "scores.parquet", "scores.csv")
    assert others.items() <= times(path / "measured").items(), "only what was missing is done"


# --- Killed in the middle ---


#: A sweep of one run, which takes some seconds.
SLOW = {"train__steps": 400, "train__warmup_steps": 10, "checkpoints__every": 100}


@pytest.fixture(scope="module")
def slow(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """This sweep, finished in this process. Not to be changed."""
    directory = tmp_path_factory.mktemp("slow")
    file = write_sweep(directory, AXES.replace("[8, 16]", "[8]"), "[0]", **SLOW)
    arguments = ("sweep", file, "--out", directory / "out", "--workers", "1")
    return Finished(directory / "out", command(*arguments))


def trained(path: Path) -> list[Path]:
    """Return the runs whose training is on its way, past its first checkpoint."""
    return [p.parents[1] for p in path.glob("runs/*/resume/step-00000[1-3]00.safetensors")]


def test_a_run_whose_worker_is_killed_ends_in_the_same_bytes(
    cluster: TheCluster, slow: Finished, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    arguments = ("sweep", slow.path.parent / "mine.toml", "--out", path, "--engine", cluster.engine)
    driver = start(*arguments, **QUIET)
    wait_for(lambda: trained(path), driver)
    killed = []
    for process in psutil.Process(cluster.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::_work"]:
                process.kill()
                killed.append(process)
    out, err = driver.communicate(timeout=HANG)
    assert driver.returncode == 0, err
    assert killed
    assert out == slow.result.out.replace(str(slow.path), str(path))
    assert outputs(path) == outputs(slow.path)


def test_after_a_killed_driver_the_sweep_resumes_at_once(
    cluster: TheCluster, slow: Finished, command: Command, tmp_path: Path
) -> None:
    """Resume while the workers of the killed driver may still hold their runs."""
    path = tmp_path / "out"
    arguments = ("sweep", slow.path.parent / "mine.toml", "--out", path, "--engine", cluster.engine)
    driver = start(*arguments, **QUIET)
    wait_for(lambda: trained(path), driver)
    driver.kill()
    driver.communicate()
    runs = times(path / "runs").items()
    begun = {name: when for name, when in runs if name.endswith("data/tasks.json")}
    assert begun
    result = command(*arguments)
    assert (result.status, result.err) == (0, "")
    assert outputs(path) == outputs(slow.path)
    assert begun.items() <= times(path / "runs").items(), "what was done is kept"


@pytest.mark.long
def test_ctrl_c_ends_a_local_ray_and_leaves_no_process(
    slow: Finished, command: Command, tmp_path: Path
) -> None:
    """Interrupt a driver that started Ray, which reports no usage, and resume without Ray."""
    path = tmp_path / "out"
    arguments = ("sweep", slow.path.parent / "mine.toml", "--out", path)
    driver = start(*arguments, "--engine", "ray:local")
    try:
        wait_for(lambda: trained(path), driver)
        processes = of_session(driver.pid)
        reported, names = set(), set()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                names.add(process.name())
                variables = process.environ()  # which a process's title may cover
                reported.add(variables.get("RAY_USAGE_STATS_ENABLED", "covered"))
        assert {"raylet", "gcs_server"} <= names
        assert {"0"} <= reported <= {"0", "covered"}
    finally:
        os.killpg(driver.pid, signal.SIGINT)
        out, err = driver.communicate(timeout=HANG)
    assert (driver.returncode, out) == (130, "")
    assert without_progress(err) == "tasklens: interrupted; resume with --resume\n"
    wait_for(lambda: not of_session(driver.pid))
    result = command(*arguments, "--workers", "1")
    assert (result.status, result.err) == (0, "")
    assert outputs(path) == outputs(slow.path)


# --- Refused input ---


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        *((engine, "should be local, ray ") for engine in ("rya", "ray:", "ray:a b", "Ray", "")),
        ("ray://127.0.0.1:1", "should be local, ray "),
    ],
)
def test_an_engine_that_does_not_exist_is_refused_at_once(
    command: Command, tmp_path: Path, engine: str, message: str
) -> None:
    arguments = ("run", "smoke", *changes(), "--out", tmp_path / "run", "--engine", engine)
    assert_refused(command(*arguments), f"--engine {engine}".strip(), message)
    assert not (tmp_path / "run").exists()


def test_ray_needs_to_be_installed_and_no_shards(
    sweep_file: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = command("sweep", sweep_file, "--shard", "1/2", "--engine", "ray")
    assert_refused(result, "--shard needs no cluster")
    monkeypatch.setitem(sys.modules, "ray", None)
    result = command("run", "smoke", *changes(), "--out", tmp_path / "run", "--engine", "ray")
    assert_refused(
        result, "--engine ray needs ray, which is not installed: pip install -e '.[ray]'"
    )


def test_a_gpu_has_no_number_on_ray(
    cluster: TheCluster, tiny: Finished, command: Command, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path, "", "[0]", train__device="cuda:0")
    result = command("sweep", file, "--engine", cluster.engine)
    assert_refused(result, "train.device = 'cuda:0': Ray gives each task its GPU: should be cuda")
    file = write_sweep(tmp_path, "", "[0]", train__device="cuda")
    result = command("sweep", file, "--out", tmp_path / "out", "--engine", cluster.engine)
    assert_refused(result, "no node of the Ray cluster has 1 CPUs and 1 GPUs")


def test_a_directory_that_a_node_does_not_see_is_refused(
    cluster: TheCluster, sweep_file: Path, tmp_path: Path
) -> None:
    with start_workers(cluster.engine, 0) as workers:
        work = partial(run_point, out=tmp_path / "elsewhere", keep=False)
        error = workers.submit(work, read_sweep(sweep_file).points[0]).exception()
    assert isinstance(error, InputError)
    assert f"{tmp_path}/elsewhere/runs cannot be seen on " in str(error)
    assert not (tmp_path / "elsewhere").exists()
