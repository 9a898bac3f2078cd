"""The page has the effects and moves of a view; what is not a mean at strength 1 is not shown."""

import dataclasses

import numpy as np
import pytest

from packed import unpacked
from tasklens.report.edits_page import edits_data
from tasklens.report.edits_view import NOT_RUN
from tasklens.report.page import run_data
from tasklens.report.page_arrays import LEVELS, script_json
from tasklens.report.view import UNKNOWN, View
from views import (
    MOVED_ANSWERS,
    MOVED_POINTS,
    MOVED_TO,
    VIEW_CENTROIDS,
    VIEW_EFFECTS,
    planted_edits,
    planted_view,
)


@pytest.fixture(scope="module")
def view() -> View:
    return dataclasses.replace(planted_view(), edits=planted_edits())


def test_effects_are_means_over_targets_and_draws_at_strength_1(view: View) -> None:
    data = edits_data(view)
    assert data is not None
    assert data["steps"] == [1, 2], "places of the checkpoints with edits"
    assert list(data["splits"]) == ["val_subset"]
    of_split = data["splits"]["val_subset"]
    shown = {
        (edit, metric): {state: tuple(values) for state, values in by_state.items()}
        for edit, by_metric in of_split["effects"].items()
        for metric, by_state in by_metric.items()
    }
    assert shown == VIEW_EFFECTS
    assert of_split["pairs"] == [[5, 3], [5, 3]]


def test_an_effect_that_is_not_known_is_null(view: View) -> None:
    edits = planted_edits()
    effects = edits.effects
    gone = (effects["step"] == 10) & (effects["state"] == "block1") & (effects["edit"] == "patch")
    edits = dataclasses.replace(edits, effects=effects[~gone])
    data = edits_data(dataclasses.replace(view, edits=edits))
    assert data is not None
    assert data["splits"]["val_subset"]["effects"]["patch"]["becomes"]["block1"] == [None, 0.6]
    script_json(data)


def test_moves_are_those_of_the_view(view: View) -> None:
    data, texts = run_data([view])
    train, split = data["positions"][0]["splits"]
    assert train["moves"] is None
    assert split["moves"]["tasks"] == [0, 1, 2]
    names = split["moves"]["answers"]
    arrays = unpacked(split["arrays"], texts[0][1])
    assert arrays["move/point"].tolist() == MOVED_POINTS
    expected = [[names.index(f"y{n}") + 1 if n >= 0 else 0 for n in row] for row in MOVED_ANSWERS]
    assert arrays["move/expected"].tolist() == expected
    code = {NOT_RUN: 0, UNKNOWN: 1}
    for scale, (state, last) in enumerate(MOVED_TO.items(), 1):
        assert not arrays[f"move/answer/{state}"][0].any()
        codes = [[code.get(n, n + 2) for n in row] for row in last]
        assert arrays[f"move/answer/{state}"][1].tolist() == codes
        entry = split["arrays"][f"move/centroids/{state}"]
        levels = arrays[f"move/centroids/{state}"][1]
        coordinates = (levels / (LEVELS / 2) - 1) * entry["half"][1] + entry["middle"][1]
        np.testing.assert_allclose(
            coordinates, scale * VIEW_CENTROIDS, atol=2 * entry["half"][1] / LEVELS
        )


def test_a_run_without_edits_has_neither() -> None:
    data, _ = run_data([planted_view()])
    assert data["positions"][0]["edits"] is None
    assert [split["moves"] for split in data["positions"][0]["splits"]] == [None, None]
