"""Stage interventions: edit hidden states at checkpoints, and keep what the models answer."""

from concurrent.futures import Future
from contextlib import nullcontext

import pyarrow as pa
import safetensors.numpy

from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.core.progress import inform, progress
from tasklens.core.workers import LOCAL, Workers, failure, reason, start_workers
from tasklens.findings.curves import curves_of_table
from tasklens.interventions.cell import Arrays, EditKey, PlannedEdit, planned_edits
from tasklens.interventions.effect_table import effect_table
from tasklens.interventions.repair import DISTANCE, repair_name
from tasklens.interventions.settings import (
    FIGURE,
    NEEDED,
    REPAIRS,
    Selection,
    evenly_spaced,
)
from tasklens.runs.edit_states import EditJob, EditResult, Planned, edit_state
from tasklens.runs.kept_edits import edit_inputs, edited_steps, read_edits
from tasklens.runs.run import Run
from tasklens.scoring.best_layer import best_layer

#: The share of the blocks, from the last one down, in which a shift may only move the output.
LATE = 0.25


def intervene_for_figure(run: Run, workers: Workers | None = None) -> None:
    """Do the edits that Figure 3 and the checks need, at the checkpoints that the settings name.

    Nothing is done, but printing the reason, if there are no weights or no counterfactual answers.
    """
    try:
        steps = evenly_spaced(run.intervenable_steps, run.settings.interventions.checkpoints)
        check_intervenable(run, Selection(steps=steps))
    except InputError as error:
        inform(f"no interventions: {error}")
        return
    *before, last = steps
    intervene(
        run,
        [Selection(FIGURE, steps=tuple(before)), Selection(NEEDED, steps=(last,))][not before :],
        workers,
    )


def check_intervenable(run: Run, selection: Selection) -> None:
    """Raise InputError if a selection of edits cannot be made on a run."""
    run.need("measure")
    steps = run.intervenable_steps
    if not steps:
        raise InputError(
            f"{run.directory.path}: no weights are kept; a run keeps those that "
            "checkpoints.weights_gib allows"
        )
    for step in selection.steps:
        if step not in steps:
            raise InputError(
                f"{run.directory.path}: has no weights of step {step}; of "
                f"{', '.join(map(str, steps))}"
            )
    selection.states_among(run.state_names)
    for split in edited_splits(run):
        for position in selection.positions or (run.position(),):
            run.position(position)
            run.counterfactuals(split, position, run.settings.interventions.instances)


def edited_splits(run: Run) -> tuple[str, ...]:
    """Return the splits whose states are edited: those that centroids are not computed from."""
    return tuple(run.splits)[1:] or tuple(run.splits)


def tested_state(run: Run) -> str | None:
    """Return the best layer on the first split, chosen without any edit, as the checks do.

    It is best among the hidden states themselves, as these are edited and not their t-SNE maps.
    """
    cells = next(iter(run.splits)), "raw"
    ari = curves_of_table(run.score_table())[0].ari
    best = best_layer({key[1:]: y[0, -1] for key, y in ari.items() if key[::2] == cells})
    return best[0] if best else None


def intervene(run: Run, selections: list[Selection], workers: Workers | None = None) -> None:
    """Do what is missing of some edits, then write the tidy table of all that were ever done.

    Parameters
    ----------
    run : Run
        A measured run.
    selections : list of Selection
    workers : Workers, optional
        By default as many processes as the settings have for a training run. The models of a model
        run are opened in this process. No result depends on the workers.

    Raises
    ------
    InputError
        If a selection cannot be made: see `check_intervenable`.
    CellsFailedError
        If some edits failed for reasons of their own; the others are kept.
    """
    for selection in selections:
        check_intervenable(run, selection)
    directory, tested = run.directory, tested_state(run)
    missing = _missing(run, selections, tested)
    inputs = run.inputs("interventions")
    if not missing and directory.finished("interventions", inputs):
        return
    count = 1 if run.states_stage == "states" else run.settings.workers
    with directory.stage("interventions", inputs) as finish:
        if finish is None:  # some more edits are wanted
            directory.unfinish("interventions")
    with nullcontext(workers) if workers else start_workers(LOCAL, count) as pool:
        failed = _edit(run, missing, pool)
    if failed:
        raise CellsFailedError(failed)
    with directory.stage("interventions", inputs) as finish:
        assert finish is not None
        steps = edited_steps(run)
        names = run.names["task"]
        tables = [
            effect_table(run.name, run.settings.seed, step, read_edits(run, step), names)
            for step in steps
        ]
        with directory.batch():
            directory.write(directory.effects_parquet, parquet_bytes(pa.concat_tables(tables)))
            files = [directory.interventions_at(step) for step in steps]
            finish([directory.effects_parquet, *files])


