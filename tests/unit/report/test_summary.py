"""Mean scores of states, and the layer that a view calls the best."""

import dataclasses

import pytest

from planted import VIEW_ARI, VIEW_STEPS, planted_view
from tasklens.report.summary import mean_scores
from tasklens.report.view import View
from tasklens.scoring.score_table import Row, to_table


def test_scores_are_those_of_the_states_themselves() -> None:
    assert mean_scores(planted_view().table, "val_subset", "ari") == {
        (state, step): pytest.approx(value + 0.1)
        for state, values in VIEW_ARI.items()
        for step, value in zip(VIEW_STEPS, values, strict=True)
    }


def view_of_final(**final: float) -> View:
    """Return a view with these ARI on the first split, after others before and on another split."""
    rows: list[Row] = [
        {
            "run": "seen", "seed": 3, "step": step, "split": split, "layer": state, "space": space,
            "k": 3, "cluster_seed": 0, "metric": "ari", "value": value if shown else 1 - value,
        }
        for state, value in final.items()
        for step, split, space, shown in (
            (40, "train_subset", "raw", True),
            (10, "train_subset", "raw", False),
            (40, "val_subset", "raw", False),
            (40, "train_subset", "tsne", False),
        )
    ]  # fmt: skip
    return dataclasses.replace(planted_view(), table=to_table(rows))


def test_the_best_state_follows_the_one_rule_on_the_first_split_at_the_end() -> None:
    assert view_of_final(embed=0.1, block1=0.3, block2=0.6).state() == "block2"
    assert view_of_final(embed=0.7, block1=0.3, block2=0.6).state() == "embed", "is a layer"
    assert view_of_final(embed=0.1, block1=0.4, block2=0.4).state() == "block1", "the lowest"
    assert view_of_final(embed=0.1, block1=0.3, ln_f=0.9).state() == "block1"
    assert view_of_final(embed=0.1, block7=0.9).state() == "embed", "block7 is not in the view"
    assert view_of_final().state() == "embed", "without scores the first"
