"""Scores of stages of one model as text: known numbers in the column of their stage."""

from typing import Any

from tasklens.scoring.final_scores import final_scores, scores_text
from tasklens.scoring.score_table import Row, accuracy_row, score_rows, to_table
from tasklens.scoring.stage_table import are_stages, stage_tables

NAMES = {0: "untrained", 1: "base", 2: "sft"}


def row(metric: str, value: float, **columns: Any) -> Row:
    usual: dict[str, Any] = {
        "run": "r", "seed": 0, "split": "kept", "position": "last", "layer": "embed",
        "space": "raw", "k": 3, "cluster_seed": 0,
    }  # fmt: skip
    return score_rows({metric: value}, **{**usual, **columns})[0]


def rows() -> list[Row]:
    each = [
        row("ari", (step + 1) / 10 + (layer == "block1") / 100, step=step, split=split, layer=layer)
        for split in ("kept", "new")
        for step in NAMES
        for layer in ("embed", "block1")
    ]
    each += [row("probe_task", 0.5 + step / 10, step=step, split="new") for step in NAMES]
    each += [accuracy_row("r", 0, step, "new", step / 4) for step in NAMES]
    each.append(row("ari", -0.25, step=2, split="kept", layer="block1", space="tsne"))
    control = {"layer": "control:length", "step": None, "position": ""}
    return [*each, *(row("ari", 0.05, split=split, **control) for split in ("kept", "new"))]


def test_each_stage_has_a_column_in_each_split() -> None:
    text = stage_tables(to_table(rows()), NAMES)
    ari, linear = text.split("\n\n")
    lines = [line.split() for line in ari.splitlines()]
    assert lines[1] == ["kept", "new"]
    assert lines[2] == ["layer", "space", *NAMES.values(), *NAMES.values()]
    assert lines[3] == ["embed", "raw", *["0.10", "0.20", "0.30"] * 2]
    assert lines[4] == ["block1", "raw", *["0.11", "0.21", "0.31"] * 2]
    assert lines[5] == ["control:length", "raw", "0.05", "0.05"]
    assert lines[6] == ["block1", "tsne", "-", "-", "-0.25", "-", "-", "-"]
    assert lines[7] == ["accuracy", *"---", "0.00", "0.25", "0.50"]
    columns = [ari.splitlines()[1].index(split) for split in ("kept", "new")]
    assert all(line[column - 1] == " " for column in columns for line in ari.splitlines()[2:])
    title, *of_probe = linear.splitlines()
    assert title == "accuracy of a linear classifier that predicts the task"
    assert [line.split() for line in of_probe] == [
        ["new"],
        ["layer", "space", *NAMES.values()],
        ["embed", "raw", "0.50", "0.60", "0.70"],
    ]
    assert "step" not in text


def test_two_trained_models_are_stages() -> None:
    assert are_stages(NAMES)
    assert are_stages({1: "base", 2: "sft"})
    assert not are_stages({0: "untrained", 1: "trained"})
    assert not are_stages({})
    assert scores_text(to_table(rows()), NAMES) == stage_tables(to_table(rows()), NAMES)
    assert stage_tables(to_table([]), NAMES) == "no scores\n"


def test_records_of_stages_are_of_every_stage() -> None:
    table = to_table(rows())
    every = [r for r in final_scores(table, every_step=True) if r["metric"] == "probe_task"]
    assert [(r["step"], r["mean"]) for r in every] == [(0, 0.5), (1, 0.6), (2, 0.7)]
    (last,) = [r for r in final_scores(table) if r["metric"] == "probe_task"]
    assert last == every[-1]
