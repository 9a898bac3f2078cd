"""A probe whose prompts are dealt to several workers, each with a replica of the model.

Here the workers are this process, one shard after the other; test_ray.py has them on a cluster.
"""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tasklens.runs.harvesting import harvest_models
from tasklens.runs.probe_dir import Probe
from tasklens.runs.probing import measure_probe

from e2e.conftest import Command, assert_same
from e2e.test_probe import Stock, once, reading, step_of, stock
from tasklens.core.errors import CellsFailedError
from tasklens.core.workers import Processes
from tasklens.runs import probing, sharding
from tasklens.runs import states_on_disk as state_files
from tasklens.runs.directory import RunDir
from tasklens.runs.settings import ModelRunSettings, read_settings
from tasklens.runs.states_on_disk import read_states, shards_begun

__all__ = ["stock"]

STEPS = (100, 200)
STATES = ("embed", "block1", "block2", "ln_f", "answer")


class Replicas(Processes):
    """Workers of which there are said to be several; each item is done here, as it comes."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self.count = count


@pytest.fixture(scope="module")
def whole(command: Command, stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe by one worker, which reads several batches. Not to be changed."""
    path = tmp_path_factory.mktemp("first") / "probe"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "render", lambda *_: b"")  # drawing takes longest
        result = command(*stock.words("--set", "subject.max_tokens=64", "--out", path))
    assert result.status == 0, result.err
    return path


@pytest.fixture
def bare(whole: Path, tmp_path: Path) -> Probe:
    """A copy of it, of the same name, whose states and scores are gone."""
    path = Path(shutil.copytree(whole, tmp_path / "copied" / whole.name))
    shutil.rmtree(path / "states")
    shutil.rmtree(path / "measured")
    run = RunDir(path)
    return Probe(run, read_settings(run.config, ModelRunSettings))


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A worker computes with the threads that it is told to, for the rest of its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many there are, to be set."""
    there = [1]
    monkeypatch.setattr(sharding, "start_workers", lambda *_, **__: Replicas(there[0]))
    monkeypatch.setattr(sharding, "cores_of_nodes", lambda _: [torch.get_num_threads()])
    return there


def harvest(probe: Probe) -> None:
    harvest_models(probe, partial(sharding.harvest_on_cluster, engine="ray", gpus=1))


@pytest.mark.parametrize(("n", "shards"), [(1, 1), (3, 1), (4, 2), (7, 3), (200, 48)])
def test_states_by_shard_are_those_of_one_worker_to_the_last_bit(
    bare: Probe, whole: Path, replicas: list[int], n: int, shards: int
) -> None:
    """As many shards as there are replicas for each of the two models, of a prompt at least."""
    replicas[0] = n
    harvest(bare)
    for step in STEPS:
        mine, theirs = step_of(bare.run.path, step), step_of(whole, step)
        assert shards_begun(mine) == shards
        for name in STATES:
            np.testing.assert_array_equal(read_states(mine, name), read_states(theirs, name))
        for name in ("about.json", "words.json", "tokens.safetensors", "inputs"):
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    assert not list(bare.run.states.glob("partial-*"))


def test_scores_of_states_by_shard_are_the_same_bytes(
    bare: Probe, whole: Path, replicas: list[int]
) -> None:
    replicas[0] = 6
    harvest(bare)
    measure_probe(bare)
    assert_same(bare.run.path, whole, "measured", "scores.parquet", "scores.csv")


def test_shards_read_hardly_more_than_one_worker(
    bare: Probe, stock: Stock, replicas: list[int]
) -> None:
    """What is read twice is the batches that two shards have a part of."""
    replicas[0] = 4
    with reading() as read:
        harvest(bare)
    everything = once(stock.rows, *STEPS)
    assert not everything - read.prompts
    assert 1 <= read.prompts.total() / everything.total() < 1.5


def test_a_shard_that_fails_is_named_and_the_rest_goes_on(
    bare: Probe, whole: Path, replicas: list[int]
) -> None:
    replicas[0] = 4
    with pytest.MonkeyPatch.context() as patch:
        real = state_files.harvest_to

        def fails(directory: Path, *arguments: object, **others: object) -> None:
            if "step-00000100" in str(directory) and directory.name.startswith("shard-00001"):
                raise OSError("the disk of this machine is gone")
            real(directory, *arguments, **others)  # type: ignore[arg-type]

        patch.setattr(sharding, "harvest_to", fails)
        with pytest.raises(CellsFailedError) as raised:
            harvest(bare)
    assert raised.value.reasons == {
        "step 100, shard 2 of 2": "OSError: the disk of this machine is gone"
    }
    assert not step_of(bare.run.path, 100).exists()
    assert step_of(bare.run.path, 200).exists()
    replicas[0] = 9  # another number now; the shards are those of before
    with reading() as read:
        harvest(bare)
    assert read.models == {"checkpoint-100"}
    assert shards_begun(step_of(bare.run.path, 100)) == 2
    for name in STATES:
        np.testing.assert_array_equal(
            read_states(step_of(bare.run.path, 100), name), read_states(step_of(whole, 100), name)
        )


def test_an_interrupted_harvest_goes_on(bare: Probe, whole: Path, replicas: list[int]) -> None:
    replicas[0] = 2
    with reading(stop_after=2), pytest.raises(KeyboardInterrupt):
        harvest(bare)
    harvest(bare)
    for step in STEPS:
        mine, theirs = step_of(bare.run.path, step), step_of(whole, step)
        for name in STATES:
            np.testing.assert_array_equal(read_states(mine, name), read_states(theirs, name))


def test_a_machine_with_other_weights_is_found(bare: Probe, replicas: list[int]) -> None:
    replicas[0] = 4
    with pytest.MonkeyPatch.context() as patch:
        real = sharding.harvest_shard

        def other(shard: sharding.Shard) -> sharding.Read:
            read = real(shard)
            odd = shard.i == 1 and shard.checkpoint.step == 200
            return read._replace(about=read.about | {"weights": "0"}) if odd else read

        patch.setattr(sharding, "harvest_shard", other)
        with pytest.raises(CellsFailedError, match="step 200, shard 2 of 2: its machine has other"):
            harvest(bare)
    assert not step_of(bare.run.path, 200).exists()


def test_a_damaged_shard_is_found_before_it_is_measured(bare: Probe, replicas: list[int]) -> None:
    replicas[0] = 4
    harvest(bare)
    (file, *_) = sorted(step_of(bare.run.path, 100).glob("shard-*/block1.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(Exception, match=r"block1\.npy is damaged"):
        measure_probe(bare)
    noted = json.loads(bare.run.manifest.read_text())["files"]
    assert file.relative_to(bare.run.path).as_posix() in noted
