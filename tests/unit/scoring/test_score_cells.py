from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.preprocessing import StandardScaler, normalize

from planted import near_square, planted_instances
from tasklens.clustering.cluster import Cell, Clustering, ClusterSettings, cluster
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.instances import Instances
from tasklens.scoring.partition_agreement import extremes
from tasklens.scoring.score_cells import (
    SILHOUETTE_SAMPLE,
    MeasureSettings,
    control_clusters,
    measure_cells,
    prepared,
    score_cell,
    score_controls,
    score_silhouettes,
)
from tasklens.scoring.score_table import BAND, CONTROLS, SCHEMA, Row

Floats = NDArray[np.float32]

SETTINGS = ClusterSettings(cluster_seeds=2)
AGREEMENT = {"ari", "ami", "homogeneity", "completeness", "v_measure"}


def instances(task: NDArray[np.int64], split: str = "s") -> Instances:
    """Return instances whose symbols name the task and whose length tells two halves apart."""
    random = stream(0, "instances")
    symbols = np.eye(int(task.max()) + 1, dtype=np.int64)[task]
    known: dict[str, Any] = {"length": 3 + task % 2, "symbol_counts": symbols}
    known |= {"input": random.integers(7, size=len(task))}
    return planted_instances(task, split, **known, output=random.integers(5, size=len(task)))


def blobs(task: NDArray[np.int64], spread: float = 1.0) -> Floats:
    random = stream(0, "blobs")
    centres = 30 * random.normal(size=(int(task.max()) + 1, 8))
    return (centres[task] + spread * random.normal(size=(len(task), 8))).astype(np.float32)


def cell_of(x: Floats, space: str = "raw", split: str = "s", k: int = 4) -> Cell:
    return Cell(0, 16, split, "block2", space, k, x)


def scored(task: list[int], labels: list[int]) -> dict[str, float]:
    cell = cell_of(np.zeros((len(task), 1), dtype=np.float32), "tsne")
    clusters = np.array([labels], dtype=np.int16)
    clustering = Clustering(clusters, np.zeros(1), None, clusters, 1)
    rows = score_cell(cell, clustering, instances(np.array(task)), "run")
    return {str(row["metric"]): float(row["value"] or 0) for row in rows}


def values(rows: list[Row], **wanted: object) -> list[float]:
    chosen = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return [float(row["value"] or 0) for row in chosen]


# --- Cells ---


def test_planted_tasks_are_found_and_shuffled_ones_are_not() -> None:
    task = np.arange(400) % 4
    cell, known = cell_of(blobs(task)), instances(task)
    (clustering,) = cluster([cell], SETTINGS)
    rows = score_cell(cell, clustering, known, "tiny")
    assert values(rows, metric="ari") == [1.0, 1.0]
    assert values(rows, metric="ami") == pytest.approx([1.0, 1.0])
    for metric in ("ari_shuffled", "ari_input", "ari_output"):
        assert values(rows, metric=metric) == pytest.approx([0, 0], abs=0.02)
        assert 0.0 not in values(rows, metric=metric)
    assert values(rows, metric="inertia") == list(clustering.inertia)
    shares = [values(rows, metric=f"variance_{part}")[0] for part in ("task", "input", "output")]
    assert shares[0] > 0.95
    assert max(shares[1:]) < 0.1
    assert {row["cluster_seed"] for row in rows if "variance" in str(row["metric"])} == {None}
    columns = {"run": "tiny", "seed": 0, "step": 16, "split": "s", "position": "input"}
    for row in rows:
        assert list(row) == SCHEMA.names
        assert {**row, **columns, "layer": "block2", "space": "raw", "k": 4} == row
    assert len(rows) == 2 * (5 + 4) + 3 + 4 + 3
    assert values(rows, metric="nc1")[0] < 0.1
    assert values(rows, metric="task_decodability") == [1]
    assert rows == score_cell(cell, clustering, known, "tiny"), "nothing is drawn from a global"
    assert not any("variance" in metric for metric in scored([0, 1], [0, 1])), "of an embedding"


