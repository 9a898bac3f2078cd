"""Read what a run has measured from its directory: prompts, hidden states, answers, clusters.

The part of `tasklens.Run` that each kind of run defines, and what follows from it.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from tasklens.core.errors import InputError
from tasklens.core.files import digest
from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.instances import Instances
from tasklens.data.names import find_family, find_split, find_state, listed
from tasklens.report.view import ModelView, TaskOverview
from tasklens.runs.run_stages import Stages
from tasklens.runs.states_on_disk import ANSWER, answer_file, read_states, state_paths
from tasklens.scoring.cell_key import CellKey

if TYPE_CHECKING:
    from tasklens.models.gpt2 import GPT2
    from tasklens.models.hf_subject import HuggingFaceSubject

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]

CLUSTERS = "clusters.safetensors"
SCORES = "scores.parquet"


class RunArrays(Stages):
    """The measured part of a `tasklens.Run`: prompts, hidden states, answers, clusters."""

    # -- what was measured --------------------------------------------------------------------

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """The names of the hidden states that every checkpoint has, from the input up."""

    @property
    def is_series(self) -> bool:
        """True if its steps are those of a training: what happens by step can be shown and judged.

        False for one model, with or without its untrained twin, and for models in another order.
        """
        return not self.step_names

    @property
    def step_names(self) -> Mapping[int, str]:
        """The names of the steps, if these are no training steps; empty for a series."""
        return {}

    @property
    @abstractmethod
    def positions(self) -> tuple[str, ...]:
        """The names of the measured positions; the first is shown unless another is named."""

    @property
    @abstractmethod
    def instances_by_split(self) -> Mapping[str, Instances]:
        """The facts about each measured split without any model, in the order of the splits."""

    @property
    @abstractmethod
    def names(self) -> Mapping[str, Mapping[int, str]]:
        """The names of the numbers of "task", "input", "output" and others in `instances`."""

    @property
    @abstractmethod
    def unit_names(self) -> tuple[str, ...]:
        """The names of what is drawn for intervals: one kind of units or two."""

    @abstractmethod
    def texts(self, split: str) -> tuple[str, ...]:
        """Return the instruction, or the text, of each instance of a split."""

    @abstractmethod
    def targets(self, step: int) -> Mapping[str, Ints]:
        """Return the right answers by split as tokens of a step's model, -1 if not known."""

    @property
    def outputs(self) -> Ints | None:
        """The output token of each task of the first split for each input token, (V, T).

        The tasks are ascending; -1: a task has no output for an input. None if it is not known.
        """
        return None

    @abstractmethod
    def token_names(self, step: int, tokens: Ints) -> list[str]:
        """Return what tokens of a step's model are called."""

    @abstractmethod
    def overview(self) -> TaskOverview:
        """Return what the model was asked."""

    @property
    @abstractmethod
    def models(self) -> tuple[ModelView, ...]:
        """The model of each step with its licence and the hash of its weights, or the trained one.

        A training run has one: that of its last checkpoint.
        """

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """The columns of the measured instances, split after split, by name."""

    @abstractmethod
    def data_files(self) -> dict[str, bytes]:
        """Draw or read what the model is asked; return the files of stage data by name."""

    @abstractmethod
    def sources(self) -> dict[str, str]:
        """Return the SHA-256 of each file outside the directory that stage data reads, by name."""

    @cached_property
    def splits(self) -> dict[str, slice]:
        """The rows of each measured split in the array of a hidden state."""
        rows, begin = {}, 0
        for split, known in self.instances_by_split.items():
            rows[split] = slice(begin, begin + len(known.task))
            begin = rows[split].stop
        return rows

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families of tasks, each scored for itself; empty if all tasks are one family."""
        known = next(iter(self.instances_by_split.values())).families
        return tuple(family.name for family in known if family.name)

    def family(self, name: str | None = None) -> str:
        """Return a family, by default the first, or "" if there are none; InputError if unknown."""
        if name is None:
            return self.families[0] if self.families else ""
        return find_family(name, self.families)

    @property
    def unseen(self) -> str:
        """The first unseen split: the second; the only one if there is no other."""
        return list(self.instances_by_split)[min(1, len(self.instances_by_split) - 1)]

    @property
    def has_layers(self) -> bool:
        """True if it has what the findings need: `embed` and at least one block."""
        names = self.state_names
        return "embed" in names and any(name.startswith("block") for name in names)

    # -- reading ------------------------------------------------------------------------------

    def states(
        self,
        name: str,
        step: int | str | None = None,
        split: str | None = None,
        position: str | None = None,
    ) -> Floats:
        """Return a hidden state of the measured instances.

        Parameters
        ----------
        name : str
            One of `state_names`, such as ``block5``.
        step : int or str, optional
            One of `steps`, or the name of a stage; by default the last.
        split : str, optional
            One of `splits`; by default all splits, one after the other.
        position : str, optional
            One of `positions`; by default the first.

        Returns
        -------
        float32 (N, D)
            In the order of `instances`. It is read from the disk as its parts are used.

        Raises
        ------
        InputError
            For an unknown name, step, split or position, or if the file is missing or damaged.
        """
        name, step = find_state(name, self.state_names), self._step(step)
        self.check_states(step, name, position)
        x = read_states(self.states_at(step, position), name)
        return x if split is None else x[self.splits[find_split(split, self.splits)]]

    def instances(self, split: str) -> Instances:
        """Return what the measured instances of a split are, without any model."""
        return self.instances_by_split[find_split(split, self.instances_by_split)]

    def step_title(self, step: int) -> str:
        """Return what a step is called in a text: its name, or "step 100"."""
        return self.step_names.get(step, f"step {step:,}")

    def find_step(self, step: int | str) -> int:
        """Return the step with a number or a name; InputError if there is no such step."""
        for each in self.steps:
            if step in (each, str(each), self.step_names.get(each)):
                return each
        known = listed([self.step_names.get(each, str(each)) for each in self.steps])
        raise InputError(f"{self.directory.path}: no step {step!r}; there are {known}")

    def same_model(self, first: int, second: int) -> bool:
        """Return whether the models of two steps have the same weights and tokenizer."""
        return first == second

    def _step(self, step: int | str | None) -> int:
        if not self.steps:
            raise InputError(f"{self.directory.path}: no checkpoint was measured yet")
        return self.steps[-1] if step is None else self.find_step(step)

    def states_at(self, step: int, position: str | None = None) -> Path:
        """Return the directory of the hidden states at a step, by default of the first position."""
        return self.directory.states_at(step, self._other(position))

    def cell(self, split: str, state: str, space: str, position: str | None = None) -> CellKey:
        """Return the key of a cell, by default of the first position, for `clusters`."""
        return CellKey(split, state, space, position=self._other(position))

    def position(self, name: str | None = None) -> str:
        """Return a measured position, by default the first; InputError if it is not measured."""
        if name is not None and name not in self.positions:
            both = json.dumps([*self.positions, name])
            raise InputError(
                f"{self.directory.path}: the position {name!r} is not measured, but "
                f"{', '.join(self.positions)}; add it: tasklens measure {self.directory.path} "
                f"--set 'states.positions={both}'"
            )
        return self.positions[0] if name is None else name

    def _other(self, position: str | None) -> str:
        """Return a measured position, or an empty name for the first."""
        position = self.position(position)
        return "" if position == self.positions[0] else position

    def check_states(self, step: int, name: str, position: str | None = None) -> None:
        """Raise InputError if a file of a hidden state is missing or damaged."""
        for path in state_paths(self.states_at(step, position), name):
            self.directory.check(path)

    def states_hash(self, step: int, positions: Sequence[str] = ()) -> str:
        """Return a hash of the hidden states at a step, by default of all positions."""
        positions = positions or self.positions
        first, *others = [self._hash_at(self.states_at(step, p)) for p in positions]
        return digest([first, *zip(positions[1:], others, strict=True)]) if others else first

    def _hash_at(self, directory: Path) -> str:
        """Return a hash of the hidden states in a directory."""
        return self.directory.hash_of(directory)

    def lacking(self, step: int) -> list[str]:
        """Return the positions whose hidden states at a step are missing beside those of the first.

        None is if those of the first are missing, too. No hidden state is read.
        """

        def is_there(position: str) -> bool:
            files = self.directory.files_in(self.states_at(step, position))
            return bool(files) and all(path.is_file() for path in files)

        first, *others = self.positions
        if not others or not is_there(first):
            return []
        return [position for position in others if not is_there(position)]

    def instances_at(self, position: str) -> Mapping[str, Instances]:
        """Return the facts about each split as read at a position.

        What stands before the position, and the token at it, may depend on the position.
        """
        return self.instances_by_split

    def names_at(self, position: str) -> Mapping[str, Mapping[int, str]]:
        """Return the names of the numbers in `instances_at`."""
        return self.names

    def answers(self, step: int) -> dict[str, Ints]:
        """Return the model's answers as tokens, (n,) by split, unmeasured splits included.

        They follow the input token of a training run. Those of a model run follow the prompt, as
        it is read at the first position: docs/reference/answers.md has the rule.
        """
        self.check_states(step, ANSWER)
        whole: Ints = np.asarray(read_states(self.directory.states_at(step), ANSWER))
        answers = {split: whole[rows] for split, rows in self.splits.items()}
        for split in self.whole_splits(step):
            path = answer_file(self.directory.states_at(step), split)
            self.directory.check(path)
            answers[split] = np.load(path)
        return answers

    def answer_scores(self, step: int) -> Mapping[str, Mapping[str, float]]:
        """Return what is measured of the answers beside the accuracy: scores by name, by split."""
        return {}

    def whole_splits(self, step: int) -> tuple[str, ...]:
        """Return the splits of which a step has all answers, not only the measured ones."""
        return ()

    def clusters(self, step: int) -> Arrays:
        """Return the labels, embeddings, answers and hits of a measured checkpoint by name."""
        content = self.directory.read(self.directory.measured_at(step) / CLUSTERS)
        return safetensors.numpy.load(content)  # type: ignore[no-any-return]

    # -- interventions ------------------------------------------------------------------------

    @abstractmethod
    def counterfactuals(self, split: str, position: str, n: int) -> Counterfactuals:
        """Return at most n prompts of a split with their answers under each task.

        InputError if there is no such split or position, if there is a single task, or if no
        prompt has another answer under another task.
        """

    @property
    @abstractmethod
    def intervenable_steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints whose model can be opened, ascending."""

    @abstractmethod
    def open_subject(self, step: int) -> "GPT2 | HuggingFaceSubject":
        """Load the model of a checkpoint; InputError if it is gone or not the one measured."""

    def __repr__(self) -> str:
        name = f"{type(self).__name__}({str(self.directory.path)!r}"
        if not self.steps or self.directory.mark("data") is None:
            return f"{name}; nothing is harvested yet)"
        steps = f"steps {self.steps[0]} to {self.steps[-1]}"
        if self.step_names:
            steps = listed([self.step_names[step] for step in self.steps])
        return (
            f"{name}; {len(self.steps)} checkpoints, {steps}; "
            f"hidden states: {', '.join(self.state_names)}; splits: {', '.join(self.splits)})"
        )
