"""Damage of directories, of locks, and of what a directory records of itself."""

import json
import os
import shutil
from pathlib import Path

import numpy as np

from campaign.damage import Damage, Target
from e2e.damage import EDITS, VALUES, Edit
from tasklens.runs.manifest_file import manifest_bytes


def delete_directory(t: Target) -> str | None:
    shutil.rmtree(t.path)
    return "deleted"


def empty_directory(t: Target) -> str | None:
    shutil.rmtree(t.path)
    t.path.mkdir()
    return "emptied"


def swap_directories(t: Target) -> str | None:
    """Swap two directories of the same level, such as those of two steps."""
    names = {name for name in t.case.directories if Path(name).parent == Path(t.name).parent}
    others = [t.root / name for name in sorted(names - {t.name})]
    # A run in a sweep is a run of its own, whatever its directory is called.
    if not others or t.path.parent == t.root or t.path.parent.name == "runs":
        return None
    other, spare = t.rng.choice(others), t.beside / "spare"
    t.path.rename(spare)
    other.rename(t.path)
    spare.rename(other)
    return f"swapped with {other.name}"


def file_instead(t: Target) -> str | None:
    shutil.rmtree(t.path)
    t.path.write_bytes(b"a file")
    return "replaced by a file"


def directory_of_another_run(t: Target) -> str | None:
    other = t.directories.cases.get(f"{t.case.kind} of seed 1")
    if other is None or not (other.path / t.name).is_dir():
        return None
    shutil.rmtree(t.path)
    shutil.copytree(other.path / t.name, t.path)
    return "from the run of seed 1"


def directory_elsewhere(t: Target) -> str | None:
    """Move a directory to another disk, so to speak, and leave a link to it."""
    elsewhere = t.beside.with_name("elsewhere")  # beside is watched
    shutil.move(t.path, elsewhere)
    t.path.symlink_to(elsewhere)
    return "moved outside, with a link to it"


def link_instead(t: Target) -> str | None:
    """Replace a directory by a link to a directory of others."""
    if t.path.parent == t.root:  # the states, or the runs, may be on another disk
        return None
    shutil.rmtree(t.path)
    t.path.symlink_to(t.beside / "theirs")
    return "a link to a directory of others"


TREES: list[Damage] = [
    delete_directory,
    empty_directory,
    swap_directories,
    file_instead,
    directory_of_another_run,
    directory_elsewhere,
    link_instead,
]


def damage_tree(t: Target) -> str | None:
    """Damage a directory in one of these ways."""
    return t.rng.choice(TREES)(t)


def replace_lock(t: Target) -> str | None:
    """Replace the lock by a directory, a link, or something that is no file."""
    t.path.unlink()
    kind = t.rng.choice(["directory", "link", "link to nowhere", "pipe", "loop", "file of bytes"])
    if kind == "directory":
        t.path.mkdir()
    elif kind == "pipe":
        os.mkfifo(t.path)
    elif kind == "file of bytes":
        t.path.write_bytes(b"bytes")
    else:
        aims: dict[str, str | Path] = {"link": t.beside / "theirs.txt", "loop": t.path.name}
        t.path.symlink_to(aims.get(kind, t.beside / "nowhere"))
    return f"replaced by a {kind}"


def falsify(t: Target) -> str | None:
    """Let a directory record what is not so: marks without files, unfinished work as finished."""
    false = t.rng.choice(
        [_finished_manifest, _stopped_manifest, _all_done, _final_name, _no_inputs]
    )
    return false(t)


def edit_manifest(t: Target) -> str | None:
    """Change a value of the manifest, with a hash of itself that is right."""
    change = Edit(".json", t.rng.random(), t.rng.choice(EDITS), t.rng.choice(VALUES))
    try:
        manifest = change.edited(json.loads(t.path.read_bytes()))
        t.path.write_bytes(manifest_bytes(manifest))
    except (AttributeError, IndexError, TypeError, ValueError):  # it is no manifest any more
        return None
    return f"{change}"[:150]


def _finished_manifest(t: Target) -> str | None:
    finished = t.directories.finished(t.case)
    if finished.name == t.case.name:
        return None
    shutil.copyfile(finished.path / "manifest.json", t.root / "manifest.json")
    return "the manifest of the finished one"


def _stopped_manifest(t: Target) -> str | None:
    stopped = [case for case in t.directories.attacked if case.kind == t.case.kind != case.name]
    if t.case.name != t.case.kind or not stopped:
        return None
    shutil.copyfile(t.rng.choice(stopped).path / "manifest.json", t.root / "manifest.json")
    return "the manifest from before it was finished"


def _all_done(t: Target) -> str | None:
    marks = sorted(t.root.rglob("done*"))
    if not marks:
        return None
    for mark in marks:
        np.save(mark, np.ones_like(np.load(mark)))
    return "a mark that all is done"


def _final_name(t: Target) -> str | None:
    partial = sorted(t.root.rglob("partial-step-*"))
    if not partial:
        return None
    partial[0].rename(partial[0].with_name(partial[0].name.removeprefix("partial-")))
    return f"{partial[0].name} under its final name"


def _no_inputs(t: Target) -> str | None:
    marks = sorted(t.root.rglob("inputs"))
    if not marks:
        return None
    mark, other = t.rng.choice(marks), t.rng.choice(marks)
    if mark == other:
        mark.unlink()
        return f"{mark.relative_to(t.root)} deleted"
    shutil.copyfile(other, mark)
    return f"{mark.relative_to(t.root)} is {other.relative_to(t.root)}"
