"""A slice of the fuzz campaign, and its judgement of what goes wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer

from campaign import attempt
from campaign.arguments import _bases
from campaign.attempt import Attempt, Outcome
from campaign.command import Ended
from campaign.directories import Case, Directories
from campaign.table import BEGIN, END, Tried, write_table
from conftest import HANG
from tasklens.cli.main import app

#: An attack of each of some kinds.
SLICE = (
    *("kill-run:0", "kill-probe:0", "kill-sweep:0", "kill-measure:0", "flip:0", "cut:0"),
    *("delete:0", "another-run:0", "link-to-nowhere:0", "marks:0", "prompt-file:1", "task-file:1"),
    *("manifest:1", "hostile-file:1", "size-run:1", "size-probe:1", "word:1", "name:1"),
    *("model-file:1", "model-beside:1", "environment:1", "streams:1", "killed-worker:1"),
)


@pytest.mark.long
def test_a_slice_of_the_campaign() -> None:
    only = [word for each in SLICE for word in ("--only", each)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "campaign", *only],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| all | {len(SLICE)} |" in done.stdout


# --- The judgement: one that sees nothing would praise anything ---

Ends = Callable[[Path], Ended]


@pytest.fixture
def attempt_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Ends], Attempt]:
    """Make an attempt on a directory of one file, whose command is a function of its path."""

    def make(command: Ends) -> Attempt:
        whole = tmp_path / "whole" / "run"
        (whole / "data").mkdir(parents=True)
        (whole / "scores.csv").write_text("0.5")
        case = Case("run", "run", whole, ("run",), {"show": ("show", "run")})
        case.answers["show"], case.left["show"] = Ended(0, "0.5"), {}
        directories = cast(Directories, SimpleNamespace(finished=lambda _: case))
        attempt_ = Attempt(directories, case, tmp_path / "work")
        attempt_.plant()
        attempt_.watch()
        monkeypatch.setattr(attempt, "run", lambda above, *_: command(above / "run"))
        return attempt_

    return make


def leave(path: Path) -> Ended:
    return Ended(0, (path / "scores.csv").read_text())


def refuse(path: Path) -> Ended:
    """Refuse a damaged file, and make one that is gone."""
    scores = path / "scores.csv"
    if scores.exists() and scores.read_text() != "0.5":
        return Ended(2, "", "tasklens: error: run/scores.csv is damaged: remove it\n")
    scores.write_text("0.5")
    return Ended(0)


def refuse_without_advice(path: Path) -> Ended:
    return Ended(2, "", "tasklens: error: something is wrong\n")


def die(path: Path) -> Ended:
    return Ended(1, "", "Traceback (most recent call last):\n")


def remove_a_file_of_others(path: Path) -> Ended:
    (path / "notes.txt").unlink()
    return Ended(0)


def write_outside(path: Path) -> Ended:
    (path / "link" / "theirs.txt").write_text("ours")
    return Ended(0)


@pytest.mark.parametrize(
    ("command", "damaged", "outcome"),
    [
        (leave, False, Outcome.EQUAL),
        (leave, True, Outcome.DIFFERENT),
        (refuse, True, Outcome.REFUSED),
        (refuse_without_advice, False, Outcome.LOST),
        (die, False, Outcome.TRACEBACK),
        (lambda _: Ended(None), False, Outcome.HUNG),
        (remove_a_file_of_others, False, Outcome.LOST),
        (write_outside, False, Outcome.LOST),
    ],
)
def test_what_comes_of_an_attack(
    attempt_of: Callable[[Ends], Attempt], command: Ends, damaged: bool, outcome: Outcome
) -> None:
    judged = attempt_of(command)
    if damaged:
        (judged.path / "scores.csv").write_text("0.6")
    judged.finish()
    assert judged.outcome == outcome, judged.notes


def test_a_reader_that_gives_other_numbers(attempt_of: Callable[[Ends], Attempt]) -> None:
    judged = attempt_of(leave)
    judged.read("show")
    assert judged.notes == []
    (judged.path / "scores.csv").write_text("0.6")
    judged.read("show")
    assert judged.outcome == Outcome.DIFFERENT


def test_the_table_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n")
    outcomes = [Outcome.EQUAL, Outcome.EQUAL, Outcome.LOST]
    tried = [Tried("flip", i, "", outcome, (), 1.0) for i, outcome in enumerate(outcomes)]
    write_table(page, tried, seed=3)
    text = page.read_text()
    assert "| flip | 3 | 2 | 0 | 1 | 0 | 0 | 0 |\n| all | 3 | 2 | 0 | 1 | 0 | 0 | 0 |" in text
    assert "old" not in text
    assert text.startswith("Before.")
    assert text.endswith("After.\n")


def test_every_command_is_attacked() -> None:
    probe = SimpleNamespace(
        command=lambda **options: ["probe", "model"], checkpoints={200: ""}, models=""
    )
    sweep = SimpleNamespace(command=["sweep", "sweep.toml"])
    d = cast("Directories", SimpleNamespace(stock=probe, cases={"sweep": sweep}))
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert _bases(d).keys() == commands.keys()
