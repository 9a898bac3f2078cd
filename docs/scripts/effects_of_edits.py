"""Print the effects of edits in runs: `python docs/scripts/effects_of_edits.py RUN ... > FILE.csv`.

The runs differ in their seed only, and `tasklens intervene` has edited their states. Each line has
one effect of one hidden state: the mean over the runs, its 95 % interval over runs and
instructions, and the number of each run. Beside the effects stand the ARI and the accuracy of the
linear probe. The edits of Figure 3 and the repair of errors are there at every checkpoint, all
others at the last one. Figure 3 of the runs is drawn to docs/images/figure3.png.
"""

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tasklens.findings.curves import Curves
from tasklens.findings.use import shared
from tasklens.report.figure3 import figure3
from tasklens.report.style import render
from tasklens.runs.load_run import load_run
from tasklens.scoring.bootstrap import Floats, interval

#: The edits and metrics that are followed through training.
COURSES = {
    ("shift", "becomes"),
    ("shift", "stays"),
    ("shift", "becomes_normalised"),
    ("patch", "becomes"),
    ("random", "becomes"),
    ("random", "stays"),
    ("repair", "right"),
    ("repair_random", "right"),
    ("distance", "auroc"),
}
#: The metrics of the last checkpoint.
FINAL = ("becomes", "stays", "third", "becomes_normalised", "logit_change_normalised")


def rows(runs: list[Curves]) -> Iterator[list[object]]:
    """Yield the lines of the file."""
    effects = [curves.effects for curves in runs]
    first = effects[0]
    assert first is not None
    steps = first.steps
    for split in first.n_pairs:
        for step in steps:
            each = [effect.n_errors.get((split, step), 0) for effect in effects if effect]
            yield [split, step, "", "", "errors", sum(each), "", "", *each]
        for state in first.states:
            for name, of_run in (("ari", "ari"), ("probe", "decoded")):
                yield from _course(runs, split, state, "", name, _scores(of_run, split, state))
            keys = [key for key in first.effect if key[:2] == (split, state)]
            for _, _, edit, metric in keys:
                if (edit, metric) in COURSES or metric in FINAL:
                    lines = _course(
                        runs, split, state, edit, metric, _effect(split, state, edit, metric)
                    )
                    for line in lines:
                        if (edit, metric) in COURSES or line[1] == steps[-1]:
                            yield line


def _scores(kind: str, split: str, state: str) -> Callable[[Curves], Floats | None]:
    def of_run(curves: Curves) -> Floats | None:
        known = curves.ari if kind == "ari" else curves.decoded
        key = (split, state, "raw") if kind == "ari" else (split, state)
        return shared(curves, known[key]) if key in known else None  # type: ignore[index]

    return of_run


def _effect(split: str, state: str, edit: str, metric: str) -> Callable[[Curves], Floats | None]:
    def of_run(curves: Curves) -> Floats | None:
        assert curves.effects is not None
        return curves.effects.effect.get((split, state, edit, metric))

    return of_run


def _course(
    runs: list[Curves],
    split: str,
    state: str,
    edit: str,
    metric: str,
    of_run: Callable[[Curves], Floats | None],
) -> Iterator[list[object]]:
    """Yield a line for each checkpoint at which all runs have the number."""
    each = [of_run(curves) for curves in runs]
    known = [y for y in each if y is not None]
    effects = runs[0].effects
    if len(known) < len(runs) or effects is None:
        return
    for s, step in enumerate(effects.steps):
        values = [y[:, s] for y in known]
        numbers = [float(y[0]) for y in values]
        if np.isfinite(numbers).all():
            low, high = interval(values, "effects of edits", split, state, edit, metric)
            line: list[object] = [split, step, state, edit, metric]
            yield [*line, *(f"{x:.4f}" for x in (np.mean(numbers), low, high, *numbers))]


if __name__ == "__main__":
    curves = [load_run(path).curves() for path in sys.argv[1:]]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    seeds = [f"seed {each.seed}" for each in curves]
    writer.writerow(["split", "step", "state", "edit", "metric", "mean", "low", "high", *seeds])
    writer.writerows(rows(curves))
    (Path(__file__).parents[1] / "images" / "figure3.png").write_bytes(
        render(figure3(curves), "png")
    )
