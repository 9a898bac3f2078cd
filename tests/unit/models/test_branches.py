"""The branches of blocks, attention and MLP, compared with hooks on known paths.

No prompt is read beside another in these hooks, which share no code with tasklens.
"""

import copy
import functools
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from models.families import (
    FAMILIES,
    LLAMA,
    VOCABULARY,
    WIDER,
    WIDTH,
    assert_close,
    config_of,
    made_prompts,
    model_of,
)
from models.plain_hooks import Origin, assert_equal_answers, plain_answers, some_edits
from tasklens.core.errors import InputError
from tasklens.data.edited_prompts import EditedPrompts
from tasklens.models.hf_editor import HuggingFaceEditor
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.subject import states_among

MOE = {**LLAMA, "num_local_experts": 2, "num_experts_per_tok": 1}
GPTJ = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": 3, "n_head": 2, "rotary_dim": 4}


class Case(NamedTuple):
    """A type, and the paths in a block of the modules whose outputs are added to its input."""

    config: str
    settings: dict[str, Any]
    blocks: str
    attn: str
    mlp: str
    scale: float = 1.0


def of_family(name: str, attn: str, mlp: str) -> Case:
    family = FAMILIES[name]
    return Case(family.config, family.settings, family.blocks, attn, mlp)


CASES = {
    # one branch after the other
    "gpt2": of_family("gpt2", "attn", "mlp"),
    "llama": of_family("llama", "self_attn", "mlp"),
    "gemma2": of_family("gemma2", "post_attention_layernorm", "post_feedforward_layernorm"),
    "bloom": of_family("bloom", "self_attention.dense", "mlp.dense_4h_to_h"),
    "olmo2": Case(
        "Olmo2Config",
        {**LLAMA, "pad_token_id": 0},
        "model.layers",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
    ),
    "granite": Case(
        "GraniteConfig",
        {**LLAMA, "residual_multiplier": 0.3, "pad_token_id": 0},
        "model.layers",
        "self_attn",
        "mlp",
        0.3,
    ),
    "opt": of_family("opt", "self_attn", "fc2"),  # which has no axis of prompts
    "mixtral": Case("MixtralConfig", MOE, "model.layers", "self_attn", "mlp"),
    # both from the same state
    "gpt_neox": of_family("gpt_neox", "attention", "mlp"),
    "falcon": of_family("falcon", "self_attention", "mlp"),
    "gptj": Case("GPTJConfig", {**GPTJ, "n_positions": 32}, "transformer.h", "attn", "mlp"),
    "phi": Case("PhiConfig", {**LLAMA, "pad_token_id": 0}, "model.layers", "self_attn", "mlp"),
    "cohere": Case("CohereConfig", LLAMA, "model.layers", "self_attn", "mlp"),
}


@functools.cache
def model_of_case(name: str) -> Any:
    import transformers

    case = CASES[name]
    return model_of(getattr(transformers, case.config)(**case.settings))


def origins(name: str) -> dict[str, Origin]:
    case = CASES[name]
    blocks = model_of_case(name).get_submodule(case.blocks)
    named = {"embed": Origin(blocks[0], is_input=True)}
    for i, block in enumerate(blocks, 1):
        named[f"attn{i}"] = Origin(block.get_submodule(case.attn))
        named[f"mlp{i}"] = Origin(block.get_submodule(case.mlp))
        named[f"block{i}"] = Origin(block)
    return named


