"""The tools of the report's map: zoom, selection, search, neighbours, address and saved files."""

import csv
import dataclasses
import io
import json
import math
import re
import struct
import urllib.parse
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from e2e.browser import DRAWN, LIMIT, at, drawn, opened, shows, text, texts
from e2e.conftest import Finished
from tasklens import View
from tasklens.report.page import page as page_of
from tasklens.report.page_arrays import LEVELS
from tasklens.runs.stage_report import load_view
from views import planted_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

SPLIT = "val_subset"
#: Of the window, in which the whole map is on the first screen.
SIZE: "ViewportSize" = {"width": 1300, "height": 1000}
SVG = "{http://www.w3.org/2000/svg}"
#: Puts the page back to what it shows after opening.
RESET = """() => {
  play(false);
  document.getElementById("help").close();
  change({ ...begun, zoom: UNZOOMED });
  document.activeElement.blur();
  document.getElementById("notice").hidden = true;
}"""
#: The coordinates of all points in pixels of the page, from the corner of the map.
POINTS = "() => Array.from({ length: theSplit().n }, (_, i) => cloud.coordinatesOf(i))"


@pytest.fixture(scope="module")
def first_page(browser: "Browser", tiny: Finished) -> "Iterator[Page]":
    with opened(browser, tiny.path / "report.html", has_touch=True, viewport=SIZE) as page:
        page.evaluate("() => { window.begun = { ...look }; }")
        yield page


@pytest.fixture
def page(first_page: "Page") -> "Page":
    """The page of the tiny run, as it is after opening."""
    first_page.mouse.move(1, 1)
    first_page.evaluate(RESET)
    first_page.evaluate("scrollTo(0, 0)")
    first_page.evaluate(DRAWN)
    return first_page


@pytest.fixture(scope="module")
def seen(tiny: Finished) -> View:
    return load_view(tiny.path)


def points(page: "Page") -> npt.NDArray[np.float64]:
    """Return the coordinates of the points, (N, 2), in pixels from the corner of the map."""
    page.evaluate(DRAWN)
    return np.array(page.evaluate(POINTS))


def corner(page: "Page") -> npt.NDArray[np.float64]:
    """Return the corner of the map, (2,), in pixels of the window."""
    box = page.locator("#cloud").bounding_box()
    assert box is not None
    return np.array([box["x"], box["y"]])


def facts(view: View, state: str, checkpoint: int = -1, split: str = SPLIT) -> list[dict[str, str]]:
    """Return what is known of each point of a split, as the saved table has it."""
    shown = view.splits[split]
    assert shown.right is not None
    task = dict(enumerate(view.names["task"]))
    return [
        {
            "instruction": shown.instruction[i],
            **{part: view.names[part][n[i]] for part, n in shown.parts.items()},
            "cluster": task.get(shown.assigned[state][checkpoint][i], "no task"),
            "answer": view.answers[shown.answer[checkpoint][i]],
            "right": str(bool(shown.right[checkpoint][i])).lower(),
        }
        for i in range(len(shown))
    ]


def saved(page: "Page", selector: str) -> tuple[str, bytes]:
    """Press a button; return the name and the content of the file that it saves.

    A browser asks before it saves many files that no key or mouse has asked for.
    """
    page.evaluate("byId('save').open = true")
    with page.expect_download() as download:
        page.press(selector, "Enter")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def until(page: "Page", condition: str) -> None:
    """Wait for a condition. The page's policy forbids Playwright to evaluate it in the page."""
    page.evaluate(f"""() => new Promise((done, fail) => {{
      setTimeout(() => fail(new Error({json.dumps(condition)})), {LIMIT});
      const check = () => (({condition}) ? done() : setTimeout(check, 10));
      check();
    }})""")


# --- Zoom ---


def press(page: "Page", control: str, is_button: bool) -> None:
    """Click a button, or press a key on the map."""
    if is_button:
        page.click(control)
    else:
        page.press("#cloud", control)


