"""Small things that many tests share: a dataset, models, and transformers' GPT-2 as the witness."""

import errno
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from tasklens.data.dataset import Dataset
from tasklens.data.synthetic import DataSettings, make_dataset
from tasklens.data.tasks import TaskSettings
from tasklens.data.token_prompts import Prompts
from tasklens.models.checkpoints import config_of
from tasklens.models.gpt2 import GPT2, ModelSettings, make_model

torch.set_num_threads(1)

#: Seconds that a test waits for an event. Only a hang takes so long: no verdict depends on the
#: speed of the machine, or on other processes.
HANG = 600

#: How many times as many examples the properties and the fuzz have in the long run.
FUZZ = int(os.environ.get("TASKLENS_FUZZ", "1"))

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,  # the seed of a test's examples is its source
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100 * FUZZ,
)
settings.load_profile("suite")


def examples(n: int) -> settings:
    """Return the settings of a property that is tried on n examples, or `FUZZ` times as many."""
    return settings(max_examples=n * FUZZ)


HuggingFace = Callable[[GPT2], Any]
States = dict[str, NDArray[np.float32]]
OneByOne = Callable[[GPT2, Prompts], tuple[States, NDArray[np.int64]]]


class FullDisk:
    """Stands for `os.fsync` and fails from the n-th call on; counts the calls."""

    def __init__(self, n: float) -> None:
        self.n, self.calls, self.real = n, 0, os.fsync

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls > self.n:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(descriptor)


@pytest.fixture(scope="session")
def task_settings() -> TaskSettings:
    """Five tasks with instructions of many lengths and numbers of variants."""
    return TaskSettings(
        n_tasks=5,
        n_inputs=6,
        inputs_per_task=5,
        n_outputs=6,
        min_length=3,
        max_length=8,
        variants_per_task=12,
    )


@pytest.fixture(scope="session")
def data_settings() -> DataSettings:
    return DataSettings(
        val_inputs=2, val_instruction_fraction=0.2, measured_tasks=3, measured_instances=20
    )


@pytest.fixture(scope="session")
def dataset(task_settings: TaskSettings, data_settings: DataSettings) -> Dataset:
    """Not to be changed."""
    return make_dataset(task_settings, data_settings, seed=1)


@pytest.fixture(scope="session")
def model_settings() -> ModelSettings:
    """Weights so large that every part of the network changes its output."""
    return ModelSettings(n_layer=2, n_head=2, n_embd=16, initializer_range=0.3)


@pytest.fixture
def model(model_settings: ModelSettings, dataset: Dataset) -> GPT2:
    """A new model, with no norm and no bias at its initial value."""
    return disturb(make_model(dataset, model_settings, seed=2))


@pytest.fixture(scope="session")
def hugging_face() -> HuggingFace:
    """Return the same model as transformers' GPT2LMHeadModel, in eval mode."""
    return as_hugging_face


@pytest.fixture(scope="session")
def one_by_one() -> OneByOne:
    """Return the states by name and the answer of transformers for each prompt, one at a time."""
    return run_one_by_one


@pytest.fixture(scope="session")
def disturbed() -> Callable[[GPT2], GPT2]:
    """Return a model with its norms and biases disturbed, in place."""
    return disturb


def disturb(model: GPT2) -> GPT2:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def as_hugging_face(model: GPT2) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2LMHeadModel(GPT2Config(**config_of(model)))
    fit = theirs.load_state_dict(model.state_dict(), strict=False)
    assert fit.unexpected_keys == []
    assert set(fit.missing_keys) <= {"lm_head.weight"}
    theirs.tie_weights()
    return theirs.eval()


@torch.inference_mode()
def run_one_by_one(model: GPT2, prompts: Prompts) -> tuple[States, NDArray[np.int64]]:
    theirs = as_hugging_face(model)
    blocks: list[torch.Tensor] = []

    def keep(_: object, __: object, output: Any) -> None:
        blocks.append(output[0] if isinstance(output, tuple) else output)

    for block in theirs.transformer.h:
        block.register_forward_hook(keep)
    rows: dict[str, list[NDArray[np.float32]]] = {}
    answers = []
    for ids, position in zip(prompts.ids, prompts.position, strict=True):
        blocks.clear()
        row = torch.from_numpy(ids[: position + 1])[None]
        out = theirs(row, output_hidden_states=True)
        named = {"wte": theirs.transformer.wte(row), "embed": out.hidden_states[0]}
        named |= {f"block{i}": state for i, state in enumerate(blocks, 1)}
        for name, state in (named | {"ln_f": out.hidden_states[-1]}).items():
            rows.setdefault(name, []).append(state[0, -1].numpy())
        answers.append(int(out.logits[0, -1].argmax()))
    return {name: np.stack(states) for name, states in rows.items()}, np.array(answers)
