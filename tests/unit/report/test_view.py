"""Which checkpoint, split and state of a view is meant; errors are in test_every_figure."""

import dataclasses

from planted import planted_view


def test_the_last_step_and_the_first_unseen_split_are_the_defaults() -> None:
    view = planted_view()
    assert [view.at(step) for step in (0, 10, 40, None)] == [0, 1, 2, 2]
    assert view.split() == ("val_subset", view.splits["val_subset"])
    assert view.split("train_subset") == ("train_subset", view.splits["train_subset"])
    seen = {"train_subset": view.splits["train_subset"]}
    assert dataclasses.replace(view, splits=seen).split()[0] == "train_subset", "there is no other"
    assert view.state("block1") == "block1"
    assert len(view.splits["val_subset"]) == 12, "points"
