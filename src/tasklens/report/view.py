"""Define the view of a measured run: points, their labels, their maps, and their clusters.

The report's page and the figures of single checkpoints are drawn from a view, which is data only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from tasklens.clustering.map_frames import FEWEST
from tasklens.clustering.tsne import EXACT_LIMIT
from tasklens.core.errors import InputError
from tasklens.core.settings import SettingsBase
from tasklens.data.instances import split_title
from tasklens.data.names import find_split, find_state, listed
from tasklens.report.edits_view import EditsView, Plane
from tasklens.report.summary import best_state
from tasklens.scoring.cluster_tracking import Followed

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Map: TypeAlias = Literal["tsne", "pca", "centroids"]

PLANES: tuple[Plane, ...] = ("pca", "centroids")
"""The maps that are planes, fitted at the last checkpoint and the same for all. "pca" has the first
two principal components of the points. "centroids" has those of the centroids of the tasks, which
are computed from the first split."""

MAPS: tuple[Map, ...] = ("tsne", *PLANES)
"""The maps of a hidden state: t-SNE, which starts from the map of the checkpoint before, and the
planes."""

UNKNOWN = -1
"""The number of an answer that is not known."""


class ReportSettings(SettingsBase, affects="report"):
    """Settings of the report: the number of points, and their maps."""

    points: Annotated[int, Field(ge=FEWEST, le=EXACT_LIMIT)] = 2000
    """Largest number of points per split; of more instances, a random choice is shown."""
    perplexity: Annotated[float, Field(ge=2, allow_inf_nan=False)] = 30.0
    """Effective number of neighbours in the t-SNE map; at most a third of the points."""
    exaggeration: Annotated[float, Field(ge=1, le=12)] = 1.5
    """Factor of the attraction of neighbours in the t-SNE map; above 1, gaps between groups are
    wider. From about 2 on, the map keeps fewer neighbours."""
    stay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Strength of the spring to a point's coordinates at the checkpoint before, in nats. If all
    points move by the map's radius, the cost is half of this. With 0, points only start there."""


@dataclass(frozen=True, repr=False)
class SplitView:
    """The N points of one split that are shown, at S checkpoints."""

    parts: Mapping[str, Ints]
    """The parts of each point: "task", "input" and, if they are known, "output" and "distribution",
    (N,) each. They are indices into `View.names`."""
    instruction: tuple[str, ...]
    """The instruction of each point of a training run, or the text of each prompt; N strings."""
    answer: Ints
    """The model's answers, (S, N), as indices into `View.answers`, or `UNKNOWN`."""
    right: npt.NDArray[np.bool_] | None
    """Whether each answer is right, (S, N); None if no output is known."""
    maps: Mapping[tuple[Map, str], Floats]
    """Coordinates of the points, (S, N, 2), by map and hidden state."""
    shown_variance: Mapping[tuple[Map, str], Doubles]
    """The share of the variance that a plane shows, (S,), by map and hidden state."""
    shown_between: Mapping[str, Doubles]
    """The share of the variance between tasks that the map "centroids" shows, (S,), by hidden
    state."""
    assigned: Mapping[str, Ints]
    """The task to which each point's cluster is assigned, (S, N), by hidden state, for the first
    cluster seed. Numbers from the number of tasks on are clusters without a task."""
    followed: Mapping[str, Followed]
    """Tasks and clusters through the checkpoints, by hidden state, of all measured instances,
    shown or not. Tasks are indices into `View.names`."""

    def __len__(self) -> int:
        return len(self.instruction)

    def __repr__(self) -> str:
        contents = f"{len(self.answer)} checkpoints, {len(self.assigned)} hidden states"
        return f"SplitView({len(self):,} points, {contents})"


class ModelView(NamedTuple):
    """Description of the model of one checkpoint."""

    step: int
    name: str
    """The name as it was given, or that of the training run."""
    licence: str
    """The licence that the model's files state; empty for a model that the run has trained."""
    weights: str
    """SHA-256 of the weights; empty if they are not kept."""


