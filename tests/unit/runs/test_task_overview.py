"""The likeness of tasks, by their functions and by the symbols of their instructions."""

import numpy as np

from tasklens.data.instances import Instances
from tasklens.runs.task_overview import same_output, same_symbols


def of_tasks(split: str, counts: dict[int, list[int]]) -> Instances:
    """Return an instance per task with these counts of symbols."""
    task = np.array(list(counts))
    zeros, each = np.zeros_like(task), np.array(list(counts.values()))
    return Instances(split, task, zeros, zeros, zeros, each, np.arange(len(task)))


def test_a_task_without_a_function_is_like_none() -> None:
    share = same_output([{"x0": "y0", "x1": "y1"}, {"x0": "y0", "x1": "y0"}, {}, {"x9": "y0"}])
    np.testing.assert_array_equal(
        share,
        [[1, 0.5, np.nan, 0], [0.5, 1, np.nan, 0], [np.nan] * 4, [0, 0, np.nan, 1]],
    )


def test_the_symbols_of_a_task_are_those_of_the_first_split_that_has_it() -> None:
    splits = {
        "train_subset": of_tasks("train_subset", {0: [1, 0], 1: [3, 4]}),
        "unseen_task_subset": of_tasks("unseen_task_subset", {1: [9, 9], 7: [0, 2]}),
    }
    expected = [[1, 0.6, 0], [0.6, 1, 0.8], [0, 0.8, 1]]
    np.testing.assert_allclose(same_symbols(splits), expected)
