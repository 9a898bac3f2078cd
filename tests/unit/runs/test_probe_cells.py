from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.preprocessing import StandardScaler, normalize

from tasklens.clustering.cluster import ClusterSettings
from tasklens.core.seeds import stream
from tasklens.runs import probe_cells
from tasklens.runs.probe_cells import Job, k_table, main_scores, measure_state, prepared
from tasklens.runs.settings import MeasureSettings
from tasklens.scoring.score_table import SCHEMA, Row, to_table
from tasklens.data.instances import Instances

Floats = NDArray[np.float32]

QUICK = ClusterSettings(n_init=3, cluster_seeds=2, tsne_max_iter=250, perplexity=8)
SIZES = {"kept": 90, "held_out_input": 60}
LABELS = 3


def some_states(n: int = 50, d: int = 7) -> Floats:
    """States far from the origin, on scales that differ, with a dimension that does not vary."""
    random = stream(0, "states")
    x = (30 + random.normal(size=(n, d))) * np.logspace(-2, 2, d)
    x[:, 3] = 0.1
    return x.astype(np.float32)


# -- prepared -------------------------------------------------------------------------------------


def test_as_they_are_states_stay_and_are_copied() -> None:
    x = some_states()
    before = x.copy()
    for settings in (
        MeasureSettings(),
        MeasureSettings(center=True),
        MeasureSettings(standardize=True),
        MeasureSettings(normalize=True),
    ):
        found = prepared(x, settings)
        assert found.dtype == np.float32
        assert not np.shares_memory(found, x)
        assert np.array_equal(found, x) == (settings == MeasureSettings())
        np.testing.assert_array_equal(x, before, "the given ones are not changed")
    x.flags.writeable = False  # as those are that lie on the disk
    assert prepared(x, MeasureSettings(standardize=True)).shape == x.shape


def test_centred_states_have_their_mean_at_zero() -> None:
    x = some_states()
    found = prepared(x, MeasureSettings(center=True))
    rounding = np.abs(x).max(axis=0) * np.finfo(np.float32).eps
    assert (np.abs(found.mean(axis=0, dtype=np.float64)) <= rounding).all()
    np.testing.assert_allclose(found - found[0], x - x[0], rtol=0, atol=2 * rounding.max())


def test_standardised_states_are_scikit_learns() -> None:
    x = some_states()
    expected = StandardScaler().fit_transform(x.astype(np.float64))
    for center in (False, True):
        settings = MeasureSettings(standardize=True, center=center)
        found = prepared(x, settings)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert (found[:, 3] == 0).all(), "centred, and not divided by a deviation of zero"


def test_normalised_states_have_length_one() -> None:
    x = some_states()
    x[5] = 0
    found = prepared(x, MeasureSettings(normalize=True))
    np.testing.assert_allclose(found, normalize(x.astype(np.float64)), rtol=1e-5)
    length = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(np.delete(length, 5), 1, rtol=1e-6)
    assert length[5] == 0


def test_angles_are_taken_after_the_rest() -> None:
    x = some_states()
    for first in ("center", "standardize"):
        keys: dict[str, Any] = {first: True}
        both = prepared(x, MeasureSettings(normalize=True, **keys))
        np.testing.assert_allclose(both, normalize(prepared(x, MeasureSettings(**keys))), rtol=1e-5)


# -- measure_state --------------------------------------------------------------------------------


def task_of(n: int) -> NDArray[np.int64]:
    return np.arange(n) % LABELS


def planted(spread: float = 1.0) -> Floats:
    """States of all splits, one after another, that lie around a centre for each label."""
    random = stream(0, "planted")
    centres = 20 * random.normal(size=(LABELS, 6))
    parts = [centres[task_of(n)] + spread * random.normal(size=(n, 6)) for n in SIZES.values()]
    return np.concatenate(parts).astype(np.float32)


