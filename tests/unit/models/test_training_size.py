from typing import Any

import pytest

from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.data.synthetic import make_dataset
from tasklens.models.gpt2 import GPT2, ModelSettings, make_model
from tasklens.models.training import Trainer, TrainSettings
from tasklens.models.training_size import Step, check_rows, training_bytes


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(n_tasks=4, variants_per_task=20, measured_tasks=4, measured_instances=50)


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasklens.core.memory.free_memory", lambda: 8 * 10**9)
    monkeypatch.setattr("tasklens.models.training.free_bytes", lambda _: 8 * 10**9)


@pytest.mark.parametrize("tied", [True, False])
def test_the_number_of_parameters_is_that_of_the_network(tied: bool) -> None:
    settings = ModelSettings(n_layer=3, n_head=2, n_embd=10, tie_word_embeddings=tied)
    model = GPT2(settings, 30, 12, seed=0)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert settings.network(30, 12).n_parameters == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embd": 100_000}, r"^model\.n_embd = 100000: the network needs at least 2,880 GB of"),
        ({"n_embd": 2**31 - 4}, r"^model\.n_embd = 2147483644: .* should be at most 5200"),
        ({"n_layer": 10_000}, r"^model\.n_layer = 10000: the network needs at least 32 GB"),
        ({"n_layer": 100_000}, "n_layer = 100000: should be at most 10000"),
        ({"n_embd": 2**32}, "n_embd = 4294967296: should be less than 2147483648"),
    ],
)
def test_a_network_beyond_the_memory_is_refused_before_it_is_made(
    dataset: Dataset, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_model(dataset, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"instructions_per_step": 10**9},
            r"^train\.instructions_per_step = 1000000000: a training step needs at least",
        ),
        ({"instructions_per_step": 2**31}, "should be less than 2147483648"),
        ({"threads": 100_000}, "threads = 100000: should be at most 1024"),
    ],
)
def test_a_step_beyond_the_memory_is_refused_before_it_is_made(
    dataset: Dataset, changes: dict[str, Any], message: str
) -> None:
    model = make_model(dataset, n_layer=1, n_head=1, n_embd=8)
    with pytest.raises(InputError, match=message):
        Trainer(model, dataset, TrainSettings(**changes), seed=0)


def test_training_data_beyond_the_memory_are_refused() -> None:
    check_rows(10**6, 18)
    with pytest.raises(InputError, match=r"^training instances = 100000000: the training data"):
        check_rows(10**8, 18)


def test_the_estimate_of_a_step_is_less_than_what_was_measured() -> None:
    # The largest resident memory, less that before the model was made, of two steps in MB.
    measured = {
        (6, 128, 4, 102, 256, Step(16, 43, 2)): 887,
        (2, 64, 1, 3054, 64, Step(16, 43, 4)): 281,
        (12, 768, 12, 102, 16, Step(16, 43, 2)): 1874,
        (4, 64, 8, 354, 32, Step(16, 295, 4)): 978,
        (500, 8, 1, 102, 16, Step(16, 43, 4)): 728,
    }
    for (n_layer, n_embd, n_head, vocabulary, rows, step), used in measured.items():
        settings = ModelSettings(n_layer=n_layer, n_embd=n_embd, n_head=n_head)
        estimated = training_bytes(settings.network(vocabulary, 18), rows, step) / 1e6
        assert 0.5 * used < estimated < used
