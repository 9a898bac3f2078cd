"""Is the task in a state, whether or not it makes clusters? Classifiers that are told the tasks.

Clusters are not information: a state can hold the task where a line finds it and no cluster shows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasklens.clustering.numba_compile import one_thread
from tasklens.data.instances import Instances
from tasklens.scoring.score_table import Row, score_rows

NEIGHBOURS = 10
#: Strengths of the ridge penalty that leave-one-out chooses from.
ALPHAS = np.logspace(-2, 4, 7)


def classify(
    item: tuple[int, str, Mapping[str, npt.NDArray[np.float32]]],
    *,
    instances: Mapping[str, Instances],
    run: str,
    seed: int,
    position: str = "input",
) -> list[Row]:
    """Return `score_probes` of (step, state, states): what a worker does."""
    step, state, states = item
    about: dict[str, Any] = {"run": run, "seed": seed, "step": step, "position": position}
    return score_probes(state, states, instances=instances, **about)


def score_probes(
    state: str,
    states: Mapping[str, npt.NDArray[np.float32]],
    *,
    instances: Mapping[str, Instances],
    run: str,
    seed: int,
    step: int,
    position: str = "input",
    trained_on: str = "train_subset",
) -> list[Row]:
    """Learn the task from a state on the training subset and tell it on the other splits.

    Parameters
    ----------
    state : str
        Name of the state.
    states : {split: float32 (N, D)}
    instances : {split: Instances}
        Of the same N instances of each split in the same order.
    run, seed, step, position
        For the columns of these names.
    trained_on : str
        The split that the classifiers learn from.

    Returns
    -------
    list of Row
        On each other split `probe_task`, the accuracy of a linear classifier
        (ridge regression on the standardised state, its penalty chosen by leave-one-out), and
        `neighbours_task`, that of a vote among the `NEIGHBOURS` nearest training instances. Chance
        is one in the number of tasks.
    """
    linear = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=ALPHAS))
    near = KNeighborsClassifier(
        min(NEIGHBOURS, len(states[trained_on])), algorithm="brute", n_jobs=1
    )
    place: dict[str, Any] = {"run": run, "seed": seed, "step": step}
    place |= {"position": position, "layer": state}
    rows: list[Row] = []
    with one_thread():
        for classifier in (linear, near):
            classifier.fit(states[trained_on], instances[trained_on].task)
        for split, x in states.items():
            if split == trained_on:
                continue
            task = instances[split].task
            values = {
                "probe_task": float(linear.score(x, task)),
                "neighbours_task": float(near.score(x, task)),
            }
            rows += score_rows(values, **place, split=split)
    return rows
