"""Define what a view holds of edits: their effects, and where they move the points of a map."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Plane: TypeAlias = Literal["pca", "centroids"]

#: The number of an answer if nothing was run; `UNKNOWN` stands for any answer without a number.
NOT_RUN = -2


@dataclass(frozen=True, repr=False)
class Moves:
    """The edit "shift" of M points of a split to each of T tasks, at E checkpoints."""

    point: Ints
    """The edited points, ascending, (M,), as indices into the points of the split."""
    tasks: Ints
    """The tasks, (T,), as indices into ``View.names["task"]``."""
    answers: tuple[str, ...]
    """All distinct right answers."""
    expected: Ints
    """The right answer of each point under each task, (M, T), as indices into `answers`, or
    `UNKNOWN`."""
    answer: Mapping[str, Ints]
    """The model's answer after the move to each task, (E, M, T), by hidden state: indices into
    `answers`, `UNKNOWN` or `NOT_RUN`."""
    centroids: Mapping[tuple[Plane, str], Floats]
    """The centroids of the tasks, (E, T, 2), by map ("pca" or "centroids") and hidden state. A move
    adds the difference of two to a point. Empty if the maps are of other states than the edits."""

    def __repr__(self) -> str:
        return f"Moves({len(self.point):,} points, {len(self.tasks)} tasks)"


@dataclass(frozen=True, repr=False)
class EditsView:
    """Edits of the hidden states of a run, at the position of its view."""

    steps: tuple[int, ...]
    """The E checkpoints with edits."""
    effects: "pd.DataFrame"
    """Effects at the position, with the columns of `tasklens.Run.effects`."""
    moves: Mapping[str, Moves]
    """Moves of the shown points, by split."""

    def __repr__(self) -> str:
        return f"EditsView({len(self.steps)} checkpoints, splits {', '.join(self.moves)})"

    def means(self, split: str) -> "pd.DataFrame":
        """Return the mean effects on a split: over targets and draws, at strength 1."""
        rows = self.effects[self.effects["split"] == split]
        usual = rows["alpha"].isna() | (rows["alpha"] == 1)
        return rows[usual & (rows["target"] == "") & rows["draw"].isna()]
