"""The page's maps: the plane of the centroids, small maps of checkpoints, and a second map."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2e.browser import DRAWN, at, opened, page_file, picture, shows, text, texts
from tasklens.report.page_arrays import LEVELS
from views import VIEW_ARI, VIEW_STEPS, planted_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def first_page(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Page]":
    """The page of a run and of another run, which has other instances."""
    view = planted_view()
    splits = {
        name: dataclasses.replace(split, instruction=split.instruction[::-1])
        for name, split in view.splits.items()
    }
    other = dataclasses.replace(view, run="other", seed=4, splits=splits)
    path = page_file(tmp_path_factory.mktemp("maps"), view, other)
    with opened(browser, path) as page:
        page.evaluate("() => { window.begun = { ...look }; }")
        yield page


@pytest.fixture
def page(first_page: "Page") -> "Page":
    first_page.evaluate("change(begun)")
    first_page.mouse.move(1, 1)
    return first_page


def test_the_plane_of_the_centroids_is_explained_with_what_it_shows(page: "Page") -> None:
    at(page, 1, "block2")
    before = picture(page)
    page.check("#map input[value=centroids]")
    assert picture(page) != before
    shares = "The map shows 13 % of the variance and 60 % of the variance between tasks."
    assert shares in text(page, "#cloud-scores")
    note = text(page, "#map-note")
    assert "a plane through the centroids of the 3 tasks at the last checkpoint" in note
    assert "The centroids are those of train_subset" in note
    page.check("#map input[value=pca]")
    assert "The map shows 25 % of the variance." in text(page, "#cloud-scores")


def test_small_maps_of_checkpoints(page: "Page") -> None:
    at(page, 2, "block2")
    page.check("#many input[value=checkpoints]")
    labels = [f"step {step} · " for step in VIEW_STEPS]
    assert [
        name[: len(label)]
        for name, label in zip(texts(page, "#multiples button"), labels, strict=True)
    ] == labels
    pressed = "[...document.querySelectorAll('#multiples button')].map((b) => b.ariaPressed)"
    assert page.evaluate(pressed) == ["false", "false", "true"]
    page.locator("#multiples button").nth(1).click()
    page.wait_for_selector('#cloud[data-drawn="block2 1"]')
    assert page.evaluate(pressed) == ["false", "true", "false"]
    assert page.evaluate(
        """() => {
          const kept = story.runs[0].steps;
          runsAt[0][0].steps = Array.from({ length: 41 }, (_, i) => i);
          const steps = choicesOfMultiples().map(({ step }) => step);
          runsAt[0][0].steps = kept;
          return steps;
        }"""
    ) == [0, 8, 16, 24, 32, 40], "like tasklens.figure_forming"


def beside(page: "Page") -> str:
    page.evaluate(DRAWN)
    return str(page.get_attribute("#beside-cloud", "data-drawn"))


def test_a_second_map_is_linked_by_instance(page: "Page") -> None:
    at(page, 2, "block2")
    assert page.is_hidden("#beside")
    page.check("#compare")
    page.evaluate("document.getElementById('clusters').scrollIntoView()")
    page.wait_for_selector('#beside-cloud[data-drawn="block2 0"]')
    first, second = (0.1 + VIEW_ARI["block2"][i] for i in (2, 0))
    scores = f"ARI {second:.2f} (first map {first:.2f})"
    shows(page, "#beside-title", f"block2, step 0 · {scores}. ")
    page.select_option("#beside-state", "block1")
    page.select_option("#beside-step", "")
    assert beside(page) == "block1 2"
    at(page, 1, "block2")
    assert beside(page) == "block1 1", "it follows the first map"
    places = planted_view().splits["val_subset"].maps["tsne", "block1"][1]
    pixels = np.array(page.evaluate("[...besideCloud.points]")).reshape(-1, 2) * [1, -1]
    order = np.argsort(pixels[:, 0])
    assert np.all(np.diff(places[order, 0]) > -2 * np.abs(places).max() / LEVELS)

    page.evaluate("change({ marked: 5 })")
    assert page.evaluate("besideCloud.ofShown") is True
    box = page.locator("#beside-cloud").bounding_box()
    assert box is not None
    page.evaluate("change({ marked: null })")
    x, y = page.evaluate("besideCloud.coordinatesOf(7)")
    page.mouse.move(box["x"] + x, box["y"] + y)
    shows(page, "#tip p:first-child", "val_subset 7 d y7")
    page.uncheck("#compare")
    assert page.is_hidden("#beside")


def test_another_run_beside_has_its_own_instances(page: "Page") -> None:
    at(page, 2, "block2")
    page.check("#compare")
    page.select_option("#beside-run", "1")
    title = (
        "other: block2, step 0 · ARI 0.20 (first map 0.91). Both maps show different instances, "
        "so that points are not linked. "
    )
    shows(page, "#beside-title", title)
    page.evaluate("change({ marked: 5 })")
    page.evaluate(DRAWN)
    assert page.evaluate("[cloud.ofShown, besideCloud.ofShown]") == [True, False]
    page.evaluate("putAddress()")
    address = page.evaluate("decodeURIComponent(location.hash)")
    assert "beside=block2|0|other" in address
    page.evaluate("() => { change({ beside: null }); putAddress(); }")
    page.evaluate(
        """(address) => new Promise((done) => {
          addEventListener("hashchange", () => setTimeout(done), { once: true });
          location.hash = address;
        })""",
        address,
    )
    assert page.evaluate("look.beside") == {"run": 1, "split": 1, "state": "block2", "step": 0}
