"""Run directories to views: what was measured, and the frames of its maps, made where missing."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from tqdm import tqdm

from tasklens.clustering.map_frames import Frame, FrameJob, common_basis, frame

from tasklens.scoring.cluster_tracking import Followed, follow
from tasklens.runs.measuring import load_clusters
from tasklens.core.workers import Processes, default_workers
from tasklens.core.seeds import derived_seed, stream
from tasklens.core.files import digest
from tasklens.runs.sources import Source, open_source
from tasklens.report.view import MAPS, UNKNOWN, Floats, Ints, SplitView, View

#: So many pairs of points take about as long as processes do to start.
FEW_PAIRS = 3e7


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
    if not source.run.finished("frames", _inputs(source)):
        with source.run.locked():
            make_frames(source)
    return view_of(source)


def _inputs(source: Source) -> str:
    table = source.settings.model_dump()
    return digest([source.settings.seed, table["report"], source.made_from])


def make_frames(source: Source) -> None:
    """Stage frames: place the shown points of every split, state and checkpoint in the plane.

    States are read one by one, as the workers take them.
    """
    run, steps = source.run, source.steps
    with run.stage("frames", _inputs(source)) as finish:
        if finish is None:
            return
        chosen = {split: _chosen(source, split) for split in source.instances}
        bases = {
            (split, state): common_basis(xs[split][which])
            for state, xs in source.read(steps[-1])
            for split, which in chosen.items()
        }
        found: dict[str, list[Any]] = {}
        before: dict[tuple[str, str], Floats] = {}
        bar = tqdm(desc="frames", unit="frame", total=len(bases) * len(steps), disable=None)
        with Processes(_processes(source, chosen)) as workers, bar:
            for step in steps:
                batches = _jobs(source, step, chosen, bases, before)
                made: Iterator[Frame]
                if step == steps[0]:  # a state needs the frame of the one below
                    made = (one for batch in batches for one in workers.map(frame, batch))
                else:
                    made = workers.map(frame, itertools.chain.from_iterable(batches))
                for (split, state), y, projected, share in made:
                    before[split, state] = y
                    for what, value in (("tsne", y), ("pca", projected), ("share", share)):
                        found.setdefault(f"{split}/{state}/{what}", []).append(value)
                    bar.update()
        tensors = {name: np.stack(values) for name, values in found.items()}
        tensors |= {f"{split}/points": which for split, which in chosen.items()}
        run.write(run.frames, safetensors.numpy.save(tensors))
        finish([run.frames])


def _jobs(
    source: Source,
    step: int,
    chosen: dict[str, Ints],
    bases: dict[tuple[str, str], Floats],
    before: dict[tuple[str, str], Floats],
) -> Iterator[list[FrameJob]]:
    """Yield the frames to be made of a step, those of a state at a time, as they are asked for.

    The first checkpoint's layers start one from the other, so that points keep their places on the
    way up; a layer's other frames start from its own before.
    """
    below: str | None = None
    for state, xs in source.read(step):
        starts = below if step == source.steps[0] else state
        yield [
            FrameJob(
                (split, state),
                xs[split][which],
                bases[split, state],
                before[split, starts] if starts else None,
                source.settings.report.perplexity,
                source.settings.report.stay,
                derived_seed(source.settings.seed, "frames", split, state, step),
            )
            for split, which in chosen.items()
        ]
        below = state


def _processes(source: Source, chosen: dict[str, Ints]) -> int:
    """Return how many processes are worth starting."""
    pairs = sum(len(which) ** 2 for which in chosen.values())
    few = pairs * len(source.states) * len(source.steps) < FEW_PAIRS
    return 1 if few else source.settings.workers or default_workers()


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
        settings=source.settings.toml(),
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
