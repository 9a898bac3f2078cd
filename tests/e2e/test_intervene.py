"""`tasklens intervene`: what it prints and keeps, how it resumes, and what it refuses."""

import json
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conftest import HANG
from e2e.conftest import (
    Command,
    Finished,
    Probed,
    assert_refused,
    assert_same,
    changes,
    contents,
    times,
)
from e2e.processes import of_session, start_python, wait_for
from e2e.stock import Stock
from e2e.stopping import Stop
from tasklens.core.errors import InputError
from tasklens.interventions.cell import EditKey
from tasklens.interventions.settings import EDITS, FIGURE, NEEDED
from tasklens.runs import edit_states, plan_edits, stage_intervene
from tasklens.runs.edit_plan import figure_selections
from tasklens.runs.edit_states import EditJob, EditResult
from tasklens.runs.kept_edits import edited_steps, kept_shapes, read_edits
from tasklens.runs.load_run import load_run
from tasklens.runs.stage_measure import results_of
from tasklens.runs.training_run import TrainingRun

#: What depends on the effects.
SHOWN = {"interventions", "interventions.parquet", "figures", "verdict.json"}


def keys(path: Path, step: int) -> set[EditKey]:
    """Return the keys of the edits that are kept of a checkpoint."""
    parsed = map(EditKey.parse, kept_shapes(load_run(path), step))
    return {key for key, kind in filter(None, parsed) if kind == "answer"}


def without_edits(path: Path) -> Path:
    """Remove all edits of a run, as if `tasklens run` had made none."""
    directory = load_run(path).directory
    for step in edited_steps(load_run(path)):
        directory.remove(directory.interventions_at(step))
    for file in (directory.effects_parquet, *results_of(load_run(path))):
        directory.remove(file)
    return path


# --- What it does ---


def test_run_does_the_edits_that_the_figure_and_the_checks_need(tiny: Finished) -> None:
    run = load_run(tiny.path)
    *before, last = run.steps
    assert edited_steps(run) == [*before, last]
    for step, edits in ((before[0], FIGURE), (before[-1], FIGURE), (last, NEEDED)):
        kept = keys(tiny.path, step)
        assert {key.state for key in kept} == {"embed", "block1", "ln_f"}
        assert {key.split for key in kept} == {"val_subset", "val_instruction_subset"}
        assert {key.edit for key in kept} == {*edits} - {"repair"}
    assert (tiny.path / "figures" / "figure3.png").read_bytes().startswith(b"\x89PNG")
    assert "interventions" in (run.directory.read_manifest()["stages"])


def test_the_plan_counts_its_disk(tiny: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_edits, "NEEDED", tuple(e for e in NEEDED if e != "repair"))
    run = load_run(tiny.path)
    assert isinstance(run, TrainingRun)
    kept = sum(
        array.nbytes
        for step in edited_steps(run)
        for name, array in read_edits(run, step).items()
        if EditKey.parse(name) and not name.startswith("repair:")
    )
    # Of some of the ten instances no answer is known under another task.
    n = [len(run.counterfactuals(split, "input", 10).own) for split in list(run.splits)[1:]]
    planned = plan_edits.count_edit_bytes(run.settings, run.intervenable_steps, len(run.splits))
    assert planned * sum(n) / (10 * len(n)) == kept


def test_it_prints_the_effects_and_renews_what_showed_others(
    copy: Path, command: Command, undrawn: None
) -> None:
    before = contents(copy)
    result = command("intervene", copy, "--step", "8", "--state", "block1", "--edit", "swap")
    assert result.status == 0, result.err
    head, _, _, title, columns, *lines = result.out.splitlines()
    assert head.startswith(f"{copy}, effects of edits at step 12: the share of answers that")
    assert title.startswith("val_subset, at input: ")
    assert columns.split()[:4] == ["state", "ARI", "becomes", "stays"]
    assert [line.split()[0] for line in lines[:3]] == ["embed", "block1", "ln_f"]
    assert any(line.startswith("use, apart from the findings") for line in lines)
    assert lines[-1] == str(copy / "interventions.parquet")
    after = contents(copy)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {name.partition("/")[0] for name in changed} <= {*SHOWN, "verdict.json"}
    assert "interventions/step-00000008.safetensors" in changed
    assert (copy / "report.html").is_file()
    assert {key.edit for key in keys(copy, 8)} == {*FIGURE, "swap"}


