"""Edit one hidden state at one checkpoint, on every split and position: the work of a worker."""

import functools
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from tasklens.core.seeds import stream
from tasklens.core.workers import need_seen
from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.edited_prompts import Floats, Ints
from tasklens.data.instances import Instances
from tasklens.interventions.cell import Arrays, CellStates, PlannedEdit, intervene
from tasklens.interventions.editor import Editor
from tasklens.interventions.edits import Edit
from tasklens.interventions.repair import (
    DISTANCE,
    errors_among,
    own_distance,
    repair,
    repair_name,
)
from tasklens.interventions.settings import REPAIRS, InterventionSettings
from tasklens.interventions.unedited import unedited_arrays
from tasklens.models.open_editor import open_editor
from tasklens.runs.load_run import load_run
from tasklens.runs.run import Run
from tasklens.runs.settings import RunSettings

#: The edits of a state that are wanted, by split and position.
Planned = Mapping[tuple[str, str], tuple[PlannedEdit, ...]]


@dataclass(frozen=True)
class EditJob:
    """The edits of one hidden state, or of several together, at one checkpoint."""

    run: Path
    """The run directory, which the worker has to see."""
    step: int
    state: str
    inputs: str
    """The hash of what the edits depend on, which tells an opened model from another."""
    data: str
    """The hash of the data, which tells a run that was read from another."""
    settings: InterventionSettings
    planned: Planned
    threads: int
    """CPU threads of torch; no result depends on them. 0: as many as there are."""


class EditResult(NamedTuple):
    """Results of a job."""

    arrays: Arrays
    lines: tuple[str, ...]
    """What was left out of the prompts, and how the edits were computed, for the log."""


class Opened(NamedTuple):
    """A model with the prompts of a split that it is asked, edited at a position."""

    asked: Counterfactuals
    editor: Editor
    prompts: dict[str, Floats]
    """Each hidden state of the prompts, (N, D)."""
    donors: dict[str, Floats]
    """Each hidden state of the donors, (M, D)."""
    common: Arrays
    """What is the same for all states: see `unedited_arrays`."""


class Errors(NamedTuple):
    """All prompts of a split, and a model with those that it answers wrongly."""

    every: Counterfactuals
    correct: npt.NDArray[np.int8]
    """Whether each of all prompts is answered rightly, (N,), -1 if it is not known."""
    errors: Counterfactuals
    editor: Editor | None
    """None if there are no errors."""
    prompts: dict[str, Floats]
    """Each hidden state of the errors, (M, D)."""


def edit_state(job: EditJob) -> EditResult:
    """Run the edits of a job."""
    with _threads(job.threads):
        return _edit_state(job)


def _edit_state(job: EditJob) -> EditResult:
    model = _open_model(job.run, job.data, job.step, job.inputs)
    arrays: Arrays = {}
    lines: list[str] = []
    for (split, position), planned in job.planned.items():
        opened = model.ask(split, position, job.settings.instances)
        lines += opened.asked.notes
        lines.append(f"edits at {position} are computed {opened.editor.how}")
        arrays |= opened.common
        moves = [edit for edit in planned if edit.name not in REPAIRS]
        arrays |= model.edit(opened, job.state, position, moves)
        if len(moves) < len(planned):
            arrays |= model.repair(split, position, job.state, job.settings)
    return EditResult(arrays, tuple(dict.fromkeys(lines)))


class Source(Protocol):
    """Source of prompts: a run, or a model with prompts that is in no run."""

    @property
    def settings(self) -> RunSettings:
        """Settings with the root seed."""
        ...

    @property
    def state_names(self) -> Sequence[str]:
        """The names of the measured hidden states, from the input up."""
        ...

    @property
    def splits(self) -> Collection[str]:
        """The measured splits; centroids are those of the first."""
        ...

    def open_subject(self, step: int) -> Any:
        """Return the model of a checkpoint."""
        ...

    def counterfactuals(self, split: str, position: str, n: int) -> Counterfactuals:
        """Return at most n prompts of a split with their answers under each task."""
        ...

    def states(self, name: str, step: int, split: str, position: str) -> Floats:
        """Return a hidden state of a split."""
        ...

    def instances(self, split: str) -> Instances:
        """Return the instances of a split."""
        ...

    def clusters(self, step: int) -> Arrays:
        """Return, by ``split/correct``, whether the model is right on each instance."""
        ...


