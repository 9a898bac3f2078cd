"""What a page is told of a view and of a verdict."""

import base64
import dataclasses
import json
import zlib
from typing import Any

import numpy as np
import pytest

from e2e.browser import made_view
from planted import planted_table
from tasklens.findings.curves import curves_of_table
from tasklens.findings.rules import FINDINGS
from tasklens.findings.verdict import judge
from tasklens.report.page import run_data, verdict_data
from tasklens.report.page_arrays import script_json
from tasklens.report.view import UNKNOWN, View
from tasklens.scoring.score_table import Row, to_table

PLACE: Row = {"run": "made", "seed": 7, "split": "val_subset", "space": "raw", "k": 6}


def row(step: int | None, layer: str, value: float, **others: Any) -> Row:
    here: Row = {**PLACE, "step": step, "layer": layer, "metric": "ari", "cluster_seed": 0}
    return {**here, "value": value, **others}


def with_rows(*rows: Row) -> View:
    return dataclasses.replace(made_view(), table=to_table(list(rows)))


def test_scores_are_means_with_their_range_by_step() -> None:
    view = with_rows(
        row(0, "block1", 0.25),
        row(0, "block1", 0.5, cluster_seed=1),
        row(2000, "block1", 0.123449),
        row(2000, "block1", 0.7, metric="ari_input"),
        row(1000, "block1", 0.9, space="tsne"),  # is not shown
        row(1000, "block1", 0.9, metric="inertia"),
        row(1000, "block9", 0.9),
        row(1000, "block1", 0.9, split="other"),
        row(None, "control:length", 0.1),
        row(None, "control:length", 0.8, metric="ami"),
        row(3000, "model", 0.75, metric="accuracy", space="", k=None, cluster_seed=None),
    )
    scores = run_data(view)[0]["scores"]
    assert scores == {
        "train_subset": {},
        "val_subset": {
            "block1": {
                "ari": [[0.375, 0.25, 0.5], None, [0.1234, 0.1234, 0.1234], None],
                "ari_input": [None, None, [0.7, 0.7, 0.7], None],
            },
            "control:length": {"ari": [[0.1, 0.1, 0.1]]},
            "model": {"accuracy": [None, None, None, [0.75, 0.75, 0.75]]},
        },
    }


def test_what_is_not_finite_is_null() -> None:
    view = with_rows(row(0, "block1", np.nan), row(1000, "block1", 0.5), row(2000, "embed", np.inf))
    split = view.splits["val_subset"]
    shares = {**split.shown_variance, "block1": np.array([np.nan, 0, 0.25, 1])}
    splits = {**view.splits, "val_subset": dataclasses.replace(split, shown_variance=shares)}
    world = dataclasses.replace(view.world, same_symbols=np.array([[1, np.nan], [0.33333, 1]]))
    told, _ = run_data(dataclasses.replace(view, splits=splits, world=world))
    scores = told["scores"]["val_subset"]
    assert scores["block1"]["ari"][:2] == [[None, None, None], [0.5, 0.5, 0.5]]
    assert scores["embed"]["ari"][2] == [None, None, None]
    assert told["splits"][1]["shown_variance"]["block1"] == [None, 0, 0.25, 1]
    assert told["world"]["same_symbols"] == [[1, None], [0.3333, 1]]
    assert told["world"]["same_output"] is None
    assert json.loads(script_json(told))["scores"]["val_subset"] == scores


def test_a_split_is_told_whole() -> None:
    view = made_view(n_answers=300)
    train = view.splits["train_subset"]
    train = dataclasses.replace(train, instruction=("b", "a") * (len(train) // 2))
    view = dataclasses.replace(view, splits={**view.splits, "train_subset": train})
    told, texts = run_data(view)
    assert [(split["name"], split["title"], split["n"]) for split in told["splits"]] == [
        ("train_subset", "training subset", 40),
        ("val_subset", "unseen pairs", 80),
    ]
    assert told["splits"][0]["instructions"] == ["a", "b"], "each once"
    for plain, (name, split) in zip(told["splits"], view.splits.items(), strict=True):
        packed = np.frombuffer(zlib.decompress(base64.b64decode(texts[name])), "<u2").astype(int)
        arrays = {
            part: packed[entry["at"] :][: np.prod(entry["shape"])].reshape(entry["shape"])
            for part, entry in plain["arrays"].items()
        }
        parts = {"task", "input", "output", "instruction", "answer", "right"}
        places = {f"{what}/{s}" for what in ("cluster", "tsne", "pca") for s in view.states}
        assert arrays.keys() == parts | places
        said = [plain["instructions"][number] for number in arrays["instruction"]]
        assert said == list(split.instruction)
        np.testing.assert_array_equal(arrays["answer"] - 1, split.answer)
        assert UNKNOWN in split.answer
        for state, followed in split.followed.items():
            shown = plain["followed"][state]
            assert shown["tasks"] == followed.tasks.tolist()
            assert shown["formed"] == followed.formed
            np.testing.assert_allclose(shown["overlap"], followed.overlap, atol=0.00005)


def test_where_no_output_is_known_nothing_is_right_or_wrong() -> None:
    view = made_view()
    splits = {
        name: dataclasses.replace(
            split, parts={part: split.parts[part] for part in ("task", "input")}, right=None
        )
        for name, split in view.splits.items()
    }
    told, _ = run_data(dataclasses.replace(view, splits=splits))
    assert not {"right", "output"} & told["splits"][0]["arrays"].keys()


def test_the_state_shown_first_is_the_best() -> None:
    rows = [row(3000, s, v, split="train_subset") for s, v in (("block1", 0.3), ("block2", 0.5))]
    assert run_data(with_rows(*rows))[0]["best"] == "block2"


def test_what_the_page_itself_left_is_not_told() -> None:
    mark = {"inputs": "hash", "files": ["a"], "seconds": 1.5, "device": "cpu"}
    view = dataclasses.replace(
        made_view(),
        manifest={
            "command": "tasklens run",
            "versions": {"python": "3"},
            "seed": 7,
            "stages": {"train": mark, "report": mark},
            "files": {"config.toml": "1", "report.html": "2"},
        },
    )
    told, _ = run_data(view)
    assert told["about"] == {
        "command": "tasklens run",
        "versions": {"python": "3"},
        "machine": None,
    }
    assert told["stages"] == {"train": {"seconds": 1.5, "device": "cpu"}}
    assert told["hashes"] == {"config.toml": "1"}


def test_a_verdict_is_told_in_words() -> None:
    verdict = judge(curves_of_table(planted_table()))
    told = verdict_data(verdict)
    assert [finding["finding"] for finding in told["findings"]] == list(FINDINGS)
    assert told["holds"] is verdict.holds is True
    checks = [check for finding in told["findings"] for check in finding["checks"]]
    assert len(checks) == len(verdict.checks)
    by_place = {(c.rule.finding, c.rule.statistic, c.split): c for c in verdict.checks}
    assert len(by_place) == len(checks)
    titles = {"train_subset": "training subset", "val_subset": "unseen pairs"}
    titles["val_instruction_subset"] = "unseen instructions"
    for finding in told["findings"]:
        for plain in finding["checks"]:
            split = next(name for name, title in titles.items() if title == plain["split"])
            check = by_place[finding["finding"], plain["statistic"], split]
            assert plain["threshold"] == check.rule.threshold
            assert plain["value"] == pytest.approx(check.value, abs=0.001)
    assert {timing["split"] for timing in told["half way"]} <= set(titles.values())
    assert json.loads(script_json(told)) == told
