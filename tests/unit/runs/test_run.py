"""Test what both kinds of run have in common: stages, their hashes, repetition, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from sklearn import metrics

from e2e.conftest import assert_refused, call, changes, scores_of
from tasklens.cli.main import app
from tasklens.core.errors import InputError
from tasklens.core.settings import STAGES, Stage
from tasklens.runs.directory import RunDir
from tasklens.runs.load_run import load_run, run_of
from tasklens.runs.run import Run
from tasklens.runs.settings import (
    ModelRunSettings,
    RunSettings,
    TrainingRunSettings,
    load_settings,
)
from tasklens.runs.sweep_file import Point
from tasklens.runs.verify import check_comparable, difference

KINDS: list[type[RunSettings]] = [TrainingRunSettings, ModelRunSettings]
BOTH = pytest.mark.parametrize("kind", KINDS, ids=["run", "probe"])


def run_with(path: Path, kind: type[RunSettings], *changes: str) -> Run:
    """Return a run under settings; nothing is written."""
    return run_of(RunDir(path), kind.from_table({}, changes))


def finish(run: Run, *stages: Stage) -> dict[Stage, str]:
    """Finish stages, each with a file that depends on its inputs; return the hashes of these."""
    inputs = {}
    for stage in stages:
        inputs[stage] = run.inputs(stage)
        file = run.directory.path / f"{stage}.txt"
        run.directory.write(file, inputs[stage].encode())
        run.directory.finish(stage, inputs[stage], [file])
    return inputs


# --- Settings ---


@BOTH
def test_every_setting_that_changes_a_result_declares_the_stage_that_it_affects(
    kind: type[RunSettings],
) -> None:
    unaffected = [key for key, each in kind.declared().items() if each.stage == "nothing"]
    assert unaffected == ["workers", "interventions.checkpoints"]
    assert kind().affecting(*STAGES) == kind().flat()


@pytest.mark.parametrize(
    ("change", "renames"),
    [
        ("report.points=500", False),
        ("report.perplexity=9", False),
        ("figure.metric=ami", False),
        ("figure.space=tsne", False),
        ("workers=7", False),
        ("interventions.draws=5", False),
        ("seed=1", True),
        ("clusters.n_init=2", True),
        ("measure.center=true", True),
        ("train.steps=7", True),
        ("train.threads=2", True),
        ("model.n_embd=16", True),
        ("tasks.n_tasks=5", True),
        ("checkpoints.every=3", True),
    ],
)
def test_a_run_of_a_sweep_is_named_by_what_its_scores_depend_on(change: str, renames: bool) -> None:
    first, second = (Point(load_settings("smoke", changes), {}) for changes in ([], [change]))
    assert (first.name != second.name) is renames


EVERY: tuple[Stage, ...] = ("data", "train", "measure", "interventions", "plot", "report")
OF_A_PROBE: tuple[Stage, ...] = ("data", "states", "measure", "interventions", "plot", "report")


@pytest.mark.parametrize(
    ("kind", "change", "stages"),
    [
        (TrainingRunSettings, "seed=1", EVERY),
        (TrainingRunSettings, "tasks.n_tasks=4", EVERY),
        (TrainingRunSettings, "data.val_inputs=2", EVERY),
        (TrainingRunSettings, "model.n_layer=1", EVERY[1:]),
        (TrainingRunSettings, "train.steps=700", EVERY[1:]),
        (TrainingRunSettings, "checkpoints.every=3", EVERY[1:]),
        (TrainingRunSettings, "measure.center=true", ("measure", "plot")),
        (TrainingRunSettings, "clusters.n_init=2", ("measure", "plot")),
        (TrainingRunSettings, "interventions.draws=5", ("interventions",)),
        (TrainingRunSettings, "interventions.checkpoints=5", ()),
        (TrainingRunSettings, "figure.metric=ami", ("plot",)),
        (TrainingRunSettings, "report.points=9", ("report",)),
        (TrainingRunSettings, "workers=3", ()),
        (ModelRunSettings, "seed=1", OF_A_PROBE),
        (ModelRunSettings, "prompts.label=kind", OF_A_PROBE),
        (ModelRunSettings, "subject.dtype=bfloat16", OF_A_PROBE[1:]),
        (ModelRunSettings, "states.special_tokens=none", OF_A_PROBE[1:]),
        (ModelRunSettings, "measure.k=[3]", ("measure", "plot")),
        (ModelRunSettings, "figure.metric=ami", ("plot",)),
        (ModelRunSettings, "report.stay=2", ("report",)),
    ],
)
def test_a_stage_depends_on_its_settings_and_the_stages_before(
    tmp_path: Path, kind: type[RunSettings], change: str, stages: tuple[Stage, ...]
) -> None:
    run, other = run_with(tmp_path / "a", kind), run_with(tmp_path / "b", kind, change)
    mine, theirs = finish(run, *run.before), finish(other, *other.before)
    assert tuple(stage for stage in mine if mine[stage] != theirs[stage]) == stages


@BOTH
@pytest.mark.parametrize("stage", ["nonsense", "nothing", ""])
def test_a_stage_that_it_does_not_have_is_an_error(
    tmp_path: Path, kind: type[RunSettings], stage: Any
) -> None:
    run = run_with(tmp_path, kind)
    finish(run, *run.before)
    for missing in (stage, "states" if run.states_stage == "train" else "train"):
        with pytest.raises(KeyError):
            run.inputs(missing)
        with pytest.raises(KeyError):
            run.need(missing)


# --- Replicates ---


@pytest.mark.parametrize(
    ("kind", "changes", "key"),
    [
        (TrainingRunSettings, ["workers=2", "train.threads=3", "train.device=cuda"], None),
        (TrainingRunSettings, ["figure.metric=ami", "report.points=9"], None),
        (TrainingRunSettings, ["train.precision=fp32"], "train.precision"),
        (TrainingRunSettings, ["measure.center=true"], "measure.center"),
        (ModelRunSettings, ["workers=2", "subject.device=cuda", "figure.metric=ami"], None),
        (ModelRunSettings, ["states.special_tokens=none"], "states.special_tokens"),
        (ModelRunSettings, ["clusters.n_init=3"], "clusters.n_init"),
    ],
)
def test_replicates_differ_in_their_seed_and_in_no_result(
    tmp_path: Path, kind: type[RunSettings], changes: list[str], key: str | None
) -> None:
    first, second = (
        run_with(tmp_path / "a", kind),
        run_with(tmp_path / "b", kind, "seed=1", *changes),
    )
    problem = difference([first, second])
    assert (problem and f"({key} differs)" in problem) == (key and True)
    same_seed = difference([first, run_with(tmp_path / "c", kind, *changes)]) or ""
    assert "differs)" in same_seed if key else "a repeated run" in same_seed


def test_probes_that_differ_in_their_models_alone_are_replicates(tmp_path: Path) -> None:
    first = run_with(tmp_path / "a", ModelRunSettings)
    second = run_with(tmp_path / "b", ModelRunSettings, 'subject.models=["x"]')
    assert difference([first, second]) is None


@pytest.mark.parametrize("asked", ["auto", "fp32"])
def test_precisions_that_auto_chose_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    chosen = {"a": "fp32", "b": "bf16", "c": "bf16"}
    runs = [
        run_with(tmp_path / name, TrainingRunSettings, f"seed={i}", f"train.precision={asked}")
        for i, name in enumerate(chosen)
    ]
    check_comparable(runs)  # none is trained
    for run, precision in zip(runs, chosen.values(), strict=True):
        run.directory.finish("train", "", [], precision=precision)
    check_comparable(runs[1:])
    assert capsys.readouterr().err == ""
    check_comparable(runs)
    expected = f"{tmp_path / 'a'} trained in fp32, {tmp_path / 'b'} trained in bf16, as auto"
    assert (expected in capsys.readouterr().err) == (asked == "auto")


def test_runs_of_two_kinds_are_no_replicates(tmp_path: Path) -> None:
    runs = [run_with(tmp_path / kind.__name__, kind) for kind in KINDS]
    assert "(kind differs)" in (difference(runs) or "")


# --- Refusals ---


@BOTH
def test_what_is_needed_names_the_first_unfinished_stage_and_its_command(
    tmp_path: Path, kind: type[RunSettings]
) -> None:
    path = tmp_path / "mine"
    run = run_with(path, kind)
    stages = [stage for stage in run.before if stage not in ("interventions", "report")]
    commands = {
        "data": f"tasklens {run.kind} ... --out {path} --resume",
        "states": f"tasklens probe ... --out {path} --resume",
    }
    for stage in stages:
        with pytest.raises(InputError) as error:
            run.need("plot")
        command = commands.get(stage, f"tasklens {stage} {path}")
        message = f"{path}: stage {stage} is not finished; run it first: {command}"
        assert str(error.value) == message
        finish(run, stage)
    run.need("plot")
    changed = run_with(path, kind, "clusters.n_init=2")
    changed.need(run.states_stage)
    with pytest.raises(InputError, match="stage measure was finished under other settings"):
        changed.need("plot")


@BOTH
def test_a_directory_of_an_earlier_format_is_refused_in_a_line_that_names_its_version(
    tmp_path: Path, kind: type[RunSettings]
) -> None:
    """The format is checked before the settings, of which some may have been removed."""
    run = run_with(tmp_path / "old", kind)
    run.directory.write(run.directory.config, f"fsdp = true\n{kind().toml()}".encode())
    finish(run, "data")
    manifest = json.loads(run.directory.manifest.read_text())
    manifest |= {"versions": {"tasklens": "0.9.1"}}
    for key in ("format", "sha256"):
        manifest.pop(key, None)
    run.directory.manifest.write_text(json.dumps(manifest))
    for command in (("show",), ("measure",), ("report",), ("verify",), ("follow",), ("train",)):
        result = call(*command, run.directory.path)
        assert_refused(result, f"{run.directory.path} was made by tasklens 0.9.1 (format 1)")


def test_every_command_has_the_option_debug() -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) > 10
    for name, command in commands.items():
        assert any("--debug" in option.opts for option in command.params), name


@pytest.mark.parametrize(
    ("options", "value", "debugging"),
    [((), "", False), ((), "0", False), ((), "1", True), (("--debug",), "", True)],
)
def test_the_cause_of_an_error_is_shown_on_request(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    value: str,
    debugging: bool,
) -> None:
    monkeypatch.setenv("TASKLENS_DEBUG", value)
    (tmp_path / "config.toml").write_text("seed = = 1\n")
    result = call("show", tmp_path, *options)
    *before, line = result.err.splitlines()
    assert result.status == 2
    assert line.startswith(f"tasklens: error: {tmp_path / 'config.toml'} is not TOML: ")
    assert bool(before) is debugging
    if debugging:
        assert before[0] == "Traceback (most recent call last):"
        assert any("tomllib.TOMLDecodeError: " in each for each in before)


# --- Settings that only model runs had ---


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Measure a tiny training run again, with settings that only model runs had."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    settings = changes(train__steps=2, train__warmup_steps=1)
    assert call("data", "smoke", *settings, "--out", path).status == 0
    for stage in ("train", "measure"):
        assert call(stage, path).status == 0
    assert {row["k"] for row in scores_of(path, layer="block1")} == {None, 3}
    wanted = ("measure.k=[3,2]", "measure.center=true", "measure.silhouette=last")
    result = call("measure", path, *(word for each in wanted for word in ("--set", each)))
    assert (result.status, result.err) == (0, "")
    return load_run(path)


def test_several_k_silhouettes_and_centring_of_a_training_run(measured: Run) -> None:
    run, path = measured, measured.directory.path
    for step in run.steps:
        clusters = run.clusters(step)
        assert {name for name in clusters if name.startswith("val_subset/block1/")} == {
            f"val_subset/block1/raw/{k}{kind}"
            for k in ("", "k=2/")
            for kind in ("labels", "extremes")
        } | {f"val_subset/block1/raw/{kind}" for kind in ("decoded", "distance", "nearest", "span")}
        for split, rows in run.splits.items():
            x = np.asarray(run.states("block1", step)[rows], dtype=np.float64)
            x -= x.mean(axis=0)
            np.testing.assert_allclose(dict(run.clustered(step))["block1"][split], x, atol=1e-6)
            for k, kind in ((3, "labels"), (2, "k=2/labels")):
                (labels,) = clusters[f"{split}/block1/raw/{kind}"]
                assert len(np.unique(labels)) == k
                cell = {"step": step, "split": split, "layer": "block1", "k": k}
                values = {row["metric"]: row["value"] for row in scores_of(path, **cell)}
                task = run.instances_by_split[split].task
                expected = {
                    "ari": metrics.adjusted_rand_score(task, labels),
                    "ami": metrics.adjusted_mutual_info_score(task, labels),
                }
                if step == run.steps[-1]:
                    expected["silhouette"] = metrics.silhouette_score(x, labels)
                else:
                    assert "silhouette" not in values
                assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_answers_and_hits_are_kept_of_a_training_run(measured: Run) -> None:
    run, step = measured, measured.steps[-1]
    answers, targets, clusters = run.answers(step), run.targets(step), run.clusters(step)
    assert answers.keys() == {*run.splits, "val", "val_instruction"}
    for split, answer in answers.items():
        right = answer == targets[split]
        (row,) = scores_of(run.directory.path, step=step, split=split, metric="accuracy")
        assert row["value"] == right.mean()
        if split in run.splits:
            np.testing.assert_array_equal(clusters[f"{split}/answer"], answer)
            np.testing.assert_array_equal(clusters[f"{split}/correct"], right.astype(np.int8))
            assert clusters[f"{split}/answer"].dtype == np.int64
            assert clusters[f"{split}/correct"].dtype == np.int8
    assert run.answers(run.steps[0]).keys() == set(run.splits)
