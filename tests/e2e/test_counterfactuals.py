"""Test what finished runs give to interventions: counterfactual answers, and their models."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from e2e.conftest import Finished
from tasklens.core.errors import InputError
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.runs.load_run import load_run
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
