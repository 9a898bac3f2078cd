"""Draw edits that should do nothing in particular, of the same length or dimension as the edits."""

import numpy as np

from tasklens.data.edited_prompts import Floats, Ints
from tasklens.interventions import edits
from tasklens.interventions.edits import Edit
from tasklens.scoring.centroids import Centroids, Doubles, directions, fit_centroids


def lengths(centroids: Centroids, draw: int) -> Doubles:
    """Return the length of a move from each task, (T,).

    The targets take turns from draw to draw, so that controls have the lengths of the edits.
    """
    goals, is_target = centroids.mean[centroids.is_target], centroids.is_target
    n, own = len(goals), np.cumsum(is_target) - 1
    other = np.where(is_target, (own + 1 + draw % (n - 1)) % n, draw % n)
    moves = goals[other] - centroids.mean
    return np.linalg.norm(moves, axis=1)  # type: ignore[no-any-return]


def random_direction(centroids: Centroids, task: Ints, draw: int, rng: np.random.Generator) -> Edit:
    """Return an edit along a random direction for each task, as long as a shift."""
    vectors = rng.standard_normal(centroids.mean.shape)  # (T, D)
    return _move(centroids, task, vectors, draw)


def within_direction(centroids: Centroids, task: Ints, draw: int, rng: np.random.Generator) -> Edit:
    """Return an edit along the difference of two states of the same task, as long as a shift."""
    vectors = np.empty_like(centroids.mean)
    for t in range(len(vectors)):
        rows = np.flatnonzero(centroids.column == t)
        a, b = rng.choice(rows, 2, replace=len(rows) < 2)
        vectors[t] = centroids.residuals[a] - centroids.residuals[b]
    return _move(centroids, task, vectors, draw)


def shuffled_shift(
    centroids: Centroids, states: Floats, task: Ints, rng: np.random.Generator
) -> Edit:
    """Return a shift between the centroids of permuted labels, as long as the real one.

    ``states`` (F, D) and ``task`` (F,) are those from which the centroids were computed.
    """
    permuted = fit_centroids(states, rng.permutation(task))

    def edit(states: Floats, task: Ints, target: Ints) -> Floats:
        real = np.linalg.norm(centroids.difference(task, target), axis=1)
        moved = states + with_length(permuted.difference(task, target), real)
        return moved.astype(np.float32)

    return edit


def unembedding_shift(centroids: Centroids, rows: Floats, own: Floats) -> Edit:
    """Return an edit along the difference of two answers' unembeddings, as long as a shift.

    ``rows`` and ``own``, (n, D), are the rows of the head for the target's and for the own answer.
    """
    vectors = rows.astype(np.float64) - own

    def edit(states: Floats, task: Ints, target: Ints) -> Floats:
        real = np.linalg.norm(centroids.difference(task, target), axis=1)
        return (states + with_length(vectors, real)).astype(np.float32)

    return edit


def erase_random(centroids: Centroids, rng: np.random.Generator) -> Edit:
    """Return an edit that erases a random subspace with the dimension of the centroids' span."""
    D, r = centroids.basis.shape
    basis, _ = np.linalg.qr(rng.standard_normal((D, r)))
    return edits.erase(basis, centroids.middle)


def erase_within(centroids: Centroids) -> Edit:
    """Return an edit that erases the leading directions of the variance within tasks.

    They are as many as the centroids' span has dimensions.
    """
    basis = directions(centroids.residuals, most=centroids.basis.shape[1])
    return edits.erase(basis, centroids.middle)


def with_length(vectors: Doubles, length: Doubles) -> Doubles:
    """Return vectors, (n, D), scaled to a length each, (n,); a zero vector stays zero."""
    size = np.linalg.norm(vectors, axis=1)
    scale = np.divide(length, size, out=np.zeros(len(size)), where=size > 0)
    return vectors * scale[:, None]  # type: ignore[no-any-return]


def _move(centroids: Centroids, task: Ints, vectors: Doubles, draw: int) -> Edit:
    """Return the edit that adds the vector of each state's task, scaled to the draw's length."""
    return edits.add(with_length(vectors, lengths(centroids, draw))[centroids.columns(task)])
