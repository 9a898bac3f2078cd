"""Test hidden states at several positions of a prompt [I; x] against transformers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tasklens.core.errors import InputError
from tasklens.data.dataset import MEASURED, Dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.gpt2 import GPT2
from tasklens.models.gpt2_subject import GPT2Subject, harvest_measured
from tasklens.models.harvest import harvest

Floats = NDArray[np.float32]
POSITIONS = ("input", "instruction_last", "instruction_mean")


@torch.inference_mode()
def whole_states(theirs: Any, dataset: Dataset, split: str) -> list[dict[str, Floats]]:
    """Return all states (T, D) of transformers for each [I; x], one at a time."""
    part, rows = dataset.splits[split], []
    for i in range(len(part)):
        text = dataset.instructions[part.instruction[i]]
        ids = torch.tensor([[*dataset.vocabulary.encode(text), part.input[i]]])
        hidden = theirs(ids, output_hidden_states=True).hidden_states
        states = {"wte": theirs.transformer.wte(ids), "embed": hidden[0], "block1": hidden[1]}
        rows.append({name: x[0].numpy() for name, x in (states | {"ln_f": hidden[-1]}).items()})
    return rows


@pytest.mark.parametrize("split", MEASURED)
def test_a_position_is_a_token_or_a_mean_of_transformers(
    model: GPT2, dataset: Dataset, hugging_face: Callable[[GPT2], Any], split: str
) -> None:
    expected: dict[str, Callable[[Floats], Floats]] = {
        "input": lambda x: x[-1],
        "instruction_last": lambda x: x[len(x) - 2],
        "instruction_mean": lambda x: x[:-1].mean(axis=0, dtype=np.float32),
    }
    rows = whole_states(hugging_face(model), dataset, split)
    assert len({len(row["wte"]) for row in rows}) > 1, "of several lengths"
    for position, taken in expected.items():
        got = harvest(model, dataset[split, position])
        assert (got.split, got.position) == (split, position)
        assert got.instances is not None
        for name in ("wte", "embed", "block1", "ln_f"):
            plain = np.stack([taken(row[name]) for row in rows])
            np.testing.assert_allclose(got.states[name], plain, rtol=1e-5, atol=2e-6)


def test_what_is_read_does_not_depend_on_the_other_positions(model: GPT2, dataset: Dataset) -> None:
    together = harvest_measured(model, dataset, POSITIONS)
    first = harvest_measured(model, dataset, ["input"])["input"]
    for position in reversed(POSITIONS):
        alone = harvest_measured(model, dataset, [position])[position]
        for name, state in alone.states.items():
            assert state.tobytes() == together[position].states[name].tobytes()
        assert np.array_equal(alone.answer, first.answer), "which follows x"


def test_a_mean_over_any_span_whatever_is_read_with_it(model: GPT2, dataset: Dataset) -> None:
    prompts = dataset.prompts("val_subset")
    begin = prompts.position // 2
    spans = Prompts(prompts.ids, prompts.position, begin)
    whole = GPT2Subject(model).harvest(spans, ["block2"]).states["block2"]
    few = GPT2Subject(model, max_tokens=1).harvest(spans, ["block2"]).states["block2"]
    np.testing.assert_allclose(whole, few, rtol=1e-5, atol=2e-6)
    for i in range(3):
        tokens = [
            Prompts(prompts.ids[i : i + 1], np.array([t]))
            for t in range(begin[i], prompts.position[i] + 1)
        ]
        each = [harvest(model, token, ["block2"]).states["block2"] for token in tokens]
        np.testing.assert_allclose(whole[i], np.mean(each, axis=0)[0], rtol=1e-5, atol=2e-6)


def test_a_position_that_token_rows_do_not_have_is_refused(model: GPT2, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="no position 'middle'; there are input, instruction_last"):
        dataset["val_subset", "middle"]
    with pytest.raises(InputError, match="no split 'some'; there are train,"):
        dataset["some"]
    with pytest.raises(InputError, match="position = 'input': token rows have theirs, 'input'"):
        harvest(model, dataset["val_subset"], position="input")