def test_the_map_is_zoomed_and_moved(page: "Page") -> None:
    before, origin = points(page), corner(page)
    middle = np.array([page.evaluate(f"byId('cloud').client{s}") for s in ("Width", "Height")]) / 2
    small = page.locator("#multiples canvas").first.evaluate("(canvas) => canvas.toDataURL()")
    for buttons, larger, smaller in (
        (True, "#zoom-in", "#zoom-out"),
        (False, "+", "-"),
    ):
        press(page, larger, buttons)
        np.testing.assert_allclose(points(page), middle + 1.5 * (before - middle), atol=0.1)
        assert text(page, "#zoom-level") == "×1.5"
        press(page, smaller, buttons)
        np.testing.assert_allclose(points(page), before, atol=0.1)
    assert page.is_disabled("#zoom-out")

    # What is under the mouse stays there. Without Ctrl, the wheel scrolls the page.
    mouse = before[3]
    page.mouse.move(*(origin + mouse))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    until(page, "look.zoom.k > 1.2")
    factor = page.evaluate("look.zoom.k")
    np.testing.assert_allclose(points(page), mouse + factor * (before - mouse), atol=1)
    page.mouse.wheel(0, 50)
    until(page, f"byId('cloud').getBoundingClientRect().top < {origin[1]}")
    assert page.evaluate("look.zoom.k") == factor
    page.evaluate("scrollTo(0, 0)")

    zoomed = points(page)
    start = corner(page) + middle
    drag = np.array([60, -20])
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*(start + drag / 2))
    page.mouse.move(*(start + drag))
    page.mouse.up()
    np.testing.assert_allclose(points(page), zoomed + drag, atol=0.1)
    assert page.evaluate("look.marked") is None, "a drag marks no point"
    page.press("#cloud", "Shift+ArrowRight")
    assert (points(page)[:, 0] < zoomed[:, 0] + 60 - 10).all()
    assert page.input_value("#step") == page.get_attribute("#step", "max")
    page.press("#cloud", "0")
    np.testing.assert_allclose(points(page), before, atol=0.1)
    assert (
        page.locator("#multiples canvas").first.evaluate("(canvas) => canvas.toDataURL()") == small
    )
    page.click("#zoom-in")
    page.dblclick("#cloud", position={"x": 5, "y": 5})
    np.testing.assert_allclose(points(page), before, atol=0.1)


def test_two_fingers_zoom_and_one_scrolls(page: "Page") -> None:
    x, y = corner(page) + 100
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *fingers: tuple[float, float]) -> None:
        places = [{"x": float(a), "y": float(b), "id": i} for i, (a, b) in enumerate(fingers)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (x, y), (x + 100, y))
    touch("touchMove", (x - 50, y), (x + 150, y))
    touch("touchEnd")
    until(page, "look.zoom.k > 1.5")
    assert page.evaluate("look.zoom.k") == pytest.approx(2, abs=0.05)
    page.evaluate(RESET)
    assert page.evaluate("getComputedStyle(byId('cloud')).touchAction") == "pan-x pan-y"
    touch("touchStart", (x, y))
    touch("touchMove", (x, y - 5))
    touch("touchEnd")
    page.evaluate(DRAWN)
    assert page.evaluate("isWhole(look.zoom)")
    session.detach()


def test_a_zoomed_map_plays(page: "Page") -> None:
    at(page, 0)
    page.click("#zoom-in")
    pictures = set()
    for checkpoint in range(3):
        at(page, checkpoint)
        pictures.add(points(page).tobytes())
    assert len(pictures) == 3
    assert text(page, "#zoom-level") == "×1.5"


# --- Selection ---


