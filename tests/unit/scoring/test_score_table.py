import csv
import io
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.core.seeds import stream
from tasklens.scoring.final_scores import (
    CLASSIFIERS,
    final_scores,
    final_text,
    k_table,
    scores_text,
)
from tasklens.scoring.score_table import (
    BAND,
    CONTROLS,
    NO_STEP,
    SCHEMA,
    Row,
    accuracy_row,
    layers_in_order,
    main_scores,
    read_score_table,
    score_rows,
    summarise,
    table_to_csv_bytes,
    to_frame,
    to_table,
)


def row(metric: str, value: float, **columns: Any) -> Row:
    """Return a row of the clusters of a hidden state, with some columns changed."""
    usual: dict[str, Any] = {
        "run": "r", "seed": 0, "step": 8, "split": "kept", "position": "input", "layer": "embed",
        "space": "raw", "k": 3, "cluster_seed": 0,
    }  # fmt: skip
    return score_rows({metric: value}, **{**usual, **columns})[0]


def control_rows(split: str = "kept") -> list[Row]:
    columns = {"step": None, "position": "", "split": split}
    return [row("ari", i / 4, layer=name, **columns) for i, name in enumerate(CONTROLS)]


def test_table_round_trips_and_its_bytes_repeat(tmp_path: Path) -> None:
    rows = [*control_rows(), accuracy_row("r", 1, 8, "s", 1 / 3)]
    table = to_table(rows)
    assert table.schema == SCHEMA
    values = ("r", 1, 8, "s", "", "", "model", "", None, None, "accuracy", 1 / 3)
    assert table.to_pylist()[-1] == dict(zip(SCHEMA.names, values, strict=True))
    assert parquet_bytes(table) == parquet_bytes(to_table(rows))
    (tmp_path / "scores.parquet").write_bytes(parquet_bytes(table))
    assert read_score_table(tmp_path / "scores.parquet").equals(table)
    wider = table.append_column("note", table["run"]).select([*SCHEMA.names[::-1], "note"])
    (tmp_path / "wider.parquet").write_bytes(parquet_bytes(wider))
    assert read_score_table(tmp_path / "wider.parquet").equals(table), "whatever the columns' order"
    text = table_to_csv_bytes(table)
    assert text == table_to_csv_bytes(table)
    assert text.splitlines()[0].decode().replace('"', "") == ",".join(SCHEMA.names)
    back = pa.csv.read_csv(pa.BufferReader(text))
    assert back["value"].to_pylist() == table["value"].to_pylist(), "floats are whole"
    assert back["step"].to_pylist()[-2:] == [None, 8]


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    table = to_table([accuracy_row("r", 0, 0, "s", 0.5)])
    whole = parquet_bytes(table)
    wrong = table.set_column(table.column_names.index("value"), "value", pa.array(["high"]))
    cases = {
        "not a readable Parquet file of scores: ": whole[: len(whole) // 2],
        "no column 'k': should be ": parquet_bytes(table.drop_columns(["k"])),
        "column 'value' is string: should be double": parquet_bytes(wrong),
    }
    old = "no column 'position': tasklens 0.1.0 wrote it; "
    cases[old] = parquet_bytes(table.drop_columns(["position"]))
    for message, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"^{re.escape(f'{path}: {message}')}.*\Z"):
            read_score_table(path)
    with pytest.raises(InputError, match=r"there is no such file of scores$"):
        read_score_table(tmp_path / "none.parquet")


def test_layers_from_the_input_up() -> None:
    names = ["ln_f", "block10", "block2", "embed", "block1", "wte", "head", "block2"]
    expected = ["wte", "embed", "block1", "block2", "block10", "head", "ln_f"]
    assert layers_in_order(names) == expected
    branches = ["mlp2", "block1", "attn10", "block2", "attn2", "mlp1"]
    expected = ["mlp1", "block1", "attn2", "mlp2", "block2", "attn10"]
    assert layers_in_order(branches) == expected


# --- Summaries ---


@pytest.mark.parametrize("sizes", [(1,), (3,), (1, 2, 3, 9, 40, 300)])
def test_a_summary_is_numpys_of_each_group_in_the_order_of_its_rows(sizes: tuple[int, ...]) -> None:
    random = stream(0, "groups", *sizes)
    layers = [f"block{i}" for i, n in enumerate(sizes) for _ in range(n)]
    numbers = range(len(layers))
    random.shuffle(layers)
    rows = [
        row(metric, float(random.normal()) * 10.0 ** int(random.integers(-8, 8)), layer=layer, k=k)
        for layer, k in zip(layers, numbers, strict=True)
        for metric in ("ari", "ami", "inertia")
    ]
    for by, table in itertools.product(
        (("layer", "metric"), ("metric", "layer", "split", "k")),
        (to_table(rows), pa.concat_tables([to_table(rows[:4]), to_table(rows[4:])])),
    ):
        expected: dict[tuple[Any, ...], list[Any]] = {}
        for r in (r for r in rows if r["metric"] != "inertia"):
            expected.setdefault(tuple(r[name] for name in by), []).append(r["value"])
        got = summarise(to_frame(table, ("ari", "ami")), by)
        assert list(got.index) == list(expected)
        for group, some in zip(got.itertuples(), expected.values(), strict=True):
            assert group.mean == np.mean(some), "to the last bit"
            assert (group.low, group.high, group.size) == (min(some), max(some), len(some))
    assert summarise(to_frame(to_table(rows), ["v_measure"]), ["layer"]).empty


