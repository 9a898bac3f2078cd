"""A browser for the tests of the report, or why there is none; and what is asked of its pages."""

import contextlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tasklens.core.seeds import stream
from tasklens.report.view import MAPS, SplitView, TaskOverview, TaskView, View
from tasklens.scoring.cluster_tracking import follow
from tasklens.scoring.score_table import Row, to_table

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: Of any browser that is started here.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--no-first-run"),
]
#: Of the window: as much as needs be, as every picture is asked for.
SIZE: "ViewportSize" = {"width": 1000, "height": 800}
#: Resolved once what was asked for until now is on the screen.
DRAWN = """() => new Promise((done, fail) => {
  setTimeout(() => fail(new Error("no frame")), 5000);
  requestAnimationFrame(() => requestAnimationFrame(done));
})"""


def find_browser() -> str:
    """Return where Chromium is.

    Where it is missing, or playwright is, the test is skipped; with TASKLENS_BROWSER=required in
    the environment it fails.
    """
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    missing = ""
    try:
        importlib.import_module("playwright.sync_api")
    except ImportError:
        missing = "no playwright: pip install playwright"
    if path is None:
        missing = missing or f"no browser: install one of {', '.join(CHROMIUM)}"
    if missing and os.environ.get("TASKLENS_BROWSER") == "required":
        pytest.fail(f"TASKLENS_BROWSER=required, but {missing}")
    if missing:
        pytest.skip(missing)
    assert path is not None
    return path


@contextlib.contextmanager
def opened(browser: "Browser", path: Path, **context: Any) -> "Iterator[Page]":
    """Open a page from the disk; hold it to fetching nothing but itself, and to no complaint.

    Motion is reduced, so that what is asked for is there at the next frame, unless `context` says
    otherwise.
    """
    asked = {"viewport": SIZE, "reduced_motion": "reduce"} | context
    place = browser.new_context(**asked)
    requests: list[str] = []
    problems: list[str] = []
    place.on("request", lambda request: requests.append(request.url))
    page = place.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: (
            problems.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    try:
        page.goto(path.resolve().as_uri())
        to(page, "clusters")
        page.wait_for_selector("#cloud[data-drawn]")
        yield page
        page.evaluate(DRAWN)
    finally:
        place.close()
    assert not problems, problems
    assert set(requests) == {path.resolve().as_uri()}, requests


def to(page: "Page", part: str) -> None:
    """Scroll to a part of the page."""
    page.evaluate("(id) => document.getElementById(id).scrollIntoView()", part)


def at(page: "Page", step: int, state: str | None = None) -> None:
    """Look at a checkpoint, by its place, and at a layer, through the page's controls."""
    if state is not None:
        page.select_option("#state", state)
    page.fill("#step", str(step))
    drawn(page, step, state or str(page.input_value("#state")))


def drawn(page: "Page", step: int, state: str) -> None:
    """Wait until a checkpoint of a layer is drawn."""
    page.wait_for_selector(f'#cloud[data-drawn="{state} {step}"]')


def picture(page: "Page") -> str:
    """Return the map as it is on the screen, as the text of an image."""
    page.evaluate(DRAWN)
    found: str = page.evaluate("document.getElementById('cloud').toDataURL()")
    assert len(found) > 1000
    return found


def text(page: "Page", selector: str) -> str:
    """Return the text of the first such element, spaces made one."""
    return " ".join((page.locator(selector).first.text_content() or "").split())


def shows(
    page: "Page", selector: str, what: str | re.Pattern[str] | Sequence[re.Pattern[str]]
) -> None:
    """Wait until elements show a text, or a text each."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(what)


def texts(page: "Page", selector: str) -> list[str]:
    """Return the text of elements, spaces made one."""
    return [" ".join(found.split()) for found in page.locator(selector).all_text_contents()]


def made_view(
    n: int = 40, n_steps: int = 4, n_names: int = 6, states: int = 3, n_answers: int = 6
) -> View:
    """Return a view of points at random places: two splits, the second of twice as many.

    Its tasks are called ``task0`` and so on, its inputs x0, its outputs and answers y0; its steps
    are 0, 1000 and so on, its states `embed`, ``block1`` and so on.
    """
    rng = stream(0, "made view")
    steps = tuple(1000 * i for i in range(n_steps))
    names = {part: tuple(f"{part}{i}" for i in range(n_names)) for part in ("task", "x", "y")}
    answers = tuple(f"y{i}" for i in range(n_answers))
    layers = ("embed", *(f"block{i}" for i in range(1, states)))
    splits = {}
    for split, many in (("train_subset", n), ("val_subset", 2 * n)):
        task = np.arange(many) % n_names
        followed = {
            state: follow(steps, rng.integers(n_names, size=(n_steps, many)), task)
            for state in layers
        }
        splits[split] = SplitView(
            parts={
                "task": task,
                "input": rng.integers(n_names, size=many),
                "output": rng.integers(n_names, size=many),
            },
            instruction=tuple(f"{split} {i}" for i in range(many)),
            answer=rng.integers(-1, n_answers, size=(n_steps, many)),
            right=rng.random((n_steps, many)) < 0.5,
            maps={
                (which, state): rng.normal(size=(n_steps, many, 2), scale=50).astype(np.float32)
                for which in MAPS
                for state in layers
            },
            shown_variance={state: np.linspace(0.2, 0.9, n_steps) for state in layers},
            assigned={state: its.assigned for state, its in followed.items()},
            followed=followed,
        )
    place: Row = {"run": "made", "seed": 7, "space": "raw", "k": n_names, "cluster_seed": 0}
    rows: list[Row] = [
        {**place, "split": split, "step": step, "layer": state, "metric": m, "value": rng.random()}
        for split in splits
        for step in steps
        for state in layers
        for m in ("ari", "ari_input", "ari_output", "variance_task")
    ]
    return View(
        run="made",
        seed=7,
        kind="run",
        steps=steps,
        states=layers,
        splits=splits,
        names={"task": names["task"], "input": names["x"], "output": names["y"]},
        answers=answers,
        table=to_table(rows),
        world=TaskOverview(
            tuple(TaskView(name) for name in names["task"]),
            {"tasks": n_names, "inputs": n_names, "outputs": n_names},
            None,
            np.eye(n_names),
        ),
        settings="",
        manifest={},
    )


def story_of(content: bytes) -> dict[str, Any]:
    """Return what a page is told."""
    found = re.findall(rb'<script type="application/json" id="story">(.*?)</script>', content)
    assert len(found) == 1
    told: dict[str, Any] = json.loads(found[0])
    return told