@dataclass(frozen=True)
class TaskView:
    """Description of one task, or of one label of the prompts."""

    name: str
    regexes: tuple[str, ...] = ()
    n_strings: int | None = None
    """Number of strings of the permitted lengths in the task's language."""
    function: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    """Some instructions, or texts, of the task."""
    n_examples: int = 0
    """Number of all instructions, or texts, of the task."""


@dataclass(frozen=True)
class TaskOverview:
    """Description of the tasks that the model was asked."""

    tasks: tuple[TaskView, ...]
    """The K measured tasks."""
    sizes: Mapping[str, int]
    """Numbers of tasks, instructions, inputs and so on, each by what is counted."""
    same_output: Doubles | None
    """The share of common inputs that each two tasks map to the same output, (K, K)."""
    same_symbols: Doubles
    """The cosine of the mean counts of symbols, or tokens, of each two tasks, (K, K)."""


@dataclass(frozen=True, repr=False)
class View:
    """The content of the report about a run with S checkpoints.

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
    position: str
    """The position whose hidden states are shown."""
    family: str
    """The family of tasks that is shown; empty if all tasks are one family."""
    steps: tuple[int, ...]
    states: tuple[str, ...]
    splits: Mapping[str, SplitView]
    names: Mapping[str, tuple[str, ...]]
    """The names of the tasks, inputs and so on, by part: see `SplitView.parts`."""
    answers: tuple[str, ...]
    """All distinct answers of the model."""
    table: pa.Table
    """Scores of the family at the position, with the columns of `score_table.SCHEMA`, for the first
    number of clusters."""
    world: TaskOverview
    settings: str
    """The run's settings as TOML."""
    manifest: Mapping[str, Any]
    models: tuple[ModelView, ...] = ()
    """The models that were measured: one for each step, or the trained one."""
    means: pa.Table | None = None
    """The same scores over all families, by which the best layer is chosen; None if all tasks are
    one family."""
    edits: EditsView | None = None
    """Edits of the hidden states; None if there are none."""
    step_names: Mapping[int, str] = field(default_factory=dict)
    """The names of steps that are no training steps, see `tasklens.Run.step_names`."""

    def __repr__(self) -> str:
        contents = f"{len(self.steps)} checkpoints, {len(self.states)} hidden states"
        splits = ", ".join(self.splits)
        return f"View(run {self.run!r}, seed {self.seed}: {contents}, splits {splits})"

    def at(self, step: int | str | None = None) -> int:
        """Return the index of a checkpoint by its step or its name, such as "sft".

        By default it is the last. InputError if there is no such checkpoint.
        """
        if step is None:
            return len(self.steps) - 1
        for index, each in enumerate(self.steps):
            if step in (each, self.step_names.get(each)):
                return index
        known = listed([self.step_names.get(each, str(each)) for each in self.steps])
        raise InputError(f"{self.run}: no checkpoint at step {step}; there are {known}")

    def step_name(self, number: int) -> str:
        """Return what the checkpoint with an index is called in titles."""
        step = self.steps[number]
        return self.step_names.get(step, f"step {step:,}")

    def title(self, split: str) -> str:
        """Return the title of a split, with the family that is shown."""
        return split_title(split) + (f", {self.family}" if self.family else "")

    def split(self, name: str | None = None) -> tuple[str, SplitView]:
        """Return a split by its name, by default the first unseen split; InputError if none."""
        name = name or list(self.splits)[min(1, len(self.splits) - 1)]
        name = find_split(name, self.splits)
        return name, self.splits[name]

    def state(self, name: str | None = None) -> str:
        """Return the name of a hidden state, by default the best; InputError if there is no such.

        The best is the best layer on the first split, see `tasklens.scoring.best_layer`. If nothing
        was scored on that split, it is the first hidden state.
        """
        if name is None:
            table = self.table if self.means is None else self.means
            return best_state(table, next(iter(self.splits)), self.states, self.steps[-1])
        return find_state(name, self.states)


def value_name(names: Sequence[str], value: int) -> str:
    """Return the name of a value; a number beyond the last task is a cluster without a task."""
    return names[value] if value < len(names) else f"no task ({value - len(names) + 1})"
