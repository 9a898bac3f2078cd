"""Stage report: the view of a run, with its frames, and the page of one run or several."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy

from tasklens.core.errors import InputError
from tasklens.core.files import write_file
from tasklens.core.progress import status
from tasklens.findings.verdict import Verdict
from tasklens.report.page import GENERATOR, page
from tasklens.report.view import MAPS, PLANES, UNKNOWN, SplitView, View
from tasklens.runs.edits_of_run import edits_view
from tasklens.runs.frame_maker import frames_name, has_frames, index_of, make_frames, points_name
from tasklens.runs.load_run import load_run
from tasklens.runs.run import Run
from tasklens.runs.run_arrays import Ints
from tasklens.runs.verify import difference, verify
from tasklens.scoring.cluster_tracking import Followed, follow
from tasklens.scoring.score_table import at_position, main_scores


def check_reportable(runs: Sequence[Run]) -> None:
    """Raise InputError if a run is given twice, or is not measured."""
    known: dict[Path, Path] = {}
    for path in (run.directory.path for run in runs):
        if path.resolve() in known:
            raise InputError(f"{path} is {known[path.resolve()]}, given twice; give each run once")
        known[path.resolve()] = path
    for run in runs:
        run.need("measure")


def verdicts_of(runs: Sequence[Run]) -> list[Verdict | None]:
    """Return one verdict if the runs are replicates, otherwise one for each.

    None stands for a run that has no layers to judge.
    """
    judged = [run for run in runs if run.has_layers]
    if len(judged) == len(runs) > 1 and difference(judged) is None:
        return [verify(judged)]
    return [verify([run]) if run.has_layers else None for run in runs]


def write_report(
    runs: Sequence[Run], verdicts: Sequence[Verdict | None], command: str, out: Path | None = None
) -> Path:
    """Write the page of one run into its directory, or that of several, and return its path.

    The caller has locked the directories; frames that are missing are made and kept. The verdicts
    are one for all runs together, or one for each. The page shows the command. By default the page
    of several runs is ``report.html`` in the working directory.
    """
    for run in runs:
        make_frames(run)
    status("report: writing the page")
    views = [
        [view_of(run, *at) for at in itertools.product(run.positions, run.families or ("",))]
        for run in runs
    ]
    content = page(views, verdicts, command)
    if out is None and len(runs) == 1:
        directory = runs[0].directory
        directory.write(directory.report, content)
        return directory.report
    path = out or Path("report.html")
    write_file(path, content, own=b"" if out else GENERATOR)
    return path


def load_view(
    run: Run | Path | str, position: str | None = None, family: str | None = None
) -> View:
    """Read what there is to look at in a run directory; make the frames of its maps if missing.

    Parameters
    ----------
    run : Run or path
        A measured run. The frames, which take a while the first time, are kept there.
    position : str, optional
        One of the measured positions; by default the first.
    family : str, optional
        One of the families of tasks, if there are several; by default the first.

    Returns
    -------
    View

    Raises
    ------
    InputError
        If it is not a run directory, is not measured, has no such position, or a file is missing or
        damaged.
    """
    run = run if isinstance(run, Run) else load_run(run)
    run.need("measure")
    if not has_frames(run):
        with run.directory.locked():
            make_frames(run)
    return view_of(run, run.position(position), run.family(family))


#: Parts of the instances that a view has, if they are known.
SHOWN = "task", "distribution", "input", "output"


def view_of(run: Run, position: str, family: str = "") -> View:
    """Return the view of a run whose frames are made, at one of its positions, of one family."""
    run.check_files("measure")
    frames = safetensors.numpy.load(run.directory.read(run.directory.frames))
    clusters = [run.clusters(step) for step in run.steps]
    instances, scores = run.instances_at(position), run.score_table(all_k=True)
    numbers, names = _renumbered(run, position)
    splits, answers = {}, AnswerNames(run)
    for split, every in instances.items():
        _, rows, known = every.of_family(family)
        points = frames[points_name(split, family)]
        shown = index_of(run, split, family)[points]  # among the instances of the split
        followed = {}
        for state in run.state_names:
            name = run.cell(split, state, "raw", position).name("labels")
            labels = np.stack([arrays[name][0][rows] for arrays in clusters]).astype(int)
            followed[state] = _follow(run.steps, labels, known.task, numbers["task"])
        correct = [arrays.get(f"{split}/correct") for arrays in clusters]
        all_known = all(each is not None and (each >= 0).all() for each in correct)
        texts = run.texts(split)
        frames_of = {
            state: frames_name(run, split, state, position, family) for state in run.state_names
        }
        splits[split] = SplitView(
            parts={
                part: np.searchsorted(each, values[points])
                for part, each in numbers.items()
                if (values := getattr(known, part)) is not None
            },
            instruction=tuple(texts[i] for i in shown),
            answer=np.stack(
                [
                    answers.numbers(step, arrays[f"{split}/answer"][shown].astype(np.int64))
                    for step, arrays in zip(run.steps, clusters, strict=True)
                ]
            ),
            right=np.stack([each[shown] > 0 for each in correct if each is not None])
            if all_known
            else None,
            maps={
                (each, state): frames[f"{name}/{each}"]
                for each in MAPS
                for state, name in frames_of.items()
            },
            shown_variance={
                (each, state): frames[f"{name}/{each}_variance"]
                for each in PLANES
                for state, name in frames_of.items()
            },
            shown_between={
                state: frames[f"{name}/centroids_between"] for state, name in frames_of.items()
            },
            assigned={state: each.assigned[:, points] for state, each in followed.items()},
            followed=followed,
        )
    return View(
        run=run.name,
        seed=run.settings.seed,
        kind=run.kind,
        position=position,
        steps=run.steps,
        states=run.state_names,
        splits=splits,
        names=names,
        answers=answers.names,
        family=family,
        table=at_position(main_scores(scores, family), position),
        means=at_position(main_scores(scores), position) if family else None,
        world=run.overview(),
        models=run.models,
        settings=run.settings.toml(),
        manifest=run.directory.read_manifest(),
        edits=edits_view(run, frames, position, family),
        step_names=run.step_names,
    )


def _renumbered(run: Run, position: str) -> tuple[dict[str, Ints], dict[str, tuple[str, ...]]]:
    """Return by part the values that occur in any split, and what they are called.

    Distributions are a part of all splits if a task has several in one of them.
    """
    every = list(run.instances_at(position).values())
    known_parts = {part for known in every for part in known.parts}
    each = {part: [getattr(known, part) for known in every] for part in SHOWN}
    numbers = {
        part: np.unique(np.concatenate([x for x in values if x is not None]))
        for part, values in each.items()
        if part in known_parts
    }
    names = {
        part: tuple(run.names_at(position)[part][int(n)] for n in values)
        for part, values in numbers.items()
    }
    return numbers, names


def _follow(steps: Sequence[int], labels: Ints, task: Ints, tasks: Ints) -> Followed:
    """Follow the tasks of a split by their places among all `tasks`, of which it may lack some."""
    followed = follow(steps, labels, task)
    places = np.searchsorted(tasks, followed.tasks)
    left_over = max(0, int(followed.assigned.max()) + 1 - len(places))
    number = np.append(places, len(tasks) + np.arange(left_over))
    return dataclasses.replace(followed, tasks=places, assigned=number[followed.assigned])


class AnswerNames:
    """The answers at all checkpoints, each name once."""

    def __init__(self, run: Run) -> None:
        self.run, self._number = run, dict[str, int]()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of their numbers."""
        return tuple(self._number)

    def numbers(self, step: int, tokens: Ints) -> Ints:
        """Return the number of the name of each token of a step, (N,); `UNKNOWN` stays."""
        distinct, index = np.unique(tokens, return_inverse=True)
        known = distinct[distinct != UNKNOWN]
        names = self.run.token_names(step, known)
        numbers = np.full(len(distinct), UNKNOWN)
        numbers[distinct != UNKNOWN] = [
            self._number.setdefault(name, len(self._number)) for name in names
        ]
        return numbers[index]
