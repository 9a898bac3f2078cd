"""Compare the first steps of a tiny model with the recorded ones.

If a change is meant to change them, record them again and give the reason in the commit:

    python tests/golden/test_loss_curve.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasklens.data.synthetic import DataSettings, make_dataset
from tasklens.data.tasks import TaskSettings
from tasklens.models.gpt2 import ModelSettings, make_model
from tasklens.models.training import TrainSettings, train

CURVE = Path(__file__).with_name("loss_curve.json")


def loss_curve() -> list[dict[str, Any]]:
    """Train for 30 steps, on given regular expressions so that random grammars change nothing."""
    torch.set_num_threads(1)
    size = {"n_tasks": 3, "n_inputs": 5, "inputs_per_task": 4, "n_outputs": 5}
    lengths = {"min_length": 2, "max_length": 6, "variants_per_task": 10}
    tasks = TaskSettings(**size, **lengths, regexes=("(a|b)+", "c(a|b|c)*", "(d|a)*dd"))
    data = DataSettings(
        val_inputs=1, val_instruction_fraction=0.2, measured_tasks=2, measured_instances=10
    )
    dataset = make_dataset(tasks, data, seed=0)
    model = make_model(dataset, ModelSettings(n_layer=2, n_head=2, n_embd=16), seed=0)
    # At a rate of 1e-2 a rounding error grows a thousandfold in 30 steps, at this one hardly.
    steps = {"steps": 30, "instructions_per_step": 6, "warmup_steps": 5}
    settings = TrainSettings(**steps, learning_rate=3e-3, beta2=0.999, threads=1)
    curve = train(model, dataset, settings, seed=0)
    return curve[["loss", "grad_norm", "accuracy"]].to_dict("records")  # type: ignore[no-any-return]


def test_the_loss_curve_is_the_one_on_file() -> None:
    expected = json.loads(CURVE.read_text())
    got = loss_curve()
    assert len(got) == len(expected) == 30
    for key in ("loss", "grad_norm"):
        assert [e[key] for e in got] == pytest.approx([e[key] for e in expected], rel=1e-4)
    # a near tie may fall either way on another processor
    accuracy = [e["accuracy"] for e in expected]
    assert [e["accuracy"] for e in got] == pytest.approx(accuracy, abs=0.08)
    assert expected[-1]["loss"] < expected[0]["loss"] - 0.4


if __name__ == "__main__":
    CURVE.write_text(json.dumps(loss_curve(), indent=1) + "\n")
