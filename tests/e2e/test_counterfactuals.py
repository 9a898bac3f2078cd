"""Test what finished runs give to interventions: counterfactual answers, and their models."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from e2e.conftest import Finished, Probed, succeed
from e2e.stock import (
    LABELS,
    QUICK,
    VOCABULARY,
    Stock,
    another_tokenizer,
    save_model,
    write_prompts,
)
from tasklens.core.errors import InputError
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.runs.kept_edits import read_edits
from tasklens.runs.load_run import load_run
from tasklens.runs.model_run import ModelRun
from tasklens.runs.run import Run
from tasklens.runs.training_run import TrainingRun


def test_the_answers_of_a_training_run_are_of_its_measured_instances(tiny: Finished) -> None:
    run = load_run(tiny.path)
    for split, known in run.instances_by_split.items():
        moved = run.counterfactuals(split, "input", 6)
        assert (moved.tasks[moved.own] == known.task[moved.index]).all()
        assert (moved.unit == known.unit[moved.index]).all()
        assert known.output is not None
        own = moved.answers[np.arange(len(moved.own)), moved.own]
        assert (moved.tokens[own, 0] == known.output[moved.index]).all()
    assert run.counterfactuals("unseen pairs", "input", 6).split == "val_subset"


def test_the_opened_network_is_the_one_that_was_measured(tiny: Finished) -> None:
    run = load_run(tiny.path)
    assert isinstance(run, TrainingRun)
    assert run.intervenable_steps == run.steps
    for step in (0, 12):
        subject = GPT2Subject(run.open_subject(step), step)
        states = harvest(subject, run.dataset.prompts("val_subset")).states
        for name in run.state_names:
            np.testing.assert_allclose(
                states[name], run.states(name, step, "val_subset"), rtol=1e-4, atol=1e-6
            )


def test_a_checkpoint_without_weights_is_refused_in_one_line(copy: Path) -> None:
    run = load_run(copy)
    shutil.rmtree(copy / "checkpoints" / "step-00000004")
    assert run.intervenable_steps == (0, 1, 2, 8, 12)
    with pytest.raises(InputError, match=r"has no weights of step 4, but of 0, 1, 2, 8, 12; a run"):
        run.open_subject(4)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="has no weights of step 8, but of none; a run keeps"):
        run.open_subject(8)
    with pytest.raises(InputError, match=r"no step 3; there are 0, 1, 2, 4, 8, 12$"):
        run.open_subject(3)


def test_damaged_weights_are_refused(copy: Path) -> None:
    path = copy / "checkpoints" / "step-00000012" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: its SHA-256"):
        load_run(copy).open_subject(12)


def test_the_answers_of_a_model_run_are_of_its_prompts(probed: Probed) -> None:
    run = load_run(probed.path)
    moved = run.counterfactuals("all", "input", 12)
    known = run.instances("all")
    assert len(moved.prompts) == 12
    assert (moved.tasks[moved.own] == known.task[moved.index]).all()
    assert (moved.unit == known.unit[moved.index]).all()
    assert isinstance(run, ModelRun)
    tokens = run.tokens(run.steps[0])
    position = tokens.prompts.position[moved.index]
    assert (moved.prompts.begin == position).all()
    assert (moved.prompts.end == position).all()
    assert (moved.prompts.read == position).all()  # the output follows the input in the text
    own = moved.answers[np.arange(len(moved.own)), moved.own]
    assert (moved.tokens[own, 0] == tokens.target[moved.index, 0]).all()
    for row, i in zip(moved.prompts.ids, moved.index, strict=True):
        n = tokens.prompts.position[i] + 1
        assert (row[:n] == tokens.prompts.ids[i, :n]).all()


def test_the_opened_model_is_the_one_that_was_measured(probed: Probed) -> None:
    run = load_run(probed.path)
    assert isinstance(run, ModelRun)
    assert run.intervenable_steps == run.steps == (100, 200)
    for step in run.steps:
        subject = run.open_subject(step)
        states = harvest(subject, run.tokens(step).prompts, ["block1"]).states
        np.testing.assert_allclose(states["block1"], run.states("block1", step), rtol=1e-5)


@pytest.fixture
def models(stock: Stock, tmp_path: Path) -> Path:
    """Copies of the models that were measured, for a test to change."""
    return Path(shutil.copytree(stock.models, tmp_path / "models"))


def run_of_models(probed: Probed, models: Path) -> Run:
    """Return the finished probe as if its models were in another directory."""
    run = load_run(probed.path)
    assert isinstance(run, ModelRun)
    subject = run.settings.subject.changed(models=(str(models),))
    return ModelRun(run.directory, run.settings.changed(subject=subject))


def test_other_weights_are_refused_in_one_line(probed: Probed, models: Path) -> None:
    save_model(models / "checkpoint-100", seed=7)
    run = run_of_models(probed, models)
    assert run.open_subject(200).step == 200
    with pytest.raises(InputError) as error:
        run.open_subject(100)
    assert str(error.value) == (
        f"{models / 'checkpoint-100'}: its weights are not those that {probed.path} has measured; "
        "restore them, or make the run again with another --out"
    )


def test_another_tokenizer_is_refused_in_one_line(probed: Probed, models: Path) -> None:
    another_tokenizer().save_pretrained(models / "checkpoint-100")
    with pytest.raises(InputError, match=r"checkpoint-100: the tokenizer has changed since .* was"):
        run_of_models(probed, models).counterfactuals("all", "input", 5)


def test_models_with_several_tokenizers_are_refused_in_one_line(
    probed: Probed, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of_models(probed, models)
    facts = {step: {"tokenizer": str(step), "name": f"checkpoint-{step}"} for step in run.steps}
    monkeypatch.setattr(run, "facts", facts.get)
    with pytest.raises(
        InputError, match=r"^checkpoint-200 has another tokenizer than checkpoint-1"
    ):
        run.counterfactuals("all", "input", 5)


def test_a_model_that_is_gone_is_refused_in_one_line(probed: Probed, models: Path) -> None:
    shutil.rmtree(models / "checkpoint-200")
    with pytest.raises(InputError, match=r"checkpoint-200: the model of step 200 is gone; restore"):
        run_of_models(probed, models).open_subject(200)
    shutil.rmtree(models)
    with pytest.raises(InputError) as error:
        run_of_models(probed, models).open_subject(200)
    assert "\n" not in str(error.value)


def test_a_position_that_was_not_measured_is_refused(probed: Probed, tiny: Finished) -> None:
    message = "the position 'instruction_last' is not measured, but input; add it"
    for path, split in ((probed.path, "all"), (tiny.path, "val_subset")):
        with pytest.raises(InputError, match=message):
            load_run(path).counterfactuals(split, "instruction_last", 5)


def test_spans_are_edited_as_they_were_measured(stock: Stock, tmp_path: Path) -> None:
    path = tmp_path / "run"
    succeed(*stock.command("--position", "instruction_mean", "--out", path))
    run = load_run(path)
    moved = run.counterfactuals("all", "instruction_mean", 9)
    assert moved.prompts.begin.tolist() == [1] * 9  # after <s>
    assert (moved.prompts.end == moved.prompts.read - 1).all()


def test_without_a_column_of_outputs_the_donors_are_asked(stock: Stock, tmp_path: Path) -> None:
    """Their answers stand in the column of answers, so that no accuracy was measured."""
    rows = [
        {name: value for name, value in row.items() if name != "output"}
        | {"answers": {label: f"{row['input']}{label[0]}" for label in LABELS}}
        for row in stock.rows
    ]
    prompts, out = write_prompts(tmp_path / "answers.jsonl", rows), tmp_path / "run"
    succeed(*stock.command("--prompts", prompts, "--out", out, models=stock.checkpoints[200]))
    edits = ("--edit", "shift", "--edit", "patch", "--edit", "random", "--state", "block1")
    succeed("intervene", out, *edits, "--set", "interventions.draws=2")
    able = {n: a for n, a in read_edits(load_run(out), 200).items() if n.endswith("/able")}
    assert able
    assert all((array >= 0).any(axis=1).all() for array in able.values())
    repair = succeed("intervene", out, "--edit", "repair", "--state", "block1")
    assert "0 errors to repair" in repair.out


def test_a_column_of_answers_is_kept_with_the_prompts(stock: Stock, tmp_path: Path) -> None:
    rows = [
        {name: row[name] for name in ("label", "output", "instruction")}
        | {"text": row["text"].rpartition(" ")[0]}
        | {"answers": {label: f"sea{label[0]}" for label in LABELS if label != row["label"]}}
        for row in stock.rows
    ]
    prompts = write_prompts(tmp_path / "prompts.jsonl", rows)
    succeed(*stock.command("--prompts", prompts, "--out", tmp_path / "run"))
    run = load_run(tmp_path / "run")
    moved = run.counterfactuals("all", "last", 99)
    names = run.names["task"]
    tokens = [VOCABULARY[token] for token in moved.tokens[:, 0]]
    for i, row in enumerate(moved.index):
        for column, task in enumerate(moved.tasks):
            own = rows[row]["label"] == names[task]
            expected = rows[row]["output"] if own else f"sea{names[task][0]}"
            assert tokens[moved.answers[i, column]] == expected


@pytest.mark.long
def test_a_model_run_of_a_training_run_finds_the_same_effects(
    smoke: Finished, tmp_path: Path
) -> None:
    """Compare derived answers and hooks on transformers' GPT-2 with exact answers and ours."""
    trained = Path(shutil.copytree(smoke.path, tmp_path / "trained"))
    quick = [word for item in QUICK for word in ("--set", item)]
    files = [trained / "data" / f"{name}.parquet" for name in ("train_subset", "val_subset")]
    prompts = [word for file in files for word in ("--prompts", file)]
    model = trained / "checkpoints" / "step-00000016"
    succeed("probe", model, *prompts, *quick, "--out", tmp_path / "probed")
    effects = []
    for path in (trained, tmp_path / "probed"):
        every = ("--set", "interventions.instances=1000", "--set", "workers=1")
        succeed("intervene", path, "--edit", "shift", "--state", "block2", "--step", "16", *every)
        run = load_run(path)
        arrays = read_edits(run, 16)
        at = "val_subset/input/"
        tokens = np.append(arrays[f"{at}tokens"][:, 0], -1)  # of both the same numbers
        names = [run.names["task"][task] for task in arrays[f"{at}tasks"]]
        rows = arrays[f"{at}index"]
        right = tokens[arrays[f"{at}answers"]]
        given = tokens[arrays[f"{at}block2/shift/answer"]]
        chance = arrays[f"{at}block2/shift/likelihood"]
        effects.append(
            {
                (row, name): (right[i, t], given[t, i], chance[t, i])
                for i, row in enumerate(rows)
                for t, name in enumerate(names)
                if np.isfinite(chance[t, i, 1])
            }
        )
    exact, derived = effects
    assert len(derived) > 50
    assert {*derived} <= {*exact}
    for pair, (right, given, chance) in derived.items():
        assert exact[pair][:2] == (right, given)
        np.testing.assert_allclose(exact[pair][2], chance, atol=1e-4)
