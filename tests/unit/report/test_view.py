"""A view says which checkpoint, split and state is meant, and in one line where there is none."""

import dataclasses

import pytest

from planted import planted_view
from tasklens.core.errors import InputError


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


def test_what_is_not_there_is_one_line_that_names_what_is() -> None:
    view = planted_view()
    with pytest.raises(InputError) as raised:
        view.at(11)
    assert str(raised.value) == "seen: no checkpoint at step 11; there are (0, 10, 40)"
    with pytest.raises(InputError) as raised:
        view.split("test")
    assert str(raised.value) == "seen: no split 'test'; there are train_subset, val_subset"
    with pytest.raises(InputError) as raised:
        view.check_state("block3")
    assert str(raised.value) == "seen: no state 'block3'; there are embed, block1, block2"
