"""Compute the frames of maps of hidden states: the work of a worker. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.clustering.map_frames import (
    common_basis,
    first_frame,
    next_frame,
    project,
    shown_variance,
)
from tasklens.runs.states_on_disk import read_states
from tasklens.scoring.residuals import Regressors, residuals
from tasklens.scoring.score_cells import MeasureSettings, prepared

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """The points of a split that a map shows, and how it is computed."""

    rows: slice | Ints
    """The rows of the split, or of a family in it, in the array of a hidden state."""
    points: Ints
    """The instances among them that are shown, (N,)."""
    measure: MeasureSettings
    regressors: Sequence[Regressors]
    """What is taken out of the states first."""
    perplexity: float
    stay: float
    fit: slice | Ints
    """The rows from which the centroids of the tasks are computed."""
    fit_task: Ints
    """The tasks of these rows, (F,)."""

    def read(self, directory: Path, state: str) -> Floats:
        """Return a hidden state of the points, as it is clustered, (N, D)."""
        whole = read_states(directory, state)
        if self.regressors:
            whole = residuals(whole, self.regressors)
        return prepared(whole[self.rows], self.measure)[self.points]

    def centroids(self, directory: Path, state: str, basis: Floats) -> Floats:
        """Return where the centroids of the T tasks lie on the map of a basis (2, D): (T, 2).

        There are none, (0, 2), if the map is not one of the states as a model has them.
        """
        if self.measure.standardize or self.measure.normalize or self.regressors:
            return np.empty((0, 2), dtype=np.float32)
        whole = read_states(directory, state)
        x, fit = whole[self.rows][self.points], whole[self.fit]
        means = [fit[self.fit_task == t].mean(axis=0) for t in np.unique(self.fit_task)]
        return project(np.stack(means), basis, onto=x)

    def next(self, x: Floats, before: Floats, seed: int) -> Floats:
        """Return the map (N, 2) that starts from another one."""
        return next_frame(x, before, perplexity=self.perplexity, stay=self.stay, seed=seed)


class StateFrames(NamedTuple):
    """The frames of one hidden state on one split, at S checkpoints."""

    tsne: Floats
    """(S, N, 2)."""
    pca: Floats
    """(S, N, 2), in the basis of the last checkpoint if it has the same width D."""
    share: npt.NDArray[np.float64]
    """The share of the variance that the principal components show, (S,)."""
    centroids: Floats
    """The centroids of the T tasks on the map of principal components, (S, T, 2)."""


def first_frames(
    shown: Shown, directory: Path, states: tuple[str, ...], seeds: tuple[int, ...]
) -> list[Floats]:
    """Return the map of each hidden state at the first checkpoint, (N, 2) each.

    A state starts from the one below it, so that points keep their places on the way up.
    """
    frames: list[Floats] = []
    for state, seed in zip(states, seeds, strict=True):
        x = shown.read(directory, state)
        if frames:
            frames.append(shown.next(x, frames[-1], seed))
        else:
            frames.append(first_frame(x, perplexity=shown.perplexity, seed=seed))
    return frames


def state_frames(
    shown: Shown, directories: tuple[Path, ...], state: str, seeds: tuple[int, ...], first: Floats
) -> StateFrames:
    """Return the frames of a hidden state, each of which starts from the one before.

    There is a directory for each checkpoint, a seed for each but the first, whose map is given.
    """
    last = common_basis(shown.read(directories[-1], state))
    tsne, pca, share, centroids = [first], [], [], []
    for i, directory in enumerate(directories):
        x = shown.read(directory, state)
        if i > 0:
            tsne.append(shown.next(x, tsne[-1], seeds[i - 1]))
        # Another model may have another width: its map has its own principal components.
        basis = last if x.shape[1] == last.shape[1] else common_basis(x)
        pca.append(project(x, basis))
        share.append(shown_variance(x, basis))
        centroids.append(shown.centroids(directory, state, basis))
    return StateFrames(np.stack(tsne), np.stack(pca), np.array(share), np.stack(centroids))
