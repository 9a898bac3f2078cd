"""Compute the frames of maps of hidden states: the work of a worker. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasklens.clustering.map_frames import (
    centroid_basis,
    common_basis,
    first_frame,
    means_of,
    next_frame,
    project,
    shown_between,
    shown_variance,
)
from tasklens.runs.states_on_disk import read_states
from tasklens.scoring.residuals import Regressors, residuals
from tasklens.scoring.score_cells import MeasureSettings, prepared

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


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
    exaggeration: float
    stay: float
    task: Ints
    """The tasks of the points, (N,)."""
    fit: slice | Ints
    """The rows from which the centroids of the tasks are computed."""
    fit_task: Ints
    """The tasks of these rows, (F,)."""

    def read(self, directory: Path, state: str) -> Floats:
        """Return a hidden state of the points, as it is clustered, (N, D)."""
        return prepared(self._whole(directory, state)[self.rows], self.measure)[self.points]

    def read_fit(self, directory: Path, state: str) -> Floats:
        """Return the states from which centroids are computed, as they are clustered, (F, D)."""
        return prepared(self._whole(directory, state)[self.fit], self.measure)

    def _whole(self, directory: Path, state: str) -> Floats:
        whole = read_states(directory, state)
        return residuals(whole, self.regressors) if self.regressors else whole

    @property
    def edited(self) -> bool:
        """True if the map is of the states as a model has them, which edits change."""
        measure = self.measure
        return not (measure.standardize or measure.normalize or self.regressors)

    def next(self, x: Floats, before: Floats, seed: int) -> Floats:
        """Return the map (N, 2) that starts from another one."""
        return next_frame(
            x,
            before,
            perplexity=self.perplexity,
            exaggeration=self.exaggeration,
            stay=self.stay,
            seed=seed,
        )

    def first(self, x: Floats, seed: int) -> Floats:
        """Return the map (N, 2) that starts from no other."""
        return first_frame(x, perplexity=self.perplexity, exaggeration=self.exaggeration, seed=seed)


class StateFrames(NamedTuple):
    """The frames of one hidden state on one split, at S checkpoints.

    A plane is that of the last checkpoint if it has the same width D.
    """

    tsne: Floats
    """(S, N, 2)."""
    pca: Floats
    """In the plane of the first two principal components, (S, N, 2)."""
    centroids: Floats
    """In the plane of the centroids of the tasks, (S, N, 2)."""
    pca_variance: Doubles
    """The share of the variance that the principal components show, (S,)."""
    centroids_variance: Doubles
    """The share of the variance that the plane of the centroids shows, (S,)."""
    centroids_between: Doubles
    """The share of the variance between tasks that this plane shows, (S,)."""
    pca_tasks: Floats
    """The centroids of the T tasks on the map of principal components, (S, T, 2); no edit moves
    points, and T is 0, if the maps are not of the states as a model has them."""
    centroids_tasks: Floats
    """The same on the map of centroids."""


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
            frames.append(shown.first(x, seed))
    return frames


def state_frames(
    shown: Shown, directories: tuple[Path, ...], state: str, seeds: tuple[int, ...], first: Floats
) -> StateFrames:
    """Return the frames of a hidden state, each of which starts from the one before.

    There is a directory for each checkpoint, a seed for each but the first, whose map is given.
    """
    last_pca = common_basis(shown.read(directories[-1], state))
    last_centroids = centroid_basis(shown.read_fit(directories[-1], state), shown.fit_task)
    frames: list[StateFrames] = []
    for i, directory in enumerate(directories):
        x, fit = shown.read(directory, state), shown.read_fit(directory, state)
        y = shown.next(x, frames[-1].tsne, seeds[i - 1]) if i > 0 else first
        # Another model may have another width: its maps have planes of their own.
        same = x.shape[1] == last_pca.shape[1]
        pca = last_pca if same else common_basis(x)
        plane = last_centroids if same else centroid_basis(fit, shown.fit_task)
        means = means_of(fit, shown.fit_task)
        located = means if shown.edited else means[:0]
        frames.append(
            StateFrames(
                tsne=y,
                pca=project(x, pca),
                centroids=project(x, plane, onto=means),
                pca_variance=np.array(shown_variance(x, pca)),
                centroids_variance=np.array(shown_variance(x, plane)),
                centroids_between=np.array(shown_between(x, shown.task, plane)),
                pca_tasks=project(located, pca, onto=x),
                centroids_tasks=project(located, plane, onto=means),
            )
        )
    return StateFrames(*map(np.stack, zip(*frames, strict=True)))
