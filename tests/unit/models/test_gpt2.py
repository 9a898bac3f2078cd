import math

import pytest
import torch

from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.models.gpt2 import GPT2, ModelSettings, check_length, make_model


@pytest.mark.parametrize(("n_layer", "total"), [(12, 124_439_808), (6, 81_912_576)])
def test_the_parameters_of_gpt2_are_as_many_as_published(n_layer: int, total: int) -> None:
    with torch.device("meta"):
        settings = ModelSettings(n_layer=n_layer, n_head=12, n_embd=768)
        model = GPT2(settings, vocab_size=50257, n_positions=1024, seed=0)
    block = model.get_submodule("transformer.h.0")
    sizes = [sum(p.numel() for p in module.parameters()) for module in (model, block)]
    assert sizes == [total, 7_087_872]


@pytest.mark.parametrize("tied", [True, False])
def test_initial_weights_have_gpt2s_statistics(tied: bool) -> None:
    settings = ModelSettings(
        n_layer=8, n_head=2, n_embd=64, initializer_range=0.05, tie_word_embeddings=tied
    )
    model = GPT2(settings, vocab_size=300, n_positions=100, seed=0)
    seen = set()
    for name, parameter in model.named_parameters():
        kind = name.split(".")[-1]
        if parameter.ndim == 1:
            expected = 1.0 if kind == "weight" else 0.0
            assert torch.equal(parameter, torch.full_like(parameter, expected)), name
            continue
        scale = 1 / math.sqrt(2 * 8) if name.endswith("c_proj.weight") else 1.0
        seen.add(scale)
        n = parameter.numel()
        # five standard errors of the deviation and of the mean
        assert abs(parameter.std().item() / (0.05 * scale) - 1) < 5 / math.sqrt(2 * n), name
        assert abs(parameter.mean().item()) < 5 * 0.05 * scale / math.sqrt(n), name
    assert seen == {1.0, 0.25}


def test_a_head_of_its_own_is_one_matrix_more_and_leaves_the_others_as_they_are() -> None:
    tied, untied = (
        GPT2(ModelSettings(n_layer=2, n_embd=16, tie_word_embeddings=tie), 29, 12, seed=0)
        for tie in (True, False)
    )
    mine, more = tied.state_dict(), untied.state_dict()
    assert set(more) - set(mine) == {"lm_head.weight"}
    assert more["lm_head.weight"].shape == (29, 16)
    assert not torch.equal(more["lm_head.weight"], more["transformer.wte.weight"])
    for name, weight in mine.items():
        assert torch.equal(weight, more[name]), name


def test_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone(
    dataset: Dataset, model_settings: ModelSettings
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = make_model(dataset, model_settings, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again = make_model(dataset, model_settings, seed=7)
    other = make_model(dataset, model_settings, seed=8)
    for name, parameter in first.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name
        if parameter.ndim == 2:
            assert not torch.equal(parameter, other.state_dict()[name]), name


def test_make_model_fits_the_dataset(dataset: Dataset) -> None:
    model = make_model(dataset, ModelSettings(n_layer=1, n_embd=8))
    assert model.vocab_size == len(dataset.vocabulary) == 1 + 5 + 6 + 6
    assert model.n_positions == max(map(len, dataset.instructions)) + 2


@pytest.mark.parametrize("dropped", ["embedding", "attention", "attention branch", "mlp branch"])
def test_dropout_acts_at_each_of_gpt2s_four_places(dropped: str) -> None:
    settings = ModelSettings(n_layer=1, n_head=1, n_embd=32, dropout=0.5, initializer_range=0.2)
    model = GPT2(settings, vocab_size=9, n_positions=8, seed=0).train()
    block = model.get_submodule("transformer.h.0")
    with torch.no_grad():  # silence every other place by making what it drops 0
        if dropped != "embedding":
            model.drop.p = 0.0
        if dropped != "attention":
            block.get_submodule("attn.drop").p = 0.0  # type: ignore[assignment]
        if not dropped.startswith("attention"):
            block.get_parameter("attn.c_proj.weight").zero_()
        if dropped != "mlp branch":
            block.get_parameter("mlp.c_proj.weight").zero_()
        if dropped == "attention":
            block.get_submodule("drop").p = 0.0  # type: ignore[assignment]
    torch.manual_seed(0)
    row = torch.arange(8)[None], 8, torch.tensor([8])
    assert not torch.equal(model(*row)[0], model(*row)[0])
    model.eval()
    assert torch.equal(model(*row)[0], model(*row)[0])


def test_a_width_that_heads_do_not_divide_and_a_row_longer_than_the_context_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"n_embd = 30: should be a multiple of n_head = 4, e.g. 28"
    ):
        ModelSettings(n_embd=30, n_head=4)
    check_length(7, 7)
    message = "a row of 8 tokens does not fit the model's 7 positions"
    with pytest.raises(InputError, match=message):
        check_length(7, 8)
