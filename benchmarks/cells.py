"""Collect cells to cluster, from a run's hidden states or from a model that is trained briefly."""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from common import settings_of
from numpy.typing import NDArray

from tasklens.clustering.cluster import Cell, Clustering, ClusterSettings, cluster
from tasklens.data.dataset import MEASURED
from tasklens.data.synthetic import make_dataset
from tasklens.models.gpt2 import make_model, state_names
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.training import Trainer
from tasklens.runs.load_run import load_run
from tasklens.runs.settings import TrainingRunSettings

#: Without a run: steps that are trained, and steps at which states are taken.
TRAINED, AT = 60, (0, 20, 60)
Item = TypeVar("Item")


def cluster_one(cell: Cell, settings: ClusterSettings) -> Clustering:
    """Cluster one cell in a worker process, which can import this module, but no script."""
    return cluster([cell], settings)[0]


def add_options(options: argparse.ArgumentParser, n_cells: int) -> None:
    """Add the options that choose the cells."""
    options.add_argument("--states", type=Path, metavar="RUN", help="take this run's states")
    options.add_argument("--cells", type=int, default=n_cells, help="how many cells")


def chosen_cells(run: Path | None, space: str, n: int) -> list[Cell]:
    """Return cells spread evenly over checkpoints, splits and states.

    Parameters
    ----------
    run : Path, optional
        A run directory; without one, the default preset is trained for `TRAINED` steps.
    space : str
        "raw", or "tsne": then of the last checkpoint only, as a run does it.
    n : int
        How many.
    """
    everything = _of_run(run, space) if run else _of_short_training(space)
    return evenly(everything, n)


def tasks_by_split(run: Path | None) -> dict[str, NDArray[np.int64]]:
    """Return the task of each instance, (N,), in the splits of `chosen_cells` of the same run."""
    if run:
        return {split: known.task for split, known in load_run(run).instances_by_split.items()}
    settings = settings_of()
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    return {split: dataset.instances(split).task for split in MEASURED}


def evenly(items: Sequence[Item], n: int) -> list[Item]:
    """Return n of the items, spread evenly, the last among them."""
    n = min(n, len(items))
    return [items[(i + 1) * len(items) // n - 1] for i in range(n)]


def _cells(
    settings: TrainingRunSettings, step: int, space: str, states: dict[str, NDArray[np.float32]]
) -> list[Cell]:
    k = settings.data.measured_tasks
    return [
        Cell(settings.seed, step, split, name, space, k, states[f"{split}/{name}"])
        for split in MEASURED
        for name in state_names(settings.model.n_layer)
    ]


def _of_run(path: Path, space: str) -> list[Cell]:
    run = load_run(path)
    return [
        Cell(run.settings.seed, step, split, name, space, run.instances_by_split[split].n_tasks, x)
        for step in (run.steps if space == "raw" else run.steps[-1:])
        for name, xs in run.clustered(step)
        for split, x in xs.items()
    ]


def _of_short_training(space: str) -> list[Cell]:
    settings = settings_of()
    print(f"states of the default preset at steps {AT}; --states RUN takes a run's", flush=True)
    checkpoints = list(_train_a_little(settings, space))
    used = checkpoints if space == "raw" else checkpoints[-1:]
    return [cell for cells in used for cell in cells]


def _train_a_little(settings: TrainingRunSettings, space: str) -> Iterator[list[Cell]]:
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    model = make_model(dataset, settings.model, seed=settings.seed)
    trainer = Trainer(model, dataset, settings.train, settings.seed)
    batches = trainer.batches()
    for step in AT:
        for batch in islice(batches, step - trainer.step):
            trainer.take_step(batch)
        states: dict[str, NDArray[np.float32]] = {}
        for split in MEASURED:
            got = harvest(GPT2Subject(model), dataset.prompts(split))
            states |= {f"{split}/{name}": state for name, state in got.states.items()}
        yield _cells(settings, step, space, states)
