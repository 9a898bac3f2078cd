"""Hidden states are compared with a column that is crossed with the task."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasklens.clustering.cluster import Cell, ClusterSettings
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.instances import Instances
from tasklens.scoring.crossed import check_crossed, score_crossed
from tasklens.scoring.crossed_text import crossed_table
from tasklens.scoring.residuals import regressors_of, residuals
from tasklens.scoring.score_cells import measure_cells
from tasklens.scoring.score_table import Row, score_rows, to_table

SETTINGS = ClusterSettings(cluster_seeds=2, n_init=5)
FORMS = np.array(["arrow", "colon", "words"])
#: Each of three tasks in each of three forms, five times.
TASK, FORM = np.array([(t, f) for t in range(3) for f in range(3) for _ in range(5)]).T
N = len(TASK)


def instances(split: str) -> Instances:
    numbers = np.arange(N)
    return Instances(
        split, TASK, numbers % 7, None, numbers % 3, np.ones((N, 1), dtype=np.int64), numbers,
        crossed={"form": FORMS[FORM]},
    )  # fmt: skip


def scores(
    of_task: float, of_form: float, of_both: float = 0.0, *, without_form: bool = False
) -> dict[tuple[str, str], float]:
    """Return the mean score by split and metric of states that depend on task and form so much."""
    states = {}
    centres = stream(0, "centres").normal(size=(3, 3, 20))
    for split in ("kept", "held_out_input"):
        noise = stream(0, "noise", split).normal(size=(N, 20))
        # Centres of tasks and forms are in directions of their own.
        x = of_task * np.eye(20)[TASK] + of_form * np.eye(20)[10 + FORM]
        states[split] = (x + of_both * centres[TASK, FORM] + 0.05 * noise).astype(np.float32)
    if without_form:
        splits = {"kept": slice(0, N), "held_out_input": slice(N, 2 * N)}
        forms, tasks = np.tile(FORMS[FORM], 2).tolist(), np.tile(TASK, 2)
        regressors = regressors_of({"form": forms}, splits, tasks)
        left = residuals(np.concatenate([*states.values()]), regressors)
        states = {split: left[rows] for split, rows in splits.items()}
    known = {split: instances(split) for split in states}
    columns: dict[str, Any] = {"run": "r", "seed": 0, "step": 3, "position": "last"}
    rows: list[Row] = score_crossed("block1", states, instances=known, settings=SETTINGS, **columns)
    for split, x in states.items():
        cell = Cell(0, 3, split, "block1", "raw", 3, x, "last")
        ((_, more),) = measure_cells([cell], instances=known, run="r", settings=SETTINGS)
        rows += more
    assert {(row["run"], row["layer"], row["step"]) for row in rows} == {("r", "block1", 3)}
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((str(row["split"]), str(row["metric"])), []).append(float(row["value"]))  # type: ignore[arg-type]
    return {key: float(np.mean(each)) for key, each in values.items()}


def test_states_that_cluster_by_form_alone() -> None:
    score = scores(of_task=0, of_form=1)
    for split in ("kept", "held_out_input"):
        assert score[split, "ari_of_form"] == 1
        assert score[split, "variance_of_form"] > 0.9
        assert score[split, "ari"] < 0.05
        assert abs(score[split, "ari_within_form"]) < 0.15
        assert score[split, "probe_across_form"] < 0.6
    assert score["held_out_input", "probe_of_form"] == 1
    assert score["held_out_input", "probe_within_form"] < 0.6


def test_states_that_cluster_by_the_task_alone() -> None:
    score = scores(of_task=1, of_form=0)
    for split in ("kept", "held_out_input"):
        assert score[split, "ari"] == 1
        assert score[split, "ari_of_form"] < 0.05
        for value in ("", "=arrow", "=colon", "=words"):
            assert score[split, f"ari_within_form{value}"] == 1
            assert score[split, f"probe_across_form{value}"] == 1
    assert score["held_out_input", "probe_of_form"] < 0.6
    assert score["held_out_input", "probe_within_form"] == 1


def test_states_that_cluster_by_form_first_and_by_the_task_within() -> None:
    score = scores(of_task=1, of_form=3)
    for split in ("kept", "held_out_input"):
        assert score[split, "ari_of_form"] == 1
        assert score[split, "ari"] < 0.05, "the clusters are those of forms"
        assert score[split, "ari_within_form"] == 1
        assert score[split, "probe_across_form"] < 0.9, "no form is in the direction of another"
    score = scores(of_task=1, of_form=3, without_form=True)
    for split in ("kept", "held_out_input"):
        assert score[split, "ari"] == score[split, "probe_across_form"] == 1
        assert abs(score[split, "ari_of_form"]) < 0.05


def test_tasks_that_each_form_has_in_other_directions_are_not_those_of_other_forms() -> None:
    score = scores(of_task=0, of_form=0, of_both=1)
    for split in ("kept", "held_out_input"):
        assert score[split, "ari_within_form"] == 1
        assert score[split, "probe_across_form"] < 0.7
    assert score["held_out_input", "probe_within_form"] == 1


def test_the_mean_is_over_values_and_rows_are_those_of_each_cluster_seed() -> None:
    score = scores(of_task=0.1, of_form=0)
    for metric in ("ari_within_form", "probe_across_form"):
        each = [score["kept", f"{metric}={form}"] for form in FORMS]
        assert score["kept", metric] == pytest.approx(np.mean(each))
    assert ("kept", "probe_within_form") not in score, "it would be tested on what it has learned"


def test_a_split_without_some_values_has_no_rows_of_them() -> None:
    x = np.eye(3, dtype=np.float32)[TASK] + np.float32(0.01)
    kept, other = instances("kept"), instances("other")
    other = Instances(**(vars(other) | {"crossed": {"form": np.array(["new"] * N)}}))
    rows = score_crossed(
        "block1", {"kept": x, "other": x}, instances={"kept": kept, "other": other}, run="",
        seed=0, step=0, position="last", settings=SETTINGS,
    )  # fmt: skip
    metrics = {row["metric"] for row in rows if row["split"] == "other"}
    assert metrics == {"ari_within_form", "ari_within_form=new"}
    # A family may have a single value of a column that is crossed in others.
    kept = Instances(**(vars(kept) | {"crossed": {"form": np.array(["arrow"] * N)}}))
    rows = score_crossed(
        "block1", {"kept": x, "other": x}, instances={"kept": kept, "other": kept}, run="",
        seed=0, step=0, position="last", settings=SETTINGS,
    )  # fmt: skip
    kinds = {str(row["metric"]).split("_form")[0] for row in rows}
    assert kinds == {"ari_within", "probe_within"}


def test_columns_that_are_not_crossed_with_the_task_are_refused() -> None:
    def refused(values: NDArray[np.str_]) -> str:
        with pytest.raises(InputError) as error:
            check_crossed("form", values, TASK)
        return str(error.value)

    check_crossed("form", FORMS[FORM], TASK)
    assert refused(np.array(["a"] * N)) == (
        "measure.cross: 'form' has 1 distinct values: should be 2 to 50"
    )
    assert "has prompts of a single label: each value should occur with" in refused(FORMS[TASK])
    lengths = np.array([str(i) for i in range(60)])
    assert "has 60 distinct values" in refused(lengths)


def test_the_printed_table_has_a_block_for_each_column_and_split() -> None:
    columns: dict[str, Any] = {"run": "r", "seed": 0, "step": 8, "position": "last"}
    rows: list[Row] = []
    for split, layer, metrics in (
        ("kept", "block1", {"ari_within_form=a": 0.25, "ari_within_form=b": 0.5}),
        ("kept", "block1", {"ari_of_form": -0.001, "ari_within_form": 0.375}),
        ("kept", "embed", {"ari_of_form": 1.0, "probe_of_form": 0.75}),
        ("other", "embed", {"ari": 0.5, "ari_of_form": 0.1, "ari_of_b=c": 0.2}),
        ("other", "embed", {"ari_within_b=c": 0.3, "ari_within_b=c=d": 0.3}),
    ):
        rows += score_rows(metrics, **columns, split=split, layer=layer, k=3)
    rows += score_rows({"ari_of_form": 0.9}, **columns | {"step": 4}, split="kept", layer="embed")
    text = crossed_table(to_table(rows))
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[:4] == ["", "kept, against form", lines[2], lines[3]]
    assert lines[2].split("  ")[0] == "layer"
    assert lines[3].split() == ["embed", "1.00", "-", "0.75", "-", "-"]
    assert lines[4].split() == ["block1", "0.00", "0.38", "(0.25", "to", "0.50)", "-", "-", "-"]
    assert "other, against form" in lines
    assert lines[-3] == "other, against b=c"
    assert lines[-1].split()[:4] == ["embed", "0.20", "0.30", "(0.30"]
    assert (
        crossed_table(to_table(score_rows({"ari": 1.0}, **columns, split="a", layer="embed"))) == ""
    )
