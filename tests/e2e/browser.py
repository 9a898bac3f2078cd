"""A browser for the tests of the report, and what they read from its pages."""

import contextlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import HANG
from tasklens.report.page import page as page_of
from tasklens.report.view import View

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
#: Milliseconds that the browser waits for what is to happen.
LIMIT = 1000 * HANG
#: Resolved once what was asked for so far is on the screen.
DRAWN = f"""() => new Promise((done, fail) => {{
  setTimeout(() => fail(new Error("no frame")), {LIMIT});
  requestAnimationFrame(() => requestAnimationFrame(done));
}})"""


def find_browser() -> str:
    """Return where Chromium is. Without it or playwright the test is skipped.

    With TASKLENS_BROWSER=required in the environment the test fails instead.
    """
    return find_one(CHROMIUM, "playwright.sync_api")


def find_one(names: Sequence[str], *packages: str) -> str:
    """Return the path of a browser by the first of its names, if all packages can be imported.

    If it or a package is missing, the test is skipped or fails, as in `find_browser`.
    """
    path = next(filter(None, map(shutil.which, names)), None)
    with contextlib.suppress(ImportError):
        for package in packages:
            importlib.import_module(package)
        if path is not None:
            return path
    installed = " ".join(package.partition(".")[0] for package in packages)
    missing = f"no browser: pip install {installed}, and one of {', '.join(names)}"
    required = os.environ.get("TASKLENS_BROWSER") == "required"
    raise (pytest.fail if required else pytest.skip).Exception(missing)


@contextlib.contextmanager
def opened(browser: "Browser", path: Path, **context: Any) -> "Iterator[Page]":
    """Open a page from the disk; check that it loads nothing else and reports no error.

    Motion is reduced, so that each change is visible at the next frame; `context` may change this.
    """
    window = browser.new_context(**{"viewport": SIZE, "reduced_motion": "reduce"} | context)
    requests: list[str] = []
    problems: list[str] = []
    window.on("request", lambda request: requests.append(request.url))
    page = window.new_page()
    page.set_default_timeout(LIMIT)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    try:
        page.goto(path.resolve().as_uri())
        to(page, "clusters")
        page.wait_for_selector("#cloud[data-drawn]")
        yield page
        page.evaluate(DRAWN)
    finally:
        window.close()
    assert not problems, problems
    # Chromium reports that of the file itself, too
    assert set(requests) <= {path.resolve().as_uri()}, requests


def page_file(directory: Path, *views: View) -> Path:
    """Write the page of some views that nothing judges."""
    path = directory / "page.html"
    path.write_bytes(page_of([[view] for view in views], [None] * len(views), "by hand"))
    return path


def to(page: "Page", part: str) -> None:
    """Scroll to a part of the page, which is then drawn: what is only passed by is not."""
    page.evaluate("(id) => document.getElementById(id).scrollIntoView()", part)
    page.evaluate(DRAWN)


def at(page: "Page", step: int, state: str | None = None) -> None:
    """Look at a checkpoint, by its place, and at a layer, through the page's controls."""
    if state is not None:
        page.select_option("#state", state)
    page.fill("#step", str(step))
    to(page, "clusters")  # a map out of sight is not drawn
    drawn(page, step, state or str(page.input_value("#state")))


def drawn(page: "Page", step: int, state: str) -> None:
    """Wait until a checkpoint of a layer is drawn."""
    page.wait_for_selector(f'#cloud[data-drawn="{state} {step}"]')


def picture(page: "Page") -> str:
    """Return the map as it is on the screen, as the text of an image."""
    page.evaluate(DRAWN)
    image: str = page.evaluate("document.getElementById('cloud').toDataURL()")
    assert len(image) > 1000
    return image


def text(page: "Page", selector: str) -> str:
    """Return the text of the first such element, spaces made one."""
    return " ".join((page.locator(selector).first.text_content() or "").split())


def shows(
    page: "Page", selector: str, expected: str | re.Pattern[str] | Sequence[re.Pattern[str]]
) -> None:
    """Wait until elements show a text, or a text each."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(expected, timeout=LIMIT)


def texts(page: "Page", selector: str) -> list[str]:
    """Return the text of elements, spaces made one."""
    return [" ".join(content.split()) for content in page.locator(selector).all_text_contents()]


def story_of(content: bytes) -> dict[str, Any]:
    """Return the data of a page."""
    stories = re.findall(rb'<script type="application/json" id="story">(.*?)</script>', content)
    assert len(stories) == 1
    story: dict[str, Any] = json.loads(stories[0])
    return story
