"""Which models are measured, in which order: a model alone, or a series of its checkpoints."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tasklens.core.errors import InputError
from tasklens.models.hf_loading import import_transformers

#: What directories of checkpoints are called, by their step.
_STEP = re.compile(r"^(?:checkpoint|step|global_step|global-step)[-_]?(\d+)$")
#: Files that are fetched of a model on the hub, beside its weights.
_SMALL = ("*.json", "*.model", "*.txt")


@dataclass(frozen=True)
class Checkpoint:
    """One model to measure."""

    step: int
    """Its training step, or its number, from 1 on, where nothing says its step."""
    name: str
    """What the user calls it: a directory, or a name on the hub and the revision."""
    directory: Path | None
    """Where it is; None where it has to be fetched first."""
    repository: str = ""
    revision: str | None = None
    untrained: bool = False
    """Whether fresh weights take the place of its own."""


def find_checkpoints(
    models: Sequence[str], revisions: Sequence[str] = (), *, untrained: bool = False
) -> list[Checkpoint]:
    """Return the models that some names stand for, in the order of their steps.

    Parameters
    ----------
    models : sequence of str
        Each a model's directory, a directory of ``checkpoint-N`` or ``step-N`` directories, a run
        directory of ours, or a name on the hub. Nothing is fetched here.
    revisions : sequence of str
        Of the one name on the hub.
    untrained : bool
        Put a network of the first one's configuration with fresh weights before them, as step 0,
        where they have none of that step.

    Raises
    ------
    InputError
        Where there is no such directory, nothing in it is a model, or two have the same step.
    """
    if not models:
        raise InputError("no model to measure: name at least one")
    found: list[tuple[int | None, str, Path | None, str, str | None]] = []
    for model in models:
        path = Path(os.path.expanduser(model))  # noqa: PTH111 - a user that there is not
        if path.is_dir():
            if revisions:
                raise InputError(f"--revision: {model} is a directory; only the hub has revisions")
            inner = _inside(path)
            found += [(_step_of(d), str(d), d, "", None) for d in inner]
        else:
            _check_hub_name(model, path)
            for revision in revisions or (None,):
                name = f"{model}@{revision}" if revision else model
                found.append((_step_of_revision(revision), name, None, model, revision))
    known = [step for step, *_ in found if step is not None]
    if len(known) < len(found):
        found = [(number, *rest) for number, (_, *rest) in enumerate(found, 1)]  # type: ignore[misc]
    else:
        found.sort(key=lambda one: one[0] or 0)
        twice = [step for step, n in Counter(known).items() if n > 1]
        if twice:
            same = [name for step, name, *_ in found if step == twice[0]]
            raise InputError(
                f"{same[0]} and {same[1]} are both of step {twice[0]}; measure each series alone"
            )
    series = [Checkpoint(step or 0, *rest) for step, *rest in found]  # type: ignore[arg-type]
    if untrained and series[0].step > 0:
        first = replace(series[0], step=0, name=f"{series[0].name}, untrained", untrained=True)
        series.insert(0, first)
    return series


def missing_steps(steps: Sequence[int]) -> list[int]:
    """Return the steps that a series lacks, as far as its other steps tell.

    Where most of the gaps between neighbours are equal, a gap of a multiple of that lacks what
    would lie in it.
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
    n = 0
    while begin + n < len(steps) and steps[begin + n] == 2**n:
        n += 1
    return begin + n - 1 if n > 2 or (begin and n > 1) else 0


def _step_of_revision(revision: str | None) -> int | None:
    digits = re.search(r"(\d+)$", revision or "")
    is_hash = re.fullmatch(r"[0-9a-f]{7,40}", revision or "") and not (revision or "").isdigit()
    return int(digits[1]) if digits and not is_hash else None


def fetch(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Path:
    """Return the checkpoint's directory; one on the hub is fetched first, or found in the cache.

    Raises
    ------
    InputError
        Where it is not there, or the network and the cache do not give it.
    """
    if checkpoint.directory is not None:
        return checkpoint.directory
    import_transformers()
    from huggingface_hub import snapshot_download

    patterns = [*_SMALL, *(["*.py"] if trust_remote_code else [])]
    try:
        for weights in ("*.safetensors", "*.bin"):
            path = Path(
                snapshot_download(
                    checkpoint.repository,
                    revision=checkpoint.revision,
                    allow_patterns=[*patterns, weights],
                    ignore_patterns=["*/*"],
                )
            )
            if any(path.glob(weights)):
                break
    except Exception as error:  # of the network, the hub or the cache
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{checkpoint.name}: no such directory here, and the hub does not give it: {first}"
        ) from error
    return path


def identity(checkpoint: Checkpoint) -> list[object]:
    """Return what tells a checkpoint from another, or from a later one of its name.

    Of a directory the names, sizes and times of its files, so that nothing large is read.
    """
    if checkpoint.directory is None:
        about = [checkpoint.repository, checkpoint.revision, checkpoint.untrained]
        return [checkpoint.step, *about]
    return [checkpoint.step, checkpoint.untrained, *file_times(checkpoint.directory)]


def file_times(directory: Path, names: Sequence[str] | None = None) -> list[object]:
    """Return name, size and time of a directory's files, of some names alone where given."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    return [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
        if names is None or path.name in names
    ]


def _inside(path: Path) -> list[Path]:
    """Return the models' directories in a directory: itself, or those of a series in it."""
    for place in (path, path / "checkpoints"):
        series = [
            inner
            for inner in (place.iterdir() if place.is_dir() else ())
            if _STEP.match(inner.name) and inner.is_dir()
        ]
        if series:
            for inner in series:
                if not (inner / "config.json").is_file():
                    raise InputError(f"{inner}: no config.json: a checkpoint that is not whole?")
            return sorted(series, key=lambda inner: _step_of(inner) or 0)
    if not (path / "config.json").is_file():
        raise InputError(f"{path} holds neither a model (config.json) nor checkpoint-N directories")
    return [path]


def _step_of(directory: Path) -> int | None:
    named = _STEP.match(directory.resolve().name)
    if named:
        return int(named[1])
    for file, keys in (
        ("trainer_state.json", ["global_step"]),
        ("config.json", ["tasklens", "step"]),
    ):
        try:
            value = json.loads((directory / file).read_bytes())
            for key in keys:
                value = value[key]
            return int(value)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _check_hub_name(model: str, path: Path) -> None:
    """Refuse what looks like a path, so that no slip of the pen asks the network."""
    if path.exists():
        raise InputError(f"{model} is a file: should be a model's directory")
    is_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) and not model.startswith(".")
    if not is_name or (len(path.parts) > 1 and Path(path.parts[0]).exists()):
        raise InputError(
            f"{model}: there is no such directory; give a model's directory, a run directory, or a "
            "name on the hub"
        )
