"""Read and write the content of ``manifest.json``, which has a hash of itself."""

import json
from pathlib import PurePosixPath
from typing import Any

from tasklens.core.files import digest

#: The layout of a run directory; 1 is that of manifests that name none.
FORMAT = 4


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Return the content of the file, with a hash of all the rest."""
    rest = {key: part for key, part in manifest.items() if key != "sha256"}
    return (json.dumps({"sha256": digest(rest), **rest}, indent=2) + "\n").encode()


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Return the manifest of a file; ValueError if it is damaged, or names a path outside."""
    manifest = json.loads(content)
    if not (isinstance(manifest, dict) and {"files", "stages"} <= manifest.keys()):
        raise ValueError("not a manifest")
    own = manifest.pop("sha256", None)
    if manifest.get("format", FORMAT if own else 1) == FORMAT and own != digest(manifest):
        raise ValueError("its SHA-256 is another")
    files, stages = manifest["files"], manifest["stages"]
    if not (isinstance(files, dict) and all(isinstance(known, str) for known in files.values())):
        raise ValueError("its files are not hashes by path")
    if not (isinstance(stages, dict) and all(_is_mark(mark) for mark in stages.values())):
        raise ValueError("its stages are not marks by name")
    for key in [*files, *(key for mark in stages.values() for key in mark["files"])]:
        if not is_inside(key):
            raise ValueError(f"{key!r} is not in the run directory")
    return manifest


def _is_mark(mark: object) -> bool:
    return (
        isinstance(mark, dict)
        and isinstance(mark.get("inputs"), str)
        and isinstance(mark.get("files"), list)
        and all(isinstance(key, str) for key in mark["files"])
    )


def is_inside(key: str) -> bool:
    """Return whether a path, relative to a directory, stays within it."""
    path = PurePosixPath(key)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
