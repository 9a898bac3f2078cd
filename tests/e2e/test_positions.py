"""Test runs at several positions: each as if it were alone, and one that is added later."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2e.browser import opened, to
from e2e.conftest import (
    Finished,
    assert_refused,
    assert_same,
    call,
    changes,
    contents,
    scores_of,
    succeed,
)
from e2e.stock import STATES, STEPS, Stock, reading
from tasklens.core.errors import InputError
from tasklens.report.summary import mean_scores
from tasklens.runs.load_run import load_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

POSITIONS = ("input", "instruction_last", "instruction_mean")
ALL = json.dumps(POSITIONS)


def rows_at(path: Path, position: str) -> list[dict[str, Any]]:
    """Return the scores at a position, without the name of the run."""
    return [row | {"run": ""} for row in scores_of(path, position=position)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny run at all positions. Not to be changed."""
    path = tmp_path_factory.mktemp("positions") / "tiny"
    return Finished(path, succeed("run", "smoke", *changes(states__positions=ALL), "--out", path))


@pytest.mark.parametrize("position", POSITIONS[1:])
def test_a_position_of_several_is_as_if_alone(
    three: Finished, tmp_path: Path, position: str
) -> None:
    settings = changes(states__positions=json.dumps([position]))
    alone = tmp_path / "alone"
    succeed("data", "smoke", *settings, "--out", alone)
    for stage in ("train", "measure"):
        succeed(stage, alone)
    mine, theirs = load_run(alone), load_run(three.path)
    for step in mine.steps:
        for name in mine.state_names:
            state = mine.states(name, step)
            assert state.tobytes() == theirs.states(name, step, position=position).tobytes()
        assert mine.answers(step).keys() == theirs.answers(step).keys()
        for split, answer in mine.answers(step).items():
            assert np.array_equal(answer, theirs.answers(step)[split]), "which follows the input"
    assert rows_at(alone, position) == rows_at(three.path, position) != []
    assert rows_at(alone, "") == rows_at(three.path, ""), "accuracy and controls"


def test_the_first_position_is_where_it_is_in_a_run_of_its_own(
    three: Finished, tiny: Finished
) -> None:
    mine, theirs = contents(three.path), contents(tiny.path)
    kept = ("data", "checkpoints", "states", "metrics.jsonl")
    for name in (name for name in theirs if name.partition("/")[0] in kept):
        assert mine[name] == theirs[name], name
    assert rows_at(three.path, "input") == rows_at(tiny.path, "input")
    more = {name.split("/")[1] for name in mine if name.startswith("states/at=")}
    assert more == {"at=instruction_last", "at=instruction_mean"}


@pytest.mark.long
@pytest.mark.parametrize("how", ["measure", "run"])
def test_a_position_that_is_added_later_is_as_if_taken_while_training(
    three: Finished, copy: Path, how: str
) -> None:
    """After the first one was added, another is; the report and the figures are made again."""
    for positions in (json.dumps(POSITIONS[:2]), ALL):
        if how == "measure":
            succeed("measure", copy, "--set", f"states.positions={positions}")
        else:
            settings = changes(states__positions=positions)
            succeed("run", "smoke", *settings, "--out", copy, "--resume")
    assert_same(copy, three.path)


@pytest.mark.long
def test_a_position_that_is_left_out_is_not_measured(three: Finished, tmp_path: Path) -> None:
    path = Path(shutil.copytree(three.path, tmp_path / "tiny"))
    before = load_run(path).directory.mark("train")
    succeed("measure", path, "--set", f"states.positions={json.dumps(POSITIONS[::2])}")
    assert load_run(path).directory.mark("train") == before
    assert {row["position"] for row in scores_of(path)} == {"", *POSITIONS[::2]}
    succeed("measure", path, "--set", f"states.positions={ALL}")
    assert_same(path, three.path)


def test_hidden_states_of_a_position_that_are_gone_are_harvested_again(
    three: Finished, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(three.path, tmp_path / "tiny"))
    (path / "states" / "at=instruction_mean" / "step-00000004" / "block1.npy").unlink()
    succeed("run", "smoke", *changes(states__positions=ALL), "--out", path, "--resume")
    assert_same(path, three.path)


def test_without_weights_no_position_is_added_and_nothing_is_written(
    copy: Path, tmp_path: Path
) -> None:
    (copy / "checkpoints" / "step-00000004" / "model.safetensors").unlink()
    before = contents(copy)
    positions = f"states.positions={ALL}"
    refused = (
        "the position instruction_last cannot be added, because no weights are kept of 1 of 6 ",
        "checkpoints (steps 4); to train again with all positions, name another directory",
    )
    assert_refused(call("measure", copy, "--set", positions), *refused)
    settings = changes(states__positions=ALL)
    assert_refused(call("run", "smoke", *settings, "--out", copy, "--resume"), *refused)
    assert contents(copy) == before


