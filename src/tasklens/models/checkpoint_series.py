"""Find the models to measure and their order: a model alone, or a series of its checkpoints."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path

from tasklens.core.errors import InputError, first_line
from tasklens.models.hf_loading import import_extra

#: Names of directories of checkpoints, with their step.
_STEP = re.compile(r"^(?:checkpoint|step|global_step|global-step)[-_]?(\d+)$")
#: Files of a model on the hub that are fetched beside its weights.
_SMALL = ("*.json", "*.model", "*.txt")


@dataclass(frozen=True)
class Checkpoint:
    """One model to measure."""

    step: int  # of training, or its number, from 1 on, if not all steps are known
    name: str  # the user's: a directory, or a name on the hub and the revision
    directory: Path | None  # None if it has to be fetched first
    repository: str = ""
    revision: str | None = None
    untrained: bool = False  # whether fresh weights take the place of its own


def find_checkpoints(
    models: Sequence[str], revisions: Sequence[str] = (), *, untrained: bool = False
) -> list[Checkpoint]:
    """Find the models that some names stand for, in the order of their steps; fetch nothing.

    A name is a model's directory, a directory of ``checkpoint-N`` or ``step-N`` directories, a run
    directory of ours, or, with its revisions if there are any, a name on the hub. ``untrained``
    puts a network of the first one's configuration with fresh weights before them, as step 0,
    unless they have one of that step. InputError if a directory is missing or holds no model, or if
    two checkpoints have the same step.
    """
    if not models:
        raise InputError("no model to measure: name at least one")
    found: list[tuple[int | None, Checkpoint]] = []
    for model in models:
        path = Path(os.path.expanduser(model))  # noqa: PTH111 - a user that there is not
        if path.is_dir():
            if revisions:
                raise InputError(f"--revision: {model} is a directory; only the hub has revisions")
            found += [(_step_of(p), Checkpoint(0, str(p), p)) for p in _inside(path)]
        else:
            _check_hub_name(model, path)
            for revision in revisions or (None,):
                name = f"{model}@{revision}" if revision else model
                checkpoint = Checkpoint(0, name, None, model, revision)
                found.append((_step_of_revision(revision), checkpoint))
    unknown = any(step is None for step, _ in found)
    series = [
        replace(checkpoint, step=number if unknown or step is None else step)
        for number, (step, checkpoint) in enumerate(found, 1)
    ]
    series.sort(key=lambda checkpoint: checkpoint.step)
    for one, other in pairwise(series):
        if one.step == other.step:
            both = f"{one.name} and {other.name} are both of step {one.step}"
            raise InputError(f"{both}; measure each series alone")
    if untrained and series[0].step > 0:
        first = replace(series[0], step=0, name=f"{series[0].name}, untrained", untrained=True)
        series.insert(0, first)
    return series


def missing_steps(steps: Sequence[int]) -> list[int]:
    """Return the steps that a series lacks, as far as its other steps tell.

    If most of the gaps between neighbours are equal, a gap of a multiple of that lacks steps.
    """
    steps = steps[_leading_powers(steps) :]
    gaps = [b - a for a, b in pairwise(steps)]
    if not gaps:
        return []
    spacing, n = Counter(gaps).most_common(1)[0]
    if n < 2 or 2 * n < len(gaps):
        return []
    anchor = steps[gaps.index(spacing)]
    return [
        step
        for a, gap in zip(steps[:-1], gaps, strict=True)
        if (a - anchor) % spacing == 0 and gap % spacing == 0
        for step in range(a + spacing, a + gap, spacing)
    ]


def _leading_powers(steps: Sequence[int]) -> int:
    """Return how many of the steps lead up, by powers of two, to the last of these: 0, 1, 2, 4."""
    begin = 1 if steps and steps[0] == 0 else 0
    n = len([*takewhile(lambda pair: pair[1] == 2 ** pair[0], enumerate(steps[begin:]))])
    return begin + n - 1 if begin + n > 2 else 0


def _step_of_revision(revision: str | None) -> int | None:
    digits = re.search(r"(\d+)$", revision or "")
    is_hash = re.fullmatch(r"[0-9a-f]{7,40}", revision or "") and not (revision or "").isdigit()
    return int(digits[1]) if digits and not is_hash else None


def fetch(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Path:
    """Return the checkpoint's directory; one on the hub is fetched first, or is in the cache.

    InputError if neither the network nor the cache has it.
    """
    if checkpoint.directory is not None:
        return checkpoint.directory
    hub = import_extra("huggingface_hub")
    patterns = [*_SMALL, *(["*.py"] if trust_remote_code else [])]
    path = Path()
    for weights in ("*.safetensors", "*.bin"):
        try:
            cached = hub.snapshot_download(
                checkpoint.repository,
                revision=checkpoint.revision,
                allow_patterns=[*patterns, weights],
                ignore_patterns=["*/*"],
            )
        except Exception as error:  # of the network, the hub or the cache
            raise InputError(
                f"{checkpoint.name}: no such directory here, and the hub does not give it: "
                f"{first_line(error)}"
            ) from error
        path = Path(cached)
        if any(path.glob(weights)):
            break
    return path


def identity(checkpoint: Checkpoint) -> list[object]:
    """Return what distinguishes a checkpoint from others, and from a later one of its name.

    For a directory these are the names, sizes and times of its files: nothing large is read.
    """
    if checkpoint.directory is None:
        return [checkpoint.step, checkpoint.repository, checkpoint.revision, checkpoint.untrained]
    return [checkpoint.step, checkpoint.untrained, *file_times(checkpoint.directory)]


def file_times(directory: Path, names: Sequence[str] | None = None) -> list[object]:
    """Return name, size and time of a directory's files, or of those with some names."""
    return [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
        if path.is_file() and (names is None or path.name in names)
    ]


def _inside(path: Path) -> list[Path]:
    """Return the models in a directory: itself, or a series in it, in the order of its steps."""
    for place in (path, path / "checkpoints"):
        inside = place.iterdir() if place.is_dir() else ()
        series = [inner for inner in inside if _STEP.match(inner.name) and inner.is_dir()]
        for inner in series:
            if not (inner / "config.json").is_file():
                raise InputError(f"{inner}: no config.json: a checkpoint that is not whole?")
        if series:
            return sorted(series, key=lambda inner: _step_of(inner) or 0)
    if not (path / "config.json").is_file():
        raise InputError(f"{path} holds neither a model (config.json) nor checkpoint-N directories")
    return [path]


def _step_of(directory: Path) -> int | None:
    """Return the step by the directory's name, its trainer's state or our own configuration."""
    named = _STEP.match(directory.resolve().name)
    if named:
        return int(named[1])
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((directory / "trainer_state.json").read_bytes())["global_step"])
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((directory / "config.json").read_bytes())["tasklens"]["step"])
    return None


def _check_hub_name(model: str, path: Path) -> None:
    """Refuse a name that looks like a path, so that a typing error does not ask the network."""
    if path.exists():
        raise InputError(f"{model} is a file: should be a model's directory")
    is_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) and not model.startswith(".")
    if not is_name or (len(path.parts) > 1 and Path(path.parts[0]).exists()):
        right = "give a model's directory, a run directory, or a name on the hub"
        raise InputError(f"{model}: there is no such directory; {right}")
