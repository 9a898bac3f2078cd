"""Which checkpoint, split and state of a view is meant; errors are in test_every_figure."""

import dataclasses

from planted import planted_view


def test_steps_are_found_and_the_last_is_meant_by_default() -> None:
    view = planted_view()
    assert [view.at(step) for step in (0, 10, 40)] == [0, 1, 2]
    assert view.at() == view.at(None) == 2


def test_the_first_unseen_split_is_meant_by_default() -> None:
    view = planted_view()
    name, split = view.split()
    assert (name, split) == ("val_subset", view.splits["val_subset"])
    assert view.split("train_subset") == ("train_subset", view.splits["train_subset"])
    seen = {"train_subset": view.splits["train_subset"]}
    assert dataclasses.replace(view, splits=seen).split()[0] == "train_subset", "there is no other"


def test_states_are_checked() -> None:
    assert planted_view().check_state("block1") == "block1"


def test_a_split_has_the_length_of_its_points() -> None:
    assert len(planted_view().splits["val_subset"]) == 12
