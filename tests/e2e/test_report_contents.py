"""The report's page: its legend, names on its map, and what replaces heat maps without content."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2e.browser import drawn, opened, shows, text, texts, to
from tasklens import View
from tasklens.report.group_names import MOST, TIMES, place_names
from tasklens.report.matrices import EVEN, FAINT
from tasklens.report.page import page as page_of
from tasklens.report.style import SYMBOLS
from tasklens.scoring.score_table import to_table
from views import VIEW_STEPS, planted_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

N, LAST = 90, len(VIEW_STEPS) - 1
TASK = np.repeat([0, 1, 2], N // 3)


def sorted_view() -> View:
    """Return a view of 90 points, each with an output of its own, whose clusters are its tasks.

    Two points of the last task are in the first task's cluster. The clusters have no ARI against
    input and output, and no two tasks have outputs in common. On the maps, the tasks are compact.
    """
    view = planted_view()
    split, random = view.splits["val_subset"], np.random.default_rng(0)
    clusters = TASK.copy()
    clusters[-2:] = 0
    ways = np.array([[0, 0], [40, 0], [0, 40]])[TASK]
    split = dataclasses.replace(
        split,
        parts={"task": TASK, "input": np.arange(N) % 4, "output": np.arange(N)},
        instruction=tuple(f"i{i}" for i in range(N)),
        answer=np.zeros((LAST + 1, N), dtype=np.int64),
        right=np.ones((LAST + 1, N), dtype=bool),
        maps={
            key: (ways + random.normal(size=(LAST + 1, N, 2))).astype(np.float32)
            for key in split.maps
        },
        assigned={state: np.tile(clusters, (LAST + 1, 1)) for state in view.states},
    )
    rows = [
        row | {"value": row["value"] * (0.1 if row["metric"] in ("ari_input", "ari_output") else 1)}
        for row in view.table.to_pylist()
    ]
    names = dict(view.names) | {"output": tuple(f"y{i}" for i in range(N))}
    world = dataclasses.replace(view.world, same_output=np.eye(3))
    return dataclasses.replace(
        view, splits={"val_subset": split}, names=names, table=to_table(rows), world=world
    )


@pytest.fixture(scope="module")
def page(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Page]":
    path: Path = tmp_path_factory.mktemp("contents") / "page.html"
    path.write_bytes(page_of([[sorted_view()]], [None], "by hand"))
    with opened(browser, path) as page:
        drawn(page, LAST, "block2")
        yield page


def test_a_long_legend_lists_some_values_and_finds_the_others(page: "Page") -> None:
    assert not page.is_visible("#legend-search")
    assert texts(page, "#legend .name") == ["plus", "minus", "swap"]
    page.check("#color input[value=output]")
    shows(page, "#legend-note", re.compile(r"^and 66 more\. There are 70 symbols for 90 outputs"))
    assert "There are 70 symbols for 90 outputs" in text(page, "#cloud-scores")
    assert len(texts(page, "#legend .name")) == 24
    page.fill("#sought", "Y8")
    expected = ["y8", *(f"y{i}" for i in range(80, 90))]
    shows(page, "#legend .name", [re.compile(f"^{name}$") for name in expected])
    page.fill("#sought", "z")
    shows(page, "#legend-note", re.compile("^No output has this in its name"))
    page.check("#color input[value=task]")
    shows(page, "#legend .name", [re.compile(name) for name in ("plus", "minus", "swap")])
    assert not page.is_visible("#legend-search")


def test_arrows_go_through_the_legend_which_is_one_stop(page: "Page") -> None:
    page.focus("#legend button")
    focused = "document.activeElement.textContent"
    for key, name in (
        *(("ArrowRight", "minus"), ("ArrowDown", "swap"), ("ArrowRight", "swap")),
        *(("ArrowUp", "minus"), ("Home", "plus"), ("End", "swap")),
    ):
        page.keyboard.press(key)
        assert page.evaluate(focused) == f"{name}30"
        assert page.locator("#legend button[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    shows(page, "#legend button[aria-pressed=true] .name", "swap")
    assert page.evaluate("look.lit") == 2
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    assert not page.evaluate("document.activeElement.closest('#legend')")


#: Where names are at a checkpoint, {value: [x, y]}, of those that are opaque, and the points.
NAMES = """(at) => {
  const pen = cloud.canvas.getContext("2d"), named = cloud.namesAt(pen, look.state, at, 1);
  const opaque = [...named].filter(([, name]) => name.alpha === 1);
  return [
    Object.fromEntries(opaque.map(([value, { x, y }]) => [value, [x, y]])),
    d3.pairs(cloud.points).filter((_, i) => i % 2 === 0),
  ];
}"""


def test_names_are_at_their_points_as_in_figures(page: "Page") -> None:
    names, points = page.evaluate(NAMES, LAST)
    expected = place_names(np.array(points), TASK, dict.fromkeys(range(3), 40.0), 16.0)
    assert len(names) == len(expected) == 3
    for value, middle in expected.items():
        assert names[str(value)] == pytest.approx(middle, abs=0.01)
    images = []
    for wanted in (True, False):
        page.set_checked("#names", wanted)
        page.evaluate("cloud.draw()")
        images.append(page.evaluate("cloud.canvas.toDataURL()"))
    assert images[0] != images[1]
    page.set_checked("#names", checked=True)
    page.check("#color input[value=input]")
    assert page.evaluate(NAMES, LAST)[0] == {}, "the points of an input are scattered"
    page.check("#color input[value=task]")


def test_what_has_no_content_is_a_sentence(page: "Page") -> None:
    to(page, "contents")
    page.wait_for_selector("#heat svg")
    assert page.locator("#heat svg[aria-label^='ARI against the']").count() == 1
    sentences = texts(page, "#heat p")
    assert sentences[0].startswith("The ARI against the input is at most 0.05: in embed at step 0.")
    assert sentences[1].startswith("The ARI against the output is at most 0.02: in ")
    first = text(page, "#contingency p")
    assert first.endswith("with few exceptions: 2 of 90 points are in another cluster.")
    assert texts(page, "#contingency li") == ["2 of swap in the cluster of plus"]
    assert not page.is_visible("#contingency table")
    page.click("#contingency summary")
    assert page.is_visible("#contingency table")
    page.fill("#step", "0")
    shows(page, "#contingency-title", "Tasks and clusters: block2, step 0")
    assert page.is_visible("#contingency table"), "it stays open"
    page.fill("#step", str(LAST))
    to(page, "world")
    page.wait_for_selector("#matrices svg")
    assert text(page, "#matrices p") == "Inputs with the same output: 0.00 for any two tasks."
    for part, label in (
        ("heat", "ARI"),
        ("order", "overlap (Jaccard index)"),
        ("matrices", "cosine"),
    ):
        assert label in texts(page, f"#{part} svg[aria-hidden] text"), "a scale of colours"


def test_the_page_and_figures_have_the_same_limits(page: "Page") -> None:
    limits = "[FAINT, EVEN, SYMBOLS, COMPACT.times, COMPACT.most]"
    assert page.evaluate(limits) == [FAINT, EVEN, SYMBOLS, TIMES, MOST]
