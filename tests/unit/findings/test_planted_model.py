"""Models that use their clusters by construction, or do not: from edits to the verdict."""

from typing import Any

import numpy as np
import pytest

from planted_editor import PlantedEditor, Rule, World
from tasklens.clustering.cluster import Cell, ClusterSettings, cluster
from tasklens.core.seeds import stream
from tasklens.data.edited_prompts import Floats, Ints
from tasklens.findings.curves import Curves, curves_of_labels
from tasklens.findings.rules import UNSEEN
from tasklens.findings.statistics import TRAIN
from tasklens.findings.use import of_shuffled_labels
from tasklens.findings.verdict import judge
from tasklens.interventions import controls, edits
from tasklens.interventions.cell import Arrays, intervene, planned_edits
from tasklens.interventions.effect_curves import effect_curves
from tasklens.interventions.settings import NEEDED, InterventionSettings
from tasklens.interventions.unedited import unedited_arrays
from tasklens.scoring.bootstrap import Resampling, resampling_weights
from tasklens.scoring.centroids import fit_centroids

STEP, N, N_TASKS = 7, 60, 6
SETTINGS = InterventionSettings(draws=10, test_draws=199)
EDITS = [edit for edit in NEEDED if not edit.startswith("repair")]


def clusters(split: str, states: Floats, n_tasks: int) -> Ints:
    """Return the clusters of KMeans, (1, N)."""
    cell = Cell(0, STEP, split, "block1", "raw", n_tasks, states)
    (clustering,) = cluster([cell], ClusterSettings(cluster_seeds=1))
    return clustering.labels.astype(np.int64)


def planted_curves(world: World, rule: Rule, *, shuffled: bool = False) -> Curves:
    """Return scores and effects of a model with clustered states that answers by a rule.

    The rule is given the right answers in place of the inputs.
    """
    arrays: Arrays = {}
    task_of: dict[str, Ints] = {}
    states_of: dict[str, Floats] = {}
    for split in UNSEEN:
        asked, inputs, donor_inputs = world.asked(N, split)
        states = world.cell_states(asked, inputs, donor_inputs)
        donor_task = np.repeat(np.arange(world.n_tasks), world.n_inputs)
        right, donors_right = (
            world.output(asked.own, inputs),
            world.output(donor_task, donor_inputs),
        )
        editor = PlantedEditor({"block1": states.prompts}, right, world.n_answers, rule)
        donors = PlantedEditor({"block1": states.donors}, donors_right, world.n_answers, rule)
        arrays |= unedited_arrays(asked, editor, donors)
        planned = planned_edits("block1", EDITS, (1.0,), world.n_tasks, SETTINGS, test=True)
        arrays |= intervene(editor, "block1", {"block1": states}, asked, planned, 0)
        task_of[split], states_of[split] = asked.own, states.prompts
    task_of[TRAIN], states_of[TRAIN] = states.fit_task, states.fit
    units = np.arange(30 * world.n_tasks)
    weights = resampling_weights(np.zeros_like(units), 100, stream(0, "copies"))
    effects = effect_curves(
        "planted", 0, "input", [(STEP, arrays)], dict.fromkeys(UNSEEN, (units, weights))
    )
    labels, resampling = {}, {}
    for split, task in task_of.items():
        rows = np.arange(len(task))
        labels[STEP, split, "embed", "raw"] = (rows % world.n_tasks)[None]
        labels[STEP, split, "block1", "raw"] = clusters(split, states_of[split], world.n_tasks)
        if shuffled:
            task = stream(0, "shuffled", split).permutation(task)
        resampling[split] = Resampling(task, rows // 2, weights)
    return curves_of_labels(
        "planted",
        0,
        labels,
        {},
        {},
        resampling,
        effects=of_shuffled_labels(effects) if shuffled else effects,
    )


def nearest(world: World) -> Rule:
    """Return the rule that answers for the task of the nearest centroid."""
    return lambda states, right: world.nearest(states, right % world.n_inputs)


def ignoring(states: Floats, right: Ints) -> Ints:
    """Return the right answers, for which the states are not read."""
    return right


def checks(curves: Curves) -> dict[str, set[str]]:
    """Return the outcomes of each statistic of the group."""
    outcomes: dict[str, set[Any]] = {}
    for check in judge([curves]).checks_of("used"):
        outcomes.setdefault(check.rule.number.__name__, set()).add(check.verdict)
    return outcomes


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_answers_by_the_nearest_centroid_uses_its_clusters(seed: int) -> None:
    world = World(seed, N_TASKS)
    curves = planted_curves(world, nearest(world))
    assert curves.final(TRAIN, "block1")[0] == 1, "the clusters are perfect"
    verdict = judge([curves])
    assert verdict.outcome("used") == "holds", checks(curves)
    assert verdict.use.layers == ("block1",)


def test_a_model_that_ignores_its_perfect_clusters_does_not() -> None:
    curves = planted_curves(World(0, N_TASKS), ignoring)
    assert curves.final(TRAIN, "block1")[0] == 1
    assert judge([curves]).outcome("used") == "fails"
    assert checks(curves) == {
        "normalised": {"undecided"},
        "above_random": {"fails"},
        "ratio": {"fails"},
        "judged_p_value": {"fails"},
    }


def test_nor_does_one_with_shuffled_labels() -> None:
    world = World(0, N_TASKS)
    curves = planted_curves(world, nearest(world), shuffled=True)
    assert curves.final(TRAIN, "block1")[0] < 0.1
    assert judge([curves]).outcome("used") == "fails"
    assert checks(curves)["normalised"] <= {"fails", "undecided"}


@pytest.mark.parametrize(("n_tasks", "least", "most"), [(2, 0.2, 0.8), (5, 0.0, 0.0)])
def test_shuffled_labels_of_few_tasks_often_point_to_the_target(
    n_tasks: int, least: float, most: float
) -> None:
    """By the share of permutations with more than half of the effect of a shift, which is 1."""
    world = World(1, n_tasks)
    fit_task = np.repeat(np.arange(n_tasks), 60)
    fit = world.states(fit_task, world.rng.integers(world.n_inputs, size=len(fit_task)))
    centroids = fit_centroids(fit, fit_task)
    task, target = (each.ravel() for each in np.indices((n_tasks, n_tasks)))
    task, target = task[task != target], target[task != target]
    inputs = np.zeros_like(task)
    states, right = world.states(task, inputs), world.output(target, inputs)
    assert (world.nearest(edits.shift(centroids)(states, task, target), inputs) == right).all()
    effects = []
    for seed in range(40):
        edit = controls.shuffled_shift(centroids, fit, fit_task, stream(seed, "permutation"))
        effects.append(np.mean(world.nearest(edit(states, task, target), inputs) == right))
    assert least <= np.mean(np.array(effects) > 0.5) <= most
