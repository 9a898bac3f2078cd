"""Measure SmolLM2-135M as docs/results/pretrained.md does, if TASKLENS_MODEL names its file."""

import json
import os
from pathlib import Path

import pytest

from e2e.conftest import call, succeed
from tasklens.runs.load_run import load_run

MODEL = os.environ.get("TASKLENS_MODEL", "")


@pytest.mark.long
@pytest.mark.skipif(not MODEL, reason="TASKLENS_MODEL names no model")
def test_few_shot_prompts_cluster_by_task_in_block_21_and_the_model_uses_it(tmp_path: Path) -> None:
    """The seed is one that no page reports."""
    prompts, run = tmp_path / "icl.jsonl", tmp_path / "run"
    families = ("--families", "countries,adjectives")
    succeed("prompts", "icl", "--tokenizer", MODEL, *families, "--seed", "7", "--out", prompts)
    states = ("--states", "embed,block10,block20,block21,block22")
    fast = ("--set", "clusters.tsne=none")
    succeed("probe", MODEL, "--prompts", prompts, *states, "--untrained", *fast, "--out", run)
    scores = load_run(run).scores()
    rows = scores[(scores["metric"] == "ari") & (scores["family"] == "") & (scores["step"] == 1)]
    ari = rows.pivot_table(index="layer", columns="split", values="value", observed=True)
    assert (ari.loc["block21"] > 0.5).all()
    assert (ari.loc[["embed", "block10"]].abs() < 0.3).all(axis=None)
    verdict = json.loads(call("verify", run, "--json").out)  # a control may be too close
    assert verdict["where"]["layer"] == "block21"
    edits = ("--edit", "shift", "--edit", "random", "--state", "block20", "--state", "block21")
    few = ("--set", "interventions.instances=20", "--set", "interventions.draws=2")
    succeed("intervene", run, *edits, *few, "--set", "interventions.test_draws=2")
    effects = load_run(run).effects()
    becomes = effects[(effects["metric"] == "becomes") & (effects["target"] == "")]
    shift = becomes[becomes["edit"] == "shift"].groupby("state")["value"].mean()
    assert shift["block21"] > shift["block20"] + 0.1
