"""`tasklens.intervene`: edits of a run or of any model, also such as a user brings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tasklens.core.errors import InputError
from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.dataset import Dataset
from tasklens.data.instances import Instances
from tasklens.data.synthetic_counterfactuals import counterfactuals_of_dataset
from tasklens.interventions.cell import Arrays, PlannedEdit, planned_edits
from tasklens.interventions.edits import Edit
from tasklens.interventions.effect_table import effect_table, effects_to_pandas
from tasklens.interventions.repair import DISTANCE, REPAIR, REPAIR_RANDOM
from tasklens.interventions.settings import (
    EDITS,
    OF_OWN,
    InterventionSettings,
    Selection,
)
from tasklens.models.harvest import Model, as_subject, harvest
from tasklens.models.subject import Subject
from tasklens.runs.edit_plan import check_intervenable, default_steps, edited_splits
from tasklens.runs.edit_states import OpenModel
from tasklens.runs.load_run import load_run
from tasklens.runs.pipeline import edit_and_renew
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Floats
from tasklens.runs.settings import TrainingRunSettings


class _Prompted:
    """A model with a dataset, as the source of an `OpenModel`."""

    def __init__(self, subject: Subject, dataset: Dataset, seed: int) -> None:
        self.subject, self.dataset = subject, dataset
        self.settings = TrainingRunSettings(seed=seed)
        self.name = type(subject).__name__
        self.steps = self.intervenable_steps = (subject.step,)
        self.state_names = subject.names
        self.positions = ("input",)
        self._states: dict[tuple[str, str], dict[str, Floats]] = {}
        self.splits = dataset.measured
        self.names = {"task": {i: task.name for i, task in enumerate(dataset.tasks.all_tasks)}}

    def open_subject(self, step: int) -> Subject:
        """Return the model."""
        return self.subject

    def counterfactuals(self, split: str, position: str, n: int) -> Counterfactuals:
        """Return prompts with the answers of all measured tasks."""
        return counterfactuals_of_dataset(self.dataset, split, position, n, seed=self.settings.seed)

    def states(self, name: str, step: int, split: str, position: str) -> Floats:
        """Return a hidden state of a split."""
        if (split, position) not in self._states:
            prompts = self.dataset.prompts(split, position)
            self._states[split, position] = harvest(self.subject, prompts).states
        return self._states[split, position][name]

    def instances(self, split: str) -> Instances:
        """Return the instances of a split."""
        return self.dataset.instances(split)

    def clusters(self, step: int) -> Arrays:
        """Return nothing: errors are repaired in runs only."""
        return {}


def intervene(
    model: Run | Model,
    dataset: Dataset | None = None,
    *,
    edits: Sequence[str] = EDITS,
    own: Mapping[str, Edit] | None = None,
    states: str | Sequence[str] = (),
    steps: int | Sequence[int] = (),
    positions: str | Sequence[str] = (),
    alphas: Sequence[float] = (1.0,),
    settings: InterventionSettings | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Edit hidden states and return how the answers of the model change.

    Each instance is moved from its own task to every other one, beside controls of the same length
    or dimension: see docs/reference/edits.md. The answers of a run are kept in its directory, and a
    second call does only what is missing. With edits of the user nothing is kept.

    Parameters
    ----------
    model : Run, path, or model
        A measured run with weights, or its directory; or, together with a dataset, any model that
        `tasklens.harvest` takes.
    dataset : Dataset, optional
        The prompts of a model without a run. Centroids are those of its training subset.
    edits : sequence of str
        Built-in edits and controls. ``random`` and ``patch`` are needed for normalised effects.
    own : {name: function}, optional
        Edits of the user: ``(states, task, target) -> states``. States are float32 (n, D), the
        tasks and the targets int64 (n,), and the result is float32 (n, D). It is called once per
        target, with all instances.
    states : str or sequence of str
        Hidden states to edit; by default all. ``block3+block4`` are edited together.
    steps : int or sequence of int
        Checkpoints of a run; by default all whose weights are kept, but no untrained twin.
    positions : str or sequence of str
        Measured positions; by default the first.
    alphas : sequence of float
        Strengths of the edit ``shift``.
    settings : InterventionSettings, optional
        For a model without a run, or with edits of the user; otherwise those of the run.
    seed : int
        Root seed of a model without a run.

    Returns
    -------
    pandas.DataFrame
        One number per row, with the columns

        - `run`, `seed`, `step`, `split`, `position`, `state`: what was edited, where; `state` is an
          ordered categorical, from the input up, and empty for numbers of pairs;
        - `edit`, `alpha`: the edit, and the strength of a shift;
        - `target`: the task that states are moved to; empty for the mean over tasks;
        - `draw`: which of the random draws; missing for their mean;
        - `metric`, `value`: ``becomes``, ``stays`` and ``third`` are shares of answers, from 0 to
          1; ``logit_change`` is in nats. The suffix ``_able`` is of pairs whose two tasks the model
          can do, and ``_normalised`` of effects between random directions, 0, and the patch, 1.

    Raises
    ------
    InputError
        If there are no weights, no counterfactual answers, or no such edit, state, step or
        position; or if an edit of the user returns something else than states.

    Examples
    --------
    >>> import tasklens as tl
    >>> effects = tl.intervene("runs/smoke", steps=16, states="block1", edits=["shift", "random"])
    >>> sorted(effects.loc[effects["draw"].isna() & (effects["target"] == ""), "edit"].unique())
    ['', 'random', 'shift', 'third']

    An edit of the user that does nothing leaves every answer as it is:

    >>> same = {"nothing": lambda states, task, target: states}
    >>> effects = tl.intervene("runs/smoke", steps=16, states="block1", edits=["random"], own=same)
    >>> nothing = effects[effects["edit"] == "nothing"]
    >>> float(nothing.loc[nothing["metric"] == "logit_change", "value"].abs().max())
    0.0
    """
    selection = Selection(
        edits=tuple(dict.fromkeys(edits)),
        alphas=tuple(dict.fromkeys(map(float, alphas))),
        states=(states,) if isinstance(states, str) else tuple(states),
        positions=(positions,) if isinstance(positions, str) else tuple(positions),
        steps=(steps,) if isinstance(steps, int) else tuple(steps),
    )
    _check_names(own or {})
    if dataset is not None:
        if isinstance(model, Run):
            raise InputError("a run has its own data: leave out dataset, or give a model")
        source = _Prompted(as_subject(model), dataset, seed)
        return _edit_in_memory(source, selection, own or {}, settings or InterventionSettings())
    run = model if isinstance(model, Run) else _run_at(model)
    if own:
        check_intervenable(run, selection)
        return _edit_in_memory(run, selection, own, settings or run.settings.interventions)
    if settings not in (None, run.settings.interventions):
        raise InputError(
            "settings: those of a run are in its directory; tasklens intervene RUN --set changes "
            "them"
        )
    with run.directory.locked():
        edit_and_renew(run, selection, "tasklens.intervene")
    return _selected(run, selection)


