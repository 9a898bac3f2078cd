"""Known answers for the class of an input: inputs that share a task are of one class."""

import numpy as np
import pytest

from planted import planted_instances
from tasklens.clustering.cluster import ClusterSettings
from tasklens.scoring.score_cells import score_controls


@pytest.mark.parametrize(
    ("task", "inputs", "expected", "ari"),
    [
        # Two tasks of verbs and two of countries, each crossed: the class tells two of four tasks.
        ([0, 0, 1, 1, 2, 2, 3, 3], [5, 6, 5, 6, 7, 8, 7, 8], [0, 0, 0, 0, 1, 1, 1, 1], 0.3636),
        # All tasks over all inputs.
        ([0, 0, 1, 1], [5, 6, 5, 6], [0, 0, 0, 0], 0.0),
        # Each task over inputs of its own: the input tells the task.
        ([0, 0, 1, 1], [5, 6, 7, 8], [0, 0, 1, 1], 1.0),
        # One shared input joins two tasks.
        ([0, 0, 1, 1, 2, 2], [5, 6, 6, 7, 8, 9], [0, 0, 0, 0, 1, 1], 0.4444),
    ],
)
def test_inputs_that_share_a_task_are_of_one_class(
    task: list[int], inputs: list[int], expected: list[int], ari: float
) -> None:
    instances = planted_instances(np.array(task), input=np.array(inputs))
    assert instances.input_class.tolist() == expected
    rows = score_controls(instances, 2, "r", 0, ClusterSettings(n_init=1, cluster_seeds=1))
    (score,) = [r for r in rows if r["layer"] == "control:input_class" and r["metric"] == "ari"]
    assert score["value"] == pytest.approx(ari, abs=1e-4)
    assert score["k"] == len(set(expected))
