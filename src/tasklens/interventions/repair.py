"""Move wrongly answered prompts to the centroid of their own task, and count the right answers.

It tests the statement of Wu and Varshney (arXiv 2402.12151) that the clusters help a model with
unseen instances. Beside it stands whether the distance to the own centroid tells errors from hits.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import one_thread
from tasklens.core.seeds import stream
from tasklens.core.text import without_slash
from tasklens.data.counterfactuals import Counterfactuals, Fold
from tasklens.data.edited_prompts import Floats, Ints
from tasklens.interventions.cell import Arrays, CellStates
from tasklens.interventions.controls import with_length
from tasklens.interventions.editor import Editor
from tasklens.interventions.settings import check_draws
from tasklens.scoring.centroids import fit_centroids

#: The edit, and its control along random directions of the same length.
REPAIR, REPAIR_RANDOM = "repair", "repair_random"
#: Stands for the distance to the own centroid in the place of an edit.
DISTANCE = "distance"


def repair_name(split: str, position: str, *parts: str) -> str:
    """Return the name of an array about the errors of a split, or about all of its prompts."""
    return "/".join([f"{REPAIR}:{split}", without_slash(position), *parts])


def errors_among(
    asked: Counterfactuals, correct: npt.NDArray[np.int8], n: int, rng: np.random.Generator
) -> Counterfactuals:
    """Return at most n of the prompts that are answered wrongly, drawn at random.

    ``correct``, (N,), is 1 for a right answer, 0 for a wrong one, and -1 if it is not known.
    """
    wrong = np.flatnonzero(correct == 0)
    rows = np.sort(rng.choice(wrong, n, replace=False)) if len(wrong) > n else wrong
    return take(asked, rows)


def take(asked: Counterfactuals, rows: Ints) -> Counterfactuals:
    """Return some of the prompts, ascending, without their donors."""
    number = np.full(len(asked.own), -1)
    number[rows] = np.arange(len(rows))
    folds = (Fold(fold.fit, number[fold.edited]) for fold in asked.folds)
    return replace(
        asked,
        prompts=asked.prompts.take(rows),
        index=asked.index[rows],
        own=asked.own[rows],
        task=asked.task[rows],
        unit=asked.unit[rows],
        answers=asked.answers[rows],
        donors=asked.donors.take(np.arange(0)),
        donor=np.full_like(asked.donor[rows], -1),
        donor_index=None,
        folds=tuple(Fold(fold.fit, fold.edited[fold.edited >= 0]) for fold in folds),
    )


def repair(
    editor: Editor,
    state: str,
    states: CellStates,
    asked: Counterfactuals,
    draws: int,
    seed: int,
    purpose: tuple[str | int, ...] = (),
) -> Arrays:
    """Move N wrongly answered prompts to their own centroid, and along random directions.

    The edit changes the part of a state in the span of the centroids to that of the own centroid.
    The rest, such as the input, stays. Returns, by the names of
    `repair_name`, whether each answer is right: int8 (1, N) for the edit, (draws, N) for random
    directions of the same length.
    """
    check_draws({"interventions.draws": draws}, states.prompts.shape)
    n = len(asked.own)
    right = asked.answers[np.arange(n), asked.own]
    change = np.zeros_like(states.prompts, dtype=np.float64)
    for fold in asked.folds:
        with one_thread():
            centroids = fit_centroids(states.fit[fold.fit], states.fit_task[fold.fit])
            goal = centroids.mean[centroids.columns(asked.task[fold.edited])]
            change[fold.edited] = centroids.in_span(goal - states.prompts[fold.edited])
    length = np.linalg.norm(change, axis=1)
    rng = stream(seed, "interventions", *purpose, asked.split, state, REPAIR_RANDOM)
    changes = [change] + [
        with_length(rng.standard_normal(change.shape), length) for _ in range(draws)
    ]
    row = np.tile(np.arange(n), len(changes))
    edited = editor.answer(
        state, row, np.concatenate(changes).astype(np.float32), asked.answers[row]
    )
    is_right = (edited.answer == right[row]).reshape(len(changes), n).astype(np.int8)
    name = partial(repair_name, asked.split, asked.position, state)
    return {name(REPAIR, "right"): is_right[:1], name(REPAIR_RANDOM, "right"): is_right[1:]}


def own_distance(states: CellStates, asked: Counterfactuals) -> Floats:
    """Return the Euclidean distance of each prompt's state to the centroid of the task, (N,)."""
    distance = np.empty(len(asked.own), dtype=np.float32)
    for fold in asked.folds:
        centroids = fit_centroids(states.fit[fold.fit], states.fit_task[fold.fit])
        distance[fold.edited] = centroids.distance(
            states.prompts[fold.edited], asked.task[fold.edited]
        )
    return distance
