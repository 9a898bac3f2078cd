"""Read and write the recorded courses of training, and check that they are of these settings."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common import ROOT
from reference import Recipe

from tasklens.core.files import write_file
from tasklens.data.dataset import Dataset
from tasklens.models.gpt2 import make_model
from tasklens.models.training import Trainer
from tasklens.runs.settings import TrainingRunSettings

COURSES = ROOT / "benchmarks" / "courses.json"
#: A seed on which no setting of either side was chosen.
SEED = 6
#: Settings that change no more than the rounding, and so no course.
ROUNDING = {"precision", "device", "threads"}
#: Settings of our rows and of our loss, which the reference does not use.
OUR_OWN = {"instructions_per_step", "inputs_per_row", "loss", "output_weight"}


@dataclass
class Course:
    """Course of one side's training.

    Attributes
    ----------
    settings : dict
        Those of the data, of the network and of its training.
    batch_size : int
        Instances per step.
    form : str
        Attention and precision.
    looks : {step: accuracy}
    recorded : dict
        The machine, the date, the versions and the commit, as `common.machine` describes them.
    """

    settings: dict[str, Any]
    batch_size: int
    form: str = ""
    looks: dict[int, float] = field(default_factory=dict)
    recorded: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of steps of the whole schedule."""
        return int(self.settings["train"]["steps"])

    @property
    def is_finished(self) -> bool:
        """Return whether the schedule came to its end."""
        return self.steps in self.looks

    def steps_to(self, goal: float) -> int | None:
        """Return the step of the first look at or above an accuracy, or None."""
        return next((step for step, accuracy in self.looks.items() if accuracy >= goal), None)


def expected_ours(settings: TrainingRunSettings, dataset: Dataset) -> Course:
    """Return our course without looks, with which a recorded one is compared."""
    model = make_model(dataset, settings.model, seed=settings.seed)
    batch = next(Trainer(model, dataset, settings.train, settings.seed).batches())
    return Course(_dump(settings, ROUNDING), batch.inputs.numel())


def expected_reference(settings: TrainingRunSettings, recipe: Recipe) -> Course:
    """Return the reference's course without looks, with which a recorded one is compared."""
    return Course(_dump(recipe.applied(settings), ROUNDING | OUR_OWN), recipe.batch_size)


def _dump(settings: TrainingRunSettings, without: set[str]) -> dict[str, Any]:
    dump = settings.model_dump(mode="json", include={"seed", "tasks", "data", "model", "train"})
    dump["train"] = {key: value for key, value in dump["train"].items() if key not in without}
    return dump


def read(file: Path) -> dict[str, Course]:
    """Return the courses of a file, {side: course}; none if there is no file."""
    content = json.loads(file.read_text()) if file.exists() else {}
    courses = {name: Course(**course) for name, course in content.items()}
    for course in courses.values():
        course.looks = {int(step): accuracy for step, accuracy in course.looks.items()}
    return courses


def write(file: Path, name: str, course: Course) -> None:
    """Put one side's course into the file."""
    courses = {key: asdict(value) for key, value in (read(file) | {name: course}).items()}
    write_file(file, f"{json.dumps(courses, indent=1)}\n".encode())


def checked(file: Path, wanted: dict[str, Course]) -> dict[str, Course]:
    """Return the recorded courses of some sides, if they are whole and of these settings."""
    courses = read(file)
    for name, course in wanted.items():
        again = f"python benchmarks/accuracy.py --record {name}"
        known = courses.get(name)
        if known is None or not known.is_finished:
            raise SystemExit(f"{file}: no whole course of {name}: record it by {again}")
        if (known.settings, known.batch_size) != (course.settings, course.batch_size):
            raise SystemExit(f"{file}: {name} has other settings now: record it by {again}")
    return courses
