"""States on the disk, one array a state, written as they come and read without being loaded."""

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tasklens.rows import Prompts
from tasklens.rundir import one_line_errors, write_file

#: Seconds between two moments up to which an interrupted harvest is not repeated.
FLUSH_SECONDS = 5.0
#: The answers' file, beside those of the states.
ANSWER = "answer"

Files: TypeAlias = dict[str, npt.NDArray[Any]]


class Streaming(Protocol):
    """A Subject that gives its states batch by batch."""

    def batches(
        self, prompts: Prompts, names: Sequence[str], done: npt.NDArray[np.bool_]
    ) -> Iterator[Any]:
        """Yield (which, states, answer) of some prompts at a time, of those that are not done."""
        ...


def harvest_to(
    directory: Path,
    subject: Streaming,
    prompts: Prompts,
    names: Sequence[str],
    on_prompts: Callable[[int], object] = lambda n: None,
) -> None:
    """Write the named states, float32 (N, D) each, and the answers, int64 (N,), as ``.npy`` files.

    Memory holds one batch of them. Called again after an interruption it goes on where it stopped.

    Parameters
    ----------
    directory : Path
        Of these prompts, this model and these names alone.
    subject : Streaming
    prompts : Prompts
    names : sequence of str
    on_prompts : callable, optional
        Called after every so many prompts, with their number; at first with those done before.

    Raises
    ------
    InputError
        Where the disk does not hold them; what the subject raises.
    """
    progress = directory / "done.npy"
    done = np.load(progress) if progress.exists() else np.zeros(len(prompts), dtype=np.bool_)
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

    try:
        for which, states, answer in subject.batches(prompts, names, done.copy()):
            found = {**states, ANSWER: answer}
            if not files:
                files = _allocate(directory, found, len(prompts))
            for name, values in found.items():
                files[name][which] = values
            on_prompts(int((~done[which]).sum()))
            done[which] = True
            if time.monotonic() - flushed > FLUSH_SECONDS:
                flush()
                flushed = time.monotonic()
    finally:
        if files:
            flush()
    progress.unlink()


def read_states(directory: Path, name: str) -> npt.NDArray[Any]:
    """Return an array as it lies on the disk, (N, D), or (N,) for the answers."""
    return np.load(_path(directory, name), "r")  # type: ignore[no-any-return]


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}.npy"


def _allocate(directory: Path, found: Files, n: int) -> Files:
    """Make the files at their full length, so that a full disk shows now and as an error."""
    files: Files = {}
    for name, values in found.items():
        path = _path(directory, name)
        with one_line_errors(path):
            files[name] = np.lib.format.open_memmap(
                path, "w+", dtype=values.dtype, shape=(n, *values.shape[1:])
            )
            if hasattr(os, "posix_fallocate"):
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return files
