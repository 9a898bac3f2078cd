"""Measure how often the checks of findings are wrong: `python docs/error_rates.py`.

Each finding is judged on tables of some synthetic runs in which it is false: how often does it hold
all the same? And on tables in which it is true by a stated effect: how often does it hold? The
networks are defined in `nulls.py`, their scores drawn in `synthetic_runs.py`. The rows go to
`error_rates.csv`; those that are there already are kept, so that an interrupted script goes on.
`docs/make_pages.py` puts them into `findings.md`.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from error_tables import ANY, GLOBAL, PATH, Row, read_rows, write_rows
from nulls import NULLS, Null, untrained
from scipy.special import ndtri
from synthetic_runs import synthetic_run

from tasklens.core.seeds import stream
from tasklens.findings.curves import Curves
from tasklens.findings.one_model import MODEL_FINDINGS
from tasklens.findings.rules import FINDINGS, RULES, Rule
from tasklens.findings.verdict import Verdict, check_of

#: Resampled copies of a run. The verdicts of 100 tables are the same with 400, but for one or two.
COPIES = 40
#: Networks by which the value is chosen that gives a number its mean.
CALIBRATED = 200


@dataclass(frozen=True)
class Scenario:
    """One kind of network, of which each table has some."""

    finding: str
    kind: str
    """"plain", "edge", or "effect"."""
    runs: int
    target: float = float("nan")
    """The mean of the number that decides; NaN of a plain null."""

    @property
    def key(self) -> tuple[str, ...]:
        """What names the row."""
        return self.finding, self.kind, str(self.runs), f"{self.target:g}"


def scenarios() -> Iterator[Scenario]:
    """Yield all scenarios, the most important first."""
    for null in NULLS:
        yield Scenario(null.finding, "edge", null.runs, null.threshold)
    for null in NULLS:
        yield Scenario(null.finding, "plain", null.runs)
    yield Scenario(ANY, GLOBAL, 3)
    for null in NULLS:
        for target in null.effects:
            yield Scenario(null.finding, "effect", null.runs, target)
    for runs in (5, 2, 1):
        for null in NULLS:
            if runs != null.runs and not null.one_model:
                yield Scenario(null.finding, "edge", runs, null.threshold)


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


def measure(scenario: Scenario, tables: int) -> Row:
    """Return the verdicts on the tables of a scenario of one finding."""
    (null,) = (null for null in NULLS if null.finding == scenario.finding)
    value = float("nan") if scenario.kind == "plain" else calibrated(null, scenario.target)
    verdicts, numbers = Counter[str](), []
    for table in range(tables):
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


def measure_any(scenario: Scenario, tables: int) -> list[Row]:
    """Return how often each finding holds, and any of them, on networks that only fluctuate."""
    verdicts = {finding: Counter[str]() for finding in (*FINDINGS, ANY)}
    for table in range(tables):
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
        _row(Scenario(finding, GLOBAL, scenario.runs), [], counts)
        for finding, counts in verdicts.items()
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
    for scenario in scenarios():
        done = {
            Scenario(r.finding, r.kind, r.runs, r.target).key for r in rows if r.tables >= tables
        }
        if scenario.key in done:
            continue
        new = (
            measure_any(scenario, tables)
            if scenario.kind == GLOBAL
            else [measure(scenario, tables)]
        )
        rows += new
        write_rows(rows, out)
        for row in new:
            print(row, f"{row.rate:.3f}, at most {row.upper:.3f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
