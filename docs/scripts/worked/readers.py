"""Edits of planted states that five rules read: which rule shows in which effects.

A state has a vector of its task, one of its input and one of its answer. A reader is a rule from
states to answers. It stands for the rest of a network; what it reads is known.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tables.markdown import markdown, number

from tasklens import KMeans
from tasklens.interventions.controls import random_direction, unembedding_shift
from tasklens.interventions.edits import patch, patch_rest, patch_span, shift
from tasklens.scoring.centroids import fit_centroids
from tasklens.scoring.partition_agreement import adjusted_rand, contingency

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
TASKS, INPUTS, OUTPUTS, WIDTH = 10, 24, 480, 128
#: States (n, D), own tasks (n,) and inputs (n,) to answers (n,).
Reader = Callable[[Floats, Ints, Ints], Ints]


@dataclass(frozen=True)
class World:
    """Vectors of tasks, inputs and outputs, and the right answer of each task to each input."""

    of_task: npt.NDArray[np.float64]  # (T, D)
    of_input: npt.NDArray[np.float64]  # (X, D)
    of_output: npt.NDArray[np.float64]  # (Y, D)
    right: Ints  # (T, X)


def make_world() -> World:
    """Return the world of the page."""
    rng = np.random.default_rng(0)
    return World(
        of_task=rng.standard_normal((TASKS, WIDTH)),
        of_input=rng.standard_normal((INPUTS, WIDTH)),
        of_output=rng.standard_normal((OUTPUTS, WIDTH)),
        right=rng.integers(OUTPUTS, size=(TASKS, INPUTS)),
    )


def states(world: World, task: Ints, x: Ints, rng: np.random.Generator, *, signed: bool) -> Floats:
    """Return states of instances, (n, D); ``signed``: the task's vector has a random sign each."""
    sign = rng.choice([-1, 1], size=(len(task), 1)) if signed else 1
    mean = sign * world.of_task[task] + 0.5 * world.of_input[x]
    answer = 0.7 * world.of_output[world.right[task, x]]
    noise = 0.2 * rng.standard_normal((len(task), WIDTH))
    return (mean + answer + noise).astype(np.float32)


def readers(world: World) -> dict[str, tuple[Reader, bool]]:
    """Return each rule, and whether it reads states with signs."""

    def likeness(x: Floats) -> npt.NDArray[np.float64]:
        """Return the products with the vectors of the tasks, (n, T): about 1 for the own task."""
        return np.asarray(x @ world.of_task.T / WIDTH)

    def answers(task: npt.NDArray[np.integer], i: Ints) -> Ints:
        return np.asarray(world.right[task, i])

    def nearest(x: Floats, own: Ints, i: Ints) -> Ints:
        return answers(likeness(x).argmax(axis=1), i)

    def earlier(x: Floats, own: Ints, i: Ints) -> Ints:
        return answers(own, i)

    def both(x: Floats, own: Ints, i: Ints) -> Ints:
        votes = likeness(x) + 0.95 * (own[:, None] == np.arange(TASKS))
        return answers(votes.argmax(axis=1), i)

    def answer(x: Floats, own: Ints, i: Ints) -> Ints:
        return np.asarray((x @ world.of_output.T).argmax(axis=1))

    def unsigned(x: Floats, own: Ints, i: Ints) -> Ints:
        return answers(np.abs(likeness(x)).argmax(axis=1), i)

    return {
        "the place among the centroids": (nearest, False),
        "earlier tokens only": (earlier, False),
        "both, with nearly equal weight": (both, False),
        "the answer that the state holds": (answer, False),
        "the task's vector with either sign": (unsigned, True),
    }


def effects(reader: Reader, signed: bool) -> dict[str, float]:
    """Return the ARI of the states' clusters, and the share of answers that each edit moves."""
    world, rng = make_world(), np.random.default_rng(1)
    drawn = [(rng.integers(TASKS, size=1000), rng.integers(INPUTS, size=1000)) for _ in range(2)]
    (seen_task, seen_x), (task, x) = drawn
    target = (task + rng.integers(1, TASKS, size=len(task))) % TASKS
    seen, state, donor = (
        states(world, t, i, rng, signed=signed)
        for t, i in ((seen_task, seen_x), (task, x), (target, x))
    )
    centroids = fit_centroids(seen, seen_task)
    own, goal = world.right[task, x], world.right[target, x]
    rows = world.of_output.astype(np.float32)
    edits = {
        "shift": shift(centroids),
        "patch": patch(donor),
        "patch_span": patch_span(centroids, donor),
        "patch_rest": patch_rest(centroids, donor),
        "random": random_direction(centroids, task, 0, rng),
        "unembedding": unembedding_shift(centroids, rows[goal], rows[own]),
    }
    labels = KMeans(n_clusters=TASKS, random_state=0).fit_predict(state).astype(np.int64)
    pairs = own != goal
    becomes = {
        name: float((reader(edit(state, task, target), task, x) == goal)[pairs].mean())
        for name, edit in edits.items()
    }
    return {"ARI": adjusted_rand(contingency(task, labels)), **becomes}


def readers_table() -> str:
    """Return a table with a row per rule."""
    rows = {name: effects(*rule) for name, rule in readers(make_world()).items()}
    head = ["what is read", *next(iter(rows.values()))]
    return markdown(head, [[name, *map(number, row.values())] for name, row in rows.items()])