def test_a_second_call_does_nothing(copy: Path, command: Command) -> None:
    arguments = ("intervene", copy, "--step", "12", "--alpha", "0.5", "--state", "block1+ln_f")
    assert command(*arguments).status == 0
    assert {(key.edit, key.alpha) for key in keys(copy, 12) if "+" in key.state} == {
        *(("shift", 0.5), ("shuffled", 1), ("unembedding", 1), ("random", 1), ("within", 1))
    }
    before = times(copy)
    again = command(*arguments)
    assert (again.status, again.err) == (0, "")
    unchanged = {name for name, time in times(copy).items() if before[name] == time}
    assert before.keys() - unchanged <= {"config.toml", "interventions.parquet"} - {
        "interventions.parquet"
    }


def test_the_table_of_a_step_as_json(copy: Path, command: Command, undrawn: None) -> None:
    result = command("intervene", copy, copy, "--edit", "shift", "--step", "12", "--json")
    first, second = json.loads(result.out)["runs"]
    assert first == second
    assert first["run"] == str(copy)
    assert first["steps"] == [0, 1, 2, 4, 8, 12]
    assert first["use"]["findings"][0]["finding"] == "used"
    effects = load_run(copy).effects()
    mean = effects[(effects["target"] == "") & effects["draw"].isna() & (effects["step"] == 12)]
    for record in first["effects"]:
        own = mean[
            (mean["split"] == record["split"])
            & (mean["state"] == record["state"])
            & (mean["metric"] == "becomes")
        ].set_index("edit")["value"]
        assert record["becomes"] == own["shift"]
        if record["state"] == "wte":
            assert record["ceiling"] is record["random"] is record["random_low"] is None
            continue
        assert record["ceiling"] == own["patch"]
        assert record["random_low"] <= own["random"] <= record["random_high"]


@pytest.mark.long
def test_all_edits_by_two_workers_are_the_same_bytes(copy: Path, command: Command) -> None:
    other = Path(shutil.copytree(copy, copy.parent.parent / "other" / copy.name))
    arguments = ("--alpha", "1", "--alpha", "-0.5")
    assert command("intervene", copy, *arguments).status == 0
    assert command("intervene", other, *arguments, "--set", "workers=2").status == 0
    assert_same(copy, other, "interventions", "interventions.parquet", "verdict.json")
    every = keys(copy, 4)
    assert {key.edit for key in every} == {*EDITS} - {"repair"}
    assert {key.state for key in every} == {*load_run(copy).state_names}
    assert {key.alpha for key in every if key.edit == "shift"} == {1, -0.5}


# --- Interruptions ---


@pytest.mark.long
def test_what_was_kept_before_a_kill_is_kept(copy: Path, command: Command) -> None:
    other = without_edits(Path(shutil.copytree(copy, copy.parent.parent / "other" / copy.name)))
    arguments = ("--edit", "shift", "--edit", "random", "--state", "block1")
    stop = Stop(str(other), signal.SIGKILL, edited=2)
    process = start_python(*stop.program(), "intervene", other, *arguments, "--set", "workers=2")
    error = process.communicate(timeout=HANG)[1]
    wait_for(lambda: not of_session(process.pid))
    assert process.returncode == -signal.SIGKILL, error
    kept = {path.name: path.stat().st_mtime_ns for path in (other / "interventions").glob("step*")}
    assert 2 <= len(kept) < 6
    result = command("intervene", other, *arguments)
    assert result.status == 0, result.err
    noted = load_run(other).directory.read_manifest()["files"]
    for name, time in kept.items():  # the last of them may not have been recorded
        again = (other / "interventions" / name).stat().st_mtime_ns
        assert again == time or name == max(kept), noted
    without_edits(copy)
    assert command("intervene", copy, *arguments).status == 0
    assert_same(copy, other, "interventions", "interventions.parquet")


