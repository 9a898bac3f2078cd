"""Part run of `make gpu`: the stages of a preset by the command line, with as many steps as fit.

The stages run one after another, so that each has a time and a use of the GPU of its own; `tasklens
run` measures beside training. What the whole preset would take is projected from them.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from gpu_part import Part, main, run_tasklens

from tasklens.models.lr_schedule import checkpoint_steps
from tasklens.runs.settings import TrainingRunSettings, load_settings

#: The share of the time that training and what follows it are planned to take.
PLANNED = 0.6
#: Seconds of starting Python, and of drawing, that no step changes.
FIXED = 25.0


class Costs(NamedTuple):
    """Seconds of what a run repeats."""

    step: float
    checkpoint: float
    """The harvest and the files."""
    measure: float
    """Measuring a checkpoint and its part of the report."""

    def train(self, steps: int, every: int) -> float:
        """Return the seconds of stage train."""
        return steps * self.step + len(checkpoint_steps(steps, every)) * self.checkpoint

    def run(self, steps: int, every: int) -> float:
        """Return the seconds of all stages."""
        n = len(checkpoint_steps(steps, every))
        return FIXED + self.train(steps, every) + n * self.measure


def whole_run(part: Part) -> None:
    """Run the stages, each by its command, and record the seconds of each."""
    settings = load_settings(part.preset)
    costs = known_costs(part)
    steps = fitting_steps(part, settings, costs)
    run = part.work / "run"
    changes = [
        "train.precision=auto",
        f"train.steps={steps}",
        f"train.warmup_steps={min(settings.train.warmup_steps, steps)}",
    ]
    options = [word for change in changes for word in ("--set", change)]
    commands = {
        "data": ["data", part.preset, "--device", part.device, "--out", str(run), *options],
        "train": ["train", str(run)],
        "measure": ["measure", str(run)],
        "plot": ["plot", str(run)],
        "verify": ["verify", str(run)],
        "report": ["report", str(run)],
    }
    stages: dict[str, Any] = {}
    try:
        for stage, command in commands.items():
            began = time.perf_counter()
            with part.window(stage):
                # 1: the findings do not all hold, which few steps need not give.
                run_tasklens(part, *command, accepted=(0, 1) if stage == "verify" else (0,))
            stages[stage] = {"wall_seconds": round(time.perf_counter() - began, 2)}
            part.record(stages=add_manifest(run, stages))
    finally:
        part.record(stages=add_manifest(run, stages), **progress(run))
    part.record(projection=project(settings, steps, stages, costs))


def known_costs(part: Part) -> Costs | None:
    """Return what part steps has timed; None if it lacks something."""
    known = part.earlier("steps")
    if not {"steps", "checkpoint", "plan"} <= known.keys():
        return None
    planned, timed = known["plan"], known["checkpoint"]
    later = sum(planned["seconds"][stage]["high"] for stage in ("measure", "report"))
    return Costs(
        step=min(each["seconds_per_step"] for each in known["steps"].values()),
        checkpoint=timed["harvest_seconds"] + timed["write_seconds"],
        measure=later / len(planned["checkpoints"]),
    )


def fitting_steps(part: Part, settings: TrainingRunSettings, costs: Costs | None) -> int:
    """Return the most steps, in whole checkpoints, that take the planned share of the time."""
    every, whole = settings.checkpoints.every, settings.train.steps
    choices: list[int] = [*range(every, whole, every), whole]
    if costs is None:
        part.record(steps=choices[0], why="part steps has not timed what a run repeats")
        return choices[0]
    fitting = [n for n in choices if costs.run(n, every) <= PLANNED * part.left]
    steps = max(fitting, default=choices[0])
    expected = round(costs.run(steps, every), 1)
    part.record(steps=steps, steps_of_the_preset=whole, expected_seconds=expected)
    return steps


def add_manifest(run: Path, stages: dict[str, Any]) -> dict[str, Any]:
    """Add what the manifest of the run records of each finished stage."""
    manifest = run / "manifest.json"
    marks = json.loads(manifest.read_text())["stages"] if manifest.exists() else {}
    keys = ("seconds", "precision", "threads", "device")
    for stage, mark in marks.items():
        stages.setdefault(stage, {}).update({key: mark[key] for key in keys if key in mark})
    return stages


def progress(run: Path) -> dict[str, Any]:
    """Return how far training got, also if it was cut off, and the size of the run."""
    metrics, scores = run / "metrics.jsonl", run / "scores.csv"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    files = [path for path in run.rglob("*") if path.is_file()] if run.exists() else []
    return {
        "steps_taken": len(lines),
        "last_step": json.loads(lines[-1]) if lines else None,
        "checkpoints": len(list((run / "states").glob("step-*"))),
        "bytes": sum(path.stat().st_size for path in files),
        "scores": scores.exists(),
    }


def project(
    settings: TrainingRunSettings, steps: int, stages: dict[str, Any], costs: Costs | None
) -> dict[str, Any]:
    """Return the seconds of the whole preset, from the measured stages of a shorter run.

    Training grows as its timed pieces do, or with the steps if none are known; what measures and
    shows grows with the checkpoints, and the rest not at all.
    """
    whole, every = settings.train.steps, settings.checkpoints.every
    n_whole, n = (len(checkpoint_steps(each, every)) for each in (whole, steps))
    train = costs.train(whole, every) / costs.train(steps, every) if costs else whole / steps
    factors = {"train": train, "measure": n_whole / n, "report": n_whole / n}
    seconds = {}
    for stage, times in stages.items():
        growing = times.get("seconds", 0.0)  # starting Python does not grow
        more = growing * (factors.get(stage, 1.0) - 1.0)
        seconds[stage] = round(times["wall_seconds"] + more, 1)
    return {
        "projected": steps < whole,
        "steps": [steps, whole],
        "checkpoints": [n, n_whole],
        "seconds": seconds,
        "together": round(sum(seconds.values()), 1),
    }


if __name__ == "__main__":
    main(__doc__, whole_run)
