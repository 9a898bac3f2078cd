from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from tasklens.models.gpt2 import GPT2, ModelSettings, state_names
from tasklens.models.loss import loss_and_hits
from tasklens.models.training_batches import TrainingBatch

pytestmark = pytest.mark.fuzz

VOCABULARY, N_POSITIONS = 13, 10
assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
weights = st.just(1.0) | st.floats(0.01, 50)
steady = examples(12)


class Shape(NamedTuple):
    """The shape of a batch (prefix lengths and m inputs per row) and of a model."""

    lengths: list[int]
    m: int
    n_head: int
    n_layer: int


shapes = st.builds(
    Shape,
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(1, 2),
)


def drawn(shape: Shape, seed: int) -> tuple[GPT2, TrainingBatch]:
    """Return a random model and a random batch, whose padding is junk."""
    settings = ModelSettings(
        n_layer=shape.n_layer, n_head=shape.n_head, n_embd=8, initializer_range=0.4
    )
    model = GPT2(settings, VOCABULARY, N_POSITIONS, seed)
    generator = torch.Generator().manual_seed(seed)
    B, L, m = len(shape.lengths), max(shape.lengths), shape.m
    prefix, inputs, outputs = (
        torch.randint(VOCABULARY, size, generator=generator) for size in ((B, L), (B, m), (B, m))
    )
    return model, TrainingBatch(prefix, torch.tensor(shape.lengths), inputs, outputs)


def plain(batch: TrainingBatch) -> list[list[torch.Tensor]]:
    """Return the m sequences [I; x; y] of each row, each (L + 2,)."""
    return [
        [
            torch.cat([prefix[:length], x[None], y[None]])
            for x, y in zip(inputs, outputs, strict=True)
        ]
        for prefix, length, inputs, outputs in zip(*batch, strict=True)
    ]


@steady
@given(shapes, st.integers(0, 2**32))
def test_logits_and_states_are_those_of_plain_rows(
    hugging_face: Callable[[GPT2], Any], shape: Shape, seed: int
) -> None:
    """So an input sees no other input, nor its place in the row, nor the padding, which is junk."""
    model, batch = drawn(shape, seed)
    theirs = hugging_face(model)
    L, names = max(shape.lengths), state_names(shape.n_layer)
    with torch.no_grad():
        rows = torch.cat([batch.prefix, batch.inputs], dim=1)
        shared, states = model(rows, L, batch.length, names)
        assert torch.isfinite(shared).all()
        for b, (length, sequences) in enumerate(zip(shape.lengths, plain(batch), strict=True)):
            for i, sequence in enumerate(sequences):
                ids = sequence[None, :-1]
                logits, expected = model(ids, length + 1, torch.tensor([length + 1]), names)
                assert_close(logits, theirs(ids).logits)
                pairs = [(shared, logits), *((states[n], expected[n]) for n in names)]
                for ours, alone in pairs:
                    assert_close(ours[b, :length], alone[0, :-1])
                    assert_close(ours[b, L + i], alone[0, -1])


@examples(24)
@given(shapes, st.integers(0, 2**32), st.sampled_from(["all", "output"]), weights)
def test_loss_and_every_gradient_are_those_of_transformers_on_plain_rows(
    hugging_face: Callable[[GPT2], Any],
    shape: Shape,
    seed: int,
    loss: Literal["all", "output"],
    weight: float,
) -> None:
    """The loss is the weighted mean over the tokens: the output, and the others or none."""
    model, batch = drawn(shape, seed)
    theirs = hugging_face(model)
    total, n_tokens, answers = torch.zeros(()), 0.0, []
    for sequence in [sequence for row in plain(batch) for sequence in row]:
        out = theirs(sequence[None], labels=sequence[None])
        counts = torch.full((len(sequence) - 1,), float(loss == "all"))
        if loss == "all" and weight == 1:  # by transformers' own loss
            total = total + len(counts) * out.loss
        else:
            counts[-1] = weight  # the output comes last
            each = out.logits[0, :-1].log_softmax(dim=1).gather(1, sequence[1:, None])[:, 0]
            total = total - counts @ each
        n_tokens += float(counts.sum())
        answers.append(out.logits[0, -2].argmax())
    expected = total / n_tokens
    expected.backward()  # type: ignore[no-untyped-call]
    ours, hits = loss_and_hits(model, batch, loss=loss, output_weight=weight)
    ours.backward()  # type: ignore[no-untyped-call]
    assert_close(ours, expected)
    assert torch.equal(hits, torch.stack(answers).view(hits.shape) == batch.outputs)
    gradients = dict(theirs.named_parameters())
    assert {name for name, _ in model.named_parameters()} == set(gradients)
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, gradients[name].grad)
    if loss == "output":
        alone, _ = loss_and_hits(model, batch, loss=loss)
        assert torch.equal(alone, ours), "nothing else is in the loss"
