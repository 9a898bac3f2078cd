"""Edited states of models of transformers, compared with plain hooks, prompt by prompt."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models.company import (
    DYNAMIC,
    ORIGINAL,
    mixed,
    of_config,
    scaled_by_all,
    within_capacity,
    wrapped,
)
from models.conftest import Limit
from models.families import (
    CONTEXT,
    FAMILIES,
    LLAMA,
    VOCABULARY,
    WIDTH,
    config_of,
    family_model,
    made_prompts,
    model_of,
)
from models.plain_hooks import assert_equal_answers, origins_of, plain_answers, some_edits, spans
from tasklens.core.errors import InputError
from tasklens.data.edited_prompts import Edited, EditedPrompts, Ints
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_editor import TRIED, HuggingFaceEditor
from tasklens.models.hf_rows import ALONE, EQUAL, TREES
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.module_memory import ModuleMemory
from tasklens.models.open_editor import open_editor

#: Path of the final norm of each family.
NORMS = {
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "opt": "model.decoder.final_layer_norm",
    "mamba": "backbone.norm_f",
    "falcon": "transformer.ln_f",
    "falcon_alibi": "transformer.ln_f",
    "bloom": "transformer.ln_f",
    "modernbert": "model.final_norm",
}
#: Families whose attention depends on other things than the mask and the positions.
NO_TREES = {"mamba", "bloom", "falcon_alibi", "mistral", "gemma2"}

#: Positions are scaled in prompts that are longer.
SHORT = {**LLAMA, "max_position_embeddings": ORIGINAL}

each_family = pytest.mark.parametrize("name", FAMILIES)


def edited_prompts(kind: str) -> EditedPrompts:
    """Return prompts of many lengths, some with common prefixes, and other tokens behind them."""
    prompts = made_prompts(alike=True)
    return EditedPrompts(prompts.ids, prompts.position, *spans(kind, prompts.position))


def answers_of(kind: str) -> Ints:
    """Return half of all tokens, or five answers of one to three tokens."""
    if kind == "single":
        return np.arange(0, VOCABULARY, 2)[:, None]
    tokens = np.random.default_rng(1).integers(VOCABULARY, size=(5, 3))
    tokens[1, 1:] = tokens[3, 2:] = -1
    return tokens


def width_of(name: str, state: str) -> int:
    return 8 if (name, state) == ("opt", "wte") else WIDTH


def origins_in(name: str, model: Any) -> dict[str, Any]:
    return origins_of(model, FAMILIES[name].blocks, NORMS.get(name, "model.norm"))


@each_family
@pytest.mark.parametrize(
    ("kind", "answers"),
    [("last", "single"),
     *[pytest.param(*pair, marks=pytest.mark.long)
       for pair in [("last", "several"), ("earlier", "single"), ("earlier", "several"),
                    ("span", "single"), ("span", "several")]]],
)  # fmt: skip
def test_answers_are_those_of_plain_hooks(name: str, kind: str, answers: str) -> None:
    model, prompts, tokens = family_model(name), edited_prompts(kind), answers_of(answers)
    editor = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    assert (TREES in editor.how) == (name not in NO_TREES)
    origins = origins_in(name, model)
    given = set()
    for state in editor.names:
        edits = some_edits(
            np.random.default_rng(0), len(prompts), width_of(name, state), len(tokens), n_edits=12
        )
        got = editor.answer(state, *edits)
        expected = plain_answers(model, [origins[state]], prompts, tokens, *edits)
        assert_equal_answers(got, expected)
        given |= set(got.answer.tolist())
    assert len(given) > 2


@pytest.mark.parametrize("make", [
    pytest.param(wrapped(within_capacity), id="experts"),
    pytest.param(wrapped(scaled_by_all), id="scales"),
    pytest.param(of_config("LlamaConfig", SHORT | {"rope_parameters": DYNAMIC}), id="dynamic"),
])  # fmt: skip
@pytest.mark.parametrize("answers", ["single", "several"])
def test_rows_that_change_each_other_are_not_read_together(
    make: Callable[[], Any], answers: str
) -> None:
    model, tokens = make(), answers_of(answers)
    asked = mixed(CONTEXT - 3)
    prompts = EditedPrompts(asked.ids, asked.position, *spans("span", asked.position))
    editor = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    assert EQUAL in editor.how or ALONE in editor.how
    edits = some_edits(np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=12)
    got = editor.answer("block2", *edits)
    origins, memory = [origins_in("llama", model)["block2"]], ModuleMemory(model)
    for m, (row, change, candidates) in enumerate(zip(*edits, strict=True)):
        with memory.fresh():
            one = row[None], change[None], candidates[None]
            alone = plain_answers(model, origins, prompts, tokens, *one)
        assert_equal_answers(Edited(got.answer[m : m + 1], got.likelihood[m : m + 1]), alone)


@pytest.mark.parametrize("name", ["llama", "opt", "mamba"])
@pytest.mark.parametrize("answers", ["single", "several"])
def test_states_that_are_joined_are_edited_together(name: str, answers: str) -> None:
    model, prompts, tokens = family_model(name), edited_prompts("span"), answers_of(answers)
    row, change, candidates = some_edits(
        np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=12
    )
    both = np.stack([change, change[::-1]], axis=1)
    origins = origins_in(name, model)
    wanted = [origins["block3"], origins["block1"]]
    editor = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    assert_equal_answers(
        editor.answer("block3+block1", row, both, candidates),
        plain_answers(model, wanted, prompts, tokens, row, both, candidates),
    )


@pytest.mark.parametrize("name", ["llama", "mamba", "gemma2"])
@pytest.mark.parametrize(
    ("answers", "dtype"), [("single", "float32"), ("several", "float32"), ("single", "bfloat16")]
)
def test_zeros_change_no_bit_whatever_the_other_edits(name: str, answers: str, dtype: str) -> None:
    model, prompts, tokens = family_model(name, dtype), edited_prompts("span"), answers_of(answers)
    row, change, candidates = some_edits(
        np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=24
    )
    half = change * (np.arange(24) % 2)[:, None].astype(np.float32)
    editor = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    for state in editor.names:
        got = editor.answer(state, row, half, candidates)
        unedited = editor.answer(state, row, 0 * change, candidates)
        assert np.array_equal(got.answer[::2], unedited.answer[::2])
        assert got.likelihood[::2].tobytes() == unedited.likelihood[::2].tobytes()
        if state not in ("block3", "ln_f"):  # no block reads earlier tokens after these
            assert got.likelihood.tobytes() != unedited.likelihood.tobytes()


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_passes_are_as_small_as_the_memory_wants(
    name: str, limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokens of a pass, whether given or halved, change rounding only."""
    model, prompts = copy.deepcopy(family_model(name)), edited_prompts("last")
    tokens = answers_of("single")
    edits = some_edits(np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=60)
    expected = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens).answer(
        "block1", *edits
    )
    small = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens, max_tokens=30)
    shapes = limit(model)
    assert_equal_answers(small.answer("block1", *edits), expected)
    assert all(rows * length <= 30 or rows == 1 for rows, length in shapes)
    halved = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    limit(model, lambda rows, length: rows * length <= 200)
    assert_equal_answers(halved.answer("block1", *edits), expected)
    assert halved.max_tokens <= 200
    assert "out of memory; continuing with" in capsys.readouterr().err
    limit(model, lambda *_: False)
    with pytest.raises(InputError, match=r"does not hold one prompt of \d+ tokens"):
        halved.answer("embed", edits[0][:1], edits[1][:1], edits[2][:1])


