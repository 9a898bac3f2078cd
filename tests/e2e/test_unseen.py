"""A run with unseen distributions and unseen tasks: edits, verdict, view and figures know them."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tasklens as tl
from e2e.conftest import Command, Finished, changes, succeed
from tasklens.data.instances import JUDGED, SPLIT_MEANINGS, UNSEEN_KINDS
from tasklens.findings.verdict_text import verdict_text
from tasklens.interventions.cell import EditKey
from tasklens.interventions.settings import FIGURE, NEEDED
from tasklens.runs.kept_edits import edited_steps, read_edits
from tasklens.runs.training_run import TrainingRun

DISTRIBUTION, TASK = UNSEEN_KINDS


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run with all five splits. Not to be changed."""
    path = tmp_path_factory.mktemp("unseen") / "five"
    more = changes(
        tasks__unseen_distributions=2,
        tasks__unseen_tasks=2,
        train__steps=4,
        train__warmup_steps=1,
        interventions__checkpoints=2,
        interventions__test_draws=20,
    )
    return Finished(path, succeed("run", "smoke", *more, "--out", path))


@pytest.fixture
def run(five: Finished) -> TrainingRun:
    loaded = tl.load_run(five.path)
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
    assert len(set(names)) == len(names) == 3 + 2
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


def test_splits_have_names_in_words(run: TrainingRun, command: Command) -> None:
    for name in ("unseen tasks", "unseen distributions"):
        result = command("follow", run.directory.path, "--layer", "block1", "--split", name)
        assert result.status == 0, result.err
    page = (run.directory.path / "report.html").read_text()
    assert all(f'"meaning":"{meaning}"' in page for meaning in SPLIT_MEANINGS.values())
