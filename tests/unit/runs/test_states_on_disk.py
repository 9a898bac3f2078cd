import errno
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_reader import HarvestBatch
from tasklens.runs import states_on_disk as state_files
from tasklens.runs.harvested_rows import PROGRESS, READING
from tasklens.runs.states_on_disk import (
    ANSWER,
    finish_harvest,
    harvest_to,
    read_states,
    shard_directory,
    shards_begun,
    state_paths,
)

NAMES = ("embed", "block1", "ln_f")
WIDTHS = {"embed": 5, "block1": 5, "ln_f": 3}
#: Prompts, and how many of them come at a time; the last ones are fewer.
N, BATCH = 23, 4
N_BATCHES = 6


RANDOM = np.random.default_rng(0)
PROMPTS = Prompts(RANDOM.integers(1, 100, size=(N, 7)), RANDOM.integers(0, 7, size=N))
#: What there is to find: numbers that each prompt alone has.
SUMS = PROMPTS.ids @ 2 ** np.arange(7)
EXPECTED: dict[str, NDArray[Any]] = {
    name: (np.arange(1, width + 1) * SUMS[:, None] / (7 + i)).astype(np.float32)
    for i, (name, width) in enumerate(WIDTHS.items())
} | {ANSWER: SUMS % 97}


class Fake:
    """A subject that reads prompts in the order of their length and can break down."""

    def __init__(self, breaks_after: int | None = None, error: BaseException | None = None) -> None:
        self.breaks_after, self.error = breaks_after, error or RuntimeError("broken down")
        self.done: list[int] = []
        self.read: list[int] = []
        self.counted: list[int] = []

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: NDArray[np.bool_]
    ) -> Iterator[HarvestBatch]:
        self.done.append(int(done.sum()))
        order = np.argsort(prompts.position, kind="stable")
        order = order[~done[order]]
        for n, begin in enumerate(range(0, len(order), BATCH)):
            if n == self.breaks_after:
                raise self.error
            rows = order[begin : begin + BATCH]
            self.read += rows.tolist()
            states = {name: EXPECTED[name][rows] for name in names}
            yield HarvestBatch(rows, states, EXPECTED[ANSWER][rows])
        if self.breaks_after == N_BATCHES:
            raise self.error


def harvest(directory: Path, subject: Fake | None = None, shard: Any = None) -> Fake:
    subject = subject or Fake()
    harvest_to([directory], subject, PROMPTS, NAMES, subject.counted.append, shard)
    finish_harvest(directory)
    return subject


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def complete(tmp_path: Path) -> dict[str, bytes]:
    """Return the files of an uninterrupted harvest."""
    directory = tmp_path / "whole"
    directory.mkdir()
    harvest(directory)
    return files(directory)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "harvest"
    directory.mkdir()
    return directory


def test_the_files_are_the_states(directory: Path) -> None:
    assert harvest(directory).counted == [0, 4, 4, 4, 4, 4, 3]
    assert set(files(directory)) == {"embed.npy", "block1.npy", "ln_f.npy", "answer.npy"}
    for name, values in EXPECTED.items():
        kept = read_states(directory, name)
        assert isinstance(kept, np.memmap), "not loaded"
        assert not kept.flags.writeable
        assert kept.dtype == values.dtype
        np.testing.assert_array_equal(kept, values)
        np.testing.assert_array_equal(np.load(directory / f"{name}.npy"), values)


def test_only_what_is_asked_for_is_written(directory: Path, complete: dict[str, bytes]) -> None:
    harvest_to([directory], Fake(), PROMPTS, ("ln_f",))
    finish_harvest(directory)
    assert files(directory) == {name: complete[name] for name in ("ln_f.npy", "answer.npy")}


