"""Measure the report in a browser: bytes, first paint, frames per second while it plays.

The page has random points that move at random at every checkpoint, which compresses worse than any
run. With --page an existing page is measured. The script needs playwright, and Chromium or Firefox.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import ROOT, Result, begin, parser
from playwright.sync_api import sync_playwright

from tasklens.core.seeds import stream
from tasklens.report.page import page
from tasklens.report.view import MAPS, PLANES, SplitView, TaskOverview, TaskView, View
from tasklens.scoring.cluster_tracking import follow
from tasklens.scoring.score_table import Row, to_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Frame times while it plays, by the browser's own clock.
COUNT = """async (seconds) => {
  const times = [];
  await new Promise((done) => {
    const began = performance.now();
    const frame = (now) => {
      if (!playing) play(true);
      times.push(now);
      now - began < 1000 * seconds ? requestAnimationFrame(frame) : done();
    };
    requestAnimationFrame(frame);
  });
  play(false);
  return times;
}"""
#: Milliseconds from the request of the page to its first text or picture, by the browser's clock.
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def moving(n: int, n_states: int, n_steps: int, n_tasks: int = 20) -> View:
    """Return a view of points that walk at random."""
    rng = stream(0, "moving points")
    steps = tuple(range(0, 100 * n_steps, 100))
    states = ("embed", *(f"block{i}" for i in range(1, n_states - 1)), "ln_f")
    task = np.arange(n) % n_tasks
    labels = rng.integers(n_tasks, size=(n_steps, n))
    followed = follow(steps, labels, task)
    split = SplitView(
        parts={"task": task, "input": rng.integers(40, size=n), "output": task},
        instruction=tuple(f"instruction {i}" for i in range(n)),
        answer=rng.integers(n_tasks, size=(n_steps, n)),
        right=rng.random((n_steps, n)) < 0.5,
        maps={
            (kind, state): np.cumsum(rng.normal(size=(n_steps, n, 2)), axis=0).astype(np.float32)
            for kind in MAPS
            for state in states
        },
        shown_variance={
            (plane, state): np.full(n_steps, 0.2) for plane in PLANES for state in states
        },
        shown_between={state: np.full(n_steps, 0.8) for state in states},
        assigned=dict.fromkeys(states, followed.assigned),
        followed=dict.fromkeys(states, followed),
    )
    key: Row = {"run": "moving", "seed": 0, "split": "val_subset", "space": "raw", "k": n_tasks}
    rows: list[Row] = [
        {**key, "step": step, "layer": state, "cluster_seed": 0, "metric": m, "value": 0.5}
        for step in steps
        for state in states
        for m in ("ari", "ari_input", "ari_output", "variance_task")
    ]
    names = tuple(f"task{i}" for i in range(n_tasks))
    return View(
        run="moving",
        seed=0,
        kind="run",
        position="input",
        family="",
        steps=steps,
        states=states,
        splits={"val_subset": split},
        names={"task": names, "input": tuple(f"x{i}" for i in range(40)), "output": names},
        answers=names,
        table=to_table(rows),
        world=TaskOverview(
            tuple(TaskView(name) for name in names),
            {"tasks": n_tasks, "inputs": 40, "outputs": n_tasks},
            None,
            np.eye(n_tasks),
        ),
        settings="",
        manifest={},
    )


@dataclass(frozen=True)
class Round:
    """One opening of the page.

    Attributes
    ----------
    paint, drawn : float
        Seconds until the first paint, by the browser's clock, and until the map is drawn.
    rate, slowest : float
        Frames per second of playing, and of the slowest hundredth of the frames.
    """

    paint: float
    drawn: float
    rate: float
    slowest: float


@contextlib.contextmanager
def started(path: str, directory: Path) -> "Iterator[Browser]":
    """Start Chromium or Firefox."""
    with sync_playwright() as playwright:
        if "firefox" in path:
            sys.path.insert(0, str(ROOT / "tests"))
            from e2e.firefox_relay import launch_firefox

            browser = launch_firefox(playwright, path, directory)
        else:
            arguments = ["--no-sandbox", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def open_once(browser: "Browser", path: Path, seconds: float) -> Round:
    """Open the page in a new tab, and let it play."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    began = time.perf_counter()
    tab.goto(path.resolve().as_uri())
    tab.evaluate("document.getElementById('cloud').scrollIntoView()")
    tab.wait_for_selector("#cloud[data-drawn]")
    drawn = time.perf_counter() - began
    paint = tab.evaluate(PAINT) / 1000
    tab.wait_for_timeout(300)
    gaps = np.diff(tab.evaluate(COUNT, seconds))
    tab.close()
    return Round(paint, drawn, 1000 / float(gaps.mean()), 1000 / float(np.quantile(gaps, 0.99)))


def main() -> None:
    """Measure, and print a row for each number that has a goal."""
    options = parser(__doc__)
    options.add_argument("--points", type=int, default=1000)
    options.add_argument("--states", type=int, default=8)
    options.add_argument("--steps", type=int, default=41)
    options.add_argument("--page", type=Path, help="an existing report")
    options.add_argument("--browser", default="/usr/bin/chromium", help="or Firefox, by its path")
    options.add_argument("--seconds", type=float, default=8.0, help="of playing")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    report = begin(arguments)
    with tempfile.TemporaryDirectory() as directory:
        path = arguments.page
        what = f"{path}"
        if path is None:
            path = Path(directory) / "report.html"
            view = moving(arguments.points, arguments.states, arguments.steps)
            path.write_bytes(page([[view]], [None], ""))
            what = f"{arguments.points:,} points at random x {arguments.states} hidden states"
        size = path.stat().st_size / 1e6
        with started(arguments.browser, Path(directory)) as browser:
            name = f"{browser.browser_type.name.capitalize()} {browser.version}"
            open_once(browser, path, 0.1)  # the browser's own start
            rounds = [open_once(browser, path, arguments.seconds) for _ in range(arguments.rounds)]
    drawn = statistics.median(opened.drawn for opened in rounds)
    paints = [opened.paint for opened in rounds]
    rates = [opened.rate for opened in rounds]
    slowest = statistics.median(opened.slowest for opened in rounds)
    for measured, ours, unit, target, note in (
        ("bytes of the page", size, "MB", "<= 10", ""),
        (
            "first paint",
            statistics.median(paints),
            "s",
            "<= 0.5",
            f"slowest of {len(rounds)}: {max(paints):.2f} s; the map is drawn after {drawn:.2f} s",
        ),
        (
            "frames while the map plays",
            statistics.median(rates),
            "/s",
            ">= 60",
            f"slowest of {len(rounds)}: {min(rates):.3g}/s; "
            f"slowest hundredth of the frames: {slowest:.3g}/s",
        ),
    ):
        row = f"{what}: {measured}, {name}"
        report.add(Result(what=row, against="", ours=ours, unit=unit, target=target, note=note))


if __name__ == "__main__":
    main()
