"""Predict the task from a hidden state by classifiers that learn from the tasks of one split.

A hidden state can contain the task without clusters: then a classifier finds it and KMeans does
not.
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
#: Strengths of the ridge penalty; leave-one-out chooses one of them.
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
    """Learn the task from a hidden state on the first split, and predict it on the others.

    ``states`` has the hidden state on each split, (N, D). There are two rows per other split:

    - `probe_task`: the accuracy of a linear classifier. It is ridge regression on the standardised
      state; leave-one-out chooses the penalty.
    - `neighbours_task`: the accuracy of a vote among the `NEIGHBOURS` nearest instances of the
      first split.

    The accuracy by chance is one divided by the number of tasks.
    """
    seen, *others = states
    linear = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=ALPHAS))
    near = KNeighborsClassifier(min(NEIGHBOURS, len(states[seen])), algorithm="brute", n_jobs=1)
    classifiers = {"probe_task": linear, "neighbours_task": near}
    columns: dict[str, Any] = {"run": run, "seed": seed, "step": step}
    columns |= {"position": position, "layer": state}
    rows: list[Row] = []
    with one_thread():
        for classifier in classifiers.values():
            classifier.fit(states[seen], instances[seen].task)
        for split in others:
            values = {
                name: classifier.score(states[split], instances[split].task)
                for name, classifier in classifiers.items()
            }
            rows += score_rows(values, **columns, split=split)
    return rows
