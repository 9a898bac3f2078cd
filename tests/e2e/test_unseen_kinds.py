"""A run with unseen distributions and unseen tasks, beside the same run without them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

import tasklens as tl
from e2e.conftest import Finished, assert_same, call, changes, succeed
from e2e.sweeps import sweep, write_sweep
from tasklens.data.dataset import MEASURED, UNSEEN
from tasklens.data.instances import JUDGED, SPLIT_MEANINGS, UNSEEN_KINDS
from tasklens.findings.verdict_text import verdict_text
from tasklens.interventions.cell import EditKey
from tasklens.interventions.settings import FIGURE, NEEDED
from tasklens.runs.kept_edits import edited_steps, read_edits
from tasklens.runs.training_run import TrainingRun

pytestmark = pytest.mark.long

DISTRIBUTION, TASK = UNSEEN_KINDS
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
    sizes = run.view().world.sizes
    known = {"tasks": 4, "tasks measured": 3, "unseen tasks": 4, "unseen tasks measured": 3}
    assert {name: sizes[name] for name in known} == known
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
    assert 2 * more["interventions"] == 4 * without["interventions"], "all but the first"


# --- Edits, verdict, view and figures ---


@pytest.fixture
def run(unseen: Finished) -> TrainingRun:
    loaded = tl.load_run(unseen.path)
    assert isinstance(loaded, TrainingRun)
    return loaded


def test_both_kinds_are_edited_and_only_known_tasks_are_repaired(run: TrainingRun) -> None:
    assert tuple(run.splits) == tuple(SPLIT_MEANINGS)
    *before, last = edited_steps(run)
    for step, edits in ((before[0], FIGURE), (last, set(NEEDED) - {"repair"})):
        keys = [parsed[0] for name in read_edits(run, step) if (parsed := EditKey.parse(name))]
        for split in UNSEEN_KINDS:
            assert {key.edit for key in keys if key.split == split} == set(edits)
    arrays = read_edits(run, last)
    repaired = {name.split("/")[0] for name in arrays if name.startswith("repair:")}
    assert repaired == {f"repair:{split}" for split in (*JUDGED[1:], DISTRIBUTION)}
    assert (arrays[f"{TASK}/input/own"] == -1).all()
    assert (arrays[f"{DISTRIBUTION}/input/own"] >= 0).all()


def test_a_shift_goes_from_the_centroid_of_the_unseen_task(run: TrainingRun) -> None:
    def mine(states: Any, task: Any, target: Any) -> Any:
        moved = [centroid[b] - centroid[a] for a, b in zip(task, target, strict=True)]
        return (states + np.array(moved)).astype(np.float32)

    step = run.steps[-1]
    centroid = {
        task: run.states("block1", step, split)[known.task == task].mean(axis=0, dtype=float)
        for split, known in run.instances_by_split.items()
        if split in ("train_subset", TASK)
        for task in np.unique(known.task)
    }
    effects = tl.intervene(
        run, steps=run.steps[-1], states="block1", edits=["shift", "random"], own={"mine": mine}
    )
    rows = effects[(effects["split"] == TASK) & (effects["metric"] == "becomes")]
    values = {
        edit: rows[rows["edit"] == edit].set_index("target")["value"] for edit in ("shift", "mine")
    }
    assert len(values["shift"]) > 2
    assert_allclose(values["mine"], values["shift"])
    assert not effects[effects["split"] == TASK]["metric"].str.startswith("logit").any()
    model = tl.load_checkpoint(run.directory.checkpoint(run.steps[-1]))
    alone = tl.intervene(
        model, run.dataset, states="block1", edits=["shift"], seed=run.settings.seed
    )
    rows = alone[(alone["split"] == TASK) & (alone["metric"] == "becomes")]
    assert_allclose(rows[rows["edit"] == "shift"].set_index("target")["value"], values["shift"])


def test_no_finding_is_judged_on_them_and_verify_states_it(run: TrainingRun) -> None:
    verdict = run.verdict()
    assert verdict.unjudged == UNSEEN_KINDS
    assert {check.split for check in verdict.checks} <= set(JUDGED)
    assert [edited.split for edited in verdict.use.edited] == [*JUDGED[1:], *UNSEEN_KINDS]
    out = verdict_text(verdict)
    assert f"{DISTRIBUTION}, {TASK}: measured, not judged: nothing tells a model" in out
    assert "answers that follow a shift" in out


def test_the_view_names_unseen_tasks_apart_and_figures_show_each_split(run: TrainingRun) -> None:
    view = run.view()
    names = view.names["task"]
    assert len(set(names)) == len(names) == 3 + 3
    for split, points in view.splits.items():
        shown = {names[task] for task in points.parts["task"]}
        assert all(name.startswith("unseen") == (split == TASK) for name in shown)
        assert ("output" in points.parts) == (split != TASK)
        assert "distribution" in points.parts
    of_task = {name.split("/")[0] for name in view.names["distribution"]}
    assert of_task == set(names)
    for split in UNSEEN_KINDS:
        tl.figure_map(view, "block1", split=split, color="distribution")
        tl.figure_use(view, split)
        tl.figure3(run.curves(), split)
    tl.figure_by_layer(run.curves())
    world = view.world
    assert world.same_output is not None
    assert np.isnan(world.same_output[3:]).all()
    assert np.isfinite(world.same_output[:3, :3]).all()
    assert_allclose(np.diag(world.same_symbols), 1)


def test_the_page_names_what_the_splits_are(unseen: Finished) -> None:
    page = (unseen.path / "report.html").read_text()
    assert all(f'"meaning":"{meaning}"' in page for meaning in SPLIT_MEANINGS.values())
