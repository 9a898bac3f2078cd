"""The report: its command, and its page as a reader meets it, in a browser.

What is in a view is tested in test_view; here the page is compared with the view.
"""

import dataclasses
import json
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from colors import contrast
from e2e.browser import (
    DRAWN,
    LIMIT,
    SIZE,
    at,
    drawn,
    find_browser,
    opened,
    page_file,
    picture,
    shows,
    story_of,
    text,
    texts,
    to,
)
from e2e.conftest import Command, Finished, assert_refused, changes, scores_of
from planted_model import planted_model
from tasklens import View
from tasklens.findings.verdict import judge
from tasklens.findings.verdict_text import verdict_json
from tasklens.report.page import SCRIPTS
from tasklens.report.page import page as page_of
from tasklens.report.page_arrays import LEVELS
from tasklens.report.summary import mean_scores
from tasklens.report.view import MAPS, UNKNOWN
from tasklens.runs.load_run import load_run
from tasklens.runs.stage_report import load_view
from tasklens.runs.verify import verify
from tasklens.scoring.score_table import summarise, to_frame
from views import VIEW_STEPS, planted_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: As `TINY`, with more of what the page shows.
MORE = {
    "data__measured_instances": 30,
    "tasks__variants_per_task": 30,
    "clusters__cluster_seeds": 2,
}
STEPS = (0, 1, 2, 4, 8, 12)
STATES = ("wte", "embed", "block1", "ln_f")
SPLITS = ("train_subset", "val_subset", "val_instruction_subset")
#: Of each part of a page, an element that is there once it is drawn.
PARTS = {
    "verdicts": ("#findings summary", "#curves svg"),
    "clusters": ("#cloud", "#legend button", "#multiples canvas", "#cloud-title b"),
    "contents": ("#heat svg", "#shares svg", "#contingency td", "#order svg"),
    "world": ("#sizes dd", "#matrices svg", "#tasks summary"),
    "run": ("#origin pre", "#origin td"),
}
COLOURS = ("task", "cluster", "input", "output")


