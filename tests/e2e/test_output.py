"""Output of the commands: JSON, progress, colours, encodings, and readers that leave."""

import json
import os
import pty
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import HANG
from e2e.conftest import Finished, assert_refused, call, changes, scores_of, succeed
from e2e.stock import Stock
from tasklens.cli.main import app

#: ``tasklens ...`` in a process of its own, as the installed command starts it.
PROGRAM = "import sys; sys.argv[0] = 'tasklens'; from tasklens.cli.main import main; main()"


def start(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run ``tasklens ...`` in a process and keep its output as bytes, all of it."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    environment = os.environ | more.pop("env", {})
    return subprocess.run(
        command, capture_output=True, check=False, timeout=HANG, env=environment, **more
    )


def on_terminal(*arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Return the exit status of ``tasklens ...`` on a terminal, and all that it showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    known |= {"TERM": "xterm", "COLUMNS": "80", **environment}
    with subprocess.Popen(
        command, env=known, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        content = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how the end of a terminal shows on Linux
                break
            if not part:
                break
            content += part
    os.close(ours)
    return process.returncode, content.decode()


def commands() -> list[str]:
    return [command.callback.__name__ for command in app.registered_commands if command.callback]


# --- Help and options ---


@pytest.mark.parametrize("command", commands())
def test_every_command_has_the_common_options_and_examples(command: str) -> None:
    result = succeed(command, "-h")
    assert result == succeed(command, "--help")
    for option in ("--quiet", "--verbose", "--debug", "-h, --help"):
        assert re.search(rf"^  {option} ", result.out, re.MULTILINE), option
    examples, end = result.out.split("\n  Examples:\n")[1].split("\n\n")
    for line in examples.splitlines():
        assert re.match(rf"    (tasklens|torchrun .* tasklens) {command} ", line)
    assert end.startswith("  Documentation: docs/reference/cli.md")


def test_version_has_a_short_form() -> None:
    assert succeed("-V") == succeed("--version")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--out", "a", "--out=b"), "--out is given twice: a and b; give it once"),
        (("follow", "r", "--layer", "1", "--split", "x", "--layer", "2"), "--layer is given twice"),
        (("data", "--set", "seed=1", "--set", "seed=2"), "--set seed is given twice: 1 and 2"),
        (("data", "--device", "cpu", "--set", "train.device=cpu"), "an option sets train.device"),
        (
            ("probe", "m", "--label", "a", "--set", "prompts.label=b"),
            "--set prompts.label=b: an option sets prompts.label, too; leave out one of the two",
        ),
        (("show", "r", "--quiet", "--verbose"), "--quiet and --verbose exclude each other"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(call(*arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_looks_like_an_option_is_not_counted() -> None:
    result = call("probe", "m", "--position", "--out", "--out", "x", "--dry-run")
    assert "given twice" not in result.err


def test_bash_completes_commands_options_and_presets() -> None:
    def completed(line: str) -> list[str]:
        arguments = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        done = start(env={"_TASKLENS_COMPLETE": "complete_bash", **arguments})
        return done.stdout.decode().split()

    assert completed("tasklens comp") == ["compare"]
    assert completed("tasklens run --dr") == ["--dry-run"]
    assert completed("tasklens run d") == ["default", "distributions"]


# --- JSON ---


@pytest.fixture(scope="module")
def keys() -> dict[str, dict[str, str]]:
    """The documented keys of each command."""
    pages = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "scripts" / "make_pages.py"))
    documented: dict[str, dict[str, str]] = pages["JSON_KEYS"]
    return documented


def document(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """Return the one JSON document that a command prints."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    result = call(*arguments, "--json")
    assert result.status == status, result.err
    content: dict[str, Any] = json.loads(result.out, parse_constant=refuse)
    return content


def test_the_scores_as_json_are_those_of_the_table(
    tiny: Finished, keys: dict[str, dict[str, str]]
) -> None:
    content = document("show", tiny.path)
    assert content.keys() == keys["show"].keys()
    assert (content["run"], content["kind"], content["seed"]) == (str(tiny.path), "run", 0)
    last = content["steps"][-1]
    rows = [row for row in scores_of(tiny.path) if row["step"] in (last, None)]
    cells = {tuple(r[key] for key in ("metric", "split", "layer", "space", "k")) for r in rows}
    assert len(content["scores"]) == len(cells)
    for record in content["scores"]:
        cell = {key: record[key] for key in ("metric", "split", "layer", "space", "k", "step")}
        values = [row["value"] for row in scores_of(tiny.path, **cell)]
        assert record["n"] == len(values)
        if values == values:  # no NaN
            assert record["mean"] == pytest.approx(sum(values) / len(values), nan_ok=True)
    (first,) = scores_of(tiny.path, metric="accuracy", split="train_subset", step=0)
    (record,) = [
        r for r in content["scores"] if r["metric"] == "accuracy" and r["split"] == "train_subset"
    ]
    assert record["first"] == first["value"]


def test_the_other_documents_have_the_documented_keys(
    copy: Path, tmp_path: Path, keys: dict[str, dict[str, str]]
) -> None:
    ran = document("run", "smoke", *changes(), "--out", copy, "--resume")
    assert ran.keys() == {*keys["show"], "verdict", "report", "figure"}
    assert Path(ran["figure"]).exists()
    verdict = document("verify", copy, status=1)
    assert verdict.keys() == keys["verify"].keys()
    assert {key: value for key, value in verdict.items() if key != "file"} == ran["verdict"]
    assert json.loads(Path(verdict["file"]).read_text()) == ran["verdict"]
    followed = document("follow", copy, "--layer", "1")
    assert followed.keys() == keys["follow"].keys()
    assert len(followed["tasks"][0]["overlap"]) == len(followed["steps"])
    compared = document("compare", copy, copy)
    assert compared.keys() == keys["compare"].keys()
    assert compared["settings"] == {}
    assert {d["difference"] for d in (*compared["ari"], *compared["accuracy"])} == {0.0}
    plan = document("run", "smoke", *changes(), "--dry-run")
    assert plan.keys() == keys["run --dry-run"].keys()
    assert plan["seconds"]["total"]["low"] <= plan["seconds"]["total"]["high"]


def test_the_plan_of_a_probe_as_json(stock: Stock, keys: dict[str, dict[str, str]]) -> None:
    plan = document(*stock.command("--dry-run"))
    assert plan.keys() == keys["probe --dry-run"].keys()
    assert plan["prompts"] == sum(plan["splits"].values()) == 48
    assert [model["step"] for model in plan["models"]] == [100, 200]


def test_a_sweep_as_json(
    swept: Finished, sweep_file: Path, keys: dict[str, dict[str, str]]
) -> None:
    arguments = (sweep_file, "--out", swept.path)
    plan = document("sweep", *arguments, "--dry-run")
    assert plan.keys() == keys["sweep --dry-run"].keys()
    assert all(run["done"] for run in plan["runs"])
    gathered = document("gather", *arguments)
    assert gathered.keys() == keys["gather"].keys()
    assert all(Path(path).exists() for path in gathered["files"])
    done = document("sweep", *arguments)
    assert done.keys() == keys["sweep"].keys()
    assert (done["files"], done["failed"]) == (gathered["files"], {})
    shard = document("sweep", *arguments, "--shard", "1/2")
    assert shard == {"shard": "1/2", "runs": len(plan["runs"]) / 2, "failed": {}}
    assert shard.keys() == keys["sweep --shard"].keys()


# --- Two runs ---


def test_two_runs_are_compared_by_settings_scores_and_findings(
    tiny: Finished, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    succeed("run", "smoke", *changes(train__steps=8), "--out", other)
    result = succeed("compare", tiny.path, other)
    lines = [line.split() for line in result.out.splitlines()]
    assert ["train.steps", "12", "|", "8"] in lines
    for layer in ("embed", "block1"):
        finals = [
            scores_of(path, metric="ari", layer=layer, space="raw", step=step, split="val_subset")
            for path, step in ((tiny.path, 12), (other, 8))
        ]
        first, second = (rows[0]["value"] for rows in finals)
        (line,) = [line for line in lines if line[:3] == [layer, "raw", "val_subset"]]
        assert line[3:6] == [f"{first:z.2f}", f"{second:z.2f}", f"{second - first:+z.2f}"]
    verdicts = [
        document("verify", path, "--out", tmp_path / "verdict.json", status=1)["findings"]
        for path in (tiny.path, other)
    ]
    for one, two in zip(*verdicts, strict=True):
        outcomes = f"{one['verdict']:<9}  {two['verdict']}"
        assert f"{one['finding']:<26}  {outcomes}" in result.out.splitlines()


def test_runs_that_share_no_split_are_refused(tiny: Finished, probed: Finished) -> None:
    line = assert_refused(call("compare", tiny.path, probed.path), "share no split: one has")
    assert line.endswith("train_subset, val_subset, val_instruction_subset, the other all")


# --- Progress and details on standard error ---


@pytest.mark.long
def test_a_line_as_each_stage_begins_and_ends(copy: Path) -> None:
    shutil.rmtree(copy)
    done = start("run", "smoke", *changes(), "--out", copy)
    lines = done.stderr.decode().splitlines()
    stages = [m for line in lines if (m := re.match(r"tasklens: (\w+).*: (begins|done)", line))]
    first = ("data", "train", "measure", "interventions")
    expected = [(name, what) for name in first for what in ("begins", "done")]
    # Figure 3 needs the numbers that the verdict is made of.
    expected += [("plot", "begins"), ("verify", "begins"), ("verify", "done"), ("plot", "done")]
    expected += [("report", "begins"), ("report", "done")]
    assert [m.groups() for m in stages] == expected
    assert b"\r" not in done.stderr


@pytest.mark.long
def test_quiet_leaves_results_and_verbose_adds_details(copy: Path) -> None:
    arguments: list[str | Path] = ["run", "smoke", *changes(), "--out", copy, "--resume"]
    quiet = start(*arguments, "--quiet")
    assert (quiet.returncode, quiet.stderr) == (0, b"")
    verbose = start(*arguments, "--verbose")
    assert verbose.stdout == quiet.stdout
    for stage in ("data", "train", "measure", "plot", "report"):
        assert f"tasklens: {stage}: already done\n".encode() in verbose.stderr


@pytest.mark.long
def test_verbose_names_the_files_and_the_precision(tmp_path: Path) -> None:
    path = tmp_path / "run"
    lines = start("run", "smoke", *changes(), "--out", path, "--verbose").stderr.decode()
    assert f"tasklens: wrote {path / 'scores.csv'}\n" in lines
    assert "tasklens: train: fp32 on cpu\n" in lines


def test_a_terminal_shows_what_is_done_from_the_start(copy: Path) -> None:
    status, shown = on_terminal("plot", copy, "--set", "figure.metric=ami")
    assert status == 0
    begin, drawing = shown.index("plot: starting ("), shown.index("\rplot (")
    assert begin < drawing < shown.index(f"{copy / 'figures' / 'figure1.png'}")


# --- Colours, encodings, pipes ---


@pytest.mark.long
def test_verdicts_are_coloured_on_terminals_only(copy: Path) -> None:
    status, shown = on_terminal("verify", copy)
    assert status == 1
    assert "\x1b[31mfails\x1b[0m  " in shown
    assert "\x1b[33mundecided\x1b[0m  " in shown
    for variable in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b[3" not in on_terminal("verify", copy, **variable)[1]
    assert b"\x1b" not in start("verify", copy).stdout


@pytest.mark.long
def test_what_the_encoding_lacks_is_replaced(tiny: Finished, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny.path, tmp_path / "größe"))
    for encoding in ("ascii", "utf-8"):
        done = start("plot", path, env={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode(encoding)
        assert text.endswith("/figures/figure1.png\n")
        assert ("gr\\xf6\\xdfe" if encoding == "ascii" else "größe") in text


@pytest.mark.parametrize(
    ("redirection", "arguments", "expected"),
    [
        (">&-", ["--version"], (0, b"", b"")),
        ("2>&-", ["nothing"], (2, b"", b"")),
        (">&- 2>&- <&-", ["--version"], (0, b"", b"")),
        ("2>/dev/full", ["nothing"], (2, b"", b"")),
        (">/dev/full", ["-V"], (2, b"", b"tasklens: error: writing: No space left on device\n")),
    ],
)
def test_streams_that_are_closed_or_full(
    redirection: str, arguments: list[str], expected: tuple[int, bytes, bytes]
) -> None:
    script = f'exec "$@" {redirection}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        check=False,
        timeout=HANG,
    )
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_a_reader_that_leaves_is_no_error(tiny: Finished) -> None:
    command = [sys.executable, "-c", PROGRAM, "show", str(tiny.path), "--json"]
    reader, writer = os.pipe()
    os.close(reader)  # before anything is written
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, err = process.communicate(timeout=HANG)
    assert (process.returncode, err) == (141, b"")