def job(
    directory: Path,
    x: Floats,
    sizes: dict[str, int] = SIZES,
    spaces: tuple[str, ...] = ("raw",),
    **measure: Any,
) -> Job:
    np.save(directory / "block2.npy", x)
    ends = np.cumsum([0, *sizes.values()]).tolist()
    zeros = {split: np.zeros(n, dtype=np.int64) for split, n in sizes.items()}
    return Job(
        directory=directory,
        state="block2",
        run="mine",
        seed=4,
        step=70,
        splits={split: slice(ends[i], ends[i + 1]) for i, split in enumerate(sizes)},
        instances={
            split: Instances(task_of(n), zeros[split], None, zeros[split], zeros[split][:, None])
            for split, n in sizes.items()
        },
        spaces=spaces,
        measure=MeasureSettings(**measure),
        clusters=QUICK,
    )


def values(rows: list[Row], metric: str, **wanted: object) -> list[float]:
    return [
        float(row["value"] or 0)
        for row in rows
        if row["metric"] == metric and all(row[name] == value for name, value in wanted.items())
    ]


def test_planted_clusters_are_found_in_every_split(tmp_path: Path) -> None:
    rows, arrays = measure_state(job(tmp_path, planted()))
    assert set(arrays) == {"kept/block2/raw/labels", "held_out_input/block2/raw/labels"}
    for split, n in SIZES.items():
        labels = arrays[f"{split}/block2/raw/labels"]
        assert labels.shape == (2, n)
        assert [adjusted_rand_score(task_of(n), one) for one in labels] == [1, 1]
        assert values(rows, "ari", split=split) == pytest.approx([1, 1])
        assert values(rows, "variance_task", split=split) == pytest.approx([1], abs=0.05)
    for row in rows:
        assert set(row) == set(SCHEMA.names)
        assert (row["run"], row["seed"], row["step"], row["layer"]) == ("mine", 4, 70, "block2")
        assert row["space"] == "raw"
    assert not [row for row in rows if "output" in str(row["metric"])], "no output is known"
    again, same = measure_state(job(tmp_path, planted()))
    assert again == rows
    assert all(np.array_equal(same[name], array) for name, array in arrays.items())


def test_states_without_clusters_give_none(tmp_path: Path) -> None:
    random = stream(0, "noise")
    x = random.normal(size=(150, 6)).astype(np.float32)
    rows, _ = measure_state(job(tmp_path, x))
    for split in SIZES:
        assert np.abs(values(rows, "ari", split=split)).max() < 0.1
        assert max(values(rows, "silhouette", split=split)) < 0.3


def test_the_silhouette_is_scikit_learns(tmp_path: Path) -> None:
    x = planted(spread=12.0)
    asked = job(tmp_path, x, k=(3, 5))
    rows, arrays = measure_state(asked)
    seen = set()
    for split, here in asked.splits.items():
        for k, place in ((3, "labels"), (5, "k=5/labels")):
            labels = arrays[f"{split}/block2/raw/{place}"]
            expected = [silhouette_score(x[here], one) for one in labels]
            found = [values(rows, "silhouette", split=split, k=k, cluster_seed=s) for s in (0, 1)]
            assert [len(one) for one in found] == [1, 1]
            np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)
            seen |= {round(float(value), 3) for value in expected}
    assert len(seen) > 3, "scores that differ"
    assert min(seen) > 0
    assert max(seen) < 0.9


def test_the_silhouette_of_many_is_of_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job(tmp_path, planted(spread=8.0))
    every = values(measure_state(asked)[0], "silhouette", split="kept")
    monkeypatch.setattr(probe_cells, "SILHOUETTE_SAMPLE", 45)
    some = values(measure_state(asked)[0], "silhouette", split="kept")
    assert every != some
    np.testing.assert_allclose(some, every, atol=0.1)


def test_where_all_states_are_one_there_is_no_silhouette(tmp_path: Path) -> None:
    rows, arrays = measure_state(job(tmp_path, np.ones((150, 4), dtype=np.float32)))
    assert values(rows, "silhouette") == []
    assert (arrays["kept/block2/raw/labels"] == 0).all()
    assert values(rows, "ari", split="kept") == [0, 0]


