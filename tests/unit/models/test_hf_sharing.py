"""Test that shared prefixes change no state, and that a model which refuses them is reported."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from models.conftest import Limit
from models.families import FAMILIES, family_model
from tasklens.data.token_prompts import Prompts
from tasklens.models import hf_sharing
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.prefix_trees import Trees, token_trees

ONE_BY_ONE = "tasklens: prompts are read one by one: {} {}\n"
NO_POSITIONS = "does not take the positions of tokens"
NO_MASK = "does not accept a 4-D attention mask ({})"
OTHER_STATES = "gives other states under a 4-D attention mask"
#: Families in which a token does not see all before it, or its position is counted and not given.
REFUSALS = {
    **{"mamba": NO_POSITIONS, "bloom": NO_POSITIONS},
    **{"mistral": OTHER_STATES, "gemma2": OTHER_STATES},
    "falcon_alibi": NO_MASK.format("ValueError: too many values to unpack (expected 2)"),
}


@pytest.fixture(autouse=True)
def nothing_printed_yet() -> Iterator[None]:
    hf_sharing.print_once.cache_clear()
    yield
    hf_sharing.print_once.cache_clear()


def own_lines(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the lines of tasklens on standard error."""
    lines = capsys.readouterr().err.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("tasklens: "))


def n_batches(subject: HuggingFaceSubject, prompts: Prompts) -> int:
    return len(list(subject.batches(prompts, ["embed"])))


@pytest.mark.parametrize("name", FAMILIES)
def test_prefixes_are_shared_and_a_model_that_cannot_is_named_once_with_the_reason(
    name: str, prompts: Prompts, alike: Prompts, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, n_tokens = type(family_model(name)).__name__, 128
    assert int((alike.position + 1).sum()) > 2 * n_tokens
    n_batches(HuggingFaceSubject(family_model(name)), prompts)
    assert own_lines(capsys) == "", "these prompts share nothing"
    for _ in range(2):  # two checkpoints of a series
        subject = HuggingFaceSubject(family_model(name), max_tokens=n_tokens)
        batches = list(subject.batches(alike, ["embed"]))
        assert (len(batches) > 2) == (name in REFUSALS)
        order = np.concatenate([batch.indices for batch in batches])
        assert sorted(order) == list(range(len(alike)))
        assert sorted(subject.reading_order(alike)) == sorted(order)
    reason = REFUSALS.get(name)
    assert own_lines(capsys) == (ONE_BY_ONE.format(kind, reason) if reason else "")
    spans = Prompts(alike.ids, alike.position, alike.position)
    assert n_batches(subject, spans) > 2, "a span is read plainly"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            lambda: TypeError("a mask of shape (B, T) is wanted\nand more that is not shown"),
            NO_MASK.format("TypeError: a mask of shape (B, T) is wanted"),
        ),
        (torch.OutOfMemoryError, "does not fit into memory with a 4-D attention mask"),
    ],
)
def test_what_a_model_raises_on_a_mask_is_named(
    error: Any, reason: str, alike: Prompts, limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = HuggingFaceSubject(family_model("llama"), max_tokens=128)
    limit(subject.model, lambda _, length: length < 128, error)  # only trees are so long
    assert n_batches(subject, alike) > 2
    assert own_lines(capsys) == ONE_BY_ONE.format("LlamaForCausalLM", reason)


def shifted(prompts: Prompts) -> Trees:
    """Return trees whose prompts lie outside of their rows."""
    trees = token_trees(prompts)
    trees.slot[:] += trees.ids.shape[1]
    return trees


@pytest.mark.parametrize(
    ("function", "fault", "error"),
    [
        ("hf_sharing.token_trees", shifted, IndexError),
        ("hf_reader.tree_bias", lambda _: 1 / 0, ZeroDivisionError),
    ],
)
def test_a_fault_of_ours_is_raised(
    alike: Prompts, monkeypatch: pytest.MonkeyPatch, function: str, fault: Any, error: Any
) -> None:
    """It is not mistaken for a model that accepts no mask."""
    monkeypatch.setattr(f"tasklens.models.{function}", fault)
    with pytest.raises(error):
        n_batches(HuggingFaceSubject(family_model("llama")), alike)
