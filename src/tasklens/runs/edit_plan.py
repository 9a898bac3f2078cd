"""Plan the edits of a run: check that they can be made, and list those that are missing."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from tasklens.core.errors import InputError
from tasklens.data.names import UNTRAINED
from tasklens.interventions.cell import DONATED, EditKey, PlannedEdit, planned_edits
from tasklens.interventions.repair import DISTANCE, repair_name
from tasklens.interventions.settings import ADDED, FIGURE, NEEDED, OF_OWN, REPAIRS, Selection
from tasklens.models.lr_schedule import evenly_spaced
from tasklens.runs.chosen_layer import chosen_layer
from tasklens.runs.kept_edits import Shapes, kept_shapes
from tasklens.runs.run import Run

#: The share of the blocks, from the last one down, in which a shift may only move the output.
LATE = 0.25

#: Edits by step and state.
Missing = dict[int, dict[str, dict[tuple[str, str], tuple[PlannedEdit, ...]]]]


def figure_selections(run: Run) -> list[Selection]:
    """Return the edits that Figure 3 and the checks need, at the checkpoints of the settings.

    The state `wte` is left out: at one token it differs from `embed` by a constant per position.
    """
    n, names = run.settings.interventions.checkpoints, run.state_names
    if n == 0:
        return []
    states = tuple(name for name in names if name != "wte" or "embed" not in names)
    steps = evenly_spaced(run.intervenable_steps, n if run.opens_in_workers else 1)
    last = Selection(NEEDED, states=states, steps=steps[-1:])
    return [Selection(FIGURE, states=states, steps=steps[:-1]), last] if steps[1:] else [last]


def tested_selection(run: Run) -> Selection | None:
    """Return the random directions of the last checkpoint, if there are any, to draw them again.

    How many there are depends on the scores: see `chosen_layer`.
    """
    names, step = run.state_names, run.steps[-1]
    keys = [EditKey.parse(name) for name in kept_shapes(run, step)]
    states = {key[0].state for key in keys if key and key[0].edit == "random"}
    states = {state for state in states if "+" not in state}
    ordered = tuple(name for name in names if name in states)
    return Selection(("random",), states=ordered, steps=(step,)) if ordered else None


def check_intervenable(run: Run, selection: Selection) -> None:
    """Raise InputError if a selection of edits cannot be made on a run."""
    run.need("measure")
    path, steps = run.directory.path, run.intervenable_steps
    if not steps:
        raise InputError(
            f"{path}: has no weights, which edits need; a run keeps those that "
            "checkpoints.weights_gib allows"
        )
    for step in selection.steps:
        if step not in steps:
            raise InputError(
                f"{path}: has no weights of step {step}; there are those of "
                f"{', '.join(map(str, steps))}"
            )
    selection.states_among(run.state_names)
    for split in edited_splits(run.splits):
        for position in selection.positions or (run.position(),):
            run.position(position)
            run.counterfactuals(split, position, run.settings.interventions.instances)


def edited_splits(splits: Iterable[str]) -> tuple[str, ...]:
    """Return the splits whose states are edited: those that centroids are not computed from."""
    first, *others = splits
    return tuple(others) or (first,)


def missing_edits(run: Run, selections: Sequence[Selection]) -> Missing:
    """Return the edits that are wanted and not kept; InputError if none of them can be made."""
    missing: Missing = {}
    # The best layer is chosen without any edit, among hidden states and not their maps.
    tested, splits = chosen_layer(run), edited_splits(run.splits)
    for selection in selections:
        states = selection.states_among(run.state_names)
        cells = [
            (split, position)
            for split in splits
            for position in selection.positions or (run.position(),)
        ]
        asked = {cell: _asked(run, *cell) for cell in cells}
        if not any(
            [*_planned(run, selection, state, *asked[cell], test=False)]
            for state, cell in itertools.product(states, cells)
        ):
            raise InputError(
                f"{', '.join(selection.edits)} of {', '.join(states)}: cannot be made: "
                "unembedding edits the last blocks, a patch needs a prompt of another task with "
                f"the same input, and states are edited together by {', '.join(ADDED)} only"
            )
        for step in selection.steps or default_steps(run):
            kept = kept_shapes(run, step)
            for state, cell in itertools.product(states, cells):
                test = state == tested and step == run.steps[-1]
                new = tuple(
                    edit
                    for edit in _planned(run, selection, state, *asked[cell], test=test)
                    if not _is_kept(kept, *cell, state, edit)
                )
                if new:
                    missing.setdefault(step, {}).setdefault(state, {})[cell] = new
    return missing


def default_steps(run: Run) -> tuple[int, ...]:
    """Return the steps that are edited if none is named: not that of an untrained twin."""
    steps = run.intervenable_steps
    return tuple(step for step in steps if run.step_names.get(step) != UNTRAINED) or steps


def _asked(run: Run, split: str, position: str) -> tuple[int, bool, bool]:
    """Return the number of tasks, whether there are real states of others, and own answers."""
    asked = run.counterfactuals(split, position, run.settings.interventions.instances)
    return len(asked.tasks), len(asked.donors) > 0, bool((asked.own >= 0).all())


def _planned(
    run: Run,
    selection: Selection,
    state: str,
    n_tasks: int,
    has_donors: bool,
    has_own: bool,
    *,
    test: bool,
) -> Iterator[PlannedEdit]:
    """Yield the edits of a state that are wanted and can be made."""
    left_out = {"unembedding"} if not _is_late(run, state) else set()
    left_out |= set() if has_donors else set(DONATED)
    left_out |= set() if has_own else set(OF_OWN)
    edits = [edit for edit in selection.edits if edit not in left_out]
    settings = run.settings.interventions
    return planned_edits(state, edits, selection.alphas, n_tasks, settings, test=test)


def _is_kept(kept: Shapes, split: str, position: str, state: str, edit: PlannedEdit) -> bool:
    """Return whether an edit is kept, with as many runs as are wanted.

    More are not: the best layer has more draws, and may be another one once a run is measured
    again. What is kept then is what a new run has.
    """
    if edit.name in REPAIRS:
        return repair_name(split, position, state, DISTANCE, "value") in kept
    name = EditKey(split, position, state, edit.name, edit.alpha).name("answer")
    return name in kept and kept[name][0] == edit.runs


def _is_late(run: Run, state: str) -> bool:
    """Return whether a state is that of one of the last blocks, or behind them."""
    blocks = [name for name in run.state_names if name.startswith("block")]
    late = blocks[-max(1, round(LATE * len(blocks))) :]
    return all(name in (*late, "ln_f") for name in state.split("+"))
