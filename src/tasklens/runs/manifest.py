"""The manifest of a run directory: the hashes of its files and the marks of its finished stages.

A stage is finished if its mark, which is written last, matches the hash of its settings and inputs.
"""

import contextlib
import copy
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from tasklens import __version__
from tasklens.core.errors import InputError
from tasklens.core.files import (
    check_is_file,
    describe_machine,
    digest,
    file_hash,
    one_line_errors,
    replace_file,
    sha256,
    sync,
)
from tasklens.core.progress import detail
from tasklens.runs.manifest_file import FORMAT, is_inside, manifest_bytes, parse_manifest

_PACKAGES = (
    *("torch", "numpy", "numba", "scipy", "scikit-learn", "pyarrow"),
    *("transformers", "tokenizers"),
)
#: What a lost manifest means.
NO_MANIFEST = (
    "the files of the run are checked with it: restore it, or run again with --resume, which makes "
    "the run again"
)
#: The files of a run, by path or by the first part of it.
_KINDS = {
    "config.toml": "the settings of the run",
    "data": "a file of what the model is asked",
    "data/prompts.parquet": "the labelled prompts",
    "checkpoints": "a file of a checkpoint's model",
    "resume": "the state to resume training from",
    "metrics.jsonl": "the losses of training",
    "states": "hidden states, or what is known of them",
    "measured": "clusters or scores of a checkpoint",
    "scores.parquet": "the table of scores",
    "interventions": "what edits at a checkpoint left",
    "interventions.parquet": "the table of effects",
    "frames.safetensors": "the maps of the report",
}


