"""Stage interventions: edit hidden states at checkpoints, and keep what the models answer."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext

import pyarrow as pa

from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.core.progress import inform, progress, warn
from tasklens.core.workers import (
    LOCAL,
    Processes,
    Workers,
    default_workers,
    failure,
    need_seen,
    reason,
    start_workers,
)
from tasklens.interventions.effect_table import effect_table
from tasklens.interventions.settings import Selection
from tasklens.runs.edit_plan import Missing, check_intervenable, figure_selections, missing_edits
from tasklens.runs.edit_states import EditJob, EditResult, close_models, edit_state
from tasklens.runs.kept_edits import (
    drop_unusable,
    edit_inputs,
    edited_steps,
    keep_edits,
    read_edits,
)
from tasklens.runs.run import Run
from tasklens.runs.stage_measure import n_ahead, results_of

Jobs = dict[str, Future[EditResult]]


def intervene_for_figure(run: Run, workers: Workers | None = None) -> None:
    """Do the edits that Figure 3 and the checks need, at the checkpoints of the settings.

    It does not stop a run. Without weights or counterfactual answers, it prints why nothing is
    edited. If edits fail, it prints a warning for each.
    """
    _drop_outdated(run)
    try:
        selections = figure_selections(run)
        for selection in selections:
            check_intervenable(run, selection)
        if not selections:
            return
    except InputError as error:
        inform(f"no hidden states are edited: {error}")
        return
    try:
        intervene(run, selections, workers)
    except CellsFailedError as error:
        for cell, line in error.reasons.items():
            warn(f"edits at {cell} failed: {line}")
        inform(error.again)


def _drop_outdated(run: Run) -> None:
    """Remove the effects of other hidden states, which were made again, and those that are gone."""
    directory, mark = run.directory, run.directory.mark("interventions")
    if mark is None:
        return
    files = [directory.interventions_at(step) for step in edited_steps(run)]
    if mark["inputs"] != run.inputs("interventions") or not all(map(directory.is_intact, files)):
        drop_unusable(run)
        with directory.batch():
            directory.remove(directory.effects_parquet)
            directory.unfinish("interventions")


def intervene(run: Run, selections: Sequence[Selection], workers: Workers | None = None) -> None:
    """Do what is missing of some edits, then write the tidy table of all that are kept.

    Figures, verdict and report are removed if the table changes: they show other effects.

    Parameters
    ----------
    run : Run
        A measured run.
    selections : list of Selection
        What is wanted, at most one for each checkpoint.
    workers : Workers, optional
        By default as many processes as the settings have for a training run. The models of a model
        run are opened in this process, or on a cluster. No result depends on the workers.

    Raises
    ------
    InputError
        If a selection cannot be made: see `check_intervenable`.
    CellsFailedError
        If some edits failed for reasons of their own; the others are kept.
    """
    for selection in selections:
        check_intervenable(run, selection)
    directory = run.directory
    drop_unusable(run)
    missing = missing_edits(run, selections)
    inputs = run.inputs("interventions")
    if missing:  # the stage may have been finished with fewer edits
        directory.unfinish("interventions")
    with directory.stage("interventions", inputs) as finish:
        if finish is None:
            return
        with _workers_for(run, workers) as pool:
            failed = _edit(run, missing, pool)
        if failed:
            raise CellsFailedError(failed, f"tasklens intervene {directory.path}")
        steps = edited_steps(run)
        names = run.names["task"]
        table = pa.concat_tables(
            effect_table(run.name, run.settings.seed, step, read_edits(run, step), names)
            for step in steps
        )
        with directory.batch():
            for path in results_of(run):
                directory.remove(path)
            directory.write(directory.effects_parquet, parquet_bytes(table))
            files = [directory.interventions_at(step) for step in steps]
            finish([directory.effects_parquet, *files])


def _workers_for(run: Run, workers: Workers | None) -> Workers | nullcontext[Workers]:
    """Return the workers that edit; a model that takes long to open is opened in this process."""
    if not run.opens_in_workers and not (workers and workers.remote):
        return Processes(1)
    return nullcontext(workers) if workers else start_workers(LOCAL, run.settings.workers)


def _edit(run: Run, missing: Missing, workers: Workers) -> dict[str, str]:
    """Do edits, keep them checkpoint by checkpoint, and return the reasons of those that failed."""
    failed: dict[str, str] = {}
    printed: set[str] = set()
    if workers.remote and missing:
        workers.submit(need_seen, run.directory.path.absolute()).result()
    running: deque[tuple[int, Jobs]] = deque()
    with progress("interventions", sum(map(len, missing.values())), "state") as bar:

        def keep_first() -> None:
            """Wait for the checkpoint that was begun first, and keep what it gave."""
            step, jobs = running.popleft()
            arrays = read_edits(run, step)
            for state, future in jobs.items():
                if error := failure(future):
                    failed[f"step {step}, {state}"] = reason(error)
                    continue
                result = future.result()
                arrays |= result.arrays
                for line in result.lines:
                    if line not in printed:
                        inform(f"interventions: {line}")
                        printed.add(line)
            if arrays:
                keep_edits(run, step, arrays)

        try:
            for step in missing:
                if len(running) >= n_ahead(workers, len(run.state_names)):
                    keep_first()
                jobs: Jobs = {}
                for job in _jobs(run, step, missing, workers):
                    jobs[job.state] = workers.submit(edit_state, job)
                    jobs[job.state].add_done_callback(lambda _: bar.update(1))
                running.append((step, jobs))
            while running:
                keep_first()
        finally:
            close_models()
    return failed


def _jobs(run: Run, step: int, missing: Missing, workers: Workers) -> list[EditJob]:
    """Return the jobs of a checkpoint, one per hidden state."""
    threads = 1 if workers.remote else max(1, default_workers() // workers.count)
    return [
        EditJob(
            run=run.directory.path.absolute(),
            step=step,
            state=state,
            inputs=edit_inputs(run, step),
            data=run.directory.output_hash("data"),
            settings=run.settings.interventions,
            planned=planned,
            threads=threads,
        )
        for state, planned in missing[step].items()
    ]
