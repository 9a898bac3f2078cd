"""Measure the time to a validation accuracy of 0.9 on the data of the `default` preset.

Both sides take steps of the same number of instances, with the same optimiser, schedule and
initialisation: ours 24 instructions with all their inputs, the reference as many instances at
random, shuffled anew in every epoch. The accuracy is that of the output on a fixed sample of split
val; the time to compute it does not count.

The number of steps is recorded in a file once, because the reference takes an hour or two. The
seconds per step depend on how busy the machine is, so both sides are timed in turn in one process.
The ratio is that of the products.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from common import Report, Result, begin, parser, settings_of
from reference import Reader, ReferenceTrainer, Sequences, best_form, sequences
from training import time_steps

from tasklens.core.seeds import stream
from tasklens.data.synthetic import Dataset, make_dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.gpt2 import make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.training import Trainer
from tasklens.runs.settings import TrainingRunSettings

SAMPLE = 1000


@dataclass
class Course:
    """Course of the training of one side.

    Attributes
    ----------
    goal : float
        The accuracy to reach.
    reached : bool
        Whether the accuracy was reached; if not, `steps` is where it was stopped.
    steps : int
    seconds : float
        Of those steps, by the machine as it was then.
    accuracies : list of (step, accuracy)
    """

    goal: float = 0.9
    reached: bool = False
    steps: int = 0
    seconds: float = 0.0
    accuracies: list[tuple[int, float]] = field(default_factory=list)


class Side(Protocol):
    """Training of one side."""

    def step(self) -> None:
        """Take a step."""
        ...

    def accuracy(self) -> float:
        """Return the share of the sample's outputs that are hit."""
        ...


class Ours:
    """Training by tasklens."""

    def __init__(self, settings: TrainingRunSettings, dataset: Dataset) -> None:
        model = make_model(dataset, settings.model, seed=settings.seed)
        self.trainer = Trainer(model, dataset, settings.train, settings.seed)
        self.batches = self.trainer.batches()
        index = _sample(dataset)
        prompts = dataset.prompts("val")
        self.prompts = Prompts(prompts.ids[index], prompts.position[index])
        self.output = dataset.splits["val"].output[index]

    def step(self) -> None:
        """Take a step."""
        self.trainer.take_step(next(self.batches))

    def accuracy(self) -> float:
        """Return the share of the sample's outputs that are hit."""
        got = harvest(GPT2Subject(self.trainer.model), self.prompts, names=())
        return float((got.answer == self.output).mean())


class Theirs:
    """Training by the reference, on batches of as many instances."""

    def __init__(self, settings: TrainingRunSettings, dataset: Dataset) -> None:
        self.trainer = ReferenceTrainer(settings, dataset, best_form(settings, dataset).form)
        train = dataset.splits["train"]
        per_instruction = len(train) // len(set(train.instruction.tolist()))
        self.batches: Iterator[Any] = self.trainer.batches(
            settings.train.instructions_per_step * per_instruction
        )
        index = _sample(dataset)
        plain = sequences(dataset, "val")
        self.sample = Sequences(plain.ids[index], plain.length[index])
        self.output = dataset.splits["val"].output[index]

    def step(self) -> None:
        """Take a step."""
        self.trainer.take_step(next(self.batches))

    def accuracy(self) -> float:
        """Return the share of the sample's outputs that are hit."""
        _, answer = Reader(self.trainer.model, 256).harvest(self.sample)
        return float((answer == self.output).mean())


SIDES: dict[str, Callable[[TrainingRunSettings, Dataset], Side]] = {
    "ours": Ours,
    "reference": Theirs,
}


def _sample(dataset: Dataset) -> Any:
    n = len(dataset.splits["val"])
    return stream(0, "benchmark accuracy").choice(n, SAMPLE, replace=False)


def follow(
    side: Side,
    name: str,
    settings: TrainingRunSettings,
    goal: float,
    every: int,
    max_seconds: float,
) -> Course:
    """Train until the accuracy is reached, the schedule ends or the time is over."""
    course = Course(goal)
    for step in range(1, settings.train.steps + 1):
        began = time.perf_counter()
        side.step()
        course.seconds += time.perf_counter() - began
        course.steps = step
        if step % every == 0 or step == settings.train.steps or course.seconds > max_seconds:
            accuracy = side.accuracy()
            course.accuracies.append((step, round(accuracy, 4)))
            print(f"  {name}, step {step}: {accuracy:.3f}, {course.seconds:.0f} s", flush=True)
            course.reached = accuracy >= goal
            if course.reached or course.seconds > max_seconds:
                break
    return course


def compare(
    courses: dict[str, Course],
    settings: TrainingRunSettings,
    dataset: Dataset,
    goal: float,
    report: Report,
) -> None:
    """Add the row: recorded steps, times the seconds per step of both sides, timed in turn."""
    ours, theirs = courses["ours"], courses["reference"]
    times = time_steps(settings, dataset, rounds=5)
    mine, other = ours.steps * times.ours, theirs.steps * times.theirs
    bound = "" if theirs.reached else "; a lower bound: the reference had not reached it"
    if not ours.reached:
        bound += "; WE DID NOT REACH IT"
    report.add(
        Result(
            what=f"time to accuracy {goal:g} on unseen pairs, default preset",
            against=f"GPT2LMHeadModel, {times.choice.form}",
            ours=mine,
            theirs=other,
            unit="s",
            ratio=other / mine,
            note=f"ours: {ours.steps} steps at {times.ours:.3g} s; reference: {theirs.steps} "
            f"steps at {times.theirs:.3g} s{bound}; {times.arithmetic}",
        )
    )


def main() -> None:
    """Run from the command line."""
    arguments = _options().parse_args()
    report = begin(arguments)
    settings = settings_of("default")
    dataset = make_dataset(settings.tasks, settings.data, seed=settings.seed)
    file: Path | None = arguments.courses
    known = json.loads(file.read_text()) if file and file.exists() else {}
    courses = {name: Course(**course) for name, course in known.items()}
    courses = {name: c for name, c in courses.items() if c.goal == arguments.goal}
    for name, steps in (("ours", arguments.our_steps), ("reference", arguments.reference_steps)):
        if steps:
            courses[name] = Course(arguments.goal, reached=True, steps=steps)
    only = arguments.steps_only
    for name in [only] if only else [name for name in SIDES if name not in courses]:
        limit = float("inf")
        if name == "reference" and not only:
            limit = arguments.max_ratio * (courses["ours"].seconds or float("inf"))
        side = SIDES[name](settings, dataset)
        courses[name] = follow(side, name, settings, arguments.goal, arguments.every, limit)
        if file:
            written = {key: asdict(course) for key, course in courses.items()}
            file.write_text(json.dumps(written) + "\n")
    if not only:
        compare(courses, settings, dataset, arguments.goal, report)


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument("--goal", type=float, default=0.9)
    options.add_argument("--every", type=int, default=50, help="steps between two looks")
    options.add_argument("--max-ratio", type=float, default=12.0, help="stop the reference there")
    options.add_argument("--courses", type=Path, help="read from and record in this JSON file")
    options.add_argument("--steps-only", choices=list(SIDES), help="train this side, time nothing")
    options.add_argument("--our-steps", type=int, help="known already")
    options.add_argument("--reference-steps", type=int, help="known already")
    return options


if __name__ == "__main__":
    main()
