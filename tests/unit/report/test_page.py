"""The data of a page are those of the view and of the verdict, read by independent code."""

import dataclasses
import html
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hostile import HOSTILE
from packed import unpacked
from planted import planted_table
from planted_model import planted_model
from tasklens.core.seeds import stream
from tasklens.findings.curves import curves_of_table
from tasklens.findings.rules import FINDINGS
from tasklens.findings.verdict import judge
from tasklens.report.page import page, run_data, verdict_data
from tasklens.report.page_arrays import LEVELS, Packer, script_json
from tasklens.report.view import MAPS, UNKNOWN, ModelView, View
from tasklens.scoring.score_table import Row, to_table
from views import planted_view


def row(step: int | None, layer: str, value: float, **others: Any) -> Row:
    keys: Row = {"run": "seen", "seed": 3, "split": "val_subset", "position": "", "space": "raw"}
    keys |= {"step": step, "layer": layer, "metric": "ari", "k": 6, "cluster_seed": 0}
    return {**keys, "value": value, **others}


def with_rows(*rows: Row) -> View:
    return dataclasses.replace(planted_view(outputs=False), table=to_table(list(rows)))


def test_scores_are_means_with_their_range_by_step() -> None:
    view = with_rows(
        row(0, "block1", 0.25),
        row(0, "block1", 0.5, cluster_seed=1),
        row(0, "block1", 0.125, metric="ari_low", cluster_seed=None),
        row(0, "block1", 0.625, metric="ari_high", cluster_seed=None),
        row(0, "block1", 7, metric="near_best_starts", cluster_seed=None),
        row(40, "block1", 0.123449),
        row(40, "block1", 0.7, metric="ari_input"),
        row(10, "block1", 0.9, space="tsne"),  # is not shown
        row(10, "block1", 0.9, metric="inertia"),
        row(10, "block9", 0.9),
        row(10, "block1", 0.9, split="other"),
        row(None, "control:length", 0.1),
        row(None, "control:length", 0.8, metric="ami"),
        row(10, "model", 0.75, metric="accuracy", space="", k=None, cluster_seed=None),
    )
    assert run_data([view])[0]["positions"][0]["scores"] == {
        "train_subset": {},
        "val_subset": {
            "block1": {
                "ari": [[0.375, 0.125, 0.625], None, [0.1234, 0.1234, 0.1234]],
                "ari_input": [None, None, [0.7, 0.7, 0.7]],
            },
            "control:length": {"ari": [[0.1, 0.1, 0.1]]},
            "model": {"accuracy": [None, [0.75, 0.75, 0.75], None]},
        },
    }


def test_scores_against_a_crossed_column_are_those_of_the_column_and_not_of_its_values() -> None:
    view = with_rows(
        row(0, "block1", 0.5, metric="ari_of_form"),
        row(10, "block1", 0.25, metric="ari_within_form", k=None),
        row(10, "block1", 0.125, metric="ari_within_form=arrow", k=None),
        row(40, "block1", 0.75, metric="probe_across_form", k=None),
    )
    (at,) = run_data([view])[0]["positions"]
    assert at["crossed"] == ["form"]
    assert at["scores"]["val_subset"]["block1"] == {
        "ari_of_form": [[0.5] * 3, None, None],
        "ari_within_form": [None, [0.25] * 3, None],
        "probe_across_form": [None, None, [0.75] * 3],
    }


def test_what_is_not_finite_is_null() -> None:
    view = with_rows(row(0, "block1", np.nan), row(10, "block1", 0.5), row(40, "embed", np.inf))
    split = view.splits["val_subset"]
    shares = {**split.shown_variance, ("pca", "block1"): np.array([np.nan, 0.25, 1])}
    splits = {**view.splits, "val_subset": dataclasses.replace(split, shown_variance=shares)}
    world = dataclasses.replace(view.world, same_symbols=np.array([[1, np.nan], [0.33333, 1]]))
    data, _ = run_data([dataclasses.replace(view, splits=splits, world=world)])
    (at,) = data["positions"]
    scores = at["scores"]["val_subset"]
    assert scores["block1"]["ari"][:2] == [[None, None, None], [0.5, 0.5, 0.5]]
    assert scores["embed"]["ari"][2] == [None, None, None]
    assert at["splits"][1]["shown_variance"]["pca"]["block1"] == [None, 0.25, 1]
    assert data["world"]["same_symbols"] == [[1, None], [0.3333, 1]]
    assert data["world"]["same_output"] is None
    assert json.loads(script_json(at))["scores"]["val_subset"] == scores


