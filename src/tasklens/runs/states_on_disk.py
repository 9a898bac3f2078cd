"""Hidden states on the disk: one ``.npy`` file per state, read without being loaded.

The rows are the measured instances, split by split. If several workers write the states of one
model, each has a directory for its shard of the prompts; a reader sees one array.
"""

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tasklens.core.files import one_line_errors, write_file
from tasklens.data.token_prompts import Prompts

#: Seconds between two moments up to which an interrupted harvest is not repeated.
FLUSH_SECONDS = 5.0
#: The answers' file, beside those of the states.
ANSWER = "answer"
#: In a shard, the indices of its rows among all.
INDICES = "which"
SHARD = "shard-{}-of-{}"

Files: TypeAlias = dict[str, npt.NDArray[Any]]


class Streaming(Protocol):
    """A Subject that gives its states batch by batch."""

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: npt.NDArray[np.bool_]
    ) -> Iterator[Any]:
        """Yield (indices, states, answers) of some of the prompts that are not done."""
        ...


def harvest_to(
    directory: Path,
    subject: Streaming,
    prompts: Prompts,
    names: Sequence[str],
    on_prompts: Callable[[int], object] = lambda n: None,
    shard: npt.NDArray[np.int64] | None = None,
) -> None:
    """Write the named states, float32 (N, D) each, and the answers, int64 (N,), as ``.npy`` files.

    Memory holds one batch. A call after an interruption resumes. `on_prompts` is called with the
    number of prompts done before, then after each batch. With a shard, int64 (n,), only these
    prompts are written, in this order. InputError if the disk does not hold the states.
    """
    progress = directory / "done.npy"
    row_of = np.arange(len(prompts))
    if shard is not None:
        row_of = np.full(len(prompts), -1)  # of others
        row_of[shard] = np.arange(len(shard))
        np.save(_path(directory, INDICES), shard)
    n = int((row_of >= 0).sum())
    done = np.load(progress) if progress.exists() else np.zeros(n, dtype=np.bool_)
    files: Files = {}
    if done.any():
        files = {name: np.load(_path(directory, name), "r+") for name in (*names, ANSWER)}
    on_prompts(int(done.sum()))
    flushed = time.monotonic()

    def flush() -> None:
        for file in files.values():
            file.flush()  # type: ignore[attr-defined]
        content = io.BytesIO()
        np.save(content, done)
        write_file(progress, content.getvalue())

    read = row_of < 0
    read[row_of >= 0] = done[row_of[row_of >= 0]]
    try:
        for indices, states, answer in subject.batches(prompts, names, read):
            arrays: Files = {**states, ANSWER: answer}
            if not files:
                files = _allocate(directory, arrays, n)
            wanted = row_of[indices] >= 0
            rows = row_of[indices[wanted]]
            for name, values in arrays.items():
                files[name][rows] = values[wanted]
            on_prompts(int((~done[rows]).sum()))
            done[rows] = True
            if time.monotonic() - flushed > FLUSH_SECONDS:
                flush()
                flushed = time.monotonic()
    finally:
        if files:
            flush()
    progress.unlink()


def state_contents(
    states: Mapping[str, npt.NDArray[Any]], answers: Mapping[str, npt.NDArray[Any]]
) -> dict[str, bytes]:
    """Return the files, by name, of states (N, D) by name and answers (n,) to whole splits."""
    arrays = {f"{name}.npy": array for name, array in states.items()}
    arrays |= {answer_file(Path(), split).name: array for split, array in answers.items()}
    contents = {}
    for name, array in arrays.items():
        content = io.BytesIO()
        np.save(content, array)
        contents[name] = content.getvalue()
    return contents


def answer_file(directory: Path, split: str) -> Path:
    """Return the file of the answers to a whole split."""
    return _path(directory, f"{ANSWER}-{split}")


def read_states(directory: Path, name: str) -> npt.NDArray[Any]:
    """Return a state (N, D), or the answers (N,), mapped from the disk; shards in memory."""
    paths = state_paths(directory, name)
    if paths == [_path(directory, name)]:
        return np.load(paths[0], "r")  # type: ignore[no-any-return]
    parts = [np.load(path, "r") for path in paths]
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    for path, part in zip(paths, parts, strict=True):
        whole[np.load(_path(path.parent, INDICES))] = part
    return whole


def state_paths(directory: Path, name: str) -> list[Path]:
    """Return the files of an array: one, or one per shard."""
    shards = sorted(directory.glob(SHARD.format("*", "*")))
    return [_path(shard, name) for shard in shards] or [_path(directory, name)]


def shard_directory(directory: Path, i: int, n: int) -> Path:
    """Return where the i-th of n shards of an array's rows is written, from 0 on."""
    return directory / SHARD.format(f"{i:05d}", f"{n:05d}")


def shards_begun(directory: Path) -> int:
    """Return how many shards an interrupted harvest has; 0 if none has begun."""
    for shard in directory.glob(SHARD.format("*", "*")):
        return int(shard.name.rpartition("-")[2])
    return 0


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}.npy"


def _allocate(directory: Path, arrays: Files, n: int) -> Files:
    """Create the files at their full length, so that a full disk shows now and as an error."""
    files: Files = {}
    for name, values in arrays.items():
        path = _path(directory, name)
        with one_line_errors(path):
            files[name] = np.lib.format.open_memmap(
                path, "w+", dtype=values.dtype, shape=(n, *values.shape[1:])
            )
            if hasattr(os, "posix_fallocate"):
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return files