def test_a_lasso_selects_the_points_inside_it(page: "Page", seen: View) -> None:
    known = facts(seen, page.input_value("#state"))
    where = points(page)
    cut = float(np.median(where[:, 0]))
    inside = np.flatnonzero(where[:, 0] < cut - 0.5)
    assert 0 < len(inside) < len(where)
    height = page.evaluate("byId('cloud').clientHeight")
    path = np.array([(9, 9), (cut, 9), (cut, height - 9), (9, height - 9)])
    before = page.evaluate("byId('cloud').toDataURL()")
    for key in ("Shift", None):
        if key is None:
            page.click("#lasso")
            assert page.get_attribute("#lasso", "aria-pressed") == "true"
        else:
            page.keyboard.down(key)
        page.evaluate("scrollTo(0, 0)")
        corners = corner(page) + path
        page.mouse.move(*corners[0])
        page.mouse.down()
        for spot in corners[1:]:
            page.mouse.move(*spot)
        page.mouse.up()
        if key is not None:
            page.keyboard.up(key)
        assert page.evaluate("look.selected") == inside.tolist()
        assert page.evaluate("look.marked") is None
        assert page.evaluate("isWhole(look.zoom)")
        right = sum(known[i]["right"] == "true" for i in inside)
        shows(page, "#selected-title", re.compile(
            f"^{len(inside)} of {len(where)} points are selected: {right} with a right answer and "
            f"{len(inside) - right} with a wrong one at step 12.$"
        ))  # fmt: skip
        for number, part in enumerate(("task", "cluster")):
            rows = page.locator("#selected-by table").nth(number).locator("tbody tr").all()
            shown = {
                row.locator("th").inner_text().strip(): int(row.locator("td").first.inner_text())
                for row in rows
            }
            assert shown == Counter(known[i][part] for i in inside)
        assert page.locator("#selected-list button").count() == len(inside)
        page.evaluate(DRAWN)
        assert page.evaluate("byId('cloud').toDataURL()") != before
        page.press("#cloud", "Escape")
        page.wait_for_selector("#selected", state="hidden")
        page.evaluate(DRAWN)
        assert page.evaluate("byId('cloud').toDataURL()") == before
    page.evaluate("change({ selected: [0, 1] })")
    page.select_option("#split", "0")
    assert page.evaluate("look.selected") is None, "another split has other points"


def test_the_search_selects_the_points_with_a_text(page: "Page", seen: View) -> None:
    state = page.input_value("#state")
    known = facts(seen, state)
    everywhere = [
        " ".join(fact[part] for part in ("instruction", "task", "input", "output", "answer"))
        for fact in known
    ]
    first = known[2]
    for term, expected in (
        (f"task:{first['task']}", [f["task"] == first["task"] for f in known]),
        (f"INPUT:{first['input']}", [f["input"] == first["input"] for f in known]),
        (f"answer:{first['answer']}", [f["answer"] == first["answer"] for f in known]),
        (first["instruction"][:3], [first["instruction"][:3] in all_ for all_ in everywhere]),
        (
            f"{first['instruction'][:2]} task:{first['task']}",
            [
                first["instruction"][:2] in all_ and f["task"] == first["task"]
                for all_, f in zip(everywhere, known, strict=True)
            ],
        ),
    ):
        matches = np.flatnonzero(expected).tolist()
        assert matches
        page.fill("#find", term)
        shows(page, "#matches", f"{len(matches)} of {len(known)} points")
        assert page.evaluate("look.selected") == matches
    page.focus("#find")
    for number in (*range(min(3, len(matches))), 0):
        if number == 0:
            page.evaluate("change({ marked: null })")
        page.keyboard.press("Enter")
        assert page.evaluate("look.marked") == matches[number]
        shows(page, "#matches", f"{number + 1} of {len(matches)}")
    page.keyboard.press("Shift+Enter")
    assert page.evaluate("look.marked") == matches[-1]
    page.fill("#find", "no such text")
    shows(page, "#matches", "no point matches")
    assert page.evaluate("look.selected") == []
    page.keyboard.press("Escape")
    assert page.evaluate("[look.selected, look.find, byId('matches').textContent]") == [
        None,
        "",
        "",
    ]
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type("cmnp0")
    assert page.evaluate("[look.find, look.color, look.map, look.marked]") == [
        "cmnp0",
        "task",
        "tsne",
        matches[-1],
    ]