def test_the_first_position_stays(copy: Path) -> None:
    before = contents(copy)
    stays = "has 'input' as the first of its states.positions, which stays; name the others after"
    for first in ('["instruction_mean"]', '["instruction_mean", "input"]'):
        assert_refused(call("measure", copy, "--set", f"states.positions={first}"), stays)
        settings = changes(states__positions=first)
        assert_refused(call("run", "smoke", *settings, "--out", copy, "--resume"), stays)
    only = call("measure", copy, "--set", "states.others=1")
    assert_refused(only, "only clusters.*, measure.* and states.positions can change")
    assert contents(copy) == before


def test_what_is_shown_is_the_first_position_or_the_named_one(
    three: Finished, tiny: Finished, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(three.path, tmp_path / "tiny"))
    shown = succeed("show", path).out
    assert re.findall("^position (.*)$", shown, re.MULTILINE) == [*POSITIONS]
    alone = succeed("show", tiny.path).out.replace("\n\n", "\n")
    assert alone in shown.replace("\n\n", "\n")
    verdicts = [json.loads((p / "verdict.json").read_text()) for p in (path, tiny.path)]
    assert verdicts[0] == verdicts[1]
    both = json.loads(call("verify", path, "--json").out)
    assert both["findings"] == verdicts[1]["findings"]
    followed = json.loads(succeed("follow", path, "--json", "--position", "instruction_mean").out)
    assert followed["position"] == "instruction_mean"
    assert "at instruction_mean (raw)" in succeed("follow", path, "--position", POSITIONS[2]).out
    refused = call("follow", path, "--position", "last")
    assert_refused(refused, "the position 'last' is not measured, but input, instruction_last,")
    drawn = (path / "figures" / "figure1.png").read_bytes()
    succeed("plot", path, "--set", "figure.position=instruction_mean")
    assert (path / "figures" / "figure1.png").read_bytes() != drawn


def test_from_python(three: Finished) -> None:
    run = load_run(three.path)
    assert run.positions == POSITIONS
    assert run.view().position == "input"
    view = run.view("instruction_mean")
    assert {*view.table["position"].to_pylist()} == {"", "instruction_mean"}
    assert np.array_equal(view.splits["val_subset"].answer, run.view().splits["val_subset"].answer)
    with pytest.raises(InputError, match=r"--set 'states.positions=\[\"input\", .*\"last\"\]'"):
        run.states("block1", position="last")


# --- Probes ---


def states_of(path: Path, position: str = "") -> dict[str, bytes]:
    parent = path / "states" / (f"at={position}" if position else "")
    return {
        f"{step}/{name}": (parent / f"step-{step:08d}" / f"{name}.npy").read_bytes()
        for step in STEPS
        for name in (*STATES, "answer")
    }


def assert_same_states(states: dict[str, bytes], others: dict[str, bytes]) -> None:
    """Check that the states of two probes are equal but for rounding, and the answers equal.

    A probe reads all positions in one pass, whose rows differ from those of a pass for one.
    """
    assert states.keys() == others.keys()
    for name, content in states.items():
        x, y = np.load(io.BytesIO(content)), np.load(io.BytesIO(others[name]))
        if name.endswith("answer"):
            assert np.array_equal(x, y)
        else:
            distance = np.linalg.norm(x - y, axis=1)
            assert (distance <= 1e-5 * np.linalg.norm(y, axis=1)).all(), name


