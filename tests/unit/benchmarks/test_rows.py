"""Rows of the benchmarks: whether a target is met, and the table for the page."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[3] / "benchmarks"


def script(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Import a script of the benchmarks."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module(name)


@pytest.mark.parametrize(
    ("ratio", "target", "verdict"),
    [
        (10.0, ">= 10", ">= 10: met"),
        (9.996, ">= 10", ">= 10: met"),  # printed as 10
        (9.94, ">= 10", ">= 10: MISSED"),
        (1.004, "<= 1", "<= 1: met"),  # printed as 1
        (1.006, "<= 1", "<= 1: MISSED"),
        (5.0, "", ""),
    ],
)
def test_the_printed_ratio_is_compared_with_the_target(
    monkeypatch: pytest.MonkeyPatch, ratio: float, target: str, verdict: str
) -> None:
    common = script(monkeypatch, "common")
    row = common.Result(
        what="a", against="b", ours=1.0, theirs=ratio, unit="s", ratio=ratio, target=target
    )
    assert row.verdict() == verdict


def test_a_row_that_compares_nothing_has_a_target_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common, run_all = script(monkeypatch, "common"), script(monkeypatch, "run_all")
    row = common.Result(what="the run", against="", ours=241.2, unit="s", target="<= 240")
    assert row.line() == "RESULT the run: ours 241.2 s (target <= 240: MISSED)"
    table = run_all.table([row])
    assert "\n| the run | - | 241 s | - | - | <= 240: MISSED |\n" in table
