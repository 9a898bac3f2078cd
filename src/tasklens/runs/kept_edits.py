"""Keep and read what the edits of a run leave: one file of arrays per checkpoint."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.numpy

from tasklens.core.files import digest
from tasklens.core.progress import warn
from tasklens.interventions.cell import Arrays
from tasklens.runs.run import Run

#: The shape of each array of a checkpoint, by name.
Shapes = dict[str, tuple[int, ...]]


def edit_inputs(run: Run, step: int) -> str:
    """Return the hash of what the edits at a checkpoint depend on."""
    directory, settings = run.directory, run.settings
    weights = directory.hash_of(directory.checkpoint(step))
    states = run.states_hash(step, run.positions[:1])  # others may be added
    hashes = [directory.output_hash("data"), states, weights]
    return digest([settings.seed, settings.affecting("interventions"), hashes])


def edited_steps(run: Run) -> list[int]:
    """Return the steps of which edits are kept, ascending."""
    return [step for step in run.steps if run.directory.noted(run.directory.interventions_at(step))]


def kept_shapes(run: Run, step: int) -> Shapes:
    """Return the shapes of what the edits at a checkpoint left; empty if there were none.

    Of the file, only the header is read, after its hash is checked.
    """
    header = _header(run, step)
    if header is None:
        return {}
    return {name: tuple(each["shape"]) for name, each in header.items() if name != "__metadata__"}


def read_edits(run: Run, step: int) -> Arrays:
    """Return what the edits at a checkpoint left, by name, sorted; empty if there were none."""
    if _header(run, step) is None:
        return {}
    content = run.directory.read(run.directory.interventions_at(step))
    return dict(sorted(safetensors.numpy.load(content).items()))  # it has any order


def keep_edits(run: Run, step: int, arrays: Arrays) -> None:
    """Write what the edits at a checkpoint have left."""
    content = safetensors.numpy.save(
        dict(sorted(arrays.items())), {"inputs": edit_inputs(run, step)}
    )
    run.directory.write(run.directory.interventions_at(step), content)


def drop_unusable(run: Run) -> None:
    """Remove files of edits that are damaged or were made under other settings, with a warning."""
    directory = run.directory
    for step in edited_steps(run):
        if _header(run, step) is None:
            path = directory.interventions_at(step)
            intact = directory.is_intact(path)
            problem = "was made under other settings" if intact else "is damaged or gone"
            warn(f"{path} {problem}; of its edits, those that are wanted now are made again")
            directory.remove(path)
    table = directory.effects_parquet
    if directory.noted(table) is not None and not directory.is_intact(table):
        directory.remove(table)  # it is made from the others


def _header(run: Run, step: int) -> Mapping[str, Any] | None:
    """Return what a file of edits has about its arrays; None if it is not there or not usable."""
    directory, path = run.directory, run.directory.interventions_at(step)
    if directory.noted(path) is None or not directory.is_intact(path):
        return None
    with path.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    is_current = header.get("__metadata__", {}).get("inputs") == edit_inputs(run, step)
    return header if is_current else None
