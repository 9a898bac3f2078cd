"""The report in Firefox: what may differ between browsers. Chromium runs all other tests."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.browser import LIMIT, at, drawn, find_one, opened, picture, shows, text
from tasklens.report.page import page as page_of
from views import VIEW_STEPS, planted_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: Click a button; return the name and the first bytes of the file, instead of saving it: the driver
#: reports no download of a page from the disk.
SAVED = """async (id) => {
  const kept = download;
  try {
    return await new Promise((done) => {
      download = async (name, blob) =>
        done([name, Array.from(new Uint8Array(await blob.slice(0, 4).arrayBuffer()))]);
      byId(id).click();
    });
  } finally {
    download = kept;
  }
}"""
#: The first bytes of the files that the page saves; WebM is EBML.
BEGINS = {"save-png": b"\x89PNG", "save-svg": b"<?xm", "save-film": b"\x1a\x45\xdf\xa3"}
pytestmark = pytest.mark.long
FIREFOX = ("firefox-esr", "firefox")
LAST = len(VIEW_STEPS) - 1


@pytest.fixture(scope="module")
def path() -> str:
    return find_one(FIREFOX, "playwright.sync_api", "websockets")


@contextlib.contextmanager
def firefox(path: str, directory: Path, *, dark: bool, moving: bool) -> "Iterator[Browser]":
    """Start Firefox and end it; `find_one` has checked that both packages are there."""
    from playwright.sync_api import sync_playwright

    from e2e.firefox_relay import launch_firefox

    with sync_playwright() as playwright:
        browser = launch_firefox(
            playwright, path, directory, dark=dark, moving=moving, timeout=LIMIT
        )
        yield browser
        browser.close()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The page of `planted_view`."""
    report = tmp_path / "page.html"
    report.write_bytes(page_of([[planted_view()]], [None], "by hand"))
    return report


def test_the_page_plays_and_is_read_by_keys(path: str, report: Path, tmp_path: Path) -> None:
    with firefox(path, tmp_path, dark=False, moving=True) as browser:
        with opened(browser, report) as page:
            assert "Firefox" in page.evaluate("navigator.userAgent")
            assert not page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
            state = page.input_value("#state")
            pictures = []
            for checkpoint in range(LAST + 1):
                at(page, checkpoint)
                pictures.append(picture(page))
            assert len(set(pictures)) == LAST + 1
            page.focus("#cloud")
            page.keyboard.press("Home")
            drawn(page, 0, state)
            assert picture(page) == pictures[0]
            page.keyboard.press("Space")
            drawn(page, LAST, state)
            shows(page, "#play", "play")
            assert picture(page) == pictures[LAST]
            page.keyboard.press("n")
            page.wait_for_function("document.getElementById('spoken').textContent")
            assert "the model answers" in text(page, "#spoken")
            page.evaluate("location.hash = 'step=10&state=block1'")
            drawn(page, VIEW_STEPS.index(10), "block1")
            page.keyboard.press("Home")
            drawn(page, 0, "block1")
            page.wait_for_function("location.hash.includes('step=0')")
            for button, begins in BEGINS.items():
                name, first = page.evaluate(SAVED, button)
                assert bytes(first) == begins, name
        with pytest.raises(AssertionError, match="planted"):  # so that no error is missed
            fail(browser, report)


def fail(browser: "Browser", report: Path) -> None:
    """Open the page and raise an error in it."""
    with opened(browser, report) as page, page.expect_event("pageerror"):
        page.evaluate("setTimeout(() => { throw new Error('planted'); })")


def test_the_page_is_dark_and_still_if_the_system_is(
    path: str, report: Path, tmp_path: Path
) -> None:
    with (
        firefox(path, tmp_path, dark=True, moving=False) as browser,
        opened(browser, report) as page,
    ):
        at(page, LAST)
        assert page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
        background = "getComputedStyle(document.body).backgroundColor"
        dark, by_night = page.evaluate(background), picture(page)
        while "light" not in text(page, "#theme"):
            page.click("#theme")
        assert page.evaluate(background) != dark
        assert picture(page) != by_night
