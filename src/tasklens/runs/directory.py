"""The run directory: its paths, atomic writes and the lock.

A file under its final name is complete: it is written under a temporary name, synced and renamed,
and the manifest records its hash.
"""

import contextlib
import errno
import functools
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from filelock import FileLock, Timeout

from tasklens.core.errors import InputError
from tasklens.core.files import (
    file_hash,
    is_temporary,
    making,
    one_line_errors,
    remove,
    remove_temporaries,
    sync,
    temporary_beside,
    write_synced,
)
from tasklens.core.progress import detail, warn
from tasklens.runs.manifest import Manifest, drop, holds_inputs

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
#: Seconds that a single write waits for another process to let go of the directory.
PATIENCE = 60.0
#: Pattern of the directories that are filled over several calls.
_PARTIAL = re.compile(r"partial-step-\d+")
#: Pattern of the directories within a directory of hidden states.
_SHARD = re.compile(r"shard-\d+-of-\d+")


class RunDir(Manifest):
    """The paths of one run, and the only way to write there."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.config = self.path / "config.toml"
        self.data = self.path / "data"
        self.prompts = self.data / "prompts.parquet"
        self.checkpoints = self.path / "checkpoints"
        self.states = self.path / "states"
        self.measured = self.path / "measured"
        self.resume = self.path / "resume"
        self.metrics = self.path / "metrics.jsonl"
        self.scores_parquet = self.path / "scores.parquet"
        self.scores_csv = self.path / "scores.csv"
        self.interventions = self.path / "interventions"
        self.effects_parquet = self.path / "interventions.parquet"
        self.figures = self.path / "figures"
        self.verdict = self.path / "verdict.json"
        self.frames = self.path / "frames.safetensors"
        self.report = self.path / "report.html"
        self._lock = self.path / ".lock"
        self._holds = 0

    def checkpoint(self, step: int) -> Path:
        """Return the checkpoint directory of a step."""
        return self.checkpoints / f"step-{step:08d}"

    def states_at(self, step: int, position: str = "") -> Path:
        """Return the directory with the hidden states of a step, a file for each.

        Those of a position other than the first, which is named, are beside those of the first.
        """
        parent = self.states / position_directory(position) if position else self.states
        return parent / f"step-{step:08d}"

    def measured_at(self, step: int) -> Path:
        """Return the directory with the clusters and the scores of a step."""
        return self.measured / f"step-{step:08d}"

    def interventions_at(self, step: int) -> Path:
        """Return the file of what the edits at a step left."""
        return self.interventions / f"step-{step:08d}.safetensors"

    def figure(self, suffix: str, number: int = 1) -> Path:
        """Return the file of a figure."""
        return self.figures / f"figure{number}.{suffix}"

    @property
    def name(self) -> str:
        """The run's name: that of its directory."""
        return self.path.resolve().name.encode(errors="backslashreplace").decode()

    def is_new(self, own: Collection[Path] = ()) -> bool:
        """Return whether nothing but ``own`` is there, or what a run that made no data has left."""
        own = {self.manifest, *own}
        if self.manifest.exists():  # otherwise the file of settings may be the user's own
            own.add(self.config)
        with one_line_errors(self.path):
            return not self.path.exists() or all(
                path in own or is_temporary(path) or (path == self._lock and self.has_lock)
                for path in self.path.iterdir()
            )

    @property
    def has_lock(self) -> bool:
        """True if the file that is locked is there; it has no content."""
        return self._lock.is_file() and self._lock.stat().st_size == 0

    # -- writing ------------------------------------------------------------------------------

    def write(self, path: Path, content: bytes) -> None:
        """Write a file, which is complete under its name or not there, and record its hash."""
        with self.writing(path) as temporary:
            temporary.write_bytes(content)

    def write_directory(self, path: Path, files: Mapping[str, bytes]) -> None:
        """Write a directory of files, which is complete under its name or not there."""
        with self.writing(path) as temporary:
            temporary.mkdir()
            for name, content in files.items():
                (temporary / name).write_bytes(content)

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Give a name for a large file, or a directory of them, which becomes ``path``."""
        temporary = temporary_beside(path)
        with self._held(), one_line_errors(path):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
                self._rename(temporary, path)
            finally:
                remove(temporary)

    @contextlib.contextmanager
    def batch(self) -> Iterator[dict[str, Any]]:
        """Write the manifest once, see `Manifest.batch`, while no other process writes it."""
        with self._held(), super().batch() as manifest:
            yield manifest

    def partial(self, path: Path, inputs: str) -> Path:
        """Return the directory to fill with what depends on ``inputs``, which `fill` renames.

        After an interruption, a call with the same inputs returns it with what it holds.
        """
        partial = _partial(path)
        with one_line_errors(path):
            if (partial.exists() or partial.is_symlink()) and not _is_partial(partial):
                raise InputError(f"{partial} is not of tasklens: move it to another directory")
            if not holds_inputs(partial, inputs):
                _discard(partial)
                partial.mkdir(parents=True)
                write_synced(partial / "inputs", inputs.encode())
        return partial

    def fill(self, path: Path) -> None:
        """Rename the directory of `partial`, which is complete, and record its files' hashes."""
        with one_line_errors(path):
            self._rename(_partial(path), path)

    def drop_partial(self, parent: Path) -> None:
        """Remove the directories of `partial` that no call of `fill` has renamed."""
        for partial in parent.iterdir() if parent.is_dir() else ():
            if _is_partial(partial):
                _discard(partial)

    @contextlib.contextmanager
    def growing(self, path: Path) -> Iterator[TextIO]:
        """Open a file that grows line by line, and record its hash once it is complete.

        The one file that is under its name before that.
        """
        with self._held(), one_line_errors(path):
            self._forget(path)
            with path.open("a", buffering=1) as file:
                yield file
            sync(path)
            with self.batch() as manifest:
                manifest["files"][self._key(path)] = file_hash(path)

    def remove(self, path: Path) -> None:
        """Remove a file and its hash."""
        with self.batch() as manifest:
            drop(manifest, self._key(path))
            self._removed.add(path)

    def strip(self, directory: Path) -> None:
        """Remove the recorded files of a directory, but not their hashes; keep all others."""
        with self._held(), one_line_errors(directory):
            for name in self._recorded(directory):
                (directory / name).unlink(missing_ok=True)
            _remove_empty(directory)

    @property
    def is_writable(self) -> bool:
        """True if this user may write to the directory, and lock it."""
        lock = self._lock if self._lock.exists() else self.path
        return all(os.access(path, os.W_OK) for path in (self.path, lock))

    @contextlib.contextmanager
    def locked_to_read(self) -> Iterator[None]:
        """Hold the directory as `locked` does, unless this user may only read it."""
        with self.locked() if self.is_writable else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Hold the directory for this process, or raise InputError if another one holds it.

        The lock ends with the process at the latest. ``wait`` is in seconds. What an interrupted
        write left under a temporary name is removed.
        """
        with self._held(wait), one_line_errors(self.path):
            if self._holds == 1:
                stages = (self.states, self.checkpoints, self.measured, self.resume, self.figures)
                positions = self.states.glob("at=*")
                for folder in (self.path, self.data, self.interventions, *stages, *positions):
                    if folder.exists() and not folder.is_dir():
                        raise InputError(f"{folder} should be a directory: move the file elsewhere")
                    remove_temporaries(folder)
            yield

    @contextlib.contextmanager
    def _held(self, wait: float = PATIENCE) -> Iterator[None]:
        """Hold the lock, which this object may have already, while the block runs."""
        with contextlib.ExitStack() as stack:
            if self._holds == 0:
                with one_line_errors(self.path):
                    stack.enter_context(making(self.path))
                    self._acquire(stack, wait)
                    stack.enter_context(self._empty_if_refused())
            self._holds += 1
            try:
                yield
            finally:
                self._holds -= 1

    def _acquire(self, stack: contextlib.ExitStack, wait: float) -> None:
        """Take the lock until the stack is closed."""
        if self._lock.is_symlink() or (self._lock.exists() and not self._lock.is_file()):
            raise InputError(f"{self._lock} should be a file of tasklens: remove it")
        # Not soft: a soft lock is a file, which a killed process leaves.
        lock = FileLock(self._lock, timeout=wait, fallback_to_soft=False)
        try:
            stack.enter_context(lock)
        except Timeout as error:
            raise InputError(
                f"{self.path} is in use by another tasklens process; wait for it, or name "
                "another directory with --out"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _warn_of_no_locks(str(error.strerror))

    @contextlib.contextmanager
    def _empty_if_refused(self) -> Iterator[None]:
        """Remove what a block has left in an empty directory if it is refused before it has data.

        The lock is held meanwhile. A process that waits for it takes a new one.
        """
        was_empty = all(path == self._lock for path in self.path.iterdir())
        try:
            yield
        except InputError:
            if was_empty and self.is_new():
                for path in (self.config, self.manifest, self._lock):
                    path.unlink(missing_ok=True)
            raise

    def _rename(self, source: Path, path: Path) -> None:
        """Give a complete file or directory its final name, and record the hashes of its files."""
        files = sorted(file for file in (source, *source.rglob("*")) if file.is_file())
        # The directory itself is not synced: a file that a power cut takes out of it is missing,
        # which `made_from` and `finished` notice.
        hashes = {}
        for file in files:
            sync(file)
            hashes[self._key(path / file.relative_to(source))] = file_hash(file)
        with self.batch() as manifest:
            if path.exists() and path.is_dir() != source.is_dir():
                kind = "directory" if source.is_dir() else "file"
                raise InputError(f"{path} should be a {kind} of tasklens: move it elsewhere")
            if path.is_dir():
                self._check_own(path, {str(file.relative_to(source)) for file in files})
            self._forget(path)
            if path.is_dir():
                _discard(path)
            source.replace(path)
            self._renamed_in.add(path.parent)
            self._removed -= {self.path / key for key in hashes}
            manifest["files"] |= hashes
        detail(f"wrote {path}")

    def _check_own(self, directory: Path, new: set[str]) -> None:
        """Raise InputError if a directory that is replaced has a file that is not of tasklens."""
        own = new | set(self._recorded(directory))
        foreign = []
        for file in sorted(directory.rglob("*")):
            name = file.relative_to(directory)
            in_shard = len(name.parts) == 2 and _SHARD.fullmatch(name.parts[0])
            if not file.is_dir() and str(name) not in own and not in_shard:
                foreign.append(file)
        if foreign:
            more = f" and {len(foreign) - 1} more files in it" if len(foreign) > 1 else ""
            raise InputError(
                f"{foreign[0]}{more}: not of tasklens, and {directory} has to be written again; "
                "move what is not of tasklens elsewhere"
            )


def position_directory(position: str) -> str:
    """Return the name of the directory with the states of a position, which may be any text."""
    return f"at={quote(position, safe=' +:,')}"


def check_own_checkpoint(directory: Path) -> None:
    """Raise InputError if a model is a checkpoint of a training run, and a file of it is damaged.

    A flipped bit in the weights does not stop a model from being loaded.
    """
    directory = directory.resolve()
    run = RunDir(directory.parent.parent)
    if directory.parent == run.checkpoints and run.config.is_file() and run.manifest.is_file():
        for path in run.files_in(directory):
            run.check(path)


def _partial(path: Path) -> Path:
    return path.with_name(f"partial-{path.name}")


def _is_partial(path: Path) -> bool:
    """Return whether `RunDir.partial` has made a directory, perhaps in part."""
    if not _PARTIAL.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    return (path / "inputs").is_file() or not any(path.iterdir())


def _discard(directory: Path) -> None:
    """Remove a directory, if it is there, so that a crash leaves no part of it under its name."""
    if directory.exists():
        temporary = temporary_beside(directory)
        directory.replace(temporary)
        remove(temporary)


def _remove_empty(directory: Path) -> None:
    """Remove a directory if it has no file, and the directories in it that have none."""
    if directory.is_dir() and not directory.is_symlink():
        for inner in directory.iterdir():
            _remove_empty(inner)
        if not any(directory.iterdir()):
            directory.rmdir()


@functools.cache
def _warn_of_no_locks(reason: str) -> None:
    warn(
        f"the file system of the run directory has no locks ({reason}): let no other tasklens "
        "process use the directory meanwhile"
    )
