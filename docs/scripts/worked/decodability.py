"""Clusters and decodability of states in which the input is ever larger."""

import numpy as np
from tables.markdown import markdown, number

from tasklens import KMeans
from tasklens.scoring.classifiers import fit_linear
from tasklens.scoring.partition_agreement import adjusted_rand, contingency
from tasklens.scoring.variance import centred, separation, variance_share
from worked.planted_states import TASKS, planted

SCALES = (0.5, 1.0, 1.5, 2.0, 4.0)


def numbers(scale: float) -> dict[str, float]:
    """Return the scores of states whose input part has a scale."""
    seen, unseen = planted(scale, seed=0), planted(scale, seed=1)
    cluster = KMeans(n_clusters=TASKS, random_state=0).fit_predict(unseen.states).astype(np.int64)
    predict = fit_linear(seen.states, seen.task)
    x = centred(unseen.states)
    return {
        "ARI with the task": adjusted_rand(contingency(unseen.task, cluster)),
        "ARI with the input": adjusted_rand(contingency(unseen.input, cluster)),
        "linear probe": float((predict(unseen.states) == unseen.task).mean()),
        "separation": separation(x, unseen.task),
        "variance between tasks": variance_share(x, unseen.task),
    }


def decodability_table() -> str:
    """Return a table with a row per scale."""
    rows = {scale: numbers(scale) for scale in SCALES}
    head = ["scale of the input", *rows[SCALES[0]]]
    return markdown(head, [[f"{s:g}", *map(number, rows[s].values())] for s in SCALES])
