"""Write files that are complete under their final name, and hash their content."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import platform
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tasklens.core.errors import InputError

#: What the system answers if there is no room for what is written.
_FULL = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.EFBIG: "a file is larger than the limit of this process or the file system",
}
#: Beginning of the names of files that are not complete.
_TEMPORARY = ".tasklens-"
#: Most bytes of a file of settings.
MOST_BYTES = 2**24


def write_file(path: Path, content: bytes, own: bytes = b"") -> None:
    """Write a file so that it is either complete under its name or absent; see `writing_file`."""
    with writing_file(path, own) as file:
        file.write(content)


@contextlib.contextmanager
def writing_file(path: Path, own: bytes = b"") -> Iterator[BinaryIO]:
    """Open a file that is complete under its name if the block ends, and absent otherwise.

    An existing file keeps its permissions. A link stays, and what it points to is written. A device
    or a pipe is written to, and is not replaced. With ``own``, an existing file must contain these
    bytes, by which a file of tasklens is recognised; otherwise InputError.
    """
    with one_line_errors(path):
        if own and path.exists() and own not in path.read_bytes():
            raise InputError(f"{path} is not of tasklens; move it, or name another file with --out")
        is_file = path.is_file() and Path("/dev") not in path.absolute().parents
        if path.exists() and (not is_file or not os.access(path, os.W_OK)):
            with path.open("wb") as file:  # or the error of a directory, or of a read-only file
                yield file
            return
        target = Path(os.path.realpath(path))
        if target.is_symlink():  # a link in a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with making(path.parent):
            temporary = temporary_beside(target)
            try:
                with temporary.open("xb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                _take_name(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            sync(target.parent)


@contextlib.contextmanager
def making(directory: Path) -> Iterator[None]:
    """Make a directory and its parents; remove those that are new and empty if the block fails."""
    missing = itertools.takewhile(lambda each: not each.exists(), (directory, *directory.parents))
    new = list(missing)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in new:
            with contextlib.suppress(OSError):  # it is not there, or has files
                each.rmdir()
        raise


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside a path, and give it this name and the permissions of the former file."""
    temporary = temporary_beside(path)
    try:
        write_synced(temporary, content)
        _take_name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, path: Path) -> None:
    """Give a complete file its final name, and the permissions of the former file."""
    if path.is_file():
        shutil.copymode(path, temporary)
    temporary.replace(path)


def check_is_file(path: Path, remedy: str = "remove it and run again with --resume") -> None:
    """Raise InputError if a path is something else than a file: reading a pipe would block."""
    with _named(path):
        if "\0" in str(path):
            raise ValueError  # as `stat` does, but not `exists`
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file; {remedy}")


def read_small_file(path: Path) -> bytes:
    """Return the content of a user's file of settings, or of another small file.

    InputError if it cannot be read, is no file, or is larger than any file of this kind. A pipe or
    a device may have no end.
    """
    with _named(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise InputError(f"{path} cannot be read: it is {kind}; should be a file")
        if status.st_size > MOST_BYTES:
            raise InputError(
                f"{path} cannot be read: it has {status.st_size:,} bytes; should have at most "
                f"{MOST_BYTES:,}"
            )
        return path.read_bytes()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn an error of reading a file into one line; a name may be too long, or have a NUL."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name has a NUL"
        raise InputError(f"{path} cannot be read: {reason}") from error


def temporary_beside(path: Path) -> Path:
    """Return a new name beside a path, for a file or a directory that is not yet complete.

    The name is random, so that it cannot be guessed. It ends in a checksum, by which
    `is_temporary` recognises what an interrupted process has left.
    """
    token = secrets.token_hex(8)
    return path.with_name(f"{_TEMPORARY}{token}{_checksum(token)}")


def is_temporary(path: Path) -> bool:
    """Return whether `temporary_beside` gave this name, and this user owns what has it."""
    token = path.name.removeprefix(_TEMPORARY)[:16]
    if path.name != f"{_TEMPORARY}{token}{_checksum(token)}":
        return False
    try:
        return path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another process has just given it its final name
        return True


def remove_temporaries(directory: Path) -> None:
    """Remove what interrupted processes have left in a directory under temporary names."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if is_temporary(path):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a directory, if it is there. A link is not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _checksum(token: str) -> str:
    return sha256(f"tasklens temporary file {token}".encode())[:16]


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
    """Write a file and sync it to the disk; FileExistsError if it is there."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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
        if error.errno in _FULL:
            raise InputError(
                f"{_FULL[error.errno]} while writing {path}; free some space, then run "
                "again with --resume: all finished work is kept"
            ) from error
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
