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


def score_probes(
    state: str,
    states: Mapping[str, npt.NDArray[np.float32]],
    *,
    instances: Mapping[str, Instances],
    run: str,
    seed: int,
    step: int,
    position: str,
) -> list[Row]:
    """Learn the task from a state, (N, D) per split, on the first split and tell it on the others.

    Returns two rows for each other split: `probe_task`, the accuracy of a linear classifier (ridge
    regression on the standardised state, its penalty chosen by leave-one-out), and
    `neighbours_task`, that of a vote among the `NEIGHBOURS` nearest instances of the first split.
    Chance is one in the number of tasks.
    """
    seen, *others = states
    linear = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=ALPHAS))
    near = KNeighborsClassifier(min(NEIGHBOURS, len(states[seen])), algorithm="brute", n_jobs=1)
    classifiers = {"probe_task": linear, "neighbours_task": near}
    place: dict[str, Any] = {"run": run, "seed": seed, "step": step}
    place |= {"position": position, "layer": state}
    rows: list[Row] = []
    with one_thread():
        for classifier in classifiers.values():
            classifier.fit(states[seen], instances[seen].task)
        for split in others:
            values = {
                name: classifier.score(states[split], instances[split].task)
                for name, classifier in classifiers.items()
            }
            rows += score_rows(values, **place, split=split)
    return rows
