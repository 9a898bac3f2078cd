import copy
import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import safetensors.torch
import torch

from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.models.gpt2 import GPT2, ModelSettings, make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.loss import loss_and_hits
from tasklens.models.lr_schedule import learning_rate
from tasklens.models.training import NARROW, StepLog, Trainer, TrainSettings, train

QUICK = TrainSettings(
    steps=12, instructions_per_step=4, learning_rate=1e-2, warmup_steps=3, threads=1
)
SMALL = ModelSettings(n_layer=2, n_head=2, n_embd=16, initializer_range=0.1)


def log_of(trainer: Trainer) -> list[StepLog]:
    """Return the log of the steps that are left."""
    log: list[StepLog] = []
    trainer.run(lambda _, entry: log.append(entry))
    return log


def trainer_of(dataset: Dataset, size: ModelSettings = SMALL, **keys: object) -> Trainer:
    return Trainer(make_model(dataset, size, seed=0), dataset, QUICK.changed(**keys), seed=0)


@pytest.mark.parametrize(
    ("grad_clip", "what"),
    [
        (0.5, {"loss": "all", "output_weight": 1.0}),
        (1e6, {"loss": "all", "output_weight": 5.0}),
        (1e6, {"loss": "output", "output_weight": 1.0}),
    ],
)
def test_steps_are_adamw_with_clipping_by_hand(
    dataset: Dataset, disturbed: Callable[[GPT2], GPT2], grad_clip: float, what: dict[str, Any]
) -> None:
    """Biases and norms, which do not decay, are not at their initial values."""
    adamw = {"weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6}
    settings = QUICK.changed(grad_clip=grad_clip, **adamw, **what)
    model = disturbed(make_model(dataset, SMALL, seed=0))
    trainer = Trainer(model, dataset, settings, seed=0)
    by_hand = copy.deepcopy(model)
    parameters = dict(by_hand.named_parameters())
    first = {name: torch.zeros_like(p) for name, p in parameters.items()}
    second = {name: torch.zeros_like(p) for name, p in parameters.items()}
    clipped = []
    for t, batch in enumerate(islice(trainer.batches(), 5), 1):
        by_hand.zero_grad()
        loss, hits = loss_and_hits(by_hand, batch, **what)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients.values()))
        clipped.append(norm > grad_clip)
        rate = learning_rate(t - 1, peak=1e-2, floor=0.0, warmup=3, total=12)
        with torch.no_grad():
            for name, p in parameters.items():
                g = gradients[name] * min(1.0, grad_clip / norm)
                first[name] = 0.8 * first[name] + 0.2 * g
                second[name] = 0.95 * second[name] + 0.05 * g**2
                p.mul_(1 - rate * (0.1 if p.ndim == 2 else 0.0))
                root = (second[name] / (1 - 0.95**t)).sqrt()
                p.sub_(rate * first[name] / (1 - 0.8**t) / (root + 1e-6))
        log = trainer.take_step(batch)
        assert log.step == trainer.step == t
        assert log.loss == pytest.approx(loss.item(), rel=1e-5)
        assert log.accuracy == pytest.approx(hits.float().mean().item())
        assert log.learning_rate == rate
        assert log.grad_norm == pytest.approx(norm, rel=1e-4)
        for name, p in model.named_parameters():
            torch.testing.assert_close(p, parameters[name], rtol=1e-4, atol=1e-5, msg=name)
    assert any(clipped) == (grad_clip < 1)


def test_the_rows_of_a_batch_are_training_instances(dataset: Dataset) -> None:
    part = dataset.splits["train"]
    known = {
        (dataset.instructions[i], int(x), int(y))
        for i, x, y in zip(part.instruction, part.input, part.output, strict=True)
    }
    seen = set()
    for batch in islice(trainer_of(dataset).batches(), 30):
        assert len(batch.prefix) == 4
        for prefix, length, inputs, outputs in zip(*batch, strict=True):
            text = "".join(dataset.vocabulary.tokens[t] for t in prefix[:length])
            pairs = zip(inputs.tolist(), outputs.tolist(), strict=True)
            seen |= {(text, x, y) for x, y in pairs}
    assert seen == known


@pytest.mark.parametrize(("dropout", "inputs"), [(0.0, 0), (0.3, 0), (0.0, 2)])
@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_resumed_run_ends_in_the_same_bytes(
    dataset: Dataset, dropout: float, inputs: int, stop: int
) -> None:
    size = ModelSettings(n_layer=2, n_head=2, n_embd=16, dropout=dropout)
    settings = QUICK.changed(inputs_per_row=inputs)
    whole = trainer_of(dataset, size, inputs_per_row=inputs)
    whole_log = log_of(whole)
    begun = trainer_of(dataset, size, inputs_per_row=inputs)
    for batch in islice(begun.batches(), stop):
        begun.take_step(batch)
    saved = safetensors.torch.save(begun.state())
    torch.manual_seed(123)  # the global generator is elsewhere after a restart
    resumed = Trainer(make_model(dataset, size, seed=99), dataset, settings, seed=0)
    resumed.load_state(safetensors.torch.load(saved))
    assert resumed.step == stop
    assert safetensors.torch.save(resumed.state()) == saved
    assert log_of(resumed) == whole_log[stop:]
    assert safetensors.torch.save(resumed.state()) == safetensors.torch.save(whole.state())


