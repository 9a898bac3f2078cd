"""Scores of a harvest and of arrays from anywhere."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from planted import near_square
from tasklens.clustering.cluster import ClusterSettings
from tasklens.clustering.estimators import KMeans
from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.instances import Instances
from tasklens.data.synthetic import DataSettings, make_dataset
from tasklens.data.tasks import TaskSettings
from tasklens.scoring.final_scores import final_table
from tasklens.scoring.score import score, score_states
from tasklens.scoring.score_table import CONTROLS, SCHEMA, as_table

Floats = NDArray[np.float32]

SETTINGS = ClusterSettings(cluster_seeds=2)


class Read(NamedTuple):
    """The attributes of a harvest that `score` uses."""

    states: dict[str, Floats]
    split: str = ""
    step: int = 0
    position: str = "input"
    instances: Instances | None = None


def blobs(task: NDArray[np.int64], spread: float = 1.0) -> Floats:
    random = stream(0, "blobs")
    centres = 30 * random.normal(size=(int(task.max()) + 1, 8))
    return (centres[task] + spread * random.normal(size=(len(task), 8))).astype(np.float32)


def values(scores: pd.DataFrame, layer: str, metric: str) -> list[float]:
    rows = scores[(scores["layer"] == layer) & (scores["metric"] == metric)]
    return list(rows["value"])


def test_scores_have_the_split_step_and_position_of_the_harvest() -> None:
    dataset = make_dataset(
        TaskSettings(n_tasks=3, n_inputs=8, inputs_per_task=8, n_outputs=8, variants_per_task=12),
        DataSettings(val_inputs=2, measured_tasks=3, measured_instances=24),
        seed=0,
    )
    for split in ("train_subset", "val_instruction_subset"):
        known = dataset.instances(split)
        assert known.unit.tolist() == dataset.splits[split].instruction.tolist()
        states = {name: blobs(known.task) for name in ("embed", "block1")}
        for read, given in (
            (Read(states, split, 8, "last", known), None),
            (Read(states, split, 8, "last"), known),
            (Read(states, "", 8, "last"), known),
        ):
            scores = score(read, SETTINGS, instances=given, seed=3, run="mine")
            assert set(scores["run"]) == {"mine"}
            assert set(scores["seed"]) == {3}
            assert set(scores["split"]) == {split}
            expected: set[tuple[str, int | None, str]] = {(name, 8, "last") for name in states}
            expected |= {(name, None, "") for name in CONTROLS}
            rows = as_table(scores).to_pylist()
            assert {(row["layer"], row["step"], row["position"]) for row in rows} == expected
            assert values(scores, "embed", "ari") == [1, 1]
    message = "^hidden states of the split 'val_subset' with the instances of 'val_instruction_subs"
    with pytest.raises(InputError, match=message):
        score(Read(states, "val_subset"), SETTINGS, instances=known)
    with pytest.raises(InputError, match=r"^the harvest does not know its instances; give them"):
        score(Read(states, split))


def test_scores_that_others_use_and_those_of_distributions() -> None:
    dataset = make_dataset(
        TaskSettings(n_tasks=3, variants_per_task=12, distributions_per_task=2),
        DataSettings(measured_tasks=3, measured_instances=90),
        seed=0,
    )
    known = dataset.instances("val_subset")
    distribution = known.distribution
    assert distribution is not None
    assert len(np.unique(distribution)) == 6
    x = blobs(known.task)
    merged = score(Read({"a": x, "b": blobs(distribution)}, instances=known), SETTINGS)
    for name in ("nc1", "rankme", "task_decodability"):
        of_arrays = score_states({"a": x}, known.task, SETTINGS)
        assert values(merged, "a", name) == values(of_arrays, "a", name)
    assert values(merged, "a", "nc4") == []
    assert values(merged, "b", "ari_distribution_within_task") == [1, 1]
    assert max(values(merged, "a", "ari_distribution_within_task")) < 0.4
    tsne = ClusterSettings(cluster_seeds=1, tsne_max_iter=250, perplexity=9)
    assert "ari_distribution_within_task" not in {
        *score(Read({"a": x}, instances=known), tsne, space="tsne")["metric"]
    }


def test_a_frame_is_what_pandas_users_expect_and_back_again() -> None:
    task = np.repeat(np.arange(3), 10)
    x = {name: blobs(task) for name in ("block10", "block2", "ln_f", "embed")}
    scores = score_states(x, task)
    assert list(scores.columns) == SCHEMA.names
    assert list(scores["layer"].cat.categories) == ["embed", "block2", "block10", "ln_f"]
    assert scores["layer"].cat.ordered
    assert scores["layer"].max() == "ln_f", "an order from the input up, not of letters"
    table = as_table(scores)
    assert table.schema.equals(SCHEMA)
    assert as_table(pd.concat([scores, scores])).num_rows == 2 * table.num_rows
    with pytest.raises(InputError, match=r"^scores without the column 'value'"):
        as_table(scores.drop(columns="value"))


def test_final_table_has_the_last_step_above_the_controls() -> None:
    dataset = make_dataset(n_tasks=3, variants_per_task=12, measured_tasks=3, measured_instances=60)
    known = dataset.instances("val_subset")
    states = [
        {"embed": blobs(known.task, spread), "block1": blobs(known.task)} for spread in (99, 1)
    ]
    scores = pd.concat(
        [score(Read(x, "val_subset", step, instances=known)) for step, x in enumerate(states)]
    )
    final = final_table(scores)
    assert list(final.index) == ["embed", "block1", *CONTROLS]
    assert final.loc["embed", "val_subset"] == 1, "of the last step alone"
    control = values(score(Read(states[1], instances=known)), "control:symbols", "ari")
    assert final.loc["control:symbols", "val_subset"] == np.mean(control)


@pytest.mark.parametrize("kind", ["numbers", "strings", "objects"])
def test_arrays_from_anywhere_have_the_scores_of_scikit_learn(kind: str) -> None:
    task = np.repeat(np.arange(4), 25)
    labels = {
        "numbers": 10 * task,
        "strings": np.array(["a", "b", "c", "d"])[task],
        "objects": pd.Series(["a", "b", "c", "d"])[task],
    }[kind]
    x = blobs(task, spread=40).astype(np.float64)
    scores = score_states(x, labels, cluster_seeds=1, seed=5)
    assert set(scores["layer"]) == {"X"}
    assert set(scores["k"]) == {4}
    (ari,) = values(scores, "X", "ari")
    assert 0.05 < ari < 0.95, "neither chance nor a perfect score"
    # The clusters themselves are not in the table: an equal inertia shows that they are equal.
    (inertia,) = values(scores, "X", "inertia")
    fits = [KMeans(4, n_init=20, random_state=seed).fit(x) for seed in range(20)]
    same = [fit for fit in fits if fit.inertia_ == pytest.approx(inertia, rel=1e-6)]
    assert same
    assert ari == pytest.approx(adjusted_rand_score(task, same[0].labels_))
    (ami,) = values(scores, "X", "ami")
    assert ami == pytest.approx(adjusted_mutual_info_score(task, same[0].labels_))
    assert not any("input" in metric for metric in scores["metric"]), "nothing is known of inputs"


@pytest.mark.parametrize(
    ("labels", "k"),
    [
        ([1, 1.0, np.int64(1), 2, 2.0, np.float32(2)], 2),
        ([1, 1, True, True, 2, 2], 3),
        ([*"aabb", "nan", "nan"], 3),
        (np.array([1, 1, 1, 2, 2, 2], dtype=np.float32), 2),
        (pd.Series([*"aabbcc"], dtype="category"), 3),
        (pd.array([1, 1, 1, 2, 2, 2], dtype="Int64"), 2),
        (pd.to_datetime(["2024-01-01"] * 3 + ["2024-01-02"] * 3), 2),
        ([2**60, 2**60, 2**60 + 1, 2**60 + 1, "a", "a"], 3),
    ],
)
def test_k_is_the_number_of_distinct_labels(labels: Any, k: int) -> None:
    scores = score_states(np.arange(12.0).reshape(6, 2), labels, cluster_seeds=1)
    assert set(scores["k"]) == {k}


def test_the_kind_of_sequence_of_labels_decides_nothing() -> None:
    x, labels = np.random.default_rng(0).normal(size=(60, 3)), [n % 12 for n in range(60)]
    first = score_states(x, np.array(labels), cluster_seeds=1)
    for other in (labels, tuple(labels), pd.Series(labels), np.array(labels, dtype=float)):
        pd.testing.assert_frame_equal(first, score_states(x, other, cluster_seeds=1))


def test_wrong_arrays_are_refused_in_one_line() -> None:
    x, labels = np.zeros((6, 2)), [0, 0, 0, 1, 1, 1]
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (x[:5], labels, {}, r"X of shape \(5, 2\) with 6 labels: should be \(N, D\)"),
        (x[:, 0], labels, {}, r"X of shape \(6,\) with 6 labels"),
        ([["a", "b"]] * 6, labels, {}, r"X is no array of numbers"),
        (x, [[0, 1]] * 6, {}, r"labels of shape \(6, 2\): should be \(N,\)"),
        (x, [0, 0, 0, 1, 1, np.nan], {}, "none of them missing"),
        (x, ["a", "a", "a", "b", "b", np.nan], {}, "none of them missing"),
        (x, ["a", "a", "a", "b", "b", None], {}, "none of them missing"),
        (x, pd.Series([0, 0, 0, 1, 1, None]), {}, "none of them missing"),
        (x, pd.Series([*"aaabb", None], dtype="category"), {}, "none of them missing"),
        (x, pd.array([0, 0, 0, 1, 1, None], dtype="Int64"), {}, "none of them missing"),
        (x, np.array(["2024-01-01"] * 5 + ["NaT"], "datetime64[ns]"), {}, "none of them missing"),
        (x, [*"aaabb", " "], {}, "row 5: has no 'labels': 1 of 6 rows lack it"),
        (
            x,
            [1, 1, 1, "1", "1", "1"],
            {},
            r"row 3: 'labels' = '1' is a text, but 1 of row 0 is a n",
        ),
        (x, [*"aaabb", "b "], {}, "row 5: 'labels' = 'b ' looks like 'b' of row 3"),
        (x, [b"a", b"a", b"a", b"b", b"b", b"b"], {}, "row 0: 'labels' is of the type bytes"),
        (x, [[0], [0, 1]] * 3, {}, r"labels are of several lengths: should be \(N,\)"),
        (x, [], {}, r"all labels are equal"),
        (x, [1] * 6, {}, "all labels are equal"),
        (x, labels, {"k": 7}, r"k = 7: should be in 1 \.\. 6, the number of instances"),
        (
            x + np.inf,
            labels,
            {},
            "step 0, X .raw.: the hidden states of 6 of 6 instances are not finite",
        ),
        (
            x,
            labels,
            {"n_inits": 3},
            "ClusterSettings has no field 'n_inits'; the nearest is 'n_ini",
        ),
        (x, labels, {"n_init": 0}, "n_init = 0: should be at least 1"),
        (x, labels, {"space": "pca"}, "space = 'pca': should be one of"),
    ]
    for array, given, options, message in cases:
        with pytest.raises(InputError, match=message) as error:
            score_states(array, given, **options)
        assert "\n" not in str(error.value)
        assert "pydantic" not in str(error.value)


def test_arrays_have_the_band_of_near_best_starts() -> None:
    x, corner = near_square()
    scores = score_states({"near": x, "wide": near_square(1.02)[0]}, corner // 2)
    across = adjusted_rand_score(corner // 2, corner % 2)
    assert values(scores, "near", "ari") == values(scores, "wide", "ari") == [1, 1, 1]
    assert values(scores, "near", "ari_low") == pytest.approx([across])
    assert values(scores, "near", "ari_high") == values(scores, "wide", "ari_low") == [1]


def test_instances_are_numbered_without_gaps_in_what_is_known() -> None:
    """A task of NaN would be one of its own: k would be one too many."""
    one, counts = np.arange(3), np.zeros((3, 1), dtype=np.int64)
    gap = np.array([0, 1, np.nan])
    with pytest.raises(InputError, match="instances of val: should be arrays of integers"):
        Instances("val", gap, one, one, one, counts, one)
