from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tasklens.core.seeds import stream
from tasklens.scoring.cluster_tracking import FORMED, PART, Followed, follow, followed_text

Ints = NDArray[np.int64]

#: Four instances of each of three tasks, which have other numbers than 0, 1, 2.
TASK = np.repeat([3, 5, 9], 4)


def runs(*lengths: tuple[int, int]) -> Ints:
    """Return labels from (label, how many times in a row)."""
    return np.concatenate([np.full(n, label) for label, n in lengths])


def followed(*labels: Sequence[int] | Ints, task: Ints = TASK) -> Followed:
    steps = [0, 1, 2, 4, 8, 16][: len(labels)]
    return follow(steps, np.array(labels, dtype=np.int64), task)


# --- Tasks ---

SEPARATE = [0] * 4 + [1] * 4 + [2] * 4
#: The last two tasks share two clusters.
MERGED = [0] * 4 + [1, 1, 2, 2] * 2


def test_the_step_from_which_on_a_task_has_a_cluster_of_its_own() -> None:
    got = followed(MERGED, SEPARATE, [0, 1, 2, 0] * 3, MERGED, SEPARATE)
    # Half of a task is in each of the shared clusters: 2 / (4 + 4 - 2) is below one half.
    assert got.overlap[0] == pytest.approx([1, 1 / 3, 1 / 3])
    assert got.overlap[1] == pytest.approx([1, 1, 1])
    assert (got.overlap[2] < FORMED).all()
    assert got.steps == (0, 1, 2, 4, 8)
    assert got.formed == (4, 8, 8), "what was lost again does not count"
    assert got.tasks.tolist() == [3, 5, 9]


def test_formed_from_the_start_never_and_lost_at_the_end() -> None:
    assert followed(SEPARATE, SEPARATE, MERGED).formed == (0, None, None)
    assert followed(SEPARATE).formed == (0, 0, 0)
    assert followed(MERGED).formed == (0, None, None)
    # Two of task 0's four, and nothing else: 2 / 4.
    got = followed([0, 0, 1, 1, 2, 2, 2, 2], task=np.repeat([0, 1], 4))
    assert got.overlap[0] == pytest.approx([0.5, 1])
    assert got.formed == (0, 0)


def test_tasks_take_the_clusters_that_are_best_for_all_of_them() -> None:
    # Task 0 overlaps cluster 0 by 7 / 16, more than any other pair does; but task 1 has no other
    # cluster (5 / 12), and task 0 has (4 / 11).
    task = runs((0, 11), (1, 5))
    got = followed(runs((0, 7), (1, 4), (0, 5)), task=task)
    assert got.overlap[0] == pytest.approx([4 / 11, 5 / 12])
    # No two of them share one.
    got = followed([0] * 4 + [1] * 8, [0] * 12)
    assert got.overlap[0] == pytest.approx([1, 0.5, 0])
    assert sorted(got.overlap[1]) == pytest.approx([0, 0, 1 / 3])
    assert got.formed == (None, None, None)


def test_instances_have_the_task_that_their_cluster_is_assigned_to() -> None:
    got = followed(runs((7, 5), (2, 3), (4, 4)), runs((4, 4), (7, 4), (2, 4)))
    # Places in `tasks`, not the tasks' own numbers.
    expected = [runs((0, 5), (1, 3), (2, 4)), runs((0, 4), (1, 4), (2, 4))]
    np.testing.assert_array_equal(got.assigned, expected)
    # Of the last task's two clusters it takes the larger; the others are 3 and 4, by their labels.
    got = followed(runs((9, 1), (1, 3), (6, 4), (0, 1), (4, 3)), runs((1, 4), (3, 4), (2, 4)))
    expected = [runs((4, 1), (0, 3), (1, 4), (3, 1), (2, 3)), runs((0, 4), (1, 4), (2, 4))]
    np.testing.assert_array_equal(got.assigned, expected)


def test_the_overlap_is_that_of_a_task_and_those_assigned_to_it() -> None:
    random = stream(0, "assigned")
    for n_clusters in (2, 3, 5):
        got = followed(*random.integers(n_clusters, size=(6, 12)))
        task = np.searchsorted(got.tasks, TASK)
        for overlap, assigned in zip(got.overlap, got.assigned, strict=True):
            for i in range(3):
                members, cluster = task == i, assigned == i
                both = np.count_nonzero(members & cluster)
                shared = both / np.count_nonzero(members | cluster)
                assert overlap[i] == pytest.approx(shared)


def test_numbers_of_labels_have_no_meaning() -> None:
    random = stream(0, "labels")
    labels = random.integers(3, size=(6, 12))
    other = np.stack([random.permutation(20)[:3][one] for one in labels])
    mine, theirs = followed(*labels), followed(*other)
    assert theirs.overlap == pytest.approx(mine.overlap)
    assert theirs.formed == mine.formed
    assert theirs.assigned.tolist() == mine.assigned.tolist()
    assert (theirs.splits, theirs.merges) == (mine.splits, mine.merges)