def test_states_of_other_instances_are_refused() -> None:
    known = instances(np.arange(6) % 2)
    clusters = np.zeros((1, 5), np.int16)
    clustering = Clustering(clusters, np.zeros(1), None, clusters, 1)
    cell = cell_of(np.ones((5, 2), dtype=np.float32))
    with pytest.raises(
        InputError, match=r"^step 16, s, block2 \(raw\): 5 hidden states and labels of sh"
    ):
        score_cell(cell, clustering, known, "r")
    other = cell_of(np.ones((6, 2), dtype=np.float32), split="other")
    with pytest.raises(InputError, match=r"block2 \(raw\): the instances are those of the split"):
        measure_cells([other], instances={"other": known}, run="r", settings=SETTINGS)


@pytest.mark.parametrize("name", ["task", "input", "output", "length", "symbol_counts", "unit"])
def test_instances_of_other_numbers_are_refused(name: str) -> None:
    known = vars(instances(np.arange(6) % 2))
    with pytest.raises(InputError, match=r"^instances of s: shapes"):
        Instances(**known | {name: known[name][:5]})


# --- Controls ---


def test_controls_score_what_they_see() -> None:
    task = np.arange(120) % 4
    rows = score_controls(instances(task), 4, "tiny", 0, SETTINGS)
    assert {row["metric"] for row in rows} == AGREEMENT | {*BAND, "near_best_starts"}
    places = {(row["step"], row["split"], row["position"], row["space"]) for row in rows}
    assert places == {(None, "s", "", "raw")}
    assert values(rows, layer="control:symbols", metric="ari") == [1.0, 1.0]
    halves = scored(list(task), list(task % 2))["ari"]
    assert values(rows, layer="control:length", metric="ari") == [halves, halves]
    assert values(rows, layer="control:input", metric="ari") == pytest.approx([0], abs=0.03)
    (inputs,) = (r for r in rows if r["layer"] == "control:input" and r["metric"] == "ari")
    assert (inputs["k"], inputs["cluster_seed"]) == (7, None)
    clusters = control_clusters(instances(task), 4, 0, SETTINGS)
    assert [(name, len(each.labels)) for name, each in clusters.items()] == [
        *zip(CONTROLS[:2], (2, 2), strict=True)
    ]


# --- Silhouettes ---


@pytest.mark.parametrize("seed", range(3))
def test_the_silhouette_is_scikit_learns(seed: int) -> None:
    random = stream(seed, "silhouette")
    x = random.normal(size=(60, 3)).round(1).astype(np.float32)
    x[:9] = x[0]  # points that nothing tells apart
    labels = random.integers(2 + 3 * seed, size=(2, 60))
    labels[:, -1] = 99  # alone
    rows = score_silhouettes(cell_of(x), labels, "r")
    expected = [silhouette_score(x.astype(np.float64), one) for one in labels]
    assert values(rows, metric="silhouette") == pytest.approx(expected, abs=1e-9)
    assert [row["cluster_seed"] for row in rows] == [0, 1]
    assert {row["k"] for row in rows} == {4}


def test_the_silhouette_of_many_is_of_some() -> None:
    task = np.arange(90) % 3
    cell = cell_of(blobs(task, spread=12.0))
    (every,) = values(score_silhouettes(cell, task[None], "r"))
    (some,) = values(score_silhouettes(cell, task[None], "r", sample=45))
    assert every != some == pytest.approx(every, abs=0.1)
    assert SILHOUETTE_SAMPLE == 2000
    cell = cell_of(blobs(np.arange(12) % 3))  # one cluster, or one for each state, has none
    assert score_silhouettes(cell, np.stack([np.zeros(12, np.int16), np.arange(12)]), "r") == []


# --- Prepared states ---


def some_states(n: int = 50, d: int = 7) -> Floats:
    """States far from the origin, on scales that differ, with a dimension that does not vary."""
    random = stream(0, "states")
    x = (30 + random.normal(size=(n, d))) * np.logspace(-2, 2, d)
    x[:, 3] = 0.1
    return x.astype(np.float32)


def test_as_they_are_states_stay_and_are_copied() -> None:
    x = some_states()
    before = x.copy()
    for keys in ({}, {"center": True}, {"standardize": True}, {"normalize": True}):
        got = prepared(x, MeasureSettings(**keys))
        assert got.dtype == np.float32
        assert not np.shares_memory(got, x)
        assert np.array_equal(got, x) == (not keys)
        np.testing.assert_array_equal(x, before, "the given ones are not changed")
    x.flags.writeable = False  # as those are that lie on the disk
    assert prepared(x, MeasureSettings(standardize=True)).shape == x.shape


