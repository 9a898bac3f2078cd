import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.runs import states_on_disk as state_files
from tasklens.runs.states_on_disk import (
    ANSWER,
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

Batch = tuple[NDArray[np.int64], dict[str, NDArray[np.float32]], NDArray[np.int64]]


def some_prompts() -> Prompts:
    random = np.random.default_rng(0)
    ids = random.integers(1, 100, size=(N, 7))
    return Prompts(ids, random.integers(0, 7, size=N))


def states_of(prompts: Prompts) -> dict[str, NDArray[Any]]:
    """Return what there is to find: numbers that each prompt alone has."""
    sums = prompts.ids @ 2 ** np.arange(prompts.ids.shape[1])
    arrays: dict[str, NDArray[Any]] = {
        name: (np.arange(1, width + 1) * sums[:, None] / (7 + i)).astype(np.float32)
        for i, (name, width) in enumerate(WIDTHS.items())
    }
    return arrays | {ANSWER: sums % 97}


class Fake:
    """A subject that reads prompts in the order of their length and can break down."""

    def __init__(self, breaks_after: int | None = None, error: BaseException | None = None) -> None:
        self.breaks_after, self.error = breaks_after, error or RuntimeError("broken down")
        self.done: list[int] = []
        self.read: list[int] = []

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: NDArray[np.bool_]
    ) -> Iterator[Batch]:
        self.done.append(int(done.sum()))
        order = np.argsort(prompts.position, kind="stable")
        order = order[~done[order]]
        everything = states_of(prompts)
        for n, begin in enumerate(range(0, len(order), BATCH)):
            if n == self.breaks_after:
                raise self.error
            which = order[begin : begin + BATCH]
            self.read += which.tolist()
            yield (
                which,
                {name: everything[name][which] for name in names},
                everything[ANSWER][which],
            )
        if self.breaks_after == N_BATCHES:
            raise self.error


