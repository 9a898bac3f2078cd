"""The view of a measured run: points, their labels, their maps, and their clusters.

Both the report's page and the figures of single checkpoints are made of it. Data only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from tasklens.clustering.map_frames import FEWEST
from tasklens.clustering.tsne import EXACT_LIMIT
from tasklens.core.errors import InputError
from tasklens.core.settings import SettingsBase
from tasklens.report.summary import mean_scores
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.cluster_tracking import Followed

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
Map: TypeAlias = Literal["tsne", "pca"]

MAPS: tuple[Map, ...] = ("tsne", "pca")
"""The two views of a state: t-SNE begun at the checkpoint before, and a basis for all of them."""

UNKNOWN = -1
"""Stands for an answer that is not known."""


class ReportSettings(SettingsBase, affects="report"):
    """What the report shows of the measured instances, and how they are placed."""

    points: Annotated[int, Field(ge=FEWEST, le=EXACT_LIMIT)] = 2000
    """Points of each split at most; if there are more instances, so many are drawn at random."""
    perplexity: Annotated[float, Field(ge=2, allow_inf_nan=False)] = 30.0
    """Effective number of neighbours in the map; a third of the points at most."""
    stay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """How strongly points are held where they were at the checkpoint before: nats, twice what it
    costs to move all of them by the map's radius. With 0 they only start there."""


@dataclass(frozen=True)
class SplitView:
    """The N points of one split that are shown, at S checkpoints."""

    parts: Mapping[str, Ints]
    """What each point is, by "task", "input" and, where it is known, "output": (N,) each, the
    numbers of names."""
    instruction: tuple[str, ...]
    """The N instructions, or texts."""
    answer: Ints
    """The model's answer, as the number of one of `View.answers`, or `UNKNOWN`, (S, N)."""
    right: npt.NDArray[np.bool_] | None
    """Whether it is right, (S, N); None where no output is known."""
    maps: Mapping[tuple[Map, str], Floats]
    """The place of each point in the plane, by map and state, (S, N, 2)."""
    shown_variance: Mapping[str, npt.NDArray[np.float64]]
    """The share of a state's variance that the view "pca" shows, (S,), by state."""
    assigned: Mapping[str, Ints]
    """The task to which the point's cluster is assigned, as a number of `parts["task"]`; from the
    number of tasks on: clusters left over. (S, N) by state; of the first cluster seed."""
    followed: Mapping[str, Followed]
    """By state; of all measured instances, shown or not. Its tasks are numbers of names, too."""

    def __len__(self) -> int:
        return len(self.instruction)


@dataclass(frozen=True)
class TaskView:
    """What is known of one task, or of one label of a probe's prompts."""

    name: str
    regexes: tuple[str, ...] = ()
    n_strings: int | None = None
    """Strings of the admitted lengths in its language."""
    function: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    """Some of its instructions, or texts."""
    n_examples: int = 0
    """How many there are."""


@dataclass(frozen=True)
class TaskOverview:
    """The tasks about which the model was asked."""

    tasks: tuple[TaskView, ...]
    """Those that are measured."""
    sizes: Mapping[str, int]
    """Counts by what is counted, in words."""
    same_output: npt.NDArray[np.float64] | None
    """The share of their common inputs that two of the tasks map to the same output, (K, K)."""
    same_symbols: npt.NDArray[np.float64]
    """The cosine of two tasks' mean counts of symbols or tokens, (K, K)."""


@dataclass(frozen=True)
class View:
    """A run, or a probe, with S checkpoints.

    Examples
    --------
    >>> import tasklens as tl
    >>> view = tl.load_run("runs/smoke").view()
    >>> view.states
    ('wte', 'embed', 'block1', 'block2', 'ln_f')
    """

    run: str
    seed: int
    kind: Literal["run", "probe"]
    steps: tuple[int, ...]
    states: tuple[str, ...]
    splits: Mapping[str, SplitView]
    names: Mapping[str, tuple[str, ...]]
    """What the numbers of a part ("task", "input", "output") are called."""
    answers: tuple[str, ...]
    """What the model has answered anywhere."""
    table: pa.Table
    """Columns of `score_table.SCHEMA`; of a probe, of its first number of clusters."""
    world: TaskOverview
    settings: str
    """As TOML."""
    manifest: Mapping[str, Any]

    def at(self, step: int | None = None) -> int:
        """Return which checkpoint a step is, by default the last; InputError if it is none."""
        if step is None:
            return len(self.steps) - 1
        if step not in self.steps:
            raise InputError(f"{self.run}: no checkpoint at step {step}; there are {self.steps}")
        return self.steps.index(step)

    def split(self, name: str | None = None) -> tuple[str, SplitView]:
        """Return a split, by default the first unseen split, if any; InputError if it is none."""
        name = name or list(self.splits)[min(1, len(self.splits) - 1)]
        if name not in self.splits:
            raise InputError(f"{self.run}: no split {name!r}; there are {', '.join(self.splits)}")
        return name, self.splits[name]

    def state(self, name: str | None = None) -> str:
        """Return a state, by default the best; InputError if there is no such state.

        The best is the best layer on the first split, see `tasklens.scoring.best_layer`, or, if
        nothing was scored there, the first state.
        """
        if name is None:
            scores = mean_scores(self.table, next(iter(self.splits)), "ari")
            final = {(s, "raw"): scores.get((s, self.steps[-1]), np.nan) for s in self.states}
            return (best_layer(final) or self.states)[0]
        if name not in self.states:
            raise InputError(f"{self.run}: no state {name!r}; there are {', '.join(self.states)}")
        return name


def value_name(names: Sequence[str], value: int) -> str:
    """Return the name of a value; a cluster beyond the last task is left over."""
    return names[value] if value < len(names) else f"left over {value - len(names) + 1}"
