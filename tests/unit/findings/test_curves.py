import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from planted import with_band
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.findings.curves import DRAWN, Curves, curves_of_labels, curves_of_table
from tasklens.scoring.bootstrap import Resampling, resampling_weights
from tasklens.scoring.score_table import Row, accuracy_row, score_rows, to_table

LAYERS = ("wte", "embed", "block1", "block10", "block2", "ln_f")


def rows_of(run: str, seed: int, shift: float = 0.0) -> list[Row]:
    """Two splits, steps 0, 4 and 8, two cluster seeds 0.02 apart, t-SNE at the end."""
    rows: list[Row] = []
    for split, less in (("train_subset", 0.0), ("val_subset", 0.1)):
        base: dict[str, Any] = {"run": run, "seed": seed, "split": split, "position": "", "k": 4}
        spaces = ((8, "raw"), (8, "tsne"), (0, "raw"), (4, "raw"))  # in no order
        for (step, space), (i, layer), s in itertools.product(spaces, enumerate(LAYERS), (0, 1)):
            value = shift + 0.1 * i + step / 100 - less + 0.02 * s + 0.3 * (space == "tsne")
            scores = {"ari": value, "ari_shuffled": -value, "ami": 7.0}
            rows += score_rows(scores, **base, step=step, layer=layer, space=space, cluster_seed=s)
        for step in (8, 0, 4):
            rows.append(accuracy_row(run, seed, step, split, step / 8 - less))
            rows.append(accuracy_row(run, seed, step, f"{split} complete", 0.5))
        for control, values in (("length", (0.2, 0.3)), ("symbols", (0.4, 0.4)), ("input", (0.1,))):
            for s, value in enumerate(values):
                scores, layer = {"ari": value - less, "ami": 7.0}, f"control:{control}"
                rows += score_rows(scores, **base, step=None, layer=layer, cluster_seed=s)
    return rows


def test_a_table_gives_means_over_cluster_seeds_by_step() -> None:
    (curves,) = curves_of_table(to_table(rows_of("mine", 3)))
    assert (curves.run, curves.seed, curves.steps) == ("mine", 3, (0, 4, 8))
    assert curves.layers == ["embed", "block1", "block2", "block10"]
    splits = ("train_subset", "val_subset")
    assert set(curves.ari) == set(itertools.product(splits, LAYERS, ("raw", "tsne")))
    for i, layer in enumerate(LAYERS):
        got = curves.ari["val_subset", layer, "raw"]
        expected = 0.1 * i + np.array([[0.0, 0.04, 0.08]]) - 0.1 + 0.01
        np.testing.assert_allclose(got, expected, atol=1e-12)
        assert curves.final("val_subset", layer) == pytest.approx(expected[:, -1])
        assert curves.final("val_subset", layer, "tsne") == pytest.approx(expected[:, -1] + 0.3)
    tsne = curves.ari["train_subset", "block1", "tsne"]
    np.testing.assert_allclose(tsne, [[np.nan, np.nan, 0.2 + 0.08 + 0.01 + 0.3]])


def test_a_table_gives_accuracy_and_controls() -> None:
    (curves,) = curves_of_table(to_table(rows_of("mine", 3)))
    assert set(curves.accuracy) == {
        *("train_subset", "val_subset", "train_subset complete", "val_subset complete")
    }
    np.testing.assert_allclose(curves.accuracy["train_subset"], [[0.0, 0.5, 1.0]])
    np.testing.assert_allclose(curves.accuracy["val_subset"], [[-0.1, 0.4, 0.9]])
    assert len(curves.controls) == 6
    for control, value in (("length", 0.25), ("symbols", 0.4), ("input", 0.1)):
        name = f"control:{control}"
        assert curves.controls["train_subset", name] == pytest.approx([value])
        assert curves.controls["val_subset", name] == pytest.approx([value - 0.1])


def test_another_metric_replaces_the_scores_of_states_only() -> None:
    table = to_table(rows_of("mine", 3))
    (curves,) = curves_of_table(table)
    (chance,) = curves_of_table(table, "ari_shuffled")
    assert chance.ari.keys() == curves.ari.keys()
    for key, values in curves.ari.items():
        np.testing.assert_allclose(chance.ari[key], -values)
    assert chance.controls == curves.controls
    assert chance.accuracy.keys() == curves.accuracy.keys()


