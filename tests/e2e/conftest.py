"""Call the command line in this process or in a process of its own; provide finished runs."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from conftest import HANG
from e2e.browser import ARGUMENTS, LIMIT, find_browser
from e2e.stock import Stock, no_network
from tasklens.cli import main as cli
from tasklens.report.style import render

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: A run of under a second once everything is imported.
TINY = {
    "tasks.n_tasks": 4,
    "tasks.n_inputs": 5,
    "tasks.inputs_per_task": 4,
    "tasks.n_outputs": 5,
    "tasks.variants_per_task": 12,
    "data.measured_tasks": 3,
    "data.measured_instances": 10,
    "model.n_layer": 1,
    "model.n_embd": 8,
    "train.steps": 12,
    "checkpoints.every": 4,
    "clusters.tsne": "none",
    "clusters.n_init": 1,
    "clusters.cluster_seeds": 1,
    "workers": 1,
}


#: A line on the progress of a stage, or on the time of all.
PROGRESS = re.compile(
    r"tasklens: (seconds by stage: "
    r"|(data|train|states|measure|interventions|plot|report|sweep|verify .*): "
    r"(begins|done in|\w+ [\d,]+ of|[\d.]+ (s|min|h) so far))"
)


@dataclass(frozen=True)
class Result:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Finished:
    """A run directory that a command has filled."""

    path: Path
    result: Result = field(repr=False)


@dataclass(frozen=True)
class Probed(Finished):
    """A finished probe, and the addresses that it asked for on the network."""

    asked: list[Any] = field(default_factory=list)


Command = Callable[..., Result]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the Ray cluster of `test_ray.py` as long."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def command() -> Command:
    """Run ``tasklens ...`` in this process; an exception that it lets through is the test's."""
    return call


@pytest.fixture(scope="session")
def process() -> Command:
    """Run ``tasklens ...`` in a process of its own."""
    return spawn


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run that the preset smoke makes, as a user would start it. Not to be changed."""
    path = tmp_path_factory.mktemp("first") / "smoke"
    return Finished(path, spawn("run", "smoke", "--out", path))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run of the settings `TINY`. Not to be changed."""
    path = tmp_path_factory.mktemp("first") / "tiny"
    return Finished(path, succeed("run", "smoke", *changes(), "--out", path))


@pytest.fixture
def copy(tiny: Finished, tmp_path: Path) -> Path:
    """A copy of the tiny run, of the same name, for the test to damage."""
    return Path(shutil.copytree(tiny.path, tmp_path / "copied" / tiny.path.name))


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="session")
def probed(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    """A finished probe of both checkpoints. Not to be changed."""
    path = tmp_path_factory.mktemp("first") / "probe"
    with no_network() as asked:
        result = succeed(*stock.command("--out", path))
    return Probed(path, result, asked)


@pytest.fixture
def probe_copy(probed: Probed, tmp_path: Path) -> Path:
    """A copy of the finished probe, of the same name, for the test to change."""
    return Path(shutil.copytree(probed.path, tmp_path / "copied" / probed.path.name))


@pytest.fixture(scope="session")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two settings and two seeds."""
    from e2e.sweeps import AXES, write_sweep  # which imports this module

    return write_sweep(tmp_path_factory.mktemp("sweep"), AXES)


@pytest.fixture(scope="session")
def swept(sweep_file: Path) -> Finished:
    """The sweep of `sweep_file`, finished by one worker. Not to be changed."""
    from e2e.sweeps import sweep

    path = sweep_file.parent / "out"
    return Finished(path, sweep(sweep_file, path))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the figures of a run, which take longest, by empty ones."""
    for name in ("figure1", "figure2", "figure3", "figure_by_layer"):
        monkeypatch.setattr(f"tasklens.runs.stage_plot.{name}", lambda *_, **__: Figure())


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium, started once; without it the tests that ask for it are skipped, or fail."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=LIMIT)
        yield browser
        browser.close()


def call(*arguments: str | Path) -> Result:
    status: object = 0
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["tasklens", *map(str, arguments)]),
        mock.patch("tasklens.runs.stage_plot.render", without_pdf),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
    assert isinstance(status, int)
    return Result(status, out.getvalue(), without_progress(err.getvalue()))


def without_progress(err: str) -> str:
    """Return standard error without the lines on the progress of stages."""
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not PROGRESS.match(line))


def succeed(*arguments: str | Path) -> Result:
    """Run ``tasklens ...``, which has to end with exit status 0."""
    result = call(*arguments)
    assert result.status == 0, result.err
    return result


def without_pdf(figure: Figure, suffix: Literal["png", "pdf"]) -> bytes:
    """Leave out the PDF, which takes longest and is drawn from what the PNG is drawn from."""
    return render(figure, suffix) if suffix == "png" else b"%PDF-"


def spawn(*arguments: str | Path) -> Result:
    command = [sys.executable, "-m", "tasklens", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    return Result(done.returncode, done.stdout, without_progress(done.stderr))


def changes(**others: object) -> list[str]:
    """Return `TINY` as options, with other values where given (``train__steps=3``)."""
    settings = TINY | {key.replace("__", "."): value for key, value in others.items()}
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def contents(path: Path, *parts: str) -> dict[str, bytes]:
    """Return the files of a run, by path, without those that hold times or the machine.

    PDFs are left out too: see `without_pdf`.

    Parameters
    ----------
    path : Path
    *parts : str
        First parts of the paths that are wanted; all by default.
    """
    return {
        name: file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.suffix != ".pdf"
        and (name := file.relative_to(path).as_posix()).partition("/")[0]
        not in ("manifest.json", "report.html", ".lock", "resume")
        and (not parts or name.partition("/")[0] in parts)
    }


def times(path: Path) -> dict[str, int]:
    """Return when each file of `contents` was written last."""
    return {name: (path / name).stat().st_mtime_ns for name in contents(path)}


def assert_same(path: Path, other: Path, *parts: str) -> None:
    """Check that two runs have the same files with the same bytes; name those that differ."""
    mine, theirs = contents(path, *parts), contents(other, *parts)
    assert mine.keys() == theirs.keys()
    assert [name for name, content in mine.items() if theirs[name] != content] == []


def files(path: Path) -> list[str]:
    """Return the files of a directory, but for those that hold times, the lock and temporaries."""
    left = ("manifest.json", "report.html")
    paths = (f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
    return sorted(f.relative_to(path).as_posix() for f in paths if f.name not in left)


def scores_of(path: Path, **wanted: object) -> list[dict[str, Any]]:
    """Return the rows of a table of scores, or of a run's, that have the wanted values."""
    file = path / "scores.parquet" if path.is_dir() else path
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def assert_refused(result: Result, *parts: str) -> str:
    """Check for exit status 2 and one line of error, which has some parts; return the line.

    Lines on the size of a run, and on what is measured and edited, may come before it.
    """
    assert result.status == 2, result
    notes = re.compile(r"  |tasklens: (measured|interventions:)|.* will take about ")
    lines = [line for line in result.err.splitlines() if not notes.match(line)]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("tasklens: error: "), lines[0]
    for part in parts:
        assert part in lines[0], f"{part!r} is not in: {lines[0]}"
    assert result.out == ""
    return lines[0]