def _selected(run: Run, selection: Selection) -> pd.DataFrame:
    """Return the effects of the edits of a selection, among all that a run has."""
    effects = run.effects()
    edits = {"", *selection.edits}
    edits |= {"third"} if "shift" in edits else set()
    edits |= {REPAIR_RANDOM, DISTANCE} if REPAIR in edits else set()
    wanted = {
        "step": selection.steps or default_steps(run),
        "state": ("", *selection.states_among(run.state_names)),
        "position": selection.positions or run.positions[:1],
        "edit": edits,
    }
    for column, values in wanted.items():
        effects = effects[effects[column].isin(list(values))]
    effects = effects[effects["alpha"].isna() | effects["alpha"].isin(selection.alphas)]
    return effects.reset_index(drop=True)


def _edit_in_memory(
    source: Run | _Prompted,
    selection: Selection,
    own: Mapping[str, Edit],
    settings: InterventionSettings,
) -> pd.DataFrame:
    """Do the edits of a selection and those of the user in this process; nothing is kept."""
    tables = []
    steps = default_steps(source) if isinstance(source, Run) else source.steps
    for step in selection.steps or steps:
        model = OpenModel(source, step)
        arrays: Arrays = {}
        for split in edited_splits(source.splits):
            for position in selection.positions or source.positions[:1]:
                opened = model.ask(split, position, settings.instances)
                arrays |= opened.common
                n_tasks = len(opened.asked.tasks)
                for state in selection.states_among(source.state_names):
                    if own and "+" in state:
                        raise InputError(f"{state}: edits of the user edit one hidden state each")
                    built_in = [edit for edit in selection.edits if edit not in OF_OWN]
                    planned = [
                        *planned_edits(state, built_in, selection.alphas, n_tasks, settings),
                        *(PlannedEdit(name, 1.0, n_tasks) for name in own),
                    ]
                    arrays |= model.edit(opened, state, position, planned, own)
        names_of_tasks = source.names["task"]
        tables.append(effect_table(source.name, source.settings.seed, step, arrays, names_of_tasks))
    return effects_to_pandas(pa.concat_tables(tables))


def _run_at(model: Any) -> Run:
    """Return the run at a path; InputError for a model without prompts."""
    if not isinstance(model, str | Path):
        raise InputError(
            f"{type(model).__name__} has no prompts: give a dataset, too, or a run directory"
        )
    return load_run(model)


def _check_names(own: Mapping[str, Edit]) -> None:
    """Raise InputError for a name of a user's edit that is taken, or cannot be in a table."""
    for name in own:
        if name in (*EDITS, "third") or not name.isidentifier():
            raise InputError(
                f"own: an edit cannot be called {name!r}: should be a name of letters, digits and "
                "_ that no built-in edit has"
            )