def assert_same_scores(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    """Check that two probes have the same scores, but for rounding."""
    assert rows != []
    for row, other in zip(rows, others, strict=True):
        assert row | {"value": 0} == other | {"value": 0}
        assert row["value"] == pytest.approx(other["value"], rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def two(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A probe at the input and at the instruction. Not to be changed."""
    path = tmp_path_factory.mktemp("positions") / "probe"
    positions = ("--position", "input", "--position", "instruction_mean")
    return Finished(path, succeed(*stock.command(*positions, "--out", path)))


def test_a_probe_at_two_positions_equals_two_probes(
    stock: Stock, two: Finished, probed: Finished, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    succeed(*stock.command("--position", "instruction_mean", "--out", other))
    assert_same_states(states_of(two.path), states_of(probed.path))
    assert_same_states(states_of(two.path, "instruction_mean"), states_of(other))
    assert_same_scores(rows_at(two.path, "input"), rows_at(probed.path, "input"))
    means = [rows_at(path, "instruction_mean") for path in (two.path, other)]
    assert_same_scores(*means)
    assert rows_at(two.path, "") == rows_at(probed.path, ""), "those of the first position"
    assert "tasklens: at the position instruction_mean, measured is what" in two.result.err


def test_a_position_that_is_added_to_a_probe_is_read_alone(
    stock: Stock, two: Finished, probe_copy: Path
) -> None:
    """The default position is the same as the one that is named."""
    with reading() as read:
        positions = '["input","instruction_mean"]'
        succeed("measure", probe_copy, "--set", f"states.positions={positions}")
    assert sum(read.prompts.values()) == len(STEPS) * len(stock.rows), "each prompt once"
    for position in ("", "instruction_mean"):
        assert_same_states(states_of(probe_copy, position), states_of(two.path, position))
    assert_same_scores(scores_of(probe_copy), scores_of(two.path))
    positions_again = ("--position", "input", "--position", "instruction_mean")
    with reading() as read:
        succeed(*stock.command(*positions_again, "--out", probe_copy, "--resume"))
    assert not read.prompts


def test_an_interrupted_probe_ends_in_the_same_bytes(
    stock: Stock, two: Finished, tmp_path: Path
) -> None:
    """It stops after either model, which is read once for both positions."""
    path = tmp_path / "probe"
    positions = ("--position", "input", "--position", "instruction_mean")
    with reading(stop_after=1):  # which reads one model whole
        assert call(*stock.command(*positions, "--out", path, "--resume")).status == 130
    succeed(*stock.command(*positions, "--out", path, "--resume"))
    for position in ("", "instruction_mean"):
        assert states_of(path, position) == states_of(two.path, position)
    assert not list((path / "states").rglob("partial-*"))


def test_a_part_of_any_name_is_a_position(stock: Stock, tmp_path: Path) -> None:
    rows = [row | {"text": f"and/or {row['text']}"} for row in stock.rows]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("--position", "input", "--position", "and/or", "--position", "-1")
    path = tmp_path / "probe"
    succeed(*stock.command("--prompts", prompts, *asked, "--out", path))
    assert {row["position"] for row in scores_of(path)} == {"", "input", "and/or", "-1"}
    run = load_run(path)
    assert len(run.states("embed", position="and/or")) == len(rows)
    assert run.view("and/or").position == "and/or"


def test_an_unknown_part_is_refused_before_anything_is_written(
    stock: Stock, probe_copy: Path
) -> None:
    before = contents(probe_copy)
    unknown = "'zzz' is not in the text"
    positions = 'states.positions=["input","zzz_mean"]'
    assert_refused(call("measure", probe_copy, "--set", positions), unknown)
    asked = ("--position", "input", "--position", "zzz", "--out", probe_copy, "--resume")
    assert_refused(call(*stock.command(*asked)), unknown)
    assert contents(probe_copy) == before


# --- The page ---


def test_the_page_shows_the_position_that_is_chosen(browser: "Browser", three: Finished) -> None:
    with opened(browser, three.path / "report.html") as page:
        names = page.eval_on_selector_all("#position option", "all => all.map((o) => o.value)")
        assert names == [*POSITIONS]
        state = page.input_value("#state")
        shown = {}
        for position in (*POSITIONS[::-1], "input"):
            page.select_option("#position", position)
            to(page, "clusters")
            page.wait_for_selector("#cloud[data-drawn]")
            title = page.inner_text("#cloud-title")
            assert f"points, at {position}" in title
            view = load_run(three.path).view(position)
            ari = mean_scores(view.table, "val_subset", "ari")[state, view.steps[-1]]
            assert page.text_content("#dial-0 .value") == f"{ari:z.2f}"
            unpacked = "(state) => arraysNow().then((all) => [...all[`cluster/${state}`].data])"
            assert (
                page.evaluate(unpacked, state)
                == view.splits["val_subset"].assigned[state].ravel().tolist()
            )
            page.locator("#heat").scroll_into_view_if_needed()
            page.wait_for_selector("#heat > *")
            shown[position] = page.inner_html("#heat")
        assert len(set(shown.values())) == len(POSITIONS)
        assert "They are those of the first position, input." in page.inner_text("#verdict-note")


def test_a_page_of_one_position_has_no_choice(browser: "Browser", tiny: Finished) -> None:
    with opened(browser, tiny.path / "report.html") as page:
        assert not page.is_visible("#position")
        assert "at input" not in page.inner_text("#cloud-title")
