"""Any causal language model as a Subject, compared with the model itself, run prompt by prompt."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.conftest import Limit
from models.families import (
    BLOCKS,
    CONTEXT,
    FAMILIES,
    POSITIONS,
    SIZE,
    VOCABULARY,
    WIDTH,
    Ints,
    assert_close,
    at_the_end,
    config_of,
    made,
    model_of,
    one_by_one,
)
from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.subject import Harvest

each_family = pytest.mark.parametrize("name", FAMILIES)


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
@pytest.mark.parametrize(
    ("together", "max_tokens"), [(False, 1), (False, 40), (False, 10_000), (True, 0)]
)
def test_states_and_answers_are_those_of_the_model_itself_one_prompt_at_a_time(
    name: str, prompts: Prompts, alike: Prompts, together: bool, max_tokens: int
) -> None:
    family, subject = FAMILIES[name], HuggingFaceSubject(made(name), max_tokens=max_tokens)
    assert subject.names == (*(["wte"] * family.has_wte), "embed", *BLOCKS, "ln_f")
    assert subject.max_length == family.context
    got = subject.harvest(alike if together else prompts, subject.names)
    assert_as_one_by_one(name, got, together)


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
    """Nor need it be a token."""
    subject = HuggingFaceSubject(made(name))
    behind = np.arange(prompts.ids.shape[1]) > prompts.position[:, None]
    llama = name == "llama"
    for begin in (None, prompts.position // 2) if llama else (None,):
        whole = subject.harvest(Prompts(prompts.ids, prompts.position, begin), subject.names)
        for junk in (VOCABULARY - 1 - prompts.ids, *((-1, VOCABULARY, 10**9) if llama else ())):
            ids = np.where(behind, junk, prompts.ids)
            got = subject.harvest(Prompts(ids, prompts.position, begin), subject.names)
            for state, x in got.states.items():
                assert np.array_equal(x, whole.states[state]), state
            assert np.array_equal(got.answer, whole.answer)


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


@pytest.mark.parametrize("max_tokens", [1, 12, 40, 70, 10_000])
def test_a_pass_has_no_more_tokens_than_allowed_and_every_prompt_comes_once(
    prompts: Prompts, limit: Limit, max_tokens: int
) -> None:
    subject = HuggingFaceSubject(made("llama"), max_tokens=max_tokens)
    shapes = limit(subject.model)
    batches = [batch.indices.tolist() for batch in subject.batches(prompts, ["embed"])]
    assert sorted(i for which in batches for i in which) == list(range(len(prompts)))
    assert [len(which) for which in batches] == [rows for rows, _ in shapes]
    assert all(rows * length <= max_tokens or rows == 1 for rows, length in shapes)
    lengths = [[int(prompts.position[i]) + 1 for i in which] for which in batches]
    in_order = [length for these in lengths for length in these]
    assert in_order == sorted(in_order)
    for these, following in pairwise(lengths):
        assert (len(these) + 1) * following[0] > max_tokens, "another one would fit"


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
            done[batch.indices] = True
        rest = list(subject.batches(prompts, ["block2"], done))
        assert [b.indices.tolist() for b in rest] == [b.indices.tolist() for b in whole[n:]]
        for batch in rest:
            assert np.array_equal(batch.states["block2"], states[batch.indices])


OUT_OF_MEMORY: dict[str, Callable[[], Exception]] = {
    "a GPU": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "another GPU": lambda: RuntimeError("HIP error: out of memory"),
    "Windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to ..."),
    "Linux": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    "Python": lambda: MemoryError(),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_batches_shrink_until_they_fit(
    prompts: Prompts,
    error: Callable[[], Exception],
    limit: Limit,
    capsys: pytest.CaptureFixture[str],
) -> None:
    subject = HuggingFaceSubject(made("llama"), max_tokens=10_000)
    whole = subject.harvest(prompts, subject.names)
    assert capsys.readouterr().err == ""
    shapes = limit(subject.model, lambda rows, _: rows <= 2, error)
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
    alike: Prompts, most: int, limit: Limit
) -> None:
    subject = HuggingFaceSubject(made("llama"))
    limit(subject.model, lambda rows, length: rows * length <= most, OUT_OF_MEMORY["a GPU"])
    assert_as_one_by_one("llama", subject.harvest(alike, subject.names), alike=True)


def test_where_memory_ends_on_the_way_the_rest_is_read_plainly(
    alike: Prompts, limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    """After one batch of trees, when even a single row of a tree does not fit any more."""
    subject = HuggingFaceSubject(made("llama"), max_tokens=128)
    whole = Prompts(np.tile(alike.ids, (12, 1)), np.tile(alike.position, 12))
    whole.ids[:, 0] = np.repeat(np.arange(12), len(alike))  # nothing is shared between the twelve
    passes = limit(subject.model)
    n_batches = len(list(subject.batches(whole, ["embed"])))
    in_trees = passes.copy()
    fails = 2 * len(passes) - n_batches + 2  # the second batch of the second time
    limit(subject.model, lambda *_: len(passes) != fails, torch.OutOfMemoryError)
    batches = [batch.indices for batch in subject.batches(whole, ["embed"])]
    assert sorted(np.unique(np.concatenate(batches))) == list(range(len(whole)))
    assert capsys.readouterr().err.count("out of memory") == 1
    assert in_trees[-n_batches:] == [(1, 128)] * n_batches
    assert max(length for _, length in passes[fails:]) == 22
    plainly = HuggingFaceSubject(subject.model, max_tokens=64)  # less than a row of a tree
    for state, x in subject.harvest(whole, subject.names).states.items():
        assert_close(x, plainly.harvest(whole, [state]).states[state], what=state)


def test_one_prompt_that_does_not_fit_is_an_error(prompts: Prompts, limit: Limit) -> None:
    subject = HuggingFaceSubject(made("llama"))
    limit(subject.model, lambda _, length: length <= 11, OUT_OF_MEMORY["a GPU"])
    with pytest.raises(InputError) as error:
        subject.harvest(prompts, ["embed"])
    assert str(error.value) == (
        "the memory of cpu does not hold one prompt of 13 tokens; take another --device or --dtype "
        "bfloat16"
    )


def test_another_error_of_the_network_is_not_taken_for_want_of_memory(
    prompts: Prompts, limit: Limit
) -> None:
    subject = HuggingFaceSubject(made("llama"))
    shapes = limit(subject.model, lambda rows, _: rows < 2, lambda: RuntimeError("a bad shape"))
    with pytest.raises(RuntimeError, match=r"^a bad shape$"):
        subject.harvest(prompts, ["embed"])
    assert len(shapes) == 1


# --- What is refused ---


def test_a_model_that_reads_what_follows_is_refused(tmp_path: Path) -> None:
    """AutoModelForCausalLM knows BERT, which some use as a decoder, and reads it as one."""
    import transformers

    both_ways, causal = (
        transformers.BertConfig(**SIZE, **POSITIONS, intermediate_size=32, is_decoder=is_decoder)
        for is_decoder in (False, True)
    )
    assert "block3" in HuggingFaceSubject(model_of(causal, "BertLMHeadModel")).names
    model_of(both_ways, "BertForMaskedLM").save_pretrained(tmp_path)
    model = model_of(both_ways, "BertLMHeadModel")
    for make, source in ((HuggingFaceSubject, model), (load_subject, tmp_path)):
        with pytest.raises(InputError) as error:
            make(source)
        assert str(error.value) == (
            "BertLMHeadModel is no causal language model: what follows a token changes its state"
        )


def test_a_model_that_overflows_is_not_taken_for_one_that_reads_what_follows() -> None:
    model = model_of(config_of("llama"))
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1e5)  # sums of them are over 65504
    assert "block3" in HuggingFaceSubject(model).names
    with pytest.raises(InputError) as error:
        HuggingFaceSubject(model.to(torch.float16))
    assert "causal" not in str(error.value)
    assert "float16" in str(error.value)


def test_a_prompt_longer_than_the_context_is_refused(limit: Limit) -> None:
    for name, family in FAMILIES.items():
        subject = HuggingFaceSubject(made(name))
        longest = Prompts(np.ones((1, CONTEXT + 1), dtype=np.int64), np.array([CONTEXT]))
        fits = Prompts(longest.ids, longest.position - 1)
        assert np.isfinite(subject.harvest(fits, ["ln_f"]).states["ln_f"]).all()
        shapes = limit(subject.model)
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
