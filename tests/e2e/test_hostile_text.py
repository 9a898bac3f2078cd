"""Text from a user's files, names and command line is shown, and nothing obeys it."""

import csv
import io
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from e2e.conftest import Result, assert_refused, call, changes, succeed
from e2e.stock import Stock, write_prompts
from e2e.test_output import on_terminal
from hostile import ACTS, HOSTILE

#: A name that a file can have.
NAME = "$5 vs $10 \x1b]8;;http:a\x07\r\u202e\x9b2J\n=<b>"
SHOWN = r"$5 vs $10 \x1b]8;;http:a\x07\r\u202e\x9b2J\n=<b>"
NOT_UTF8 = os.fsdecode(b"\xff")


def assert_shown(result: Result, *, out: str = "", err: str = "") -> None:
    """Check that no stream has what acts, and that the texts are there as they are shown."""
    for stream, text in ((result.out, out), (result.err, err)):
        assert not ACTS.search(stream), stream
        assert text in stream


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", NAME),
        ("run", NAME),
        ("run", "smoke", f"--{NAME}"),
        ("run", "smoke", "--set", f"{NAME}=1"),
        ("run", "smoke", "--set", f"train.precision={NAME}"),
        ("probe", NAME, "--dry-run"),
        ("probe", NAME, "--prompts", NAME, "--dry-run"),
        ("verify", NAME),
        ("compare", NAME, NAME),
        ("follow", NAME),
        ("report", NAME),
        ("sweep", NAME),
        (NAME,),
    ],
)
def test_an_error_is_one_line_that_only_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = assert_refused(call(*arguments))
    assert not ACTS.search(line)
    assert r"\x1b]8;;http" in line


def test_an_error_on_a_terminal_only_shows() -> None:
    status, shown = on_terminal("show", NAME)
    assert status == 2
    (line,) = [line for line in shown.split("\r\n") if "error" in line]
    assert line.rpartition("tasklens: ")[2].startswith(f"error: {SHOWN}")


def test_a_path_with_a_line_break_is_one_line_also_with_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKLENS_DEBUG", "")  # which --debug sets
    result = call("show", tmp_path / NAME, "--debug")
    assert_shown(result, err="Traceback")
    assert result.err.splitlines()[-1].startswith(f"tasklens: error: {tmp_path}/{SHOWN}")


@pytest.mark.long
def test_a_run_in_a_directory_with_such_a_name(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}{NOT_UTF8}"
    shown = rf"{tmp_path}/{SHOWN}\udcff"
    result = succeed("run", "smoke", *changes(), "--out", path, "--verbose")
    assert_shown(result, out=f"{shown}/figures/figure1.png\n", err=f"wrote {shown}/")
    for command in ("show", "report", "plot", "follow"):
        assert_shown(succeed(command, path))
    assert_shown(call("verify", path), out=f"{shown}/verdict.json\n")
    assert_shown(succeed("compare", path, path), out=f"first: {shown}\n")
    document = json.loads(succeed("show", path, "--json").out)
    assert document["run"] == str(path), "JSON has the path itself"
    runs = set(pq.read_table(io.BytesIO((path / "scores.parquet").read_bytes()))["run"].to_pylist())
    assert runs == {NAME + r"\udcff"}, "a table has only UTF-8"


def test_a_path_in_the_settings_that_is_no_text_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / f"{NOT_UTF8}.jsonl"
    result = call("probe", tmp_path, "--prompts", path, "--out", tmp_path / "out")
    assert_refused(result, r"prompts: files = ", r"\udcff.jsonl': is not UTF-8")
    assert not (tmp_path / "out").exists()


def test_labels_columns_and_files_with_such_names(stock: Stock, tmp_path: Path) -> None:
    column = HOSTILE["escapes"] + HOSTILE["line break"]
    names = ["escapes", "C1", "direction", "markup"]
    labels = dict(zip(sorted({row["label"] for row in stock.rows}), names, strict=True))
    rows = [
        row | {"label": HOSTILE[labels[row["label"]]], column: row["input"]} for row in stock.rows
    ]
    prompts = write_prompts(tmp_path / f"{HOSTILE['C1']}.jsonl", rows)
    command = stock.command("--prompts", prompts, "--hold-out", column)
    assert_shown(call(*command, "--dry-run"), out=r"\x1b[2J")
    path = tmp_path / "-1+1"
    result = succeed(*command, "--out", path)
    assert_shown(result, out=r"held_out_\x1b[2J", err=r"\x1b[2J")
    assert_shown(succeed("show", path), out=r"held_out_\x1b[2J")
    assert_shown(call("verify", path), out=r"held_out_\x1b[2J")
    assert_shown(succeed("follow", path), out=r"\u202efdp.exe")
    assert_shown(succeed("compare", path, path))
    with (path / "scores.csv").open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {"'-1+1"}, "no formula"
