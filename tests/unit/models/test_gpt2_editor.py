"""Edited states of a GPT-2, compared with plain hooks on transformers' GPT-2, prompt by prompt."""

from typing import Any

import numpy as np
import pytest
import torch

from models.plain_hooks import assert_equal_answers, origins_of, plain_answers, some_edits, spans
from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.data.edited_prompts import Edited, EditedPrompts, Ints
from tasklens.data.token_prompts import Prompts
from tasklens.models.gpt2 import GPT2, ModelSettings, make_model
from tasklens.models.gpt2_editor import GPT2Editor
from tasklens.models.gpt2_subject import GPT2Subject

NAMES = ("wte", "embed", "block1", "block2", "ln_f")
KINDS = ("last", "earlier", "span")
WIDTH = 16


def answers_of(kind: str, vocab_size: int) -> Ints:
    """Return half of all tokens, or five answers of one to three tokens."""
    if kind == "single":
        return np.arange(0, vocab_size, 2)[:, None]
    tokens = np.random.default_rng(1).integers(vocab_size, size=(5, 3))
    tokens[1, 1:] = tokens[3, 2:] = -1
    return tokens


@pytest.fixture(params=KINDS)
def prompts(request: pytest.FixtureRequest, dataset: Dataset) -> EditedPrompts:
    """Return prompts to which two tokens can be added; one is a single token."""
    every = dataset.prompts("val_subset")
    fits = every.position <= dataset.n_positions - 3
    ids, read = every.ids[fits].copy(), every.position[fits].copy()
    read[3] = 0
    ids[np.arange(ids.shape[1]) > read[:, None]] = 10**9  # these tokens mean nothing
    return EditedPrompts(ids, read, *spans(request.param, read))


def assert_same_bits(got: Edited, expected: Edited) -> None:
    assert np.array_equal(got.answer, expected.answer)
    assert got.likelihood.tobytes() == expected.likelihood.tobytes()


def every_other(edited: Edited) -> Edited:
    return Edited(edited.answer[::2], edited.likelihood[::2])


@pytest.mark.parametrize("answers", ["single", "several"])
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_plain_hooks(
    name: str, answers: str, model: GPT2, prompts: EditedPrompts, hugging_face: Any
) -> None:
    tokens = answers_of(answers, model.vocab_size)
    row, change, candidates = some_edits(np.random.default_rng(0), len(prompts), WIDTH, len(tokens))
    theirs = hugging_face(model)
    origin = origins_of(theirs, "transformer.h", "transformer.ln_f")[name]
    editor = GPT2Editor(model, prompts, tokens)
    assert editor.names == NAMES
    got = editor.answer(name, row, change, candidates)
    expected = plain_answers(theirs, [origin], prompts, tokens, row, change, candidates)
    assert_equal_answers(got, expected)
    assert len(set(got.answer.tolist())) > 2
    unedited = editor.answer(name, row, 0 * change, candidates)
    assert_equal_answers(
        unedited, plain_answers(theirs, [origin], prompts, tokens, row, 0 * change, candidates)
    )
    if name in NAMES[:-2]:  # no block reads the states of earlier tokens after these
        moved = np.abs(got.likelihood - unedited.likelihood)
        assert float(np.nanmedian(moved)) > 1e-3


@pytest.mark.parametrize("answers", ["single", "several"])
def test_states_that_are_joined_are_edited_together(
    answers: str, model: GPT2, prompts: EditedPrompts, hugging_face: Any
) -> None:
    tokens = answers_of(answers, model.vocab_size)
    rng = np.random.default_rng(0)
    row, change, candidates = some_edits(rng, len(prompts), WIDTH, len(tokens))
    both = np.stack([change, change[::-1]], axis=1)
    theirs = hugging_face(model)
    origins = origins_of(theirs, "transformer.h", "transformer.ln_f")
    wanted = [origins["block1"], origins["embed"]]
    expected = plain_answers(theirs, wanted, prompts, tokens, row, both, candidates)
    editor = GPT2Editor(model, prompts, tokens)
    assert_equal_answers(editor.answer("block1+embed", row, both, candidates), expected)


def test_a_separate_head_gives_the_answers(
    dataset: Dataset, prompts: EditedPrompts, hugging_face: Any, disturbed: Any
) -> None:
    settings = ModelSettings(
        n_layer=2, n_head=2, n_embd=WIDTH, initializer_range=0.3, tie_word_embeddings=False
    )
    model = disturbed(make_model(dataset, settings))
    tokens = answers_of("single", model.vocab_size)
    edits = some_edits(np.random.default_rng(0), len(prompts), WIDTH, len(tokens))
    theirs = hugging_face(model)
    origin = origins_of(theirs, "transformer.h", "transformer.ln_f")["block1"]
    editor = GPT2Editor(model, prompts, tokens)
    assert_equal_answers(
        editor.answer("block1", *edits), plain_answers(theirs, [origin], prompts, tokens, *edits)
    )
    some = np.array([3, 0, 3])
    expected = theirs.lm_head.weight[torch.from_numpy(some)].detach().numpy()
    assert np.array_equal(editor.unembedding(some), expected)