@pytest.mark.parametrize(
    "name", ["interventions/step-00000004.safetensors", "interventions.parquet"]
)
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: flip(path)])
def test_a_file_that_is_damaged_is_made_again(
    copy: Path, command: Command, tiny: Finished, name: str, damage: Callable[[Path], None]
) -> None:
    damage(copy / name)
    result = command("run", "smoke", *changes(), "--out", copy, "--resume")
    assert result.status == 0, result.err
    if name.startswith("interventions/"):
        assert f"{copy / name} is damaged or gone; of its edits, those that" in result.err
    assert_same(copy, tiny.path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_effects_that_are_gone_are_not_taken_for_none(copy: Path, command: Command) -> None:
    shutil.rmtree(copy / "interventions")
    for reader in ("verify", "report"):
        assert_refused(command(reader, copy), "step-00000000.safetensors is gone", "--resume")


def test_figures_are_not_finished_without_figure_3_if_a_file_is_damaged(
    copy: Path, command: Command, tiny: Finished
) -> None:
    load_run(copy).directory.unfinish("plot")
    flip(copy / "checkpoints" / "step-00000012" / "model.safetensors")
    assert_refused(command("plot", copy), "model.safetensors is damaged: its SHA-256 is not")
    flip(copy / "checkpoints" / "step-00000012" / "model.safetensors")
    assert command("plot", copy).status == 0
    assert_same(copy, tiny.path)


def test_other_settings_make_all_edits_again(copy: Path, command: Command) -> None:
    result = command(
        *(
            "intervene",
            copy,
            "--set",
            "interventions.draws=3",
            "--set",
            "interventions.instances=10",
        ),
        *("--edit", "random", "--step", "12", "--state", "embed"),
    )
    assert result.status == 0, result.err
    assert result.err.count("was made under other settings") == 6
    assert edited_steps(load_run(copy)) == [12]
    assert {key.edit for key in keys(copy, 12)} == {"random"}


@pytest.mark.long
def test_an_edit_that_fails_is_named_and_the_others_are_kept(
    copy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = without_edits(copy)

    def fail(job: EditJob) -> EditResult:
        if (job.step, job.state) == (4, "block1"):
            raise FloatingPointError("no number")
        return edit_states.edit_state(job)

    monkeypatch.setattr(stage_intervene, "edit_state", fail)
    arguments = ("intervene", path, "--edit", "shift")
    result = command(*arguments)
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[-2:] == [
        "tasklens: cell step 4, block1 failed: FloatingPointError: no number",
        f"tasklens: the others are done; tasklens intervene {path} tries these again",
    ]
    assert {key.state for key in keys(path, 4)} == {"wte", "embed", "ln_f"}
    run = command("run", "smoke", *changes(), "--out", path, "--resume")
    assert run.status == 0, "it does not stop a run"
    assert "warning: edits at step 4, block1 failed: FloatingPointError" in run.err
    monkeypatch.undo()
    assert command(*arguments).status == 0
    assert {key.state for key in keys(path, 4)} == {"wte", "embed", "ln_f", "block1"}


# --- What it refuses ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--edit", "swop"], "no edit 'swop'; there are shift, swap"),
        (["--state", "block9"], "no hidden state 'block9'"),
        (["--state", "block1+block1"], "should not have a hidden state twice"),
        (["--step", "3"], "has no weights of step 3; there are those of 0, 1, 2, 4, 8, 12"),
        (["--alpha", "nan"], "alpha = nan: should be a finite number"),
        (["--alpha", "much"], "--alpha = 'much': should be a number"),
        (["--edit", "unembedding", "--state", "embed"], "unembedding edits the last blocks"),
        (
            ["--edit", "erase", "--state", "embed+block1"],
            "together by shift, shuffled, unembedding",
        ),
        (["--position", "middle"], "'middle' is not measured, but input"),
        (["--set", "train.steps=3"], "only interventions.* can change"),
        (["--set", "interventions.draws=1"], "interventions.draws"),
        (["--engine", "cloud"], "--engine cloud: should be local, ray"),
    ],
)
def test_wrong_options_get_one_line(
    tiny: Finished, command: Command, arguments: list[str], message: str
) -> None:
    before = contents(tiny.path)
    assert_refused(command("intervene", tiny.path, *arguments), message)
    assert contents(tiny.path) == before


