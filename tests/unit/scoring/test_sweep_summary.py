from typing import Any

import pyarrow as pa
import pytest

from planted import CONTROLS, planted_table, sound
from tasklens.data.dataset import MEASURED
from tasklens.scoring.score_table import Row, accuracy_row, score_rows, to_table
from tasklens.scoring.sweep_summary import AT_THE_END, best_rows, points_table

STEPS = (0, 8, 16)
#: ARI at each step and by cluster seed: the peak is in the middle.
COURSE = {0: (0.0, 0.2), 8: (0.7, 0.9), 16: (0.5, 0.6)}


def rows_of(
    run: str = "a", seed: int = 0, split: str = "val_subset", plus: float = 0.0
) -> list[Row]:
    """One layer in two spaces, its other scores, accuracy, and a control, in no order of steps."""
    rows: list[Row] = []
    base: dict[str, Any] = {"run": run, "seed": seed, "split": split, "position": "input", "k": 4}
    for step in (8, 0, 16):
        columns = {**base, "step": step, "layer": "block1"}
        for s, value in enumerate(COURSE[step]):
            scores = {"ari": value + plus, "ami": step / 100 + s / 10, "ari_shuffled": 9.0}
            rows += score_rows(scores, **columns, cluster_seed=s)
        rows += score_rows({"variance_task": step / 20, "probe_task": step / 16}, **columns)
        rows.append(accuracy_row(run, seed, step, split, step / 32 + plus))
        rows.append(accuracy_row(run, seed, step, "val", 0.111))
    for s in range(2):
        rows += score_rows({"ari": 0.3}, **columns, space="tsne", cluster_seed=s)
        control = {**base, "step": None, "layer": "control:length", "cluster_seed": s}
        control["position"] = ""
        rows += score_rows({"ari": 0.1 + 0.2 * s, "ami": 0.1 + 0.2 * s}, **control)
    return rows


def only(points: pa.Table, **columns: Any) -> dict[str, Any]:
    (row,) = (r for r in points.to_pylist() if all(r[k] == v for k, v in columns.items()))
    return dict(row)


def test_a_run_is_summed_up_by_hand() -> None:
    points = points_table(to_table(rows_of()), {"a": {"train.steps": 16}})
    assert points.num_rows == 3
    row = only(points, layer="block1", space="raw")
    expected: dict[str, Any] = {"run": "a", "seed": 0, "train.steps": 16, "split": "val_subset"}
    expected |= {
        "position": "input",
        "layer": "block1",
        "space": "raw",
        **dict.fromkeys(AT_THE_END),
    }
    numbers = {"initial": 0.1, "final": 0.55, "peak": 0.8, "peak_step": 8, "accuracy": 0.5}
    # At the end, and of the ami a mean over cluster seeds.
    numbers |= {"ami": 0.21, "variance_task": 0.8, "probe_task": 1.0}
    assert row == expected | {name: pytest.approx(value) for name, value in numbers.items()}
    end = only(points, layer="block1", space="tsne")
    assert (end["initial"], end["final"], end["peak"], end["peak_step"]) == (0.3, 0.3, 0.3, 16)
    assert (end["accuracy"], end["ami"], end["probe_task"]) == (0.5, None, None)
    row = only(points, layer="control:length")  # which has no course
    assert row.pop("final") == pytest.approx(0.2)
    known = {"run": "a", "seed": 0, "train.steps": 16, "split": "val_subset", "space": "raw"}
    known["position"] = ""
    assert {k: v for k, v in row.items() if v is not None} == {**known, "layer": "control:length"}


def test_settings_that_vary_are_columns() -> None:
    rows = [*rows_of("a"), *rows_of("b", seed=5, plus=0.1), *rows_of("b", split="train_subset")]
    runs = {"a": {"model.n_embd": 8, "loss": "all"}, "b": {"model.n_embd": 16, "loss": "output"}}
    points = points_table(to_table(rows), runs)
    assert points.column_names == [
        *("run", "seed", "model.n_embd", "loss", "split", "position", "layer", "space"),
        *("initial", "final", "peak", "peak_step", *AT_THE_END, "accuracy"),
    ]
    assert points["model.n_embd"].to_pylist() == [8] * 3 + [16] * 6
    assert points["loss"].to_pylist() == ["all"] * 3 + ["output"] * 6
    columns = {"layer": "block1", "space": "raw", "split": "val_subset"}
    a, b = (only(points, run=run, **columns) for run in "ab")
    assert (a["seed"], b["seed"]) == (0, 5)
    assert b["final"] - a["final"] == pytest.approx(0.1)
    assert b["accuracy"] - a["accuracy"] == pytest.approx(0.1)