@pytest.mark.parametrize("n", range(N_BATCHES + 1))
def test_an_interrupted_harvest_is_resumed(
    directory: Path, complete: dict[str, bytes], n: int
) -> None:
    broken = Fake(n, KeyboardInterrupt() if n % 2 else None)
    with pytest.raises((RuntimeError, KeyboardInterrupt)) as raised:
        harvest(directory, broken)
    assert raised.value is broken.error
    before = min(n * BATCH, N)
    assert len(broken.read) == sum(broken.counted) == before
    rest = harvest(directory)
    assert rest.done == [before]
    assert sorted(broken.read + rest.read) == list(range(N)), "none is read twice"
    assert rest.counted[0] == before
    assert sum(rest.counted) == N
    assert files(directory) == complete, "and nothing of the progress is left"


@pytest.mark.parametrize("seconds", [-1.0, 1e9])
def test_a_killed_harvest_is_resumed_from_the_last_moment_it_noted(
    tmp_path: Path,
    directory: Path,
    complete: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    monkeypatch.setattr(state_files, "FLUSH_SECONDS", seconds)

    class Killed(Fake):
        def batches(
            self, prompts: Prompts, names: Sequence[str], done: NDArray[np.bool_]
        ) -> Iterator[HarvestBatch]:
            for n, batch in enumerate(super().batches(prompts, names, done)):
                if n == 3:  # what another process would find, were this one gone now
                    shutil.copytree(directory, tmp_path / "left")
                yield batch

    harvest(directory, Killed())
    rest = harvest(tmp_path / "left")
    assert rest.done == [3 * BATCH if seconds < 0 else 0]
    assert sum(rest.counted) == N
    assert files(tmp_path / "left") == complete


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "emptied": lambda content: b"",
    "longer": lambda content: content + bytes(40),
    "of other rows": lambda content: content.replace(b"(23", b"(22"),
    "other bytes": lambda content: bytes(len(content)),
    "an archive": lambda content: b"PK\x03\x04" + content,
    "a pickle": lambda content: pickle.dumps(content),
    "another array": lambda content: safetensors.numpy.save({"part": np.zeros((2, 2))}),
    "other hashes": lambda content: safetensors.numpy.save(
        {"part": np.zeros(N, dtype=np.int32), "hashes": np.array(3, dtype=np.uint8)}
    ),
    "of many rows": lambda content: content.replace(b"(23,", b"(9" + b"0" * 15 + b","),
}


@pytest.mark.parametrize("damage", [*DAMAGE, "deleted"])
@pytest.mark.parametrize("name", ["embed.npy", "answer.npy", PROGRESS])
def test_a_damaged_row_is_read_again(
    directory: Path, complete: dict[str, bytes], name: str, damage: str
) -> None:
    with pytest.raises(RuntimeError):
        harvest(directory, Fake(3))
    with pytest.raises(RuntimeError):
        harvest(directory, Fake(1))
    path = directory / name
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    rest = harvest(directory)
    assert sum(rest.counted) == N
    assert files(directory) == complete


def test_only_the_part_that_is_damaged_is_read_again(directory: Path) -> None:
    with pytest.raises(RuntimeError):
        harvest(directory, broken := Fake(3))
    with pytest.raises(RuntimeError):
        harvest(directory, Fake(1))
    array = np.load(directory / "block1.npy", "r+")
    array[broken.read[0]] += 1
    array.flush()
    rest = harvest(directory)
    assert rest.done == [BATCH]
    np.testing.assert_array_equal(read_states(directory, "block1"), EXPECTED["block1"])


def test_progress_with_rows_that_are_not_written_is_refused(
    directory: Path, complete: dict[str, bytes]
) -> None:
    with pytest.raises(RuntimeError):
        harvest(directory, Fake(3))
    progress = safetensors.numpy.load_file(directory / PROGRESS)
    progress["part"][:] = 0
    (directory / PROGRESS).write_bytes(safetensors.numpy.save(progress))
    assert harvest(directory).done == [0]
    assert files(directory) == complete


