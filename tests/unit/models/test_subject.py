import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.synthetic import Dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.gpt2 import GPT2, ModelSettings, make_model, state_names
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.subject import Harvest, harvest

OneByOne = Callable[[GPT2, Prompts], tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]]


@pytest.fixture
def prompts(dataset: Dataset) -> Prompts:
    return dataset.prompts("train_subset")


def taken(prompts: Prompts, which: NDArray[np.int64]) -> Prompts:
    return Prompts(prompts.ids[which], prompts.position[which])


def test_states_and_answers_are_those_of_transformers_one_prompt_at_a_time(
    model: GPT2, prompts: Prompts, one_by_one: OneByOne
) -> None:
    assert len(set(prompts.position.tolist())) > 1
    expected, answer = one_by_one(model, prompts)
    got = harvest(GPT2Subject(model), prompts)
    assert tuple(got.states) == tuple(expected) == state_names(2)
    for name, state in got.states.items():
        assert state.dtype == np.float32
        assert state.shape == (len(prompts), 16)
        np.testing.assert_allclose(state, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert got.answer.tolist() == answer.tolist()
    assert len(set(answer.tolist())) > 1


@pytest.mark.parametrize("max_tokens", [1, 23, 8192])
def test_neither_order_nor_batching_changes_a_state(
    model: GPT2, prompts: Prompts, max_tokens: int
) -> None:
    whole = harvest(GPT2Subject(model), prompts)
    order = np.random.default_rng(0).permutation(len(prompts))
    some = np.append(order[:13], order[0])  # one of them twice
    got = harvest(GPT2Subject(model, max_tokens=max_tokens), taken(prompts, some))
    for name, state in got.states.items():
        np.testing.assert_allclose(state, whole.states[name][some], rtol=1e-5, atol=2e-6)
    assert np.array_equal(got.answer, whole.answer[some])


def test_what_stands_behind_the_position_is_not_read(model: GPT2, prompts: Prompts) -> None:
    junk = np.random.default_rng(0).integers(model.vocab_size, size=(len(prompts), 6))
    ids = np.concatenate([prompts.ids, junk], axis=1)
    behind = np.arange(ids.shape[1]) > prompts.position[:, None]
    ids[behind] = model.vocab_size - 1
    whole = harvest(GPT2Subject(model), prompts)
    got = harvest(GPT2Subject(model), Prompts(ids, prompts.position))
    for name, state in got.states.items():
        assert np.array_equal(state, whole.states[name])


def test_only_the_names_that_are_asked_for_come_back(model: GPT2, prompts: Prompts) -> None:
    whole = harvest(GPT2Subject(model), prompts)
    got = harvest(GPT2Subject(model), prompts, ["block2", "wte"])
    assert set(got.states) == {"block2", "wte"}
    for name, state in got.states.items():
        assert np.array_equal(state, whole.states[name])
    nothing = harvest(GPT2Subject(model), prompts, ())
    assert nothing.states == {}
    assert np.array_equal(nothing.answer, whole.answer)


@pytest.mark.parametrize("name", ["block3", "block0", "0", "hidden"])
def test_an_unknown_name_lists_the_known_ones(model: GPT2, prompts: Prompts, name: str) -> None:
    with pytest.raises(InputError) as error:
        harvest(GPT2Subject(model), prompts, ["wte", name])
    assert str(error.value) == (
        f"no state {name!r}; this model has wte, embed, block1, block2, ln_f"
    )


def test_states_are_read_without_dropout(dataset: Dataset, prompts: Prompts) -> None:
    still, noisy = (
        make_model(ModelSettings(n_layer=1, n_head=1, n_embd=8, dropout=p), dataset, seed=0)
        for p in (0.0, 0.5)
    )
    noisy.train()
    expected = harvest(GPT2Subject(still), prompts)
    for name, state in harvest(GPT2Subject(noisy), prompts).states.items():
        assert np.array_equal(state, expected.states[name])


def test_a_prompt_longer_than_the_context_is_refused(dataset: Dataset, prompts: Prompts) -> None:
    longest = int(prompts.position.max()) + 1
    size = ModelSettings(n_layer=1, n_head=1, n_embd=8)
    fits = GPT2(size, len(dataset.vocabulary), longest, seed=0)
    assert len(harvest(GPT2Subject(fits), prompts).answer) == len(prompts)
    short = GPT2(size, len(dataset.vocabulary), longest - 1, seed=0)
    with pytest.raises(InputError, match=f"a row of {longest} tokens does not fit"):
        harvest(GPT2Subject(short), prompts)


def test_states_hold_on_to_no_graph(model: GPT2, prompts: Prompts) -> None:
    harvest(GPT2Subject(model), prompts)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.is_grad_enabled()


class Constant:
    """A Subject that answers every prompt with 1."""

    names: tuple[str, ...] = ("block1",)
    step = 64

    def harvest(self, prompts: Prompts, names: Sequence[str]) -> Harvest:
        states = {name: np.ones((len(prompts), 2), dtype=np.float32) for name in names}
        return Harvest(states, np.ones(len(prompts), dtype=np.int64))


def test_a_harvest_carries_split_step_and_position(dataset: Dataset, model: GPT2) -> None:
    got = harvest(Constant(), dataset.prompts("val_subset"))
    assert (got.split, got.step, got.position) == ("val_subset", 64, "input")
    assert set(got.states) == {"block1"}
    named = Prompts(np.array([[1, 2]]), np.array([1]), position_name="instruction_last")
    got = harvest(GPT2Subject(model, step=8), named)
    assert (got.split, got.step, got.position) == ("", 8, "instruction_last")


def test_the_protocol_loads_no_torch() -> None:
    program = "import sys, tasklens.models.subject; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
