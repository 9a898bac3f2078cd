"""The defaults of a view: checkpoint, split and hidden state; test_every_figure tests errors."""

import dataclasses
import itertools

import pytest

from tasklens.report.summary import mean_scores
from tasklens.scoring.score_table import Row, score_rows, to_table
from views import VIEW_ARI, VIEW_STEPS, planted_view


def test_the_last_step_and_the_first_unseen_split_are_the_defaults() -> None:
    view = planted_view()
    assert [view.at(step) for step in (0, 10, 40, None)] == [0, 1, 2, 2]
    assert view.split() == view.split("val_subset") == ("val_subset", view.splits["val_subset"])
    seen = {"train_subset": view.splits["train_subset"]}
    assert dataclasses.replace(view, splits=seen).split()[0] == "train_subset", "the only one"
    assert view.split("train_subset") == ("train_subset", seen["train_subset"])
    assert view.state("block1") == "block1"
    assert len(view.splits["val_subset"]) == 12, "points"


def test_scores_are_those_of_the_states_themselves() -> None:
    assert mean_scores(planted_view().table, "val_subset", "ari") == {
        (state, step): pytest.approx(value + 0.1)
        for state, values in VIEW_ARI.items()
        for step, value in zip(VIEW_STEPS, values, strict=True)
    }


@pytest.mark.parametrize(
    ("final", "best"),
    [
        ({"embed": 0.1, "block1": 0.3, "block2": 0.6}, "block2"),
        ({"embed": 0.7, "block1": 0.3, "block2": 0.6}, "embed"),  # is a layer, too
        ({"embed": 0.1, "block1": 0.4, "block2": 0.4}, "block1"),  # the lowest
        ({"embed": 0.1, "block1": 0.3, "ln_f": 0.9}, "block1"),  # ln_f is no layer
        ({"embed": 0.1, "block7": 0.9}, "embed"),  # block7 is not in the view
        ({}, "embed"),  # the first
    ],
)
def test_the_best_state_is_that_of_the_first_split_at_the_end(
    final: dict[str, float], best: str
) -> None:
    rows: list[Row] = []
    at_the_end = (40, "train_subset", "raw")
    others = [(10, "train_subset", "raw"), (40, "val_subset", "raw"), (40, "train_subset", "tsne")]
    for (state, value), key in itertools.product(final.items(), [at_the_end, *others]):
        step, split, space = key
        rows += score_rows(
            {"ari": value if key == at_the_end else 1 - value}, run="seen", seed=3, step=step,
            split=split, position="", layer=state, space=space,
        )  # fmt: skip
    assert dataclasses.replace(planted_view(), table=to_table(rows)).state() == best


def test_views_are_shown_in_a_line() -> None:
    view = planted_view()
    contents = "3 checkpoints, 3 hidden states"
    assert repr(view) == f"View(run 'seen', seed 3: {contents}, splits train_subset, val_subset)"
    points = view.splits["train_subset"]
    assert repr(points) == f"SplitView(12 points, {contents})"
    assert repr(points.followed["block2"]) == "Followed(3 of 3 tasks formed, 3 checkpoints)"
    assert repr(points.followed["embed"]) == "Followed(0 of 3 tasks formed, 3 checkpoints)"
