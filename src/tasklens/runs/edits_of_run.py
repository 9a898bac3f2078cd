"""Read what a run's view holds of edits."""

from collections.abc import Mapping

import numpy as np

from tasklens.core.text import without_slash
from tasklens.interventions.cell import Arrays, EditKey
from tasklens.interventions.effects import SplitPairs
from tasklens.report.edits_view import NOT_RUN, EditsView, Moves, Plane
from tasklens.report.view import PLANES, UNKNOWN
from tasklens.runs.frame_maker import frames_name, index_of, points_name
from tasklens.runs.kept_edits import edited_steps, read_edits
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Floats, Ints

#: The edit that the report shows on the map.
MOVE = "shift"


def edits_view(run: Run, frames: Arrays, position: str, family: str) -> EditsView | None:
    """Return the edits of a run at a position, with its frames; None if there are none.

    Effects are those of all families, moves those of one.
    """
    if not run.directory.finished("interventions", run.inputs("interventions")):
        return None
    effects = run.effects()
    effects = effects[effects["position"] == position]
    if effects.empty:
        return None
    steps = tuple(step for step in edited_steps(run) if (effects["step"] == step).any())
    kept = {split: dict[int, Arrays]() for split in run.splits}
    for step in steps:
        arrays = read_edits(run, step)
        for split, by_step in kept.items():
            begin = f"{split}/{without_slash(position)}/"
            # Of a gigabyte of arrays, only these are needed.
            wanted = {
                name: array
                for name, array in arrays.items()
                if name.startswith(begin) and (name.count("/") < 4 or f"/{MOVE}/answer" in name)
            }
            if f"{begin}own" in wanted:
                by_step[step] = wanted
    moves = {
        split: _moves(run, split, position, family, steps, by_step, frames)
        for split, by_step in kept.items()
        if by_step
    }
    return EditsView(steps, effects, moves)


def _moves(
    run: Run,
    split: str,
    position: str,
    family: str,
    steps: tuple[int, ...],
    kept: Mapping[int, Arrays],
    frames: Arrays,
) -> Moves:
    """Return the moves of the shown points of a split, which are the same at each checkpoint."""
    first = kept[next(iter(kept))]
    pairs = SplitPairs.of_arrays(first, split, position)
    points: Ints = index_of(run, split, family)[frames[points_name(split, family)]]
    row = np.flatnonzero(np.isin(pairs.index, points))  # of the edited instances
    all_tasks = np.unique(np.concatenate([run.instances(name).task for name in run.splits]))
    first_split = run.instances(next(iter(run.splits)))
    with_centroid = np.unique(first_split.of_family(family).instances.task)
    column = np.flatnonzero(np.isin(pairs.tasks, with_centroid))
    tasks = pairs.tasks[column]
    answer: dict[str, Ints] = {}
    centroids: dict[tuple[Plane, str], Floats] = {}
    at = [run.steps.index(step) for step in steps]
    for state in run.state_names:
        name = EditKey(split, position, state, MOVE).name("answer")
        if not any(name in arrays for arrays in kept.values()):
            continue
        answer[state] = np.full((len(steps), len(row), len(tasks)), NOT_RUN)
        for e, step in enumerate(steps):
            given = kept.get(step, {}).get(name)
            if given is not None:
                ran = pairs.pairs[np.ix_(row, column)]
                answer[state][e] = np.where(ran, given.T[np.ix_(row, column)], NOT_RUN)
        for plane in PLANES:
            name = f"{frames_name(run, split, state, position, family)}/{plane}_tasks"
            located = frames[name][at]  # (E, T', 2)
            if located.shape[1]:
                centroids[plane, state] = located[:, np.searchsorted(with_centroid, tasks)]
    return Moves(
        point=np.searchsorted(points, pairs.index[row]),
        tasks=np.searchsorted(all_tasks, tasks),
        answers=_names(run, steps[0], first[f"{split}/{without_slash(position)}/tokens"]),
        expected=np.where(pairs.answers >= 0, pairs.answers, UNKNOWN)[np.ix_(row, column)],
        answer=answer,
        centroids=centroids,
    )


def _names(run: Run, step: int, tokens: Ints) -> tuple[str, ...]:
    """Return what answers, (K, L), are called, token by token; -1 is behind the end of one."""
    return tuple(" ".join(run.token_names(step, row[row >= 0])) for row in tokens)
