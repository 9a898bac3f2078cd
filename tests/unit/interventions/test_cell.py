"""Cells: planted models whose answers follow the states, or do not."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from planted_editor import PlantedEditor, Rule, World
from tasklens.core.errors import InputError
from tasklens.data.counterfactuals import Fold
from tasklens.data.edited_prompts import Floats, Ints
from tasklens.interventions.cell import Arrays, EditKey, intervene, planned_edits
from tasklens.interventions.controls import lengths
from tasklens.interventions.effect_curves import EffectCurves, effect_curves
from tasklens.interventions.settings import EDITS, REPAIRS, InterventionSettings
from tasklens.interventions.unedited import unedited_arrays
from tasklens.scoring.centroids import fit_centroids

EVERY = [edit for edit in EDITS if edit not in (*REPAIRS, "unembedding")]
SETTINGS = InterventionSettings(draws=5, test_draws=9)


def ran(
    world: World,
    rule: Rule,
    edits: Iterable[str] = EVERY,
    *,
    folds: int = 1,
    n: int = 40,
    seed: int = 0,
    among_candidates: bool = False,
    family: Ints | None = None,
) -> tuple[Arrays, PlantedEditor]:
    """Return what edits of the state "block1" leave, and the model."""
    asked, inputs, donor_inputs = world.asked(n)
    if family is not None:
        mine = family[asked.own]
        fit = np.repeat(family, 60)
        each = [Fold(np.flatnonzero(fit == f), np.flatnonzero(mine == f)) for f in (0, 1)]
        inside = mine[:, None] == family
        answers, donor = (np.where(inside, x, -1) for x in (asked.answers, asked.donor))
        asked = replace(asked, folds=tuple(each), family=family, answers=answers, donor=donor)
    if folds == 2:
        fit = np.arange(60 * world.n_tasks)
        parts = (Fold(fit[::2], np.arange(0, n, 2)), Fold(fit[1::2], np.arange(1, n, 2)))
        asked = type(asked)(**{**vars(asked), "folds": parts})
    states = world.cell_states(asked, inputs, donor_inputs)
    rest = (world.n_answers, rule)
    editor, donors = (
        PlantedEditor({"block1": x}, of_x, *rest, among_candidates=among_candidates)
        for x, of_x in ((states.prompts, inputs), (states.donors, donor_inputs))
    )
    planned = list(planned_edits("block1", list(edits), (1.0, 0.1), world.n_tasks, SETTINGS))
    arrays = intervene(editor, "block1", {"block1": states}, asked, planned, seed)
    return {**unedited_arrays(asked, editor, donors), **arrays}, editor


def curves(arrays: Arrays) -> EffectCurves:
    units = np.unique(arrays["val_subset/input/unit"])
    weights = np.ones((3, len(units)))
    return effect_curves("run", 0, "input", [(5, arrays)], {"val_subset": (units, weights)})


def test_a_model_that_reads_the_nearest_centroid_follows_every_move() -> None:
    world = World(0)
    effects = curves(ran(world, world.nearest)[0])

    def effect(edit: str, metric: str) -> float:
        return float(effects.final("val_subset", "block1", edit, metric)[0])

    for edit in ("shift", "swap", "patch", "patch_span"):
        assert effect(edit, "becomes") == 1
        assert effect(edit, "stays") == effect(edit, "third") == 0
        assert effect(edit, "becomes_normalised") == pytest.approx(1)
        assert effect(edit, "logit_change_normalised") == pytest.approx(1, abs=0.3)
    for edit in ("patch_rest", "shift@0.1", "erase_random"):
        assert effect(edit, "stays") == 1
    assert effect("third", "becomes") == 0
    assert effect("erase", "stays") < 0.6
    for edit in ("random", "within", "shuffled"):
        assert effect(edit, "becomes_able") < 0.3
        assert effect(edit, "logit_change") < effect("shift", "logit_change") / 2


def test_a_model_that_ignores_its_clusters_does_not_move() -> None:
    world = World(1)
    asked_task: list[np.ndarray] = []

    def ignoring(states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return world.output(np.zeros(len(inputs), dtype=np.int64), inputs)

    effects = curves(ran(world, ignoring)[0])
    assert not asked_task
    becomes = effects.final("val_subset", "block1", "shift", "becomes")
    random = effects.final("val_subset", "block1", "random", "becomes")
    assert becomes[0] == pytest.approx(random[0])
    # The full patch does no more, so that there is no way to take a share of.
    assert np.isnan(effects.final("val_subset", "block1", "shift", "becomes_normalised")).all()


def test_answers_of_several_tokens_are_the_best_of_the_same_candidates_for_all_edits() -> None:
    world = World(1)

    def third(states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return world.output(np.full(len(inputs), 3), inputs)  # whatever the state

    effects = curves(ran(world, third, among_candidates=True)[0])
    for edit in ("shift", "random"):
        follows = effects.final("val_subset", "block1", edit, "becomes")[0]
        assert follows == pytest.approx(
            effects.final("val_subset", "block1", "patch", "becomes")[0]
        )
    assert effects.final("val_subset", "block1", "shift", "third")[0] > 0.3


def unseen_task(world: World, n: int = 40) -> Arrays:
    """Return what edits leave of prompts of a task that is none of the targets."""
    asked, inputs, donor_inputs = world.asked(n, "unseen_task_subset")
    own, task = np.full(n, -1), np.full(n, world.n_tasks)
    donor = world.output(np.arange(world.n_tasks)[None], inputs[:, None])
    known = world.cell_states(asked, inputs, donor_inputs)
    away = 4 * world.rng.standard_normal(world.mean.shape[1]) - world.mean[0]

    def of_task(inputs: Ints) -> Floats:
        moved: Floats = world.states(np.zeros_like(inputs), inputs) + away.astype(np.float32)
        return moved

    fit = of_task(world.rng.integers(world.n_inputs, size=60))
    states = replace(
        known,
        prompts=of_task(inputs),
        fit=np.concatenate([known.fit, fit]),
        fit_task=np.concatenate([known.fit_task, np.full(60, world.n_tasks)]),
    )
    folds = (Fold(np.arange(len(states.fit)), np.arange(n)),)
    asked = replace(asked, own=own, task=task, donor=donor, folds=folds)
    editor, donors = (
        PlantedEditor({"block1": x}, of_x, world.n_answers, world.nearest)
        for x, of_x in ((states.prompts, inputs), (states.donors, donor_inputs))
    )
    planned = list(planned_edits("block1", EVERY, (1.0,), world.n_tasks, SETTINGS))
    arrays = intervene(editor, "block1", {"block1": states}, asked, planned, 0)
    return {**unedited_arrays(asked, editor, donors), **arrays}


def test_states_of_an_unseen_task_move_from_their_own_centroid_to_that_of_each_known_task() -> None:
    arrays = unseen_task(World(0))
    at = "unseen_task_subset/input"
    units = np.unique(arrays[f"{at}/unit"])
    resampling = {"unseen_task_subset": (units, np.ones((3, len(units))))}
    effects = effect_curves("run", 0, "input", [(5, arrays)], resampling)

    def effect(edit: str, metric: str) -> float:
        return float(effects.final("unseen_task_subset", "block1", edit, metric)[0])

    for edit in ("shift", "swap", "patch", "patch_span"):
        assert effect(edit, "becomes") == effect(edit, "becomes_able") == 1
        assert effect(edit, "becomes_normalised") == pytest.approx(1)
        assert effect(edit, "stays") == effect(edit, "third") == 0
    for edit in ("random", "within"):
        assert effect(edit, "becomes") < 0.3
    assert effect("patch_rest", "stays") == 1, "what the model answers without an edit"
    assert np.isnan(effect("shift", "logit_change")), "there is no own answer"
    assert np.isnan(effect("random", "logit_change"))
    # The task whose answer the model gives without an edit is no target.
    clean = arrays[f"{at}/clean/answer"]
    pairs = (arrays[f"{at}/answers"] != clean[:, None]).sum()
    assert effects.n_pairs == {"unseen_task_subset": pairs}
    assert arrays[f"{at}/pairs"].sum() > pairs
    assert effects.n_tasks == 4, "targets, without the unseen task"


def test_the_span_and_the_middle_are_those_of_the_targets() -> None:
    rng = np.random.default_rng(0)
    states, task = rng.standard_normal((90, 8)).astype(np.float32), np.repeat([2, 5, 9], 30)
    known, every = (
        fit_centroids(states[:60], task[:60]),
        fit_centroids(states, task, np.array([2, 5])),
    )
    assert every.basis == pytest.approx(known.basis)
    assert every.middle == pytest.approx(known.middle)
    away = every.difference(np.array([9]), np.array([5]))
    assert away[0] == pytest.approx(states[30:60].mean(axis=0) - states[60:].mean(axis=0), abs=1e-6)
    assert lengths(every, 1)[2] == pytest.approx(np.linalg.norm(away))
    assert lengths(every, 1)[:2] == pytest.approx(lengths(known, 1))
    with pytest.raises(InputError, match="there is 1 task"):
        fit_centroids(states, task, np.array([2]))


def test_states_move_within_their_family_only() -> None:
    world = World(3, n_tasks=7)
    family = np.array([0, 1, 0, 1, 0, 1, 1])
    world.mean += 40.0 * family[:, None]
    arrays, _ = ran(world, world.nearest, family=family)
    effects = curves(arrays)
    assert effects.n_tasks == 3, "those of the smaller family"
    assert (arrays["val_subset/input/family"] == family).all()

    def effect(edit: str, metric: str) -> float:
        return float(effects.final("val_subset", "block1", edit, metric)[0])

    own = arrays["val_subset/input/own"]
    pairs = arrays["val_subset/input/pairs"].astype(bool)
    assert (pairs == ((family == family[own][:, None]) & (np.arange(7) != own[:, None]))).all()
    for edit in ("shift", "swap", "patch", "patch_span"):
        assert effect(edit, "becomes") == effect(edit, "becomes_able") == 1
    for edit in ("patch_rest", "erase_random", "random", "within"):
        assert effect(edit, "stays") > 0.7
    for edit in EVERY:
        answer = arrays[f"val_subset/input/block1/{edit}/answer"]
        task = np.where(answer >= 0, answer // world.n_inputs, own)
        # Erasing what differs between tasks does not erase what differs between families.
        assert (family[task] == family[own]).all(), edit
    assert effect("erase", "stays") < 0.6


def test_two_folds_edit_each_prompt_once_by_the_other_half() -> None:
    world = World(2)
    arrays, _ = ran(world, world.nearest, ["shift"], folds=2)
    answer = arrays["val_subset/input/block1/shift/answer"]
    own = arrays["val_subset/input/own"]
    for t in range(world.n_tasks):
        assert ((answer[t] >= 0) == (own != t)).all()
    assert curves(arrays).final("val_subset", "block1", "shift", "becomes")[0] == 1


def test_an_edit_gives_the_same_alone_and_with_others() -> None:
    alone, _ = ran(World(3), World(3).nearest, ["random"])
    every, _ = ran(World(3), World(3).nearest)
    for kind in ("answer", "likelihood"):
        name = f"val_subset/input/block1/random/{kind}"
        assert np.array_equal(alone[name], every[name], equal_nan=True)
    other, _ = ran(World(3), World(3).nearest, ["random"], seed=1)
    name = "val_subset/input/block1/random/answer"
    assert not np.array_equal(other[name], alone[name])


def test_donors_that_are_missing_are_no_ceiling() -> None:
    world = World(4)
    asked, inputs, donor_inputs = world.asked(10)
    states = world.cell_states(asked, inputs, donor_inputs)
    donor = np.where(np.arange(world.n_tasks) == 1, -1, asked.donor)
    without = type(asked)(**{**vars(asked), "donor": donor})
    editor = PlantedEditor({"block1": states.prompts}, inputs, world.n_answers, world.nearest)
    planned = list(planned_edits("block1", ["patch"], (1.0,), world.n_tasks, SETTINGS))
    arrays = intervene(editor, "block1", {"block1": states}, without, planned, 0)
    answer = arrays["val_subset/input/block1/patch/answer"]
    assert (answer[1] == -1).all()
    assert (answer[2][asked.own != 2] >= 0).all()


def test_states_together_take_only_edits_that_do_not_depend_on_the_state() -> None:
    planned = planned_edits("block1+block2", EVERY, (1.0,), 4, SETTINGS)
    assert [each.name for each in planned] == ["shift", "shuffled", "random", "within"]


def test_more_random_directions_where_the_p_value_is_taken() -> None:
    (planned,) = planned_edits("block1", ["random"], (1.0,), 4, SETTINGS, test=True)
    assert planned.runs == 9


def test_a_state_that_is_not_finite_is_refused() -> None:
    world = World(5)
    asked, inputs, donor_inputs = world.asked(10)
    states = world.cell_states(asked, inputs, donor_inputs)
    states.prompts[3, 0] = np.inf
    editor = PlantedEditor({"block1": states.prompts}, inputs, world.n_answers, world.nearest)
    planned = list(planned_edits("block1", ["swap"], (1.0,), world.n_tasks, SETTINGS))
    with pytest.raises(InputError, match="block1: a hidden state is not finite"):
        intervene(editor, "block1", {"block1": states}, asked, planned, 0)


@pytest.mark.parametrize("position", ["input", "a/b", "last"])
@pytest.mark.parametrize("alpha", [1.0, 0.5, -2.0])
def test_names_of_arrays_are_read_back(position: str, alpha: float) -> None:
    key = EditKey("val_subset", position, "block3+block4", "shift", alpha)
    assert EditKey.parse(key.name("answer")) == (key, "answer")


def test_names_of_other_arrays_are_no_edits() -> None:
    assert EditKey.parse("val_subset/input/own") is None
