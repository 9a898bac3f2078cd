"""Tables of long training: scores at the peak of the ARI and at the end."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from tables.markdown import MISSING, markdown, named_seeds, spread
from tables.sweep_points import PAIRS, SEEN

#: Columns of the file with their titles. The last ones are of edits, which few checkpoints have.
TITLES = {
    "ari": "ARI",
    "separation": "separation",
    "probe_task": "linear probe",
    "neighbours_task": "10 neighbours",
    "accuracy": "accuracy",
    "shift": "answers that follow a shift",
    "random": "answers that follow random directions",
    "patch": "answers that follow a donor's state",
}
SETTING = "tasks.n_outputs"


class Courses:
    """The courses that `docs/scripts/rise_courses.py` prints, by setting and seed."""

    def __init__(self, path: Path) -> None:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        self.values = {
            (int(r[SETTING]), int(r["seed"]), r["split"], r["layer"], int(r["step"]), name): float(
                r[name]
            )
            for r in rows
            for name in TITLES
            if r[name]
        }
        self.settings = sorted({key[0] for key in self.values})
        self.seeds = sorted({key[1] for key in self.values})
        self.layers = sorted({key[3] for key in self.values}, key=lambda x: (x != "embed", x))

    def course(
        self, outputs: int, seed: int, layer: str, name: str, split: str = PAIRS
    ) -> dict[int, float]:
        """Return a score by step, at the checkpoints that have it."""
        wanted = (outputs, seed, split, layer, name)
        steps = {k[4]: v for k, v in self.values.items() if (*k[:4], k[5]) == wanted}
        return dict(sorted(steps.items()))

    def peak(self, outputs: int, seed: int, layers: Sequence[str]) -> tuple[str, int] | None:
        """Return the layer and the step of the highest ARI on the training subset."""
        values = {
            (x, step): value
            for x in layers
            for step, value in self.course(outputs, seed, x, "ari", SEEN).items()
        }
        return max(values, key=lambda key: values[key]) if values else None

    def change(
        self, outputs: int, seed: int, name: str, layers: Sequence[str]
    ) -> tuple[float, float, str]:
        """Return a score at the peak of the ARI and at the end, and where and when the peak is.

        A score of edits is that of the checkpoint with edits that is nearest to the peak.
        """
        peak = self.peak(outputs, seed, layers)
        course = self.course(outputs, seed, peak[0], name) if peak else {}
        if peak is None or not course:
            return math.nan, math.nan, MISSING
        layer, step = peak
        nearest = min(course, key=lambda s: abs(s - step))
        return course[nearest], course[max(course)], f"{layer} at {nearest:,}"


def rise_table(courses: Courses) -> str:
    """Return each score at the peak of the ARI, at the end, and the fall, on unseen pairs."""
    rows = []
    last = courses.layers[-1]
    for outputs in courses.settings:
        for title, layers in (("best layer", courses.layers), (last, [last])):
            for name, score in TITLES.items():
                each = [courses.change(outputs, seed, name, layers) for seed in courses.seeds]
                peaks, ends = [x for x, _, _ in each], [x for _, x, _ in each]
                falls = [a - b for a, b in zip(peaks, ends, strict=True)]
                at = ", ".join(text for _, _, text in each)
                cells = (spread(peaks), spread(ends), spread(falls))
                rows.append([str(outputs), title, score, at, *cells])
    outputs_of = f"outputs, {named_seeds(courses.seeds)}"
    head = [outputs_of, "layer", "score", "peak of the ARI", "at the peak", "at the end", "fall"]
    return markdown(head, rows)


def fall(courses: Courses, outputs: int, name: str) -> list[float]:
    """Return how much a score of the layer with the highest ARI falls from its peak, by seed."""
    each = [courses.change(outputs, seed, name, courses.layers) for seed in courses.seeds]
    return [peak - end for peak, end, _ in each]
