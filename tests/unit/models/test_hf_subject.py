"""Any causal language model as a Subject, held against the model itself, run prompt by prompt."""

import functools
import json
import math
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch

from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.subject import Harvest

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
States = dict[str, Floats]

VOCABULARY, WIDTH, LAYERS, CONTEXT = 40, 16, 3, 32
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}
#: Shorter than most prompts, so that what lies outside of it is missed.
WINDOW = 4
#: What Llama and all that derive from it are made of.
LLAMA = {
    **SIZE,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": CONTEXT,
}
BLOCKS = tuple(f"block{i + 1}" for i in range(LAYERS))


class Family(NamedTuple):
    """A family of models, and what its own tuple of hidden states means."""

    config: str
    settings: dict[str, Any]
    blocks: str
    """Path of its list of blocks."""
    hidden: tuple[str, ...] = ("embed", *BLOCKS[:-1], "ln_f")
    """The state that each of the tuple of hidden states is."""
    has_wte: bool = False
    """Whether the first block reads something else than the word embedding."""
    context: int = CONTEXT


FAMILIES = {
    "gpt2": Family(
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": WIDTH,
            "n_layer": LAYERS,
            "n_head": 2,
            "n_positions": CONTEXT,
        },
        "transformer.h",
        has_wte=True,
    ),
    "gpt_neox": Family(
        "GPTNeoXConfig",
        {**SIZE, "intermediate_size": 32, "max_position_embeddings": CONTEXT},
        "gpt_neox.layers",
    ),
    "llama": Family("LlamaConfig", LLAMA, "model.layers"),
    "qwen2": Family("Qwen2Config", LLAMA, "model.layers"),
    "mistral": Family("MistralConfig", {**LLAMA, "sliding_window": WINDOW}, "model.layers"),
    "gemma": Family("GemmaConfig", {**LLAMA, "head_dim": 8}, "model.layers"),
    "gemma2": Family(
        "Gemma2Config",
        {**LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW},
        "model.layers",
    ),
    "opt": Family(
        "OPTConfig",
        {
            **SIZE,
            "word_embed_proj_dim": 8,
            "ffn_dim": 32,
            "max_position_embeddings": CONTEXT,
        },
        "model.decoder.layers",
        # what follows the final norm here is projected to the width of the word embeddings
        hidden=("embed", *BLOCKS[:-1], "ln_f projected"),
        has_wte=True,
    ),
    "mamba": Family(
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
        | {"state_size": 4},
        "backbone.layers",
        hidden=(*BLOCKS, "ln_f"),  # it begins with what the first block gives
        context=0,
    ),
    "falcon": Family(
        "FalconConfig",
        {**SIZE, "alibi": False, "max_position_embeddings": CONTEXT},
        "transformer.h",
    ),
    "falcon_alibi": Family(
        "FalconConfig",
        {**SIZE, "alibi": True, "max_position_embeddings": CONTEXT},
        "transformer.h",
    ),
    "bloom": Family(
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": 2},
        "transformer.h",
        has_wte=True,
        context=0,
    ),
}
each_family = pytest.mark.parametrize("name", FAMILIES)


def config_of(name: str, **others: object) -> Any:
    import transformers

    family = FAMILIES[name]
    return getattr(transformers, family.config)(**family.settings | others)


def model_of(config: Any, kind: str = "AutoModelForCausalLM", seed: int = 0) -> Any:
    """Return a random model of which no norm and no bias is at its initial value.

    Weights are so large that every part of the network has a say in its output.
    """
    import transformers

    auto = getattr(transformers, kind)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of what is left at its initial value but for noise
        model = auto.from_config(config) if kind.startswith("Auto") else auto(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.2 * noise)
            else:
                parameter.copy_(0.3 * noise)
    return model.eval()


@functools.cache
def made(name: str, dtype: str = "float32") -> Any:
    """Return the family's model. Not to be changed."""
    return model_of(config_of(name)).to(getattr(torch, dtype))