def test_the_nearest_points_on_the_map_are_listed(page: "Page", seen: View) -> None:
    state, marked = page.input_value("#state"), 4
    places = seen.splits[SPLIT].maps["tsne", state][-1]
    distance = np.linalg.norm(places - places[marked], axis=1)
    distance[marked] = np.inf
    page.evaluate("(marked) => change({ marked })", marked)
    page.wait_for_selector("#nearest-list li")
    listed = [
        int(b.get_attribute("value") or "") for b in page.locator("#nearest-list button").all()
    ]
    assert len(set(listed)) == len(listed) == 9, "of ten points"
    rounding = 2 * np.ptp(places, axis=0).max() / LEVELS
    np.testing.assert_allclose(distance[listed], np.sort(distance)[:9], atol=rounding)
    known = facts(seen, state)
    same = [
        sum(known[i][part] == known[marked][part] for i in listed) for part in ("task", "input")
    ]
    counts = f"{same[0]} of the same task, {same[1]} with the same input."
    assert text(page, "#nearest-title") == f"The 9 nearest points on the map: {counts}"
    for i, line in zip(listed, texts(page, "#nearest-list li"), strict=True):
        assert line.startswith(f"{known[i]['task']} {known[i]['input']} → {known[i]['output']}")
        assert line.endswith(known[i]["instruction"])
    page.locator("#nearest-list button").nth(1).click()
    assert page.evaluate("look.marked") == listed[1]
    page.press("#cloud", "Escape")
    page.wait_for_selector("#nearest", state="hidden")


# --- The address ---


def test_the_address_names_what_was_chosen(
    page: "Page", browser: "Browser", tiny: Finished
) -> None:
    url = page.url.partition("#")[0]
    until(page, f"location.href === {json.dumps(url)}")
    at(page, 1, "embed")
    page.select_option("#split", "0")
    page.check("#map input[value=pca]")
    page.check("#color input[value=cluster]")
    page.click("#zoom-in")
    task = text(page, "#legend button span")
    page.locator("#legend button").first.click()
    page.fill("#find", "task:" + task.removeprefix("cluster of "))
    until(page, "location.hash.includes('find=')")
    given = dict(urllib.parse.parse_qsl(page.evaluate("location.hash.slice(1)")))
    assert given == {
        **{
            "split": "train_subset",
            "state": "embed",
            "step": "1",
            "map": "pca",
            "color": "cluster",
        },
        **{"lit": task, "find": f"task:{task.removeprefix('cluster of ')}", "zoom": "1.5,0,0"},
    }
    page.evaluate("change({ beside: { run: 0, split: 0, state: 'block1', step: 2 } })")
    until(page, "location.hash.includes('&beside=block1|2|tiny')")
    look = page.evaluate("({ ...look })")
    link = page.url
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy-link")
    shows(page, "#notice", re.compile("^The link is copied"))
    assert page.evaluate("navigator.clipboard.readText()") == link

    other = page.context.new_page()
    other.goto(link)
    other.wait_for_selector("#cloud[data-drawn]")
    until(other, "look.selected !== null")
    assert other.evaluate("({ ...look })") == look | {"painted": other.evaluate("look.painted")}
    assert other.evaluate("byId('split').value") == "0"
    # The next address leaves out what is as usual. A section is no choice.
    other.evaluate("location.hash = '#step=4&state=block1'")
    until(other, "look.state === 'block1'")
    assert other.evaluate(
        "[theRun().steps[look.step], theSplit().name, look.map, look.zoom.k]"
    ) == [
        *(4, SPLIT, "tsne", 1),
    ]
    other.evaluate("location.hash = '#contents'")
    until(other, "scrollY > 300")
    assert other.evaluate("look.state") == "block1"
    wrong = "#step=5&state=blokc5&color=task&map=no&marked=99999&zoom=a,b,c&split=0&none=1"
    wrong += "&lit=x&selected=1,-2"
    other.evaluate("(hash) => { location.hash = hash; }", wrong)
    other.wait_for_selector("#notice", state="visible")
    notice = text(other, "#notice")
    for part in wrong[1:].split("&"):
        assert (part in notice) == (part != "color=task"), part
    assert other.evaluate("look.step") == int(str(other.get_attribute("#step", "max")))
    other.click("#notice button")
    assert other.is_hidden("#notice")
    other.close()


def test_an_address_stops_the_page_from_playing(browser: "Browser", tiny: Finished) -> None:
    path = tiny.path / "report.html"
    window = browser.new_context(reduced_motion="no-preference")
    page = window.new_page()
    page.goto(f"{path.resolve().as_uri()}#step=4")
    page.wait_for_selector("#cloud[data-drawn]")
    assert page.evaluate("[playing, theRun().steps[look.step]]") == [False, 4]
    window.close()


