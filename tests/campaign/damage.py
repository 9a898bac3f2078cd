"""Damage of one file or directory of a copy."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from campaign import contents
from campaign.directories import Case, Directories
from e2e.damage import EDITS, VALUES, Edit


class Target(NamedTuple):
    """A file, or a directory, of a copy."""

    root: Path
    """The copy."""
    name: str
    """The path within the copy."""
    case: Case
    directories: Directories
    beside: Path
    """A directory beside the copy."""
    rng: Random

    @property
    def path(self) -> Path:
        """The path of what is damaged."""
        return self.root / self.name


#: Damages a target; returns what was done, or None if that cannot be done to it.
Damage = Callable[[Target], str | None]


def flip(t: Target) -> str | None:
    content = bytearray(t.path.read_bytes())
    if not content:
        return None
    i, bit = t.rng.randrange(len(content)), t.rng.randrange(8)
    content[i] ^= 1 << bit
    t.path.write_bytes(content)
    return f"bit {bit} of byte {i}"


def cut(t: Target) -> str | None:
    content = t.path.read_bytes()
    if not content:
        return None
    n = t.rng.randrange(len(content))
    t.path.write_bytes(content[:n])
    return f"cut to {n} of {len(content)} bytes"


def grow(t: Target) -> str | None:
    content = t.path.read_bytes()
    n = t.rng.choice([1, 64, len(content)])
    t.path.write_bytes(content + (content or b"\0")[-n:])
    return f"{n} bytes more"


def empty(t: Target) -> str | None:
    if not t.path.stat().st_size:
        return None
    t.path.write_bytes(b"")
    return "emptied"


def delete(t: Target) -> str | None:
    t.path.unlink()
    return "deleted"


def another_file(t: Target) -> str | None:
    """Replace a file by another one of its kind in the same directory."""
    content = t.path.read_bytes()
    others = [
        file
        for file in sorted(t.root.rglob(f"*{t.path.suffix}"))
        if file.is_file() and file.suffix == t.path.suffix and file.read_bytes() != content
    ]
    if not others:
        return None
    other = t.rng.choice(others)
    shutil.copyfile(other, t.path)
    return f"replaced by {other.relative_to(t.root)}"


def swap(t: Target) -> str | None:
    """Swap two files: of two steps, two states or two splits."""
    content = t.path.read_bytes()
    others = [*t.path.parent.glob(f"*{t.path.suffix}")]
    others += t.path.parent.parent.glob(f"step-*/{t.path.name}")
    others = [file for file in sorted(others) if file.is_file() and file.read_bytes() != content]
    if not others or t.path.parent == t.root:
        return None
    other = t.rng.choice(others)
    t.path.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return f"swapped with {other.relative_to(t.root)}"


def _from(t: Target, suffix: str) -> str | None:
    other = t.directories.cases.get(f"{t.case.kind} {suffix}")
    file = other and other.path / t.name
    if not file or not file.is_file() or file.read_bytes() == t.path.read_bytes():
        return None
    shutil.copyfile(file, t.path)
    return f"from the {t.case.kind} {suffix}"


def another_run(t: Target) -> str | None:
    return _from(t, "of seed 1")


def older(t: Target) -> str | None:
    """Replace a file by the one of an earlier measurement."""
    return _from(t, "measured before")


def directory(t: Target) -> str | None:
    t.path.unlink()
    t.path.mkdir()
    if t.rng.random() < 0.5:
        (t.path / "inside").write_text("a file")
    return "replaced by a directory"


def link(t: Target) -> str | None:
    """Replace a file by a link to a file outside, with the same bytes or with others."""
    copy = t.beside / t.path.name
    content = t.path.read_bytes()
    same = t.rng.random() < 0.5
    copy.write_bytes(content if same else content[::-1])
    t.path.unlink()
    t.path.symlink_to(copy)
    return f"a link to {'the same' if same else 'other'} bytes outside"


def link_to_nowhere(t: Target) -> str | None:
    t.path.unlink()
    t.path.symlink_to(t.beside / "nowhere")
    return "a link to nowhere"


def unreadable(t: Target) -> str | None:
    """Replace a file by what cannot be opened: also root may read a file without permissions."""
    t.path.unlink()
    kind = t.rng.choice(["socket", "loop", "pipe"])
    if kind == "loop":
        t.path.symlink_to(t.path.name)
    elif kind == "pipe":
        os.mkfifo(t.path)
    else:
        before = Path.cwd()
        os.chdir(t.path.parent)  # the path of a socket has to be short
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(t.path.name)
        finally:
            os.chdir(before)
    return f"replaced by a {kind}"


def edit(t: Target) -> str | None:
    """Replace, remove or add a value of JSON or TOML."""
    content = t.path.read_bytes()
    change = Edit(t.path.suffix, t.rng.random(), t.rng.choice(EDITS), t.rng.choice(VALUES))
    if t.path.suffix not in (".json", ".jsonl", ".toml"):
        return None
    try:
        changed = change(content)
    except (ValueError, IndexError, TypeError):
        return None
    t.path.write_bytes(changed)
    return None if changed == content else f"{change}"[:150]


def hostile(t: Target) -> str | None:
    """Give a text file a content that it should not have."""
    content = t.path.read_bytes()
    if t.path.suffix not in (".json", ".jsonl", ".toml", ".csv"):
        return None
    changed, what = contents.hostile(content, t.rng)
    t.path.write_bytes(changed)
    return None if changed == content else what


DAMAGES: dict[str, Damage] = {
    "flip": flip,
    "cut": cut,
    "grow": grow,
    "empty": empty,
    "delete": delete,
    "another-file": another_file,
    "another-run": another_run,
    "older": older,
    "swap": swap,
    "directory": directory,
    "link": link,
    "link-to-nowhere": link_to_nowhere,
    "unreadable": unreadable,
    "edit": edit,
    "hostile": hostile,
}