def test_harvesting_on_the_way_changes_nothing(dataset: Dataset) -> None:
    size = ModelSettings(n_layer=1, n_head=2, n_embd=16, dropout=0.2)
    alone, watched = (make_model(dataset, size, seed=0) for _ in range(2))
    train(alone, dataset, QUICK)
    prompts = dataset.prompts("train")
    harvest(GPT2Subject(watched), prompts)  # caches must not carry inference mode into training
    train(watched, dataset, QUICK, on_step=lambda t, _: harvest(GPT2Subject(t.model), prompts))
    mine, theirs = (safetensors.torch.save(model.state_dict()) for model in (watched, alone))
    assert mine == theirs


def test_dropout_leaves_the_global_generator_alone_and_differs_between_steps(
    dataset: Dataset,
) -> None:
    size = ModelSettings(n_layer=1, n_head=2, n_embd=16, dropout=0.5)
    trainer = trainer_of(dataset, size, learning_rate=1e-30)
    batch = next(trainer.batches())
    before = torch.get_rng_state()
    assert len({trainer.take_step(batch).loss for _ in range(3)}) == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_bf16_is_near_and_keeps_weights_in_fp32(dataset: Dataset) -> None:
    full, half = (trainer_of(dataset, precision=precision) for precision in ("fp32", "bf16"))
    losses, rounded = ([entry.loss for entry in log_of(trainer)] for trainer in (full, half))
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert rounded == pytest.approx(losses, rel=0.03)
    assert rounded != losses


WIDE = ModelSettings(n_layer=1, n_head=1, n_embd=NARROW)


@pytest.mark.parametrize("capable", [True, False])
def test_auto_is_bf16_if_the_device_multiplies_it_and_the_model_is_wide(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capable: bool
) -> None:
    monkeypatch.setattr("tasklens.models.training.multiplies_bf16", lambda device: capable)
    autocast = []
    trainer = trainer_of(dataset, WIDE, precision="auto")
    trainer.model.register_forward_pre_hook(
        lambda *_: autocast.append(torch.is_autocast_enabled("cpu"))
    )
    assert trainer.precision is None
    trainer.take_step(next(trainer.batches()))
    assert trainer.precision == ("bf16" if capable else "fp32")
    assert autocast == [capable]
    assert trainer_of(dataset, SMALL, precision="auto").choose_precision() == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_set_is_kept(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(
        "tasklens.models.training.multiplies_bf16", lambda device: precision == "fp32"
    )
    assert trainer_of(dataset, WIDE, precision=precision).choose_precision() == precision
    assert trainer_of(dataset, SMALL, precision=precision).choose_precision() == precision
    resumed = trainer_of(dataset, WIDE, precision="auto")
    resumed.precision = precision
    assert resumed.choose_precision() == precision


def test_a_missing_device_is_refused_in_one_line(dataset: Dataset) -> None:
    message = (
        r"^train.device = 'cuda:99': PyTorch .* sees \d+ CUDA GPUs on this machine: should be cpu"
    )
    with pytest.raises(InputError, match=message):
        trainer_of(dataset, device="cuda:99")


def test_a_run_that_diverges_is_refused_in_one_line(dataset: Dataset) -> None:
    steps: list[int] = []
    with pytest.raises(InputError) as error:
        trainer_of(dataset, learning_rate=1e30).run(lambda _, log: steps.append(log.step))
    why = f"training diverged at step {len(steps) + 1}: loss nan, gradient norm nan"
    right = "lower train.learning_rate or lengthen train.warmup_steps"
    assert str(error.value) == f"{why}; {right}"


def test_training_learns_what_it_is_shown(dataset: Dataset) -> None:
    model = make_model(dataset, SMALL, seed=0)
    settings = QUICK.changed(steps=250, instructions_per_step=10, warmup_steps=10)
    curve = train(model.eval(), dataset, settings)
    assert not model.training, "its mode is as it was"
    assert curve["step"].tolist() == list(range(1, 251))
    uniform = math.log(len(dataset.vocabulary))
    first, last = curve["loss"].iloc[[0, -1]]
    assert first == pytest.approx(uniform, rel=0.15)
    assert last < 0.6 * first
    answer = harvest(GPT2Subject(model), dataset.prompts("train"), names=()).answer
    assert (answer == dataset.splits["train"].output).mean() > 0.5  # one in six by chance


def test_a_model_that_does_not_fit_the_data_is_refused(dataset: Dataset) -> None:
    n_tokens, n_positions = len(dataset.vocabulary), dataset.n_positions
    Trainer(GPT2(SMALL, n_tokens, n_positions - 1, 0), dataset, QUICK, 0)
    with pytest.raises(InputError, match="tokens does not fit the model's"):
        Trainer(GPT2(SMALL, n_tokens, n_positions - 2, 0), dataset, QUICK, 0)
    message = f"the dataset has {n_tokens} tokens, the model only {n_tokens - 1}"
    with pytest.raises(InputError, match=message):
        Trainer(GPT2(SMALL, n_tokens - 1, n_positions, 0), dataset, QUICK, 0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"final_learning_rate": 0.1},
            "final_learning_rate = 0.1: should be at most learning_rate = 0.01",
        ),
        ({"warmup_steps": 13}, "warmup_steps = 13: should be at most steps = 12"),
    ],
)
def test_settings_that_contradict_each_other(keys: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        QUICK.changed(**keys)
