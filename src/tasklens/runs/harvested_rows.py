"""The rows of a harvest in progress, checked before an interrupted one is resumed."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from tasklens.core.files import one_line_errors, write_file
from tasklens.core.progress import inform

#: The file with the parts of the rows that are written, and the hash of each part.
PROGRESS = "progress.safetensors"
#: The file beside it with how the rows are read; see `kept_reading`.
READING = "reading.json"

Files: TypeAlias = dict[str, npt.NDArray[Any]]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]


class HarvestedRows:
    """The rows of some arrays, each in an ``.npy`` file of its full length.

    The rows that are written between two calls of `flush` are a part. The progress file has the
    part of each row and a SHA-256 of the part, so that `resumed` trusts no row that it has not
    checked.
    """

    def __init__(self, directory: Path, n: int) -> None:
        self.directory, self.n = directory, n
        self._files: Files = {}
        self._part = np.full(n, -1, dtype=np.int32)  # (n,), -1 for rows that are not written
        self._hashes: list[bytes] = []

    @classmethod
    def resumed(cls, directory: Path, names: Sequence[str], n: int) -> Self:
        """Return the rows that an interrupted harvest has left, without those that are damaged."""
        rows = cls(directory, n)
        if not (directory / PROGRESS).is_file():
            return rows
        try:
            progress = safetensors.numpy.load((directory / PROGRESS).read_bytes())
            part, hashes = progress["part"], progress["hashes"]  # (n,), (P, 32)
            if part.shape != (n,) or hashes.shape[1:] != (32,):
                raise ValueError(f"{PROGRESS} is not of {n} rows")
            files: Files = {name: _opened(directory / f"{name}.npy", n) for name in names}
            parts = [np.flatnonzero(part == number) for number in range(len(hashes))]
        except (OSError, ValueError, EOFError, KeyError, SafetensorError) as error:
            inform(f"{directory} is damaged ({error}): all prompts are read again")
            return rows
        for written, known in zip(parts, hashes, strict=True):
            if len(written) and _hash(files, written) == known.tobytes():
                rows._part[written] = len(rows._hashes)
                rows._hashes.append(known.tobytes())
        damaged = int(np.count_nonzero(part >= 0) - rows.done.sum())
        if damaged:
            inform(f"{directory}: the hidden states of {damaged:,} prompts are damaged; read again")
        if rows._hashes:  # the hash of a part is also of the shapes of the files
            rows._files = _reopened(directory, names)
        return rows

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """True for the rows that are written, (n,)."""
        return self._part >= 0

    def write(self, rows: Ints, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Write those rows of each array that are not written, and return how many they are."""
        if not self._files:
            self._files = _allocated(self.directory, arrays, self.n)
        new = ~self.done[rows]
        for name, values in arrays.items():
            self._files[name][rows[new]] = values[new]
        self._part[rows[new]] = len(self._hashes)
        return int(np.count_nonzero(new))

    def flush(self) -> None:
        """Bring all rows that are written, and then their hashes, to the disk."""
        written = np.flatnonzero(self._part == len(self._hashes))
        if not len(written):
            return
        for file in self._files.values():
            file.flush()  # type: ignore[attr-defined]
        self._hashes.append(_hash(self._files, written))
        hashes = np.frombuffer(b"".join(self._hashes), dtype=np.uint8).reshape(-1, 32)  # (P, 32)
        content = safetensors.numpy.save({"part": self._part, "hashes": hashes})
        write_file(self.directory / PROGRESS, content)
        # What is written needs no memory of this process any more.
        self._files = _reopened(self.directory, self._files)


def _hash(files: Files, rows: Ints) -> bytes:
    """Return the SHA-256 of some rows of all arrays, with the names, types and shapes of these."""
    digest = hashlib.sha256()
    for name in sorted(files):
        values = np.ascontiguousarray(files[name][rows])
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.view(np.uint8).data)
    return digest.digest()


def _reopened(directory: Path, names: Iterable[str]) -> Files:
    return {name: np.load(directory / f"{name}.npy", "r+") for name in names}


def _opened(path: Path, n: int) -> np.memmap[Any, Any]:
    """Map an array of n rows from the disk; ValueError if the file is cut or has other rows."""
    # Not "r+", which would fill a file that was cut.
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="r")
    if array.shape[:1] != (n,) or array.offset + array.nbytes != path.stat().st_size:
        raise ValueError(f"{path.name} has another size than {n} rows")
    return array


def _allocated(directory: Path, arrays: Mapping[str, npt.NDArray[Any]], n: int) -> Files:
    """Create the files at their full length, so that a full disk shows now and as an error."""
    files: Files = {}
    for name, values in arrays.items():
        path = directory / f"{name}.npy"
        with one_line_errors(path):
            files[name] = np.lib.format.open_memmap(
                path, "w+", dtype=values.dtype, shape=(n, *values.shape[1:])
            )
            if hasattr(os, "posix_fallocate"):
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return files