def test_seeds_of_one_run_are_not_mixed() -> None:
    points = points_table(planted_table(seeds=(3, 4)), {"planted": {}})
    # Two seeds, three splits, seven layers with wte and ln_f, and controls.
    assert points.num_rows == 2 * 3 * (9 + len(CONTROLS))
    rows = [only(points, seed=s, split="val_subset", layer="block6") for s in (3, 4)]
    assert [row["final"] for row in rows] == pytest.approx([0.86] * 2, abs=0.003)
    assert rows[0]["final"] != rows[1]["final"]


@pytest.mark.parametrize(("more", "best"), [(0.3, "block6"), (0.6, "block2")])
def test_the_best_layer_is_chosen_on_the_training_subset(more: float, best: str) -> None:
    """Layer 6 ends at 0.89, layer 2 at 0.33 and what is added there; wte and ln_f are no layers."""

    def swapped(split: str, layer: int, step: int) -> float:
        seen = split == "train_subset"
        return sound(split, layer, step) + more * (layer == (2 if seen else 4))

    points = points_table(planted_table(swapped), {"planted": {}})
    train = {"split": "train_subset", "seed": 0}
    assert only(points, layer="ln_f", **train)["final"] > 0.98
    for split in MEASURED:
        rows = best_rows(points, split)
        assert [(r["seed"], r["layer"]) for r in rows] == [(seed, best) for seed in (0, 1, 2)]
    four = only(points, layer="block4", split="val_subset", seed=0)
    assert four["final"] > 0.87, "on unseen pairs another one is better than either"
    assert best_rows(points, "elsewhere") == []


def test_each_run_has_a_best_layer_of_its_own_in_each_space() -> None:
    columns = ("run", "layer", "final", "space")
    places = [
        ("a", "embed", 0.9, "raw"), ("a", "block1", 0.5, "raw"), ("a", "block1", 0.95, "tsne"),
        ("b", "embed", 0.2, "raw"), ("b", "block1", 0.3, "raw"), ("b", "block1", 0.2, "tsne"),
        ("b", "embed", 0.25, "tsne"), ("a", "control:symbols", 0.99, "raw"),
    ]  # fmt: skip
    train: list[dict[str, Any]] = [dict(zip(columns, p, strict=True), seed=0) for p in places]
    unseen = [r | {"split": "val_subset", "final": r["final"] - 0.1} for r in train]
    points = pa.Table.from_pylist([*(r | {"split": "train_subset"} for r in train), *unseen])
    for space, expected in (
        ("raw", {"a": ("embed", 0.8, 0.4), "b": ("block1", 0.2, 0.2)}),
        ("tsne", {"a": ("block1", 0.85, 0.85), "b": ("embed", 0.15, 0.1)}),
    ):
        rows = best_rows(points, "val_subset", space)
        got = {r["run"]: (r["layer"], round(r["final"], 9), round(r["last"], 9)) for r in rows}
        assert got == expected


def test_the_untrained_network_has_a_best_layer_of_its_own_and_positions_do_not_mix() -> None:
    columns = ("position", "layer", "initial", "final")
    places = [
        ("input", "embed", 0.3, 0.1), ("input", "block1", 0.2, 0.8), ("input", "block2", 0.1, 0.7),
        ("last", "embed", 0.1, 0.2), ("last", "block1", 0.5, 0.4), ("last", "block2", 0.4, 0.6),
    ]  # fmt: skip
    base: dict[str, Any] = {"run": "a", "space": "raw"}
    train = [
        {**base, **dict(zip(columns, p, strict=True)), "seed": s, "split": "train_subset"}
        for p in places
        for s in (1, 2)
    ]
    unseen = [
        r | {"split": "val_subset", "initial": r["initial"] + 0.01, "final": r["final"] - 0.02}
        for r in train
    ]
    points = pa.Table.from_pylist([*train, *unseen])
    for position, expected in (
        ("", ("block1", 0.78, 0.68, 0.31)),
        ("input", ("block1", 0.78, 0.68, 0.31)),
        ("last", ("block2", 0.58, 0.58, 0.51)),
        ("none", None),
    ):
        rows = best_rows(points, "val_subset", position=position)
        values = ("final", "last", "untrained")
        got = [(r["layer"], *(round(r[name], 9) for name in values)) for r in rows]
        assert got == ([expected] * 2 if expected else [])


def test_no_runs_give_an_empty_table() -> None:
    points = points_table(to_table([]), {})
    assert points.num_rows == 0
    assert {"run", "seed", "final", "accuracy"} <= set(points.column_names)
