"""Plan the edits of a training run that is not made yet: their disk and their time."""

import time
from collections.abc import Iterator
from itertools import count

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.data.synthetic_counterfactuals import counterfactuals_of_dataset
from tasklens.interventions.cell import PlannedEdit, planned_edits
from tasklens.interventions.settings import FIGURE, NEEDED, REPAIRS
from tasklens.interventions.unedited import unedited_arrays
from tasklens.models.gpt2 import GPT2, state_names
from tasklens.models.lr_schedule import evenly_spaced
from tasklens.models.open_editor import open_editor
from tasklens.runs.edit_plan import edited_splits
from tasklens.runs.settings import TrainingRunSettings


def count_edit_bytes(
    settings: TrainingRunSettings, with_weights: tuple[int, ...], n_splits: int
) -> int:
    """Return the bytes of what edits leave in `tasklens run`, with so many measured splits.

    All are edited but the first. A split of unseen tasks takes less: its errors have no repair.
    """
    n, n_tasks = _instances(settings), settings.data.measured_tasks
    n_bytes = 0
    for _, edit in _planned(settings, with_weights):
        if edit.name in REPAIRS:  # whether each is right, and the distance of all
            n_bytes += (1 + edit.runs) * n + 4 * settings.data.measured_instances
        else:
            n_bytes += 4 * edit.runs * n * (1 + (2 if edit.is_targeted else n_tasks))
    return n_bytes * (n_splits - 1)


def time_edits(
    model: GPT2, dataset: Dataset, settings: TrainingRunSettings, with_weights: tuple[int, ...]
) -> float:
    """Return the seconds of the edits in `tasklens run`, from those of a few in this process.

    0 if the tasks have no counterfactual answers.
    """
    splits = edited_splits(dataset.measured)
    try:
        asked = counterfactuals_of_dataset(dataset, splits[0], n=_instances(settings))
    except InputError:
        return 0.0
    began = time.perf_counter()
    editor = open_editor(model, asked.prompts, asked.tokens)
    unedited_arrays(asked, editor, open_editor(model, asked.donors, asked.tokens))
    opened = time.perf_counter()
    row = np.repeat(np.arange(len(asked.own)), len(asked.tasks) - 1)
    change = np.zeros((len(row), settings.model.n_embd), dtype=np.float32)
    editor.answer("embed", row, change, asked.answers[row, :2])
    per_row = (time.perf_counter() - opened) / len(row)
    # The later the edited state, the less of the network runs again.
    share = dict(zip(reversed(editor.names), count(1), strict=False))
    n_rows = 0.0  # of a split
    for state, edit in _planned(settings, with_weights):
        is_move = edit.is_targeted and edit.name not in REPAIRS
        runs = edit.runs - 1 if is_move else edit.runs
        n_rows += runs * len(asked.own) * share[state] / len(editor.names)
    n_checkpoints = len(_edited(settings, with_weights))
    return len(splits) * (n_checkpoints * (opened - began) + n_rows * per_row)


def _instances(settings: TrainingRunSettings) -> int:
    """Return the largest number of instances per split that are edited."""
    return min(settings.interventions.instances, settings.data.measured_instances)


def _edited(settings: TrainingRunSettings, with_weights: tuple[int, ...]) -> tuple[int, ...]:
    """Return the steps whose states are edited."""
    if settings.data.measured_tasks < 2:
        return ()
    return evenly_spaced(with_weights, settings.interventions.checkpoints)


def _planned(
    settings: TrainingRunSettings, with_weights: tuple[int, ...]
) -> Iterator[tuple[str, PlannedEdit]]:
    """Yield the state and the edit of all that is run, at each checkpoint."""
    states = state_names(settings.model.n_layer)[1:]
    steps, n_tasks = _edited(settings, with_weights), settings.data.measured_tasks
    for step in steps:
        for state in states:
            # Which state is the best layer is not known yet.
            test = step == steps[-1] and state == states[len(states) // 2]
            edits = NEEDED if step == steps[-1] else FIGURE
            for edit in planned_edits(
                state, edits, (1.0,), n_tasks, settings.interventions, test=test
            ):
                yield state, edit