def test_a_null_is_a_value_of_its_own_and_the_step_of_controls_has_a_number() -> None:
    rows = [row("ari", 0.1, k=None), row("ari", 0.5), row("ari", 0.3, k=None), *control_rows()]
    frame = to_frame(to_table(rows), ["ari"])
    means = summarise(frame, ["layer", "k", "step"])["mean"]
    assert means.iloc[:2].to_list() == [0.2, 0.5]
    assert means.index.get_level_values("step").to_list() == [8, 8, *[NO_STEP] * len(CONTROLS)]


def test_near_best_starts_count_for_the_range_only() -> None:
    once: dict[str, Any] = {"cluster_seed": None}
    rows = [
        row("ari", 0.5), row("ari", 0.75, cluster_seed=1),
        row("ari_low", 0.25, **once), row("ari_high", 0.7, **once),
        row("near_best_starts", 9.0, **once), row("ami", 0.1),
        row("ari", 0.3, layer="block1"), row("ari_low", 0.3, layer="block1", **once),
        row("ari_high", 0.9, layer="block1", **once),
    ]  # fmt: skip
    for metrics in (None, ("ari", "ami"), ("ari", "ami", "ari_low")):
        got = summarise(to_frame(to_table(rows), metrics), ("metric", "layer")).to_dict("index")
        wide = {"low": 0.25, "high": 0.75, "size": 2, "mean": 0.625}
        assert got["ari", "embed"] == wide
        assert got["ari", "block1"] == {"low": 0.3, "high": 0.9, "size": 1, "mean": 0.3}
        every = {"ari", "ami", *BAND, "near_best_starts"}
        assert {metric for metric, _ in got} == (every if metrics is None else {*metrics})
    text = final_text(to_table(rows)).splitlines()
    assert text[2].split()[2:] == ["0.62", "(0.25", "to", "0.75)"]
    assert text[3].split()[2:] == ["0.30", "(0.30", "to", "0.90)"], "also of one cluster seed"
    of_embed = {r["metric"]: r for r in final_scores(to_table(rows)) if r["layer"] == "embed"}
    assert of_embed["ari"] | wide | {"n": 2} == of_embed["ari"] | {"size": 2}
    assert (of_embed["ari_low"]["mean"], of_embed["ari_low"]["n"]) == (0.25, 1)


def test_final_table_shows_the_last_step_beside_the_first() -> None:
    rows: list[Row] = []
    for split in ("train_subset", "val_subset"):
        for step, low in ((0, 0.1), (8, 0.3), (64, 0.8)):
            for s in range(3):
                columns: dict[str, Any] = {"step": step, "split": split, "cluster_seed": s}
                rows.append(row("ari", low + s / 100, **columns, layer="block1"))
                rows.append(row("ami", 0.99, **columns, layer="block1"))
            rows.append(accuracy_row("r", 0, step, split, low))
        rows += [*control_rows(split), *control_rows(split)]
    rows.append(row("ari", -0.25, step=64, split="val_subset", layer="block1", space="tsne"))
    lines = final_text(to_table(rows)).splitlines()
    title = "ARI against the task at step 64: mean (min to max over seeds and near-best starts)"
    assert lines[0] == f"{title}, then the mean at step 0"
    assert lines[1].split() == ["layer", "space", "train_subset", "val_subset"]
    assert lines[2].split() == ["block1", "raw", *["0.81", "(0.80", "to", "0.82)", "0.11"] * 2]
    assert [line.split()[0] for line in lines[3:7]] == list(CONTROLS)
    assert lines[4].split()[2:] == ["0.25", "(0.25", "to", "0.25)"] * 2
    assert lines[7].split() == ["block1", "tsne", "-", "-0.25"]
    assert lines[8] == "accuracy at step 64: train_subset 0.800, val_subset 0.800"
    column = lines[1].index("val_subset")
    assert all(line[column - 1] == " " for line in lines[2:8])
    assert scores_text(to_table(rows)) == final_text(to_table(rows)), "one k"
    # Of one step or none.
    assert final_text(to_table([])) == "no scores\n"
    lines = final_text(to_table([accuracy_row("r", 0, 4, "s", 0.5)])).splitlines()
    assert lines[0] == title.replace("64", "4")
    assert lines[-1] == "accuracy at step 4: s 0.500"


