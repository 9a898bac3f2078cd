"""Recognise what stands in the place of a file that was not downloaded."""

from pathlib import Path

from tasklens.core.errors import InputError

#: How many bytes of a file `stand_in` needs.
HEAD = 64
_LFS = b"version https://git-lfs"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")


def stand_in(head: bytes) -> str:
    """Return what the first bytes of a file show that is not its content; empty if it may be."""
    if head.startswith(_LFS):
        return "is a Git LFS pointer instead of the file: run git lfs pull in its repository"
    if head.lstrip().lower().startswith(_PAGES):
        return "is a web page instead of the file: download it again"
    return "" if head else "is empty: should have content; copy or download it again"


def check_downloaded(path: Path) -> None:
    """Raise InputError if a path is no file, cannot be read, or has what `stand_in` recognises."""
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{path} is a link to {path.readlink()}, which is not there: restore it, or download "
            "the file again"
        )
    if not path.is_file():
        raise InputError(f"{path} is not a file: should be one")
    try:
        with path.open("rb") as file:
            why = stand_in(file.read(HEAD))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if why:
        raise InputError(f"{path} {why}")
