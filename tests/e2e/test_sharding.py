"""Test a model run whose prompts are split among workers, each with a replica of the model.

Here the workers are this process, one shard after the other; test_ray.py has them on a cluster.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from e2e.conftest import assert_same, succeed
from e2e.stock import STATES, STEPS, Stock, once, reading, step_of
from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.workers import Processes
from tasklens.runs import shards
from tasklens.runs.load_run import load_run
from tasklens.runs.model_run import ModelRun
from tasklens.runs.stage_measure import measure
from tasklens.runs.stage_states import harvest_models
from tasklens.runs.states_on_disk import ANSWER, harvest_to, read_states, shards_begun

Harvest = Callable[[Path, int], None]


class Replicas(Processes):
    """Workers with any count; this process works on the items, one after the other."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self.count = count


@pytest.fixture(scope="module")
def complete(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model run by one worker, which reads several batches; do not change it."""
    path = tmp_path_factory.mktemp("first") / "probe"
    succeed(*stock.command("--set", "subject.max_tokens=64", "--out", path))
    return path


@pytest.fixture
def bare(complete: Path, tmp_path: Path) -> Path:
    """Copy the run under the same name, without its states and scores."""
    path = Path(shutil.copytree(complete, tmp_path / "copied" / complete.name))
    shutil.rmtree(path / "states")
    shutil.rmtree(path / "measured")
    return path


@pytest.fixture
def harvest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harvest]:
    """Harvest the states of a directory with ``count`` replicas."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(shards, "cores_of_nodes", lambda _: [threads])

    def with_replicas(path: Path, n: int) -> None:
        monkeypatch.setattr(shards, "start_workers", lambda *_, **__: Replicas(n))
        run = load_run(path)
        assert isinstance(run, ModelRun)
        harvest_models(run, "ray")

    yield with_replicas
    torch.set_num_threads(threads)  # which a worker sets for the rest of its process


def assert_same_states(path: Path, other: Path, *steps: int) -> None:
    for step in steps:
        mine, theirs = step_of(path, step), step_of(other, step)
        for name in (*STATES, ANSWER):
            np.testing.assert_array_equal(read_states(mine, name), read_states(theirs, name))
        for name in ("about.json", "words.json", "tokens.safetensors", "inputs"):
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize(("n", "count"), [(1, 1), (3, 1), (7, 3), (200, 48)])
def test_states_by_shard_are_those_of_one_worker_to_the_last_bit(
    bare: Path, complete: Path, harvest: Harvest, n: int, count: int
) -> None:
    """Each of the two models has as many shards as replicas, with at least one prompt each."""
    harvest(bare, n)
    assert [shards_begun(step_of(bare, step)) for step in STEPS] == [count, count]
    assert_same_states(bare, complete, *STEPS)
    assert not list((bare / "states").glob("partial-*"))
    if n == 7:
        measure(load_run(bare))
        assert_same(bare, complete, "measured", "scores.parquet", "scores.csv")


def test_shards_read_hardly_more_than_one_worker(
    bare: Path, stock: Stock, harvest: Harvest
) -> None:
    """Only the batches that belong to two shards are read twice."""
    with reading() as read:
        harvest(bare, 4)
    everything = once(stock.rows, *STEPS)
    assert not everything - read.prompts
    assert 1 <= read.prompts.total() / everything.total() < 1.5


def test_a_shard_that_fails_is_named_and_the_rest_continues(
    bare: Path, complete: Path, harvest: Harvest
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        real = harvest_to

        def fails(directories: list[Path], *arguments: object, **others: object) -> None:
            (directory,) = directories
            if "step-00000100" in str(directory) and directory.name.startswith("shard-00001"):
                raise OSError("the disk of this machine is gone")
            real(directories, *arguments, **others)  # type: ignore[arg-type]

        patch.setattr("tasklens.runs.shards.harvest_to", fails)
        with pytest.raises(CellsFailedError) as raised:
            harvest(bare, 4)
    assert raised.value.reasons == {
        "step 100, shard 2 of 2": "OSError: the disk of this machine is gone"
    }
    assert not step_of(bare, 100).exists()
    assert step_of(bare, 200).exists()
    with reading() as read:
        harvest(bare, 9)  # another number now; the shards are those of before
    assert read.models == {"checkpoint-100"}
    assert shards_begun(step_of(bare, 100)) == 2
    assert_same_states(bare, complete, 100)


def failing_second_shard(patch: pytest.MonkeyPatch) -> None:
    real = harvest_to

    def fails(directories: list[Path], *arguments: object, **others: object) -> None:
        if directories[0].name.startswith("shard-00001"):
            raise OSError("the disk of this machine is gone")
        real(directories, *arguments, **others)  # type: ignore[arg-type]

    patch.setattr("tasklens.runs.shards.harvest_to", fails)


def test_a_harvest_that_was_interrupted_on_a_cluster_is_whole_if_one_process_resumes_it(
    bare: Path, complete: Path, harvest: Harvest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing_second_shard(patch)
        with pytest.raises(CellsFailedError):
            harvest(bare, 4)
    run = load_run(bare)
    assert isinstance(run, ModelRun)
    harvest_models(run)
    assert shards_begun(step_of(bare, 100)) == 0
    assert_same_states(bare, complete, *STEPS)


def test_a_harvest_that_one_process_has_begun_is_whole_if_a_cluster_resumes_it(
    bare: Path, complete: Path, harvest: Harvest
) -> None:
    run = load_run(bare)
    assert isinstance(run, ModelRun)
    with reading(stop_after=1), pytest.raises(KeyboardInterrupt):
        harvest_models(run)
    harvest(bare, 4)
    assert not list(step_of(bare, 100).glob("*.npy"))
    assert_same_states(bare, complete, *STEPS)


def test_an_interrupted_harvest_is_resumed(bare: Path, complete: Path, harvest: Harvest) -> None:
    with reading(stop_after=2), pytest.raises(KeyboardInterrupt):
        harvest(bare, 2)
    harvest(bare, 2)
    assert_same_states(bare, complete, *STEPS)


def test_a_machine_with_other_weights_is_found(bare: Path, harvest: Harvest) -> None:
    with pytest.MonkeyPatch.context() as patch:
        real = shards.harvest_shard

        def other(shard: shards.Shard) -> shards.ShardResult:
            result = real(shard)
            if shard.i == 1 and shard.checkpoint.step == 200:
                for facts in result.facts.values():
                    facts["weights"] = "0"
            return result

        patch.setattr(shards, "harvest_shard", other)
        with pytest.raises(
            CellsFailedError, match="step 200, shard 2 of 2: the machine of the worker has other"
        ):
            harvest(bare, 4)
    assert not step_of(bare, 200).exists()


def test_a_damaged_shard_is_found_before_it_is_measured(bare: Path, harvest: Harvest) -> None:
    harvest(bare, 4)
    (file, *_) = sorted(step_of(bare, 100).glob("shard-*/block1.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"block1\.npy is damaged"):
        measure(load_run(bare))
    noted = json.loads((bare / "manifest.json").read_text())["files"]
    assert file.relative_to(bare).as_posix() in noted