class Manifest:
    """Record of a run directory, which need not exist: the first write makes it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest = self.path / "manifest.json"
        self._cached: tuple[object, Any] = (None, None)
        self._checked: dict[Path, object] = {}
        self._batch: dict[str, Any] | None = None
        self._renamed_in: set[Path] = set()
        self._removed: set[Path] = set()

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest, not to be changed; it has "files" and "stages" from the start."""
        return self._on_disk() if self._batch is None else self._batch

    def _on_disk(self) -> dict[str, Any]:
        check_is_file(self.manifest, "restore or move it")
        try:
            version = _version_of(self.manifest)
            if version != self._cached[0]:
                self._cached = (version, parse_manifest(self.manifest.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return {"files": {}, "stages": {}}
        except OSError as error:
            raise InputError(f"{self.manifest} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{self.manifest} is damaged ({error}); restore or move it") from error
        return self._cached[1]  # type: ignore[no-any-return]

    def _write(self, manifest: dict[str, Any]) -> None:
        with one_line_errors(self.manifest):
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self.manifest, manifest_bytes(manifest))

    @contextlib.contextmanager
    def batch(self) -> Iterator[dict[str, Any]]:
        """Write the manifest once, at the end, for all that the block writes and removes.

        Until then a new file is complete under its name but its hash is not recorded, and a removed
        one is still there. An error in the block leaves it at that, as a crash does.
        """
        if self._batch is not None:
            yield self._batch
            return
        self._batch = copy.deepcopy(self._on_disk())
        self._renamed_in, self._removed = set(), set()
        try:
            yield self._batch
            for directory in sorted(self._renamed_in):  # before the hashes of what is in it
                with one_line_errors(directory):
                    sync(directory)
            if self._batch != self._on_disk():
                self._write(self._batch)
            for path in self._removed:
                with one_line_errors(path):
                    path.unlink(missing_ok=True)
        finally:
            self._batch = None

    def _forget(self, path: Path) -> None:
        """Remove recorded hashes, also on the disk, so that a crash leaves no wrong one.

        A new file has none, and costs no write of the manifest.
        """
        manifest = copy.deepcopy(self._on_disk())
        if drop(manifest, self._key(path)):
            self._write(manifest)
            sync(self.path)
        if self._batch is not None:
            drop(self._batch, self._key(path))

    # -- where a run comes from ---------------------------------------------------------------

    def begin(self, seed: int, command: str) -> None:
        """Record format, versions, machine, seed and command, after `check_format`."""
        self.check_format()
        with self.batch() as manifest:
            manifest |= {
                "format": FORMAT,
                "seed": seed,
                "command": command,
                "versions": {"python": platform.python_version(), "tasklens": __version__}
                | {name: _version(name) for name in _PACKAGES},
                "machine": describe_machine(),
            }

    def check_format(self) -> None:
        """Raise InputError if a version with another layout made the finished stages."""
        manifest = self.read_manifest()
        theirs = manifest.get("format", 1)
        if manifest["stages"] and theirs != FORMAT:
            version = manifest.get("versions", {}).get("tasklens", "of an unknown version")
            raise InputError(
                f"{self.path} was made by tasklens {version} (format {theirs}); this version reads "
                f"format {FORMAT}: make the run again, or read it with that version"
            )

    # -- stages -------------------------------------------------------------------------------

    def mark(self, stage: str) -> dict[str, Any] | None:
        """Return the mark of a finished stage: inputs, files, and what `finish` was given."""
        return self.read_manifest()["stages"].get(stage)  # type: ignore[no-any-return]

    def finished(self, stage: str, inputs: str) -> bool:
        """Return whether the stage was finished with these inputs and all its files are there.

        Raises InputError if one of them is damaged.
        """
        mark = self.mark(stage)
        if mark is None or mark["inputs"] != inputs or not self.has_files(stage):
            return False
        for key in mark["files"]:
            self.check(self.path / key)
        return True

    def has_files(self, stage: str) -> bool:
        """Return whether all files of a finished stage are there; they are not read."""
        paths = [self.path / key for key in self.read_manifest()["stages"][stage]["files"]]
        return all(self.noted(path) and path.is_file() for path in paths)

    @contextlib.contextmanager
    def stage(self, stage: str, inputs: str) -> Iterator[Callable[..., None] | None]:
        """Give the function that marks the stage as finished, or None if it already is."""
        if self.finished(stage, inputs):
            detail(f"{stage}: already done")
            yield None
            return
        began = time.perf_counter()

        def finish(files: list[Path], **facts: object) -> None:
            seconds = round(time.perf_counter() - began, 2)
            self.finish(stage, inputs, files, seconds=seconds, **facts)
            detail(f"{stage}: {len(files)} files in {self.path}, made in {seconds} s")

        yield finish

    def finish(self, stage: str, inputs: str, files: list[Path], **facts: object) -> None:
        """Write the mark of a finished stage."""
        keys = [self._key(path) for path in files]
        with self.batch() as manifest:
            manifest["stages"][stage] = {"inputs": inputs, "files": keys, **facts}

    def unfinish(self, stage: str) -> None:
        """Remove the mark of a stage, if it is there."""
        with self.batch() as manifest:
            manifest["stages"].pop(stage, None)

    # -- hashes -------------------------------------------------------------------------------

    def check(self, path: Path) -> None:
        """Raise InputError if a file is missing or differs from its recorded hash.

        A file that this object has checked, and that has not been written since, is not read again.
        """
        with self._readable(path):
            version = _version_of(path), self.noted(path)
            if self._checked.get(path) == version:
                return
            present = file_hash(path)
        self._compare(path, present)
        self._checked[path] = version

    def is_intact(self, path: Path) -> bool:
        """Return whether a file is there with its recorded hash."""
        try:
            self.check(path)
        except InputError:
            return False
        return True

    def read(self, path: Path) -> bytes:
        """Check a file against its recorded hash and return its content."""
        with self._readable(path):
            content = path.read_bytes()
        self._compare(path, sha256(content))
        return content

    @contextlib.contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        check_is_file(path)
        try:
            yield
        except FileNotFoundError as error:
            if self.noted(path) is None:
                raise InputError(
                    f"{path} is not there; run the stage that makes it first, or run again with "
                    "--resume"
                ) from error
            key = self._key(path)
            kind = _KINDS.get(key) or _KINDS.get(key.partition("/")[0], "a file of the run")
            raise InputError(
                f"{path} is gone, {kind}; restore it, or run again with --resume, which makes it "
                "again"
            ) from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error

    def _compare(self, path: Path, present: str) -> None:
        noted = self.noted(path)
        if noted != present:
            name = self.manifest.name
            reason = f"its SHA-256 is not the one in {name}"
            if noted is None:
                reason = f"{name} has no hash of it"
            if not self.manifest.exists():
                raise InputError(f"{self.manifest} is gone; {NO_MANIFEST}")
            raise InputError(f"{path} is damaged: {reason}; remove it and run again with --resume")

    def made_from(self, directory: Path, inputs: str) -> bool:
        """Return whether a directory was made from these inputs and all its files are there."""
        recorded = self._recorded(directory)  # none after a crash before they were recorded
        return (
            holds_inputs(directory, inputs)
            and "inputs" in recorded
            and all((directory / name).is_file() for name in recorded)
        )

    def noted(self, path: Path) -> str | None:
        """Return the recorded hash of a file, or None."""
        return self.read_manifest()["files"].get(self._key(path))  # type: ignore[no-any-return]

    def hash_of(self, directory: Path) -> str:
        """Return one hash over the recorded hashes of the files within a directory."""
        return digest(self._recorded(directory))

    def files_in(self, directory: Path) -> list[Path]:
        """Return the files within a directory whose hashes are recorded."""
        return [directory / name for name in self._recorded(directory)]

    def output_hash(self, stage: str) -> str:
        """Return one hash over all files of a finished stage."""
        manifest = self.read_manifest()
        files = manifest["stages"][stage]["files"]
        return digest({key: manifest["files"].get(key) for key in files})

    def _recorded(self, directory: Path) -> dict[str, str]:
        """Return the recorded hashes of the files within a directory, by name within it."""
        own, files = self._key(directory), self.read_manifest()["files"]
        return {
            str(PurePosixPath(key).relative_to(own)): files[key]
            for key in files
            if key.startswith(f"{own}/")
        }

    def _key(self, path: Path) -> str:
        key = path.relative_to(self.path).as_posix()
        if not is_inside(key):
            raise InputError(f"{path} is not in the run directory {self.path}")
        return key


def holds_inputs(directory: Path, inputs: str) -> bool:
    """Return whether a directory was begun with these inputs."""
    mark = directory / "inputs"
    return mark.is_file() and mark.read_bytes() == inputs.encode()


def drop(manifest: dict[str, Any], own: str) -> bool:
    """Remove the hashes of a file or of those within a directory; return if there were any.

    A stage that has made one of them is not finished any more.
    """
    files, stages = manifest["files"], manifest["stages"]
    gone = {key for key in files if key == own or key.startswith(f"{own}/")}
    for key in gone:
        del files[key]
    for stage in [name for name, mark in stages.items() if gone.intersection(mark["files"])]:
        del stages[stage]
    return bool(gone)


def _version_of(path: Path) -> tuple[int, ...]:
    """Return numbers that differ once a file is written again, or another takes its name."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed, as numba need not be."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