class OpenModel:
    """The model of a checkpoint, with all that edits of several states share."""

    def __init__(self, run: Source, step: int) -> None:
        self.run, self.step = run, step
        self._subject = run.open_subject(step)
        self._asked: dict[tuple[str, str, int], Opened] = {}
        self._errors: dict[tuple[str, str], Errors] = {}

    def ask(self, split: str, position: str, n: int) -> Opened:
        """Return the model with at most n prompts of a split."""
        key = split, position, n
        if key not in self._asked:
            asked = self.run.counterfactuals(split, position, n)
            editor = open_editor(self._subject, asked.prompts, asked.tokens)
            if asked.donor_index is None:
                self._asked[key] = self._read(asked, editor)
            else:
                self._asked[key] = self._measured(asked, editor, asked.donor_index)
        return self._asked[key]

    def _read(self, asked: Counterfactuals, editor: Editor) -> Opened:
        """Let the model read the prompts and their donors."""
        # The donors are many and are not edited: what the Editor keeps of them is dropped.
        donors = None
        if len(asked.donors):
            donors = open_editor(self._subject, asked.donors, asked.tokens)
        states = editor.states(editor.names), donors.states(donors.names) if donors else {}
        return Opened(asked, editor, *states, unedited_arrays(asked, editor, donors))

    def _measured(self, asked: Counterfactuals, editor: Editor, donors: Ints) -> Opened:
        """Take the states of the prompts and their donors from those that were measured."""
        reader = correct = None
        known = self._correct(asked.split, donors)
        if asked.tokens.shape[1] == 1 and (known >= 0).all():  # it counts as for the accuracy
            correct = known
        elif len(donors):
            reader = open_editor(self._subject, asked.donors, asked.tokens)
        prompts, of_donors = (self._states_at(asked, rows) for rows in (asked.index, donors))
        common = unedited_arrays(asked, editor, reader, correct)
        return Opened(asked, editor, prompts, of_donors, common)

    def _correct(self, split: str, rows: Ints) -> npt.NDArray[np.int8]:
        """Return whether the model is right on some instances, (n,): 1, 0, or -1 if not known.

        Without a column of outputs none is known.
        """
        correct = self.run.clusters(self.step).get(f"{split}/correct")
        return np.full(len(rows), -1, dtype=np.int8) if correct is None else correct[rows]

    def _states_at(self, asked: Counterfactuals, rows: Ints) -> dict[str, Floats]:
        """Return each measured state of some instances of a split."""
        at = self.step, asked.split, asked.position
        return {name: self.run.states(name, *at)[rows] for name in self.run.state_names}

    def repair(
        self, split: str, position: str, state: str, settings: InterventionSettings
    ) -> Arrays:
        """Repair the errors on a split; keep the distance of all prompts to their centroid."""
        key = split, position
        if key not in self._errors:
            every = self.run.counterfactuals(split, position, sys.maxsize)
            correct = self._correct(split, every.index)
            rng = stream(self.run.settings.seed, "repaired errors", self.step, split)
            errors = errors_among(every, correct, settings.instances, rng)
            editor: Editor | None = None
            if len(errors.own):
                editor = open_editor(self._subject, errors.prompts, errors.tokens)
            if every.donor_index is not None:
                prompts = self._states_at(every, errors.index)
            else:
                prompts = editor.states(editor.names) if editor else {}
            self._errors[key] = Errors(every, correct, errors, editor, prompts)
        every, correct, errors, editor, prompts = self._errors[key]
        name = partial(repair_name, split, position)
        states = CellStates(
            self.run.states(state, self.step, split, position)[every.index],
            *self._fitted(state, position),
        )
        arrays: Arrays = {
            name("correct"): correct,
            name("unit"): every.unit,
            **({name("family"): every.family[every.own]} if np.ptp(every.family) else {}),
            name("errors"): np.searchsorted(every.index, errors.index),
            name(state, DISTANCE, "value"): own_distance(states, every),
        }
        if editor is None:
            return arrays
        of_errors = replace(states, prompts=prompts[state])
        random = self.run.settings.seed, (self.step, position)
        return arrays | repair(editor, state, of_errors, errors, settings.draws, *random)

    def _fitted(self, state: str, position: str, *further: str) -> tuple[Floats, Floats, Ints]:
        """Return no donors, and the states and tasks from which centroids are computed.

        They are those of the first split, and of further ones behind it.
        """
        splits = next(iter(self.run.splits)), *further
        each = [self.run.states(state, self.step, split, position) for split in splits]
        task = np.concatenate([self.run.instances(split).task for split in splits])
        return each[0][:0], np.concatenate(each), task

    def edit(
        self,
        opened: Opened,
        state: str,
        position: str,
        planned: Sequence[PlannedEdit],
        own: Mapping[str, Edit] | None = None,
    ) -> Arrays:
        """Run edits of a hidden state, or of several joined by +; see `intervene`."""
        states = {name: self._states_of(opened, name, position) for name in state.split("+")}
        random = self.run.settings.seed, (self.step, position)
        return intervene(opened.editor, state, states, opened.asked, planned, *random, own)

    def _states_of(self, opened: Opened, name: str, position: str) -> CellStates:
        """Return a hidden state of the prompts, their donors, and the first measured split."""
        asked = opened.asked
        further = [asked.split] if (asked.own < 0).any() else []  # which has unseen tasks
        donors, fit, fit_task = self._fitted(name, position, *further)
        return CellStates(opened.prompts[name], opened.donors.get(name, donors), fit, fit_task)


@functools.lru_cache(maxsize=1)
def _open_model(run: Path, data: str, step: int, inputs: str) -> OpenModel:
    """Open the model of a checkpoint, which stays open for the next state."""
    return OpenModel(_read_run(run, data), step)


@functools.lru_cache(maxsize=1)
def _read_run(run: Path, data: str) -> Run:
    """Open a run, whose data are read once for all checkpoints."""
    need_seen(run)
    return load_run(run)


def close_models() -> None:
    """Close the model and the run that are open in this process."""
    _open_model.cache_clear()
    _read_run.cache_clear()


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Let torch use n threads until the block ends; 0: as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
