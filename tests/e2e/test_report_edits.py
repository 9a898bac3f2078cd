"""The page's heat map of the effects of edits, and moves on its map, in a browser."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.browser import DRAWN, SIZE, at, opened, page_file, picture, shows, text, texts, to
from tasklens import View
from tasklens.report.edits_view import Plane
from views import VIEW_ARI, VIEW_EFFECTS, planted_edits, planted_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STATES = ("embed", "block1", "block2")


@pytest.fixture(scope="module")
def view() -> View:
    return dataclasses.replace(planted_view(), edits=planted_edits())


@pytest.fixture(scope="module")
def first_page(
    browser: "Browser", view: View, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Page]":
    with opened(browser, page_file(tmp_path_factory.mktemp("edits"), view)) as page:
        page.evaluate("() => { window.begun = { ...look }; }")
        yield page


@pytest.fixture
def page(first_page: "Page") -> "Page":
    first_page.evaluate("change(begun)")
    first_page.mouse.move(1, 1)
    return first_page


#: What is written into the cells of a heat map, the last state first, and its title.
CELLS = """(i) => {
  const panel = document.querySelectorAll("#effects .panel")[i];
  return Array.from(panel.querySelectorAll("[aria-label=text]"),
    (mark) => Array.from(mark.querySelectorAll("text"), (t) => t.textContent));
}"""


def written(values: Mapping[str, tuple[float, ...]], digits: int = 2) -> list[str]:
    """Return what is written of effects by state."""
    return [f"{value:.{digits}f}" for state in STATES for value in values.get(state, ())]


def cells(page: "Page", panel: int) -> tuple[list[str], str]:
    """Return the numbers of a heat map, and its title."""
    page.evaluate(DRAWN)
    numbers, title = page.evaluate(CELLS, panel)
    return numbers, title[0]


# --- Heat maps ---


def test_the_heat_maps_are_ari_and_effect_at_the_checkpoints_with_edits(page: "Page") -> None:
    to(page, "use")
    page.wait_for_selector("#effects svg")
    ari = {state: tuple(value + 0.1 for value in VIEW_ARI[state][1:]) for state in STATES}
    assert cells(page, 0) == (written(ari), "ARI of the clusters against the task")
    numbers, title = cells(page, 1)
    assert numbers == written(VIEW_EFFECTS["shift", "becomes"])
    assert title.startswith("shift: ")
    assert "Earlier tokens still carry the own task" in text(page, "#edits")
    for edit in ("patch", "random"):
        page.select_option("#edit", edit)
        assert cells(page, 1)[0] == written(VIEW_EFFECTS[edit, "becomes"])
    note = "The largest is 0.02, in block1 at step 40."
    assert text(page, "#edit-note").endswith(note), "of random, whose colours hardly differ"
    page.select_option("#edit", "shift")
    page.check("#able")
    assert cells(page, 1)[0] == written(VIEW_EFFECTS["shift", "becomes_able"])
    page.uncheck("#able")
    for effect, digits in (("stays", 2), ("becomes_normalised", 2), ("logit_change", 2)):
        page.check(f"#effect input[value={effect}]")
        assert cells(page, 1)[0] == written(VIEW_EFFECTS["shift", effect], digits)
        assert page.is_disabled("#able") == (effect == "becomes_normalised")
    page.check("#effect input[value=becomes]")


def test_edits_are_chosen_by_name_and_roles_are_named(page: "Page") -> None:
    expected = ["shift", "patch (ceiling)", "random (floor)"]
    assert texts(page, "#edit option") == expected, "repair has no effect on pairs"


def test_the_dial_of_use_is_beside_floor_and_ceiling_or_names_the_last_edits(page: "Page") -> None:
    page.select_option("#state", "block1")
    for checkpoint, value, beside in (
        (2, "0.40", ["random direction0.02", "real state0.60"]),
        (0, "–", ["not edited at this step; 0.20 at step 10"]),
    ):
        page.fill("#step", str(checkpoint))
        shows(page, "#dial-2 .value", value)
        assert texts(page, "#dial-2 .beside p") == beside
        label = (page.get_attribute("#dial-2", "aria-label") or "").replace(" 0.", "0.")
        assert all(each.replace(" 0.", "0.") in label for each in beside)
    page.select_option("#split", "0")
    shows(page, "#dial-2 .beside", "not edited on this split")


def test_the_numbers_at_a_checkpoint_are_a_table(page: "Page") -> None:
    to(page, "effects-title")
    for checkpoint, step, e in ((2, 40, 1), (1, 10, 0), (0, 10, 0)):
        page.fill("#step", str(checkpoint))
        shows(page, "#effects-title", re.compile(f"at step {step}, val_subset"))
        lines = [
            line.locator("th, td").all_text_contents()
            for line in page.locator("#effects-table tr").all()
        ]
        rows = {name: list(column) for name, *column in zip(*lines, strict=True)}
        shown_states = rows.pop("")
        assert shown_states == list(reversed(STATES)), "the last one is on top, as in the heat maps"
        assert rows["ARI"] == [f"{VIEW_ARI[s][e + 1] + 0.1:.2f}" for s in shown_states]
        for name, key in (
            ("shift becomes", ("shift", "becomes")),
            ("patch becomes", ("patch", "becomes")),
            ("shift normalised", ("shift", "becomes_normalised")),
            ("errors repaired", ("repair", "right")),
        ):
            values = VIEW_EFFECTS[key]
            expected = [f"{values[s][e]:.2f}" if s in values else "–" for s in shown_states]
            assert rows[name] == expected
        shown = text(page, "#effect-shown")
        assert ("There are no edits at step 0." in shown) == (checkpoint == 0)
        assert f"task at step {step}: 5; the model can do both tasks of 3." in shown


def test_the_heat_map_is_read_by_keys(page: "Page") -> None:
    to(page, "use")
    page.select_option("#state", "block2")
    page.focus("#effects")
    page.keyboard.press("ArrowDown")
    shows(page, "#effect-shown", re.compile("^block1, step 40: ARI 0.70; shift, .*: 0.40[.]"))
    page.keyboard.press("ArrowLeft")
    shows(page, "#effect-shown", re.compile("^block1, step 10: ARI 0.40; shift, .*: 0.20[.]"))
    assert page.get_attribute("#effect-shown", "aria-live") == "polite"


# --- Moves ---


def test_a_move_is_an_arrow_on_the_map_of_components_only(page: "Page") -> None:
    to(page, "clusters")
    at(page, 2, "block1")
    page.check("#map input[value=pca]")
    page.evaluate("change({ marked: 1, target: null })")
    pictures = {picture(page)}
    for target in (1, 2):
        page.select_option("#target", str(target))
        pictures.add(picture(page))
    assert len(pictures) == 3
    page.check("#map input[value=tsne]")
    shows(page, "#moves-note", re.compile("t-SNE cannot place a new point: choose another map"))
    with_target = picture(page)
    page.select_option("#target", "")
    assert picture(page) == with_target, "no arrow"
    shows(page, "#moves-note", re.compile("3 of the points were edited"))


#: By how much the arrow of a point moves it, in coordinates of its map.
MOVED = """(task) => {
  const map = cloud.arrays[`${look.map}/${look.state}`], scale = cloud.scaleOf(map, look.step);
  return moveBy(cloud.arrays, task).map((pixels, axis) => (axis ? -pixels : pixels) / scale);
}"""


@pytest.mark.parametrize(("plane", "fit"), [("pca", True), ("pca", False), ("centroids", True)])
def test_an_arrow_is_the_difference_of_the_centroids(page: "Page", plane: Plane, fit: bool) -> None:
    """In pixels, it is as long as the way between two points of this distance."""
    to(page, "clusters")
    at(page, 2, "block2")
    page.check(f"#map input[value={plane}]")
    page.evaluate("(fit) => change({ marked: 1, target: 1, fit })", fit)
    page.evaluate(DRAWN)
    assert page.evaluate(MOVED, 0) == pytest.approx([6, 0], abs=0.01)
    assert page.evaluate(MOVED, 2) == pytest.approx([6, -3], abs=0.01)
    points = planted_view().splits["val_subset"].maps[plane, "block2"][2]
    pixels = page.evaluate("[0, 3].map((i) => [cloud.points[2 * i], cloud.points[2 * i + 1]])")
    scale = page.evaluate("cloud.scaleOf(cloud.arrays[`${look.map}/block2`], 2)")
    for axis, sign in ((0, 1), (1, -1)):
        way = sign * scale * (points[3, axis] - points[0, axis])
        assert pixels[1][axis] - pixels[0][axis] == pytest.approx(way, abs=0.5)


@pytest.mark.parametrize(
    ("point", "state", "target", "expected"),
    [
        (1, "block1", 1, "minus: the model answers y1 ✓ the answer of minus"),
        (1, "block1", 2, "swap: the model answers y0 = the answer of plus; swap has y2"),
        (1, "block2", 1, "minus: the model answers y2 ✗ the answer of a third task; minus has y1"),
        (5, "block1", 0, "plus: the model answers y3 ✓ the answer of plus"),
        (5, "block1", 2, "swap: not run, as both tasks have the same answer, or one is unknown"),
        (
            7,
            "block1",
            0,
            "plus: the model answers y8 ✗ an answer of no task; plus has y6",
        ),
        (7, "block1", 1, "minus: this is its own task"),
        (2, "block1", 1, "minus: this point was not edited"),
    ],
)
def test_the_description_of_a_point_has_the_answer_after_a_move(
    page: "Page", point: int, state: str, target: int, expected: str
) -> None:
    to(page, "clusters")
    at(page, 2, state)
    page.evaluate("([marked, target]) => change({ marked, target })", [point, target])
    assert texts(page, "#tip p")[-1] == f"moved to {expected}"
    assert expected in text(page, "#spoken")


def test_a_highlighted_task_moves_as_a_whole(page: "Page") -> None:
    to(page, "clusters")
    at(page, 2, "block1")
    page.check("#map input[value=pca]")
    page.get_by_role("button", name="minus", exact=True).click()
    page.select_option("#target", "0")
    shows(page, "#moves-note", re.compile(
        "^Answers after the move: 1 of plus [(]filled head[)], 1 of no task [(]dotted[)]. An arrow"
    ))  # fmt: skip
    before = picture(page)
    at(page, 0)
    shows(page, "#moves-note", re.compile("no edits at step 0[.] .* at step 10, at step 40[.]"))
    at(page, 2)
    assert picture(page) == before


def test_keys_step_through_the_points_that_can_be_moved(page: "Page") -> None:
    to(page, "clusters")
    at(page, 2, "block1")
    page.select_option("#target", "0")
    page.focus("#cloud")
    marked = []
    for _ in range(4):
        page.keyboard.press("n")
        marked.append(page.evaluate("look.marked"))
    assert marked == [1, 5, 7, 1]


# --- Without edits ---


def test_a_run_or_a_split_without_edits_names_the_command(
    browser: "Browser", view: View, tmp_path: Path
) -> None:
    path = page_file(tmp_path, view, dataclasses.replace(view, run="poor", edits=None))
    with opened(browser, path) as page:
        assert page.is_visible("#target")
        page.select_option("#split", "0")
        page.wait_for_selector("#target", state="hidden")
        to(page, "use")
        shows(page, "#no-edits", re.compile("train_subset .* were edited: the centroids are those"))
        assert not page.is_visible("#edits")
        page.select_option("#split", "1")
        to(page, "effects")
        page.wait_for_selector("#effects svg")
        page.select_option("#run-name", "1")
        shows(page, "#no-edits", re.compile("tasklens intervene RUN edits them"))
        assert not page.is_visible("#edits")
        page.select_option("#run-name", "0")
        to(page, "effects")
        page.wait_for_selector("#effects svg")
        assert cells(page, 1)[0] == written(VIEW_EFFECTS["shift", "becomes"])


# --- What can be seen and heard ---


def test_on_a_phone_and_on_paper(page: "Page") -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for part in ("clusters", "use", "effects-title"):
        to(page, part)
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    page.set_viewport_size(SIZE)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_selector("#effects-table td")
    assert page.is_visible("#effects")
    assert not page.is_visible("#edit")
    page.emulate_media(media="screen")


def test_controls_and_drawings_have_names(page: "Page") -> None:
    to(page, "use")
    page.wait_for_selector("#effects svg")
    for name, role in (("edit", "combobox"), ("move to", "combobox"), ("stays", "radio")):
        assert page.get_by_role(role, name=name, exact=True).count() == 1  # type: ignore[arg-type]
    label = "only pairs that the model can do"
    assert page.get_by_role("checkbox", name=label).count() == 1
    drawings = page.locator("#effects svg:not([aria-hidden=true])").all()
    assert [svg.get_attribute("aria-label") for svg in drawings if svg.get_attribute("class")] == [
        "ARI against the task by hidden state and checkpoint with edits, on "
        "val_subset (unseen pairs)",
        "shift: share of answers that become the other task's, by hidden state and checkpoint, on "
        "val_subset (unseen pairs)",
    ]
