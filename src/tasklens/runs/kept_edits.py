"""Read what the edits of a run have left: one file of arrays per checkpoint."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.numpy

from tasklens.core.files import digest
from tasklens.interventions.cell import Arrays
from tasklens.runs.run import Run


def edit_inputs(run: Run, step: int) -> str:
    """Return the hash of what the edits at a checkpoint depend on."""
    directory, settings = run.directory, run.settings
    weights = directory.hash_of(directory.checkpoint(step))
    states = run.states_hash(step, run.positions[:1])  # others may be added
    return digest([settings.seed, settings.affecting("interventions"), states, weights])


def edited_steps(run: Run) -> list[int]:
    """Return the steps of which edits are kept, ascending."""
    return [step for step in run.steps if run.directory.noted(run.directory.interventions_at(step))]


def read_edits(run: Run, step: int) -> Arrays:
    """Return what the edits at a checkpoint left, by name; empty if there were none."""
    path = run.directory.interventions_at(step)
    if run.directory.noted(path) is None or not run.directory.is_intact(path):
        return {}
    content = run.directory.read(path)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: Mapping[str, Any] = header.get("__metadata__", {})
    if metadata.get("inputs") != edit_inputs(run, step):
        return {}
    return safetensors.numpy.load(content)  # type: ignore[no-any-return]