def test_runs_and_seeds_of_one_table_are_kept_apart() -> None:
    parts = [("a", 0, 0.0), ("a", 1, 0.1), ("b", 0, 0.2)]
    rows = [row for part in parts for row in rows_of(*part)]
    order = stream(0, "order of rows").permutation(len(rows))
    for mixed in (rows, [rows[i] for i in order]):
        runs = {(curves.run, curves.seed): curves for curves in curves_of_table(to_table(mixed))}
        assert set(runs) == {("a", 0), ("a", 1), ("b", 0)}
        for run, seed, shift in parts:
            got = runs[run, seed].final("train_subset", "embed")
            assert got == pytest.approx([shift + 0.1 + 0.08 + 0.01])


def test_a_table_without_the_metric_is_an_error_with_its_metrics() -> None:
    table = to_table(rows_of("mine", 3))
    message = "^the table has no v_measure of a hidden state; its metrics are accuracy, ami, ari, "
    with pytest.raises(InputError, match=message):
        curves_of_table(table, "v_measure")
    with pytest.raises(
        InputError, match=r"^the table has no ari of a hidden state; its metrics are none$"
    ):
        curves_of_table(to_table([]))
    controls = to_table([r for r in rows_of("mine", 3) if r["step"] is None])
    with pytest.raises(InputError, match=r"no ari of a hidden state; its metrics are ami, ari$"):
        curves_of_table(controls)


# --- Labels ---


