"""Any causal language model as a Subject, compared with the model itself, run prompt by prompt."""

from collections.abc import Callable
from itertools import combinations, pairwise
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
    WIDER,
    Ints,
    assert_close,
    config_of,
    family_model,
    made_prompts,
    model_of,
    one_by_one,
)
from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.subject import Harvest

#: The short pass before the others, in which a model forgets what it has read.
FORGOTTEN_IN = (1, 1)

each_family = pytest.mark.parametrize("name", FAMILIES)


def assert_as_one_by_one(
    name: str,
    got: Harvest,
    order: Ints,
    begin: Ints | None = None,
    alike: bool = False,
    dtype: str = "float32",
) -> None:
    """Compare states and answers with those of the model itself, one prompt at a time.

    The states are the means from ``begin`` on, or those at the last token. Those of bfloat16 are
    rounded by 2**-8 at each step, but not in the same order.
    """
    expected, answer = one_by_one(name, dtype, alike)
    exact = dtype == "float32"
    for state, x in got.states.items():
        assert float(np.ptp(x, axis=0).min()) > 1e-3, f"{state} depends on the prompt"
        y, what = x, state
        if (name, state) == ("opt", "ln_f"):
            project, what = family_model(name, dtype).model.decoder.project_out, "ln_f projected"
            with torch.inference_mode():
                y = project(torch.from_numpy(x).to(project.weight.dtype)).float().numpy()
        spans = [expected[i][what][-1 if begin is None else begin[i] :] for i in order]
        near = 1e-5 if exact else 8 * 2**-8
        assert_close(y, np.stack([span.mean(axis=0) for span in spans]), near, state)
        if not exact and name != "mamba":  # which adds up what its blocks give in float32
            assert np.array_equal(torch.from_numpy(x).bfloat16().float().numpy(), x), state
    for (state, x), (other, y) in combinations(got.states.items(), 2):
        if x.shape == y.shape:
            assert float(np.abs(x - y).max()) > 0.1, f"{state} and {other} are not the same"
    assert got.answer.dtype == np.int64
    assert got.answer.tolist() == answer[order].tolist() or not exact
    assert len(set(answer.tolist())) > 2


@each_family
@pytest.mark.parametrize(
    ("max_tokens", "alike", "spans", "dtype"),
    [(1, False, False, "float32"), (40, False, False, "float32"), (10_000, False, False, "float32"),
     (0, True, False, "float32"), (40, False, True, "float32"), (0, False, False, "bfloat16")],
)  # fmt: skip
def test_states_and_answers_are_those_of_the_model_itself_one_prompt_at_a_time(
    name: str, max_tokens: int, alike: bool, spans: bool, dtype: str
) -> None:
    """In whatever order and batches, and whatever stands behind the measured token."""
    prompts = made_prompts(alike)
    begin = prompts.position - np.array([3, 0, 0, 13, 3, 1, 5, 1, 2]) if spans else None
    family, subject = (
        FAMILIES[name],
        HuggingFaceSubject(family_model(name, dtype), max_tokens=max_tokens),
    )
    assert subject.names == (*(["wte"] * family.has_wte), "embed", *BLOCKS, "ln_f")
    assert subject.max_length == family.context
    order = np.random.default_rng(1).permutation(len(prompts))
    shuffled = Prompts(
        prompts.ids[order], prompts.position[order], None if begin is None else begin[order]
    )
    got = subject.harvest(shuffled, subject.names)
    assert_as_one_by_one(name, got, order, begin, alike, dtype)


def test_a_model_without_a_final_norm_has_no_such_state() -> None:
    """OPT-350m alone of its family norms after each block, and projects what the last gives."""
    model = model_of(config_of("opt", do_layer_norm_before=False))
    assert HuggingFaceSubject(model).names == ("wte", "embed", *BLOCKS)


# --- Batches ---


@pytest.mark.parametrize("max_tokens", [1, 12, 40, 70, 10_000])
def test_a_pass_has_no_more_tokens_than_allowed_and_every_prompt_comes_once(
    prompts: Prompts, limit: Limit, max_tokens: int
) -> None:
    subject = HuggingFaceSubject(family_model("llama"), max_tokens=max_tokens)
    shapes = limit(subject.model)
    subject.reading_order(prompts)
    assert all(rows * length <= max_tokens or rows == 1 for rows, length in shapes), "the trial"
    del shapes[:]
    batches = [batch.indices.tolist() for batch in subject.batches(prompts, ["embed"])]
    assert shapes.pop(0) == FORGOTTEN_IN
    assert sorted(i for indices in batches for i in indices) == list(range(len(prompts)))
    assert [len(indices) for indices in batches] == [rows for rows, _ in shapes]
    assert all(rows * length <= max_tokens or rows == 1 for rows, length in shapes)
    lengths = [[int(prompts.position[i]) + 1 for i in indices] for indices in batches]
    in_order = [length for these in lengths for length in these]
    assert in_order == sorted(in_order)
    for these, following in pairwise(lengths):
        assert (len(these) + 1) * following[0] > max_tokens, "another one would fit"