# --- Saved files ---


def test_points_and_scores_are_saved_as_tables(page: "Page", seen: View, tiny: Finished) -> None:
    checkpoint, state = 2, "block1"
    at(page, checkpoint, state)
    page.check("#map input[value=pca]")
    name, content = saved(page, "#save-points")
    step = seen.steps[checkpoint]
    assert name == f"tiny_val-subset_block1_step{step}_pca.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    known = facts(seen, state, checkpoint)
    assert [{key: row[key] for key in known[0]} for row in rows] == known
    usual = {"run": "tiny", "split": SPLIT, "state": state, "step": str(step), "map": "pca"}
    assert all(row.items() >= usual.items() for row in rows)
    places = seen.splits[SPLIT].maps["pca", state][checkpoint]
    got = [[float(row["x"]), float(row["y"])] for row in rows]
    np.testing.assert_allclose(got, places, atol=np.ptp(places, axis=0).max() / LEVELS)
    page.evaluate("change({ selected: [3, 1] })")
    assert text(page, "#save-points") == "2 selected points as CSV"
    few = list(csv.DictReader(io.StringIO(saved(page, "#save-points")[1].decode())))
    assert few == [rows[3], rows[1]]

    name, content = saved(page, "#save-scores")
    assert name == "tiny_scores.csv"
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False)
    scores = pd.read_parquet(tiny.path / "scores.parquet")
    kept = scores[
        scores.space.isin(("raw", "")) & scores.metric.isin(("ari", "accuracy", "probe_task"))
    ]
    kept = kept[~kept.layer.str.startswith("control:")]
    means = kept.groupby(["split", "layer", "metric", "step"]).value.mean()
    shown = table[table.metric.isin(("ari", "accuracy", "probe_task")) & (table.step != "")]
    shown = shown.assign(step=shown.step.astype(int)).set_index(["split", "line", "metric", "step"])
    assert len(shown) > 40
    np.testing.assert_allclose(shown["mean"], means.loc[shown.index].to_numpy(), atol=1e-4)


def test_the_map_is_saved_as_pictures(page: "Page", seen: View) -> None:
    n, state = len(seen.splits[SPLIT]), page.input_value("#state")
    page.evaluate("change({ selected: [0, 1, 2], marked: 1 })")
    name, content = saved(page, "#save-svg")
    assert name == f"tiny_val-subset_{state}_step12_tsne.svg"
    root = ET.fromstring(content)
    map_, where = root.find(f"{SVG}svg"), points(page)
    assert map_ is not None
    width, height = (float(v) for v in (map_.get("viewBox") or "").split()[2:])
    symbols = [
        path for path in map_.iter(f"{SVG}path") if "point" in (path.get("class") or "").split()
    ]
    dim = [path for path in symbols if path.get("class") == "point dim"]
    assert (len(symbols), len(dim)) == (n, n - 3)
    found = [re.findall(r"[-.\d]+", path.get("transform") or "") for path in symbols]
    scale = [width / float(map_.get("width") or ""), height / float(map_.get("height") or "")]
    got = np.array(found, float)[:, :2] / scale
    order = [*(i for i in range(n) if i > 2), 0, 1, 2]  # dimmed points are below the others
    np.testing.assert_allclose(got, where[order], atol=0.6)
    circles = [path for path in map_.iter(f"{SVG}path") if path.get("fill") == "none"]
    assert len(circles) == 1 + 9, "the mark and the rings of its neighbours"
    words = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert any(state in word and "step 12" in word for word in words)
    legend = [element for element in root.iter(f"{SVG}g") if element.get("class") == "key"]
    keys = ["".join(element.itertext()) for element in legend]
    assert keys == texts(page, "#legend button span:first-of-type")
    colours = {path.get("fill") for path in symbols} - {dim[0].get("fill")}
    assert colours <= {path.get("fill") for key in legend for path in key.iter(f"{SVG}path")}
    name, content = saved(page, "#save-png")
    assert name == f"tiny_val-subset_{state}_step12_tsne.png"
    size = struct.unpack(">II", content[16:24])
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert size == tuple(math.ceil(2 * float(root.get(side) or "")) for side in ("width", "height"))