def test_states_are_those_of_the_subject_or_their_mean(model: GPT2, prompts: EditedPrompts) -> None:
    states = GPT2Editor(model, prompts, np.array([[1]])).states(NAMES)
    subject = GPT2Subject(model)
    for n in range(len(prompts)):
        begin, end = int(prompts.begin[n]), int(prompts.end[n])
        tokens = np.arange(begin, end + 1)
        rows = Prompts(np.repeat(prompts.ids[n : n + 1], len(tokens), axis=0), tokens)
        for name, expected in subject.harvest(rows, NAMES).states.items():
            np.testing.assert_allclose(states[name][n], expected.mean(axis=0), rtol=0, atol=1e-5)
            assert states[name].dtype == np.float32


@pytest.mark.parametrize("answers", ["single", "several"])
def test_zeros_change_no_bit_and_neither_do_threads(
    answers: str, model: GPT2, prompts: EditedPrompts
) -> None:
    """The other edits of a call change no bit that is not edited."""
    tokens = answers_of(answers, model.vocab_size)
    row, change, candidates = some_edits(
        np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=200
    )
    half = change * (np.arange(200) % 2)[:, None].astype(np.float32)
    for name in NAMES:
        results = []
        for threads in (1, 3):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                editor = GPT2Editor(model, prompts, tokens)
                results.append(editor.answer(name, row, half, candidates))
                assert torch.get_num_threads() == threads
            finally:
                torch.set_num_threads(before)
        assert_same_bits(*results)
        unedited = editor.answer(name, row, 0 * change, candidates)
        assert_same_bits(every_other(results[0]), every_other(unedited))


def test_the_tokens_of_a_pass_and_the_order_of_edits_change_rounding_only(
    model: GPT2, prompts: EditedPrompts
) -> None:
    tokens = answers_of("single", model.vocab_size)
    row, change, candidates = some_edits(
        np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=60
    )
    expected = GPT2Editor(model, prompts, tokens).answer("block1", row, change, candidates)
    for max_tokens in (1, 50, 10_000):
        order = np.random.default_rng(max_tokens).permutation(60)
        got = GPT2Editor(model, prompts, tokens, max_tokens).answer(
            "block1", row[order], change[order], candidates[order]
        )
        assert np.array_equal(got.answer, expected.answer[order])
        np.testing.assert_allclose(got.likelihood, expected.likelihood[order], rtol=0, atol=1e-5)


def test_no_edit_and_no_candidate_are_no_error(model: GPT2, prompts: EditedPrompts) -> None:
    for kind in ("single", "several"):
        tokens = answers_of(kind, model.vocab_size)
        editor = GPT2Editor(model, prompts, tokens)
        nothing = np.empty((0, WIDTH), dtype=np.float32)
        row = np.empty(0, dtype=np.int64)
        empty = editor.answer("embed", row, nothing, np.empty((0, 2), dtype=np.int64))
        assert (empty.answer.shape, empty.likelihood.shape) == ((0,), (0, 2))
        got = editor.answer("embed", row[:0].repeat(0), nothing, np.empty((0, 0), dtype=np.int64))
        assert got.likelihood.shape == (0, 0)
        row, change = np.arange(5), np.zeros((5, WIDTH), dtype=np.float32)
        none = editor.answer("block1", row, change, np.full((5, 2), -1))
        assert np.isnan(none.likelihood).all()
        assert kind == "single" or none.answer.tolist() == [-1] * 5


def test_the_model_keeps_the_mode_that_it_had(model: GPT2, prompts: EditedPrompts) -> None:
    model.train()
    GPT2Editor(model, prompts, np.array([[1]])).states(["embed"])
    assert all(module.training for module in model.modules())


def test_mistakes_are_one_line(model: GPT2, prompts: EditedPrompts) -> None:
    editor = GPT2Editor(model, prompts, np.array([[1]]))
    edits = np.array([0]), np.zeros((1, WIDTH), dtype=np.float32), np.array([[0]])
    with pytest.raises(InputError, match=r"block9.*block2") as error:
        editor.answer("block9", *edits)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="block9"):
        editor.states(["block9"])
    with pytest.raises(InputError, match="does not fit the model's"):
        GPT2Editor(model, prompts, np.ones((1, model.n_positions), dtype=np.int64))
