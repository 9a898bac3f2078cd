"""Hidden states on the disk: one ``.npy`` file per state, read without being loaded.

The rows are the measured instances, split by split. If several workers write the states of one
model, each has a directory for its shard of the prompts; a reader sees one array.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasklens.core.errors import InputError
from tasklens.core.files import remove_temporaries
from tasklens.data.token_prompts import Prompts
from tasklens.runs.harvested_rows import PROGRESS, READING, Files, HarvestedRows

#: Seconds between two moments up to which an interrupted harvest is not repeated.
FLUSH_SECONDS = 5.0
#: The answers' file, beside those of the states.
ANSWER = "answer"
#: In a shard, the indices of its rows among all.
INDICES = "which"
SHARD = "shard-{}-of-{}"


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

    Memory holds one batch. A call after an interruption resumes, and reads prompts again whose rows
    are damaged; `finish_harvest` ends this. `on_prompts` is called with the number of prompts done
    before, then after each batch. With a shard, int64 (n,), only these prompts are written, in this
    order. InputError if the disk does not hold the states.
    """
    remove_temporaries(directory)
    for path in directory.iterdir():
        if path.is_symlink():  # its target would be written
            raise InputError(f"{path} is a link: remove it and run again with --resume")
        if not (path.is_file() or path.is_dir()):  # a pipe would block
            raise InputError(f"{path} is not a file: remove it and run again with --resume")
    row_of = np.arange(len(prompts))
    if shard is not None:
        row_of = np.full(len(prompts), -1)  # of others
        row_of[shard] = np.arange(len(shard))
        np.save(_path(directory, INDICES), shard)
    rows = HarvestedRows.resumed(directory, (*names, ANSWER), int((row_of >= 0).sum()))
    on_prompts(int(rows.done.sum()))
    flushed = time.monotonic()
    read = row_of < 0
    read[row_of >= 0] = rows.done[row_of[row_of >= 0]]
    try:
        for indices, states, answer in subject.batches(prompts, names, read):
            wanted = row_of[indices] >= 0
            arrays = {**states, ANSWER: answer}
            new = rows.write(
                row_of[indices[wanted]], {name: each[wanted] for name, each in arrays.items()}
            )
            on_prompts(new)
            if time.monotonic() - flushed > FLUSH_SECONDS:
                rows.flush()
                flushed = time.monotonic()
    finally:
        rows.flush()


def finish_harvest(directory: Path) -> None:
    """Remove what `harvest_to` needs to resume, from a directory or its shards."""
    for path in (directory, *directory.glob(SHARD.format("*", "*"))):
        for name in (PROGRESS, READING):
            (path / name).unlink(missing_ok=True)


def state_contents(
    states: Mapping[str, npt.NDArray[Any]], answers: Mapping[str, npt.NDArray[Any]]
) -> dict[str, bytes]:
    """Return the files, by name, of states (N, D) by name and answers (n,) to whole splits."""
    arrays: Files = {f"{name}.npy": array for name, array in states.items()}
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
