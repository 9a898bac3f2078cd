"""Test that shared prefixes change no state, and that a model which refuses them is reported."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from models.company import (
    DYNAMIC,
    EXPERTS,
    LONGROPE,
    MSCALE,
    ORIGINAL,
    PHI,
    PHI3,
    at_random,
    centred,
    counted,
    grown,
    mixed,
    of_config,
    scaled_by_all,
    states_alone,
    within_capacity,
    wrapped,
)
from models.conftest import Limit
from models.families import CONTEXT, FAMILIES, LLAMA, VOCABULARY, WIDER, assert_close, family_model
from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models import hf_batching
from tasklens.models.hf_rows import ALONE, EQUAL
from tasklens.models.hf_rows import PADDED as PADDED_ROWS
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.prefix_trees import Trees, token_trees

PADDED = "tasklens: prompts are read in padded rows: {} {}\n"
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
    hf_batching.print_once.cache_clear()
    yield
    hf_batching.print_once.cache_clear()


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
    assert own_lines(capsys) == (PADDED.format(kind, reason) if reason else "")
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
    assert own_lines(capsys) == PADDED.format("LlamaForCausalLM", reason)


def shifted(prompts: Prompts) -> Trees:
    """Return trees whose prompts lie outside of their rows."""
    trees = token_trees(prompts)
    trees.slots[:] += trees.ids.shape[1]
    return trees


@pytest.mark.parametrize(
    ("function", "fault", "error"),
    [
        ("hf_rows.token_trees", shifted, IndexError),
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


# --- Models that compute something from all rows of a pass ---

SHORT = {**LLAMA, "max_position_embeddings": ORIGINAL}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
CHUNKED = {
    **{**LLAMA, "intermediate_size_mlp": 32, "head_dim": 8, "num_local_experts": 2},
    **{"attention_chunk_size": 4, "pad_token_id": 0},
}
#: Each with how prompts of very different lengths are read.
COMPANY: dict[str, tuple[Callable[[], Any], str]] = {
    "phi3 longrope": (of_config("Phi3Config", PHI3), EQUAL),
    "phimoe longrope": (
        of_config("PhimoeConfig", {**PHI, "rope_parameters": LONGROPE | MSCALE}),
        EQUAL,
    ),
    "llama dynamic": (of_config("LlamaConfig", SHORT | {"rope_parameters": DYNAMIC}), EQUAL),
    "llama linear": (of_config("LlamaConfig", SHORT | {"rope_parameters": LINEAR}), PADDED_ROWS),
    "mistral": (of_config("MistralConfig", {**LLAMA, "sliding_window": 4}), PADDED_ROWS),
    "llama4 chunked": (of_config("Llama4TextConfig", CHUNKED), PADDED_ROWS),
    "mixtral": (of_config("MixtralConfig", {**EXPERTS, "num_local_experts": 4}), PADDED_ROWS),
    "qwen2 moe": (of_config("Qwen2MoeConfig", {**EXPERTS, "num_experts": 4}), PADDED_ROWS),
    "experts of a capacity": (wrapped(within_capacity), ALONE),
    "a scale of all activations": (wrapped(scaled_by_all), ALONE),
    "a mean over all tokens": (wrapped(centred), ALONE),
    "a memory of the longest": (wrapped(grown, longest=0, buffer=torch.zeros(())), EQUAL),
}
ROUNDED = (
    *("phi3 longrope", "llama dynamic", "mistral", "qwen2 moe", "experts of a capacity"),
    "a scale of all activations",
)


@pytest.mark.parametrize("name", COMPANY)
def test_a_prompt_has_its_own_states_whatever_is_read_with_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, how = COMPANY[name]
    prompts, model = mixed(), make()
    expected = states_alone(make, prompts)
    subject = HuggingFaceSubject(model)
    for _ in range(2):
        got = subject.harvest(prompts, ["ln_f"]).states["ln_f"]
        assert_close(got, expected)
    assert subject.reading is not None
    assert subject.reading.how == how
    line = own_lines(capsys)
    assert (f"prompts are read {how}: {type(model).__name__} gives other states in" in line) == (
        how != PADDED_ROWS
    ) or how == ALONE
    assert line.count("\n") == (how != PADDED_ROWS)
    few = np.array([7, 3])  # the longest first
    subset = Prompts(prompts.ids[few], prompts.position[few])
    assert_close(HuggingFaceSubject(model).harvest(subset, ["ln_f"]).states["ln_f"], expected[few])
    spans = Prompts(prompts.ids, prompts.position, prompts.position)
    assert_close(HuggingFaceSubject(model).harvest(spans, ["ln_f"]).states["ln_f"], expected)


LAYERS = {
    "full_attention": DYNAMIC,
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ("LlamaConfig", SHORT | {"rope_parameters": DYNAMIC}),
        ("LlamaConfig", SHORT | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
        ("Gemma3TextConfig", SHORT | {"rope_parameters": LAYERS, "head_dim": 8}),
    ],
)
def test_dynamic_rope_reads_prompts_of_any_length(config: str, settings: dict[str, Any]) -> None:
    """The factor is no limit, and a short prompt has its own states beside a long one."""
    make = of_config(config, settings)
    rng = np.random.default_rng(0)
    position = np.array([3, 9 * ORIGINAL, ORIGINAL - 1, 2 * ORIGINAL, ORIGINAL, 5])
    prompts = Prompts(rng.integers(3, VOCABULARY, size=(6, 10 * ORIGINAL)), position)
    subject = HuggingFaceSubject(make())
    assert subject.max_length == 0
    assert_close(subject.harvest(prompts, ["ln_f"]).states["ln_f"], states_alone(make, prompts))


def test_a_prompt_that_the_model_cannot_read_is_refused_with_the_models_reason() -> None:
    """The positions of RoBERTa begin behind that of padding, so that it reads fewer tokens."""
    subject = HuggingFaceSubject(of_config("RobertaConfig", WIDER | {"is_decoder": True})())
    ids = np.full((2, CONTEXT), 3)
    fits = Prompts(ids, np.array([CONTEXT - 2, 3]))
    assert np.isfinite(subject.harvest(fits, ["block3"]).states["block3"]).all()
    message = rf"^RobertaForCausalLM cannot read a prompt of {CONTEXT} tokens: RuntimeError: index"
    with pytest.raises(InputError, match=message):
        subject.harvest(Prompts(ids, np.array([CONTEXT - 1, 3])), ["block3"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("room", [True, False])
def test_rounding_neither_hides_what_rows_change_nor_is_taken_for_it(
    dtype: str, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is in float32 if the memory holds such weights, which change nothing after it."""
    if not room:
        monkeypatch.setattr(hf_batching, "holds_float32", lambda _: False)
    # Without room, a change of few prompts, or one as fine as the rounding, may not be seen.
    for name in ROUNDED if room else ROUNDED[:-2]:
        make, how = COMPANY[name]
        subject = HuggingFaceSubject(make().to(getattr(torch, dtype)))
        before = subject.weights_hash()
        got = subject.harvest(mixed(), ["ln_f"]).states["ln_f"]
        assert subject.reading is not None
        assert subject.reading.how == how, name
        assert subject.weights_hash() == before
        if how != PADDED_ROWS:
            assert_close(got, states_alone(make, mixed(), dtype), 8 * 2**-7)


