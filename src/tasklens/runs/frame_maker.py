"""Make the frames of the report's maps in workers, while this process does something else."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import safetensors.numpy

from tasklens.core.progress import progress
from tasklens.core.seeds import derived_seed, stream
from tasklens.core.text import without_slash
from tasklens.core.workers import Processes, Workers, default_workers, failure
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Floats, Ints
from tasklens.runs.run_columns import regressors_at
from tasklens.runs.state_frames import Shown, StateFrames, first_frames, state_frames

Result = TypeVar("Result")
P = ParamSpec("P")

#: So many pairs of points take about as long as processes do to start.
FEW_PAIRS = 3e7


class FrameMaker:
    """Makes the frames of a run if they are missing, by `begin_first`, `begin` and `keep`.

    Each of the three calls what was not called before it. Those that begin only hand the frames to
    the workers, which read the states from the disk: this process is free until `keep`. If it is
    the only worker, it makes them there and then.
    """

    def __init__(self, run: Run, workers: Workers) -> None:
        self.run, self.workers = run, workers
        self.shown = (
            {} if has_frames(run) else {key: _shown(run, *key) for key in _shown_parts(run)}
        )
        self._first: dict[tuple[str, str, str], Future[list[Floats]]] = {}
        self._frames: dict[str, Future[StateFrames]] = {}
        self._done = 0
        self._on_frames: Callable[[int], object] = lambda n: None

    def begin_first(self) -> None:
        """Begin the frames of the first checkpoint, from which all others start."""
        if self._first:
            return
        step, states = self.run.steps[0], self.run.state_names
        for position, (split, family) in product(self.run.positions, self.shown):
            shown = self._shown_at(position, split, family)
            seeds = tuple(self._seed(split, state, step) for state in states)
            directory = self._directory(step, position, *states)
            self._first[position, split, family] = self._submit(
                len(states), first_frames, shown, directory, states, seeds
            )

    def begin(self) -> None:
        """Begin all other frames, those of a hidden state and a split in one worker."""
        self.begin_first()
        if self._frames:
            return
        _, *later = self.run.steps
        for position, (split, family) in product(self.run.positions, self.shown):
            shown = self._shown_at(position, split, family)
            first_of_all = _result(self._first[position, split, family])
            for state, first in zip(self.run.state_names, first_of_all, strict=True):
                directories = tuple(
                    self._directory(step, position, state) for step in self.run.steps
                )
                seeds = tuple(self._seed(split, state, step) for step in later)
                name = frames_name(self.run, split, state, position, family)
                self._frames[name] = self._submit(
                    len(later), state_frames, shown, directories, state, seeds, first
                )

    def keep(self) -> None:
        """Wait for the frames and write them. Only this time counts as that of the stage."""
        run, directory = self.run, self.run.directory
        with directory.stage("report", run.inputs("report", _sources(run))) as finish:
            if finish is None:
                return
            n = len(self.shown) * len(run.state_names) * len(run.steps) * len(run.positions)
            with progress("report", n, "frame", self._done) as bar:
                self._on_frames = bar.update
                self.begin()
                tensors: dict[str, Any] = {}
                for name, frames in self._frames.items():
                    for kind, array in _result(frames)._asdict().items():
                        tensors[f"{name}/{kind}"] = array
            tensors |= {points_name(*key): shown.points for key, shown in self.shown.items()}
            directory.write(directory.frames, safetensors.numpy.save(tensors))
            finish([directory.frames], sources=_sources(run))

    def _submit(
        self, n: int, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Future[Result]:
        """Hand n frames to a worker."""

        def count(_: Future[Result]) -> None:
            self._done += n
            self._on_frames(n)

        future = self.workers.submit(function, *args, **kwargs)
        future.add_done_callback(count)
        return future

    def _shown_at(self, position: str, split: str, family: str) -> Shown:
        return replace(self.shown[split, family], regressors=regressors_at(self.run, position))

    def _directory(self, step: int, position: str, *states: str) -> Path:
        """Return where the hidden states of a step are; InputError if one is damaged."""
        for state in states:
            self.run.check_states(step, state, position)
        return self.run.states_at(step, position).absolute()

    def _seed(self, split: str, state: str, step: int) -> int:
        return derived_seed(self.run.settings.seed, "frames", split, state, step)


def frames_name(run: Run, split: str, state: str, position: str, family: str) -> str:
    """Return the name of the frames of a hidden state; that of the first position is not in it."""
    part = f"/family={without_slash(family)}" if family else ""
    return f"{split}/{state}{part}" + ("" if position == run.positions[0] else f"/at={position}")


def points_name(split: str, family: str) -> str:
    """Return the name of the instances that are shown of a split, or of a family in it."""
    return f"{split}/family={without_slash(family)}/points" if family else f"{split}/points"


def has_frames(run: Run) -> bool:
    """Return whether the frames of a run are made."""
    return run.directory.finished("report", run.inputs("report", _sources(run)))


def make_frames(run: Run, workers: Workers | None = None) -> None:
    """Place the shown points of every split, state and checkpoint in the plane.

    By default there are as many workers as are worth starting.
    """
    with workers or Processes(_processes(run)) as pool:
        FrameMaker(run, pool).keep()


def _result(future: Future[Result]) -> Result:
    """Wait for a result; InputError if its worker was killed."""
    if error := failure(future):
        raise error
    return future.result()


def _sources(run: Run) -> list[object]:
    """Return how the hidden states are prepared, further positions, and the parts of frames."""
    measure = run.settings.measure
    prepared: list[object] = [measure.center, measure.standardize, measure.normalize]
    if measure.residualize:
        prepared.append(measure.residualize)
    if len(run.positions) > 1:
        prepared.append([run.states_hash(step) for step in run.steps])
    return [*prepared, *StateFrames._fields]


def _processes(run: Run) -> int:
    """Return how many processes are worth starting."""
    pairs = sum(len(_shown(run, *key).points) ** 2 for key in _shown_parts(run))
    pairs *= len(run.positions)
    few = pairs * len(run.state_names) * len(run.steps) < FEW_PAIRS
    return 1 if few else run.settings.workers or default_workers()


def _shown_parts(run: Run) -> list[tuple[str, str]]:
    """Return the splits, and the families in each, that have maps of their own."""
    return [(split, family) for split in run.splits for family in run.families or ("",)]


def _shown(run: Run, split: str, family: str) -> Shown:
    settings, first = run.settings, next(iter(run.splits))
    points = _shown_points(run, split, family)
    return Shown(
        rows=_rows(run, split, family),
        points=points,
        measure=settings.measure,
        regressors=(),
        perplexity=settings.report.perplexity,
        exaggeration=settings.report.exaggeration,
        stay=settings.report.stay,
        task=run.instances(split).of_family(family).instances.task[points],
        fit=_rows(run, first, family),
        fit_task=run.instances(first).of_family(family).instances.task,
    )


def _rows(run: Run, split: str, family: str) -> slice | Ints:
    """Return the rows of a family of a split in the array of a hidden state."""
    rows = run.splits[split]
    return np.arange(rows.start, rows.stop)[index_of(run, split, family)] if family else rows


def index_of(run: Run, split: str, family: str) -> Ints:
    """Return the instances of a split that are of a family, ascending."""
    known = run.instances(split)
    return np.arange(len(known.task))[known.of_family(family).rows]


def _shown_points(run: Run, split: str, family: str) -> Ints:
    n, most = len(index_of(run, split, family)), run.settings.report.points
    rng = stream(run.settings.seed, "shown points", split, *filter(None, [family]))
    return np.sort(rng.choice(n, most, replace=False)) if n > most else np.arange(n)
