"""Measure the time to a validation accuracy of 0.9 and of 0.98 on the data of the `default` preset.

Ours trains as the preset does, the reference by its own recipe (`reference.Recipe`) on instances
that are drawn at random. Each side's course is the accuracy of the output on a fixed sample of
split val, every 25 steps of its whole schedule; `--record` records it once, because the reference
takes most of an hour. The steps to an accuracy are those of the first look at or above it.

The seconds per step depend on how busy the machine is, so both sides are timed in turn in one
process. The ratio is that of the products; the time of the looks does not count.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from common import Report, Result, begin, machine, parser, settings_of
from courses import COURSES, SEED, Course, checked, expected_ours, expected_reference, write
from numpy.typing import NDArray
from reference import Form, Reader, Recipe, ReferenceTrainer, Sequences, best_form, sequences
from training import StepTimes, time_steps

from tasklens.core.files import write_file
from tasklens.core.seeds import stream
from tasklens.core.workers import default_workers
from tasklens.data.dataset import Dataset
from tasklens.data.synthetic import make_dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.gpt2 import make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.training import Trainer
from tasklens.runs.settings import TrainingRunSettings

GOALS = (0.9, 0.98)
TARGET = ">= 10"
#: Instances of the sample, and steps between two looks at them.
SAMPLE, EVERY = 2000, 25


class Side(Protocol):
    """Training of one side."""

    form: str

    def step(self) -> None:
        """Take a step."""
        ...

    def accuracy(self) -> float:
        """Return the share of the sample's outputs that are hit."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        ...


class Ours:
    """Training by tasklens."""

    def __init__(
        self, settings: TrainingRunSettings, dataset: Dataset, state: dict[str, Any] | None
    ) -> None:
        model = make_model(dataset, settings.model, seed=settings.seed)
        self.trainer = Trainer(model, dataset, settings.train, settings.seed)
        if state:
            self.trainer.precision = state["precision"]
            self.trainer.load_state(state["tensors"])
        self.form = self.trainer.choose_precision()
        self.batches = self.trainer.batches()
        index, self.output = sample(dataset)
        prompts = dataset.prompts("val")
        self.prompts = Prompts(prompts.ids[index], prompts.position[index])

    def step(self) -> None:
        """Take a step."""
        self.trainer.take_step(next(self.batches))

    def accuracy(self) -> float:
        """Return the share of the sample's outputs that are hit."""
        got = harvest(GPT2Subject(self.trainer.model), self.prompts, names=())
        return float((got.answer == self.output).mean())

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {"precision": self.trainer.precision, "tensors": self.trainer.state()}


class Theirs:
    """Training by the reference."""

    def __init__(
        self,
        settings: TrainingRunSettings,
        dataset: Dataset,
        state: dict[str, Any] | None,
        batch_size: int,
        threads: int,
    ) -> None:
        form = Form(**state["form"]) if state else best_form(settings, dataset).form
        torch.set_num_threads(threads)  # timing the forms takes all cores
        self.trainer, self.form = ReferenceTrainer(settings, dataset, form), str(form)
        if state:
            self.trainer.load_state(state)
        batches: Iterator[NDArray[np.int64]] = self.trainer.batches(batch_size)
        self.batches = islice(batches, self.trainer.step, None)
        index, self.output = sample(dataset)
        plain = sequences(dataset, "val")
        self.sample = Sequences(plain.ids[index], plain.length[index])

    def step(self) -> None:
        """Take a step."""
        self.trainer.take_step(next(self.batches))

    def accuracy(self) -> float:
        """Return the share of the sample's outputs that are hit."""
        _, answer = Reader(self.trainer.model, 256).harvest(self.sample)
        return float((answer == self.output).mean())

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return self.trainer.state()