class Counted:
    """Counts prompts as a progress bar does."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, n: int) -> None:
        self.calls.append(n)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """What an uninterrupted harvest leaves."""
    directory = tmp_path / "whole"
    directory.mkdir()
    harvest_to(directory, Fake(), some_prompts(), NAMES)
    return files(directory)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "place"
    directory.mkdir()
    return directory


def test_the_files_are_the_states(place: Path) -> None:
    prompts, counted = some_prompts(), Counted()
    harvest_to(place, Fake(), prompts, NAMES, counted)
    assert set(files(place)) == {"embed.npy", "block1.npy", "ln_f.npy", "answer.npy"}
    expected = states_of(prompts)
    for name, values in expected.items():
        found = read_states(place, name)
        assert isinstance(found, np.memmap), "not loaded"
        assert not found.flags.writeable
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(np.load(place / f"{name}.npy"), values)
    assert counted.calls == [0, 4, 4, 4, 4, 4, 3]


def test_only_what_is_asked_for_is_written(place: Path, whole: dict[str, bytes]) -> None:
    harvest_to(place, Fake(), some_prompts(), ("ln_f",))
    assert files(place) == {name: whole[name] for name in ("ln_f.npy", "answer.npy")}


@pytest.mark.parametrize("n", range(N_BATCHES + 1))
def test_what_was_interrupted_goes_on_where_it_stopped(
    place: Path, whole: dict[str, bytes], n: int
) -> None:
    error = KeyboardInterrupt() if n % 2 else None
    broken, counted = Fake(n, error), Counted()
    with pytest.raises((RuntimeError, KeyboardInterrupt)) as raised:
        harvest_to(place, broken, some_prompts(), NAMES, counted)
    assert raised.value is broken.error
    before = min(n * BATCH, N)
    assert len(broken.read) == sum(counted.calls) == before
    rest, counted = Fake(), Counted()
    harvest_to(place, rest, some_prompts(), NAMES, counted)
    assert rest.done == [before]
    assert sorted(broken.read + rest.read) == list(range(N)), "none is read twice"
    assert counted.calls[0] == before
    assert sum(counted.calls) == N
    assert files(place) == whole, "and nothing of the progress is left"


def test_it_may_be_interrupted_again_and_again(place: Path, whole: dict[str, bytes]) -> None:
    for done in (0, 4, 8, 12, 16):
        one = Fake(1)
        with pytest.raises(RuntimeError):
            harvest_to(place, one, some_prompts(), NAMES)
        assert one.done == [done]
        assert len(one.read) == BATCH
    last = Fake(1)
    harvest_to(place, last, some_prompts(), NAMES)
    assert len(last.read) == N - 20
    assert files(place) == whole


@pytest.mark.parametrize("seconds", [-1.0, 1e9])
def test_what_was_killed_goes_on_from_the_last_moment_it_noted(
    tmp_path: Path,
    place: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    monkeypatch.setattr(state_files, "FLUSH_SECONDS", seconds)

    class Killed(Fake):
        def batches(
            self, prompts: Prompts, names: Sequence[str], done: NDArray[np.bool_]
        ) -> Iterator[Batch]:
            for n, batch in enumerate(super().batches(prompts, names, done)):
                if n == 3:  # what another process would find, were this one gone now
                    shutil.copytree(place, tmp_path / "left")
                yield batch

    harvest_to(place, Killed(), some_prompts(), NAMES)
    rest, counted = Fake(), Counted()
    harvest_to(tmp_path / "left", rest, some_prompts(), NAMES, counted)
    assert rest.done == [3 * BATCH if seconds < 0 else 0]
    assert sum(counted.calls) == N
    assert files(tmp_path / "left") == whole


def test_a_harvest_that_was_killed_at_its_end_ends(place: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(RuntimeError):
        harvest_to(place, Fake(N_BATCHES), some_prompts(), NAMES)
    rest = Fake()
    harvest_to(place, rest, some_prompts(), NAMES)
    assert rest.read == []
    assert files(place) == whole


def test_a_full_disk_is_said_at_once_and_in_one_line(
    place: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        size = os.fstat(descriptor).st_size
        assert (offset, length) == (0, size), "all of the file is asked for"
        if size < 4 * N * 5:  # ln_f is narrower than the others
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full, raising=False)
        one, counted = Fake(), Counted()
        with pytest.raises(InputError) as error:
            harvest_to(place, one, some_prompts(), NAMES, counted)
    assert str(error.value) == (
        f"no space left on the device while writing {place / 'ln_f.npy'}; free some, then run "
        "again with --resume: nothing that was finished is lost"
    )
    assert len(one.read) == BATCH, "before more than one batch was read"
    assert counted.calls == [0]
    again = Fake()
    harvest_to(place, again, some_prompts(), NAMES)
    assert again.done == [0]
    assert files(place) == whole


# --- In shards ---


@pytest.mark.parametrize("n", [1, 2, 5, N])
def test_shards_are_read_as_one(place: Path, n: int) -> None:
    prompts = some_prompts()
    order = np.random.default_rng(n).permutation(N)
    assert shards_begun(place) == 0
    for i in range(n):
        shard = shard_directory(place, i, n)
        shard.mkdir()
        harvest_to(shard, Fake(), prompts, NAMES, shard=order[N * i // n : N * (i + 1) // n])
    assert shards_begun(place) == n
    for name, values in states_of(prompts).items():
        found = read_states(place, name)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
        assert len(state_paths(place, name)) == n
        assert all(path.exists() for path in state_paths(place, name))


def test_a_shard_holds_no_more_than_its_own(place: Path) -> None:
    prompts, counted, which = some_prompts(), Counted(), np.array([7, 2, 21])
    subject = Fake()
    harvest_to(place, subject, prompts, NAMES, counted, shard=which)
    assert sorted(subject.read) == [2, 7, 21]
    np.testing.assert_array_equal(np.load(place / "ln_f.npy"), states_of(prompts)["ln_f"][which])
    assert sum(counted.calls) == 3


@pytest.mark.parametrize("n", [1, 2])
def test_an_interrupted_shard_goes_on_where_it_stopped(place: Path, n: int) -> None:
    prompts, which = some_prompts(), np.arange(N)[::-2]
    with pytest.raises(RuntimeError):
        harvest_to(place, Fake(n), prompts, NAMES, shard=which)
    rest, counted = Fake(), Counted()
    harvest_to(place, rest, prompts, NAMES, counted, shard=which)
    assert rest.done == [N - len(which) + n * BATCH]
    assert len(rest.read) == len(which) - n * BATCH
    assert counted.calls[0] == n * BATCH
    for name, values in states_of(prompts).items():
        np.testing.assert_array_equal(np.load(place / f"{name}.npy"), values[which])


def test_a_batch_of_which_a_shard_has_a_part_gives_it_that_part(place: Path) -> None:
    """As a subject does that makes its batches of all prompts, whatever is done."""

    class Whole(Fake):
        def batches(
            self, prompts: Prompts, names: Sequence[str], done: NDArray[np.bool_]
        ) -> Iterator[Batch]:
            yield from super().batches(prompts, names, np.zeros_like(done))

    prompts, counted, which = some_prompts(), Counted(), np.array([0, 5, 6])
    harvest_to(place, Whole(), prompts, NAMES, counted, shard=which)
    np.testing.assert_array_equal(np.load(place / "embed.npy"), states_of(prompts)["embed"][which])
    assert sum(counted.calls) == 3
