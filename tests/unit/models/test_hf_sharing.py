"""Whether prompts share prefixes, which is said once if a model refuses, and hides no fault."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from models.conftest import Limit
from models.families import FAMILIES, made
from tasklens.data.token_prompts import Prompts
from tasklens.models import hf_sharing
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.prefix_trees import Trees, token_trees

ONE_BY_ONE = "tasklens: prompts are read one by one: {} {}\n"


@pytest.fixture(autouse=True)
def nothing_printed_yet() -> Iterator[None]:
    hf_sharing.print_once.cache_clear()
    yield
    hf_sharing.print_once.cache_clear()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return our own words on standard error."""
    lines = capsys.readouterr().err.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("tasklens: "))


def n_batches(subject: HuggingFaceSubject, prompts: Prompts) -> int:
    return len(list(subject.batches(prompts, ["embed"])))


NO_POSITIONS = "does not take the positions of tokens"
OTHER_STATES = "gives other states under a 4-D attention mask"
#: Families in which a token does not see all before it, or its position is counted and not given.
REFUSALS = {
    **{"mamba": NO_POSITIONS, "bloom": NO_POSITIONS},
    **{"mistral": OTHER_STATES, "gemma2": OTHER_STATES},
    "falcon_alibi": "does not accept a 4-D attention mask "
    "(ValueError: too many values to unpack (expected 2))",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_prefixes_are_shared_and_a_model_that_cannot_is_named_once_with_the_reason(
    name: str, alike: Prompts, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, n_tokens = type(made(name)).__name__, 128
    assert int((alike.position + 1).sum()) > 2 * n_tokens
    for _ in range(2):  # two checkpoints of a series
        subject = HuggingFaceSubject(made(name), max_tokens=n_tokens)
        batches = list(subject.batches(alike, ["embed"]))
        assert (len(batches) > 2) == (name in REFUSALS)
        order = np.concatenate([batch.indices for batch in batches])
        assert sorted(order) == list(range(len(alike)))
        assert sorted(subject.reading_order(alike)) == sorted(order)
    reason = REFUSALS.get(name)
    assert said(capsys) == (ONE_BY_ONE.format(kind, reason) if reason else "")
    spans = Prompts(alike.ids, alike.position, alike.position)
    assert n_batches(subject, spans) > 2, "a span is read plainly"


def test_nothing_is_said_of_prompts_that_share_nothing(
    prompts: Prompts, capsys: pytest.CaptureFixture[str]
) -> None:
    n_batches(HuggingFaceSubject(made("mamba")), prompts)
    assert said(capsys) == ""


@pytest.fixture
def refusing() -> Iterator[Any]:
    """A Llama that takes no attention mask but that of its padding."""

    def refuse(_: object, args: tuple[torch.Tensor], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.ndim != 2:
            raise TypeError("a mask of shape (B, T) is wanted\nand more that is not shown")

    model = made("llama")
    handle = model.base_model.register_forward_pre_hook(refuse, with_kwargs=True)
    yield model
    handle.remove()


def test_what_a_model_raises_on_a_mask_is_named(
    refusing: Any, alike: Prompts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert n_batches(HuggingFaceSubject(refusing, max_tokens=128), alike) > 2
    assert said(capsys) == ONE_BY_ONE.format(
        "LlamaForCausalLM",
        "does not accept a 4-D attention mask (TypeError: a mask of shape (B, T) is wanted)",
    )


def test_want_of_memory_is_named(
    alike: Prompts, limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = HuggingFaceSubject(made("llama"))
    limit(subject.model, lambda _, length: length < 128, torch.OutOfMemoryError)
    assert n_batches(subject, alike) >= 1
    assert said(capsys) == ONE_BY_ONE.format(
        "LlamaForCausalLM", "does not fit into memory with a 4-D attention mask"
    )


def shifted(trees: Trees) -> Trees:
    """Return trees whose prompts are looked for outside of their rows."""
    trees.slot[:] += trees.ids.shape[1]
    return trees


def test_a_fault_in_picking_states_is_raised(
    alike: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old code took it for a model that accepts no mask, and went on without a word."""
    monkeypatch.setattr(
        "tasklens.models.hf_sharing.token_trees", lambda prompts: shifted(token_trees(prompts))
    )
    subject = HuggingFaceSubject(made("llama"))
    with pytest.raises(IndexError):
        n_batches(subject, alike)


def test_a_fault_in_the_mask_of_trees_is_raised(
    alike: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(_: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    monkeypatch.setattr("tasklens.models.hf_reader.tree_bias", faulty)
    subject = HuggingFaceSubject(made("llama"))
    with pytest.raises(ZeroDivisionError):
        n_batches(subject, alike)
