"""Stage measure: cluster and score the hidden states, after training or beside it."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy

from tasklens.clustering.cluster import lowered_note
from tasklens.core.errors import CellsFailedError, InputError
from tasklens.core.files import digest
from tasklens.core.parquet import parquet_bytes, read_parquet
from tasklens.core.progress import progress, status, warn
from tasklens.core.workers import LOCAL, Workers, failure, reason, start_workers
from tasklens.data.instances import Instances
from tasklens.runs.measure_state import Measured, StateJob, measure_state
from tasklens.runs.origin import with_origin
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import CLUSTERS, SCORES, Arrays, Floats
from tasklens.runs.run_columns import crossed_at, regressors_at
from tasklens.scoring.centroid_scores import Answered
from tasklens.scoring.crossed import Texts
from tasklens.scoring.families import over_families
from tasklens.scoring.score_cells import score_controls
from tasklens.scoring.score_table import (
    Row,
    accuracy_row,
    answer_rows,
    table_to_csv_bytes,
    to_table,
)

#: What is left of each checkpoint.
MEASURED_FILES = (CLUSTERS, SCORES, "inputs")
#: Checkpoints that are measured at a time, at least: one being worked on, one so that no worker
#: waits.
AHEAD = 2

#: By the name of the job.
Jobs = dict[str, Future[Measured]]


def measure(run: Run, workers: Workers | None = None) -> None:
    """Cluster and score every hidden state, then write the tidy table.

    By default in as many processes as the settings have. No result depends on the workers, which
    serve on after it. CellsFailedError if cells failed for reasons of their own: the checkpoints of
    the others are kept, and the next call does what is missing.
    """
    check_measurable(run)
    directory = run.directory
    with directory.stage("measure", run.inputs("measure")) as finish:
        if finish is None:
            return
        notes = _lowered_notes(run)
        for note in notes:
            warn(note)
        directory.unfinish("measure")  # the clusters change from now on, and the scores at the end
        with (
            nullcontext(workers) if workers else start_workers(LOCAL, run.settings.workers) as pool
        ):
            measurer = Measurer(run, pool)
            missing = [step for step in run.steps if not measurer.is_done(step)]
            n_states = len(run.state_names) * len(run.positions)
            n_done = (len(run.steps) - len(missing)) * n_states
            with progress("measure", n_done + len(missing) * n_states, "state", n_done) as bar:
                measurer.on_state = bar.update
                for step in missing:
                    if measurer.is_full:
                        measurer.keep_first()
                    measurer.begin(step)
                measurer.finish()
            status("measure: scoring the controls")
        if measurer.failed:
            raise CellsFailedError(measurer.failed)
        tables = [_controls(run)]
        for step in run.steps:
            tables.append(read_parquet(directory.read(directory.measured_at(step) / SCORES)))
        table = pa.concat_tables(tables)
        table = table.cast(with_origin(table.schema, run))
        files = [
            directory.measured_at(step) / name for step in run.steps for name in MEASURED_FILES
        ]
        with directory.batch():
            for path in results_of(run):  # they show other scores
                directory.remove(path)
            directory.write(directory.scores_parquet, parquet_bytes(table))
            directory.write(directory.scores_csv, table_to_csv_bytes(table))
            scores = [directory.scores_parquet, directory.scores_csv]
            finish([*scores, *files], warnings=notes)


def _lowered_notes(run: Run) -> list[str]:
    """Return a line for each split or family with too few instances for the perplexity of t-SNE."""
    clusters = run.settings.clusters
    if clusters.tsne == "none":
        return []
    notes = [
        lowered_note(_family_title(split, name), len(known.task), clusters)
        for split, every in run.instances_by_split.items()
        for name, _, known in every.families
    ]
    return [note for note in notes if note]


def results_of(run: Run) -> list[Path]:
    """Return the files that are made from the scores, as far as they are there."""
    directory = run.directory
    figures = [*directory.figures.iterdir()] if directory.figures.is_dir() else []
    files = [*figures, directory.verdict, directory.report]
    return [path for path in files if directory.noted(path) is not None]


def n_ahead(workers: Workers, n_states: int) -> int:
    """Return how many checkpoints with that many hidden states are worked on at a time."""
    return max(AHEAD, 1 + 2 * workers.count // n_states)


def check_measurable(run: Run) -> None:
    """Raise InputError if there are no hidden states, or too few for what is asked of them."""
    run.need(run.states_stage)
    for step in run.steps:
        if missing := run.lacking(step):
            raise InputError(
                f"{run.directory.path}: step {step} has no hidden states at the position "
                f"{missing[0]}; add them: {run.command(run.states_stage)}"
            )
    for split, every in run.instances_by_split.items():
        for name, _, known in every.families:
            run.settings.check_size(_family_title(split, name), len(known.task))


def _family_title(split: str, family: str) -> str:
    """Return a split with one of its families, for messages."""
    return f"{split} of {family}" if family else split


class Measurer:
    """Measures checkpoints in workers, and keeps their scores.

    If this process is the only worker, a checkpoint is measured by the time `begin` returns.
    `on_state` is called with 1 after every hidden state. `failed` holds the reasons of failed
    cells, by name; nothing is kept of their checkpoint. If the run ``grows``, none of the
    checkpoints is the last one: that is measured as such, again, once none is to come.
    """

    def __init__(
        self,
        run: Run,
        workers: Workers,
        on_state: Callable[[int], object] = lambda n: None,
        *,
        grows: bool = False,
    ) -> None:
        self.run, self.workers, self.on_state, self.grows = run, workers, on_state, grows
        self.failed: dict[str, str] = {}
        self._running: deque[tuple[int, Jobs, dict[str, Answered]]] = deque()

    def inputs(self, step: int) -> str:
        """Return the hash of what the scores of a checkpoint depend on."""
        return self._inputs(step, grows=self.grows)

    def _inputs(self, step: int, *, grows: bool) -> str:
        run = self.run
        affecting = run.settings.affecting("measure")
        data, states = run.directory.output_hash("data"), run.states_hash(step)
        more = ["paired"] if self._paired else []
        lasts = run.settings.clusters.tsne, run.settings.measure.silhouette
        more += ["not as the last"] if grows and "last" in lasts else []
        return digest([run.settings.seed, affecting, data, states, *more])

    @property
    def _paired(self) -> bool:
        """True if steps are compared with each other, as stages of one model are."""
        return len(self.run.step_names) > 1

    def is_done(self, step: int) -> bool:
        """Return whether the clusters and the scores of a checkpoint are there, undamaged."""
        directory = self.run.directory
        measured = directory.measured_at(step)
        inputs = [self._inputs(step, grows=False)]
        if self.grows or step != self.run.steps[-1]:
            inputs.append(self._inputs(step, grows=True))
        return any(directory.made_from(measured, each) for each in inputs) and all(
            map(directory.is_intact, directory.files_in(measured))
        )

    @property
    def is_full(self) -> bool:
        """True if as many checkpoints are being measured as may be."""
        n_states = len(self.run.state_names) * len(self.run.positions)
        return len(self._running) >= n_ahead(self.workers, n_states)

    def begin(self, step: int) -> None:
        """Hand the hidden states of a checkpoint to the workers."""
        jobs: Jobs = {}
        answered = _answered(self.run, step)
        for job in self._jobs(step, answered):
            jobs[job.name] = self.workers.submit(measure_state, job)
            jobs[job.name].add_done_callback(lambda _: self.on_state(1))
        self._running.append((step, jobs, answered))

    def _jobs(self, step: int, every: Mapping[str, Answered]) -> list[StateJob]:
        run = self.run
        settings = run.settings
        last = step == run.steps[-1] and not self.grows

        def wanted(at: str) -> bool:
            return at == "all" or (at == "last" and last)

        def source(name: str, position: str) -> Path | Floats:
            if self.workers.remote:
                return np.array(run.states(name, step, position=position))
            run.check_states(step, name, position)
            return run.states_at(step, position).absolute()

        def shared(position: str) -> dict[str, Any]:
            instances = run.instances_at(position)
            return {
                "instances": _for_workers(instances, crossed_at(run, position)),
                "regressors": regressors_at(run, position),
            }

        answered = {split: each for split, each in every.items() if split in run.splits}
        of_position = {position: shared(position) for position in run.positions}
        return [
            StateJob(
                **of_position[position],
                states=source(name, position),
                state=name,
                run=run.name,
                seed=settings.seed,
                step=step,
                position=position,
                paired=self._paired,
                is_first=position == run.positions[0],
                splits=run.splits,
                spaces=("raw", "tsne") if wanted(settings.clusters.tsne) else ("raw",),
                silhouettes=wanted(settings.measure.silhouette),
                measure=settings.measure,
                clusters=settings.clusters,
                answered=answered,
                outputs=run.outputs,
            )
            for position in run.positions
            for name in run.state_names
        ]

    def keep_done(self) -> None:
        """Keep what the first checkpoints gave, as far as they are done."""
        while self._running and all(job.done() for job in self._running[0][1].values()):
            self.keep_first()

    def keep_first(self) -> None:
        """Wait for the checkpoint that was begun first, and keep what it gave."""
        step, jobs, answered = self._running.popleft()
        errors = {name: failure(job) for name, job in jobs.items()}
        failed = {name: reason(error) for name, error in errors.items() if error}
        for job in jobs.values():
            if not job.exception():
                failed |= job.result().failed
        if failed:
            self.failed |= failed
            return
        rows, arrays = _answers(self.run, step, answered)
        for job in jobs.values():
            rows += job.result().rows
            arrays |= job.result().arrays
        files = {
            CLUSTERS: safetensors.numpy.save(arrays),
            SCORES: parquet_bytes(to_table(rows)),
            "inputs": self.inputs(step).encode(),
        }
        self.run.directory.write_directory(self.run.directory.measured_at(step), files)

    def finish(self) -> None:
        """Wait for all that was begun, and keep what did not fail."""
        while self._running:
            self.keep_first()


def _for_workers(
    instances: Mapping[str, Instances], crossed: Mapping[str, Texts]
) -> dict[str, Instances]:
    """Add the crossed columns, and leave out the counts of symbols.

    The counts are large, and no hidden state is scored on them.
    """
    each, begin = {}, 0
    for split, known in instances.items():
        n = len(known.task)
        each[split] = replace(
            known,
            symbol_counts=np.zeros((n, 1), dtype=np.int64),
            crossed={name: values[begin : begin + n] for name, values in crossed.items()},
        )
        begin += n
    return each


def _answered(run: Run, step: int) -> dict[str, Answered]:
    """Return the answers on each split, unmeasured ones included, and whether they are right."""
    targets = run.targets(step)
    return {
        split: Answered(
            np.ascontiguousarray(answer),
            np.where(targets[split] >= 0, answer == targets[split], -1).astype(np.int8),
        )
        for split, answer in run.answers(step).items()
    }


def _answers(run: Run, step: int, answered: Mapping[str, Answered]) -> tuple[list[Row], Arrays]:
    """Return the scores of the answers on each split, over instances whose right answer is known.

    Beside it, of the measured splits, ``split/answer`` (n,) int64 and, if any right answer is
    known, ``split/correct`` (n,) int8: 1, 0, or -1 if it is not known.
    """
    rows: list[Row] = []
    arrays: Arrays = {}
    scores = run.answer_scores(step)
    for split, (answer, correct) in answered.items():
        known = correct >= 0
        if split in run.splits:
            arrays[f"{split}/answer"] = answer
        if known.any():
            shares = {"": correct[known]}
            if split in run.splits:
                families = run.instances_by_split[split].families
                shares = {each.name: correct[each.rows][known[each.rows]] for each in families}
            columns = run.name, run.settings.seed, step, split
            rows += over_families(
                {
                    name: [accuracy_row(*columns, float(np.mean(each)))]
                    for name, each in shares.items()
                    if len(each)
                }
            )
            if split in run.splits:
                arrays[f"{split}/correct"] = correct
        more = scores.get(split, {})
        rows += answer_rows(run.name, run.settings.seed, step, split, more)
    return rows, arrays


def _controls(run: Run) -> pa.Table:
    rows: list[Row] = []
    k = next(iter(run.settings.measure.k), None)
    for known in run.instances_by_split.values():
        rows += score_controls(known, k, run.name, run.settings.seed, run.settings.clusters)
    return to_table(rows)