def test_each_number_of_clusters_is_measured_and_the_first_in_the_plane(tmp_path: Path) -> None:
    rows, arrays = measure_state(job(tmp_path, planted(), spaces=("raw", "tsne"), k=(4, 3, 6)))
    numbers = {(row["space"], row["k"]) for row in rows if row["metric"] == "ari"}
    assert numbers == {("raw", 4), ("raw", 3), ("raw", 6), ("tsne", 4)}
    assert {row["k"] for row in rows if row["metric"] == "silhouette"} == {4, 3, 6}
    assert {row["space"] for row in rows if row["metric"] == "silhouette"} == {"raw"}
    expected = set()
    for split, n in SIZES.items():
        for name, clusters in (
            ("raw/labels", 4), ("raw/k=3/labels", 3), ("raw/k=6/labels", 6), ("tsne/labels", 4),
        ):  # fmt: skip
            labels = arrays[f"{split}/block2/{name}"]
            expected |= {f"{split}/block2/{name}", f"{split}/block2/tsne/embedding"}
            assert [len(np.unique(one)) for one in labels] == [clusters] * 2
            k = {"split": split, "k": clusters, "space": name.partition("/")[0]}
            ari = [adjusted_rand_score(task_of(n), one) for one in labels]
            assert values(rows, "ari", **k) == pytest.approx(ari)
            assert max(ari) < 1 or clusters == 3
        assert arrays[f"{split}/block2/tsne/embedding"].shape == (n, 2)
        assert values(rows, "ari", split=split, k=3) == pytest.approx([1, 1])
    assert set(arrays) == expected


def test_without_a_number_there_are_as_many_clusters_as_labels(tmp_path: Path) -> None:
    rows, _ = measure_state(job(tmp_path, planted()))
    assert {row["k"] for row in rows if row["metric"] == "ari"} == {LABELS}


def test_labels_are_learned_on_the_first_split_and_told_on_the_others(tmp_path: Path) -> None:
    x = planted()
    rows, _ = measure_state(job(tmp_path, x))
    for metric in ("probe_task", "neighbours_task"):
        assert values(rows, metric) == values(rows, metric, split="held_out_input") == [1]
    alone = {"all": len(x)}
    rows, _ = measure_state(job(tmp_path, x, alone))
    assert {row["split"] for row in rows} == {"all"}
    assert values(rows, "ari") == pytest.approx([1, 1])
    assert values(rows, "probe_task") == values(rows, "neighbours_task") == []
    moved = x.copy()
    moved[90:] += 1000  # another split, elsewhere
    for center, right in ((False, False), (True, True)):
        rows, _ = measure_state(job(tmp_path, moved, center=center))
        (told,) = values(rows, "neighbours_task")
        assert (told == 1) == right, "each split is centred at its own mean"


def test_states_are_prepared_before_they_are_clustered(tmp_path: Path) -> None:
    x = planted()
    wide = 1e4 * stream(0, "wide").normal(size=len(x))
    x = np.column_stack([x, wide]).astype(np.float32)
    for standardize in (False, True):
        ari = values(measure_state(job(tmp_path, x, standardize=standardize))[0], "ari")
        assert len(ari) == 4
        assert min(ari) > 0.9 if standardize else max(ari) < 0.1
    scaled = (planted() * np.exp(stream(0, "scale").normal(size=(150, 1)) * 3)).astype(np.float32)
    for normal in (False, True):
        ari = values(measure_state(job(tmp_path, scaled, normalize=normal))[0], "ari")
        assert min(ari) > 0.9 if normal else max(ari) < 0.5


# -- tables ---------------------------------------------------------------------------------------


def row(metric: str, value: float, **place: Any) -> Row:
    """Return a row of a state's clusters, unless said otherwise."""
    usual: Row = {
        "run": "r", "seed": 0, "step": 8, "split": "kept", "layer": "embed", "space": "raw",
        "k": 3, "cluster_seed": 0,
    }  # fmt: skip
    return {**usual, **place, "metric": metric, "value": value}


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
    assert len(mixed) == len(kept) + len(others)
    found = main_scores(to_table(mixed))
    assert found.schema == SCHEMA
    assert found.to_pylist() == to_table(kept).to_pylist()
    assert main_scores(found).equals(found)


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


def test_of_one_number_there_is_no_table() -> None:
    rows = [row("ari", 0.5), row("ari", 0.5, layer="block1"), row("ari", 0.5, step=4, k=2)]
    control = row("ari", 0.1, layer="control:input", step=None, k=9)
    assert k_table(to_table([*rows, control])) == ""
    assert k_table(to_table([control])) == k_table(to_table([])) == ""