def test_centred_states_have_their_mean_at_zero() -> None:
    x = some_states()
    got = prepared(x, MeasureSettings(center=True))
    rounding = np.abs(x).max(axis=0) * np.finfo(np.float32).eps
    assert (np.abs(got.mean(axis=0, dtype=np.float64)) <= rounding).all()
    np.testing.assert_allclose(got - got[0], x - x[0], rtol=0, atol=2 * rounding.max())


def test_standardised_states_are_scikit_learns() -> None:
    x = some_states()
    expected = StandardScaler().fit_transform(x.astype(np.float64))
    for center in (False, True):
        got = prepared(x, MeasureSettings(standardize=True, center=center))
        np.testing.assert_allclose(got, expected, atol=1e-4)
        assert (got[:, 3] == 0).all(), "centred, and not divided by a deviation of zero"


def test_normalised_states_have_length_one() -> None:
    x = some_states()
    x[5] = 0
    got = prepared(x, MeasureSettings(normalize=True))
    np.testing.assert_allclose(got, normalize(x.astype(np.float64)), rtol=1e-5)
    length = np.linalg.norm(got, axis=1)
    np.testing.assert_allclose(np.delete(length, 5), 1, rtol=1e-6)
    assert length[5] == 0
    for first in ("center", "standardize"):
        keys: dict[str, Any] = {first: True}
        both = prepared(x, MeasureSettings(normalize=True, **keys))
        before = prepared(x, MeasureSettings(**keys))
        np.testing.assert_allclose(both, normalize(before), rtol=1e-5, err_msg="after the rest")


# --- Near-best starts ---

BANDS = (*BAND, "near_best_starts")


@pytest.mark.parametrize("part", [0, 1])
def test_the_band_is_the_ari_of_the_two_partitions_that_kmeans_cannot_tell_apart(part: int) -> None:
    x, corner = near_square()
    halves = (corner // 2, corner % 2)
    task = halves[part]
    across = adjusted_rand_score(*halves)
    cell = cell_of(x, k=2)
    (clustering,) = cluster([cell])
    rows = score_cell(cell, clustering, instances(task), "r")
    low, high, starts = (values(rows, metric=metric, cluster_seed=None)[0] for metric in BANDS)
    assert [low, high] == pytest.approx([across, 1])
    assert 2 <= starts <= 30
    kept = values(rows, metric="ari")
    assert kept == pytest.approx([(1, across)[part]] * 3), "the best start alone shows no band"


def test_the_band_holds_for_the_embedding_and_for_controls() -> None:
    task = np.arange(120) % 4
    cell = cell_of(blobs(task, spread=40.0), space="tsne")
    settings = ClusterSettings(n_init=5, tsne_max_iter=250, perplexity=20)
    (clustering,) = cluster([cell], settings)
    plane = clustering.embedding
    assert plane is not None
    inertia = [
        sum(float(((plane[p == j] - plane[p == j].mean(axis=0)) ** 2).sum()) for j in range(4))
        for p in clustering.near_best
    ]
    assert max(inertia) <= 1.01 * min(inertia) * (1 + 1e-6)
    assert min(inertia) == pytest.approx(clustering.inertia.min(), rel=1e-5)
    rows = score_cell(cell, clustering, instances(task), "r")
    rows += score_controls(instances(task), 4, "r", 0, settings)
    cells = {"block2": clustering, **control_clusters(instances(task), 4, 0, settings)}
    for layer, each in cells.items():
        scores = [adjusted_rand_score(task, labels) for labels in each.near_best]
        got = [values(rows, layer=layer, metric=metric)[0] for metric in BANDS]
        assert got == pytest.approx([min(scores), max(scores), each.near_best_starts]), layer
    assert not any(values(rows, layer="control:input", metric=metric) for metric in BANDS)


def test_extremes_are_the_partitions_of_lowest_and_highest_index() -> None:
    random = stream(0, "extremes")
    task = random.integers(-3, 3, size=50)
    every = random.integers(5, size=(9, 50))
    scores = [adjusted_rand_score(task, labels) for labels in every]
    ends, low, high = extremes(task, every)
    assert np.array_equal(ends, every[[np.argmin(scores), np.argmax(scores)]])
    assert [low, high] == pytest.approx([min(scores), max(scores)])
    ends, low, high = extremes(task, every[:1])
    assert np.array_equal(ends, every[[0, 0]])
    assert low == high == pytest.approx(scores[0])
