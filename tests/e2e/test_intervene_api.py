"""`tasklens.intervene` from Python: edits of the user, runs, and models without a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import tasklens as tl
from tasklens.scoring.centroids import fit_centroids


def of_edit(effects: pd.DataFrame, edit: str, metric: str = "logit_change") -> pd.Series:
    """Return the values of an edit by split and target, without those of single draws."""
    rows = effects[
        (effects["edit"] == edit) & (effects["metric"] == metric) & effects["draw"].isna()
    ]
    rows = rows.assign(state=rows["state"].astype(str))
    return rows.set_index(["split", "state", "target"])["value"].sort_index()


def last(run: tl.Run) -> dict[str, Any]:
    return {"steps": run.steps[-1], "states": "block1", "edits": ["shift", "patch", "random"]}


def test_an_edit_of_the_user_that_shifts_is_the_built_in_one(copy: Path) -> None:
    run = tl.load_run(copy)
    step = run.steps[-1]
    fit = run.states("block1", step, "train_subset"), run.instances("train_subset").task
    centroids = fit_centroids(*fit)

    def mine(states: Any, task: Any, target: Any) -> Any:
        return (states + centroids.difference(task, target)).astype(np.float32)

    effects = tl.intervene(run, **last(run), own={"mine": mine})
    for metric in ("becomes", "stays", "logit_change"):
        a, b = of_edit(effects, "mine", metric), of_edit(effects, "shift", metric)
        assert len(a) > 4
        assert_allclose(a, b, rtol=0, atol=0)
    kept = tl.intervene(copy, **last(run))
    assert_allclose(of_edit(kept, "shift"), of_edit(effects, "shift"), rtol=0, atol=0)


def test_nothing_is_kept_of_edits_of_the_user(copy: Path) -> None:
    run = tl.load_run(copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    effects = tl.intervene(run, **last(run), own={"same": lambda x, task, target: x})
    assert (of_edit(effects, "same") == 0).all()
    after = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name != ".lock"}
    assert after == {path: time for path, time in before.items() if path.name != ".lock"}


def test_a_model_with_a_dataset_gives_what_the_run_gives(copy: Path) -> None:
    run = tl.load_run(copy)
    assert hasattr(run, "dataset")
    model = tl.load_checkpoint(run.directory.checkpoint(run.steps[-1]))
    edits: dict[str, Any] = {"edits": ["shift", "patch"], "states": ["block1", "ln_f"]}
    of_run = tl.intervene(run, steps=run.steps[-1], **edits)
    seed = run.settings.seed
    alone = tl.intervene(model, run.dataset, **edits, seed=seed)
    for edit in ("shift", "patch"):
        assert_allclose(of_edit(alone, edit), of_edit(of_run, edit), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edits": ["swop"]}, "no edit 'swop'; there are shift, swap"),
        ({"states": "block9"}, "no hidden state 'block9'; there are"),
        ({"states": "block1+block1"}, "should not have a hidden state twice"),
        ({"steps": 3}, "no weights of step 3"),
        ({"alphas": [float("nan")]}, "alpha = nan: should be a finite number"),
        ({"positions": "nowhere"}, "position 'nowhere'"),
        ({"own": {"shift": None}}, "an edit cannot be called 'shift'"),
        ({"own": {"a/b": None}}, "an edit cannot be called 'a/b'"),
        ({"own": {"cut": lambda x, a, b: x[:, 1:]}}, "the edit cut returns float32"),
        ({"own": {"cut": lambda x, a, b: x * np.nan}}, "returns a state that is not finite"),
        ({"settings": tl.InterventionSettings(draws=7)}, "those of a run are in its directory"),
    ],
)
def test_wrong_arguments_get_one_line(copy: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(tl.InputError) as error:
        tl.intervene(copy, **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_needs_a_dataset(copy: Path, model: tl.GPT2) -> None:
    with pytest.raises(tl.InputError, match="GPT2 has no prompts: give a dataset"):
        tl.intervene(model)
    run = tl.load_run(copy)
    with pytest.raises(tl.InputError, match="a run has its own data"):
        tl.intervene(run, tl.make_dataset(n_tasks=4, measured_tasks=4, measured_instances=50))