@pytest.mark.parametrize("outputs", [True, False])
def test_a_split_is_there_as_a_whole(outputs: bool) -> None:
    view = planted_view(outputs=outputs)
    train = dataclasses.replace(view.splits["train_subset"], instruction=("b", "a") * 6)
    view = dataclasses.replace(view, splits={**view.splits, "train_subset": train})
    data, ((*texts,),) = run_data([view])
    splits = data["positions"][0]["splits"]
    shown = [(split["name"], split["meaning"], split["n"]) for split in splits]
    assert shown == [("train_subset", "seen in training", 12), ("val_subset", "unseen pairs", 12)]
    assert splits[0]["instructions"] == ["a", "b"], "each once"
    expected = {"task", "input", "instruction", "answer", *(("output", "right") if outputs else ())}
    expected |= {f"{kind}/{s}" for kind in ("cluster", *MAPS) for s in view.states}
    for plain, text, split in zip(splits, texts, view.splits.values(), strict=True):
        arrays = unpacked(plain["arrays"], text)
        assert arrays.keys() == expected
        instructions = [plain["instructions"][number] for number in arrays["instruction"]]
        assert instructions == list(split.instruction)
        np.testing.assert_array_equal(arrays["answer"] - 1, split.answer)
        assert UNKNOWN in split.answer
        for state, followed in split.followed.items():
            plain_state = plain["followed"][state]
            assert plain_state["tasks"] == followed.tasks.tolist()
            assert plain_state["formed"] == followed.formed
            np.testing.assert_allclose(plain_state["overlap"], followed.overlap, atol=0.00005)


def test_the_files_of_the_report_itself_are_not_shown() -> None:
    mark = {"inputs": "hash", "files": ["a"], "seconds": 1.5, "device": "cpu"}
    origin = {"command": "tasklens run", "versions": {"python": "3"}}
    files = {"config.toml": "1", "report.html": "2"}
    manifest = {**origin, "seed": 7, "stages": {"train": mark, "report": mark}, "files": files}
    models = (ModelView(40, "tiny", "mit", "4f5e"),)
    view = dataclasses.replace(planted_view(), manifest=manifest, models=models)
    data, _ = run_data([view])
    assert data["models"] == [{"step": 40, "name": "tiny", "licence": "mit", "weights": "4f5e"}]
    assert data["origin"] == {**origin, "machine": None}
    assert data["stages"] == {"train": {"seconds": 1.5, "device": "cpu"}}
    assert data["hashes"] == {"config.toml": "1"}
    assert data["positions"][0]["best"] == "block2"


def test_a_verdict_has_thresholds_as_text() -> None:
    verdict = judge(curves_of_table(planted_table()))
    data = verdict_data(verdict)
    assert [finding["finding"] for finding in data["findings"]] == list(FINDINGS)
    assert data["holds"] is verdict.holds is True
    checks = [(f["finding"], check) for f in data["findings"] for check in f["checks"]]
    by_key = {(c.rule.finding, c.rule.statistic, c.split): c for c in verdict.checks}
    assert len(by_key) == len(checks) == len(verdict.checks)
    for finding, plain in checks:
        check = by_key[finding, plain["statistic"], plain["split"]]
        assert plain["threshold"] == check.rule.threshold
        assert plain["value"] == pytest.approx(check.value, abs=0.001)
    assert {timing["split"] for timing in data["half way"]} == {"val_subset"}
    assert json.loads(script_json(data)) == data


def test_each_finding_has_the_number_that_decides_it() -> None:
    verdict = judge(curves_of_table(planted_table()))
    for finding in verdict_data(verdict)["findings"]:
        check = verdict.deciding(finding["finding"])
        assert check is not None
        deciding = finding["deciding"]
        number, relation, limit = deciding["number"].split(maxsplit=2)
        assert float(number) == pytest.approx(check.value, abs=0.0051)
        assert relation in "<>" or limit == check.rule.threshold
        assert deciding["interval"] == f"[{check.low:z.2f}, {check.high:z.2f}]"
        assert (deciding["split"], deciding["statistic"]) == (check.split, check.rule.statistic)
    judged = judge([planted_model(splits=1)])
    by_name = {each["finding"]: each["deciding"] for each in verdict_data(judged)["findings"]}
    assert by_name["unseen data"] is None, "nothing was held out"


def test_the_result_is_the_title_and_the_description_of_the_page() -> None:
    verdict = judge(curves_of_table(planted_table()))
    view = dataclasses.replace(planted_view(), run="<a & b>")
    one, two = (
        page([[view]] * n, [verdict] * n, "tasklens report").decode().partition("<style>")[0]
        for n in (1, 2)
    )
    assert f"<title>&lt;a &amp; b&gt;: {verdict.title} (tasklens)</title>" in one
    assert f'<meta name="description" content="{html.escape(verdict.headline)}">' in one
    title = "&lt;a &amp; b&gt;, &lt;a &amp; b&gt; (tasklens)"
    assert f"<title>{title}</title>" in two, "several verdicts have no common result"
    assert verdict_data(verdict)["headline"] == verdict.headline != ""


# --- Arrays ---


def coordinates_of(packer: Packer, name: str) -> NDArray[np.float64]:
    entry, levels = packer.directory[name], unpacked(packer.directory, packer.text())[name]
    half, middle = np.array(entry["half"]), np.array(entry["middle"])
    assert levels.min() >= 0
    assert levels.max() <= LEVELS
    placed = (levels / (LEVELS / 2) - 1) * half[:, None, None] + middle[:, None]
    return np.asarray(placed, dtype=np.float64)


