"""Repair: errors become right by their own centroid, and the distance to it tells them."""

import numpy as np
import pytest

from planted_editor import PlantedEditor, World
from tasklens.interventions.repair import errors_among, own_distance, repair, repair_name
from tasklens.interventions.repair_effects import repair_effects


@pytest.mark.parametrize("among_candidates", [False, True])
def test_wrong_answers_become_right_at_their_own_centroid(among_candidates: bool) -> None:
    world = World(0)
    asked, inputs, donor_inputs = world.asked(60)
    states = world.cell_states(asked, inputs, donor_inputs)
    # A third of the prompts have the state of another task, so that the model is wrong on them.
    astray = np.arange(60) % 3 == 0
    wrong_task = np.where(astray, (asked.own + 1) % world.n_tasks, asked.own)
    states.prompts[:] = world.states(wrong_task, inputs)
    correct = (~astray).astype(np.int8)
    errors = errors_among(asked, correct, 15, np.random.default_rng(0))
    assert len(errors.own) == 15
    assert astray[errors.index].all()
    editor = PlantedEditor(
        {"block1": states.prompts[errors.index]},
        inputs[errors.index],
        world.n_answers,
        world.nearest,
        among_candidates=among_candidates,
    )
    of_errors = type(states)(
        states.prompts[errors.index], states.donors[:0], states.fit, states.fit_task
    )
    arrays = repair(editor, "block1", of_errors, errors, 8, 0)

    def name(edit: str) -> str:
        return repair_name("val_subset", "input", "block1", edit, "right")

    assert arrays[name("repair")].mean() == 1
    assert arrays[name("repair_random")].shape == (8, 15)
    assert arrays[name("repair_random")].mean() < 0.3
    distance = own_distance(states, asked)
    arrays |= {
        repair_name("val_subset", "input", "correct"): correct,
        repair_name("val_subset", "input", "unit"): asked.unit,
        repair_name("val_subset", "input", "errors"): errors.index,
        repair_name("val_subset", "input", "block1", "distance", "value"): distance,
    }
    units = np.unique(asked.unit)
    weights = np.ones((2, len(units)))
    weights[1] = np.random.default_rng(1).integers(3, size=len(units))
    effects = {
        each[1:3]: each[3] for each in repair_effects(arrays, "val_subset", "input", units, weights)
    }
    assert effects["repair", "right"].tolist() == [1, 1]
    assert effects["distance", "auroc"].tolist() == [1, 1]
    assert effects["repair_random", "right"][0] == pytest.approx(
        arrays[name("repair_random")].mean()
    )


def test_no_errors_are_repaired_if_there_are_none() -> None:
    world = World(0)
    asked, _, _ = world.asked(10)
    errors = errors_among(asked, np.ones(10, dtype=np.int8), 5, np.random.default_rng(0))
    assert len(errors.own) == 0
