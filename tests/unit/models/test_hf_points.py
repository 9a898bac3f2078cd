"""Hidden states of models whose shape has to be asked for, compared with hooks on known paths.

No prompt is read beside another in these hooks, which share no code with tasklens.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from models.families import (
    BLOCKS,
    LLAMA,
    POSITIONS,
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
from tasklens.models.hf_points import Point, find_points
from tasklens.models.hf_subject import HuggingFaceSubject

DECODER = {
    **{"vocab_size": VOCABULARY, "d_model": WIDTH, "decoder_layers": 3, "encoder_layers": 5},
    **{"decoder_attention_heads": 2, "decoder_ffn_dim": 32, **POSITIONS},
}
LATENT = {
    **{"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_layers": 3, "num_attention_heads": 2},
    **{"ffn_hidden_size": 32, "expert_ffn_hidden_size": 8, "q_lora_rank": 8, "kv_lora_rank": 8},
    **{"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "head_dim": 8},
    **{"n_routed_experts": 2, "zero_expert_num": 1, "moe_topk": 2, **POSITIONS},
}
IMAGES = {"cross_attention_layers": [1], "pad_token_id": 0, "num_hidden_layers": 4}
BERT = {**WIDER, "is_decoder": True}


class Case(NamedTuple):
    """A type, the paths of its blocks, and the origins of its other states."""

    config: str
    settings: dict[str, Any]
    blocks: str
    """Path of each block, with its index for {}."""
    norm: str = ""
    """Path of the module that reads the final norm's output alone, or "" if there is no norm."""
    model: str = "AutoModelForCausalLM"
    absent: tuple[int, ...] = ()
    """Numbers of blocks that do not run on text."""
    has_wte: bool = True