@functools.cache
def made_prompts(alike: bool = False) -> Prompts:
    """Return prompts of many lengths, that begin alike or do not. Not to be changed."""
    rng = np.random.default_rng(0)
    if not alike:
        position = np.array([10, 3, 0, 13, 3, 7, 10, 1, 12])
        return Prompts(rng.integers(VOCABULARY, size=(len(position), 17)), position)
    position = np.array([20, 20, 20, 21, 21, 14, 6, 20, 20, 20, 18, 18, 18, 18, 1, 0, 20, 20])
    begins = rng.integers(VOCABULARY, size=(3, 24))
    ids = begins[np.arange(len(position)) // 7]
    behind = np.arange(24) >= position[:, None]  # the measured token differs, and what follows it
    return Prompts(np.where(behind, rng.integers(VOCABULARY, size=ids.shape), ids), position)


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    """Prompts of many lengths, among them one token and equal ones. Not to be changed."""
    return made_prompts()


@pytest.fixture(scope="module")
def alike() -> Prompts:
    """Prompts that begin alike, so that they can be read together. Not to be changed."""
    return made_prompts(alike=True)


@functools.cache
@torch.inference_mode()
def one_by_one(name: str, dtype: str = "float32", alike: bool = False) -> tuple[list[States], Ints]:
    """Return what the model itself says of each prompt alone, and what it would go on with.

    The states at all tokens of each prompt, (T, D), by name: those of the model's own tuple, the
    last block's as it gives it, and the word embedding. Not to be changed.
    """
    family, model, prompts = FAMILIES[name], made(name, dtype), made_prompts(alike)
    last: list[torch.Tensor] = []
    handle = model.get_submodule(f"{family.blocks}.{LAYERS - 1}").register_forward_hook(
        lambda _, __, output: last.append(output if torch.is_tensor(output) else output[0])
    )
    states, answer = [], []
    for ids, position in zip(prompts.ids, prompts.position, strict=True):
        row = torch.from_numpy(ids[: position + 1])[None]
        last.clear()
        out = model(row, output_hidden_states=True)
        assert len(last) == 1
        assert len(out.hidden_states) == len(family.hidden)
        found = dict(zip(family.hidden, out.hidden_states, strict=True))
        word = model.get_input_embeddings()(row)
        found = {"embed": word, "wte": word} | found | {BLOCKS[-1]: last[0]}
        states.append({name: state[0].float().numpy() for name, state in found.items()})
        answer.append(int(out.logits[0, -1].argmax()))
    handle.remove()
    return states, np.array(answer)


def at_the_end(states: list[States], name: str) -> Floats:
    return np.stack([of_prompt[name][-1] for of_prompt in states])


def assert_close(got: Floats, expected: Floats, tolerance: float = 1e-5, what: str = "") -> None:
    """Compare with a tolerance of the largest number's size.

    A number of float32 is rounded by 6e-8 of its size. How a sum is ordered depends on how many
    rows are computed at once, so that each of some fifty sums on the way to the last norm is
    rounded in another way: 1e-5 is a hundred roundings, and a fiftieth of what another token at
    the beginning of a prompt changes in the state that it changes least.
    """
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    apart = float(np.abs(got - expected).max())
    assert apart <= tolerance * float(np.abs(expected).max()), (what, apart)


# --- What the states are ---


def assert_as_one_by_one(name: str, got: Harvest, alike: bool = False) -> None:
    """Hold states and answers to those of the model itself, one prompt at a time."""
    expected, answer = one_by_one(name, alike=alike)
    for state, x in got.states.items():
        if (name, state) == ("opt", "ln_f"):
            project = made(name).model.decoder.project_out
            with torch.inference_mode():
                x = project(torch.from_numpy(x)).numpy()
            assert_close(x, at_the_end(expected, "ln_f projected"), what=state)
        else:
            assert_close(x, at_the_end(expected, state), what=state)
    assert got.answer.dtype == np.int64
    assert got.answer.tolist() == answer.tolist()
    assert len(set(answer.tolist())) > 2


@each_family
@pytest.mark.parametrize("max_tokens", [1, 40, 10_000])
def test_states_and_answers_are_those_of_the_model_itself_one_prompt_at_a_time(
    name: str, prompts: Prompts, max_tokens: int
) -> None:
    subject = HuggingFaceSubject(made(name), max_tokens=max_tokens)
    assert_as_one_by_one(name, subject.harvest(prompts, subject.names))


@each_family
def test_so_they_are_where_prompts_begin_alike(name: str, alike: Prompts) -> None:
    subject = HuggingFaceSubject(made(name))
    assert_as_one_by_one(name, subject.harvest(alike, subject.names), alike=True)


@each_family
def test_a_family_has_the_states_of_its_blocks_and_says_where_the_word_embedding_differs(
    name: str,
) -> None:
    family = FAMILIES[name]
    subject = HuggingFaceSubject(made(name))
    assert subject.names == (*(["wte"] * family.has_wte), "embed", *BLOCKS, "ln_f")
    assert subject.max_length == family.context


@torch.inference_mode()
def what_the_first_block_reads(name: str, model: Any, ids: torch.Tensor) -> Any:
    """Compute layer 0 out of the weights, as the family's authors describe it."""
    row = model.get_input_embeddings().weight[ids]
    place = torch.arange(len(ids))
    if name == "gpt2":
        return row + model.transformer.wpe.weight[place]
    if name == "opt":  # two more positions than the others, at the beginning
        decoder = model.model.decoder
        return row @ decoder.project_in.weight.T + decoder.embed_positions.weight[place + 2]
    if name in ("gemma", "gemma2"):
        return row * math.sqrt(WIDTH)
    if name == "bloom":
        norm = model.transformer.word_embeddings_layernorm
        apart = row - row.mean(dim=-1, keepdim=True)
        deviation = (apart.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
        return apart / deviation * norm.weight + norm.bias
    return row


@each_family
def test_layer_0_is_computed_out_of_the_embeddings_as_the_family_does(
    name: str, prompts: Prompts
) -> None:
    model = made(name)
    subject = HuggingFaceSubject(model)
    got = subject.harvest(prompts, subject.names).states
    for i, position in enumerate(prompts.position):
        ids = torch.from_numpy(prompts.ids[i, : position + 1])
        expected = what_the_first_block_reads(name, model, ids)[-1]
        assert_close(got["embed"][i], expected.numpy(), what="embed")
        if FAMILIES[name].has_wte:
            row = model.get_input_embeddings().weight[ids[-1]].detach().numpy()
            assert np.array_equal(got["wte"][i], row)


@each_family
def test_no_two_states_are_the_same_and_all_depend_on_the_prompt(
    name: str, prompts: Prompts
) -> None:
    """Else the tests above would not notice one state taken for another."""
    subject = HuggingFaceSubject(made(name))
    got = subject.harvest(prompts, subject.names).states
    for state, x in got.items():
        assert float(np.ptp(x, axis=0).min()) > 1e-3, state
        for other, y in got.items():
            if other != state and x.shape == y.shape:
                assert float(np.abs(x - y).max()) > 0.1, (state, other)


def test_a_model_without_a_final_norm_has_no_such_state() -> None:
    """OPT-350m alone of its family norms after each block, and projects what the last gives."""
    model = model_of(config_of("opt", do_layer_norm_before=False))
    assert model.model.decoder.final_layer_norm is None
    assert HuggingFaceSubject(model).names == ("wte", "embed", *BLOCKS)


def test_answers_are_those_of_a_head_of_several_layers(prompts: Prompts) -> None:
    """A head may be more than a matrix: ModernBERT's has a layer and a norm before it."""
    import transformers

    config = transformers.ModernBertDecoderConfig(
        **SIZE, intermediate_size=32, max_position_embeddings=CONTEXT, pad_token_id=0
    )
    model = model_of(config)
    got = HuggingFaceSubject(model).harvest(prompts, ())
    answer = []
    with torch.inference_mode():
        for ids, position in zip(prompts.ids, prompts.position, strict=True):
            row = torch.from_numpy(ids[: position + 1])[None]
            answer.append(int(model(row).logits[0, -1].argmax()))
    assert got.answer.tolist() == answer
    assert len(set(answer)) > 2


# --- What they do not depend on ---


def taken(prompts: Prompts, which: Ints) -> Prompts:
    return Prompts(prompts.ids[which], prompts.position[which])


@each_family
def test_the_order_of_prompts_does_not_change_a_state(name: str, prompts: Prompts) -> None:
    subject = HuggingFaceSubject(made(name), max_tokens=40)
    whole = subject.harvest(prompts, subject.names)
    order = np.random.default_rng(1).permutation(len(prompts))
    got = subject.harvest(taken(prompts, order), subject.names)
    for state, x in got.states.items():
        assert_close(x, whole.states[state][order], what=state)
    assert np.array_equal(got.answer, whole.answer[order])


@each_family
def test_what_stands_behind_the_position_is_not_read(name: str, prompts: Prompts) -> None:
    subject = HuggingFaceSubject(made(name))
    behind = np.arange(prompts.ids.shape[1]) > prompts.position[:, None]
    ids = np.where(behind, VOCABULARY - 1 - prompts.ids, prompts.ids)
    begins = (None, prompts.position // 2) if name == "llama" else (None,)
    for begin in begins:
        whole = subject.harvest(Prompts(prompts.ids, prompts.position, begin), subject.names)
        got = subject.harvest(Prompts(ids, prompts.position, begin), subject.names)
        for state, x in got.states.items():
            assert np.array_equal(x, whole.states[state]), state
        assert np.array_equal(got.answer, whole.answer)


@pytest.mark.parametrize("junk", [-1, VOCABULARY, 10**9])
def test_what_stands_behind_the_position_need_not_be_a_token(prompts: Prompts, junk: int) -> None:
    subject = HuggingFaceSubject(made("llama"))
    behind = np.arange(prompts.ids.shape[1]) > prompts.position[:, None]
    ids = np.where(behind, junk, prompts.ids)
    got = subject.harvest(Prompts(ids, prompts.position), ["block2"])
    expected = subject.harvest(prompts, ["block2"])
    assert np.array_equal(got.states["block2"], expected.states["block2"])


@each_family
def test_bfloat16_in_a_batch_is_that_of_one_prompt_alone(name: str, prompts: Prompts) -> None:
    """Both round to bfloat16, by 2**-8 at each step, but not in the same order."""
    subject = HuggingFaceSubject(made(name, "bfloat16"))
    assert subject.names == HuggingFaceSubject(made(name)).names
    got = subject.harvest(prompts, subject.names).states
    expected, _ = one_by_one(name, "bfloat16")
    for state, x in got.items():
        if name != "mamba":  # which adds up what its blocks give in float32
            assert np.array_equal(torch.from_numpy(x).bfloat16().float().numpy(), x), state
        if not (name == "opt" and state == "ln_f"):
            assert_close(x, at_the_end(expected, state), 8 * 2**-8, what=state)


@each_family
def test_a_mean_over_a_span_is_that_of_the_states_one_by_one(name: str, prompts: Prompts) -> None:
    begin = prompts.position - np.array([3, 0, 0, 13, 3, 1, 5, 1, 2])
    subject = HuggingFaceSubject(made(name), max_tokens=40)
    got = subject.harvest(Prompts(prompts.ids, prompts.position, begin), subject.names)
    expected, answer = one_by_one(name)
    for state, x in got.states.items():
        if not (name == "opt" and state == "ln_f"):
            spans = [its[state][first:] for its, first in zip(expected, begin, strict=True)]
            assert_close(x, np.stack([span.mean(axis=0) for span in spans]), what=state)
    assert got.answer.tolist() == answer.tolist(), "the answer still follows the last token"
    alone = subject.harvest(taken(prompts, np.array([1])), subject.names)
    for state, x in alone.states.items():
        assert_close(got.states[state][1:2], x, what="a span of one token")


def test_only_the_names_that_are_asked_for_come_back(prompts: Prompts) -> None:
    subject = HuggingFaceSubject(made("gpt2"))
    whole = subject.harvest(prompts, subject.names)
    got = subject.harvest(prompts, ["block2", "wte"])
    assert set(got.states) == {"block2", "wte"}
    for state, x in got.states.items():
        assert np.array_equal(x, whole.states[state])
    nothing = subject.harvest(prompts, ())
    assert nothing.states == {}
    assert np.array_equal(nothing.answer, whole.answer)


def test_states_are_read_without_dropout_and_leave_no_hook(prompts: Prompts) -> None:
    still = HuggingFaceSubject(model_of(config_of("gpt2", embd_pdrop=0, resid_pdrop=0)))
    noisy = model_of(config_of("gpt2", embd_pdrop=0.5, resid_pdrop=0.5)).train()
    expected = still.harvest(prompts, still.names)
    for state, x in HuggingFaceSubject(noisy).harvest(prompts, still.names).states.items():
        assert np.array_equal(x, expected.states[state])
    for module in noisy.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert torch.is_grad_enabled()


# --- Batches ---


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes of what the network is run on, as they come."""
    return fail_above(monkeypatch, lambda *_: True, MemoryError)


@pytest.mark.parametrize("max_tokens", [1, 12, 40, 70, 10_000])
def test_a_pass_has_no_more_tokens_than_allowed_and_every_prompt_comes_once(
    prompts: Prompts, shapes: list[tuple[int, int]], max_tokens: int
) -> None:
    subject = HuggingFaceSubject(made("llama"), max_tokens=max_tokens)
    shapes.clear()
    batches = [batch.which.tolist() for batch in subject.batches(prompts, ["embed"])]
    assert sorted(i for which in batches for i in which) == list(range(len(prompts)))
    assert [len(which) for which in batches] == [rows for rows, _ in shapes]
    assert all(rows * length <= max_tokens or rows == 1 for rows, length in shapes)
    lengths = [[int(prompts.position[i]) + 1 for i in which] for which in batches]
    in_order = [length for these in lengths for length in these]
    assert in_order == sorted(in_order)
    for these, following in pairwise(lengths):
        assert (len(these) + 1) * following[0] > max_tokens, "another one would fit"


@each_family
def test_what_prompts_begin_with_is_read_once_where_the_family_can(
    name: str, alike: Prompts
) -> None:
    """Where a token may look at all before it, and its position is said and not counted."""
    n_tokens = 128
    assert int((alike.position + 1).sum()) > 2 * n_tokens
    subject = HuggingFaceSubject(made(name), max_tokens=n_tokens)
    batches = [batch.which.tolist() for batch in subject.batches(alike, ["embed"])]
    assert sorted(i for which in batches for i in which) == list(range(len(alike)))
    cannot = {"mistral", "gemma2", "mamba", "bloom", "falcon_alibi"}
    assert (len(batches) > 2) == (name in cannot)
    spans = Prompts(alike.ids, alike.position, alike.position)
    assert len(list(subject.batches(spans, ["embed"]))) > 2, "a span is read plainly"


@pytest.fixture(scope="module")
def many() -> Prompts:
    """Two hundred prompts that begin alike, and long ones that share nothing."""
    rng = np.random.default_rng(3)
    ids = np.tile(rng.integers(VOCABULARY, size=CONTEXT), (206, 1))
    ids[:200, 10:] = rng.integers(VOCABULARY, size=(200, CONTEXT - 10))
    ids[:200, 10] = np.arange(200) % VOCABULARY
    ids[200:] = rng.integers(VOCABULARY, size=(6, CONTEXT))
    return Prompts(ids, np.repeat([11, 29], [200, 6]))


def test_prompts_are_read_together_wherever_the_longest_of_them_is(many: Prompts) -> None:
    subject = HuggingFaceSubject(made("llama"), max_tokens=128)
    assert len(list(subject.batches(many, ["embed"]))) < 8, "22 plainly"
    got = subject.harvest(many, subject.names)
    plainly = subject.harvest(Prompts(many.ids, many.position, many.position), subject.names)
    for state, x in got.states.items():
        assert_close(x, plainly.states[state], what=state)


@pytest.mark.parametrize("together", [False, True])
def test_what_was_left_to_do_comes_out_the_same_to_the_last_bit(
    many: Prompts, together: bool
) -> None:
    """However little of it is left, it is read in the batches in which it would have been."""
    prompts = many if together else Prompts(many.ids, many.position, many.position)
    subject = HuggingFaceSubject(made("llama"), max_tokens=128)
    whole = list(subject.batches(prompts, ["block2"]))
    assert len(whole) > 3
    states = subject.harvest(prompts, ["block2"]).states["block2"]
    for n in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        done = np.zeros(len(prompts), dtype=np.bool_)
        for batch in whole[:n]:
            done[batch.which] = True
        rest = list(subject.batches(prompts, ["block2"], done))
        assert [b.which.tolist() for b in rest] == [b.which.tolist() for b in whole[n:]]
        for batch in rest:
            assert np.array_equal(batch.states["block2"], states[batch.which])


OUT_OF_MEMORY: dict[str, Callable[[], Exception]] = {
    "a GPU": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "another GPU": lambda: RuntimeError("HIP error: out of memory"),
    "Windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to ..."),
    "Linux": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    "Python": lambda: MemoryError(),
}


def fail_above(
    monkeypatch: pytest.MonkeyPatch, fits: Callable[[int, int], bool], error: Callable[[], Any]
) -> list[tuple[int, int]]:
    """Let the network fail on a batch that does not fit; return the shapes it was asked for."""
    forward = HuggingFaceSubject._forward
    shapes: list[tuple[int, int]] = []

    def limited(self: HuggingFaceSubject, ids: torch.Tensor, **said: Any) -> torch.Tensor:
        rows, length = ids.shape
        shapes.append((rows, length))
        if not fits(rows, length):
            raise error()
        return forward(self, ids, **said)

    monkeypatch.setattr(HuggingFaceSubject, "_forward", limited)
    return shapes


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_batches_shrink_until_they_fit(
    prompts: Prompts,
    error: Callable[[], Exception],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    subject = HuggingFaceSubject(made("llama"), max_tokens=10_000)
    whole = subject.harvest(prompts, subject.names)
    assert capsys.readouterr().err == ""
    shapes = fail_above(monkeypatch, lambda rows, _: rows <= 2, error)
    got = subject.harvest(prompts, subject.names)
    for state, x in got.states.items():
        assert_close(x, whole.states[state], what=state)
    assert np.array_equal(got.answer, whole.answer)
    failed = [rows * length for rows, length in shapes if rows > 2]
    assert failed[0] == len(prompts) * 14
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"tasklens: out of memory; going on with {tokens // 2} tokens at a time"
        for tokens in failed
    ]
    assert subject.max_tokens == failed[-1] // 2, "what is read next does not fail again"


@pytest.mark.parametrize("most", [30, 127, 140, 300])
def test_prompts_that_begin_alike_are_read_in_what_memory_there_is(
    alike: Prompts, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = HuggingFaceSubject(made("llama"))
    fail_above(monkeypatch, lambda rows, length: rows * length <= most, OUT_OF_MEMORY["a GPU"])
    assert_as_one_by_one("llama", subject.harvest(alike, subject.names), alike=True)


def test_where_memory_ends_on_the_way_the_rest_is_read_plainly(
    alike: Prompts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the trial of two rows at most and one batch, with rows of one length only."""
    subject = HuggingFaceSubject(made("llama"), max_tokens=128)
    real, calls = HuggingFaceSubject._read_trees, 0

    def fails(self: HuggingFaceSubject, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise torch.OutOfMemoryError
        return real(self, *arguments)

    monkeypatch.setattr(HuggingFaceSubject, "_read_trees", fails)
    whole = Prompts(np.tile(alike.ids, (12, 1)), np.tile(alike.position, 12))
    whole.ids[:, 0] = np.repeat(np.arange(12), len(alike))  # nothing is shared between the twelve
    batches = [batch.which for batch in subject.batches(whole, ["embed"])]
    assert sorted(np.unique(np.concatenate(batches))) == list(range(len(whole)))
    assert capsys.readouterr().err.count("out of memory") == 1
    assert calls == 4
    monkeypatch.undo()
    plainly = HuggingFaceSubject(subject.model, max_tokens=64)  # less than a row of a tree
    for state, x in subject.harvest(whole, subject.names).states.items():
        assert_close(x, plainly.harvest(whole, [state]).states[state], what=state)


def test_one_prompt_that_does_not_fit_is_an_error(
    prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = HuggingFaceSubject(made("llama"))
    fail_above(monkeypatch, lambda _, length: length <= 11, OUT_OF_MEMORY["a GPU"])
    with pytest.raises(InputError) as error:
        subject.harvest(prompts, ["embed"])
    assert str(error.value) == (
        "the memory of cpu does not hold one prompt of 13 tokens; take another --device or --dtype "
        "bfloat16"
    )


def test_another_error_of_the_network_is_not_taken_for_want_of_memory(
    prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = HuggingFaceSubject(made("llama"))
    shapes = fail_above(monkeypatch, lambda rows, _: rows < 2, lambda: RuntimeError("a bad shape"))
    with pytest.raises(RuntimeError, match=r"^a bad shape$"):
        subject.harvest(prompts, ["embed"])
    assert len(shapes) == 1


# --- What is refused ---


def test_a_model_that_reads_what_follows_is_refused() -> None:
    import transformers

    settings = {**SIZE, "intermediate_size": 32, "max_position_embeddings": CONTEXT}
    both_ways = transformers.BertConfig(**settings, is_decoder=False)
    with pytest.raises(InputError) as error:
        HuggingFaceSubject(model_of(both_ways, "BertLMHeadModel"))
    assert str(error.value) == (
        "BertLMHeadModel is no causal language model: what follows a token changes its state"
    )
    causal = transformers.BertConfig(**settings, is_decoder=True)
    assert "block3" in HuggingFaceSubject(model_of(causal, "BertLMHeadModel")).names


def test_a_model_that_overflows_is_not_taken_for_one_that_reads_what_follows() -> None:
    model = model_of(config_of("llama"))
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1e5)  # sums of them are over 65504
    assert "block3" in HuggingFaceSubject(model).names
    with pytest.raises(InputError) as error:
        HuggingFaceSubject(model.to(torch.float16))
    assert "causal" not in str(error.value)
    assert "float16" in str(error.value)


def test_a_prompt_longer_than_the_context_is_refused(shapes: list[tuple[int, int]]) -> None:
    for name, family in FAMILIES.items():
        subject = HuggingFaceSubject(made(name))
        longest = Prompts(np.ones((1, CONTEXT + 1), dtype=np.int64), np.array([CONTEXT]))
        fits = Prompts(longest.ids, longest.position - 1)
        assert np.isfinite(subject.harvest(fits, ["ln_f"]).states["ln_f"]).all()
        shapes.clear()
        if not family.context:  # nothing in it ends
            assert np.isfinite(subject.harvest(longest, ["ln_f"]).states["ln_f"]).all()
            continue
        with pytest.raises(InputError) as error:
            subject.harvest(longest, ["ln_f"])
        assert str(error.value) == (
            f"a prompt has {CONTEXT + 1} tokens up to the measured one, but the model reads "
            f"{CONTEXT}"
        )
        assert shapes == []


@pytest.mark.parametrize("token", [VOCABULARY, 10**9, -1])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    subject = HuggingFaceSubject(made("gpt2"))
    ids = np.array([[1, 2, VOCABULARY - 1, 0]])
    assert len(subject.harvest(Prompts(ids, np.array([3])), ["embed"]).answer) == 1
    ids[0, 2] = token
    with pytest.raises(InputError) as error:
        subject.harvest(Prompts(ids, np.array([3])), ["embed"])
    assert str(error.value) == (
        f"token {token} is not in the vocabulary, which has {VOCABULARY}: is this the model's "
        "tokenizer?"
    )


# --- What is loaded ---


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Llama of the families with a tokenizer, as save_pretrained leaves it."""
    path = tmp_path_factory.mktemp("models") / "llama"
    made("llama").save_pretrained(path)
    word_level_tokenizer().save_pretrained(path)
    return path


def word_level_tokenizer() -> Any:
    import tokenizers
    import transformers

    words = {f"w{i}": i for i in range(VOCABULARY)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="w0")


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model, for the test to change."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Whom the network was asked for; it does not answer."""
    asked: list[Any] = []

    def refuse(*arguments: object, **_: object) -> Any:
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def assert_same_states(subject: HuggingFaceSubject, prompts: Prompts) -> None:
    expected = HuggingFaceSubject(made("llama")).harvest(prompts, ["block3", "ln_f"])
    got = subject.harvest(prompts, ["block3", "ln_f"])
    for state, x in got.states.items():
        assert_close(x, expected.states[state], what=state)


def test_a_directory_is_loaded_without_the_network(
    saved: Path,
    prompts: Prompts,
    offline: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    subject = load_subject(saved, max_tokens=77)
    assert offline == []
    assert before == (logging.get_verbosity(), logging.is_progress_bar_enabled())
    assert subject.max_tokens == 77
    assert_same_states(subject, prompts)
    assert subject.tokenizer("w5 w7 w39")["input_ids"] == [5, 7, 39]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


# --- A model that no device holds whole ---


def assert_equal_states(
    subject: HuggingFaceSubject, other: HuggingFaceSubject, prompts: Prompts
) -> None:
    mine, theirs = (one.harvest(prompts, other.names) for one in (subject, other))
    for name in other.names:
        np.testing.assert_array_equal(mine.states[name], theirs.states[name])
    np.testing.assert_array_equal(mine.answer, theirs.answer)


@pytest.mark.parametrize("untrained", [None, 3])
def test_a_spread_model_is_the_same_where_one_device_holds_it(
    saved: Path, prompts: Prompts, untrained: int | None
) -> None:
    whole = load_subject(saved, untrained=untrained)
    spread = load_subject(saved, device="auto", untrained=untrained)
    assert spread.names == whole.names
    assert spread.weights_hash() == whole.weights_hash()
    assert_equal_states(spread, whole, prompts)


def test_weights_on_the_disk_give_the_same_states(
    saved: Path, prompts: Prompts, tmp_path: Path
) -> None:
    """They are brought in module by module, as accelerate does it where the memory is too small."""
    import accelerate

    whole = load_subject(saved)
    model = load_subject(saved).model
    on_disk = HuggingFaceSubject(
        accelerate.disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
    )
    assert {p.device.type for p in on_disk.model.parameters()} == {"meta"}
    assert on_disk.device.type == "cpu"
    assert on_disk.names == whole.names
    assert on_disk.weights_hash() == whole.weights_hash()
    assert_equal_states(on_disk, whole, prompts)
    assert {p.device.type for p in on_disk.model.parameters()} == {"meta"}, "let go of again"


def test_a_spread_model_needs_accelerate(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"^device = auto needs accelerate.*tasklens\[hf\]"):
        load_subject(saved, device="auto")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_loaded_as_what_is_computed_in(saved: Path, dtype: str) -> None:
    subject = load_subject(saved, dtype=dtype)
    assert {p.dtype for p in subject.model.parameters()} == {getattr(torch, dtype)}
    weights = dict(made("llama").named_parameters())
    for name, weight in subject.model.named_parameters():
        assert torch.equal(weight, weights[name].to(weight.dtype))


def test_the_tokenizer_is_looked_for_in_the_directory_and_above_it(
    directory: Path, tmp_path: Path
) -> None:
    def move(to: Path) -> None:
        to.mkdir(exist_ok=True)
        for file in [*directory.glob("token*"), *tmp_path.glob("token*")]:
            if file.is_file():
                file.rename(to / file.name)

    move(directory.parent)
    assert load_subject(directory).tokenizer.get_vocab()["w7"] == 7
    move(tmp_path / "elsewhere")
    assert load_subject(directory).tokenizer is None
    found = load_subject(directory, tokenizer=tmp_path / "elsewhere").tokenizer
    assert found.get_vocab()["w7"] == 7


def refused(directory: Path, **others: Any) -> str:
    """Hold the loading to an InputError of one line; return it."""
    with pytest.raises(InputError) as error:
        load_subject(directory, **others)
    assert "\n" not in str(error.value)
    assert str(directory) in str(error.value)
    return str(error.value)


def test_a_directory_without_a_model_is_refused(saved: Path, tmp_path: Path) -> None:
    missing = "no config.json: it is not a model's directory"
    for path in (tmp_path, tmp_path / "gone", saved / "config.json"):
        assert refused(path) == f"{path}: {missing}"


def test_a_configuration_alone_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    assert refused(directory).startswith(f"{directory} cannot be loaded: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"model_type": "no such"}'])
def test_a_configuration_that_is_none_is_refused(directory: Path, content: bytes) -> None:
    (directory / "config.json").write_bytes(content)
    assert refused(directory).startswith(f"{directory} cannot be loaded: ")


@pytest.mark.parametrize("config", ["T5Config", "DistilBertConfig"])
def test_a_model_of_another_kind_is_refused(tmp_path: Path, config: str) -> None:
    import transformers

    getattr(transformers, config)().save_pretrained(tmp_path)
    assert refused(tmp_path) == (
        f"{tmp_path} is no causal language model: AutoModelForCausalLM does not know it"
    )


def test_a_model_that_fills_in_masks_is_refused(tmp_path: Path) -> None:
    """AutoModelForCausalLM knows BERT, which some use as a decoder, and reads it as one."""
    import transformers

    config = transformers.BertConfig(**SIZE, intermediate_size=32, max_position_embeddings=CONTEXT)
    model_of(config, "BertForMaskedLM").save_pretrained(tmp_path)
    with pytest.raises(InputError) as error:
        load_subject(tmp_path)
    assert str(error.value) == (
        "BertLMHeadModel is no causal language model: what follows a token changes its state"
    )


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = directory / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    change(weights)
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})


def test_weights_that_do_not_fit_the_configuration_are_refused(directory: Path) -> None:
    key = "model.layers.1.mlp.up_proj.weight"
    change_weights(directory, lambda weights: weights.pop(key))
    why = "(1 like it): they do not fit config.json"
    assert refused(directory) == (
        f"{directory}: the weights of {key} are not there or of another shape {why}"
    )
    change_weights(directory, lambda weights: weights.update({key: torch.zeros(3, 5)}))
    line = refused(directory)
    assert key in line or "mismatch" in line


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_damaged_weights_are_refused(directory: Path, keep: int) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert refused(directory).startswith(f"{directory} cannot be loaded: ")


def to_bin(directory: Path) -> None:
    """Write the weights as old checkpoints have them."""
    weights = safetensors.torch.load_file(directory / "model.safetensors")
    torch.save(weights, directory / "pytorch_model.bin")


def test_old_weights_are_loaded_with_a_warning(
    directory: Path, prompts: Prompts, offline: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    to_bin(directory)
    (directory / "model.safetensors").unlink()
    assert_same_states(load_subject(directory), prompts)
    assert offline == []
    assert capsys.readouterr().err == (
        f"tasklens: warning: {directory} has no safetensors; its .bin is unpickled, tensors only "
        "(weights_only)\n"
    )


class Malice:
    """What would create a file if it were unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.file),)


def test_old_weights_that_would_run_code_are_refused_and_run_none(
    directory: Path, tmp_path: Path
) -> None:
    (directory / "model.safetensors").unlink()
    file, proof = directory / "pytorch_model.bin", tmp_path / "proof"
    torch.save({"model.norm.weight": torch.ones(WIDTH), "more": Malice(proof)}, file)
    assert refused(directory).startswith(f"{directory} cannot be loaded: ")
    assert not proof.exists()
    torch.load(file, weights_only=False)
    assert proof.exists(), "it does what it should not be let do"


def test_safetensors_are_taken_where_there_are_both(
    directory: Path, tmp_path: Path, prompts: Prompts, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"more": Malice(tmp_path / "proof")}, directory / "pytorch_model.bin")
    assert_same_states(load_subject(directory), prompts)
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "proof").exists()


OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({proof!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_its_own_runs_where_it_is_trusted_alone(
    directory: Path, tmp_path: Path, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.dynamic_module_utils as dynamic

    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    proof = tmp_path / "proof"
    config = json.loads((directory / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "own.py").write_text(OWN_CODE.format(proof=str(proof)))
    assert refused(directory) == (
        f"{directory} comes with code of its own; --trust-remote-code runs it, if you do"
    )
    assert not proof.exists()
    subject = load_subject(directory, trust_remote_code=True)
    assert type(subject.model).__name__ == "OwnModel"
    assert proof.exists()
    assert_same_states(subject, prompts)


def test_fresh_weights_are_of_the_configuration_and_the_seed(
    directory: Path, prompts: Prompts
) -> None:
    before = torch.get_rng_state()
    first, again, other = (load_subject(directory, untrained=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before), "nothing else is drawn in another way"
    trained = load_subject(directory)
    assert first.names == trained.names
    assert first.weights_hash() == again.weights_hash()
    assert len({its.weights_hash() for its in (first, other, trained)}) == 3
    shapes = [{k: p.shape for k, p in its.model.named_parameters()} for its in (first, trained)]
    assert shapes[0] == shapes[1]
    deviation = float(first.model.model.embed_tokens.weight.detach().std())
    assert deviation == pytest.approx(first.model.config.initializer_range, rel=0.2)
    (directory / "model.safetensors").unlink()
    assert load_subject(directory, untrained=1).weights_hash() == first.weights_hash()


# --- The hash of the weights ---


def test_the_hash_is_of_the_weights_whatever_files_they_are_in(
    saved: Path, directory: Path, tmp_path: Path
) -> None:
    whole = load_subject(saved).weights_hash()
    assert re.fullmatch("[0-9a-f]{64}", whole)
    assert HuggingFaceSubject(made("llama")).weights_hash() == whole
    sharded = tmp_path / "sharded"
    made("llama").save_pretrained(sharded, max_shard_size="4KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert load_subject(sharded).weights_hash() == whole
    to_bin(directory)
    (directory / "model.safetensors").unlink()
    assert load_subject(directory).weights_hash() == whole


def flip_a_bit(weight: torch.Tensor) -> None:
    weight.view(torch.int32).flatten()[-1] ^= 1


def swap_two_rows(weight: torch.Tensor) -> None:
    weight[[0, 1]] = weight[[1, 0]]


@pytest.mark.parametrize("change", [flip_a_bit, swap_two_rows])
@pytest.mark.parametrize("key", ["model.embed_tokens.weight", "model.norm.weight"])
def test_the_hash_tells_weights_apart_that_differ_by_a_bit(
    saved: Path, directory: Path, key: str, change: Callable[[torch.Tensor], None]
) -> None:
    change_weights(directory, lambda weights: change(weights[key]))
    assert load_subject(directory).weights_hash() != load_subject(saved).weights_hash()


def test_the_hash_tells_apart_which_weight_is_which(saved: Path, directory: Path) -> None:
    names = ("model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight")

    def swap(weights: dict[str, torch.Tensor]) -> None:
        first, second = names
        weights[first], weights[second] = weights[second], weights[first]

    change_weights(directory, swap)
    assert load_subject(directory).weights_hash() != load_subject(saved).weights_hash()
