"""Numbers of each unseen split: known values, intervals, and what is left out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from planted import GAPS, HIGH, planted_runs, planted_table
from tasklens.core.parse import parse_json
from tasklens.findings.curves import Curves, curves_of_labels, curves_of_table
from tasklens.findings.unseen_measurements import NUMBERS, unseen_measurements
from tasklens.findings.verdict import judge
from tasklens.findings.verdict_text import verdict_json, verdict_text
from tasklens.scoring.bootstrap import FamilyResampling, Resampling, resampling_weights
from tasklens.scoring.score_table import Row, score_rows, to_table

SEEN, HELD, LAST = "train_subset", "val_subset", "val_instruction_subset"
AUROC = "AUROC of the distance to the own centroid, errors against hits"
SPAN = "share of the state in the span of the known centroids"


def placed_rows(seed: int, split: str, **values: float) -> list[Row]:
    return [
        row
        for step in (0, 1600)
        for layer in ("block5", "block6")
        for row in score_rows(
            {name: value * (layer == "block6") for name, value in values.items()},
            run="planted", seed=seed, step=step, split=split, position="input", layer=layer,
        )
    ]  # fmt: skip


def test_each_split_has_the_numbers_of_the_best_layer() -> None:
    rows = planted_table().to_pylist()
    for seed, area in enumerate((0.7, 0.8, 0.9)):
        rows += placed_rows(seed, HELD, error_auroc=area, errors=20 + seed, span_share=0.5)
    measurements = unseen_measurements(curves_of_table(to_table(rows)))
    known = {(m.split, m.what): m for m in measurements}
    assert {split for split, _ in known} == {HELD, LAST}, "training data are not unseen"
    assert [m.what for m in measurements if m.split == HELD] == [
        what for what in NUMBERS if what != "linear probe in this layer"
    ]
    assert known[HELD, "accuracy"].value == 1
    ari = known[LAST, "ARI of the best layer"]
    assert ari.value == pytest.approx(HIGH - GAPS[LAST], abs=0.01)
    auroc = known[HELD, AUROC]
    assert auroc.value == pytest.approx(0.8)
    assert auroc.each == (0.7, 0.8, 0.9)
    assert 0.7 <= auroc.low < 0.8 < auroc.high <= 0.9
    assert known[HELD, "wrong answers"].each == (20, 21, 22)
    assert (LAST, AUROC) not in known, "a run without the score has none"


def test_runs_without_a_linear_probe_or_a_split_have_fewer_numbers() -> None:
    with_probe = {(m.split, m.what) for m in unseen_measurements(planted_runs())}
    assert (HELD, "linear probe in this layer") in with_probe
    only = curves_of_table(planted_table(splits=(SEEN, HELD)))
    assert {m.split for m in unseen_measurements(only)} == {HELD}


def of_labels(seed: int = 0, families: int = 1) -> tuple[Curves, NDArray[Any], NDArray[np.bool_]]:
    """Return curves of 90 instances in 30 units, distances to their centroids, and hits."""
    rng = np.random.default_rng(seed)
    task, unit = np.repeat(np.arange(3), 30), np.arange(90) // 3
    distance = rng.random(90).astype(np.float32)
    right = rng.random(90) > 0.3 * distance + 0.2
    weights = resampling_weights(np.arange(30) // 10, 200, np.random.default_rng(1))
    rows = [np.flatnonzero(np.arange(90) % families == f) for f in range(families)]
    resampling = FamilyResampling(
        [(each, Resampling(task[each], unit[each], weights)) for each in rows]
    )
    labels = {
        (8, split, layer, "raw"): task[None]
        for split in (SEEN, HELD)
        for layer in ("embed", "block1")
    }
    places = distance, np.full(90, 0.25, np.float32)
    curves = curves_of_labels(
        "r",
        0,
        labels,
        {(8, SEEN): right, (8, HELD): right},
        {},
        dict.fromkeys((SEEN, HELD), resampling),
        placed={(8, HELD, layer): places for layer in ("embed", "block1")},
    )
    return curves, distance, right


def test_copies_of_a_run_resample_its_units() -> None:
    curves, distance, right = of_labels()
    area = curves.placed["error_auroc", HELD, "block1"]
    assert area.shape == (201, 1)
    assert area[0, 0] == pytest.approx(roc_auc_score(~right, distance))
    weight = np.random.default_rng(1).multinomial(10, np.full(10, 0.1), size=200)  # of task 0
    errors = curves.placed["errors", HELD, "block1"][:, 0]
    assert errors[0] == (~right).sum()
    per_unit = (~right).reshape(30, 3).sum(axis=1)
    assert np.std(errors) > 0
    assert errors[1:].max() <= weight.shape[1] * 3 * per_unit.max()
    assert (curves.placed["span_share", HELD, "embed"] == 0.25).all()
    known = {m.what: m for m in unseen_measurements([curves])}
    assert known[AUROC].low < known[AUROC].value < known[AUROC].high
    assert known[SPAN].low == known[SPAN].value == known[SPAN].high == 0.25


def test_the_area_of_families_is_their_mean_and_missing_if_one_has_none() -> None:
    curves, distance, right = of_labels(families=2)
    areas = [roc_auc_score(~right[f::2], distance[f::2]) for f in range(2)]
    assert curves.placed["error_auroc", HELD, "embed"][0, 0] == pytest.approx(np.mean(areas))
    assert curves.placed["errors", HELD, "embed"][0, 0] == (~right).sum() / 2
    none = replace(curves, placed={k: np.full_like(y, np.nan) for k, y in curves.placed.items()})
    assert AUROC not in {m.what for m in unseen_measurements([none])}


def test_verdicts_state_them_and_do_not_judge_them() -> None:
    rows = planted_table().to_pylist()
    for seed in range(3):
        rows += placed_rows(seed, LAST, error_auroc=0.1, errors=3, span_share=0.02)
    plain = judge(curves_of_table(planted_table()))
    verdict = judge(curves_of_table(to_table(rows)))
    assert [(c.rule, c.split, c.verdict) for c in verdict.checks] == [
        (c.rule, c.split, c.verdict) for c in plain.checks
    ]
    text = verdict_text(verdict).splitlines()
    heading = "unseen data by kind, in the best layer of each run (measured, not judged):"
    first = text.index(heading) + 1
    assert text[first].split()[:3] == ["accuracy", HELD, "1.00"]
    assert any(line.split()[-4:-2] == [LAST, "0.10"] for line in text if AUROC in line)
    document = parse_json(verdict_json(verdict).decode())
    assert [(m["split"], m["what"]) for m in document["unseen data"]] == [
        (m.split, m.what) for m in verdict.unseen
    ]