def test_models_have_names_instead_of_steps_and_classifiers_a_table() -> None:
    rows = [row("ari", 0.125, step=0), row("ari", 0.75), accuracy_row("r", 0, 8, "kept", 0.5)]
    for step, base in ((0, 0.25), (8, 0.5)):
        for i, metric in enumerate(CLASSIFIERS):
            for split in ("new", "other"):
                rows.append(row(metric, base + i / 100, step=step, split=split, k=None))
    lines = scores_text(to_table(rows), {0: "untrained", 8: "trained"}).splitlines()
    assert lines[0] == (
        "ARI against the task of the trained model: mean (min to max over seeds and near-best "
        "starts), then the mean of the untrained model"
    )
    assert lines[3] == "accuracy of the trained model: kept 0.500"
    assert lines[5:] == [
        "accuracy of classifiers that predict the task of the trained model, then of the untrained "
        "model",
        "layer  new: linear  centroid    neighbours  other: linear  centroid    neighbours",
        "embed  0.50  0.25   0.51  0.26  0.52  0.27  0.50  0.25     0.51  0.26  0.52  0.27",
    ]
    series = scores_text(to_table(rows)).splitlines()
    assert series[3] == "accuracy at step 8: kept 0.500"
    assert series[5] == "accuracy of classifiers that predict the task at step 8, then at step 0"
    alone = scores_text(to_table([each for each in rows if each["step"] == 8])).splitlines()
    assert alone[-1] == "embed  0.50         0.51      0.52        0.50           0.51      0.52"


# --- Several numbers of clusters ---


def test_the_main_scores_are_of_each_splits_first_number() -> None:
    control = {"layer": "control:input", "step": None, "cluster_seed": None}
    kept = [
        row("ari", 0.1, **control, k=9),
        row("ari", 0.1, **control, k=9, split="new"),
        row("ari", 0.2, layer="control:symbols", step=None, k=5),
        row("accuracy", 0.5, layer="model", space="", k=None, cluster_seed=None),
        row("ari", 0.3),
        row("ari", 0.4, space="tsne"),
        row("silhouette", 0.5),
        row("ari", 0.6, split="new", k=2),
        row("probe_task", 0.7, split="new", k=None, cluster_seed=None),
        row("ari", 0.8, layer="block1"),
        row("ari", 0.9, split="new", k=2, layer="block1", step=16),
    ]
    others = [
        row("ari", 0.31, k=5),
        row("silhouette", 0.51, k=5),
        row("ari", 0.61, split="new", k=3),
        row("ari", 0.81, layer="block1", k=2),
        row("ari", 0.91, split="new", layer="block1", step=16, k=9),
    ]
    mixed = [*kept[:5], others[0], *kept[5:7], others[1], *kept[7:9], *others[2:], *kept[9:]]
    got = main_scores(to_table(mixed))
    assert got.equals(to_table(kept))
    assert main_scores(got).equals(got)


def test_the_table_of_numbers_is_of_the_means_at_the_last_step() -> None:
    rows = [
        row("ari", 0.99, k=7, layer="control:symbols", step=None),
        row("ari", 0.98, step=4),  # of an earlier step
        row("ari", 0.5), row("ari", 0.25, cluster_seed=1), row("ami", 0.125),
        row("silhouette", -0.5), row("silhouette", 0.25, cluster_seed=1),
        row("ari", 0.97, space="tsne"), row("homogeneity", 0.96), row("ari_input", 0.95),
        row("ari", 1, k=12), row("ami", 1, k=12),
        row("ari", 0.75, layer="block10"), row("ami", 0.625, layer="block10"),
        row("silhouette", 0.5, layer="block10"),
        row("ari", 0, layer="embed", split="new", k=2),
        row("accuracy", 0.94, layer="model", space="", k=None, cluster_seed=None),
        row("variance_task", 0.93, k=3, cluster_seed=None),
    ]  # fmt: skip
    assert k_table(to_table(rows)) == (
        "\nkept, by the number of clusters:  ARI   AMI   silhouette\n"
        "embed    k = 3      0.38   0.12  -0.12\n"
        "embed    k = 12     1.00   1.00      -\n"
        "block10  k = 3      0.75   0.62   0.50\n"
        "\nnew, by the number of clusters:  ARI   AMI   silhouette\n"
        "embed    k = 2      0.00      -      -\n"
    )
    # Of one number there is none.
    rows = [row("ari", 0.5), row("ari", 0.5, layer="block1"), row("ari", 0.5, step=4, k=2)]
    control = row("ari", 0.1, layer="control:input", step=None, k=9)
    assert k_table(to_table([*rows, control])) == ""
    assert k_table(to_table([control])) == k_table(to_table([])) == ""


@pytest.mark.parametrize("begin", [*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_text_of_a_csv_is_a_formula(begin: str) -> None:
    text = f'{begin}cmd|" /C calc",\n=1+1'
    rows = [row("ari", -0.5, run=text, split=f"a{text}", seed=-1), row("ari", 0.5, run="'quoted'")]
    content = table_to_csv_bytes(to_table(rows)).decode()
    first, second = csv.DictReader(io.StringIO(content, newline=""))
    assert first["run"] == f"'{text}"
    assert first["split"] == f"a{text}", "only the beginning counts"
    assert (first["value"], first["seed"]) == ("-0.5", "-1"), "numbers stay numbers"
    assert second["run"] == "'quoted'"
