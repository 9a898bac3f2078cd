import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score

from planted import planted_instances
from tasklens.clustering import tsne
from tasklens.clustering.cluster import ClusterSettings
from tasklens.core.seeds import stream
from tasklens.runs.measure_state import StateJob, measure_state
from tasklens.scoring.centroid_scores import Answered
from tasklens.scoring.residuals import regressors_of
from tasklens.scoring.score_cells import MeasureSettings
from tasklens.scoring.score_table import SCHEMA, Row

Floats = NDArray[np.float32]

QUICK = ClusterSettings(n_init=3, cluster_seeds=2, tsne_max_iter=250, perplexity=8)
SIZES = {"kept": 90, "held_out_input": 60}
LABELS = 3


# -- measure_state --------------------------------------------------------------------------------


def task_of(n: int) -> NDArray[np.int64]:
    return np.arange(n) % LABELS


def planted(spread: float = 1.0) -> Floats:
    """Return the states of all splits, one after another, with one centre per label."""
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
) -> StateJob:
    np.save(directory / "block2.npy", x)
    ends = np.cumsum([0, *sizes.values()]).tolist()
    return StateJob(
        states=directory,
        state="block2",
        run="mine",
        seed=4,
        step=70,
        position="last",
        paired=False,
        is_first=True,
        silhouettes=True,
        splits={split: slice(ends[i], ends[i + 1]) for i, split in enumerate(sizes)},
        instances={split: planted_instances(task_of(n), split) for split, n in sizes.items()},
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


@pytest.mark.parametrize(("distance", "merged"), [(8.0, False), (0.0, True)])
def test_clusters_of_distributions_before_and_after_they_merge(
    tmp_path: Path, distance: float, merged: bool
) -> None:
    """Each of 3 tasks has 2 distributions, which are clusters of their own, or one together."""
    random = stream(0, "distributions")
    n = sum(SIZES.values())
    task = np.concatenate([task_of(size) for size in SIZES.values()])
    distribution = 2 * task + random.integers(2, size=n)
    x = 60 * np.eye(10)[task] + random.normal(size=(n, 10))
    x += distance * np.eye(10)[3 + distribution]
    one = job(tmp_path, x.astype(np.float32), k=(3, 6))
    known = {
        split: replace(one.instances[split], distribution=distribution[rows])
        for split, rows in one.splits.items()
    }
    rows, _, failed = measure_state(replace(one, instances=known))
    assert not failed
    for split in SIZES:
        of_tasks, of_distributions = (
            {
                metric: np.mean(values(rows, metric, split=split, k=k))
                for metric in ("ari", "ari_distribution")
            }
            for k in (3, 6)
        )
        within = values(rows, "ari_distribution_within_task", split=split)
        assert len(within) == QUICK.cluster_seeds
        assert of_tasks["ari"] == 1
        if merged:
            assert np.abs(within).max() < 0.2
            assert of_distributions["ari_distribution"] < 0.6
        else:
            assert within == [1, 1]
            assert of_distributions["ari_distribution"] == 1
            # Six clusters split each task; three join the distributions of each.
            assert max(of_distributions["ari"], of_tasks["ari_distribution"]) < 0.8
        variance = values(rows, "variance_distribution", split=split, k=3)
        assert variance[0] > values(rows, "variance_task", split=split, k=3)[0]


def placed(splits: Iterable[str] = SIZES) -> set[str]:
    """Return the names of the arrays of places among the centroids."""
    kinds = ("distance", "nearest", "span")
    return {f"{split}/block2/raw/{kind}" for split in splits for kind in kinds}


def test_planted_clusters_are_found_in_every_split(tmp_path: Path) -> None:
    rows, arrays, _ = measure_state(job(tmp_path, planted()))
    kinds = ("labels", "extremes")
    _, unseen = SIZES
    every = {f"{split}/block2/raw/{kind}" for split in SIZES for kind in kinds}
    assert set(arrays) == {*every, f"{unseen}/block2/raw/decoded", *placed()}
    for split, n in SIZES.items():
        labels = arrays[f"{split}/block2/raw/labels"]
        assert labels.shape == (2, n)
        assert [adjusted_rand_score(task_of(n), row_labels) for row_labels in labels] == [1, 1]
        assert values(rows, "ari", split=split) == pytest.approx([1, 1])
        assert values(rows, "variance_task", split=split) == pytest.approx([1], abs=0.05)
    for row in rows:
        assert set(row) == set(SCHEMA.names)
        assert (row["run"], row["seed"], row["step"], row["layer"]) == ("mine", 4, 70, "block2")
        assert (row["space"], row["position"]) == ("raw", "last"), "also of the classifiers"
    assert not [row for row in rows if "output" in str(row["metric"])], "no output is known"
    again, same, _ = measure_state(job(tmp_path, planted()))
    assert again == rows
    assert all(np.array_equal(same[name], array) for name, array in arrays.items())


def test_states_without_clusters_give_none(tmp_path: Path) -> None:
    random = stream(0, "noise")
    x = random.normal(size=(150, 6)).astype(np.float32)
    rows, _, _ = measure_state(job(tmp_path, x))
    for split in SIZES:
        assert np.abs(values(rows, "ari", split=split)).max() < 0.1
        assert max(values(rows, "silhouette", split=split)) < 0.3


def test_the_silhouette_is_scikit_learns(tmp_path: Path) -> None:
    x = planted(spread=12.0)
    asked = job(tmp_path, x, k=(3, 5))
    rows, arrays, _ = measure_state(asked)
    seen = set()
    for split, rows_of_split in asked.splits.items():
        for k, name in ((3, "labels"), (5, "k=5/labels")):
            labels = arrays[f"{split}/block2/raw/{name}"]
            expected = [silhouette_score(x[rows_of_split], row_labels) for row_labels in labels]
            scores = [values(rows, "silhouette", split=split, k=k, cluster_seed=s) for s in (0, 1)]
            assert [len(values_) for values_ in scores] == [1, 1]
            np.testing.assert_allclose(np.concatenate(scores), expected, atol=1e-6)
            seen |= {round(float(value), 3) for value in expected}
    assert len(seen) > 3, "scores that differ"
    assert min(seen) > 0
    assert max(seen) < 0.9


def test_equal_states_have_no_silhouette(tmp_path: Path) -> None:
    rows, arrays, _ = measure_state(job(tmp_path, np.ones((150, 4), dtype=np.float32)))
    assert values(rows, "silhouette") == []
    assert (arrays["kept/block2/raw/labels"] == 0).all()
    assert values(rows, "ari", split="kept") == [0, 0]


def test_each_number_of_clusters_is_measured_and_the_first_in_the_plane(tmp_path: Path) -> None:
    rows, arrays, _ = measure_state(job(tmp_path, planted(), spaces=("raw", "tsne"), k=(4, 3, 6)))
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
            expected |= {f"{split}/block2/{name}".replace("labels", "extremes")}
            assert [len(np.unique(row_labels)) for row_labels in labels] == [clusters] * 2
            k = {"split": split, "k": clusters, "space": name.partition("/")[0]}
            ari = [adjusted_rand_score(task_of(n), row_labels) for row_labels in labels]
            assert values(rows, "ari", **k) == pytest.approx(ari)
            assert max(ari) < 1 or clusters == 3
        assert arrays[f"{split}/block2/tsne/embedding"].shape == (n, 2)
        assert values(rows, "ari", split=split, k=3) == pytest.approx([1, 1])
    assert set(arrays) == {*expected, f"{[*SIZES][1]}/block2/raw/decoded", *placed()}


def test_the_distance_tells_errors_in_each_family(tmp_path: Path) -> None:
    n = SIZES["held_out_input"]
    x = planted()
    far = np.arange(n) % 4 == 0
    x[-n:][far] += 9
    asked = job(tmp_path, x)
    known = {
        split: replace(
            each, family=np.arange(len(each.task)) // LABELS % 2, family_names=("one", "two")
        )
        for split, each in asked.instances.items()
    }
    answered = {"held_out_input": Answered(task_of(n), np.where(far, 0, 1))}
    outputs = np.arange(LABELS)[None]  # a task answers its own number
    asked = replace(asked, instances=known, answered=answered, outputs=outputs)
    rows, arrays, failed = measure_state(asked)
    assert not failed
    assert placed() < set(arrays)
    assert values(rows, "error_auroc") == [1, 1, 1]
    of_family = [values(rows, "errors", family=name)[0] for name in ("one", "two")]
    assert sum(of_family) == far.sum()
    assert values(rows, "errors", family="") == [np.mean(of_family)]
    distance = arrays["held_out_input/block2/raw/distance"]
    assert distance[far].min() > distance[~far].max()
    near = arrays["kept/block2/raw/nearest"] == task_of(SIZES["kept"])
    assert near.all()
    assert values(rows, "answer_of_nearest", family="")[0] > 0.9


def test_without_a_number_there_are_as_many_clusters_as_labels(tmp_path: Path) -> None:
    rows, _, _ = measure_state(job(tmp_path, planted()))
    assert {row["k"] for row in rows if row["metric"] == "ari"} == {LABELS}


def test_labels_are_learned_on_the_first_split_and_predicted_on_the_others(tmp_path: Path) -> None:
    x = planted()
    rows, _, _ = measure_state(job(tmp_path, x))
    for metric in ("probe_task", "neighbours_task"):
        assert values(rows, metric) == values(rows, metric, split="held_out_input") == [1]
    alone = {"all": len(x)}
    rows, _, _ = measure_state(job(tmp_path, x, alone))
    assert {row["split"] for row in rows} == {"all"}
    assert values(rows, "ari") == pytest.approx([1, 1])
    assert values(rows, "probe_task") == values(rows, "neighbours_task") == []
    moved = x.copy()
    moved[90:] += 1000  # another split, elsewhere
    for center, right in ((False, False), (True, True)):
        rows, _, _ = measure_state(job(tmp_path, moved, center=center))
        (score,) = values(rows, "neighbours_task")
        assert (score == 1) == right, "each split is centred at its own mean"


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


def with_forms(asked: StateJob, family: NDArray[np.int64] | None = None) -> StateJob:
    """Return the job with a column ``form`` that is crossed with the label, and with families."""
    instances = {}
    for split, known in asked.instances.items():
        n = len(known.task)
        form = np.array(["arrow", "colon"])[np.arange(n) // LABELS % 2]
        own = None if family is None else family[:n]
        names = () if family is None else ("nouns", "verbs")
        instances[split] = replace(known, crossed={"form": form}, family=own, family_names=names)
    return replace(asked, instances=instances)


def test_a_column_is_taken_out_before_the_states_are_clustered(tmp_path: Path) -> None:
    n = sum(SIZES.values())
    form = np.concatenate([np.arange(n) // LABELS % 2 for n in SIZES.values()])
    x = planted() + 1000 * form[:, None].astype(np.float32)
    asked = with_forms(job(tmp_path, x, cross=("form",)))
    rows, _, _ = measure_state(asked)
    assert values(rows, "ari_of_form", split="kept")[0] > 0.5
    assert max(values(rows, "ari", split="kept")) < 0.5
    task = np.concatenate([task_of(n) for n in SIZES.values()])
    regressors = regressors_of({"form": [str(i) for i in form]}, asked.splits, task)
    rows, _, _ = measure_state(replace(asked, regressors=regressors))
    for split in SIZES:
        assert values(rows, "ari", split=split) == [1, 1]
        assert values(rows, "ari_within_form", split=split) == [1, 1]
    assert len(regressors[0].rows) == n


def test_a_column_is_crossed_within_each_family(tmp_path: Path) -> None:
    # The two families lie apart. The labels of the first cluster, those of the second do not.
    family = np.arange(90) // (2 * LABELS) % 2
    of_all = np.concatenate([family[:n] for n in SIZES.values()])
    noise = stream(0, "second family").normal(size=(len(of_all), 6))
    x = np.where(of_all[:, None] == 0, planted(), 500 + noise).astype(np.float32)
    rows, _, _ = measure_state(with_forms(job(tmp_path, x, cross=("form",)), family))
    for metric in ("ari_within_form", "probe_across_form=colon", "probe_within_form"):
        first, second, mean = (
            np.mean(values(rows, metric, split="held_out_input", family=name))
            for name in ("nouns", "verbs", "")
        )
        assert first == 1
        assert second < 0.7
        assert mean == pytest.approx((first + second) / 2)


def test_a_cell_that_fails_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tsne.tsne

    def too_few(x: NDArray[np.float32], **keys: Any) -> NDArray[np.float32]:
        if len(x) == 60:
            raise ValueError("too few")
        return real(x, **keys)

    asked = job(tmp_path, planted(), spaces=("raw", "tsne"))
    monkeypatch.setattr(tsne, "tsne", too_few)
    rows, arrays, failed = measure_state(asked)
    assert list(failed) == ["step 70, held_out_input, block2 (tsne)"], "60 prompts there"
    assert "too few" in failed["step 70, held_out_input, block2 (tsne)"]
    monkeypatch.undo()
    expected, every, none = measure_state(asked)
    assert none == {}
    assert set(every) - set(arrays) == {
        f"held_out_input/block2/tsne/{kind}" for kind in ("labels", "extremes", "embedding")
    }
    raw = [row for row in expected if row["space"] == "raw"]
    assert [row for row in rows if row["space"] == "raw"] == raw


def test_the_extremes_are_partitions_with_the_lowest_and_the_highest_ari(tmp_path: Path) -> None:
    rows, arrays, _ = measure_state(job(tmp_path, planted(spread=12.0), spaces=("raw", "tsne")))
    bands = []
    for (split, n), space in itertools.product(SIZES.items(), ("raw", "tsne")):
        ends = arrays[f"{split}/block2/{space}/extremes"]
        assert ends.shape == (2, n)
        assert ends.dtype == np.int16
        scores = [adjusted_rand_score(task_of(n), labels) for labels in ends]
        band = [values(rows, m, split=split, space=space)[0] for m in ("ari_low", "ari_high")]
        assert scores == pytest.approx(band)
        bands.append(band)
    assert any(low < high for low, high in bands)
