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
from tasklens.core.files import remove, remove_temporaries
from tasklens.data.token_prompts import Prompts
from tasklens.runs.harvested_rows import PROGRESS, READING, Files, HarvestedRows

#: Seconds between two moments up to which an interrupted harvest is not repeated.
FLUSH_SECONDS = 5.0
#: The answers' file, beside those of the states.
ANSWER = "answer"
#: The log-probabilities of the answers' first tokens, see `Prompts.asked`.
ASKED = "asked"
#: Those of the whole answers.
WHOLE = "whole"
#: In a shard, the indices of its rows among all.
INDICES = "which"
SHARD = "shard-{}-of-{}"


class Streaming(Protocol):
    """A Subject that gives its states batch by batch."""

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: npt.NDArray[np.bool_]
    ) -> Iterator[Any]:
        """Yield a `HarvestBatch` of some of the prompts that are not done."""
        ...


def harvest_to(
    directories: Sequence[Path],
    subject: Streaming,
    prompts: Prompts,
    names: Sequence[str],
    on_prompts: Callable[[int], object] = lambda n: None,
    shard: npt.NDArray[np.int64] | None = None,
) -> None:
    """Write the named states, float32 (N, D) each, and the answers, int64 (N,), as ``.npy`` files.

    There is a directory for each of `Prompts.parts`, which are read in one pass. The
    log-probabilities of the tokens that are asked for, float32 (N, C), are beside the answers.

    Memory holds one batch. A call after an interruption resumes, and reads prompts again whose rows
    are damaged; `finish_harvest` ends this. `on_prompts` is called with the number of prompts done
    before, then after each batch, once for each position of a prompt. With a shard, int64 (n,),
    only these prompts are written, in this order. InputError if the disk does not hold the states.
    """
    row_of = np.arange(len(prompts))
    if shard is not None:
        row_of = np.full(len(prompts), -1)  # of others
        row_of[shard] = np.arange(len(shard))
    harvested = []
    for directory, part in zip(directories, prompts.parts, strict=True):
        remove_temporaries(directory)
        for path in directory.iterdir():
            # A link would be followed, and a pipe would block.
            if path.is_symlink() or not path.is_file():
                raise InputError(f"{path} is not a file: remove it and run again with --resume")
        if shard is not None:
            np.save(_path(directory, INDICES), shard)
        files = (*names, ANSWER, *([] if part.asked is None else [ASKED]))
        harvested.append(HarvestedRows.resumed(directory, files, int((row_of >= 0).sum())))
    on_prompts(sum(int(rows.done.sum()) for rows in harvested))
    flushed = time.monotonic()
    read = row_of < 0
    done = np.logical_and.reduce([rows.done for rows in harvested])
    read[row_of >= 0] = done[row_of[row_of >= 0]]
    try:
        for batch in subject.batches(prompts, names, read):
            wanted = row_of[batch.indices] >= 0
            n_new = 0
            for rows, part in zip(harvested, batch.parts, strict=True):
                arrays = {**part.states, ANSWER: part.answer}
                if part.asked is not None:
                    arrays[ASKED] = part.asked
                n_new += rows.write(
                    row_of[batch.indices[wanted]],
                    {name: each[wanted] for name, each in arrays.items()},
                )
            on_prompts(n_new)
            if time.monotonic() - flushed > FLUSH_SECONDS:
                for rows in harvested:
                    rows.flush()
                flushed = time.monotonic()
    finally:
        for rows in harvested:
            rows.flush()


def keep_layout(directory: Path, *, in_shards: bool) -> None:
    """Remove what an interrupted harvest in the other layout, in shards or whole, has left."""
    whole = [*directory.glob("*.npy"), directory / PROGRESS, directory / READING]
    for path in whole if in_shards else directory.glob(SHARD.format("*", "*")):
        remove(path)


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