# --- Clusters ---


def test_clusters_keep_their_names_whatever_their_numbers() -> None:
    first = runs((0, 4), (1, 4), (2, 4))
    got = followed(first, (first + 1) % 3, 7 * ((first + 2) % 3))
    assert got.cluster.tolist() == [first.tolist()] * 3
    assert got.splits == got.merges == (0, 0)


def test_a_cluster_keeps_its_name_if_some_instances_leave_it() -> None:
    got = followed(runs((0, 8), (1, 8)), runs((5, 7), (2, 9)), task=runs((0, 8), (1, 8)))
    assert got.cluster[1].tolist() == [0] * 7 + [1] * 9
    assert got.splits == got.merges == (0,), "one of eight is no part"


def test_names_follow_the_most_instances_of_all_clusters_together() -> None:
    # As with tasks above: cluster 0 would take the larger part, and leave cluster 1 without name.
    before = runs((0, 11), (1, 5))
    got = followed(before, runs((0, 7), (1, 4), (0, 5)), task=before)
    assert got.cluster[1].tolist() == runs((1, 7), (0, 4), (1, 5)).tolist()


def test_a_split_and_a_merge() -> None:
    whole, parts = runs((0, 8), (1, 8)), runs((0, 5), (2, 3), (1, 8))
    got = followed(whole, parts, parts, whole, task=whole)
    assert (got.splits, got.merges) == ((1, 0, 0), (0, 0, 1))
    assert got.cluster[1].tolist() == parts.tolist(), "the larger part keeps the name"
    assert got.cluster[3].tolist() == whole.tolist()


def test_what_is_a_part() -> None:
    assert PART == 0.25
    task = np.repeat([0, 1], 8)
    two_leave = followed(runs((0, 8), (1, 8)), runs((0, 6), (1, 10)), task=task)
    # Two of eight are a quarter, and a fifth of the ten where they arrive.
    assert (two_leave.splits, two_leave.merges) == ((1,), (0,))
    swallowed = followed(runs((0, 14), (1, 2)), runs((0, 16)), task=task)
    assert swallowed.merges == (0,), "a small cluster does not change what swallows it"
    joined = followed(runs((0, 12), (1, 4)), runs((0, 16)), task=task)
    assert joined.merges == (1,)
    crossed = followed(runs((0, 8), (1, 8)), runs((0, 4), (1, 4)).tolist() * 2, task=task)
    assert crossed.splits == crossed.merges == (2,)


def test_a_cluster_that_is_gone_takes_its_name_along() -> None:
    three, two = runs((0, 4), (1, 4), (2, 4)), runs((0, 4), (1, 8))
    got = followed(three, two, runs((0, 2), (5, 2), (1, 8)), two, three)
    third = runs((0, 2), (3, 2), (1, 8))  # 3, not 2, which named another cluster
    expected = [three, runs((0, 4), (1, 8)), third, two, runs((0, 4), (1, 4), (4, 4))]
    np.testing.assert_array_equal(got.cluster, expected)
    assert (got.splits, got.merges) == ((0, 1, 0, 1), (1, 0, 1, 0))


# --- As text ---


def test_what_became_of_tasks_and_clusters_as_text() -> None:
    mixed = [0] * 4 + [1, 2, 2, 2] + [2, 1, 1, 1]
    got = follow([0, 1, 2000], np.array([MERGED, MERGED, mixed]), TASK)
    names = [f"t{i}" for i in range(9)] + ["the ninth"]
    assert followed_text(got, names) == (
        "task       formed at  overlap at the end\n"
        "t3                 0                1.00\n"
        "t5             2,000                0.60\n"
        "the ninth      2,000                0.60\n"
        "\n"
        "step     formed  splits  merges\n"
        "0             1\n"
        "1             1       0       0\n"
        "2,000         3       2       2\n"
    )
    # The first to form comes first, whatever its number.
    late = follow([0, 64], np.array([MERGED, SEPARATE]), np.roll(TASK, 4))
    lines = followed_text(late, names).splitlines()
    assert [line.split()[-2] for line in lines[1:4]] == ["0", "64", "64"]
    never = followed_text(followed(MERGED), names).splitlines()
    assert never[2] == "t5             never                0.33"
    stages = followed_text(got, names, {0: "untrained", 1: "base", 2000: "sft"}).splitlines()
    assert stages[2] == "t5               sft                0.60"
    assert [line.split()[0] for line in stages[5:]] == ["model", "untrained", "base", "sft"]
    assert stages[6] == "untrained       1"
