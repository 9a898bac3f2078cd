"""Progress: bars on a terminal, lines elsewhere, nothing if it is not asked for."""

import contextlib
import io
import re
import threading

import pytest

from conftest import HANG
from tasklens.core import progress as module
from tasklens.core.progress import (
    Level,
    clear_status,
    detail,
    duration,
    inform,
    progress,
    reporting,
    shows_bars,
    status,
    warn,
)


class Terminal(io.StringIO):
    """Stands for standard error on a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(level: Level) -> Terminal:
    """Return what `report_all` shows on a terminal, at some level."""
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), reporting(level):
        report_all()
    return terminal


def shown(terminal: Terminal) -> list[str]:
    """Return what stood on the terminal, one after the other."""
    return [text for text in re.split(r"[\r\n]+", terminal.getvalue()) if text.strip()]


def report_all() -> None:
    status("starting")
    with progress("train", 4, "step", 1) as bar:
        for _ in range(3):
            bar.note("loss 0.5")
            bar.update()
        inform("a note")
    detail("a detail")
    warn("a danger")
    clear_status()


LINES = ["train: begins (4 steps)", "a note", "train: done in 0 s"]


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        (Level.QUIET, []),
        (Level.BARS, ["a note"]),
        (Level.LINES, LINES),
        (Level.DETAILS, ["starting", *LINES, "a detail"]),
    ],
)
def test_what_each_level_prints_off_terminals(
    capsys: pytest.CaptureFixture[str], level: Level, lines: list[str]
) -> None:
    with reporting(level):
        report_all()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"tasklens: {line}" for line in [*lines, "warning: a danger"]]


def test_python_callers_get_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report_all()
    assert capsys.readouterr().err == "tasklens: a note\ntasklens: warning: a danger\n"


def test_a_terminal_shows_status_and_bar_in_order() -> None:
    terminal = on_terminal(Level.LINES)
    texts = shown(terminal)
    assert texts[0].startswith("starting (")
    bars = [text for text in texts if text.startswith("train: ")]
    assert "1/4" in bars[0]
    assert "4/4" in bars[-1]
    assert "loss 0.5" in bars[-1]
    assert texts[-1] == "tasklens: warning: a danger"
    assert "begins" not in terminal.getvalue()


def test_a_quiet_terminal_shows_warnings_only() -> None:
    assert shown(on_terminal(Level.QUIET)) == ["tasklens: warning: a danger"]


class Watched(io.StringIO):
    """Standard error that sets an event once a line counts or estimates."""

    def __init__(self) -> None:
        super().__init__()
        self.printed = threading.Event()

    def write(self, text: str) -> int:
        if " of " in text or "so far" in text:
            self.printed.set()
        return super().write(text)


def test_a_line_now_and_then_counts_and_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.01)
    stream = Watched()
    with contextlib.redirect_stderr(stream), reporting(Level.LINES):
        with progress("train", 1600, "step") as bar:
            bar.update(400)
            assert stream.printed.wait(HANG)
        stream.printed.clear()
        with progress("plot"):
            assert stream.printed.wait(HANG)
    err = stream.getvalue()
    line = r"^tasklens: train: step 400 of 1,600, 25%, [\d.e+]+ per second, .* left$"
    assert re.search(line, err, re.MULTILINE)
    assert "\r" not in err
    assert re.search(r"^tasklens: plot: .* so far$", err, re.MULTILINE)


def test_what_does_not_last_has_lines_only_if_it_is_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporting(Level.LINES), progress("load a model", lasting=False):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.01)
    stream = Watched()
    with (
        contextlib.redirect_stderr(stream),
        reporting(Level.LINES),
        progress("load a model", lasting=False),
    ):
        assert stream.printed.wait(HANG)
    lines = {re.sub(r"\d+ s", "N s", line) for line in stream.getvalue().splitlines()}
    assert lines == {"tasklens: load a model: N s so far"}
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), reporting(Level.LINES):
        assert shows_bars()
        with progress("load a model", lasting=False):
            pass
    assert shown(terminal)[0].startswith("load a model (")
    assert not shows_bars(), "standard error is no terminal"


def test_a_stage_that_fails_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(Level.LINES), pytest.raises(ZeroDivisionError), progress("train"):
        _ = 1 // 0
    assert capsys.readouterr().err == "tasklens: train: begins\n"


def test_no_thread_is_left() -> None:
    on_terminal(Level.LINES)  # tqdm starts a thread of its own, once
    before = threading.active_count()
    with contextlib.redirect_stderr(Terminal()), reporting(Level.LINES):
        status("what the end of the block ends")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_nothing_that_is_reported_acts_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text, shown_text = "a\nb\x1b[2J\u202e", r"a\nb\x1b[2J\u202e"
    with reporting(Level.LINES):
        warn(text)
        inform(text, text)
        with progress(text):
            pass
    lines = capsys.readouterr().err.splitlines()
    expected = [f"warning: {shown_text}", shown_text]
    assert lines[:2] == [f"tasklens: {line}" for line in expected]
    assert lines[2:4] == [shown_text, f"tasklens: {shown_text}: begins"]
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), reporting(Level.LINES):
        status(text)
        with progress(text) as bar:
            bar.note(text)
    assert "\u202e" not in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()
    assert f"{shown_text} (" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (120, "2 min"), (9000, "2.5 h")]
)
def test_a_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_no_work_is_lost_because_nothing_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr("sys.stderr", full)
        with reporting(Level.LINES):
            report_all()
    monkeypatch.setattr("sys.stderr", None)  # closed
    with reporting(Level.LINES):
        report_all()
