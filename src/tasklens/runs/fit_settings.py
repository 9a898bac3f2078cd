"""Draw the dataset of a run; name settings that fit the user's regular expressions."""

from typing import Any

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.data.grammar import Grammar
from tasklens.data.synthetic import make_dataset
from tasklens.data.tasks import TaskSettings
from tasklens.runs.settings import TrainingRunSettings

#: Fewest instructions of a task: one to train on and one to hold out.
FEWEST = 2
#: Fewest measured instances.
FEWEST_MEASURED = 10


def draw_dataset(settings: TrainingRunSettings) -> Dataset:
    """Draw the dataset of a run.

    InputError if the settings cannot be satisfied. With the user's regular expressions, it ends
    with all changes that are needed, if there are any that suffice.
    """
    try:
        return make_dataset(settings.tasks, settings.data, seed=settings.seed)
    except InputError as error:
        if not settings.tasks.regexes:
            raise
        try:
            changes = _fitting_changes(settings)
        except InputError:
            raise error from None
        options = " ".join(f"--set {key}={value}" for key, value in changes.items())
        raise InputError(f"{error}; these settings fit: {options}") from None


def _fitting_changes(settings: TrainingRunSettings) -> dict[str, Any]:
    """Return changes under which the dataset can be drawn; InputError if there are none."""
    changes = _changes_of_tasks(settings.tasks)
    tasks = settings.tasks.changed(**changes)
    n = min(settings.data.measured_tasks, tasks.n_tasks)
    data = settings.data.changed(measured_tasks=n, measured_instances=FEWEST_MEASURED)
    try:
        dataset = make_dataset(tasks, data, seed=settings.seed)
    except InputError:
        data = data.changed(val_inputs=tasks.inputs_per_task // 2)
        dataset = make_dataset(tasks, data, seed=settings.seed)
    # The smallest tasks bound the number of instances, whichever tasks are measured.
    available = min(_smallest(dataset, split, n) for split in dataset.measured.values())
    instances = min(settings.data.measured_instances, available)
    wanted = {f"tasks.{name}": value for name, value in changes.items()}
    wanted |= {"data.val_inputs": data.val_inputs, "data.measured_tasks": n}
    wanted |= {"data.measured_instances": instances}
    before = settings.flat()
    return {key: value for key, value in wanted.items() if before[key] != value}


def _smallest(dataset: Dataset, split: str, n: int) -> int:
    """Return the number of instances of the n smallest tasks of a split, or of all."""
    _, sizes = np.unique(dataset.task(split), return_counts=True)
    return int(np.sort(sizes)[:n].sum())


def _changes_of_tasks(tasks: TaskSettings) -> dict[str, int]:
    """Return lengths and a number of variants that the regular expressions provide."""
    grammars = [Grammar(regex) for regex in tasks.regexes]

    def strings(changes: dict[str, int]) -> int:
        changed = tasks.changed(**changes)
        return min(grammar.count(changed.min_length, changed.max_length) for grammar in grammars)

    changes: dict[str, int] = {}
    if strings(changes) < FEWEST:
        changes["min_length"] = 1
    if strings(changes) < FEWEST:
        changes["max_length"] = 4 * tasks.max_length
    most = strings(changes) * tasks.distributions_per_task
    for variants in range(tasks.variants_per_task, FEWEST - 1, -1):
        if variants + int(tasks.variants_spread * variants) <= most:
            return changes | {"variants_per_task": variants}
    raise InputError(f"a regular expression matches fewer than {FEWEST} strings")
