import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.gpt2 import GPT2, ModelSettings, make_model, state_names
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.subject import Harvest

OneByOne = Callable[[GPT2, Prompts], tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]]


@pytest.fixture
def prompts(dataset: Dataset) -> Prompts:
    """Return prompts with junk after their measured tokens."""
    ids, position = dataset.prompts("train_subset").ids, dataset.prompts("train_subset").position
    ids = np.pad(ids, ((0, 0), (0, 6)))
    behind = np.arange(ids.shape[1]) > position[:, None]
    return Prompts(np.where(behind, len(dataset.vocabulary) - 1, ids), position)


@pytest.mark.parametrize("max_tokens", [0, 1, 23])
def test_states_and_answers_are_those_of_transformers_one_prompt_at_a_time(
    model: GPT2, prompts: Prompts, one_by_one: OneByOne, max_tokens: int
) -> None:
    """In whatever order and batches; what stands behind is not read; states hold no graph."""
    expected, answer = one_by_one(model, prompts)
    order = np.random.default_rng(0).permutation(len(prompts))
    order = np.append(order, order[0])  # one of them twice
    shuffled = Prompts(prompts.ids[order], prompts.position[order])
    assert len(set(prompts.position.tolist())) > 1
    got = harvest(GPT2Subject(model, max_tokens=max_tokens), shuffled)
    assert tuple(got.states) == tuple(expected) == state_names(2)
    for name, state in got.states.items():
        assert state.dtype == np.float32
        np.testing.assert_allclose(state, expected[name][order], rtol=1e-5, atol=2e-6, err_msg=name)
    assert got.answer.tolist() == answer[order].tolist()
    assert len(set(answer.tolist())) > 1
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.is_grad_enabled()


@pytest.fixture(params=[GPT2Subject, HuggingFaceSubject])
def as_subject(request: pytest.FixtureRequest, hugging_face: Any) -> Callable[[GPT2], Any]:
    """Return a `GPT2` in training mode as a Subject of either kind."""

    def subject_of(model: GPT2) -> Any:
        ours = request.param is GPT2Subject
        return request.param((model if ours else hugging_face(model)).train())

    return subject_of


def test_only_the_names_that_are_asked_for_come_back(
    as_subject: Callable[[GPT2], Any], model: GPT2, prompts: Prompts
) -> None:
    subject = as_subject(model)
    whole = harvest(subject, prompts)
    for names in (["block2", "wte"], []):
        got = harvest(subject, prompts, names)
        assert [*got.states] == names
        assert all(np.array_equal(x, whole.states[name]) for name, x in got.states.items())
        assert np.array_equal(got.answer, whole.answer)


@pytest.mark.parametrize("name", ["block3", "block0", "7", "hidden"])
def test_an_unknown_name_lists_the_known_ones(model: GPT2, prompts: Prompts, name: str) -> None:
    message = f"^no hidden state '{name}'; there are wte, embed, block1, block2, ln_f$"
    with pytest.raises(InputError, match=message):
        harvest(GPT2Subject(model), prompts, ["wte", name])


def test_states_are_read_without_dropout_and_leave_no_hook(
    as_subject: Callable[[GPT2], Any], dataset: Dataset, prompts: Prompts
) -> None:
    still, noisy = (
        as_subject(make_model(dataset, ModelSettings(n_layer=1, n_head=1, n_embd=8, dropout=p)))
        for p in (0.0, 0.5)
    )
    expected = harvest(still, prompts)
    for name, state in harvest(noisy, prompts).states.items():
        assert np.array_equal(state, expected.states[name])
    for module in noisy.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_prompt_longer_than_the_context_is_refused(dataset: Dataset, prompts: Prompts) -> None:
    longest = int(prompts.position.max()) + 1
    fits, short = (
        GPT2(ModelSettings(n_layer=1, n_head=1, n_embd=8), len(dataset.vocabulary), n, seed=0)
        for n in (longest, longest - 1)
    )
    assert len(harvest(GPT2Subject(fits), prompts).answer) == len(prompts)
    with pytest.raises(InputError, match=f"a row of {longest} tokens does not fit"):
        harvest(GPT2Subject(short), prompts)


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