def test_whole_numbers_come_back() -> None:
    rng = stream(0, "packed")
    arrays: dict[str, NDArray[Any]] = {
        "small": np.array([0, 1, 255]),
        "large": np.array([0, 255, 256, 65_535]),
        "table": rng.integers(70, size=(3, 5)),
        "wide": rng.integers(60_000, size=(4, 3, 2)),
        "columns": rng.integers(1000, size=(5, 3)).T,  # not contiguous
        "bytes": rng.integers(2, size=7).astype(np.uint8),
        "nothing": np.zeros(0, dtype=np.int64),
    }
    packer = Packer()
    for name, values in arrays.items():
        packer.add(name, values)
    got = unpacked(packer.directory, packer.text())
    assert list(got) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(got[name], values)


def test_places_come_back_to_half_a_level() -> None:
    rng = stream(1, "packed")
    scale = np.array([1, 300, 1e-3, 7])[:, None, None]
    coordinates = (np.array([0, 50]) + scale * rng.normal(size=(4, 30, 2))).astype(np.float32)
    packer = Packer()
    packer.add("before", np.arange(3))  # what stands before does not shift it
    packer.add_map("coordinates", coordinates)
    span = np.ptp(coordinates, axis=1).max(axis=1)  # (S,): one scale for both directions
    half = np.array(packer.directory["coordinates"]["half"])
    assert half == pytest.approx(span / 2, rel=1e-4)
    off = np.abs(coordinates_of(packer, "coordinates") - coordinates).max(axis=(1, 2))
    assert (off <= 1.01 * half / LEVELS).all()
    assert (off > 0.5 * half / LEVELS).any(), "as fine as the levels, and no finer"


def test_points_that_move_with_those_of_their_label_take_no_room() -> None:
    rng = stream(2, "packed")
    label = np.arange(300) % 5
    coordinates = np.cumsum(rng.normal(size=(20, 5, 2)), axis=0)[:, label].astype(np.float32)
    packers = Packer(), Packer()
    for packer, by in zip(packers, (None, "label"), strict=True):
        packer.add("label", label)
        packer.add_map("together", coordinates, by=by)
    placed, known = (coordinates_of(packer, "together") for packer in packers)
    np.testing.assert_array_equal(placed, known)
    alone, together = (len(packer.text()) for packer in packers)
    assert together < alone / 5


def test_points_that_coincide_or_a_single_checkpoint() -> None:
    packer = Packer()
    packer.add_map("same", np.full((3, 5, 2), 4.5, dtype=np.float32))
    packer.add_map("single", np.array([[[0, 0], [2, 1]]], dtype=np.float32))
    assert coordinates_of(packer, "same") == pytest.approx(4.5, abs=1 / LEVELS)
    assert coordinates_of(packer, "single")[0] == pytest.approx(
        np.array([[0, 0], [2, 1]]), abs=1 / LEVELS
    )


class Elements(HTMLParser):
    """The elements and comments of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.parts.append(tag)

    def handle_comment(self, data: str) -> None:
        self.parts.append(data)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "string",
    [
        *("</script><script>bad()</script>", "<!--<script>", "-->", "]]>"),
        *("<img src=x onerror=bad()>", "&lt;&amp;&quot;", "{{data}} ${bad()}"),
        *("a\u2028b\u2029c", "'\"\\\n\t\x00\x7f", "\\u003c", "ü, 任務, 🙂"),
    ],
)
def test_no_string_can_leave_its_script(string: str) -> None:
    value = {string: [string, {"deep": [string, None, True, 1.5, -3]}]}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029").intersection(text)
    page = Elements(f'<p></p><script type="application/json">{text}</script><b></b>')
    assert page.parts == ["p", "script", "b"]
    assert json.loads(page.text) == value


@pytest.mark.parametrize(
    ("string", "shown"),
    [
        ("\u202e18.0", r"\u202e18.0"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_no_string_turns_what_is_beside_it(string: str, shown: str) -> None:
    assert json.loads(script_json([string]).encode()) == [shown]


def test_a_page_of_hostile_names_is_written_and_has_its_own_elements_only() -> None:
    view = planted_view()
    names = {part: tuple(HOSTILE.values()) for part in view.names}
    plain = Elements(page([[view]], [None], "tasklens report").decode())
    hostile = dataclasses.replace(
        view, run="\n".join(HOSTILE.values()), names=names, answers=tuple(HOSTILE.values()) * 20
    )
    shown = Elements(page([[hostile]], [None], " ".join(HOSTILE.values())).decode())
    assert shown.parts == plain.parts


def test_what_is_no_json_is_refused() -> None:
    for value in (float("nan"), float("inf"), [-float("inf")]):
        with pytest.raises(ValueError, match="JSON"):
            script_json(value)