def test_each_chart_is_saved_as_svg(page: "Page") -> None:
    page.evaluate("sections.forEach((draw) => draw())")
    page.wait_for_selector("#order svg")
    figures = page.evaluate("""() => [...document.querySelectorAll("main figure:has(svg)")].filter(
      (figure) => figure.checkVisibility()).map(
      (figure, i) => { figure.nextElementSibling.dataset.number = i; return figure.id; })""")
    assert {"curves", "heat", "shares", "order"} & set(figures)
    for number, _ in enumerate(figures):
        name, content = saved(page, f"[data-number='{number}']")
        root = ET.fromstring(content)
        assert name.startswith("tiny_val-subset_")
        assert float(root.get("width") or "") > 100
        assert b"var(--" not in content, "the page's own colours are written out"
        assert len(list(root.iter(f"{SVG}text"))) > 3
        assert sum(1 for element in root.iter() if element.get("fill") not in (None, "none")) > 5


def test_the_playing_map_is_saved_as_a_film(page: "Page") -> None:
    page.set_viewport_size({"width": 500, "height": 600})  # few pixels are encoded fast
    page.select_option("#speed", "4")
    name, content = saved(page, "#save-film")
    assert name == f"tiny_val-subset_{page.input_value('#state')}_step12_tsne.webm"
    assert content[:4] == b"\x1a\x45\xdf\xa3", "the header of EBML"
    assert b"webm" in content[:64]
    assert len(content) > 2000
    assert text(page, "#save-film") == "film as WebM"
    page.select_option("#speed", "1")
    page.set_viewport_size(SIZE)


def test_help_has_every_key(page: "Page") -> None:
    for control, is_button in (("?", False), ("#show-help", True)):
        press(page, control, is_button)
        page.wait_for_selector("#help", state="visible")
        page.keyboard.press("Escape")
        page.wait_for_selector("#help", state="hidden")
    keys = set(texts(page, "#help kbd"))
    actions = set(page.evaluate("Object.keys(toolKeys())")) - {"="}  # "+" without Shift
    assert actions | {"space", "c", "m", "n", "p", "Esc", "Home", "End", "Shift"} <= keys
    for key, look in (("l", "lasso"),):
        page.keyboard.press(key)
        assert page.evaluate(f"look.{look}") is True


# --- Texts from users ---

#: A character that turns text is written out in the page.
HOSTILE = ("=1+1", "<b>&\"',", "\x1b[2J\\u202e")


def test_texts_of_users_are_no_formulas_and_no_markup(browser: "Browser", tmp_path: Path) -> None:
    view = planted_view()
    split = view.splits[SPLIT]
    names: dict[str, Any] = {**view.names, "task": HOSTILE, "input": ("@a", "-b", "+c", "d")}
    tasks = [dataclasses.replace(t, name=n) for t, n in zip(view.world.tasks, HOSTILE, strict=True)]
    world = dataclasses.replace(view.world, tasks=tuple(tasks))
    split = dataclasses.replace(split, instruction=("\t=x", *split.instruction[1:]))
    view = dataclasses.replace(
        view, run="<i>../run", names=names, world=world, splits={**view.splits, SPLIT: split}
    )
    path = tmp_path / "page.html"
    path.write_bytes(page_of([[view]], [None], "by hand"))
    with opened(browser, path) as page:
        drawn(page, len(view.steps) - 1, page.input_value("#state"))
        name, content = saved(page, "#save-points")
        assert name.startswith("-i-..-run_val-subset_")
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        assert {row["task"] for row in rows} == {"'=1+1", *HOSTILE[1:]}
        assert {row["input"] for row in rows} == {"'@a", "'-b", "'+c", "d"}
        assert rows[0]["instruction"] == "'\t=x"
        root = ET.fromstring(saved(page, "#save-svg")[1])
        keys = ["".join(g.itertext()) for g in root.iter(f"{SVG}g") if g.get("class") == "key"]
        assert keys[:2] == list(HOSTILE[:2])
        assert keys[2].startswith(r"\u001b[2J")
        page.fill("#find", '"<b>&"')
        shows(page, "#matches", "4 of 12 points")
        assert page.locator("#selected b b").count() == 0