def hooks_of(model: Any) -> list[int]:
    """Return how many hooks each module has."""
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_the_model_and_the_subject_are_as_they_were() -> None:
    model, prompts = copy.deepcopy(family_model("llama")), edited_prompts("last")
    subject = HuggingFaceSubject(model)
    subject.harvest(made_prompts(), ["embed"])
    reading, max_tokens = subject.reading, subject.max_tokens
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    hooks = hooks_of(model)  # transformers may keep some of its own
    editor = HuggingFaceEditor(subject, prompts, answers_of("single"))
    edits = some_edits(np.random.default_rng(0), len(prompts), WIDTH, 20)
    editor.answer("block2", *edits)
    model.model.layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        editor.answer("block2", *edits)
    model.model.layers[2]._forward_pre_hooks.clear()
    assert all(module.training for module in model.modules())
    assert all("forward" not in vars(module) for module in model.modules())
    assert hooks_of(model) == hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (subject.reading, subject.max_tokens) == (reading, max_tokens)


@pytest.mark.parametrize("is_held", [True, False])
def test_blocks_are_skipped_if_the_memory_holds_their_states(
    is_held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = copy.deepcopy(family_model("llama")), edited_prompts("last")
    tokens = answers_of("single")
    editor = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    needed = 4 * len(prompts) * (int(prompts.read.max()) + 1) * WIDTH
    monkeypatch.setattr(
        "tasklens.models.hf_editor.free_bytes", lambda _: 4 * needed - (not is_held)
    )
    edits = some_edits(np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=12)
    editor.answer("block2", *edits)
    calls: list[int] = []
    model.model.layers[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    got = editor.answer("block2", *edits)
    assert bool(calls) != is_held
    origins = [origins_in("llama", model)["block2"]]
    assert_equal_answers(got, plain_answers(model, origins, prompts, tokens, *edits))


def test_blocks_that_depend_on_those_below_them_are_not_skipped() -> None:
    """Here each MLP adds the state that the MLP below it has read."""
    model = model_of(config_of("llama"))
    read: list[torch.Tensor] = []

    def remember(_: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        read.append(args[0])
        return output + (read[-2] if len(read) > 1 else 0)

    for layer in model.model.layers:
        layer.mlp.register_forward_hook(remember)
    model.model.register_forward_pre_hook(lambda *_: read.clear())
    prompts, tokens = edited_prompts("last"), answers_of("single")
    editor = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    assert "from the edited state on" not in editor.how
    edits = some_edits(np.random.default_rng(0), len(prompts), WIDTH, len(tokens), n_edits=12)
    expected = plain_answers(model, [origins_in("llama", model)["block2"]], prompts, tokens, *edits)
    assert_equal_answers(editor.answer("block2", *edits), expected)


@pytest.mark.parametrize("kind", ["last", "span"])
def test_states_are_those_of_the_subject(kind: str) -> None:
    model, prompts = family_model("gpt2"), edited_prompts(kind)
    subject = HuggingFaceSubject(model)
    begin = prompts.begin if kind == "span" else None
    expected = subject.harvest(Prompts(prompts.ids, prompts.end, begin), subject.names).states
    editor = HuggingFaceEditor(subject, prompts, answers_of("single"))
    for name, state in editor.states(subject.names).items():
        assert np.array_equal(state, expected[name])


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox"])
def test_unembeddings_are_rows_of_the_head(name: str) -> None:
    model = family_model(name)
    editor = HuggingFaceEditor(
        HuggingFaceSubject(model), edited_prompts("last"), answers_of("single")
    )
    some = np.array([3, 0, 3])
    got = editor.unembedding(some)
    assert got.dtype == np.float32
    assert np.array_equal(got, model.get_output_embeddings().weight[some].detach().numpy())


def test_mistakes_are_one_line() -> None:
    model, prompts, tokens = family_model("llama"), edited_prompts("last"), answers_of("single")
    editor = open_editor(model, prompts, tokens)
    edits = np.array([0]), np.zeros((1, WIDTH), dtype=np.float32), np.array([[0]])
    for wrong in ("block9", "block1+block9"):
        with pytest.raises(InputError, match=r"block9.*block3"):
            editor.answer(wrong, *edits)
    with pytest.raises(InputError, match="block9"):
        editor.states(["block9"])
    with pytest.raises(InputError, match="but the model reads 32"):
        open_editor(model, prompts, np.ones((1, CONTEXT), dtype=np.int64))
    with pytest.raises(InputError, match="Stub cannot be edited"):
        open_editor(Stub(), prompts, tokens)


class Stub:
    """A Subject of another kind."""

    names, step = ("state",), 0

    def harvest(self, *_: Any) -> Any:
        raise NotImplementedError


def test_no_answer_depends_on_the_state_that_is_edited_first() -> None:
    model, prompts, tokens = family_model("llama"), edited_prompts("last"), answers_of("single")
    editor = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
    assert len(prompts) > TRIED
    row, candidates = np.arange(len(prompts)), np.zeros((len(prompts), 1), dtype=np.int64)
    change = np.zeros((len(prompts), WIDTH), dtype=np.float32)
    unedited = editor.answer("embed", row, change, candidates)
    for state in editor.names:
        first = HuggingFaceEditor(HuggingFaceSubject(model), prompts, tokens)
        given = first.answer(state, row, change, candidates)
        np.testing.assert_array_equal(given.answer, unedited.answer)
        np.testing.assert_allclose(given.likelihood, unedited.likelihood, atol=1e-4)
