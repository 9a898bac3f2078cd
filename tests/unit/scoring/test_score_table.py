from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from tasklens.clustering.cluster import Cell, Clustering, ClusterSettings, cluster
from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.core.seeds import stream
from tasklens.data.instances import Instances
from tasklens.scoring.score_table import (
    SCHEMA,
    Row,
    accuracy_row,
    final_table,
    layers_in_order,
    read_scores,
    score_cell,
    score_controls,
    table_to_csv_bytes,
    to_table,
)

SETTINGS = ClusterSettings(cluster_seeds=2)
AGREEMENT = {"ari", "ami", "homogeneity", "completeness", "v_measure"}


def instances(task: NDArray[np.int64]) -> Instances:
    n = len(task)
    random = stream(0, "instances")
    length = 3 + task % 2
    symbols = np.eye(int(task.max()) + 1, dtype=np.int64)[task]
    return Instances(task, random.integers(7, size=n), random.integers(5, size=n), length, symbols)


def scored(task: list[int], labels: list[int]) -> dict[str, float]:
    n = len(task)
    cell = Cell(0, 0, "s", "wte", "tsne", 2, np.zeros((n, 1), dtype=np.float32))
    clustering = Clustering(np.array([labels], dtype=np.int16), np.zeros(1), None)
    rows = score_cell(cell, clustering, instances(np.array(task)), "run")
    return {str(row["metric"]): float(row["value"] or 0) for row in rows}


def values(rows: list[Row], **where: object) -> list[float]:
    chosen = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return [float(row["value"] or 0) for row in chosen]


def test_ari_of_six_labels() -> None:
    assert scored([0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 2, 2])["ari"] == pytest.approx(0.24, abs=0.005)


def test_lower_bound_of_ari_is_minus_one_half() -> None:
    assert scored([0, 0, 1, 1], [0, 1, 0, 1])["ari"] == -0.5


def test_ami_of_seventeen_labels() -> None:
    a = [1] * 6 + [2] * 6 + [3] * 5
    b = [1, 1, 1, 1, 2, 1, 2, 2, 2, 2, 3, 1, 3, 3, 3, 2, 2]
    expected = expected_mutual_information(contingency_matrix(a, b, sparse=True), len(a))
    assert mutual_info_score(a, b) == pytest.approx(0.41022, abs=5e-6)
    assert expected == pytest.approx(0.15042, abs=5e-6)
    assert scored(a, b)["ami"] == pytest.approx(0.27821, abs=5e-6)


def test_homogeneity_completeness_and_v_measure() -> None:
    # Splitting a class keeps clusters pure: homogeneous, not complete.
    got = scored([0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 2, 2])
    assert got["homogeneity"] == pytest.approx(1.00, abs=0.005)
    assert got["completeness"] == pytest.approx(0.69, abs=0.005)
    assert got["v_measure"] == pytest.approx(0.81, abs=0.005)


def test_random_labels_score_nothing() -> None:
    random = stream(0, "random labels")
    task, labels = random.integers(10, size=(2, 200, 100))
    scores = [scored(list(t), list(c))["ari"] for t, c in zip(task, labels, strict=True)]
    assert np.mean(scores) == pytest.approx(0, abs=0.005)
    assert np.quantile(np.abs(scores), 0.9) < 0.03


def test_planted_tasks_are_found_and_shuffled_ones_are_not() -> None:
    task = np.arange(400) % 4
    random = stream(0, "blobs")
    x = (30 * random.normal(size=(4, 8))[task] + random.normal(size=(400, 8))).astype(np.float32)
    cell = Cell(0, 16, "val_subset", "block2", "raw", 4, x)
    what = instances(task)
    (clustering,) = cluster([cell], SETTINGS)
    rows = score_cell(cell, clustering, what, "tiny")
    assert values(rows, metric="ari") == [1.0, 1.0]
    assert values(rows, metric="ami") == pytest.approx([1.0, 1.0])
    for metric in ("ari_shuffled", "ari_input", "ari_output"):
        assert values(rows, metric=metric) == pytest.approx([0, 0], abs=0.02)
        assert 0.0 not in values(rows, metric=metric)
    assert values(rows, metric="inertia") == list(clustering.inertia)
    assert values(rows, metric="variance_task")[0] > 0.95
    assert values(rows, metric="variance_input")[0] < 0.1
    assert values(rows, metric="variance_output")[0] < 0.1
    assert {row["cluster_seed"] for row in rows if "variance" in str(row["metric"])} == {None}
    place = {"run": "tiny", "seed": 0, "step": 16, "split": "val_subset", "layer": "block2"}
    for row in rows:
        assert list(row) == [name for name in SCHEMA.names if name in row]
        assert {**row, **place, "space": "raw", "k": 4} == row
    assert len(rows) == 2 * (5 + 4) + 4
    assert rows == score_cell(cell, clustering, what, "tiny"), "nothing is drawn from a global"


def test_variance_shares_belong_to_the_states_not_to_their_embedding() -> None:
    assert not any("variance" in metric for metric in scored([0, 1], [0, 1]))


