"""Read and write the content of ``manifest.json``, which has a hash of itself."""

import json
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasklens.core.files import digest
from tasklens.core.parse import parse_json

#: The layout of a run directory; 1 is that of manifests that name none.
FORMAT = 6


class _Part(BaseModel):
    """A JSON object whose known keys have values of these types; it may have others."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Checkpoint(_Part):
    step: Annotated[int, Field(ge=0)]


class _Mark(_Part):
    """The mark of a finished stage. Facts that only some stages leave have a default."""

    inputs: str
    files: list[str]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    sources_read: dict[str, str] = {}
    checkpoints: Annotated[list[_Checkpoint], Field(min_length=1)] = [_Checkpoint(step=0)]
    precision: str = ""


class _Manifest(_Part):
    files: dict[str, str]
    stages: dict[str, _Mark]
    format: Annotated[int, Field(ge=1)] = 1
    seed: int = 0
    command: str = ""
    versions: dict[str, str | None] = {}
    machine: dict[str, str | int | None] = {}


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Return the content of the file, with a hash of all the rest."""
    rest = {key: part for key, part in manifest.items() if key != "sha256"}
    return (json.dumps({"sha256": digest(rest), **rest}, indent=2) + "\n").encode()


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Return the manifest of a file; ValueError if it is damaged, or names a path outside."""
    manifest = parse_json(content)
    json.dumps(manifest, allow_nan=False)  # ValueError: no file that is made of it could have them
    if not (isinstance(manifest, dict) and {"files", "stages"} <= manifest.keys()):
        raise ValueError("not a manifest")
    own = manifest.pop("sha256", None)
    if manifest.get("format", FORMAT if own else 1) == FORMAT and own != digest(manifest):
        raise ValueError("its SHA-256 is another")
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = json.dumps([str(part) for part in first["loc"] if part != "[key]"])
        raise ValueError(f"{key}: {first['msg']}") from error
    files, stages = manifest["files"], manifest["stages"]
    for key in [*files, *(key for mark in stages.values() for key in mark["files"])]:
        if not is_inside(key):
            raise ValueError(f"{key!r} is not in the run directory")
    return manifest


def is_inside(key: str) -> bool:
    """Return whether a path, relative to a directory, stays within it."""
    path = PurePosixPath(key)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