@pytest.fixture(scope="module")
def pair(command: Command, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Measured runs of two seeds, the first with its page. Not to be changed."""
    paths = [tmp_path_factory.mktemp("pair") / f"seed{seed}" for seed in range(2)]
    for seed, path in enumerate(paths):
        done(command, "data", "smoke", *changes(seed=seed, **MORE), "--out", path)
        done(command, "train", path)
        done(command, "measure", path)
    assert done(command, "report", paths[0]) == f"{paths[0] / 'report.html'}\n"
    return paths


def done(command: Command, *arguments: str | Path) -> str:
    """Run a command that has to succeed; return its output."""
    result = command(*arguments)
    assert result.status == 0, result.err
    return result.out


@pytest.fixture(scope="module")
def first_page(browser: "Browser", pair: list[Path]) -> "Iterator[Page]":
    with opened(browser, pair[0] / "report.html") as page:
        page.evaluate("() => { window.begun = { ...look }; }")
        yield page


RESET = """() => {
  play(false);
  change(begun);
  document.activeElement.blur();
  fill("spoken");
  document.querySelectorAll("details").forEach((details) => { details.open = false; });
}"""


@pytest.fixture
def page(first_page: "Page") -> "Page":
    """The page of the first of the pair, as it is after opening but for what has been drawn."""
    first_page.mouse.move(1, 1)
    first_page.emulate_media(media="screen")
    first_page.set_viewport_size(SIZE)
    first_page.evaluate(RESET)
    to(first_page, "clusters")
    drawn(first_page, len(STEPS) - 1, first_page.input_value("#state"))
    return first_page


@pytest.fixture
def run(pair: list[Path], tmp_path: Path) -> Path:
    """A copy of the first run, of the same name, for the test to write into."""
    return Path(shutil.copytree(pair[0], tmp_path / "copied" / pair[0].name))


@pytest.fixture(scope="module")
def seen(pair: list[Path]) -> View:
    """The view of the first of the pair."""
    return load_view(pair[0])


def points_of(
    view: View, split: str = "val_subset", checkpoint: int = -1, state: str = "block1"
) -> list[dict[str, str]]:
    """Return the texts of each point at a checkpoint: instruction, parts, answer and cluster."""
    points, task = view.splits[split], dict(enumerate(view.names["task"]))
    columns = {
        **{part: [view.names[part][n] for n in numbers] for part, numbers in points.parts.items()},
        "instruction": points.instruction,
        "answer": [view.answers[n] for n in points.answer[checkpoint]],
        "cluster": [task.get(n, "no task") for n in points.assigned[state][checkpoint].tolist()],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(("installed", "playwright"), [(False, True), (True, False)])
def test_without_a_browser_the_tests_are_skipped_or_fail(
    monkeypatch: pytest.MonkeyPatch, installed: bool, playwright: bool
) -> None:
    paths = {"google-chrome": "/bin/google-chrome"}.get if installed else {}.get
    monkeypatch.setattr(shutil, "which", paths)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", sys if playwright else None)
    for required, end in (("", pytest.skip), ("required", pytest.fail)):
        monkeypatch.setenv("TASKLENS_BROWSER", required)
        with pytest.raises(end.Exception, match="pip install playwright, and one of chromium"):
            find_browser()


# --- One page ---


def test_a_run_leaves_a_page_that_opens_from_the_disk(browser: "Browser", tiny: Finished) -> None:
    path = tiny.path / "report.html"
    assert str(path) in tiny.result.out.splitlines()
    with opened(browser, path, locale="de-DE", timezone_id="Asia/Tokyo") as page:
        assert text(page, "#runs-shown") == "tasklens tiny"
        assert page.title() == "tiny: not tested (tasklens)"
        for part, selectors in PARTS.items():
            to(page, part)
            for selector in selectors:
                page.wait_for_selector(selector)
        assert "tasklens run smoke --set tasks.n_tasks=4" in text(page, "#origin pre")
        (model,) = load_run(tiny.path).models
        trained = "tiny, trained by this run; SHA-256 of the weights of the last checkpoint: "
        assert trained + model.weights in texts(page, "#origin p")
        verdict = json.loads((tiny.path / "verdict.json").read_bytes())
        expected = [("not tested", f["sentence"]) for f in verdict["findings"]]
        assert list(zip(*findings(page), strict=True)) == expected
        bars = page.evaluate(BARS)
        limitless = [bar for bar in bars if bar["label"].partition(" to ")[2].startswith("–")]
        assert 0 < len(limitless) < len(bars)
        assert all(bar["from"] <= bar["to"] for bar in bars)
        assert all(bar["to"] == 137 for bar in limitless), "to the end"


#: The intervals of the checks as they are drawn.
BARS = """Array.from(document.querySelectorAll("#findings svg"), (svg) => {
  const line = [...svg.querySelectorAll("line")].at(-1);
  const [from, to] = ["x1", "x2"].map((name) => Number(line.getAttribute(name)));
  return { label: svg.getAttribute("aria-label"), from, to };
})"""


def findings(page: "Page") -> tuple[list[str], list[str]]:
    """Return the verdict on each finding, and its sentence."""
    summary = "#findings summary"
    return texts(page, f"{summary} > b"), texts(page, f"{summary} .sentence")


def test_the_same_run_gives_the_same_page(command: Command, tiny: Finished, tmp_path: Path) -> None:
    before = (tiny.path / "report.html").read_bytes()
    out = tmp_path / "page.html"
    again = []
    for _ in range(2):
        assert done(command, "report", tiny.path, "--out", out) == f"{out}\n"
        again.append(out.read_bytes())
    assert again[0] == again[1]
    commands = [story_of(content)["command"] for content in (before, again[0])]
    assert commands[1] == f"tasklens report {tiny.path} --out {out}"
    ours, theirs = (json.dumps(text, ensure_ascii=False).encode() for text in commands)
    assert before.replace(ours, theirs, 1) == again[0]


def test_the_scrubber_changes_the_picture_and_its_name(page: "Page") -> None:
    pictures: list[str] = []
    for checkpoint, step in enumerate(STEPS):
        at(page, checkpoint)
        shows(page, "#step-name", f"{step}")
        pictures.append(picture(page))
    assert len(set(pictures)) == len(STEPS)
    for checkpoint in (3, 0):
        at(page, checkpoint)
        assert picture(page) == pictures[checkpoint]
    assert page.get_attribute("#cloud", "role") == "img"
    for checkpoint, state, split, expected in (
        (5, "block1", "1", ("block1", "step 12", "val_subset", "30 points")),
        (2, "wte", "0", ("wte", "step 2", "train_subset", "30 points")),
    ):
        page.select_option("#split", split)
        at(page, checkpoint, state)
        label = page.get_attribute("#cloud", "aria-label") or ""
        assert [name for name in expected if not re.search(rf"\b{name}\b", label)] == []


def test_the_dials_follow_step_state_and_split_and_stand_beside_their_controls(
    page: "Page", seen: View
) -> None:
    for checkpoint, state, number in ((5, "block1", 1), (2, "wte", 0), (0, "block1", 0)):
        page.select_option("#split", str(number))
        at(page, checkpoint, state)
        split, step = SPLITS[number], STEPS[checkpoint]
        for dial, metric in enumerate(("ari", "probe_task")):
            scores = mean_scores(seen.table, split, metric)
            expected = f"{scores[state, step]:z.2f}" if (state, step) in scores else "–"
            assert text(page, f"#dial-{dial} .value") == expected
            label = page.get_attribute(f"#dial-{dial}", "aria-label") or ""
            if expected == "–":
                assert label.endswith(": not known; not measured"), "of the token embedding"
                continue
            assert f", in {state} at step {step}: {expected}" in label
            begin, marks = f"{scores[state, 0]:z.2f}", texts(page, f"#dial-{dial} .mark")
            assert (f"step 0 {begin}" in label) == (f"step 0{begin}" in marks) == (checkpoint > 0)
        controls = to_frame(seen.table, ("ari",)).query(
            "split == @split and layer.str.startswith('control:')"
        )
        highest = summarise(controls, ("layer",))["mean"].max()
        assert f"{highest:.2f}" in texts(page, "#dial-0 .mark b")
        assert "not edited in this run" in text(page, "#dial-2")
        assert page.locator("#dial-0 .marks path").count() == 1 + (checkpoint > 0)


def test_hovering_tells_what_is_known_of_a_point(page: "Page", seen: View) -> None:
    regexes = {task.name: task.regexes for task in seen.world.tasks}
    marks = set()
    for number, split in ((1, "val_subset"), (0, "train_subset")):
        page.select_option("#split", str(number))
        for checkpoint in (len(STEPS) - 1, 1):
            at(page, checkpoint, "block1")
            points = points_of(seen, split, checkpoint)
            assert len(points) == 30
            for i in isolated(page, 6):
                point = points[i]
                mark = "✓ right" if point["answer"] == point["output"] else "✗ wrong"
                own = "" if point["cluster"] == point["task"] else " (not the task of the point)"
                hover(page, i)
                assert texts(page, "#tip p") == [
                    f"{point['instruction']} {point['input']} {point['output']}",
                    f"task {point['task']}",
                    *(f"regex {regex}" for regex in regexes[point["task"]]),
                    f"input {point['input']} → {point['output']}",
                    f"the model answers {point['answer']} {mark}",
                    f"cluster of {point['cluster']}{own}",
                ]
                marks |= {mark, own}
    assert len(marks) == 4, "right and wrong answers, own and other clusters"
    page.mouse.move(1, 1)
    page.wait_for_selector("#tip", state="hidden")


def isolated(page: "Page", many: int) -> list[int]:
    """Return some points that no other lies near, spread over all."""
    coordinates = np.array(
        page.evaluate("Array.from({length: theSplit().n}, (_, i) => cloud.coordinatesOf(i))")
    )
    distance = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    alone = np.flatnonzero(distance.min(axis=1) > 6)
    assert len(alone) >= many
    return [int(i) for i in alone[:: len(alone) // many][:many]]


def hover(page: "Page", i: int) -> None:
    """Put the mouse on a point."""
    box, (x, y) = (
        page.locator("#cloud").bounding_box(),
        page.evaluate("(i) => cloud.coordinatesOf(i)", i),
    )
    assert box is not None
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_selector("#tip", state="visible")


def test_what_is_known_of_a_marked_point_follows_the_step(page: "Page", seen: View) -> None:
    answers = [[p["answer"] for p in points_of(seen, checkpoint=at)] for at in range(len(STEPS))]
    i = next(i for i in isolated(page, 8) if len({answer[i] for answer in answers}) > 1)
    hover(page, i)
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(1, 1)
    for checkpoint in range(len(STEPS)):
        at(page, checkpoint)
        shows(page, "#tip p:nth-last-child(2)", re.compile(rf"answers {answers[checkpoint][i]} "))


def test_colouring_changes_the_picture_and_the_legend(page: "Page", seen: View) -> None:
    points = points_of(seen)
    expected = {part: Counter(p[part] for p in points) for part in ("task", "input", "output")}
    expected["cluster"] = Counter(f"cluster of {p['cluster']}" for p in points)
    at(page, len(STEPS) - 1, "block1")
    pictures = set()
    for colour in COLOURS:
        page.check(f"#color input[value={colour}]")
        pictures.add(picture(page))
        titles = [
            re.fullmatch("(.*): ([0-9]+) points", str(button.get_attribute("title")))
            for button in page.locator("#legend button").all()
        ]
        legend = {match[1]: int(match[2]) for match in titles if match}
        assert texts(page, "#legend .name") == list(legend)
        assert legend == expected[colour]
        assert f"coloured by the {colour};" in str(page.get_attribute("#cloud", "aria-label"))
    assert len(pictures) == len(COLOURS)


def test_a_legend_entry_highlights_its_points_and_keeps_the_focus(page: "Page") -> None:
    before, buttons = picture(page), page.locator("#legend button")
    pressed = 'button[aria-pressed="true"]'
    pictures = {before}
    for i in range(buttons.count()):
        buttons.nth(i).click()
        assert [b.get_attribute("aria-pressed") for b in buttons.all()].index("true") == i
        assert page.locator(f"#legend {pressed}").count() == 1
        pictures.add(picture(page))
    assert len(pictures) == buttons.count() + 1 > 2
    page.locator(f"#legend {pressed}").click()
    assert page.locator(f"#legend {pressed}").count() == 0
    assert picture(page) == before
    buttons.nth(1).focus()
    for state in ("true", "false"):
        page.keyboard.press("Enter")
        page.evaluate(DRAWN)
        assert buttons.nth(1).get_attribute("aria-pressed") == state
        assert buttons.nth(1).evaluate("(button) => button === document.activeElement")


def test_what_is_answered_right_can_be_dimmed(page: "Page", seen: View) -> None:
    right = seen.splits["val_subset"].right
    assert right is not None
    for checkpoint in range(0, len(STEPS), 2):
        at(page, checkpoint)
        page.uncheck("#wrong")
        before = picture(page)
        page.check("#wrong")
        assert (picture(page) != before) == right[checkpoint].any()
    page.uncheck("#wrong")


@pytest.mark.parametrize(
    ("number", "split", "checkpoint"), [(1, "val_subset", 5), (0, SPLITS[0], 3)]
)
def test_the_contingency_table_is_that_of_the_clusters(
    page: "Page", seen: View, number: int, split: str, checkpoint: int
) -> None:
    page.select_option("#split", str(number))
    at(page, checkpoint, "block1")
    to(page, "contingency")
    shows(page, "#contingency-title", f"Tasks and clusters: block1, step {STEPS[checkpoint]}")
    counts = Counter((p["task"], p["cluster"]) for p in points_of(seen, split, checkpoint))
    heads = page.locator("#contingency thead th").all()[1:]
    columns = [str(th.get_attribute("title")).removeprefix("cluster of ") for th in heads]
    tasks, lines = texts(page, "#contingency tbody th"), page.locator("#contingency tbody tr")
    shown = {
        (task, column): int(cell)
        for task, line in zip(tasks, lines.all(), strict=True)
        for column, cell in zip(columns, line.locator("td").all_text_contents(), strict=True)
        if cell
    }
    assert shown == counts


def test_the_numbers_under_the_curves_are_the_scores(
    page: "Page", seen: View, pair: list[Path]
) -> None:
    to(page, "verdicts")
    shows(page, "#curve-numbers-title", "Numbers at step 12")
    titles = [
        "train_subset (seen in training)",
        "val_subset (unseen pairs)",
        "val_instruction_subset (unseen instructions)",
    ]
    assert texts(page, "#curve-numbers thead th") == ["", *titles]
    lines = {**{state: state for state in reversed(STATES)}, "accuracy": "model"}
    assert texts(page, "#curve-numbers tbody th") == list(lines)
    rows = page.locator("#curve-numbers tbody tr").all()
    cells = [[float(cell) for cell in row.locator("td").all_text_contents()] for row in rows]
    for column, split in enumerate(SPLITS):
        (accuracy,) = scores_of(pair[0], split=split, step=12, metric="accuracy")
        scores = mean_scores(seen.table, split, "ari") | {("model", 12): accuracy["value"]}
        for line, row in zip(lines.values(), cells, strict=True):
            assert row[column] == pytest.approx(scores[line, 12], abs=0.0051)


# --- The keyboard ---


def test_the_map_is_reached_and_read_by_keys_alone(page: "Page", seen: View) -> None:
    page.evaluate("document.getElementById('state').focus()")
    stops = []
    while (stop := page.evaluate("document.activeElement.id")) != "cloud":
        stops.append(stop)
        assert len(stops) < 25, stops
        page.keyboard.press("Tab")
    last, best = len(STEPS) - 1, page.input_value("#state")
    below = STATES[STATES.index(best) - 1]
    for key, checkpoint, state in (
        *(("ArrowLeft", last - 1, best), ("ArrowRight", last, best), ("ArrowRight", last, best)),
        *(("Home", 0, best), ("ArrowLeft", 0, best), ("End", last, best)),
        *(("ArrowDown", last, below), ("ArrowUp", last, best)),
    ):
        page.keyboard.press(key)
        drawn(page, checkpoint, state)
        assert page.input_value("#state") == state

    rows, colour, before = points_of(seen), "#color input:checked", picture(page)
    assert text(page, "#spoken") == ""
    for key, i in (("n", 0), ("n", 1), ("p", 0), ("p", len(rows) - 1)):
        page.keyboard.press(key)
        assert rows[i]["instruction"] in text(page, "#spoken")
        assert rows[i]["task"] in text(page, "#spoken")
        assert text(page, "#tip p").startswith(f"{rows[i]['instruction']} {rows[i]['input']}")
    assert page.get_attribute("#spoken", "aria-live") == "polite"
    assert picture(page) != before
    page.keyboard.press("Escape")
    page.wait_for_selector("#tip", state="hidden")
    assert picture(page) == before

    chosen = [page.input_value(colour)]
    for _ in COLOURS:
        page.keyboard.press("c")
        chosen.append(page.input_value(colour))
    assert chosen == [*COLOURS, "task"]
    page.keyboard.press("m")
    assert page.input_value("#map input:checked") == "pca"
    assert picture(page) != before
    for name in ("centroids", "tsne"):
        page.keyboard.press("m")
        assert page.input_value("#map input:checked") == name
    assert picture(page) == before

    for word in ("pause", "play"):
        page.keyboard.press(" ")
        page.wait_for_selector(f"#play:text-is('{word}')")


def test_points_are_stepped_through_within_what_is_highlighted(page: "Page", seen: View) -> None:
    rows = points_of(seen)
    name = rows[7]["task"]
    page.get_by_role("button", name=name, exact=True).click()
    page.focus("#cloud")
    for i in [i for i, row in enumerate(rows) if row["task"] == name][:3]:
        page.keyboard.press("n")
        assert text(page, "#tip p").startswith(rows[i]["instruction"])
        assert f"task {name}" in texts(page, "#tip p")


def test_controls_keep_their_own_keys(page: "Page") -> None:
    last = len(STEPS) - 1
    at(page, 2)
    page.focus("#state")
    for key in ("b", "n", "c", "m", "ArrowLeft", "Home", "ArrowDown"):
        page.keyboard.press(key)
    assert page.input_value("#step") == "2"
    assert page.input_value("#color input:checked") == "task"
    assert page.input_value("#map input:checked") == "tsne"
    assert text(page, "#spoken") == ""
    page.focus("#color input[value=task]")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#color input:checked") == "cluster"
    assert page.input_value("#step") == "2"
    page.focus("#step")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#step") == "3", "by one, not by two"
    page.keyboard.press("End")
    assert page.input_value("#step") == str(last)
    page.focus("#play")
    for word in ("pause", "play"):
        page.keyboard.press(" ")
        page.wait_for_selector(f"#play:text-is('{word}')")
    at(page, 2)
    page.focus("#cloud")
    page.keyboard.press("Control+ArrowLeft")
    assert page.input_value("#step") == "2"


# --- A page that was made by hand ---


@pytest.fixture(scope="module")
def made_page(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Page]":
    """The page of `planted_view`; what moves takes its time."""
    path = page_file(tmp_path_factory.mktemp("made"), planted_view())
    with opened(browser, path, reduced_motion="no-preference") as page:
        page.wait_for_selector("#play:text-is('play')")  # it has played once
        yield page


#: Where the points have been until something has ended, by checkpoint and between them. A frame
#: takes 20 ms by the page's clock, however long it takes on a busy machine.
WATCH = """async ([begin, end]) => {
  const steps = [look.step], times = [look.at];
  const now = performance.now, next = requestAnimationFrame;
  let time = now.call(performance);
  performance.now = () => time;
  requestAnimationFrame = (draw) => next(() => draw(time += 20));
  watch(["step"], () => { if (look.step !== steps.at(-1)) steps.push(look.step); });
  watch(["at"], () => times.push(look.at));
  byId("speed").value = "4";
  begin === "play" ? byId("play").click() : begin === "once" ? playOnce() : go({ step: begin });
  for (const began = Date.now(); playing || look.at !== end;) {
    if (Date.now() - began > LIMIT) throw new Error(`still at ${look.at}`);
    await new Promise((done) => setTimeout(done, 20));
  }
  performance.now = now;
  requestAnimationFrame = next;
  return [steps, times];
}""".replace("LIMIT", str(LIMIT))


def test_playing_goes_to_the_end_and_stops(made_page: "Page") -> None:
    page, state, last = made_page, made_page.input_value("#state"), len(VIEW_STEPS) - 1
    shows(page, "#step-name", "40")
    steps, times = page.evaluate(WATCH, ["play", last])  # from the end it begins anew
    assert (steps[:2], steps[-1]) == ([last, 0], last)
    assert steps[1:] == sorted(steps[1:])
    assert times[2] == 0
    assert times[2:] == sorted(times[2:])
    assert any(at % 1 for at in times), "points are seen between checkpoints"
    drawn(page, last, state)
    page.fill("#step", "1")
    drawn(page, 1, state)
    steps, _ = page.evaluate(WATCH, ["play", last])
    assert steps == [1, last]
    assert text(page, "#play") == "play"
    assert picture(page) == picture(page)


def test_the_page_plays_once_as_it_opens_until_the_map_is_touched(made_page: "Page") -> None:
    page, last = made_page, len(VIEW_STEPS) - 1
    at(page, last)
    steps, _ = page.evaluate(WATCH, ["once", last])
    assert steps == [last, *range(last + 1)]
    assert page.evaluate("playOnce(), playing")
    page.evaluate("byId('cloud').dispatchEvent(new PointerEvent('pointerdown'))")
    assert not page.evaluate("playing")
    page.emulate_media(reduced_motion="reduce")
    at(page, last)
    assert not page.evaluate("playOnce(), playing")
    page.emulate_media(reduced_motion="no-preference")
    assert page.input_value("#step") == str(last)


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (2, 0)])
def test_points_glide_to_a_checkpoint(made_page: "Page", begin: int, end: int) -> None:
    made_page.fill("#step", str(begin))
    drawn(made_page, begin, made_page.input_value("#state"))
    steps, times = made_page.evaluate(WATCH, [end, end])
    assert steps == [begin, end], "texts change at once"
    on_the_way = [at for at in times if at % 1]
    assert on_the_way
    assert 0 <= min(on_the_way) <= max(on_the_way) <= 1, "of a far one the last step"
    assert on_the_way == sorted(on_the_way, reverse=end < begin)
    drawn(made_page, end, made_page.input_value("#state"))


#: What the page unpacks of a split, as plain lists.
UNPACKED = """async (split) => Object.fromEntries(Object.entries(await arraysOf(0, split)).map(
  ([name, array]) => [name, { ...array, data: Array.from(array.data) }]))"""


def test_the_page_unpacks_what_the_view_holds(made_page: "Page") -> None:
    view = planted_view()
    assert max(split.answer.max() for split in view.splits.values()) > 255
    for number, split in enumerate(view.splits.values()):
        arrays = made_page.evaluate(UNPACKED, number)
        assert all(len(array["data"]) == np.prod(array["shape"]) for array in arrays.values())
        unpacked = {name: np.reshape(a["data"], a["shape"]) for name, a in arrays.items()}
        for part, numbers in split.parts.items():
            np.testing.assert_array_equal(unpacked[part], numbers)
        instructions = made_page.evaluate("(split) => theRun().splits[split].instructions", number)
        assert [instructions[i] for i in unpacked["instruction"]] == list(split.instruction)
        np.testing.assert_array_equal(unpacked["answer"], split.answer + 1)
        assert split.right is not None
        np.testing.assert_array_equal(unpacked["right"], split.right)
        for state in view.states:
            np.testing.assert_array_equal(unpacked[f"cluster/{state}"], split.assigned[state])
            for kind in MAPS:
                levels, array = unpacked[f"{kind}/{state}"], arrays[f"{kind}/{state}"]
                assert np.abs(levels).max(axis=(1, 2)) == pytest.approx(1, abs=2 / LEVELS)
                half = np.array(array["half"])[:, None, None]
                got = np.array(array["middle"])[:, None] + half * levels
                off = np.abs(got - split.maps[kind, state]) / half
                assert off.max() <= 1.001 / LEVELS


def test_the_page_shows_the_state_of_the_controls_after_going_back(made_page: "Page") -> None:
    made_page.uncheck("#fit")
    made_page.check("#wrong")
    made_page.check("#color input[value=cluster]")
    made_page.check("#map input[value=pca]")
    url = made_page.url
    made_page.goto("about:blank")
    made_page.go_back()
    assert made_page.url == url
    made_page.wait_for_selector("#legend button", state="attached")
    assert made_page.evaluate(
        "[look.fit === byId('fit').checked, look.wrong === byId('wrong').checked]"
    ) == [True, True]
    for key in ("color", "map"):
        assert made_page.input_value(f"#{key} input:checked") == made_page.evaluate(f"look.{key}")


#: The hidden states through which the page plays.
PLAYED = """async () => {
  const states = [];
  watch(["state"], () => states.push(look.state));
  states.length = 0;
  play(true);
  while (playing) await new Promise(requestAnimationFrame);
  return states;
}"""


def test_a_single_checkpoint(browser: "Browser", tmp_path: Path) -> None:
    with opened(browser, page_file(tmp_path, planted_view(checkpoints=1))) as page:
        drawn(page, 0, page.input_value("#state"))
        assert not page.is_visible("#step"), "there is nothing to choose"
        for part, selector in (("verdicts", "#curves svg"), ("contents", "#heat svg")):
            to(page, part)
            page.wait_for_selector(selector)
        to(page, "order")
        page.wait_for_selector("#order svg")
        states = list(planted_view().states)
        page.focus("#cloud")
        for key, state in (("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1), ("End", 2)):
            page.keyboard.press(key)
            drawn(page, 0, states[state])
        page.select_option("#speed", "4")
        played = page.evaluate(PLAYED)
        assert played == states, "the hidden states have the role of time"
        page.keyboard.press("n")
        assert text(page, "#tip p").startswith("val_subset 0 a")
        page.emulate_media(reduced_motion="no-preference")
        assert page.evaluate("go({ state: theRun().states[1] }), gliding !== null")
        drawn(page, 0, states[1])


def test_one_model_and_its_twin(browser: "Browser", tmp_path: Path) -> None:
    view = planted_view(outputs=False, checkpoints=2)
    names = dict(zip(view.steps, ("untrained", "trained"), strict=True))
    path = tmp_path / "page.html"
    verdict = judge([planted_model()])
    path.write_bytes(page_of([[dataclasses.replace(view, step_names=names)]], [verdict], "by hand"))
    with opened(browser, path) as page:
        drawn(page, 1, page.input_value("#state"))
        for part in ("verdicts", "contents", "use", "world", "run"):
            to(page, part)
        for selector in ("#curves svg", "#heat svg", "#order svg"):
            page.wait_for_selector(selector)
        shown = page.inner_text("body").replace("(seen in training)", "")  # a planted split's
        assert not re.search(r"training|checkpoint|\bsteps?\b", shown, re.IGNORECASE)
        assert "best layer: block4, with an ARI of 0.91" in shown
        assert text(page, "#step-name") == "trained"
        curves = page.locator("#curves svg[aria-label^='ARI by hidden state']")
        assert curves.count() == len(view.splits)
        page.focus("#cloud")
        page.keyboard.press("ArrowLeft")
        assert text(page, "#step-name") == "untrained"
        states = ["embed", *(f"block{i}" for i in range(1, 31)), "ln_f"]
        named = page.evaluate("(states) => namedStates(states, 196)", states)
        assert named == ["embed", *(f"block{i}" for i in (5, 10, 15, 20, 25)), "ln_f"]


# --- Several runs ---


def test_runs_that_differ_in_their_seed(
    browser: "Browser", command: Command, pair: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "not" / "there" / "yet.html"
    assert done(command, "report", *pair, "--out", out) == f"{out}\n"
    assert not (pair[1] / "report.html").exists()
    with opened(browser, out) as page:
        assert text(page, "#runs-shown") == "tasklens seed0, seed1"
        assert texts(page, "#run-name option") == ["seed0 (seed 0)", "seed1 (seed 1)"]
        assert "on 2 runs (seeds 0, 1)" in text(page, "#verdict-note")
        judged = findings(page)
        assert set(judged[0]) == {"not tested"}

        first = picture(page)
        page.select_option("#run-name", "1")
        assert picture(page) != first
        assert "the seed is 1" in text(page, "#subtitle")
        assert findings(page) == judged, "one verdict of both"
        page.focus("#cloud")
        page.keyboard.press("n")
        row = points_of(load_view(pair[1]))[0]
        assert text(page, "#tip p").startswith(f"{row['instruction']} {row['input']}")

        page.check("#many input[value=runs]")
        state = page.input_value("#state")
        names = texts(page, "#multiples button")
        assert [name.partition(" · ")[0] for name in names] == ["seed0", "seed1"]
        for name, run in zip(names, pair, strict=True):
            ari = mean_scores(load_view(run).table, "val_subset", "ari")[state, STEPS[-1]]
            assert float(name.partition(" · ")[2]) == pytest.approx(ari, abs=0.0051)
        page.wait_for_selector(f'#multiples button:first-child canvas[data-drawn^="{state} "]')
        page.locator("#multiples button").first.click()
        to(page, "clusters")
        assert page.input_value("#run-name") == "0"
        page.wait_for_selector("#cloud[data-drawn]")  # again, as it was out of sight
        assert picture(page) == first


def outcomes_of(verdict: dict[str, Any]) -> list[str]:
    return [finding["verdict"] for finding in verdict["findings"]]


def test_findings_have_their_outcomes_if_the_model_learned(
    browser: "Browser", pair: list[Path], tmp_path: Path
) -> None:
    verdict = dataclasses.replace(verify(pair), doubt="")
    out = tmp_path / "page.html"
    out.write_bytes(page_of([[load_view(path)] for path in pair], [verdict], "by hand"))
    expected = outcomes_of(json.loads(verdict_json(verdict)))
    assert len(set(expected)) > 1
    with opened(browser, out) as page:
        assert findings(page)[0] == expected
        assert not page.query_selector("#findings .doubt")


def test_runs_of_other_settings_are_judged_each_alone(
    browser: "Browser", command: Command, pair: list[Path], tiny: Finished, tmp_path: Path
) -> None:
    out, both = tmp_path / "page.html", [pair[1], tiny.path]
    assert done(command, "report", *both, "--out", out) == f"{out}\n"
    verdicts = story_of(out.read_bytes())["verdicts"]
    kept = json.loads((tiny.path / "verdict.json").read_bytes())
    assert verdicts[1]["runs"] == kept["runs"]
    assert outcomes_of(verdicts[1]) == outcomes_of(kept)
    with opened(browser, out) as page:
        for number, (run, verdict) in enumerate(zip(both, verdicts, strict=True)):
            page.select_option("#run-name", str(number))
            assert [judged["run"] for judged in verdict["runs"]] == [run.name]
            assert f"tested on the run {run.name} (seed " in text(page, "#verdict-note")
            assert verdict["doubt"], "it tells why the scores mean nothing"
            assert text(page, "#findings .doubt") == f"Not tested. {verdict['doubt']}."
            assert set(findings(page)[0]) == {"not tested"}, "no finding fails in red"
            n = len(load_view(run).splits["val_subset"])
            assert f"{n} points" in text(page, "#cloud-title")


def test_runs_that_hold_different_things(browser: "Browser", tmp_path: Path) -> None:
    """One has no outputs, and other steps, layers and splits: what it lacks is not asked of it."""
    poor = planted_view(outputs=False, checkpoints=2, states=("embed", "block1"))
    split = poor.splits["val_subset"]
    split = dataclasses.replace(split, answer=np.full_like(split.answer, UNKNOWN))
    poor = dataclasses.replace(poor, run="poor", splits={"val_subset": split})
    with opened(browser, page_file(tmp_path, planted_view(), poor)) as page:
        at(page, 2, "block2")
        page.check("#many input[value=runs]")
        shows(page, "#multiples button", [re.compile("seen · 0[.]"), re.compile("poor · –")])
        at(page, 2, "block1")
        page.check("#color input[value=cluster]")
        other = page.locator("#multiples button:last-child canvas")
        other.scroll_into_view_if_needed()
        page.wait_for_selector('#multiples button:last-child canvas[data-drawn^="block1"]')
        page.evaluate(DRAWN)
        assert other.evaluate(MARKS) > 0, "of a run with fewer checkpoints the last"
        page.check("#color input[value=output]")
        page.select_option("#run-name", "1")
        drawn(page, 1, "block1")
        assert page.input_value("#color input:checked") == "task"
        for _ in COLOURS:
            page.focus("#cloud")
            page.keyboard.press("c")
            assert picture(page)
            assert page.locator("#legend button").count() > 0
        page.keyboard.press("n")
        assert texts(page, "#tip p")[0] == "val_subset 0"
        for part in PARTS:
            to(page, part)
        page.wait_for_selector("#order svg")
        page.select_option("#run-name", "0")
        to(page, "clusters")
        drawn(page, 1, "block1")


MARKS = """(canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
  .data.filter((value, i) => i % 4 === 3 && value > 0).length"""


# --- The command ---


def files(path: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


def test_what_cannot_be_reported_is_refused_and_nothing_is_written(
    command: Command, run: Path, tmp_path: Path
) -> None:
    out, empty, unmeasured = (tmp_path / name for name in ("page.html", "empty", "unmeasured"))
    empty.mkdir()
    assert command("data", "smoke", *changes(), "--out", unmeasured).status == 0
    (tmp_path / "file").write_text("")
    before = files(tmp_path)
    for wrong, word in ((tmp_path / "mistyped", "mistyped"), (empty, "empty"), (out, "page.html")):
        assert_refused(command("report", wrong), word)
        assert_refused(command("report", wrong, "--set", "report.points=8"), word)
        assert_refused(command("report", run, wrong, "--out", out), word)
    assert_refused(command("report", unmeasured), "not finished")
    assert_refused(command("report", run, unmeasured, "--out", out), "not finished")
    for twice in (run, run.parent / "." / ".." / run.parent.name / run.name):
        assert_refused(command("report", run, twice, "--out", out), "twice")
    for setting, *expected in (
        ("train.steps=3", "report.*", "train.steps=3"),
        ("report.points=7", "report.points", "8"),
        ("report.pints=9", "pints", "points"),
    ):
        assert_refused(command("report", run, "--set", setting), *expected)
    for path in (tmp_path / "file" / "page.html", empty):
        assert_refused(command("report", run, "--out", path), "cannot write", path.name)
    assert files(tmp_path) == before


def test_how_many_points_are_shown_is_a_setting(command: Command, run: Path) -> None:
    (complete,) = story_of((run / "report.html").read_bytes())["runs"][0]["positions"]
    assert [split["n"] for split in complete["splits"]] == [30, 30, 30]
    for options in (("--set", "report.points=8"), ()):
        done(command, "report", run, *options)
        story = story_of((run / "report.html").read_bytes())["runs"][0]
        (few,) = story["positions"]
        assert [split["n"] for split in few["splits"]] == [8, 8, 8]
        assert few["scores"] == complete["scores"]
        assert load_run(run).settings.report.points == 8
        assert "points = 8" in story["settings"]


# --- Strings of a user's files are text ---

TAGS = ("<script>window.bad=1</script>", '<img/src=x/onerror="window.bad=1">', "</script><!--")
HOSTILE = (*TAGS, "&amp;'\"", "{{data}}", "${window.bad=1}")


def hostile_tasks() -> dict[str, Any]:
    """Return a task file of names, tokens and symbols that are markup elsewhere."""
    return {
        "min_length": 4,
        "max_length": 8,
        "tasks": [
            {
                "name": f'{HOSTILE[i]} <img src=x onerror="window.bad=1">\u2028{HOSTILE[-i - 1]}',
                "regexes": [f"{start}[<>&\"'/]{{3,7}}"],
                "n_variants": 30,
                "function": {
                    HOSTILE[j]: f"{HOSTILE[(i + j) % len(HOSTILE)]}!" for j in range(len(HOSTILE))
                },
            }
            for i, start in enumerate("<>&")
        ],
    }


#: The tip of each point, by paragraph.
TIPS = """(n) => Array.from({ length: n }, (_, i) => {
  showTip(i);
  return [...byId("tip").querySelectorAll("p")].map((p) => p.textContent);
})"""


def test_markup_of_the_users_is_text(browser: "Browser", command: Command, tmp_path: Path) -> None:
    tasks = hostile_tasks()
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(tasks))
    run = tmp_path / "<img src=x onerror=window.bad=1>&amp;'{{style}}\""
    settings = changes(**MORE, train__steps=1, train__warmup_steps=1, checkpoints__every=1)
    done(command, "data", "smoke", *settings, "--set", f"tasks.file={file}", "--out", run)
    for stage in ("train", "measure", "report"):
        done(command, stage, run)
    with opened(browser, run / "report.html") as page:
        assert page.title() == f"{run.name}: not tested (tasklens)"
        assert text(page, "#runs-shown") == f"tasklens {run.name}"
        assert run.name in text(page, "#verdict-note")
        names = [task["name"] for task in tasks["tasks"]]
        plain = [" ".join(name.split()) for name in names]
        assert texts(page, "#legend .name") == plain
        rows, hostile = points_of(load_view(run)), set()
        for row, tip in zip(rows, page.evaluate(TIPS, len(rows)), strict=True):
            assert tip[0] == f"{row['instruction']} {row['input']} {row['output']}"
            assert tip[1] == f"task  {row['task']}"
            assert tip[3] == f"input {row['input']} → {row['output']}"
            hostile |= {row["input"], row["output"].removesuffix("!"), row["task"]}
        assert hostile >= {*HOSTILE, *names}
        for colour in COLOURS:
            page.check(f"#color input[value={colour}]")
        to(page, "contents")
        page.wait_for_selector("#order svg")
        assert texts(page, "#contingency tbody th") == plain
        to(page, "world")
        page.wait_for_selector("#tasks summary")
        assert texts(page, "#tasks summary b") == plain
        functions = [[f"{x} → {y}" for x, y in task["function"].items()] for task in tasks["tasks"]]
        assert texts(page, "#tasks .pairs code") == [pair for f in functions for pair in f]
        to(page, "run")
        page.wait_for_selector("#origin pre")
        assert shlex.quote(str(run)) in text(page, "#origin pre")
        assert page.evaluate("window.bad") is None
        assert page.evaluate("document.images.length") == 0
        assert page.locator("script").count() == 1 + len(SPLITS) + len(SCRIPTS)


# --- What can be seen and heard ---

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TEXT = ("ink", "faint", "accent", "good", "bad", "open")
POINTS = tuple(f"c{i}" for i in range(10))
VARIABLES = """(names) => Object.fromEntries(names.map((name) =>
  [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()]))"""


def test_the_system_chooses_the_theme_and_the_button_overrides_it(made_page: "Page") -> None:
    to(made_page, "clusters")
    at(made_page, 2)
    looks: dict[str, tuple[str, str, str]] = {}
    for theme in THEMES:
        made_page.emulate_media(color_scheme=theme)
        looks[theme] = appearance(made_page)
    assert all(light != dark for light, dark in zip(*looks.values(), strict=True))
    for system in THEMES:
        made_page.emulate_media(color_scheme=system)
        for chosen in ("dark", "light", "system"):
            made_page.click("#theme")
            assert chosen in text(made_page, "#theme")
            assert appearance(made_page) == looks[system if chosen == "system" else chosen]


def appearance(page: "Page") -> tuple[str, str, str]:
    """Return the map, the background, and the colours of the points."""
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return picture(page), background, str(page.evaluate(VARIABLES, POINTS))


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_points_stand_out(made_page: "Page", theme: Literal["light", "dark"]) -> None:
    made_page.emulate_media(color_scheme=theme)
    colors = made_page.evaluate(VARIABLES, ["paper", "raised", *TEXT, *POINTS])
    pairs = [(name, ground, 4.5) for name in TEXT for ground in ("paper", "raised")]
    pairs += [(name, "raised", 3.0) for name in POINTS]
    faint = [pair for pair in pairs if contrast(colors[pair[0]], colors[pair[1]]) < pair[2]]
    assert faint == []


def test_everything_has_a_name(page: "Page") -> None:
    for part in PARTS:
        to(page, part)
    page.wait_for_selector("#origin pre")
    page.evaluate(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
    )
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    names = [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip())
        for node in nodes
        if not node["ignored"]
    ]
    may_occur = {"listbox", "spinbutton", "image"}
    assert [role for role, name in names if role in ROLES | may_occur and not name] == []
    assert {role for role, _ in names} >= ROLES
    drawings = page.locator("figure svg:not([aria-hidden=true])").all()
    assert len(drawings) >= 8
    unlabelled = [svg.evaluate(NAME) for svg in drawings if not svg.get_attribute("aria-label")]
    assert unlabelled == []


ROLES = {"button", "combobox", "slider", "radio", "checkbox", "link"}
NAME = "(svg) => `${svg.closest('figure').id} ${svg.getAttribute('class')}`"


def test_on_a_phone_nothing_is_wider_than_the_screen(page: "Page") -> None:
    for part, selectors in PARTS.items():
        to(page, part)
        for selector in selectors:
            page.wait_for_selector(selector, state="attached")
    page.set_viewport_size({"width": 390, "height": 800})
    page.evaluate(DRAWN)
    wide = "[document.documentElement.scrollWidth, innerWidth]"
    assert page.evaluate(wide) == [390, 390], "what is out of sight is not drawn anew"
    to(page, "clusters")
    box = page.locator("#cloud").bounding_box()
    assert box is not None
    assert 0 <= box["x"] < box["x"] + box["width"] <= 390
    assert 250 < box["height"] < 800
    assert page.is_visible("#cloud")
    page.evaluate(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
    )
    for part in PARTS:
        to(page, part)
        assert page.evaluate(wide) == [390, 390], part


def test_on_paper(page: "Page") -> None:
    page.evaluate("change({ theme: 'dark' })")  # which paper is not
    page.emulate_media(media="print")
    for selector in ("#bar", "nav", "#color", "#map"):
        assert not page.is_visible(selector)
    assert page.is_visible("#cloud")
    assert page.locator("#findings details[open]").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#findings .finding").count() == 8
    assert page.locator("#findings details:not([open])").count() == 0
    for selectors in PARTS.values():
        for selector in selectors:
            page.wait_for_selector(selector)
    ink = page.evaluate("getComputedStyle(document.body).color")
    rgb = "".join(f"{int(value):02x}" for value in re.findall("[0-9]+", ink))
    assert contrast(f"#{rgb}", "#ffffff") > 4.5, "paper is white whatever the theme"