def _missing(
    run: Run, selections: list[Selection], tested: str | None
) -> dict[int, dict[str, Planned]]:
    """Return the edits that are wanted and not kept, by step and state."""
    settings, missing = run.settings.interventions, dict[int, dict[str, Planned]]()
    n_tasks = {
        split: len(run.counterfactuals(split, run.position(), settings.instances).tasks)
        for split in edited_splits(run)
    }
    for selection in selections:
        states = selection.states_among(run.state_names)
        for step in selection.steps or run.intervenable_steps:
            kept = read_edits(run, step)
            for state in states:
                edits = [e for e in selection.edits if e != "unembedding" or _is_late(run, state)]
                test = state == tested and step == run.steps[-1]
                for split in edited_splits(run):
                    planned = list(
                        planned_edits(
                            state, edits, selection.alphas, n_tasks[split], settings, test=test
                        )
                    )
                    for position in selection.positions or (run.position(),):
                        new = tuple(
                            each
                            for each in planned
                            if not _is_kept(kept, split, position, state, each)
                        )
                        if new:
                            of_step = missing.setdefault(step, {})
                            of_step[state] = {**of_step.get(state, {}), (split, position): new}
    return missing


def _is_kept(kept: Arrays, split: str, position: str, state: str, edit: PlannedEdit) -> bool:
    """Return whether as many runs of an edit are kept as are wanted."""
    if edit.name in REPAIRS:
        return repair_name(split, position, state, DISTANCE, "value") in kept
    answer = kept.get(EditKey(split, position, state, edit.name, edit.alpha).name("answer"))
    return answer is not None and len(answer) >= edit.runs


def _is_late(run: Run, state: str) -> bool:
    """Return whether a state is that of one of the last blocks, or behind them."""
    blocks = [name for name in run.state_names if name.startswith("block")]
    late = blocks[-max(1, round(LATE * len(blocks))) :]
    return all(name in (*late, "ln_f") for name in state.split("+"))


def _edit(run: Run, missing: dict[int, dict[str, Planned]], workers: Workers) -> dict[str, str]:
    """Do edits, keep them checkpoint by checkpoint, and return the reasons of those that failed."""
    failed: dict[str, str] = {}
    printed: set[str] = set()
    path, settings = run.directory.path.absolute(), run.settings.interventions
    with progress("interventions", sum(map(len, missing.values())), "state") as bar:
        running: list[tuple[int, dict[str, Future[EditResult]]]] = []
        for step, by_state in missing.items():
            jobs = {}
            for state, planned in by_state.items():
                job = EditJob(path, step, state, settings, planned)
                jobs[state] = workers.submit(edit_state, job)
                jobs[state].add_done_callback(lambda _: bar.update(1))
            running.append((step, jobs))
        for step, jobs in running:
            arrays = read_edits(run, step)
            for state, future in jobs.items():
                if error := failure(future):
                    failed[f"step {step}, {state}"] = reason(error)
                    continue
                result = future.result()
                arrays |= result.arrays
                for line in (*result.notes, *result.how):
                    if line not in printed:
                        inform(line)
                        printed.add(line)
            content = safetensors.numpy.save(
                dict(sorted(arrays.items())), {"inputs": edit_inputs(run, step)}
            )
            run.directory.write(run.directory.interventions_at(step), content)
    return failed