def test_runs_that_cannot_be_edited_are_refused(copy: Path, command: Command) -> None:
    assert_refused(command("intervene", copy.parent / "none"), "is not a run directory")
    run = load_run(copy)
    with run.directory.locked():
        assert_refused(command("intervene", copy), "is in use by another tasklens process")
    shutil.rmtree(copy / "checkpoints")
    assert_refused(command("intervene", copy), "has no weights, which edits need")
    run.directory.unfinish("measure")
    assert_refused(command("intervene", copy), "stage measure is not finished; run it first")


def test_a_run_without_other_answers_ends_well(
    copy: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("split val_subset: no prompt has an answer that is another")

    path = without_edits(copy)
    monkeypatch.setattr(TrainingRun, "counterfactuals", refuse)
    result = command("run", "smoke", *changes(), "--out", path, "--resume")
    assert result.status == 0, result.err
    assert result.err.splitlines()[-1] == (
        "tasklens: no hidden states are edited: split val_subset: no prompt has an answer that is "
        "another"
    )
    assert not (path / "interventions.parquet").exists()
    assert not (path / "figures" / "figure3.png").exists()
    assert (path / "report.html").exists()
    assert_refused(command("intervene", path), "split val_subset: no prompt has an answer")


@pytest.mark.long
def test_two_at_once_wait_or_are_refused(copy: Path) -> None:
    """A directory has one writer at a time."""
    path = without_edits(copy)
    arguments = ("intervene", path, "--edit", "shift", "--state", "block1", "--step", "12")
    with ThreadPoolExecutor(2) as pool:
        each = list(pool.map(lambda _: start_python("-m", "tasklens", *arguments), range(2)))
        errors = [process.communicate(timeout=HANG)[1] for process in each]
    statuses = sorted(process.returncode for process in each)
    assert statuses in ([0, 0], [0, 2]), errors
    if statuses == [0, 2]:
        assert any("is in use by another tasklens process" in error for error in errors)
    assert {key.edit for key in keys(path, 12)} == {"shift"}


# --- Model runs ---


def test_a_probe_edits_its_last_model_if_it_is_asked_to(
    probed: Probed, stock: Stock, tmp_path: Path, command: Command
) -> None:
    assert edited_steps(load_run(probed.path)) == []
    asked = ("--set", "interventions.checkpoints=3", "--out", tmp_path / "probe")
    assert command(*stock.command(*asked)).status == 0
    run = load_run(tmp_path / "probe")
    assert edited_steps(run) == [run.steps[-1]]
    assert {key.edit for key in keys(run.directory.path, run.steps[-1])} >= {"shift", "random"}
    assert [selection.steps for selection in figure_selections(run)] == [(run.steps[-1],)]
    effects = run.effects()
    assert np.isfinite(effects["value"]).all()


def test_a_probe_takes_more_edits(probe_copy: Path, command: Command) -> None:
    result = command("intervene", probe_copy, "--edit", "swap", "--state", "block1")
    assert result.status == 0, result.err
    assert str(probe_copy / "interventions.parquet") in result.out
    for step in load_run(probe_copy).steps:
        assert "swap" in {key.edit for key in keys(probe_copy, step)}
