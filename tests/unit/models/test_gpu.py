"""Compare what a GPU computes with what the CPU computes; skipped without a GPU.

TASKLENS_TEST_DEVICE names the device. With cpu the tests run anywhere and compare the CPU with
itself, which keeps them in order on machines without a GPU.
"""

import copy
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models.families import family_model, made_prompts
from models.plain_hooks import some_edits, spans
from tasklens.data.dataset import Dataset
from tasklens.data.edited_prompts import EditedPrompts
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import is_out_of_memory, multiplies_bf16, seeded, tokens_that_fit
from tasklens.models.gpt2 import ModelSettings, make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.open_editor import open_editor
from tasklens.models.subject import Harvest
from tasklens.models.training import StepLog, Trainer, TrainSettings, train

DEVICE = os.environ.get("TASKLENS_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.skipif(
    DEVICE != "cpu" and not torch.cuda.is_available(), reason="needs a CUDA GPU"
)
SMALL = ModelSettings(n_layer=2, n_head=2, n_embd=16, initializer_range=0.1)
STEPS = 12


def settings_on(device: str, precision: str = "fp32") -> TrainSettings:
    return TrainSettings(
        steps=STEPS,
        instructions_per_step=4,
        learning_rate=1e-2,
        warmup_steps=3,
        threads=1,
        device=device,
        precision=precision,
    )


def trainer_on(device: str, dataset: Dataset, size: ModelSettings, precision: str) -> Trainer:
    return Trainer(make_model(dataset, size, seed=0), dataset, settings_on(device, precision), 0)


def losses_left(trainer: Trainer) -> list[float]:
    log: list[StepLog] = []
    trainer.run(lambda _, entry: log.append(entry))
    return [entry.loss for entry in log]


def assert_near(ours: Harvest, theirs: Harvest, tolerance: float) -> None:
    """Compare states by the distance as a part of the norm."""
    assert ours.states.keys() == theirs.states.keys()
    for name, state in ours.states.items():
        distance = np.linalg.norm(state - theirs.states[name], axis=1)
        norm = np.linalg.norm(theirs.states[name], axis=1)
        assert (distance <= tolerance * norm).all(), f"{name}: {(distance / norm).max()}"


def test_training_and_harvesting_equal_those_of_the_cpu(dataset: Dataset) -> None:
    losses, harvests = [], []
    for device in ("cpu", DEVICE):
        model = make_model(dataset, SMALL, seed=0)
        losses.append(train(model, dataset, settings_on(device))["loss"].tolist())
        harvests.append(harvest(GPT2Subject(model), dataset.prompts("val_subset")))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[0][-1] < losses[0][0]
    assert_near(harvests[1], harvests[0], 1e-2)


def test_states_of_equal_weights_equal_those_of_the_cpu(dataset: Dataset) -> None:
    size = SMALL.changed(initializer_range=0.3)
    model = make_model(dataset, size, seed=0)
    prompts = dataset.prompts("val_subset")
    on_cpu = harvest(GPT2Subject(model), prompts)
    on_device = harvest(GPT2Subject(model.to(DEVICE)), prompts)
    assert_near(on_device, on_cpu, 1e-4)
    assert (on_device.answer == on_cpu.answer).mean() > 0.95  # near ties may turn


