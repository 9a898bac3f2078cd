"""The run directory: the only owner of paths, atomic writes, the manifest and finished marks.

What stands under its final name is whole: files are written under a temporary name, synced and
renamed. A stage is finished when its mark, written last, matches the hash of its settings and
inputs.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from tasklens.core.errors import InputError
from tasklens.core.files import describe_machine, digest, one_line_errors, sha256, sync_directory, synced_hash, write_file, write_synced

_PACKAGES = (
    *("tasklens", "torch", "numpy", "numba", "scipy", "scikit-learn", "pyarrow"),
    *("transformers", "tokenizers"),
)


class RunDir:
    """The paths of one run, and the only way to write there.

    Parameters
    ----------
    path : path
        Need not exist; it is made by the first write.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.manifest = self.path / "manifest.json"
        self.data = self.path / "data"
        self.prompts = self.data / "prompts.parquet"
        self.checkpoints = self.path / "checkpoints"
        self.states = self.path / "states"
        self.measured = self.path / "measured"
        self.resume = self.path / "resume"
        self.metrics = self.path / "metrics.jsonl"
        self.scores_parquet = self.path / "scores.parquet"
        self.scores_csv = self.path / "scores.csv"
        self.figures = self.path / "figures"
        self.verdict = self.path / "verdict.json"
        self.frames = self.path / "frames.safetensors"
        self.report = self.path / "report.html"

    def checkpoint(self, step: int) -> Path:
        """Return the checkpoint directory of a step."""
        return self.checkpoints / f"step-{step:08d}"

    def states_of(self, step: int) -> Path:
        """Return the file with the harvested states of a step."""
        return self.states / f"step-{step:08d}.safetensors"

    def states_at(self, step: int) -> Path:
        """Return the directory with the harvested states of a step, where each has its own file."""
        return self.states / f"step-{step:08d}"

    def measured_at(self, step: int) -> Path:
        """Return the directory with the clusters and the scores of a step."""
        return self.measured / f"step-{step:08d}"

    def figure(self, suffix: str, number: int = 1) -> Path:
        """Return the file of a figure."""
        return self.figures / f"figure{number}.{suffix}"

    @property
    def name(self) -> str:
        """The run's name: that of its directory."""
        return self.path.resolve().name

    @property
    def is_probe(self) -> bool:
        """Whether it is a probe's, which holds somebody's prompts and no data of our own."""
        return self.prompts.exists()

    def is_new(self) -> bool:
        """Say whether nothing is there, or no more than a run that made no data has left."""
        own = {self.manifest.name, ".lock"}
        if self.manifest.exists():  # else the file of settings may be the user's own
            own.add(self.config.name)
        with one_line_errors(self.path):
            return not self.path.exists() or all(
                p.name in own or p.name.startswith(".tmp-") for p in self.path.iterdir()
            )

    # -- writing ------------------------------------------------------------------------------

    def write(self, path: Path, content: bytes) -> None:
        """Write a file so that it is whole under its name or not there, and note its hash."""
        self._forget([path])
        write_file(path, content)
        self._note({path: content})

    def write_directory(self, path: Path, files: Mapping[str, bytes]) -> None:
        """Write a directory of files so that it is whole under its name or not there."""
        with one_line_errors(path):
            self._forget([*(path / name for name in files), *self._noted_within(path)])
            temporary = path.with_name(f".tmp-{path.name}")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, content in files.items():
                write_synced(temporary / name, content)
            sync_directory(temporary)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
            sync_directory(path.parent)
        self._note({path / name: content for name, content in files.items()})

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Give a name to write a large file under, which is ``path`` once this ends well."""
        self._forget([path])
        temporary = path.with_name(f".tmp-{path.name}")
        with one_line_errors(path):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
                found = synced_hash(temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(path.parent)
        self._note_hashes({path: found})

    @contextlib.contextmanager
    def filling(self, path: Path, inputs: str) -> Iterator[Path]:
        """Give a directory to fill with large files, which is ``path`` once this ends well.

        Until then it has another name, under which a later call with the same inputs finds what is
        in it. The hashes of its files are noted at the end.

        Parameters
        ----------
        path : Path
        inputs : str
            The hash of what its files depend on; see `made_from`.
        """
        yield self.partial(path, inputs)
        self.fill(path)

    def partial(self, path: Path, inputs: str) -> Path:
        """Return the directory to fill that will be ``path``, see `filling`; end with `fill`."""
        partial = path.with_name(f"partial-{path.name}")
        mark = partial / "inputs"
        with one_line_errors(path):
            if not mark.exists() or mark.read_text() != inputs:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                write_synced(mark, inputs.encode())
        return partial

    def fill(self, path: Path) -> None:
        """Give a directory that is full its name, and note the hashes of its files."""
        partial = path.with_name(f"partial-{path.name}")
        hashes = {}
        with one_line_errors(path):
            for file in sorted(partial.rglob("*")):
                if file.is_file():
                    hashes[path / file.relative_to(partial)] = synced_hash(file)
            self._forget([*hashes, *self._noted_within(path)])
            if path.exists():
                shutil.rmtree(path)
            partial.replace(path)
            sync_directory(path.parent)
        self._note_hashes(hashes)

    def drop_partial(self, place: Path) -> None:
        """Remove directories that `filling` was not asked to go on with."""
        for partial in place.glob("partial-*"):
            shutil.rmtree(partial, ignore_errors=True)

    @contextlib.contextmanager
    def growing(self, path: Path) -> Iterator[TextIO]:
        """Open a file that grows line by line, and note its hash once it is whole.

        The one file that may stand under its name before that.
        """
        self._forget([path])
        with one_line_errors(path), path.open("a", buffering=1) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        self._note({path: path.read_bytes()})

    def remove(self, path: Path) -> None:
        """Remove a file and its hash."""
        self._forget([path])
        path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what an interrupted write left under a temporary name."""
        for leftover in self.path.rglob(".tmp-*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Hold the directory for this process.

        Parameters
        ----------
        wait : float
            Seconds to wait for another process that holds it.

        Raises
        ------
        InputError
            Where another one holds it still.
        """
        with one_line_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock:
            until = time.monotonic() + wait
            while not _lock(lock):
                if time.monotonic() >= until:
                    raise InputError(
                        f"{self.path} is in use by another tasklens process; wait for it, or name "
                        "another directory with --out"
                    )
                time.sleep(0.1)
            self.clean()
            yield

    # -- reading ------------------------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        """Read a file and compare it with the hash noted when it was written."""
        try:
            content = path.read_bytes()
        except OSError as error:
            remedy = "run the stage that makes it first: tasklens data, train, measure, plot"
            if self.is_probe:
                remedy = "go on with tasklens probe ... --resume"
            raise InputError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
        self._compare(path, sha256(content))
        return content

    def check(self, path: Path) -> None:
        """Compare a file with the hash noted when it was written, without holding it in memory."""
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); run again with --resume"
            ) from error
        self._compare(path, found)

    def _compare(self, path: Path, found: str) -> None:
        noted = self.noted(path)
        if noted is not None and noted != found:
            raise InputError(
                f"{path} is damaged: its SHA-256 is not the one in {self.manifest.name}; "
                "remove it and run again with --resume"
            )

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest; empty where there is none yet."""
        if not self.manifest.exists():
            return {}
        try:
            content = json.loads(self.manifest.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{self.manifest} is damaged ({error}); restore or move it") from error
        if not _is_manifest(content):
            raise InputError(f"{self.manifest} is damaged (not a manifest); restore or move it")
        return content  # type: ignore[no-any-return]

    # -- marks --------------------------------------------------------------------------------

    def begin(self, seed: int, command: str) -> None:
        """Note versions, machine, seed and command in the manifest."""
        about = {
            "seed": seed,
            "command": command,
            "versions": {"python": platform.python_version()}
            | {name: _version(name) for name in _PACKAGES},
            "machine": describe_machine(),
        }
        self._write_manifest(self.read_manifest() | about)

    def mark(self, stage: str) -> dict[str, Any] | None:
        """Return the mark of a finished stage: its inputs, its files, and what was said of it."""
        return self.read_manifest().get("stages", {}).get(stage)  # type: ignore[no-any-return]

    def finished(self, stage: str, inputs: str) -> bool:
        """Say whether the stage was finished with these inputs and all its files are there.

        Raises
        ------
        InputError
            Where one of them is damaged.
        """
        mark = self.mark(stage)
        if mark is None or mark["inputs"] != inputs:
            return False
        noted = self.read_manifest().get("files", {})
        paths = [self.path / key for key in mark["files"] if key in noted]
        if len(paths) < len(mark["files"]) or not all(path.exists() for path in paths):
            return False
        for path in paths:
            self.check(path)
        return True

    @contextlib.contextmanager
    def stage(self, stage: str, inputs: str) -> Iterator[Callable[..., None] | None]:
        """Give the function that marks the stage as finished, or None where it already is."""
        if self.finished(stage, inputs):
            yield None
            return
        began = time.perf_counter()

        def finish(files: list[Path], **about: object) -> None:
            seconds = round(time.perf_counter() - began, 2)
            self.finish(stage, inputs, files, seconds=seconds, **about)

        yield finish

    def finish(self, stage: str, inputs: str, files: list[Path], **about: object) -> None:
        """Write the mark of a finished stage."""
        manifest = self.read_manifest()
        mark = {"inputs": inputs, "files": [self._key(path) for path in files], **about}
        manifest.setdefault("stages", {})[stage] = mark
        self._write_manifest(manifest)

    def unfinish(self, stage: str) -> None:
        """Remove the mark of a stage, if it is there."""
        manifest = self.read_manifest()
        if manifest.get("stages", {}).pop(stage, None) is not None:
            self._write_manifest(manifest)

    def made_from(self, directory: Path, inputs: str) -> bool:
        """Say whether a directory was made from these inputs and all its files are there."""
        mark = directory / "inputs"
        if not mark.exists() or mark.read_text() != inputs:
            return False
        noted = self._noted_within(directory)  # without the mark where killed before noting
        return mark in noted and all(path.exists() for path in noted)

    def _noted_within(self, directory: Path) -> list[Path]:
        within = f"{self._key(directory)}/"
        noted = self.read_manifest().get("files", {})
        return [self.path / key for key in noted if key.startswith(within)]

    def noted(self, path: Path) -> str | None:
        """Return the hash noted when a file was written; None where none was."""
        return self.read_manifest().get("files", {}).get(self._key(path))  # type: ignore[no-any-return]

    def output_hash(self, stage: str) -> str:
        """Return one hash over all files of a finished stage."""
        manifest = self.read_manifest()
        keys = manifest["stages"][stage]["files"]
        return digest({key: manifest["files"][key] for key in keys})

    def _key(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    def _note(self, contents: Mapping[Path, bytes]) -> None:
        """Note the hashes of files: of all of them, or of none where this is interrupted."""
        self._note_hashes({path: sha256(content) for path, content in contents.items()})

    def _note_hashes(self, hashes: Mapping[Path, str]) -> None:
        manifest = self.read_manifest()
        noted = {self._key(path): found for path, found in hashes.items()}
        manifest.setdefault("files", {}).update(noted)
        self._write_manifest(manifest)

    def _forget(self, paths: Iterable[Path]) -> None:
        """Drop files' hashes before the files change, lest a crash leave a wrong one.

        A stage that has made one of them is not finished any more.
        """
        manifest = self.read_manifest()
        files, stages = manifest.get("files", {}), manifest.get("stages", {})
        gone = {key for key in map(self._key, paths) if files.pop(key, None) is not None}
        for stage in [name for name, mark in stages.items() if gone.intersection(mark["files"])]:
            del stages[stage]
        if gone:
            self._write_manifest(manifest)

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        with one_line_errors(self.manifest):
            self.path.mkdir(parents=True, exist_ok=True)
            temporary = self.manifest.with_name(".tmp-manifest.json")
            write_synced(temporary, (json.dumps(manifest, indent=2) + "\n").encode())
            temporary.replace(self.manifest)


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _version(package: str) -> str | None:
    """Return the version of a package; None where it is not installed, as numba need not be."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _is_manifest(content: object) -> bool:
    """Say whether what stands in the file is what `RunDir` relies on."""
    if not isinstance(content, dict):
        return False
    files, stages = content.get("files", {}), content.get("stages", {})
    if not isinstance(files, dict) or not isinstance(stages, dict):
        return False
    return all(isinstance(m, dict) and {"inputs", "files"} <= m.keys() for m in stages.values())


import contextlib as _c
def _hash_of(self, directory):
    files = self.read_manifest().get("files", {})
    within = self._key(directory) + "/"
    return digest({k: v for k, v in files.items() if k.startswith(within)})
RunDir.hash_of = _hash_of
RunDir.batch = lambda self: _c.nullcontext()
RunDir.check_format = lambda self: None
