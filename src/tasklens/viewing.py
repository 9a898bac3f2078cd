"""Run directories to views: what was measured, and the frames of its maps, made where missing."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from tqdm import tqdm

from tasklens.clustering.frames import (
    ReportSettings,
    common_basis,
    first_frame,
    next_frame,
    project,
    shown_variance,
)
from tasklens.config import settings_table, settings_toml
from tasklens.following import Followed, follow
from tasklens.measuring import load_clusters
from tasklens.parallel import Workers, default_workers
from tasklens.randomness import derived_seed, stream
from tasklens.rundir import digest
from tasklens.sources import Source, open_source
from tasklens.view import MAPS, UNKNOWN, Floats, Ints, SplitView, View

Tensors = dict[str, npt.NDArray[Any]]


def load_view(path: Path | str) -> View:
    """Read what there is to look at in a run directory; make the frames of its maps if missing.

    Parameters
    ----------
    path : path
        Of a measured run, or of a probe. The frames, which take a while the first time, are kept
        there.

    Returns
    -------
    View

    Raises
    ------
    InputError
        Where it is no run directory, is not measured, or a file is missing or damaged.
    """
    source = open_source(Path(path))
    frames_mark = source.run.mark("frames")
    if frames_mark is None or frames_mark["inputs"] != _inputs(source):
        with source.run.locked():
            make_frames(source)
    return view_of(source)


def _inputs(source: Source) -> str:
    table = settings_table(source.settings)
    return digest([source.settings.seed, table["report"], source.made_from])


def make_frames(source: Source) -> None:
    """Stage frames: place the shown points of every split, state and checkpoint in the plane."""
    run = source.run
    with run.stage("frames", _inputs(source)) as finish:
        if finish is None:
            return
        chosen = {split: _chosen(source, split) for split in source.instances}
        tensors: Tensors = {f"{split}/points": which for split, which in chosen.items()}
        settings: ReportSettings = source.settings.report
        bases: dict[tuple[str, str], Floats] = {
            (split, state): common_basis(xs[split][which])
            for state, xs in source.read(source.steps[-1])
            for split, which in chosen.items()
        }
        frames: dict[tuple[str, str, str], list[Any]] = {}
        bar = tqdm(desc="frames", unit="frame", total=len(bases) * len(source.steps), disable=None)
        with Workers(source.settings.workers or default_workers()) as workers, bar:
            before: dict[tuple[str, str], Floats] = {}
            for step in source.steps:
                jobs = []
                for state, xs in source.read(step):
                    for split, which in chosen.items():
                        x, basis = xs[split][which], bases[split, state]
                        seed = derived_seed(source.settings.seed, "frames", split, state, step)
                        jobs.append(Job((split, state), x, before.get((split, state)), seed))
                        frames.setdefault(("pca", split, state), []).append(project(x, basis))
                        share = shown_variance(x, basis)
                        frames.setdefault(("share", split, state), []).append(share)
                if not before:  # layer upon layer, so that points keep their places on the way up
                    chains = [[job for job in jobs if job.place[0] == split] for split in chosen]
                    first = workers.map(partial(first_frames, settings=settings), chains)
                    found = [y for ys in first for y in ys]
                    jobs = [job for chain in chains for job in chain]
                    bar.update(len(jobs))
                else:
                    found = []
                    for y in workers.map(partial(frame, settings=settings), jobs):
                        found.append(y)
                        bar.update()
                before = {job.place: y for job, y in zip(jobs, found, strict=True)}
                for (split, state), y in before.items():
                    frames.setdefault(("tsne", split, state), []).append(y)
        for (what, split, state), values in frames.items():
            tensors[f"{split}/{state}/{what}"] = np.stack(values)
        run.write(run.frames, safetensors.numpy.save(tensors))
        finish([run.frames])


class Job(NamedTuple):
    """A frame to be made."""

    place: tuple[str, str]
    """Split and state."""
    x: Floats
    before: Floats | None
    seed: int


def first_frames(jobs: list[Job], settings: ReportSettings) -> list[Floats]:
    """Return the frames of the states of one split at the first checkpoint, in their order."""
    frames: list[Floats] = []
    for job in jobs:
        if frames:
            frames.append(next_frame(job.x, frames[-1], settings, job.seed))
        else:
            frames.append(first_frame(job.x, settings, job.seed))
    return frames


def frame(job: Job, settings: ReportSettings) -> Floats:
    """Return a frame that starts from the one before."""
    assert job.before is not None
    return next_frame(job.x, job.before, settings, job.seed)


def _chosen(source: Source, split: str) -> Ints:
    n, most = len(source.instances[split].task), source.settings.report.points
    rng = stream(source.settings.seed, "shown points", split)
    return np.sort(rng.choice(n, most, replace=False)) if n > most else np.arange(n)


def view_of(source: Source) -> View:
    """Return the view of a run whose frames are made."""
    run = source.run
    frames = safetensors.numpy.load(run.read(run.frames))
    clusters = [load_clusters(run, step) for step in source.steps]
    numbers, names = _renumbered(source)
    splits, answers = {}, Words(source)
    for split, known in source.instances.items():
        which = frames[f"{split}/points"]
        followed = {
            state: _follow(
                source.steps,
                np.stack([its[f"{split}/{state}/raw/labels"][0] for its in clusters]).astype(int),
                known.task,
                numbers["task"],
            )
            for state in source.states
        }
        given, right = [], []
        for step, its in zip(source.steps, clusters, strict=True):
            answered = source.answers(step, split, its)
            said = np.full(len(which), UNKNOWN) if answered is None else answered.tokens[which]
            given.append(answers.numbers(step, said))
            if answered is not None and answered.right is not None:
                right.append(answered.right[which])
        text = source.text(split)
        splits[split] = SplitView(
            parts={
                part: np.searchsorted(numbers[part], values[which])
                for part, values in known.parts.items()
            },
            instruction=tuple(text[i] for i in which),
            answer=np.stack(given),
            right=np.stack(right) if len(right) == len(source.steps) else None,
            maps={
                (which_map, state): frames[f"{split}/{state}/{which_map}"]
                for which_map in MAPS
                for state in source.states
            },
            shown_variance={state: frames[f"{split}/{state}/share"] for state in source.states},
            assigned={state: its.assigned[:, which] for state, its in followed.items()},
            followed=followed,
        )
    return View(
        run=run.name,
        seed=source.settings.seed,
        kind="probe" if run.is_probe else "run",
        steps=tuple(source.steps),
        states=source.states,
        splits=splits,
        names=names,
        answers=answers.words,
        table=source.scores(),
        world=source.world(),
        settings=settings_toml(source.settings),
        manifest=run.read_manifest(),
    )


def _renumbered(source: Source) -> tuple[dict[str, Ints], dict[str, tuple[str, ...]]]:
    """Return by part the values that occur in any split, and what they are called."""
    numbers = {
        part: np.unique(np.concatenate([its.parts[part] for its in source.instances.values()]))
        for part in next(iter(source.instances.values())).parts
    }
    names = {
        part: tuple(source.names[part][int(n)] for n in values) for part, values in numbers.items()
    }
    return numbers, names


def _follow(steps: Sequence[int], labels: Ints, task: Ints, tasks: Ints) -> Followed:
    """Follow the tasks of a split by their places among all `tasks`, of which it may lack some."""
    followed = follow(steps, labels, task)
    here = np.searchsorted(tasks, followed.tasks)
    left = max(0, int(followed.assigned.max()) + 1 - len(here))
    number = np.append(here, len(tasks) + np.arange(left))
    return dataclasses.replace(followed, tasks=here, assigned=number[followed.assigned])


class Words:
    """What was answered anywhere, each word once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._number: dict[str, int] = {}

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in the order of their numbers."""
        return tuple(self._number)

    def numbers(self, step: int, tokens: Ints) -> Ints:
        """Return the number of the word of each token of a step, (N,); `UNKNOWN` stays."""
        kinds, place = np.unique(tokens, return_inverse=True)
        known = kinds[kinds != UNKNOWN]
        words = self.source.words(step, known)
        of_known = [self._number.setdefault(word, len(self._number)) for word in words]
        of_kind = np.full(len(kinds), UNKNOWN)
        of_kind[kinds != UNKNOWN] = of_known
        return of_kind[place]