CASES = {
    "a norm before the first block": Case("NanoChatConfig", LLAMA, "model.layers.{}", "lm_head"),
    "blocks that the configuration counts otherwise": Case(
        "BartConfig", DECODER, "model.decoder.layers.{}"
    ),
    "blocks of two sublayers": Case(
        "LongcatFlashConfig", LATENT, "model.layers.{}", "lm_head", has_wte=False
    ),
    "a head after a projection": Case(
        "ElectraConfig", {**BERT, "embedding_size": 8}, "electra.encoder.layer.{}"
    ),
    "a wider head": Case(
        "RemBertConfig",
        {**BERT, "input_embedding_size": 8, "output_embedding_size": 24},
        "rembert.encoder.layer.{}",
    ),
    "a norm above the blocks": Case(
        "RobertaPreLayerNormConfig", BERT, "roberta_prelayernorm.encoder.layer.{}", "lm_head"
    ),
    "blocks that read images alone": Case(
        "MllamaTextConfig",
        {**LLAMA, **IMAGES, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        "model.layers.{}",
        "lm_head",
        "MllamaForCausalLM",
        absent=(2,),
        has_wte=False,
    ),
}


def origins_of(case: Case, model: Any) -> dict[str, Origin]:
    """Return the origin of each state, in the order of a pass."""
    n = len(model.get_submodule(case.blocks.removesuffix(".{}")))
    blocks = [model.get_submodule(case.blocks.format(i)) for i in range(n)]
    origins = {"wte": Origin(model.get_input_embeddings())} if case.has_wte else {}
    origins["embed"] = Origin(blocks[0], is_input=True)
    origins |= {
        f"block{i}": Origin(block) for i, block in enumerate(blocks, 1) if i not in case.absent
    }
    if case.norm:
        origins["ln_f"] = Origin(model.get_submodule(case.norm), is_input=True)
    return origins


@torch.inference_mode()
def read_alone(model: Any, origins: dict[str, Origin], ids: Any) -> tuple[dict[str, Any], int]:
    """Return the states (D,) at the last token of one prompt (T,), and the answer."""
    states: dict[str, Any] = {}

    def keep(name: str, state: Any) -> None:
        states[name] = (state if torch.is_tensor(state) else state[0])[0, -1].clone().numpy()

    hooks = []
    for name, (module, is_input) in origins.items():
        if is_input:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: keep(
                        name, args[0] if args else kwargs["hidden_states"]
                    ),
                    with_kwargs=True,
                )
            )
        else:
            hooks.append(module.register_forward_hook(lambda _, __, x, name=name: keep(name, x)))
    logits = model(torch.from_numpy(ids)[None], use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return states, int(logits[0, -1].argmax())


@pytest.mark.parametrize("name", CASES)
def test_states_are_those_that_hooks_read_one_prompt_at_a_time(name: str) -> None:
    import transformers

    case = CASES[name]
    model = model_of(getattr(transformers, case.config)(**case.settings), case.model)
    origins = origins_of(case, model)
    subject = HuggingFaceSubject(model)
    assert list(subject.names) == list(origins)
    for alike in (False, True):
        prompts = made_prompts(alike)
        got = subject.harvest(prompts, subject.names)
        for i, (ids, position) in enumerate(zip(prompts.ids, prompts.position, strict=True)):
            states, answer = read_alone(model, origins, ids[: position + 1])
            for state, x in states.items():
                assert_close(got.states[state][i], x, 2e-5, state)
            assert got.answer[i] == answer
    prompts = made_prompts(alike=True)
    edited = EditedPrompts(prompts.ids, prompts.position, prompts.position, prompts.position)
    tokens = np.arange(0, VOCABULARY, 2)[:, None]
    editor = HuggingFaceEditor(subject, edited, tokens)
    rng = np.random.default_rng(0)
    for state, origin in origins.items():
        edits = some_edits(rng, len(prompts), subject.widths[state], len(tokens), n_edits=6)
        expected = plain_answers(model, [origin], edited, tokens, *edits)
        assert_equal_answers(editor.answer(state, *edits), expected)
    if case.config in ("ElectraConfig", "RemBertConfig"):
        message = rf"its head has no row of {WIDTH} numbers per token, .*: leave out this edit$"
        with pytest.raises(InputError, match=message):
            editor.unembedding(np.arange(3))
    else:
        assert editor.unembedding(np.arange(3)).shape == (3, WIDTH)


# --- What is refused ---


XLM = {"emb_dim": WIDTH, "n_layers": 3, "n_heads": 2, "causal": True, "vocab_size": VOCABULARY}
GEMMA3N = {
    **{**LLAMA, "layer_types": ["sliding_attention", "full_attention"], "num_hidden_layers": 2},
    **{"num_kv_shared_layers": 0, "head_dim": 8, "hidden_size_per_layer_input": 4},
    **{"vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 4},
    **{"activation_sparsity_pattern": None, "intermediate_size": 32},
}
HRM = {**LLAMA, "head_dim": 8}


@pytest.mark.parametrize(
    ("kind", "config", "settings", "reason"),
    [
        (
            "HrmTextForCausalLM",
            "HrmTextConfig",
            HRM,
            "has lists of 3 blocks and 3 blocks that pass on hidden states: should be one",
        ),
        (
            "XLMWithLMHeadModel",
            "XLMConfig",
            XLM,
            "its blocks do not run one after another: a LayerNorm runs between block1 and block2",
        ),
        (
            "Gemma3nForCausalLM",
            "Gemma3nTextConfig",
            GEMMA3N,
            f"embed has shape (4, 2, 4, {WIDTH}) for 2 prompts of 4 tokens: should be one vector "
            "per token, (2, 4, D)",
        ),
    ],
)
def test_blocks_without_one_residual_stream_are_refused(
    kind: str, config: str, settings: dict[str, Any], reason: str
) -> None:
    """The lists of XLM are of attentions, norms and feed-forward networks."""
    import transformers

    with pytest.raises(InputError, match=f"^{re.escape(f'{kind}: {reason}')}$"):
        HuggingFaceSubject(model_of(getattr(transformers, config)(**settings)))


# --- Small networks ---


class Block(nn.Module):
    """A block that returns its state, and another one that it has read or changed."""

    def __init__(self, *, changes_other: bool) -> None:
        super().__init__()
        self.mix, self.changes_other = nn.Linear(WIDTH, WIDTH), changes_other

    def forward(self, state: torch.Tensor, other: torch.Tensor) -> list[torch.Tensor]:
        state = state + self.mix(state)
        return [state, other + state if self.changes_other else other]


class Network(nn.Module):
    """A network of three blocks, in which a module may run behind each, and behind the last."""

    def __init__(self, between: nn.Module, behind: nn.Module, *, changes_other: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([Block(changes_other=changes_other) for _ in range(3)])
        self.between, self.behind = between, behind

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
        state = first = self.embedding(ids)
        for layer in self.layers:
            state, first = layer(state, first)
            state = self.between(state) / 2
        return (self.behind(state),)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return state * self.weight


def points_of(
    between: nn.Module | None = None,
    behind: nn.Module | None = None,
    *,
    changes_other: bool = False,
) -> tuple[Network, dict[str, Point]]:
    network = Network(
        between or nn.Identity(), behind or nn.Identity(), changes_other=changes_other
    )
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    return network, find_points("Network", network, network.embedding, ids)


def test_a_state_may_be_scaled_between_blocks_and_a_constant_may_pass_beside_it() -> None:
    network, points = points_of()
    assert [*points] == ["embed", *BLOCKS], "its first block reads the word embedding"
    assert [point.module for point in points.values()] == [network.layers[0], *network.layers]


@pytest.mark.parametrize(
    ("behind", "path"),
    [
        (nn.LayerNorm(WIDTH), "behind"),
        (Scale(), "behind"),
        (nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4)), None),
        (nn.Sequential(nn.Linear(WIDTH, 8), nn.LayerNorm(8)), "behind.1"),
        (nn.Sequential(nn.Linear(WIDTH, 8), nn.LayerNorm(8), nn.Linear(8, 4)), None),
        (nn.Linear(WIDTH, WIDTH), None),
    ],
)
def test_the_final_norm_is_the_one_behind_the_blocks_or_the_last_of_all(
    behind: nn.Module, path: str | None
) -> None:
    """By any name. The norm of a head of several layers is none of the network."""
    network, points = points_of(behind=behind)
    norm = points["ln_f"].module if "ln_f" in points else None
    assert norm is (None if path is None else network.get_submodule(path))


def test_what_runs_between_blocks_and_a_second_state_are_refused() -> None:
    one_after_another = "Network: its blocks do not run one after another"
    for options, reason in (
        ({"between": nn.Linear(WIDTH, WIDTH)}, "a Linear runs between block1 and block2"),
        ({"changes_other": True}, "two states pass between block1 and block2"),
    ):
        with pytest.raises(InputError, match=f"^{one_after_another}: {reason}$"):
            points_of(**options)


def test_a_module_may_be_several_blocks() -> None:
    model = model_of(config_of("llama"))
    layers = model.model.layers
    layers[2] = layers[0]
    subject, prompts = HuggingFaceSubject(model), made_prompts()
    got = subject.harvest(prompts, BLOCKS)
    row = torch.from_numpy(prompts.ids[:1, : prompts.position[0] + 1])
    own = model(row, output_hidden_states=True).hidden_states
    assert_close(got.states["block1"][0], own[1][0, -1].detach().numpy())
    assert_close(got.states["block2"][0], own[2][0, -1].detach().numpy())
    assert float(np.abs(got.states["block3"] - got.states["block1"]).max()) > 0.1


def test_a_model_without_a_list_of_blocks_is_refused() -> None:
    model = model_of(config_of("llama"))
    model.model.layers = nn.Sequential(*model.model.layers)
    with pytest.raises(InputError, match=r"^LlamaForCausalLM: has no list of blocks that pass"):
        HuggingFaceSubject(model)