def test_a_model_whose_states_change_from_call_to_call_is_refused() -> None:
    with pytest.raises(InputError, match=r"^LlamaForCausalLM is no causal language model"):
        HuggingFaceSubject(wrapped(at_random)())  # another number for each row of a pass
    subject = HuggingFaceSubject(wrapped(counted, calls=[])())
    for prompts in (mixed(), Prompts(np.ones((1, 3), dtype=np.int64), np.array([2]))):
        with pytest.raises(InputError, match=r"^LlamaForCausalLM gives other states if it reads"):
            subject.harvest(prompts, ["ln_f"])


@torch.inference_mode()
def test_what_a_model_has_read_before_changes_nothing_and_is_as_it_was() -> None:
    make, _ = COMPANY["llama dynamic"]
    model, prompts = make(), mixed()
    expected = states_alone(make, prompts)
    subject = HuggingFaceSubject(model)
    rotary, text = model.model.rotary_emb, torch.from_numpy(prompts.ids[:1])
    frequencies = rotary.inv_freq.clone()
    for used in (subject, None):  # the Subject is older than what the model reads, or younger
        model(text)
        assert not torch.equal(rotary.inv_freq, frequencies), "it remembers how long the text was"
        got = (used or HuggingFaceSubject(model)).harvest(prompts, ["ln_f"])
        assert_close(got.states["ln_f"], expected)
        assert torch.equal(rotary.inv_freq, frequencies)
    rotary.attention_scaling = 0.5  # the caller's own change is no memory
    other = subject.harvest(prompts, ["ln_f"]).states["ln_f"]
    assert float(np.abs(other - expected).max()) > 0.01
    assert rotary.attention_scaling == 0.5