def sample(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the sample of split val, and their outputs; both (n,)."""
    output = dataset.splits["val"].output
    n = min(SAMPLE, len(output))
    index = stream(0, "benchmark accuracy").choice(len(output), n, replace=False)
    return index, output[index]


def record(
    name: str, settings: TrainingRunSettings, dataset: Dataset, course: Course, file: Path
) -> None:
    """Train one side to the end of its schedule, and record its course as it goes.

    If this is stopped, the same command resumes at the last look, from the file `SIDE.pt` beside
    the courses.
    """
    resumable = file.with_name(f"{file.stem}.{name}.pt")
    state = torch.load(resumable, weights_only=True) if resumable.exists() else None
    if state:
        begun = Course(**state["course"])
        if (begun.settings, begun.batch_size) != (course.settings, course.batch_size):
            raise SystemExit(f"{resumable}: of other settings: remove it to train anew")
        course = begun
    side: Side = (
        Ours(settings, dataset, state and state["side"])
        if name == "ours"
        else Theirs(
            settings, dataset, state and state["side"], course.batch_size, torch.get_num_threads()
        )
    )
    course.form = side.form
    course.recorded = machine() | {"threads": str(torch.get_num_threads())}
    for step in range(max(course.looks, default=0) + 1, course.steps + 1):
        side.step()
        if step % EVERY and step != course.steps:
            continue
        course.looks[step] = round(side.accuracy(), 4)
        print(f"  {name}, step {step}: {course.looks[step]:.3f}", flush=True)
        content = io.BytesIO()
        torch.save({"course": asdict(course), "side": side.state()}, content)
        write_file(resumable, content.getvalue())
        write(file, name, course)
    resumable.unlink(missing_ok=True)


def compare(courses: dict[str, Course], goal: float, times: StepTimes, report: Report) -> None:
    """Add the row of one accuracy: recorded steps, times the seconds per step of both sides."""
    ours, theirs = courses["ours"], courses["reference"]
    ours_to, theirs_to = ours.steps_to(goal), theirs.steps_to(goal)
    our_steps, their_steps = ours_to or ours.steps, theirs_to or theirs.steps
    their_step = times.theirs(theirs.batch_size)
    notes = [
        f"ours: {our_steps} steps of {ours.batch_size} instances at {times.ours:.3g} s",
        f"reference: {their_steps} steps at {their_step:.3g} s",
        times.arithmetic(theirs.batch_size),
    ]
    if theirs_to is None:
        notes.append("A LOWER BOUND: the reference never reached it")
    if ours_to is None:
        notes.append("WE NEVER REACHED IT")
    mine, other = our_steps * times.ours, their_steps * their_step
    report.add(
        Result(
            what=f"time to accuracy {goal:g} on unseen pairs, default preset",
            against=f"GPT2LMHeadModel, {times.choice.form}, random batches",
            ours=mine,
            theirs=other,
            unit="s",
            ratio=other / mine if ours_to else 0.0,
            target=TARGET,
            note="; ".join(notes),
        )
    )


def main() -> None:
    """Run from the command line."""
    arguments = _options().parse_args()
    report = begin(arguments)
    torch.set_num_threads(arguments.threads)
    settings = settings_of(arguments.preset, seed=arguments.seed)
    recipe = Recipe.parsed(arguments.recipe)
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    wanted = {
        "ours": expected_ours(settings, dataset),
        "reference": expected_reference(settings, recipe),
    }
    name = arguments.record
    if name:
        own = recipe.applied(settings) if name == "reference" else settings
        record(name, own, dataset, wanted[name], arguments.courses)
        return
    courses = checked(arguments.courses, wanted)
    times = time_steps(settings, dataset, arguments.rounds)
    for goal in arguments.goals:
        compare(courses, goal, times, report)


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument("--record", choices=["ours", "reference"], help="train this side alone")
    options.add_argument("--courses", type=Path, default=COURSES, help="the file of the courses")
    options.add_argument("--goals", type=float, nargs="+", default=GOALS, help="accuracies")
    options.add_argument("--rounds", type=int, default=5, help="of timing")
    options.add_argument("--seed", type=int, default=SEED)
    options.add_argument("--preset", default="default")
    options.add_argument("--threads", type=int, default=default_workers(), help="of --record")
    options.add_argument(
        "--recipe", nargs="+", default=[], metavar="KEY=VALUE", help="change the reference's"
    )
    return options


if __name__ == "__main__":
    main()