def test_no_link_is_written_through(tmp_path: Path, directory: Path) -> None:
    with pytest.raises(RuntimeError):
        harvest(directory, Fake(3))
    for name in ("embed.npy", PROGRESS):
        outside = tmp_path / name
        (directory / name).replace(outside)
        (directory / name).symlink_to(outside)
        before = outside.read_bytes()
        with pytest.raises(InputError, match=f"{name} is not a file: remove it"):
            harvest(directory)
        assert outside.read_bytes() == before
        (directory / name).unlink()
    assert harvest(directory).done == [0]


@pytest.mark.parametrize("name", ["embed.npy", PROGRESS, READING])
def test_a_pipe_in_place_of_a_file_is_named(directory: Path, name: str) -> None:
    with pytest.raises(RuntimeError):
        harvest(directory, Fake(3))
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    with pytest.raises(InputError, match=f"{directory / name} is not a file: remove it and run"):
        harvest(directory)


def test_a_complete_harvest_is_not_repeated_if_its_directory_was_not_renamed(
    directory: Path,
) -> None:
    harvest_to([directory], Fake(), PROMPTS, NAMES)
    assert harvest(directory).done == [N]


def test_a_full_disk_is_reported_at_once_and_in_one_line(
    directory: Path, complete: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        size = os.fstat(descriptor).st_size
        assert (offset, length) == (0, size), "all of the file is asked for"
        if size < 4 * N * 5:  # ln_f is narrower than the others
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    subject = Fake()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(InputError) as error:
            harvest(directory, subject)
    assert str(error.value) == (
        f"no space left on the device while writing {directory / 'ln_f.npy'}; free some space, "
        "then run again with --resume: all finished work is kept"
    )
    assert len(subject.read) == BATCH, "before more than one batch was read"
    assert subject.counted == [0]
    assert harvest(directory).done == [0]
    assert files(directory) == complete


# --- In shards ---


@pytest.mark.parametrize("n", [1, 2, 5, N])
def test_shards_are_read_as_one(directory: Path, n: int) -> None:
    order = np.random.default_rng(n).permutation(N)
    assert shards_begun(directory) == 0
    for i in range(n):
        shard = shard_directory(directory, i, n)
        shard.mkdir()
        harvest(shard, shard=order[N * i // n : N * (i + 1) // n])
    assert shards_begun(directory) == n
    for name, values in EXPECTED.items():
        kept = read_states(directory, name)
        assert kept.dtype == values.dtype
        np.testing.assert_array_equal(kept, values)
        assert len(state_paths(directory, name)) == n
        assert all(path.exists() for path in state_paths(directory, name))


@pytest.mark.parametrize("n", [1, 2])
def test_an_interrupted_shard_is_resumed(directory: Path, n: int) -> None:
    rows = np.arange(N)[::-2]
    with pytest.raises(RuntimeError):
        harvest(directory, Fake(n), rows)
    rest = harvest(directory, shard=rows)
    assert rest.done == [N - len(rows) + n * BATCH]
    assert len(rest.read) == len(rows) - n * BATCH
    assert rest.counted[0] == n * BATCH
    for name, values in EXPECTED.items():
        np.testing.assert_array_equal(np.load(directory / f"{name}.npy"), values[rows])


class AllBatches(Fake):
    """A subject that reads all prompts again, even those that are done."""

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: NDArray[np.bool_]
    ) -> Iterator[HarvestBatch]:
        yield from super().batches(prompts, names, np.zeros_like(done))


@pytest.mark.parametrize(("subject", "n_read"), [(Fake(), 3), (AllBatches(), N)])
def test_a_shard_holds_no_more_than_its_own_prompts(
    directory: Path, subject: Fake, n_read: int
) -> None:
    rows = np.array([7, 2, 21])
    harvest(directory, subject, rows)
    assert len(subject.read) == n_read
    assert sum(subject.counted) == 3
    np.testing.assert_array_equal(np.load(directory / "ln_f.npy"), EXPECTED["ln_f"][rows])
