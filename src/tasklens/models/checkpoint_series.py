"""Find the models to measure and their order: one model, or a series of its checkpoints."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasklens.core.errors import InputError
from tasklens.core.extras import import_extra
from tasklens.core.files import file_hash
from tasklens.models.foreign_calls import fetching
from tasklens.models.gguf_files import gguf_file, is_gguf
from tasklens.models.hub_errors import hub_reason
from tasklens.models.lora import find_base
from tasklens.models.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    has_weights,
    is_adapter,
    is_model,
    parts_of,
    try_object,
)
from tasklens.models.series_steps import TOO_LARGE, number_after, step_in

#: Names of the directories that are a series if they are in one directory.
_IN_SERIES = re.compile(
    r"(?:checkpoint|ckpt|step|global[-_]?step|iter)[-_]?([0-9]{1,18})", re.IGNORECASE
)
#: Patterns of the files that are fetched from the hub in addition to the weights.
_SMALL = ("*.json", "*.model", "*.txt", "README.md")


@dataclass(frozen=True)
class Checkpoint:
    """One model to measure."""

    step: int  # training step, or a number from 1 on if some step of the series is unknown
    name: str  # as the user gave it: a directory, or a name on the hub and the revision
    directory: Path | None  # or a GGUF file; None if it has to be fetched first
    repository: str = ""
    revision: str | None = None
    untrained: bool = False  # whether fresh weights replace those of the checkpoint
    base: Path | None = None  # of a LoRA adapter: the directory of its base model
    called: str = ""  # the name of a stage, such as sft, if it has one
    is_training_step: bool = field(default=True, compare=False)
    live: bool = False  # a model in training, in the memory of this process
    """False if `step` is only a number in the order given."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What is odd about the step, as sentences for a warning."""


def find_checkpoints(
    models: Sequence[str],
    revisions: Sequence[str] = (),
    *,
    untrained: bool = False,
    base: Path | None = None,
    stages: Sequence[str] = (),
) -> list[Checkpoint]:
    """Find the models with some names, in the order of their steps; fetch nothing.

    A name is one of five things: a model's directory, a GGUF file, a run directory of tasklens, a
    directory of ``checkpoint-N`` or ``step-N`` directories, or a name on the hub. The last may have
    ``revisions``, or end in ``@REVISION``. A model may be a LoRA adapter, of the model in the
    directory ``base``, or of the one it names.

    ``stages`` are names of the models, in the same order. The steps then only count them, from 1.

    ``untrained`` adds a network with the first one's configuration and fresh weights as step 0,
    unless there is a checkpoint of step 0. InputError if a directory is missing or has no model, if
    two checkpoints have the same step, or if a stage has several checkpoints.
    """
    if not models:
        raise InputError("no model to measure: name at least one")
    by_model = [_checkpoints_of(model, revisions, base) for model in models]
    checkpoints = [checkpoint for each in by_model for checkpoint in each]
    if base and not any(checkpoint.base for checkpoint in checkpoints):
        raise InputError(f"--base {base}: no model is a LoRA adapter: should be left out")
    series = _with_names(by_model, stages) if stages else _with_steps(checkpoints)
    series.sort(key=lambda checkpoint: checkpoint.step)
    for earlier, later in pairwise(series):
        if earlier.step == later.step:
            both = f"{earlier.name} and {later.name} are both of step {earlier.step}"
            raise InputError(f"{both}; measure each series by itself")
    if untrained and series[0].step > 0:
        name = f"{series[0].name}, untrained"
        series.insert(0, replace(series[0], step=0, name=name, called="", untrained=True, notes=()))
    return series


