"""Run all edits and controls of one cell: a hidden state at a position, on one split."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from tasklens.clustering.numba_compile import one_thread
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.core.text import without_slash
from tasklens.data.counterfactuals import Counterfactuals, Fold, of_own
from tasklens.data.edited_prompts import Floats, Ints
from tasklens.interventions import controls, edits
from tasklens.interventions.editor import Editor
from tasklens.interventions.edits import Edit, checked
from tasklens.interventions.settings import (
    ADDED,
    TARGETED,
    UNTARGETED,
    InterventionSettings,
    check_draws,
)
from tasklens.scoring.centroids import Centroids, fit_centroids

Arrays = dict[str, npt.NDArray[Any]]
#: Edits that are the same each time.
ONCE = ("erase", "erase_within")
#: Bytes of changes that are computed together.
TOGETHER = 2**28
#: Edits that need real states of the target task.
DONATED = ("patch", "patch_span", "patch_rest")


class EditKey(NamedTuple):
    """The key of what an edit left, within its checkpoint."""

    split: str
    position: str
    state: str
    edit: str
    alpha: float = 1.0

    def name(self, kind: str) -> str:
        """Return the name of an array of the edit; the kind is "answer" or "likelihood"."""
        strength = "" if self.alpha == 1 else f"@{self.alpha:g}"
        at = without_slash(self.position)
        return f"{self.split}/{at}/{self.state}/{self.edit}{strength}/{kind}"

    @classmethod
    def parse(cls, name: str) -> tuple["EditKey", str] | None:
        """Return the key and the kind of an array; None for arrays that no edit left."""
        split, _, rest = name.partition("/")
        parts = rest.rsplit("/", 3)
        if len(parts) != 4:
            return None
        position, state, edit, kind = parts
        edit, _, alpha = edit.partition("@")
        return cls(split, unquote(position), state, edit, float(alpha or 1)), kind


@dataclass(frozen=True)
class CellStates:
    """One hidden state of all instances that a cell needs."""

    prompts: Floats  # (N, D), of the prompts that are edited
    donors: Floats  # (M, D), of the donors
    fit: Floats  # (F, D), of the instances from which centroids are computed, see `Fold.fit`
    fit_task: Ints  # (F,)


@dataclass(frozen=True)
class FoldStates:
    """States from which the edits of one fold are computed."""

    states: CellStates
    asked: Counterfactuals
    fold: Fold
    random: Callable[..., np.random.Generator]
    """The stream of random numbers for an edit and a draw of this cell and fold."""
    unembedding: Callable[[Ints], Floats] | None
    own: Mapping[str, Edit]
    """Edits of the user, by name."""

    @cached_property
    def centroids(self) -> Centroids:
        """The centroids, from the instances of the fold."""
        with one_thread():
            fit = self.fold.fit
            return fit_centroids(self.states.fit[fit], self.states.fit_task[fit], self.asked.tasks)

    @property
    def x(self) -> Floats:
        """The states that are edited, (n, D)."""
        return self.states.prompts[self.fold.edited]

    @property
    def task(self) -> Ints:
        """The tasks of the states, (n,)."""
        return self.asked.task[self.fold.edited]

    def rows(self, edit: str, row: int) -> npt.NDArray[np.bool_]:
        """Return which states an edit is run on, bool (n,): for a target, or in a draw."""
        asked, edited, fitted = self.asked, self.fold.edited, self.centroids.tasks
        inside = np.isin(self.task, fitted)
        if edit not in UNTARGETED:
            inside &= asked.pairs[edited, row] & np.isin(asked.tasks[row], fitted)
        if edit in DONATED:
            inside &= asked.donor[edited, row] >= 0
        return inside

    def change(self, edit: str, row: int, alpha: float) -> Floats:
        """Return what an edit adds to each state, (n, D): for a target, or in a draw."""
        target = np.full(len(self.x), self.asked.tasks[0 if edit in UNTARGETED else row])
        with one_thread():
            return self.edit(edit, row, alpha)(self.x, self.task, target) - self.x

    def edit(self, edit: str, row: int, alpha: float) -> Edit:
        """Return an edit by its name, for a target or a draw."""
        if edit in self.own:
            return checked(edit, self.own[edit])
        centroids, rng = self.centroids, partial(self.random, edit)
        if edit in DONATED:
            donors = self.states.donors[self.asked.donor[self.fold.edited, row]]
        if edit == "shift":
            return edits.shift(centroids, alpha)
        if edit == "swap":
            return edits.swap(centroids)
        if edit == "patch":
            return edits.patch(donors)
        if edit == "patch_span":
            return edits.patch_span(centroids, donors)
        if edit == "patch_rest":
            return edits.patch_rest(centroids, donors)
        if edit == "shuffled":
            fit = self.fold.fit
            return controls.shuffled_shift(
                centroids, self.states.fit[fit], self.states.fit_task[fit], rng()
            )
        if edit == "unembedding":
            assert self.unembedding is not None
            answers, first = self.asked.answers[self.fold.edited], self.asked.tokens[:, 0]
            own = of_own(answers, self.asked.own[self.fold.edited], -1)
            return controls.unembedding_shift(
                centroids, self.unembedding(first[answers[:, row]]), self.unembedding(first[own])
            )
        if edit == "random":
            return controls.random_direction(centroids, self.task, row, rng(row))
        if edit == "within":
            return controls.within_direction(centroids, self.task, row, rng(row))
        if edit == "erase":
            return edits.erase(centroids.basis, centroids.middle)
        if edit == "erase_random":
            return controls.erase_random(centroids, rng(row))
        return controls.erase_within(centroids)


class PlannedEdit(NamedTuple):
    """An edit that a cell runs R times: for each of R targets, or in R draws."""

    name: str
    alpha: float
    runs: int

    @property
    def is_targeted(self) -> bool:
        """True if each run has a target."""
        return self.name not in UNTARGETED


def planned_edits(
    state: str,
    edits: Sequence[str],
    alphas: Sequence[float],
    n_tasks: int,
    settings: InterventionSettings,
    *,
    test: bool = False,
) -> Iterator[PlannedEdit]:
    """Yield the edits of a hidden state, or of several that are joined by +.

    With ``test``, there are as many random directions as for the p value.
    """
    for edit in edits:
        if "+" in state and edit not in ADDED:
            continue
        if edit in TARGETED:
            for alpha in alphas if edit == "shift" else (1.0,):
                yield PlannedEdit(edit, alpha, n_tasks)
        else:
            draws = 1 if edit in ONCE else settings.draws
            is_tested = edit == "random" and test
            yield PlannedEdit(edit, 1.0, max(draws, settings.test_draws) if is_tested else draws)


def intervene(
    editor: Editor,
    state: str,
    states: Mapping[str, CellStates],
    asked: Counterfactuals,
    planned: Iterable[PlannedEdit],
    seed: int,
    purpose: tuple[str | int, ...] = (),
    own: Mapping[str, Edit] | None = None,
) -> Arrays:
    """Run the edits of a cell and return what the model answered.

    Parameters
    ----------
    editor : Editor
        The model, with the prompts of ``asked`` and its tokens.
    state : str
        Name of the hidden state, or names that are joined by +.
    states : {name: CellStates}
    asked : Counterfactuals
    planned : iterable of PlannedEdit
    seed : int
        Root seed of the random controls.
    purpose : tuple
        The cell's part in the names of its random streams, such as the step.
    own : {name: Edit}, optional
        Edits of the user, which move each state to each target.

    Returns
    -------
    {name: array}
        By the names of `EditKey`: ``answer``, int32 (R, N), the index of the answer, or -1 for any
        other and where nothing was run. ``likelihood``, float32: of a targeted edit (R, N, 2), of
        the own and of the target's answer; otherwise (R, N, T), of the answer under each task.
    """
    names = state.split("+")
    for name in names:
        each = states[name]
        if not all(np.isfinite(x).all() for x in (each.prompts, each.donors, each.fit)):
            raise InputError(f"{name}: a hidden state is not finite, and cannot be edited")
    arrays: Arrays = {}
    unembedding = getattr(editor, "unembedding", None)
    by_name = {
        name: [
            FoldStates(
                states[name],
                asked,
                fold,
                partial(stream, seed, "interventions", *purpose, asked.split, name, number),
                unembedding,
                own or {},
            )
            for number, fold in enumerate(asked.folds)
        ]
        for name in names
    }
    todo: list[_Moves] = []
    for plan in planned:
        if plan.name in DONATED and not len(asked.donors):
            continue
        if not plan.is_targeted:
            draws = {"interventions.draws or test_draws": plan.runs}
            check_draws(draws, states[names[0]].prompts.shape)
        moves = _moves(plan, [by_name[name] for name in names])
        if todo and sum(each.change.nbytes for each in [*todo, moves]) > TOGETHER:
            arrays |= _answered(editor, state, asked, todo)
            todo = []
        todo.append(moves)
    return arrays | _answered(editor, state, asked, todo)


class _Moves(NamedTuple):
    """The M changes of states that a planned edit makes."""

    plan: PlannedEdit
    run: Ints  # (M,), the target or the draw
    row: Ints  # (M,), the prompt
    change: Floats  # (M, D), or (M, R, D) for R states that are edited together


def _moves(plan: PlannedEdit, by_state: Sequence[Sequence[FoldStates]]) -> _Moves:
    """Compute the changes of a planned edit; for each state there are the folds."""
    run: list[Ints] = []
    row: list[Ints] = []
    changes: list[Floats] = []
    for folds in zip(*by_state, strict=True):
        for r in range(plan.runs):
            inside = folds[0].rows(plan.name, r)
            moves = [each.change(plan.name, r, plan.alpha)[inside] for each in folds]
            changes.append(moves[0] if len(moves) == 1 else np.stack(moves, axis=1))
            row.append(folds[0].fold.edited[inside])
            run.append(np.full(len(row[-1]), r))
    return _Moves(plan, np.concatenate(run), np.concatenate(row), np.concatenate(changes))


def _answered(
    editor: Editor, state: str, asked: Counterfactuals, every: Sequence[_Moves]
) -> Arrays:
    """Return what the model answers to planned edits, which are computed together.

    Edits of one prompt share the pass over what stands before the edited tokens.
    """
    n, n_tasks = asked.answers.shape
    rows = np.concatenate([each.row for each in every]) if every else np.arange(0)
    if len(rows):
        change = np.concatenate([each.change for each in every])
        # The same candidates for all edits: an answer of several tokens is the best of them.
        edited = editor.answer(state, rows, change, asked.answers[rows])
    arrays: Arrays = {}
    end = 0
    for (edit, alpha, runs), run, row, _ in every:
        begin, end = end, end + len(row)
        is_targeted = edit not in UNTARGETED
        answer = np.full((runs, n), -1, dtype=np.int32)
        shape = (runs, n, 2 if is_targeted else n_tasks)
        likelihood = np.full(shape, np.nan, dtype=np.float32)
        if len(row):
            wanted = edited.likelihood[begin:end]  # (M, T)
            if is_targeted:
                own = of_own(wanted, asked.own[row], np.nan)
                wanted = np.stack([own, wanted[np.arange(len(row)), run]], axis=1)  # (M, 2)
            answer[run, row], likelihood[run, row] = edited.answer[begin:end], wanted
        key = EditKey(asked.split, asked.position, state, edit, alpha)
        arrays[key.name("answer")], arrays[key.name("likelihood")] = answer, likelihood
    return arrays
