"""Families are clustered, classified and resampled one by one; a score is the mean over them."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planted import planted_instances
from tasklens.clustering.cluster import ClusterSettings
from tasklens.core.seeds import stream
from tasklens.data.instances import Instances, join_families
from tasklens.runs.measure_state import Measured, StateJob, measure_state
from tasklens.scoring.bootstrap import FamilyResampling, Resampling, resampling_weights
from tasklens.scoring.families import over_families
from tasklens.scoring.final_scores import family_table, final_table, scores_text
from tasklens.scoring.score_cells import MeasureSettings, prepared, score_controls
from tasklens.scoring.score_table import (
    CONTROLS,
    Row,
    families_of,
    main_scores,
    of_family,
    score_rows,
    to_table,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

QUICK = ClusterSettings(n_init=3, cluster_seeds=2, tsne_max_iter=250, perplexity=8)
N, LABELS, NAMES = 60, 3, ("letters", "verbs")
#: The families alternate, so that no family is a block of rows; the tasks of the second are 3 to 5.
FAMILY = np.arange(N) % 2
TASK = np.arange(N) // 2 % LABELS + LABELS * FAMILY


def of_two(split: str = "kept", **known: Any) -> Instances:
    """Return instances of two families."""
    usual = {"input": np.arange(N) // 2 % 5, "family": FAMILY, "family_names": NAMES}
    return planted_instances(TASK, split, **{**usual, **known})


def planted(spread: float, offset: float, seed: int = 0) -> Floats:
    """Return states, (N, D), around a centre per task and an offset per family."""
    random = stream(seed, "families")
    centres = random.normal(size=(2 * LABELS, 6))
    x = centres[TASK] + spread * random.normal(size=(N, 6))
    moved: Floats = (x + offset * FAMILY[:, None]).astype(np.float32)
    return moved


def measured(x: Floats, instances: dict[str, Instances], **measure: Any) -> Measured:
    ends = np.cumsum([0, *(len(known.task) for known in instances.values())]).tolist()
    return measure_state(
        StateJob(
            states=x,
            state="block2",
            run="r",
            seed=4,
            step=70,
            position="last",
            is_first=True,
            paired=False,
            silhouettes=True,
            splits={split: slice(*ends[i : i + 2]) for i, split in enumerate(instances)},
            instances=instances,
            spaces=("raw", "tsne"),
            measure=MeasureSettings(**measure),
            clusters=QUICK,
        )
    )


def mean(rows: list[Row], metric: str, **wanted: object) -> float:
    wanted = {"family": "", "space": "raw", **wanted}
    chosen = [
        float(row["value"] or 0)
        for row in rows
        if row["metric"] == metric and all(row[name] == value for name, value in wanted.items())
    ]
    assert chosen
    return float(np.mean(chosen))


def test_an_offset_between_families_is_no_cluster_of_tasks() -> None:
    x = stream(0, "noise").normal(size=(N, 6)) + 50.0 * FAMILY[:, None]
    together = of_two(family=None, family_names=())
    rows, _, failed = measured(x.astype(np.float32), {"kept": of_two()})
    joint = measured(x.astype(np.float32), {"kept": together}).rows
    assert not failed
    assert mean(joint, "ari") > 0.2, "the family gives away half of the task"
    assert mean(joint, "variance_task") > 0.9
    assert abs(mean(rows, "ari")) < 0.08
    assert mean(rows, "variance_task") < 0.2


def test_clusters_within_families_are_found_at_any_offset() -> None:
    for offset in (0.0, 50.0):
        rows, arrays, _ = measured(planted(0.001, offset), {"kept": of_two()})
        for family in ("", *NAMES):
            assert mean(rows, "ari", family=family) == 1
        labels = arrays["kept/block2/raw/labels"]
        for seed in labels:
            clusters = [set(seed[family == FAMILY].tolist()) for family in (0, 1)]
            assert [len(each) for each in clusters] == [LABELS, LABELS]
            assert not clusters[0] & clusters[1], "two families share no cluster"
            for task in range(2 * LABELS):
                assert len(set(seed[task == TASK].tolist())) == 1
        assert arrays["kept/block2/tsne/embedding"].shape == (N, 2)
        assert arrays["kept/block2/raw/extremes"].shape == (2, N)


def test_a_family_scores_as_if_it_were_alone_and_the_mean_is_theirs() -> None:
    x = np.concatenate([planted(1.0, 3.0), planted(1.0, 3.0, seed=1)])
    splits = {"kept": of_two("kept"), "unseen": of_two("unseen")}
    rows, arrays, failed = measured(x, splits, standardize=True)
    assert not failed
    alone: dict[str, list[Row]] = {}
    for number, name in enumerate(NAMES):
        inside = number == FAMILY
        only = {
            split: planted_instances(TASK[inside], split, input=known.input[inside])
            for split, known in splits.items()
        }
        each, of_family, _ = measured(x[np.tile(inside, 2)], only, standardize=True)
        alone[name] = each
        assert [row for row in rows if row["family"] == name] == [
            row | {"family": name} for row in each
        ]
        for kind in ("raw/decoded", "tsne/embedding"):
            whole, part = (a[f"unseen/block2/{kind}"] for a in (arrays, of_family))
            assert np.array_equal(whole[inside], part)
    means = [row for row in rows if row["family"] == ""]
    assert {row["metric"] for row in means} >= {"ari", "ari_low", "probe_task", "silhouette"}
    by_cell = defaultdict[tuple[Any, ...], list[Any]](list)
    for row in [*alone["letters"], *alone["verbs"]]:
        by_cell[tuple(value for name, value in row.items() if name != "value")].append(row["value"])
    for row in means:
        cell = by_cell[tuple(value for name, value in row.items() if name != "value")]
        assert len(cell) == 2
        assert row["value"] == np.mean(cell)
    assert len(means) == len(by_cell)


def test_an_only_family_changes_no_bit() -> None:
    x = planted(1.0, 0.0)
    plain = of_two(family=None, family_names=())
    named = of_two(family=np.zeros_like(FAMILY), family_names=("all",))
    rows, arrays, _ = measured(x, {"kept": plain})
    again, same, _ = measured(x, {"kept": named})
    assert {row["family"] for row in rows} == {""}
    assert rows == [row for row in again if not row["family"]]
    assert arrays.keys() == same.keys()
    assert all(
        np.array_equal(arrays[name], same[name]) and arrays[name].dtype == same[name].dtype
        for name in arrays
    )


def test_the_order_of_prompts_changes_no_mean_beyond_rounding() -> None:
    x = planted(0.3, 2.0)
    order = np.argsort(FAMILY, kind="stable")[::-1]
    known = of_two()
    turned = planted_instances(
        TASK[order],
        "kept",
        input=known.input[order],
        family=1 - FAMILY[order],
        family_names=NAMES[::-1],
    )
    rows, again = (
        measured(x[o], {"kept": k}).rows for o, k in ((range(N), known), (order, turned))
    )
    for metric in ("ari", "variance_task", "separation"):
        assert mean(rows, metric) == pytest.approx(mean(again, metric), rel=1e-5)


def test_controls_are_those_within_families() -> None:
    # The length gives away the family, and in one family the task.
    length = 10 * FAMILY + np.where(FAMILY == 1, TASK, 0)
    known = of_two(length=length, symbol_counts=length[:, None])
    rows = score_controls(known, None, "r", 0, QUICK)
    joint = score_controls(of_two(family=None, length=length), None, "r", 0, QUICK)
    scores = {f: mean(rows, "ari", layer="control:length", family=f) for f in ("", *NAMES)}
    assert scores == {"": 0.5, "letters": 0.0, "verbs": 1.0}
    assert mean(joint, "ari", layer="control:length") > 0.54, "it gains by telling families apart"
    assert mean(rows, "ari", layer="control:input") == pytest.approx(
        np.mean([mean(rows, "ari", layer="control:input", family=f) for f in NAMES])
    )
    assert {row["k"] for row in rows if row["layer"] in CONTROLS[:2]} == {LABELS}


def test_each_family_is_prepared_for_itself() -> None:
    known = of_two()
    x = prepared(planted(1.0, 50.0), MeasureSettings(standardize=True), known.families)
    for family in (0, 1):
        np.testing.assert_allclose(x[family == FAMILY].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(x[family == FAMILY].std(axis=0), 1, atol=1e-5)


def test_resampled_scores_are_means_of_those_of_families() -> None:
    random = stream(0, "resampled")
    unit = np.arange(N) % 20
    weights = resampling_weights(np.arange(20) % 2, 6, random)
    labels, right = random.integers(4, size=N), random.random(N) < 0.5
    families = of_two().families
    each = [Resampling(f.instances.task, unit[f.rows], weights) for f in families]
    both = FamilyResampling([(f.rows, r) for f, r in zip(families, each, strict=True)])
    inside = [(r, f.rows) for f, r in zip(families, each, strict=True)]
    expected = np.mean([r.ari(labels[rows]) for r, rows in inside], axis=0)
    np.testing.assert_array_equal(both.ari(labels), expected)
    expected = np.mean([r.mean(right[rows]) for r, rows in inside], axis=0)
    np.testing.assert_array_equal(both.mean(right), expected)
    whole = Resampling(TASK, unit, weights)
    one = FamilyResampling([(slice(None), whole)])
    np.testing.assert_array_equal(one.ari(labels), whole.ari(labels))
    assert not np.allclose(whole.ari(labels), both.ari(labels))


def row(family: str, ari: float, k: int = 3, **columns: Any) -> Row:
    usual: dict[str, Any] = {"run": "r", "seed": 0, "step": 1, "split": "kept"}
    usual |= {"position": "last", "layer": "block1", "cluster_seed": 0, "k": k}
    return score_rows({"ari": ari}, **{**usual, **columns}, family=family)[0]


def test_a_mean_needs_each_family_and_has_a_common_k() -> None:
    rows = over_families({"a": [row("", 0.2), row("", 0.5, layer="block2")], "b": [row("", 0.6)]})
    means = {(r["layer"], r["family"]): r["value"] for r in rows}
    assert means == {
        ("block1", ""): 0.4,
        ("block1", "a"): 0.2,
        ("block2", "a"): 0.5,
        ("block1", "b"): 0.6,
    }
    assert [r["k"] for r in over_families({"a": [row("", 1)], "b": [row("", 1, k=4)]})] == [
        None,
        3,
        4,
    ]
    assert over_families({"": [row("", 1)]}) == [row("", 1)]


def test_readers_of_a_table_take_the_mean_and_name_the_families() -> None:
    table = to_table(over_families({"a": [row("", 0.2)], "b": [row("", 0.6, k=4)]}))
    assert families_of(table) == ["a", "b"]
    assert main_scores(table).num_rows == of_family(table).num_rows == 1
    assert main_scores(table, "b")["value"].to_pylist() == [0.6]
    assert final_table(table).at["block1", "kept"] == 0.4
    assert final_table(of_family(table).drop_columns(["family"])).at["block1", "kept"] == 0.4
    text = scores_text(table)
    assert "block1  raw     0.40" in text
    assert "kept, ARI within each family:\nlayer   a      b\nblock1   0.20   0.60\n" in text
    assert family_table(of_family(table)) == ""


def test_arrays_of_families_are_joined_in_the_order_of_rows() -> None:
    x = np.arange(2 * N).reshape(2, N)
    parts = [(family, x[:, family.rows]) for family in of_two().families]
    assert np.array_equal(join_families(parts, axis=1), x)
