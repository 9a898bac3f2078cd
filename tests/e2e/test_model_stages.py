"""Stages of one model: `tasklens probe --model NAME=MODEL`, and what shows their names."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import tasklens as tl
from drawn import title
from e2e.conftest import Finished, assert_refused, call, files, scores_of, succeed
from e2e.stock import QUICK, Stock, another_tokenizer, save_model
from tasklens.runs.load_run import load_run
from tasklens.scoring.cell_key import CellKey

NAMES = ("base", "again", "sft")


@pytest.fixture(scope="module")
def stages(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Measure a base model, a copy of it, and a model that has all other: depth, width, tokenizer.

    The directory of the last one has "=" in its name. Do not change it.
    """
    home = tmp_path_factory.mktemp("stages")
    copied = shutil.copytree(stock.checkpoints[100], home / "copied")
    other = save_model(home / "lr=1", 3, tokenizer=another_tokenizer(), blocks=3, width=24)
    models = zip(NAMES, (stock.checkpoints[100], copied, other), strict=True)
    given = [word for name, model in models for word in ("--model", f"{name}={model}")]
    quick = [word for item in QUICK for word in ("--set", item)]
    prompts = ("--prompts", stock.prompts, "--hold-out", "phrasing")
    with pytest.MonkeyPatch.context() as patch:
        for figure in ("figure_by_layer", "figure2"):
            patch.setattr(f"tasklens.runs.stage_plot.{figure}", lambda *_, **__: Figure())
        result = succeed("probe", *given, "--untrained", *prompts, *quick, "--out", home / "run")
    return Finished(home / "run", result)


def test_what_is_printed_names_the_stages(stages: Finished) -> None:
    shown = stages.result.out
    lines = [line.split() for line in shown.splitlines()]
    columns = ["untrained", *NAMES]
    assert ["layer", "space", *columns, *columns] in lines
    assert ["finding", *NAMES] in lines
    (pairs,) = [line for line in shown.splitlines() if line.startswith("difference, same prompts")]
    assert re.split("  +", pairs)[2:] == ["again - base", "sft - again", "sft - base"]
    assert "step" not in shown
    warnings = [line for line in stages.result.err.splitlines() if "warning" in line]
    assert any(line.endswith("left out: block3") for line in warnings)
    assert any("copied has the same weights as" in line for line in warnings)
    assert any("lr=1 has another tokenizer than" in line for line in warnings)
    assert succeed("show", stages.path).out in shown


def test_the_run_knows_the_names_and_python_takes_them(stages: Finished) -> None:
    run = tl.load_run(stages.path)
    assert run.steps == (0, 1, 2, 3)
    assert run.step_names == dict(enumerate(("untrained", *NAMES)))
    assert not run.is_series
    assert "base, again, sft" in repr(run)
    assert run.state_names == ("embed", "block1", "block2", "ln_f")
    assert np.array_equal(run.states("block1", step="again"), run.states("block1", step=1))
    assert run.states("block1", step="sft").shape[1] == 24
    mark = json.loads((stages.path / "manifest.json").read_text())["stages"]["states"]
    assert [each["called"] for each in mark["checkpoints"]] == ["", *NAMES]
    view = run.view()
    (panels,) = {
        len(tl.figure_forming(view, "block2", ["base", "sft"], map=m).axes) for m in ("tsne", "pca")
    }
    assert panels == 2
    titles = [title(ax).splitlines()[0] for ax in tl.figure_forming(view, "block2").axes]
    assert titles == ["untrained", *NAMES]


def test_the_same_model_twice_differs_by_nothing(stages: Finished) -> None:
    run = load_run(stages.path)
    clusters = run.clusters(1), run.clusters(2)
    name = CellKey("kept", "block2", "raw").name("labels")
    assert np.array_equal(clusters[0][name], clusters[1][name]), "both have the same seeds"
    document = json.loads(succeed("compare", stages.path, "--json").out)
    again, *others = document["differences"]
    assert (again["first"], again["second"], again["steps"]) == ("base", "again", [1, 2])
    assert {len(again[kind]) for kind in ("ari", "decoded", "accuracy")} == {10, 5, 2}
    for kind in ("ari", "decoded", "accuracy"):
        for each in again[kind]:
            assert [each["difference"], each["low"], each["high"]] == [0, 0, 0]
    assert [(each["first"], each["second"]) for each in others] == [
        ("again", "sft"),
        ("base", "sft"),
    ]
    assert others[0]["ari"] == others[1]["ari"], "again is base"


