"""The roles of the splits of a run in the findings."""

from tasklens.data.instances import JUDGED, SPLIT_MEANINGS, UNSEEN_KINDS
from tasklens.runs.verify import roles_of


def test_the_splits_of_a_training_run_stand_for_themselves() -> None:
    assert roles_of(SPLIT_MEANINGS) == {split: split for split in SPLIT_MEANINGS}


def test_unseen_kinds_take_no_role_whatever_their_place() -> None:
    distribution, task = UNSEEN_KINDS
    roles = roles_of(["a", task, "b", distribution, "c"])
    assert roles == dict(zip("abc", JUDGED, strict=True)) | {task: task, distribution: distribution}
    assert list(roles) == ["a", task, "b", distribution, "c"]
    assert roles_of(["a", task]) == {"a": "train_subset", task: task}


def test_a_split_that_is_alone_or_first_is_the_seen_one() -> None:
    assert roles_of([UNSEEN_KINDS[1]]) == {UNSEEN_KINDS[1]: "train_subset"}
