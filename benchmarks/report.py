"""Time the report in a browser: seconds until its map is drawn, and frames per second.

The page has random points that move at random at every checkpoint, which compresses worse than any
run. With --page an existing page is timed. The script needs playwright and Chromium (--browser).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from tasklens.core.seeds import stream
from tasklens.report.page import page
from tasklens.report.view import MAPS, PLANES, SplitView, TaskOverview, TaskView, View
from tasklens.scoring.cluster_tracking import follow
from tasklens.scoring.score_table import Row, to_table

#: Frame times while it plays, by the browser's own clock.
COUNT = """async (seconds) => {
  play(true);
  const times = [];
  await new Promise((done) => {
    const began = performance.now();
    const frame = (now) => {
      times.push(now);
      now - began < 1000 * seconds ? requestAnimationFrame(frame) : done();
    };
    requestAnimationFrame(frame);
  });
  play(false);
  return times;
}"""


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


def main() -> None:
    """Measure, and print one line for each number."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=2000)
    options.add_argument("--states", type=int, default=8)
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--page", type=Path, help="an existing report")
    options.add_argument("--browser", default="/usr/bin/chromium")
    options.add_argument("--seconds", type=float, default=8.0, help="of playing")
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        path = asked.page
        if path is None:
            path = Path(directory) / "report.html"
            path.write_bytes(page([[moving(asked.points, asked.states, asked.steps)]], [None], ""))
        print(f"size: {path.stat().st_size / 1e6:.1f} MB")
        browser = playwright.chromium.launch(
            executable_path=asked.browser, args=["--no-sandbox", "--disable-gpu"]
        )
        opened, rates, slowest = [], [], []
        for _ in range(asked.rounds):
            tab = browser.new_page(viewport={"width": 1280, "height": 1000})
            began = time.perf_counter()
            tab.goto(path.resolve().as_uri())
            tab.wait_for_selector("#cloud[data-drawn]")
            opened.append(time.perf_counter() - began)
            # show the map and, if they fit, the small maps below it
            tab.evaluate("document.getElementById('cloud').scrollIntoView()")
            tab.wait_for_timeout(300)
            gaps = np.diff(tab.evaluate(COUNT, asked.seconds))
            rates.append(1000 / float(np.mean(gaps)))
            slowest.append(1000 / float(np.quantile(gaps, 0.99)))
            tab.close()
        browser.close()
    for name, values in (
        ("seconds until the map is drawn", opened),
        ("frames a second while it plays", rates),
        ("the same, of the slowest hundredth", slowest),
    ):
        low, high = min(values), max(values)
        print(f"{name}: {statistics.median(values):.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
