"""Find the models to measure and their order: one model, or a series of its checkpoints."""

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
from tasklens.core.extras import import_extra

#: Pattern of the names of checkpoint directories, with the step.
_STEP = re.compile(r"^(?:checkpoint|step|global_step|global-step)[-_]?(\d+)$")
#: Patterns of the files that are fetched from the hub in addition to the weights.
_SMALL = ("*.json", "*.model", "*.txt")


@dataclass(frozen=True)
class Checkpoint:
    """One model to measure."""

    step: int  # training step, or a number from 1 on if some step of the series is unknown
    name: str  # as the user gave it: a directory, or a name on the hub and the revision
    directory: Path | None  # None if it has to be fetched first
    repository: str = ""
    revision: str | None = None
    untrained: bool = False  # whether fresh weights replace those of the checkpoint


def find_checkpoints(
    models: Sequence[str], revisions: Sequence[str] = (), *, untrained: bool = False
) -> list[Checkpoint]:
    """Find the models with some names, in the order of their steps; fetch nothing.

    A name is one of four things: a model's directory, a directory of ``checkpoint-N`` or ``step-N``
    directories, a run directory of tasklens, or a name on the hub, with ``revisions`` if given.
    ``untrained`` adds a network with the first one's configuration and fresh weights as step 0,
    unless there is a checkpoint of step 0. InputError if a directory is missing or has no model, or
    if two checkpoints have the same step.
    """
    if not models:
        raise InputError("no model to measure: name at least one")
    checkpoints: list[tuple[int | None, Checkpoint]] = []
    for model in models:
        path = Path(os.path.expanduser(model))  # noqa: PTH111 - accepts the name of an unknown user
        if path.is_dir():
            if revisions:
                raise InputError(f"--revision: {model} is a directory; only the hub has revisions")
            checkpoints += [(_step_of(p), Checkpoint(0, str(p), p)) for p in _inside(path)]
        else:
            _check_hub_name(model, path)
            for revision in revisions or (None,):
                name = f"{model}@{revision}" if revision else model
                checkpoint = Checkpoint(0, name, None, model, revision)
                checkpoints.append((_step_of_revision(revision), checkpoint))
    unknown = any(step is None for step, _ in checkpoints)
    series = [
        replace(checkpoint, step=number if unknown or step is None else step)
        for number, (step, checkpoint) in enumerate(checkpoints, 1)
    ]
    series.sort(key=lambda checkpoint: checkpoint.step)
    for earlier, later in pairwise(series):
        if earlier.step == later.step:
            both = f"{earlier.name} and {later.name} are both of step {earlier.step}"
            raise InputError(f"{both}; measure each series by itself")
    if untrained and series[0].step > 0:
        first = replace(series[0], step=0, name=f"{series[0].name}, untrained", untrained=True)
        series.insert(0, first)
    return series


def missing_steps(steps: Sequence[int]) -> list[int]:
    """Return the steps that a series lacks, judged by the steps that it has.

    If most gaps between neighbours are equal, steps are missing in a gap of a multiple of that.
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
    """Return the number of leading steps that are 0 or consecutive powers of two: 0, 1, 2, 4."""
    begin = 1 if steps and steps[0] == 0 else 0
    n = len([*takewhile(lambda pair: pair[1] == 2 ** pair[0], enumerate(steps[begin:]))])
    return begin + n - 1 if begin + n > 2 else 0


def _step_of_revision(revision: str | None) -> int | None:
    digits = re.search(r"(\d+)$", revision or "")
    is_hash = re.fullmatch(r"[0-9a-f]{7,40}", revision or "") and not (revision or "").isdigit()
    return int(digits[1]) if digits and not is_hash else None


def fetch(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Path:
    """Return the checkpoint's directory; fetch it from the hub if it is not in the cache.

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
        except Exception as error:  # the network, the hub and the cache raise many kinds
            raise InputError(
                f"{checkpoint.name}: is not a directory, and cannot be fetched from the hub: "
                f"{first_line(error)}"
            ) from error
        path = Path(cached)
        if any(path.glob(weights)):
            break
    return path


def identity(checkpoint: Checkpoint) -> list[object]:
    """Return values that distinguish a checkpoint from others, and from a later one of its name.

    For a directory these include the names, sizes and times of its files; no large file is read.
    """
    if checkpoint.directory is None:
        return [checkpoint.step, checkpoint.repository, checkpoint.revision, checkpoint.untrained]
    return [checkpoint.step, checkpoint.untrained, *file_times(checkpoint.directory)]


def file_times(directory: Path, names: Sequence[str] | None = None) -> list[object]:
    """Return name, size and time of the files in a directory, or of the named ones only."""
    return [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
        if path.is_file() and (names is None or path.name in names)
    ]


def _inside(path: Path) -> list[Path]:
    """Return the models of a directory, in the order of their steps: itself, or a series in it."""
    for folder in (path, path / "checkpoints"):
        inside = folder.iterdir() if folder.is_dir() else ()
        series = [inner for inner in inside if _STEP.match(inner.name) and inner.is_dir()]
        for inner in series:
            if not (inner / "config.json").is_file():
                raise InputError(f"{inner}: has no config.json; is the checkpoint incomplete?")
        if series:
            return sorted(series, key=lambda inner: _step_of(inner) or 0)
    if not (path / "config.json").is_file():
        raise InputError(f"{path}: has neither a model (config.json) nor checkpoint-N directories")
    return [path]


def _step_of(directory: Path) -> int | None:
    """Return the step by the directory's name, the trainer's state or tasklens' configuration."""
    named = _STEP.match(directory.resolve().name)
    if named:
        return int(named[1])
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((directory / "trainer_state.json").read_bytes())["global_step"])
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((directory / "config.json").read_bytes())["tasklens"]["step"])
    return None


def _check_hub_name(model: str, path: Path) -> None:
    """Refuse a name that looks like a path, so that a typing error causes no request."""
    if path.exists():
        raise InputError(f"{model} is a file: should be a model's directory")
    is_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) and not model.startswith(".")
    if not is_name or (len(path.parts) > 1 and Path(path.parts[0]).exists()):
        right = "give a model's directory, a run directory, or a name on the hub"
        raise InputError(f"{model}: is not a directory; {right}")
