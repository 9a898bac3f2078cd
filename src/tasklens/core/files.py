"""Write files that are complete under their final name, and hash their content."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasklens.core.errors import InputError


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete under its name or absent."""
    with one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{path.name}")
        try:
            write_synced(temporary, content)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def digest(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def check_system() -> None:
    """Raise InputError on Windows, where a directory cannot be synced."""
    if sys.platform == "win32":
        raise InputError("tasklens runs on Linux and macOS, not on Windows; use it in WSL")


def describe_machine() -> dict[str, Any]:
    """Return the properties of this machine that a result may depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = re.search(r"^model name\s*: *(.*)", cpuinfo.read_text(), re.MULTILINE)
        model = named[1].strip() if named else model
    return {"system": platform.platform(), "processor": model, "cpus": os.cpu_count()}


def sha256(content: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and sync it to the disk."""
    path.write_bytes(content)
    sync(path)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Sync a file's content, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's error into one line that names the file that was not written."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(
                f"no space left on the device while writing {path}; free some space, then run "
                "again with --resume: all finished work is kept"
            ) from error
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