@torch.inference_mode()
def read_alone(model: Any, origins: dict[str, Origin], ids: Any) -> dict[str, Any]:
    """Return the states (D,) at the last token of one prompt (T,)."""
    states: dict[str, Any] = {}

    def keep(name: str, state: Any) -> None:
        states[name] = (
            (state if torch.is_tensor(state) else state[0]).reshape(-1, WIDTH)[-1].clone().numpy()
        )

    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: keep(
                name, args[0] if args else kwargs["hidden_states"]
            ),
            with_kwargs=True,
        )
        if is_input
        else module.register_forward_hook(lambda _, __, x, name=name: keep(name, x))
        for name, (module, is_input) in origins.items()
    ]
    model(torch.from_numpy(ids)[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return states


@pytest.mark.parametrize("name", CASES)
def test_branches_are_what_known_modules_give_and_add_up_to_the_block(name: str) -> None:
    subject = HuggingFaceSubject(model_of_case(name))
    default = subject.names
    assert list(subject.branches) == [f"{kind}{i}" for i in (1, 2, 3) for kind in ("attn", "mlp")]
    assert subject.names == default  # `all` does not have them
    prompts = made_prompts()
    got = subject.harvest(prompts, [*subject.names, *subject.branches]).states
    for i, (ids, position) in enumerate(zip(prompts.ids, prompts.position, strict=True)):
        expected = read_alone(model_of_case(name), origins(name), ids[: position + 1])
        for state in subject.branches:
            known = expected[state] * np.float32(CASES[name].scale)
            assert_close(got[state][i], known, 2e-5, state)
    for n in (1, 2, 3):
        before = "embed" if n == 1 else f"block{n - 1}"
        assert_close(got[before] + got[f"attn{n}"] + got[f"mlp{n}"], got[f"block{n}"], 1e-6)


@pytest.mark.parametrize("name", ["llama", "granite", "gpt_neox", "opt"])
def test_an_edit_of_a_branch_is_that_of_a_hook_on_its_module(name: str) -> None:
    model, case = model_of_case(name), CASES[name]
    prompts = made_prompts()
    edited = EditedPrompts(prompts.ids, prompts.position, prompts.position, prompts.position)
    tokens = np.arange(VOCABULARY)[:, None]
    editor = HuggingFaceEditor(HuggingFaceSubject(model), edited, tokens)
    rng = np.random.default_rng(0)
    for state in ("attn2", "mlp2"):
        row, change, candidates = some_edits(rng, len(edited), WIDTH, len(tokens), 6)
        got = editor.answer(state, row, change, candidates)
        plain = change / np.float32(case.scale)
        known = plain_answers(model, [origins(name)[state]], edited, tokens, row, plain, candidates)
        assert_equal_answers(got, known)


NOT_TWO = "block1 is not its input plus two outputs of its modules"
HYBRID = {
    **{**LLAMA, "lru_width": WIDTH, "attention_window_size": 8, "pad_token_id": 0},
    "block_types": ["recurrent", "attention"],
}
REFUSED = {
    "one part": (FAMILIES["mamba"].config, FAMILIES["mamba"].settings, NOT_TWO),
    "a norm of the sum": ("BertConfig", {**WIDER, "is_decoder": True}, NOT_TWO),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_two_branches_are_refused_if_one_is_asked_for(name: str) -> None:
    import transformers

    config, settings, reason = REFUSED[name]
    model = model_of(getattr(transformers, config)(**settings))
    subject = HuggingFaceSubject(model)
    subject.harvest(made_prompts(), subject.names)
    with pytest.raises(InputError) as error:
        states_among(subject, ["attn"])
    assert str(error.value) == f"{type(model).__name__}: has no states attnN and mlpN: {reason}"


def test_a_hybrid_model_has_the_branches_of_its_blocks_with_attention() -> None:
    import transformers

    model = model_of(transformers.RecurrentGemmaConfig(**HYBRID))
    subject = HuggingFaceSubject(model)
    assert states_among(subject, ["mlp", "attn2"]) == ["mlp2", "attn2"]
    with pytest.raises(InputError, match="no hidden state 'attn1'; there are attn2, mlp2"):
        states_among(subject, ["attn1"])


def test_attention_is_the_part_that_mixes_tokens_also_if_it_runs_second() -> None:
    model = model_of(config_of("llama"))
    for layer in model.model.layers:

        def forward(self: Any, x: torch.Tensor, **inputs: Any) -> Any:
            x = x + self.mlp(self.post_attention_layernorm(x))
            return x + self.self_attn(self.input_layernorm(x), **inputs)[0]

        layer.forward = types.MethodType(forward, layer)
    subject = HuggingFaceSubject(model)
    assert {"attn2", "mlp2"} <= {*subject.branches}
    modules = [subject.reader.points[name].module for name in ("attn2", "mlp2")]
    assert modules == [model.model.layers[1].self_attn, model.model.layers[1].mlp]


def test_two_parts_that_mix_tokens_are_refused() -> None:
    model = model_of(config_of("llama"))
    for layer in model.model.layers:

        def forward(self: Any, x: torch.Tensor, **inputs: Any) -> Any:
            x = x + self.self_attn(self.input_layernorm(x), **inputs)[0]
            return x + self.mlp(x.cumsum(dim=1))

        layer.forward = types.MethodType(forward, layer)
    with pytest.raises(InputError, match="2 parts of block1 mix tokens: should be one"):
        _ = HuggingFaceSubject(model).branches


def test_a_sum_that_is_not_the_block_is_refused_before_it_is_measured() -> None:
    subject = HuggingFaceSubject(model_of_case("llama"))
    assert "attn2" in subject.branches
    subject.reader.points["attn2"] = subject.reader.points["attn2"]._replace(scale=0.999)
    subject.harvest(made_prompts(), ["attn1", "block2"])
    with pytest.raises(InputError, match=r"block1 \+ attn2 \+ mlp2 differs from block2"):
        subject.harvest(made_prompts(), ["mlp2"])


@pytest.mark.parametrize("name", ["granite", "gpt_neox"])
def test_branches_of_half_precision_are_those_of_float32(name: str) -> None:
    model = copy.deepcopy(model_of_case(name)).to(torch.bfloat16)
    exact, half = HuggingFaceSubject(model_of_case(name)), HuggingFaceSubject(model)
    assert half.branches == exact.branches
    for state in half.branches:
        a, b = exact.reader.points[state], half.reader.points[state]
        assert (type(a.module), a.call) == (type(b.module), b.call)
        assert b.scale == pytest.approx(a.scale, rel=1e-5)
    half.harvest(made_prompts(), half.branches)
    assert next(model.parameters()).dtype == torch.bfloat16
