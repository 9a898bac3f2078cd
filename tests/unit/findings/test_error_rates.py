"""Test the networks by which error rates of findings are measured, and the table of these."""

import dataclasses
import math
from pathlib import Path

import error_rates
import numpy as np
import pytest
from numpy.typing import NDArray
from rates import synthetic_runs, tables
from rates.nulls import NULLS, Null, untrained

from tasklens.core.seeds import stream
from tasklens.findings.check import check_of
from tasklens.findings.curves import Curves
from tasklens.findings.one_model import MODEL_FINDINGS
from tasklens.findings.rules import FINDINGS
from tasklens.findings.verdict import judge
from tasklens.scoring.bootstrap import Resampling, resampling_weights

ROWS = tables.read_rows()
NAMES = [null.finding for null in NULLS]


def table(null: Null, value: float | None, seed: int) -> list[Curves]:
    """Return the runs of a table of the plain null, or with a value."""
    runs = []
    for i in range(null.runs):
        rng = stream(seed, "test", i)
        truth = null.plain(rng) if value is None else null.planted(rng, value)
        runs.append(null.run(truth, i, rng, 20))
    return runs


def test_scores_of_whole_instructions_are_those_of_their_instances() -> None:
    rng = stream(0, "instructions")
    task = np.arange(60) % synthetic_runs.TASKS
    weights = resampling_weights(task, 20, rng)
    parts = np.where(rng.random((7, 60)) < 0.6, task, rng.integers(10, size=(7, 60)))

    def instances(x: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.repeat(x, 3)

    resampling = Resampling(instances(task), instances(np.arange(60)), weights)
    expected = np.stack([resampling.ari(instances(part)) for part in parts], axis=1)
    scores = synthetic_runs.ari_of_instructions(task, parts, 3, weights)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)


def test_scores_are_the_planted_ones_on_average() -> None:
    rng = stream(0, "planted")
    curves = np.tile(synthetic_runs.FINAL[:, None], len(synthetic_runs.STEPS))
    truth = synthetic_runs.Truth(dict.fromkeys(synthetic_runs.SIZES, curves))
    runs = [synthetic_runs.synthetic_run(truth, i, rng, 0) for i in range(40)]
    for split in truth.ari:
        for layer, ari in zip(synthetic_runs.LAYERS, synthetic_runs.FINAL, strict=True):
            assert np.mean([c.ari[split, layer, "raw"] for c in runs]) == pytest.approx(
                ari, abs=0.03
            )
        for control, ari in truth.controls.items():
            mean = np.mean([c.controls[split, control] for c in runs])
            assert mean == pytest.approx(max(ari, 0.04), abs=0.07)


def test_a_sound_network_has_all_findings() -> None:
    rng = stream(0, "sound")
    runs = [synthetic_runs.synthetic_run(synthetic_runs.sound(rng), i, rng, 20) for i in range(3)]
    assert judge(runs).holds
    none = [synthetic_runs.synthetic_run(untrained(rng), i, rng, 20) for i in range(3)]
    verdict = judge(none)
    assert not [f for f in FINDINGS if verdict.outcome(f) == "holds"]
    for finding in FINDINGS:
        rules = [check.rule for check in verdict.checks_of(finding)]
        assert error_rates.outcome(finding, list(dict.fromkeys(rules)), none) == (
            verdict.outcome(finding)
        ), "the script judges as the tool does"


@pytest.mark.parametrize("null", NULLS, ids=NAMES)
def test_a_null_is_false_by_its_number_and_a_strong_effect_is_true(null: Null) -> None:
    plain = table(null, None, 1)
    assert error_rates.outcome(null.finding, null.rules, plain) != "holds"
    decided = [check_of(null.rule, split, plain).verdict for split in null.rule.splits]
    assert "holds" not in decided, null.denied
    rises = np.isfinite(null.rule.above)
    strong, weak = (null.values[-1], null.values[0])[:: 1 if rises else -1]
    assert error_rates.outcome(null.finding, null.rules, table(null, strong, 1)) == "holds"
    broken = table(null, weak, 1)
    assert error_rates.outcome(null.finding, null.rules, broken) != "holds"
    numbers = [error_rates.number(null, curves) for curves in broken]
    assert (np.mean(numbers) < null.threshold) == rises, "the value moves the number that decides"


def test_every_finding_has_a_null_and_what_was_measured_has_enough_tables() -> None:
    assert [null.finding for null in NULLS] == [*FINDINGS, *MODEL_FINDINGS]
    measured = {row.key: row.tables for row in ROWS}
    assert len(measured) == len(ROWS)
    wanted = {scenario.key: scenario.tables for scenario in error_rates.scenarios(500)}
    for row in ROWS:
        assert row.tables >= wanted.get(row.key, 500), "run: python docs/scripts/error_rates.py"
    edges = {row.finding for row in ROWS if row.kind == "edge"}
    assert edges >= set(FINDINGS), "the page names all others that are not measured"
    for row in ROWS:
        assert 0 <= row.holds + row.fails <= row.tables
        if row.kind in ("edge", "effect"):
            error = row.spread / math.sqrt(row.tables * row.runs)
            assert row.mean == pytest.approx(row.target, abs=4 * error + 0.01), row


def test_the_limit_of_a_rate_is_exact() -> None:
    row = tables.Row("f", "plain", 3, math.nan, math.nan, math.nan, 500, 0, 0)
    assert row.upper == pytest.approx(1 - 0.05 ** (1 / 500)), "none of 500"
    all_hold = dataclasses.replace(row, holds=500)
    assert (all_hold.rate, all_hold.upper) == (1, 1)
    some = dataclasses.replace(row, holds=29)
    # The chance of at most 29 of 500 at this rate is 5 %.
    chance = sum(
        math.comb(500, k) * some.upper**k * (1 - some.upper) ** (500 - k) for k in range(30)
    )
    assert chance == pytest.approx(0.05)
    assert tables.shown([some]) == "5.8% (< 7.8%)"
    assert tables.shown([dataclasses.replace(row, holds=50)]) == "**10.0% (< 12.5%)**"


def test_rows_repeat_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = error_rates.Scenario("clusters", "plain", 1, 2)
    row = error_rates.measure(scenario)
    assert (row.tables, row.holds, row.fails) == (2, 0, 2)
    assert str(error_rates.measure(scenario)) == str(row), "the same seeds give the same verdicts"
    path = tmp_path / "rows.csv"
    tables.write_rows([row], path)
    assert str(tables.read_rows(path)) == str([row])
    before = path.read_bytes()
    monkeypatch.setattr(
        error_rates, "scenarios", lambda n: iter([dataclasses.replace(scenario, tables=n)])
    )
    error_rates.main(tables=3, out=path)
    assert [each.tables for each in tables.read_rows(path)] == [3], "fewer are replaced"
    monkeypatch.setattr(error_rates, "measure", None)
    tables.write_rows([row], path)
    error_rates.main(tables=2, out=path)
    assert path.read_bytes() == before, "what is known is not measured again"
