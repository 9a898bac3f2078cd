"""The report's curves: the axis of steps, the colours of lines, and the names at their ends."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from colors import VISION, contrast, linear, oklab
from e2e.browser import opened, to
from tasklens.core.seeds import stream
from tasklens.report.end_labels import spread
from tasklens.report.layer_looks import line_look
from tasklens.report.page import page as page_of
from views import planted_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

GROUNDS = {"light": "#ffffff", "dark": "#12161c"}
STATES = ["wte", "embed", *(f"block{i}" for i in range(1, 7)), "ln_f"]
LONG = [0, 1, 2, 4, *range(150, 4801, 150)]
#: The boxes of the texts in the first plot that a selector names.
BOXES = """(selector) => [...document.querySelector("#curves svg").querySelectorAll(selector)]
  .map((text) => text.getBoundingClientRect())
  .map((box) => [box.left, box.top, box.right, box.bottom])"""


@pytest.fixture(scope="module")
def page(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Page]":
    path: Path = tmp_path_factory.mktemp("curves") / "page.html"
    path.write_bytes(page_of([[planted_view()]], [None], "by hand"))
    with opened(browser, path) as page:
        to(page, "verdicts")
        page.wait_for_selector("#curves svg")
        yield page


@pytest.mark.parametrize("theme", GROUNDS)
def test_the_deeper_a_block_is_the_more_it_stands_out_from_the_ground(
    page: "Page", theme: str
) -> None:
    page.evaluate("(theme) => change({ theme })", theme)
    colors = page.evaluate(
        "(states) => states.map((s) => d3.color(lineColor(s, states)).formatHex())", STATES
    )
    page.evaluate("() => change({ theme: '' })")
    contrasts = [contrast(color, GROUNDS[theme]) for color in colors]
    assert min(contrasts) > 3, "WCAG 2.2, 1.4.11"
    blocks = slice(2, -1)
    assert (np.diff(contrasts[blocks]) > 0).all()
    for matrix in VISION.values():
        lightness = oklab(linear(colors[blocks]) @ matrix.T)[:, 0]
        assert (np.abs(np.diff(lightness)) > 0.035).all(), "grey in print; 0.02 is just visible"
    if theme == "light":
        figure = [line_look(state, STATES)["color"] for state in STATES]
        assert linear(colors) == pytest.approx(linear(figure), abs=0.01), "as in Figure 1"


def test_the_axis_is_linear_and_then_logarithmic_and_named_so(page: "Page") -> None:
    run = "({ steps, width }) => { const axis = stepAxis(steps, width); return [axis.linear, %s]; }"
    asked = {"steps": LONG, "width": 200}
    change, places, ticks, label = page.evaluate(
        run
        % "steps.map(axis.place), axis.scale.ticks.map(axis.scale.tickFormat), axis.scale.label",
        asked,
    )
    assert (change, label) == (150, "training step (linear to 150, then log)")
    assert ticks == ["0", "4.8k", "150", "1k", "2k", "500"]
    small, large = places[: LONG.index(150) + 1], places[LONG.index(150) :]
    assert np.diff(small) == pytest.approx(np.diff(LONG[: len(small)]) / 150 / 1.8)
    assert np.diff(large) == pytest.approx(np.diff(np.log10(LONG[len(small) - 1 :])))
    narrow = page.evaluate(
        run % "axis.scale.ticks.map(axis.scale.tickFormat)", asked | {"width": 60}
    )
    assert narrow == [150, ["0", "4.8k"]]
    even = page.evaluate(run % "axis.scale.label", {"steps": [0, 10, 20, 30], "width": 200})
    assert even == [None, "training step"]


def test_names_are_as_far_apart_as_in_figures_and_do_not_touch(page: "Page") -> None:
    random = stream(0, "heights")
    for n in (1, 4, 11):
        heights = np.sort(random.uniform(-0.2, 1.2, n))
        asked = "(heights) => spread(heights, 0.08, 0, 1)"
        assert page.evaluate(asked, heights.tolist()) == pytest.approx(spread(heights, 0.08, 0, 1))
    for selector in (".ends text", "[aria-label='x-axis tick label'] text"):
        boxes = page.evaluate(BOXES, selector)
        assert len(boxes) > 1
        for (a, b, c, d), (e, f, g, h) in itertools.combinations(boxes, 2):
            assert min(c, g) - max(a, e) <= 0.5 or min(d, h) - max(b, f) <= 2.5, "line spacing"
    names = page.locator("#curves svg").first.locator(".ends text").all_text_contents()
    assert {"embed", "block1", "block2", "length"} <= {*names}