@pytest.fixture(scope="module")
def many() -> Prompts:
    """Return two hundred prompts with common prefixes, and long ones that share nothing."""
    rng = np.random.default_rng(3)
    ids = np.tile(rng.integers(VOCABULARY, size=CONTEXT), (206, 1))
    ids[:200, 10:] = rng.integers(VOCABULARY, size=(200, CONTEXT - 10))
    ids[:200, 10] = np.arange(200) % VOCABULARY
    ids[200:] = rng.integers(VOCABULARY, size=(6, CONTEXT))
    return Prompts(ids, np.repeat([11, 29], [200, 6]))


def plainly(prompts: Prompts) -> Prompts:
    """Return the prompts as spans of one token, which are not read together."""
    return Prompts(prompts.ids, prompts.position, prompts.position)


def assert_same(got: Harvest, expected: Harvest) -> None:
    for state, x in got.states.items():
        assert_close(x, expected.states[state], what=state)
    assert np.array_equal(got.answer, expected.answer)


@pytest.mark.parametrize("together", [False, True])
def test_what_was_left_to_do_comes_out_the_same_to_the_last_bit(
    many: Prompts, together: bool
) -> None:
    """However little of it is left, it is read in the batches in which it would have been.

    Prompts are read together wherever the longest of them is.
    """
    prompts = many if together else plainly(many)
    subject = HuggingFaceSubject(family_model("llama"), max_tokens=128)
    whole = list(subject.batches(prompts, ["block2"]))
    assert 3 < len(whole) < (8 if together else 23)
    got = subject.harvest(prompts, subject.names)
    assert_same(got, subject.harvest(plainly(many), subject.names))
    states = got.states["block2"]
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
    "cuBLAS": lambda: RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"
    ),
    "another GPU": lambda: RuntimeError("HIP error: out of memory"),
    "Windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to ..."),
    "Linux": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    "Python": lambda: MemoryError(),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_batches_shrink_until_they_fit(
    prompts: Prompts, error: Any, limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = HuggingFaceSubject(family_model("llama"), max_tokens=10_000)
    whole = subject.harvest(prompts, subject.names)
    assert capsys.readouterr().err == ""
    shapes = limit(subject.model, lambda rows, _: rows <= 2, error)
    assert_same(subject.harvest(prompts, subject.names), whole)
    failed = [rows * length for rows, length in shapes if rows > 2]
    assert failed[0] == len(prompts) * 14
    assert capsys.readouterr().err.splitlines() == [
        f"tasklens: out of memory; continuing with {tokens // 2} tokens at a time"
        for tokens in failed
    ]
    assert subject.max_tokens == failed[-1] // 2, "what is read next does not fail again"


@pytest.mark.parametrize("most", [30, 127, 140, 300])
def test_prompts_that_begin_alike_are_read_within_the_memory(
    alike: Prompts, most: int, limit: Limit
) -> None:
    subject = HuggingFaceSubject(family_model("llama"))
    limit(subject.model, lambda rows, length: rows * length <= most, OUT_OF_MEMORY["a GPU"])
    got = subject.harvest(alike, subject.names)
    assert_as_one_by_one("llama", got, np.arange(len(alike)), alike=True)


def test_if_memory_runs_out_the_rest_is_read_plainly(
    alike: Prompts, limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    """After one batch of trees, when even a single row of a tree does not fit any more."""
    subject = HuggingFaceSubject(family_model("llama"), max_tokens=128)
    whole = Prompts(np.tile(alike.ids, (12, 1)), np.tile(alike.position, 12))
    whole.ids[:, 0] = np.repeat(np.arange(12), len(alike))  # nothing is shared between the twelve
    n_batches = len(list(subject.batches(whole, ["embed"])))
    passes = limit(subject.model)
    list(subject.batches(whole, ["embed"]))
    assert passes == [FORGOTTEN_IN, *[(1, 128)] * n_batches]
    fails = len(passes) + 3  # the second batch of the third time
    limit(subject.model, lambda *_: len(passes) != fails, torch.OutOfMemoryError)
    batches = [batch.indices for batch in subject.batches(whole, ["embed"])]
    assert sorted(np.unique(np.concatenate(batches))) == list(range(len(whole)))
    assert capsys.readouterr().err.count("out of memory") == 1
    assert max(length for _, length in passes[fails:]) == 22
    assert_same(
        subject.harvest(whole, subject.names), subject.harvest(plainly(whole), subject.names)
    )


def test_one_prompt_that_does_not_fit_is_an_error(prompts: Prompts, limit: Limit) -> None:
    subject = HuggingFaceSubject(family_model("llama"))
    limit(subject.model, lambda _, length: length <= 11, OUT_OF_MEMORY["a GPU"])
    message = "memory of cpu does not hold one prompt of 14 tokens; give another --device or"
    with pytest.raises(InputError, match=f"^the {message} --dtype bfloat16$"):
        subject.harvest(prompts, ["embed"])


def test_another_error_of_the_network_is_not_taken_for_want_of_memory(
    prompts: Prompts, limit: Limit
) -> None:
    subject = HuggingFaceSubject(family_model("llama"))
    shapes = limit(subject.model, lambda rows, _: rows < 2, lambda: RuntimeError("a bad shape"))
    with pytest.raises(RuntimeError, match=r"^a bad shape$"):
        subject.harvest(prompts, ["embed"])
    assert [rows > 1 for rows, _ in shapes] == [False] * (len(shapes) - 1) + [True]


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
        message = "is no causal language model: later tokens change a token's state"
        with pytest.raises(InputError, match=f"^BertLMHeadModel {message}$"):
            make(source)


def test_a_model_that_overflows_is_not_taken_for_one_that_reads_what_follows() -> None:
    model = model_of(config_of("llama"))
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1e5)  # sums of them are over 65504
    assert "block3" in HuggingFaceSubject(model).names
    message = r"^LlamaForCausalLM: its hidden states are not finite in float16$"
    with pytest.raises(InputError, match=message):
        HuggingFaceSubject(model.to(torch.float16))


@each_family
def test_a_prompt_longer_than_the_context_is_refused(name: str, limit: Limit) -> None:
    subject, context = HuggingFaceSubject(family_model(name)), FAMILIES[name].context
    longest = Prompts(np.ones((1, CONTEXT + 1), dtype=np.int64), np.array([CONTEXT]))
    fits = Prompts(longest.ids, longest.position - (1 if context else 0))
    assert np.isfinite(subject.harvest(fits, ["ln_f"]).states["ln_f"]).all()
    if context:
        shapes = limit(subject.model)
        message = f"^a prompt has {CONTEXT + 1} tokens up to .*, but the model reads {CONTEXT}$"
        with pytest.raises(InputError, match=message):
            subject.harvest(longest, ["ln_f"])
        assert shapes == []


YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4}
LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, CONTEXT),
        ({"rope_type": "linear", "factor": 2.5, "rope_theta": 1e4}, 5 * CONTEXT // 2),
        (YARN, 4 * CONTEXT),
        (YARN | {"original_max_position_embeddings": CONTEXT // 4}, CONTEXT),
        (YARN | {"original_max_position_embeddings": CONTEXT // 2}, 2 * CONTEXT),
        (LLAMA3, CONTEXT),
    ],
)
def test_the_context_is_that_of_the_scaled_positions(rope: dict[str, Any], context: int) -> None:
    """The stated length is that before or after scaling, which depends on the type."""
    subject = HuggingFaceSubject(model_of(config_of("llama", rope_parameters=rope)))
    assert subject.max_length == context
    ids = np.ones((2, context + 1), dtype=np.int64)
    got = subject.harvest(Prompts(ids, np.array([context - 1, 3])), ["ln_f"])
    assert np.isfinite(got.states["ln_f"]).all()
    with pytest.raises(InputError, match=f"but the model reads {context}$"):
        subject.harvest(Prompts(ids, np.array([context, 3])), ["ln_f"])


@pytest.mark.parametrize("token", [VOCABULARY, 10**9, -1])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    subject = HuggingFaceSubject(family_model("gpt2"))
    ids = np.array([[1, 2, VOCABULARY - 1, token]])
    assert len(subject.harvest(Prompts(ids, np.array([2])), ["embed"]).answer) == 1
    message = (
        f"token {token} is not in the model's vocabulary of {VOCABULARY} tokens; is this the model"
    )
    with pytest.raises(InputError, match=rf"^{message}'s tokenizer\?$"):
        subject.harvest(Prompts(ids, np.array([3])), ["embed"])


@torch.inference_mode()
def test_the_answers_of_a_head_narrower_than_the_states_are_the_models_own() -> None:
    import transformers

    settings = {**WIDER, "embedding_size": 8, "is_decoder": True}
    model, prompts = model_of(transformers.ElectraConfig(**settings)), made_prompts()
    subject = HuggingFaceSubject(model)
    got = subject.harvest(prompts, ("embed", "block3"))
    assert "ln_f" not in subject.names, "it has no final norm"
    for i, (ids, position) in enumerate(zip(prompts.ids, prompts.position, strict=True)):
        out = model(torch.from_numpy(ids[: position + 1])[None], output_hidden_states=True)
        assert got.answer[i] == out.logits[0, -1].argmax()
        for name, state in (("embed", out.hidden_states[0]), ("block3", out.hidden_states[-1])):
            np.testing.assert_allclose(got.states[name][i], state[0, -1].numpy(), atol=1e-5)