def step_notes(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Return what is odd about the steps of a series, as sentences for a warning."""
    return [note for checkpoint in checkpoints for note in checkpoint.notes]


def step_of(directory: Path) -> int | None:
    """Return the training step of a model's directory, None if it is unknown."""
    return next(iter(_steps_of(directory).values()), None)


def fetch(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Path:
    """Return the checkpoint's directory; fetch it from the hub if it is not in the cache.

    InputError if neither the network nor the cache has it.
    """
    if checkpoint.directory is not None:
        return checkpoint.directory
    hub = import_extra("huggingface_hub")
    patterns = [*_SMALL, *(["*.py"] if trust_remote_code else [])]
    path = Path()
    for weights in (("model*.safetensors", ADAPTER_WEIGHTS), ("pytorch_model*.bin",)):
        try:
            with fetching(checkpoint.name):
                cached = hub.snapshot_download(
                    checkpoint.repository,
                    revision=checkpoint.revision,
                    allow_patterns=[*patterns, *weights],
                    ignore_patterns=["*/*"],
                )
        except Exception as error:  # the network, the hub and the cache raise many kinds
            raise InputError(
                f"{checkpoint.name}: is not a directory, and {hub_reason(error)}"
            ) from error
        path = Path(cached)
        if has_weights(path):
            break
    return path


def identity(checkpoint: Checkpoint) -> list[object]:
    """Return values that distinguish a checkpoint from others, and from a later one of its name.

    For a directory these include the names, sizes and times of its files; no large file is read. A
    LoRA adapter is small, so that its content counts, too.
    """
    directory, base = checkpoint.directory, checkpoint.base
    files = [] if base is None else file_times(base)
    if directory is None:
        at = [checkpoint.repository, checkpoint.revision, checkpoint.untrained]
        return [checkpoint.step, *at, *files]
    if base is not None:
        files += [file_hash(directory / name) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
    return [checkpoint.step, checkpoint.untrained, *file_times(directory), *files]


def file_times(directory: Path, names: Sequence[str] | None = None) -> list[object]:
    """Return name, size and time of the files in a directory, or of the named ones only.

    The directory may be a single file instead, which needs no name.
    """
    if directory.is_file():
        names, directory = (directory.name,), directory.parent
    return [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
        if path.is_file() and (names is None or path.name in names)
    ]


def _checkpoints_of(model: str, revisions: Sequence[str], base: Path | None) -> list[Checkpoint]:
    """Return what one name stands for: a model, a series, or revisions; their steps are 0."""
    path = Path(os.path.expanduser(model))  # noqa: PTH111 - accepts the name of an unknown user
    # isdir and isfile accept a name that can be no path.
    if os.path.isdir(path) or (os.path.isfile(path) and is_gguf(path)):  # noqa: PTH112, PTH113
        if revisions:
            raise InputError(f"--revision: {model} is on the disk; only the hub has revisions")
        bases = [
            (inner, find_base(inner, base) if is_adapter(inner) else None)
            for inner in _inside(path)
        ]
        return [Checkpoint(0, str(inner), inner, base=each) for inner, each in bases]
    repository, _, revision = model.partition("@")
    if revision and revisions:
        raise InputError(f"--revision: {model} has a revision; leave out one of the two")
    check_hub_name(repository if revision else model, path)
    return [
        Checkpoint(0, f"{repository}@{each}" if each else model, None, repository, each, base=base)
        for each in revisions or (revision or None,)
    ]


def _with_names(by_model: list[list[Checkpoint]], names: Sequence[str]) -> list[Checkpoint]:
    """Return the models that are stages of one model, numbered in this order."""
    for name, each in zip(names, by_model, strict=True):
        if len(each) > 1:
            raise InputError(
                f"stage {name} has {len(each)} checkpoints: should be a single model, such as "
                f"{each[-1].name}"
            )
    return [
        replace(checkpoint, step=step, called=name, is_training_step=False)
        for step, (name, (checkpoint,)) in enumerate(zip(names, by_model, strict=True), 1)
    ]


def _inside(path: Path) -> list[Path]:
    """Return the models of a directory, in the order of their steps: itself, or a series in it."""
    if path.is_file():
        return [path]
    try:
        return _models_in(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def series_in(path: Path) -> list[Path]:
    """Return the directories that are called checkpoint-N or the like, with or without a model.

    They are in the order of N. InputError if there are none.
    """
    for folder in (path, path / "checkpoints"):
        named = _named_in(folder)
        if named:
            return sorted(named, key=lambda inner: (named[inner], inner.name))
    raise InputError(f"{path}: is no series: should have directories checkpoint-N in it")


def _named_in(folder: Path) -> dict[Path, int]:
    """Return the directories in a folder whose name is that of a checkpoint, with its number."""
    return {
        inner: int(match[1])
        for inner in (folder.iterdir() if folder.is_dir() else ())
        if (match := _IN_SERIES.fullmatch(inner.name)) and inner.is_dir()
    }


def _models_in(path: Path) -> list[Path]:
    is_one = _is_model(path)
    for folder in (path, path / "checkpoints"):
        named = _named_in(folder)
        series = {inner: number for inner, number in named.items() if _is_model(inner)}
        of_deepspeed = not any(map(_is_global, series))  # the state of its optimiser
        for inner in sorted(named.keys() - series.keys()):
            of_series = inner.name.lower().startswith(("checkpoint", "step")) or not is_one
            if of_series and not (of_deepspeed and _is_global(inner)):
                why = parts_of(inner) or "has no config.json; is the checkpoint incomplete?"
                raise InputError(f"{inner}: {why}")
        if series:
            return sorted(series, key=lambda inner: (series[inner], inner.name))
    if not is_one:
        neither = "has neither a model (config.json or a GGUF file) nor checkpoint-N directories"
        raise InputError(f"{path}: {parts_of(path) or neither}")
    return [path]


def _is_global(directory: Path) -> bool:
    return directory.name.lower().startswith("global")


def _is_model(path: Path) -> bool:
    return is_model(path) or gguf_file(path) is not None


def _with_steps(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Return models with their steps, or numbered in this order if some step is unknown."""
    known = [_known_steps(checkpoint) for checkpoint in checkpoints]
    names = [_own_name(checkpoint) for checkpoint in checkpoints]
    unknown = [c.name for c, steps in zip(checkpoints, known, strict=True) if not steps]
    epochs = [number_after("epochs?|ep", name) for name in names]
    stages = {number_after("stage", name) for name in names} - {None}
    note, are_steps = "", True
    if not unknown and len(stages) < 2:
        numbers = [next(iter(steps.values())) for steps in known]
    elif len(unknown) == len(names) > 1 and None not in epochs and len(stages) < 2:
        numbers = [epoch or 0 for epoch in epochs]
        note = "the steps of the models are unknown; their numbers are those of the epochs"
    else:
        numbers, are_steps = list(range(1, len(names) + 1)), False
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        why = (
            f"the step of {unknown[0]}{more} is unknown" if unknown else "each stage has its steps"
        )
        note = f"{why}: the models are numbered 1 to {len(names)} in the order given"
        known = [{} for _ in names]
    same: dict[object, Checkpoint] = {}
    series = []
    for checkpoint, number, steps in zip(checkpoints, numbers, known, strict=True):
        directory = checkpoint.directory
        key = (directory and directory.resolve(), checkpoint.repository, checkpoint.revision)
        first = same.setdefault(key if note else (key, number), checkpoint)
        if first is not checkpoint:
            raise InputError(f"{first.name} and {checkpoint.name} are the same model; name it once")
        notes = _other_steps(checkpoint.name, steps)
        series.append(replace(checkpoint, step=number, is_training_step=are_steps, notes=notes))
    if note and len(series) > 1:
        series[0] = replace(series[0], notes=(note, *series[0].notes))
    return series


def notes_on_step(directory: Path) -> tuple[str, ...]:
    """Return a sentence for each source that has another step for a directory than its name."""
    return _other_steps(directory.name, _steps_of(directory))


def _other_steps(name: str, steps: dict[str, int]) -> tuple[str, ...]:
    """Return a sentence for each source that has another step than the first one, which counts."""
    used = next(iter(steps.values()), None)
    return tuple(
        f"{name}: step {used} by {next(iter(steps))} is used, but it is {step} by {source}"
        for source, step in steps.items()
        if step != used
    )


def _known_steps(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the steps of a model by their source, the one that counts first."""
    if checkpoint.directory is not None:
        return _steps_of(checkpoint.directory)
    step = step_in(_own_name(checkpoint))
    return {} if step is None else {"its name": step}


def _steps_of(directory: Path) -> dict[str, int]:
    """Return the steps of a model's directory by their source, the one that counts first."""
    steps: dict[str, int | None] = {
        "its name": step_in(directory.absolute().name),
        "the name that it links to": step_in(directory.resolve().name),
    }
    for file, keys in (
        ("trainer_state.json", ["global_step"]),
        ("config.json", ["tasklens", "step"]),
    ):
        value: Any = try_object(directory / file)
        with suppress(ValueError, LookupError, TypeError, OverflowError):
            for key in keys:
                value = value[key]
            steps[file] = int(value) if 0 <= value < TOO_LARGE else None
    return {source: step for source, step in steps.items() if step is not None}


def _own_name(checkpoint: Checkpoint) -> str:
    """Return the part of a model's name that may have its step."""
    if checkpoint.directory is not None:
        return checkpoint.directory.absolute().name
    return checkpoint.revision or checkpoint.repository.rpartition("/")[2]


def check_hub_name(model: str, path: Path) -> None:
    """Refuse a name that looks like a path, so that a typing error causes no request."""
    if os.path.lexists(path):  # also a name that can be no path
        kind = "a file" if os.path.exists(path) else "a link that leads nowhere"  # noqa: PTH110
        raise InputError(f"{model} is {kind}: should be a model's directory, or a GGUF file")
    if is_gguf(path):
        raise InputError(f"{model}: there is no such file")
    is_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) and not model.startswith(".")
    is_name = is_name and not _IN_SERIES.fullmatch(model)
    if not is_name or (len(path.parts) > 1 and Path(path.parts[0]).exists()):
        right = "give a model's directory, a run directory, or a name on the hub"
        raise InputError(f"{model}: is not a directory; {right}")