def test_controls_score_what_they_see() -> None:
    task = np.arange(120) % 4
    rows = score_controls(instances(task), 4, "tiny", 0, "train_subset", SETTINGS)
    assert {row["step"] for row in rows} == {None}
    assert {row["metric"] for row in rows} == AGREEMENT
    # Symbols name the task here; the length tells two halves apart; the input tells nothing.
    assert values(rows, layer="control:symbols", metric="ari") == [1.0, 1.0]
    halves = scored(list(task), list(task % 2))["ari"]
    assert values(rows, layer="control:length", metric="ari") == [halves, halves]
    assert values(rows, layer="control:input", metric="ari") == pytest.approx([0], abs=0.03)
    (inputs,) = (r for r in rows if r["layer"] == "control:input" and r["metric"] == "ari")
    assert (inputs["k"], inputs["cluster_seed"]) == (7, None)


def test_table_round_trips_and_its_bytes_repeat(tmp_path: Path) -> None:
    rows = score_controls(instances(np.arange(60) % 3), 3, "r", 1, "s", SETTINGS)
    rows.append(accuracy_row("r", 1, 8, "s", 1 / 3))
    table = to_table(rows)
    assert table.schema == SCHEMA
    assert table.to_pylist()[-1] == {
        **dict.fromkeys(SCHEMA.names),
        **{"run": "r", "seed": 1, "step": 8, "split": "s", "layer": "model", "space": ""},
        **{"metric": "accuracy", "value": 1 / 3},
    }
    data = parquet_bytes(table)
    assert data == parquet_bytes(to_table(rows))
    (tmp_path / "scores.parquet").write_bytes(data)
    assert read_scores(tmp_path / "scores.parquet").equals(table)
    text = table_to_csv_bytes(table)
    assert text == table_to_csv_bytes(table)
    assert text.splitlines()[0].decode().replace('"', "") == ",".join(SCHEMA.names)
    back = pa.csv.read_csv(pa.BufferReader(text))
    assert back["value"].to_pylist() == table["value"].to_pylist(), "floats are whole"
    assert back["step"].to_pylist()[-2:] == [None, 8]


def test_damaged_files_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    table = to_table([accuracy_row("r", 0, 0, "s", 0.5)])
    whole = parquet_bytes(table)
    value = table.schema.get_field_index("value")
    cases = {
        "not a readable Parquet file of scores: ": whole[: len(whole) // 2],
        "no column 'k': should be ": parquet_bytes(table.drop_columns(["k"])),
        "column 'value' is string: should be double": parquet_bytes(
            table.set_column(value, "value", pa.array(["high"]))
        ),
    }
    for message, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(InputError) as raised:
            read_scores(path)
        assert str(raised.value).startswith(f"{path}: {message}")
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"there is no such file of scores$"):
        read_scores(tmp_path / "none.parquet")


def test_shapes_that_disagree_are_told() -> None:
    what = instances(np.arange(6) % 2)
    cell = Cell(0, 0, "s", "wte", "raw", 2, np.ones((5, 2), dtype=np.float32))
    with pytest.raises(InputError, match=r"^step 0, s, wte \(raw\): 5 states and labels of shape"):
        score_cell(cell, Clustering(np.zeros((1, 5), np.int16), np.zeros(1), None), what, "r")
    with pytest.raises(InputError, match=r"^instances: shapes"):
        Instances(what.task[:5], what.input, what.output, what.length, what.symbol_counts)


def test_layers_from_the_input_up() -> None:
    names = ["ln_f", "block10", "block2", "embed", "block1", "wte", "head", "block2"]
    expected = ["wte", "embed", "block1", "block2", "block10", "head", "ln_f"]
    assert layers_in_order(names) == expected


def test_final_table_shows_the_last_step_beside_the_first() -> None:
    rows: list[Row] = []
    base: Row = {"run": "r", "seed": 0, "space": "raw", "k": 4, "metric": "ari"}
    for split in ("train_subset", "val_subset"):
        for step, low in ((0, 0.1), (8, 0.3), (64, 0.8)):
            for s in range(3):
                where: Row = {**base, "step": step, "split": split, "cluster_seed": s}
                rows.append({**where, "layer": "block1", "value": low + s / 100})
                rows.append({**where, "layer": "block1", "metric": "ami", "value": 0.99})
            rows.append(accuracy_row("r", 0, step, split, low))
        rows += score_controls(instances(np.arange(60) % 3), 3, "r", 1, split, SETTINGS)
    rows.append({**base, "step": 64, "split": "val_subset", "layer": "block1", "space": "tsne"})
    rows[-1] |= {"cluster_seed": 0, "value": -0.25}
    lines = final_table(to_table(rows)).splitlines()
    assert "step 64" in lines[0]
    assert "step 0" in lines[0]
    assert lines[1].split() == ["layer", "space", "train_subset", "val_subset"]
    assert lines[2].split() == ["block1", "raw", *["0.81", "(0.80", "to", "0.82)", "0.11"] * 2]
    assert [line.split()[0] for line in lines[3:6]] == [
        *("control:length", "control:symbols", "control:input")
    ]
    assert lines[4].split()[2:] == ["1.00", "(1.00", "to", "1.00)"] * 2
    assert lines[6].split() == ["block1", "tsne", "-", "-0.25"]
    assert lines[7] == "accuracy at step 64: train_subset 0.800, val_subset 0.800"
    column = lines[1].index("val_subset")
    assert all(line[column - 1] == " " for line in lines[2:7])


def test_final_table_of_one_step_or_none() -> None:
    assert final_table(to_table([])) == "no scores\n"
    lines = final_table(to_table([accuracy_row("r", 0, 4, "s", 0.5)])).splitlines()
    assert lines[0] == "ARI against the task at step 4: mean (min to max over seeds)"
    assert lines[-1] == "accuracy at step 4: s 0.500"
