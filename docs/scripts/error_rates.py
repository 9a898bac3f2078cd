"""Measure how often the checks of findings are wrong: `python docs/scripts/error_rates.py`.

Each finding is judged on tables of some synthetic runs in which it is false: how often does it hold
all the same? And on tables in which it is true by a stated effect: how often does it hold? The
networks are defined in `rates/nulls.py`, their scores drawn in `rates/synthetic_runs.py`. The rows
go to `error_rates.csv`; those that are there are kept, so that an interrupted script resumes.
`docs/scripts/make_pages.py` puts them into `findings.md`.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rates.nulls import NULLS, Null, untrained
from rates.synthetic_runs import synthetic_run
from rates.tables import ANY, GLOBAL, PATH, Row, key_of, read_rows, write_rows
from scipy.special import ndtri

from tasklens.core.seeds import stream
from tasklens.findings.check import check_of
from tasklens.findings.curves import Curves
from tasklens.findings.one_model import MODEL_FINDINGS
from tasklens.findings.rules import FINDINGS, RULES, Rule
from tasklens.findings.verdict import Verdict

#: Resampled copies of a run. With more, up to the 400 of `verify`, about as many tables hold.
COPIES = 20
#: For power, and for other numbers of runs, there are fewer tables, by this factor.
FEWER = 5
#: Networks by which the value is chosen that gives a number its mean.
CALIBRATED = 200


@dataclass(frozen=True)
class Scenario:
    """One kind of network, of which each table has some."""

    finding: str
    kind: str
    """"plain", "edge", or "effect"."""
    runs: int
    tables: int
    target: float = float("nan")
    """The mean of the number that decides; NaN of a plain null."""

    @property
    def key(self) -> tuple[str, ...]:
        """The name of the row, and of the random numbers."""
        return key_of(self.finding, self.kind, self.runs, self.target)


def scenarios(tables: int) -> Iterator[Scenario]:
    """Yield all scenarios, the most important first."""
    for kind in ("edge", "plain"):
        for null in NULLS:
            target = null.threshold if kind == "edge" else float("nan")
            yield Scenario(null.finding, kind, null.runs, tables, target)
    yield Scenario(ANY, GLOBAL, 3, tables)
    fewer = -(-tables // FEWER)
    for i in range(3):
        for null in NULLS:
            yield Scenario(null.finding, "effect", null.runs, fewer, null.effects[i])
    for runs in (5, 1):
        for null in NULLS:
            if not null.one_model:
                yield Scenario(null.finding, "edge", runs, fewer, null.threshold)


def number(null: Null, curves: Curves) -> float:
    """Return the number that decides, mean over its splits."""
    return float(np.mean([null.number(curves, split)[0] for split in null.rule.splits]))


@functools.cache
def means_by_value(null: Null) -> list[float]:
    """Return the mean of the number over networks, by the value with which they are planted."""
    means = []
    for value in null.values:
        numbers = []
        for i in range(CALIBRATED):
            rng = stream(i, "calibration", null.finding)
            truth = null.planted(rng, value + null.spread * ndtri((i + 0.5) / CALIBRATED))
            numbers.append(number(null, null.run(truth, i, rng, 0)))
        means.append(float(np.mean(numbers)))
    assert np.all(np.diff(means) > 0), f"{null.finding}: {means} do not rise"
    return means


def calibrated(null: Null, target: float) -> float:
    """Return the value with which the mean of the number is the target."""
    means = means_by_value(null)
    assert means[0] <= target <= means[-1], f"{null.finding}: {target} is outside of {means}"
    return float(np.interp(target, means, null.values))


def outcome(finding: str, rules: Sequence[Rule], runs: Sequence[Curves]) -> str:
    """Return the verdict on a finding, as `tasklens.findings.verdict.judge` does."""
    checks = [check_of(rule, split, runs) for rule in rules for split in rule.splits]
    return Verdict((), tuple(checks), findings=FINDINGS | MODEL_FINDINGS).outcome(finding)


def measure(scenario: Scenario) -> Row:
    """Return the verdicts on the tables of a scenario of one finding."""
    (null,) = (null for null in NULLS if null.finding == scenario.finding)
    value = float("nan") if scenario.kind == "plain" else calibrated(null, scenario.target)
    verdicts, numbers = Counter[str](), []
    for table in range(scenario.tables):
        rng = stream(table, *scenario.key)
        runs = []
        for i in range(scenario.runs):
            truth = (
                null.plain(rng)
                if scenario.kind == "plain"
                else null.planted(rng, value + null.spread * rng.normal())
            )
            runs.append(null.run(truth, i, rng, COPIES))
        numbers += [number(null, curves) for curves in runs]
        verdicts[outcome(null.finding, null.rules, runs)] += 1
    return _row(scenario, numbers, verdicts)


def measure_any(scenario: Scenario) -> list[Row]:
    """Return how often each finding holds, and any of them, on networks that only fluctuate."""
    verdicts = {finding: Counter[str]() for finding in (*FINDINGS, ANY)}
    for table in range(scenario.tables):
        rng = stream(table, *scenario.key)
        runs = [synthetic_run(untrained(rng), i, rng, COPIES) for i in range(scenario.runs)]
        each = {
            finding: outcome(finding, [rule for rule in RULES if rule.finding == finding], runs)
            for finding in FINDINGS
        }
        each[ANY] = "holds" if "holds" in each.values() else "undecided"
        for finding, verdict in each.items():
            verdicts[finding][verdict] += 1
    return [
        _row(replace(scenario, finding=finding), [], counts) for finding, counts in verdicts.items()
    ]


def _row(scenario: Scenario, numbers: Sequence[float], verdicts: Counter[str]) -> Row:
    mean, spread = (np.mean(numbers), np.std(numbers, ddof=1)) if numbers else (np.nan, np.nan)
    return Row(
        scenario.finding,
        scenario.kind,
        scenario.runs,
        scenario.target,
        round(float(mean), 4),
        round(float(spread), 4),
        verdicts.total(),
        verdicts["holds"],
        verdicts["fails"],
    )


def main(
    tables: Annotated[int, typer.Option(help="Tables per scenario.")] = 500,
    out: Annotated[Path, typer.Option(help="CSV of the rows; those in it are kept.")] = PATH,
) -> None:
    """Measure all scenarios that the CSV does not have with as many tables."""
    rows = read_rows(out)
    for scenario in scenarios(tables):
        if not any(r.key == scenario.key and r.tables >= scenario.tables for r in rows):
            new = measure_any(scenario) if scenario.kind == GLOBAL else [measure(scenario)]
            keys = {row.key for row in new}
            rows = [*(row for row in rows if row.key not in keys), *new]
            write_rows(rows, out)
            print(new[-1], f"{new[-1].rate:.3f}, at most {new[-1].upper:.3f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
