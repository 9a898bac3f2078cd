"""Compare two runs: settings, final scores, and findings; or the checkpoints of one run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.names import UNTRAINED
from tasklens.findings.compare import ComparedSteps, Comparison, compare_curves
from tasklens.findings.curves import Curves
from tasklens.findings.verdict import Verdict, judge
from tasklens.runs.load_run import load_run
from tasklens.runs.run import Run
from tasklens.runs.verify import curves_of


@dataclass(frozen=True)
class ComparedRuns:
    """Two runs, side by side."""

    paths: tuple[Path, Path]
    settings: dict[str, tuple[Any, Any]]
    """The settings that differ, by key; None if a kind of run does not have the setting."""
    scores: Comparison
    verdicts: tuple[Verdict | None, Verdict | None]
    """None for a run without the hidden states that the findings need."""


def compare_runs(first: Path, second: Path) -> ComparedRuns:
    """Compare the final scores, the settings and the findings of two run directories.

    InputError if one of them is no measured run, or if they share no split or hidden state.
    """
    runs = load_run(first), load_run(second)
    for run in runs:
        run.need("measure")
    curves = curves_of(runs[0]), curves_of(runs[1])
    scores = compare_curves(*curves, paired=_same_instances(*runs))
    verdicts = (_verdict(runs[0], curves[0]), _verdict(runs[1], curves[1]))
    return ComparedRuns((first, second), _different(*runs), scores, verdicts)


def compare_steps(
    run: Run, steps: Sequence[int | str] = (), position: str | None = None
) -> list[ComparedSteps]:
    """Compare checkpoints of a run with each other, on the same prompts.

    Both are resampled together. By default these are the stages of one model; a single model and
    its untrained twin; or the first and the last checkpoint of a series.

    Parameters
    ----------
    run : Run
        A measured run.
    steps : sequence of int or str
        Steps, or names of stages, in the order of the comparison.
    position : str, optional
        A measured position; by default the first.

    Returns
    -------
    list of ComparedSteps
        Each with the one before it; of three or more then the last with the first.

    Raises
    ------
    InputError
        If the run is not measured, has no such checkpoint, or if there are not two.

    Examples
    --------
    >>> import tasklens as tl
    >>> (pair,) = tl.compare_steps(tl.load_run("runs/smoke"))
    >>> pair.names
    ('step 0', 'step 16')
    """
    run.need("measure")
    chosen = [run.find_step(step) for step in steps] or _compared(run)
    path = run.directory.path
    for i, step in enumerate(chosen):
        if step in chosen[:i]:
            raise InputError(f"{path}: {run.step_title(step)} is given twice; give each step once")
    if len(chosen) < 2:
        raise InputError(f"{path}: has a single checkpoint to compare: should be two or more")
    pairs = [*pairwise(chosen), *([(chosen[0], chosen[-1])] if len(chosen) > 2 else [])]
    curves = run.curves(position)
    compared = []
    for pair in pairs:
        names = run.step_title(pair[0]), run.step_title(pair[1])
        both = [curves.at(step, run=name) for step, name in zip(pair, names, strict=True)]
        if run.same_model(*pair):
            # One choice among near-best partitions stands for both: it is the same choice.
            both = [replace(each, choices=()) for each in both]
        compared.append(ComparedSteps(names, pair, compare_curves(*both, paired=True)))
    return compared


def _compared(run: Run) -> list[int]:
    """Return the steps that are compared by default."""
    if run.is_series:
        return [*dict.fromkeys([run.steps[0], run.steps[-1]])]
    stages = [step for step in run.steps if run.step_names[step] != UNTRAINED]
    return stages if len(stages) > 1 else list(run.steps)


def _verdict(run: Run, curves: Curves) -> Verdict | None:
    return judge([curves]) if run.has_layers else None


def _different(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which results may differ and that are not equal, by key."""
    tables = []
    for run in (first, second):
        declared = run.settings.declared()
        flat = {k: v for k, v in run.settings.flat().items() if declared[k].stage != "nothing"}
        tables.append({"kind": run.kind} | flat)
    keys = dict.fromkeys([*tables[0], *tables[1]])
    return {
        key: (tables[0].get(key), tables[1].get(key))
        for key in keys
        if tables[0].get(key) != tables[1].get(key)
    }


def _same_instances(first: Run, second: Run) -> bool:
    """Return whether both runs resample the same instances in the same way."""
    return (
        first.settings.seed == second.settings.seed
        and first.instances_by_split.keys() == second.instances_by_split.keys()
        and all(
            np.array_equal(known.task, second.instances_by_split[split].task)
            and np.array_equal(known.unit, second.instances_by_split[split].unit)
            and first.texts(split) == second.texts(split)
            for split, known in first.instances_by_split.items()
        )
    )
