"""A run with unseen distributions and unseen tasks, beside the same run without them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import tasklens as tl
from e2e.conftest import Finished, assert_same, call, changes, succeed
from e2e.sweeps import sweep, write_sweep
from tasklens.data.synthetic import MEASURED, UNSEEN

UNSEEN_SETTINGS = {"tasks__unseen_distributions": 2, "tasks__unseen_tasks": 4}


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run `tiny` with unseen kinds. Not to be changed."""
    path = tmp_path_factory.mktemp("unseen") / "tiny"
    return Finished(path, succeed("run", "smoke", *changes(**UNSEEN_SETTINGS), "--out", path))


def test_training_and_known_splits_are_those_without_them(tiny: Finished, unseen: Finished) -> None:
    assert_same(tiny.path, unseen.path, "checkpoints", "metrics.jsonl")
    without, run = tl.load_run(tiny.path), tl.load_run(unseen.path)
    assert tuple(without.splits) == tuple(MEASURED)
    assert tuple(run.splits) == (*MEASURED, *UNSEEN)
    for step in run.steps:
        for state in run.state_names:
            for split in MEASURED:
                assert np.array_equal(
                    run.states(state, step, split=split), without.states(state, step, split=split)
                )
        answers = run.answers(step)
        for split, before in without.answers(step).items():
            assert np.array_equal(answers[split], before)
    columns = ["step", "split", "position", "layer", "space", "k", "cluster_seed", "metric"]
    scores, before = (
        each.scores().set_index(columns)["value"].sort_index() for each in (run, without)
    )
    kept = scores[~scores.index.get_level_values("split").str.startswith("unseen")]
    assert kept.equals(before)


def test_the_scores_of_unseen_kinds_are_those_that_have_a_meaning(unseen: Finished) -> None:
    run = tl.load_run(unseen.path)
    scores = run.scores()
    metrics = scores.groupby("split")["metric"].unique().map(set)
    distribution, task = (metrics[split] for split in UNSEEN)
    assert {"ari", "ari_input", "variance_task", "silhouette"} <= distribution & task
    needs_answers = {"accuracy", "ari_output", "variance_output"}
    needs_known_tasks = {"probe_task", "centroid_task", "neighbours_task"}
    assert needs_answers | needs_known_tasks <= distribution
    assert not (needs_answers | needs_known_tasks) & task
    assert metrics["unseen_distribution"] == {"accuracy"}, "of all instances, at the last step"
    assert "unseen_task" not in metrics.index
    assert {"ari_distribution", "variance_distribution"} <= distribution, "two for each task"
    assert "ari_distribution" not in metrics["train_subset"], "one for each task"
    k = scores[scores["metric"] == "silhouette"].groupby("split")["k"].unique().map(set)
    assert k["unseen_task_subset"] == {3}
    clusters = run.clusters(run.steps[-1])
    assert "unseen_task_subset/correct" not in clusters
    assert len(clusters["unseen_task_subset/answer"]) == 10
    assert {run.names["task"][i] for i in run.instances("unseen_task_subset").task} <= {
        f"unseen{i}" for i in range(4)
    }


def test_every_command_takes_such_a_run(unseen: Finished, tiny: Finished, tmp_path: Path) -> None:
    path = shutil.copytree(unseen.path, tmp_path / "tiny")
    verified = call("verify", path, "--out", tmp_path / "verdict.json")
    assert (verified.status, verified.err) == (1, ""), "findings do not hold"
    succeed("report", path, "--out", tmp_path / "report.html")
    succeed("intervene", path, "--edit", "shift")
    assert "unseen_task_subset" in succeed("show", path).out
    assert "unseen3" in succeed("follow", path, "--split", "unseen tasks").out
    succeed("compare", path, tiny.path)
    succeed("export", path, "--out", tmp_path / "points.parquet")
    points = pq.read_table(tmp_path / "points.parquet").to_pandas().set_index("split")
    assert points.loc["unseen_task_subset", "output"].isna().all()
    assert points.loc["unseen_task_subset", "correct"].isna().all()
    assert (points["distribution"].str.partition("/")[0] == points["label"]).all()


def test_a_sweep_over_unseen_kinds(tmp_path: Path) -> None:
    axes = '[grid]\n"tasks.unseen_distributions" = [1]\n'
    file = write_sweep(tmp_path, axes, "[0]", tasks__unseen_tasks=4)
    assert sweep(file, tmp_path / "out").status == 0
    points = pq.read_table(tmp_path / "out/points.parquet").to_pandas()
    assert {*MEASURED, *UNSEEN} <= set(points["split"])


def test_a_plan_counts_the_measured_subsets(tmp_path: Path) -> None:
    without, more = (
        json.loads(succeed("run", "smoke", *changes(**each), "--dry-run", "--json").out)["bytes"]
        for each in ({}, UNSEEN_SETTINGS)
    )
    for kind in ("states", "clusters", "report"):
        assert 3 * more[kind] == 5 * without[kind], "five measured subsets instead of three"
    # 12 instructions of 4 inputs per task; as many of each unseen distribution; 5 inputs
    assert more["data"] * (4 * 12 * 4) == without["data"] * (4 * 36 * 4 + 4 * 12 * 5)