def random_curves(n_copies: int) -> tuple[Curves, NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Return curves of random labels of 50 instances in 10 units, the tasks, and the labels."""
    random = stream(0, "labels")
    unit = np.arange(50) // 5
    task = unit // 2
    weights = resampling_weights(np.arange(10) // 2, n_copies, stream(0, "weights"))
    resampling = {"s": Resampling(task, unit, weights)}

    def near() -> NDArray[np.int64]:
        mixed = random.random((3, 50)) < 0.5
        return np.where(mixed, task, random.integers(5, size=(3, 50)))

    labels = {f"{layer} {step}": near() for layer in ("embed", "block1") for step in (0, 8, 16)}
    labels |= {"tsne": near(), "control": near()}
    hits = {step: random.random(50) < step / 20 for step in (0, 8, 16)}
    cells: dict[tuple[int, str, str, str], NDArray[np.integer]] = {
        (step, "s", layer, "raw"): labels[f"{layer} {step}"].astype(np.int16)
        for step in (16, 0, 8)
        for layer in ("embed", "block1")
    }
    cells[16, "s", "block1", "tsne"] = labels["tsne"]
    calls: list[None] = []
    curves = curves_of_labels(
        "mine",
        4,
        cells,
        {(step, "s"): hits[step] for step in (16, 8, 0)},
        {("s", "control:length"): labels["control"], ("s", "control:input"): task[None]},
        resampling,
        lambda: calls.append(None),
    )
    assert len(calls) == len(cells), "one call per cell"
    for i, step in enumerate((0, 8, 16)):
        assert curves.accuracy["s"][0, i] == pytest.approx(hits[step].mean())
        by_hand = [np.average(hits[step], weights=w[unit]) for w in weights]
        assert curves.accuracy["s"][:, i] == pytest.approx(by_hand)
    return curves, task, labels


def mean_ari(task: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    return float(np.mean([adjusted_rand_score(task, one) for one in labels]))


def test_labels_give_scikit_learns_index_in_the_first_copy() -> None:
    curves, task, labels = random_curves(n_copies=6)
    assert (curves.run, curves.seed, curves.steps) == ("mine", 4, (0, 8, 16))
    assert curves.layers == ["embed", "block1"]
    for layer in ("embed", "block1"):
        got = curves.ari["s", layer, "raw"]
        assert got.shape == (7, 3)
        expected = [mean_ari(task, labels[f"{layer} {step}"]) for step in (0, 8, 16)]
        assert got[0] == pytest.approx(expected)
        assert (got[1:] != got[0]).all(), "the others are of other instances"
        assert np.abs(got[1:] - got[0]).max() < 0.3
    tsne = curves.ari["s", "block1", "tsne"]
    assert np.isnan(tsne[:, :2]).all()
    assert tsne[0, 2] == pytest.approx(mean_ari(task, labels["tsne"]))
    assert curves.final("s", "block1", "tsne") == pytest.approx(tsne[:, 2])
    control = curves.controls["s", "control:length"]
    assert control.shape == (7,)
    assert control[0] == pytest.approx(mean_ari(task, labels["control"]))
    assert curves.controls["s", "control:input"] == pytest.approx(np.ones(7))


# --- Choices ---


def ends_of(row: Row) -> tuple[float, float]:
    return float(row["value"] or 0) - 0.25, float(row["value"] or 0) + 0.125


def test_a_table_with_a_band_gives_the_curves_of_its_ends() -> None:
    plain = to_table(rows_of("mine", 3) + rows_of("other", 4))
    table = with_band(plain, lambda row: ends_of(row)[0], lambda row: ends_of(row)[1])
    assert [curves.choices for curves in curves_of_table(plain)] == [(), ()]
    assert [curves.choices for curves in curves_of_table(table, "ari_shuffled")] == [(), ()]
    for before, curves in zip(curves_of_table(plain), curves_of_table(table), strict=True):
        for key, y in before.ari.items():
            np.testing.assert_array_equal(curves.ari[key], y)
            low, high, drawn = (choice.ari[key] for choice in curves.choices)
            assert low.shape == high.shape == drawn.shape == (1 + DRAWN + 1, 3)
            for ends in (low, high, drawn):
                np.testing.assert_array_equal(ends[:1], y)
            np.testing.assert_allclose(low[1:] - y, np.where(np.isnan(low[1:]), np.nan, -0.25))
            np.testing.assert_allclose(high[1:] - y, np.where(np.isnan(low[1:]), np.nan, 0.125))
            last = drawn[1:, -1]
            assert set(last) == {low[1, -1], high[1, -1]}
            assert np.mean(last == low[1, -1]) == pytest.approx(0.5, abs=0.1)
        for choice, change in zip(curves.choices, (-0.25, 0.125), strict=False):
            expected = before.controls["val_subset", "control:length"] + change
            length = choice.controls["val_subset", "control:length"][1:]
            assert length == pytest.approx(np.repeat(expected, DRAWN + 1))
            inputs = before.controls["val_subset", "control:input"]
            assert (choice.controls["val_subset", "control:input"] == inputs).all()
            assert (choice.accuracy["val_subset"] == before.accuracy["val_subset"]).all()
    one, other = (
        curves_of_table(table)[0].choices[2].ari["val_subset", layer, "raw"][:, -1]
        for layer in ("block1", "block2")
    )
    assert not np.array_equal(one == one[1], other == other[1]), "cells are drawn independently"


def test_labels_give_the_index_of_both_extremes_under_the_same_resampling() -> None:
    random = stream(0, "extremes")
    unit = np.arange(50) // 5
    task = unit // 2
    weights = resampling_weights(np.arange(10) // 2, 6, stream(0, "weights"))
    every = {name: random.integers(5, size=(2, 50)) for name in ("kept", "ends", "control")}
    cells = {(step, "s", "embed", "raw"): every["kept"] for step in (0, 8)}
    control = {("s", "control:length"): every["control"]}
    resampling = {"s": Resampling(task, unit, weights)}
    hits = {(8, "s"): task > 1}
    curves = curves_of_labels(
        *("r", 0, cells, hits, control, resampling),
        extremes=({(8, "s", "embed", "raw"): every["ends"]}, control),
    )
    key = ("s", "embed", "raw")
    for choice, ends in zip(curves.choices, every["ends"], strict=False):
        scores = Resampling(task, unit, weights).ari(ends)
        got = choice.ari[key]
        assert got[0] == pytest.approx(curves.ari[key][0]), "as measured"
        assert got[1:-1, 1] == pytest.approx(scores[1:])
        assert got[-1, 1] == pytest.approx(adjusted_rand_score(task, ends))
        assert got[1:-1, 0] == pytest.approx(curves.ari[key][1:, 0]), "a cell without extremes"
        assert choice.accuracy["s"][1:-1, 1] == pytest.approx(curves.accuracy["s"][1:, 1])
    low, high = every["control"]
    for choice, labels in zip(curves.choices, (low, high), strict=False):
        expected = adjusted_rand_score(task, labels)
        assert choice.controls["s", "control:length"][-1] == pytest.approx(expected)


def test_of_several_numbers_of_clusters_the_first_of_each_run_counts() -> None:
    rows = [*rows_of("mine", 3), *(row | {"k": 7} for row in rows_of("other", 4))]
    others = [row | {"k": 9, "value": 0.0} for row in rows if row["layer"] in LAYERS]
    for plain, curves in zip(
        curves_of_table(to_table(rows)), curves_of_table(to_table([*rows, *others])), strict=True
    ):
        assert curves.ari.keys() == plain.ari.keys()
        for key, y in plain.ari.items():
            np.testing.assert_array_equal(curves.ari[key], y)