@pytest.mark.parametrize("kind", ["last", "span"])
@pytest.mark.parametrize("family", ["", "llama", "mamba"])
def test_answers_to_edits_equal_those_of_the_cpu(family: str, kind: str, dataset: Dataset) -> None:
    """Edit our GPT-2 and families of transformers."""
    asked = made_prompts(alike=True) if family else dataset.prompts("val_subset")
    prompts = EditedPrompts(asked.ids, asked.position, *spans(kind, asked.position))
    model = copy.deepcopy(family_model(family)) if family else make_model(dataset, SMALL, seed=0)
    tokens = np.arange(15)[:, None]
    edits = some_edits(np.random.default_rng(0), len(prompts), 16, len(tokens))
    on_cpu = open_editor(model, prompts, tokens)
    expected, states = on_cpu.answer("block1", *edits), on_cpu.states(["block1"])["block1"]
    on_device = open_editor(model.to(DEVICE), prompts, tokens)
    got = on_device.answer("block1", *edits)
    np.testing.assert_allclose(got.likelihood, expected.likelihood, rtol=0, atol=1e-3)
    assert (got.answer == expected.answer).mean() > 0.95  # near ties may turn
    np.testing.assert_allclose(on_device.states(["block1"])["block1"], states, atol=1e-3)
    assert np.array_equal(on_device.unembedding(tokens[:, 0]), on_cpu.unembedding(tokens[:, 0]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_run_resumes_from_its_state(dataset: Dataset, dropout: float, precision: str) -> None:
    size = SMALL.changed(dropout=dropout)
    whole, begun = (trainer_on(DEVICE, dataset, size, precision) for _ in range(2))
    resumed = Trainer(make_model(dataset, size, seed=99), dataset, whole.settings, seed=0)
    for batch in islice(begun.batches(), 5):
        begun.take_step(batch)
    resumed.load_state(safetensors.torch.load(safetensors.torch.save(begun.state())))
    losses = losses_left(whole)
    assert losses_left(resumed) == pytest.approx(losses[5:], rel=1e-3)


def test_bf16_is_near_and_keeps_weights_in_fp32(dataset: Dataset) -> None:
    full, half = (trainer_on(DEVICE, dataset, SMALL, precision) for precision in ("fp32", "bf16"))
    losses, rounded = losses_left(full), losses_left(half)
    assert {(p.dtype, p.device.type) for p in half.model.parameters()} == {
        (torch.float32, torch.device(DEVICE).type)
    }
    assert rounded == pytest.approx(losses, rel=0.03)
    assert rounded != losses


def test_auto_is_bf16_if_the_device_multiplies_it(dataset: Dataset) -> None:
    wide = ModelSettings(n_layer=1, n_head=1, n_embd=128)
    capable = multiplies_bf16(torch.device(DEVICE))
    trainer = trainer_on(DEVICE, dataset, wide, "auto")
    assert trainer.choose_precision() == ("bf16" if capable else "fp32")


def test_seeding_a_device_is_undone() -> None:
    device = torch.device(DEVICE)
    torch.rand(1, device=device)
    before = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    drawn = []
    for seed in (3, 3, 4):
        with seeded(seed, device):
            drawn.append(torch.rand(8, device=device))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    after = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("together", [True, False])
def test_a_hugging_face_model_reads_as_on_the_cpu(
    prompts: Prompts, alike: Prompts, together: bool
) -> None:
    """In rows and in trees."""
    read = alike if together else prompts
    subject = HuggingFaceSubject(family_model("llama"))
    on_cpu = subject.harvest(read, subject.names)
    moved = HuggingFaceSubject(copy.deepcopy(family_model("llama")).to(DEVICE))
    assert moved.device.type == torch.device(DEVICE).type
    assert moved.names == subject.names
    assert_near(moved.harvest(read, moved.names), on_cpu, 1e-4)
    assert moved.weights_hash() == subject.weights_hash()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("untrained", [None, 1])
def test_a_saved_model_is_loaded_onto_the_device(
    saved: Path, prompts: Prompts, dtype: str, untrained: int | None
) -> None:
    """A network with fresh weights has the same ones on every device."""
    on_cpu = load_subject(saved, dtype=dtype, untrained=untrained)
    subject = load_subject(saved, device=DEVICE, dtype=dtype, untrained=untrained)
    ours, theirs = (each.harvest(prompts, each.names) for each in (subject, on_cpu))
    assert {state.dtype for state in ours.states.values()} == {np.dtype(np.float32)}
    assert_near(ours, theirs, 1e-4 if dtype == "float32" else 0.1)
    assert subject.weights_hash() == on_cpu.weights_hash()


def test_a_model_spread_over_all_devices_reads_as_on_the_cpu(saved: Path, prompts: Prompts) -> None:
    pytest.importorskip("accelerate")
    spread, on_cpu = load_subject(saved, device="auto"), load_subject(saved)
    ours, theirs = (each.harvest(prompts, each.names) for each in (spread, on_cpu))
    assert_near(ours, theirs, 1e-4)


def test_exhausted_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, device=DEVICE)
    assert is_out_of_memory(error.value)
    assert tokens_that_fit(torch.device(DEVICE), 768) >= 1