def test_differences_are_those_of_the_scores(stages: Finished) -> None:
    document = json.loads(succeed("compare", stages.path, "--steps", "sft,1", "--json").out)
    (pair,) = document["differences"]
    assert (pair["first"], pair["second"]) == ("sft", "base")
    checked = 0
    for each in pair["ari"]:
        if each["layer"] == "best":
            continue
        cell: dict[str, Any] = {"metric": "ari", "layer": each["layer"], "split": each["split"]}
        sft, base = (
            np.mean(
                [row["value"] for row in scores_of(stages.path, **cell, step=step, space="raw")]
            )
            for step in (3, 1)
        )
        assert each["difference"] == pytest.approx(base - sft)
        assert each["low"] <= each["difference"] <= each["high"]
        checked += 1
    assert checked == 8


def test_other_commands_show_the_names(stages: Finished, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    succeed("report", stages.path, "--out", page)
    story = page.read_text().partition('id="story">')[2].partition("</script>")[0]
    (run,) = json.loads(story)["runs"]
    assert run["step_names"] == ["untrained", *NAMES]
    verdict = call("verify", stages.path, "--out", tmp_path / "verdict.json")
    assert "\nsft:\n\n" in verdict.out
    assert list(json.loads((tmp_path / "verdict.json").read_text())["stages"]) == list(NAMES)
    records = json.loads(succeed("show", stages.path, "--json").out)["scores"]
    assert {record["step"] for record in records} == {None, 0, 1, 2, 3}


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (("{0}", "--model", "base={0}"), ("--model base=", "in one way: MODEL..., or --model")),
        ((), ("no model: give MODEL, or --model NAME=MODEL for each stage",)),
        (("--model", "{0}"), ("should be NAME=MODEL, such as base=",)),
        (("--model", "base={0}", "--model", "base={1}"), ("names: base is given twice",)),
        (("--model", "2={0}"), ("subject: names: '2': should be a word",)),
        (("--model", "a={models}"), ("stage a has 2 checkpoints: should be a single model",)),
        (("--model", "a={0}", "--revision", "main"), ("stages with names take ORG/NAME@REVISION",)),
    ],
)
def test_what_is_no_stage_is_one_line(
    stock: Stock, tmp_path: Path, given: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    one, two = stock.checkpoints.values()
    arguments = [word.replace("{0}", str(one)).replace("{1}", str(two)) for word in given]
    arguments = [word.replace("{models}", str(stock.models)) for word in arguments]
    assert_refused(call("probe", *arguments, "--out", tmp_path / "run"), *parts)
    assert files(tmp_path / "run") == []


def test_steps_that_cannot_be_compared_are_one_line(stages: Finished) -> None:
    known = "there are untrained, base, again, sft"
    assert_refused(call("compare", stages.path, "--steps", "base,dpo"), f"no step 'dpo'; {known}")
    assert_refused(call("compare", stages.path, "--steps", "base,1"), "base is given twice")
    assert_refused(call("compare", stages.path, "--steps", "sft"), "a single checkpoint")
    assert_refused(call("compare", stages.path, stages.path, "--steps", "base,sft"), "leave out")
    with pytest.raises(tl.InputError, match=f"no step 'dpo'; {known}"):
        tl.load_run(stages.path).states("block1", step="dpo")


def test_a_dry_run_names_the_stages(stock: Stock) -> None:
    one, two = stock.checkpoints.values()
    given = ("--model", f"base={one}", "--model", f"sft={two}", "--prompts", stock.prompts)
    lines = succeed("probe", *given, "--untrained", "--dry-run").out.splitlines()
    assert lines[1:4] == [f"  untrained: {one}, untrained", f"  base: {one}", f"  sft: {two}"]
