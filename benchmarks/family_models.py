"""Make a tiny random model of any causal type of transformers, by asking its configuration.

The default configuration of a type names its sizes. Each is replaced by a small one, also those of
the configurations inside it. What a type needs beyond that stands in `OWN`.
"""

import re
from typing import Any

import torch

VOCABULARY, CONTEXT, LAYERS, WIDTH, HEADS = 64, 64, 4, 32, 4
#: Largest number of parameters of a model that is made; some sizes may not be known below.
LARGEST = 20_000_000
#: Small values of a configuration's integers, by a pattern of the name; the first one counts.
SIZES = {
    r"(chunk_size_feed_forward|type_vocab_size|task_type_vocab_size)": None,
    r"(unpadded_|\w+_)?vocab_size": VOCABULARY,
    r"(max|n)_position(s|_embeddings)|max_(seq_len|target_positions)|n_ctx|context_length"
    r"|model_max_length": CONTEXT,
    r"(num_|encoder_|decoder_|num_encoder_|num_decoder_|num_hidden_)layers|n_layers?|num_blocks"
    r"|depth|num_layers_per_stack": LAYERS,
    r"hidden_size(_global)?|n_embd|(d_|dim_)model|emb_dim|dim|embedding_(dim|size)|lru_width"
    r"|(backbone_|attention_)hidden_size|adapter_(in_dim|out_dim|input_size)"
    r"|(in|out)put_embedding_size|word_embed_proj_dim": WIDTH,
    r"(\w+_)?intermediate_size(_mlp)?|(\w+_)?ffn_(hidden_size|dim)|d_inner|dff|dim_ff|mlp_dim"
    r"|feed_forward_size": 2 * WIDTH,
    r"((swa|encoder|decoder|num_encoder|num_decoder|num|num_swa|swa_num)_)?attention_heads|n_heads?"
    r"|num_heads|linear_num_(key_|value_)?heads|mamba_(n|num)_heads|index_n_heads": HEADS,
    r"(swa_)?num_(key_value|kv)_heads|kv_n_heads|num_query_groups": HEADS // 2,
    r"qk_head_dim|mamba_(d_head|headdim)|mamba_head_dim": 16,
    r"(\w+_)?head_dim|dim_head|d_head|attention_head_(size|dim)|kv_channels|rotary_dim": 8,
    r"\w+_rank|d_rel|\w*state_size|mamba_d_state|router_hidden_size|query_pre_attn_scalar": 8,
    r"hidden_size_per_layer_input": 8,
    r"(n_routed|num_local|num|moe_num)_experts|zero_expert_num": 4,
    r"\w*experts_per_(tok|token)|moe_top_?k|moe_k": 2,
    r"(n_groups?|topk_group|mamba_n_?groups|num_expert_group|o_groups)": 1,
    r"\w*chunk_size|(attention_)?(sliding_)?window(_size)?|local_attention|keep_window_size": 8,
}
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers")
#: What a type needs beside small sizes.
LINEAR, FULL, SLIDING = "linear_attention", "full_attention", "sliding_attention"
GEMMA = {"num_kv_shared_layers": 0, "layer_types": [SLIDING, FULL] * 2}
GEMMA_IN = {"text_config": GEMMA | {"per_layer_config": {1: {"head_dim": 16}, 3: {"head_dim": 16}}}}
ASSISTANT = {
    "num_hidden_layers": LAYERS,
    **{"layer_types": [SLIDING, FULL] * 2, "per_layer_config": {}, "num_kv_shared_layers": LAYERS},
    **{"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0},
}
INDEXER = {
    **{"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 16},
    **{"indexer_budget": 8, "indexer_compress_ratio": 2},
}
DOTS = {"layer_types": ["indexed_attention"] * LAYERS, "per_layer_config": {}, "index_head_dim": 16}
OWN: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4} for kind in (SLIDING, FULL)
        }
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8}},
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_method": "greedy"},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {"text_config": DOTS, "vision_config": {"per_layer_config": {}}},
    "dots3_note_text": DOTS,
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": GEMMA,
    "gemma4": GEMMA_IN,
    "gemma4_assistant": {"text_config": ASSISTANT},
    "gemma4_unified": GEMMA_IN,
    "gemma4_unified_assistant": {"text_config": ASSISTANT},
    "granitemoehybrid": {"layer_types": [LINEAR, FULL] * 2},
    "hrm_text": {"num_layers_per_stack": None, "num_hidden_layers": 2},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": [LINEAR, FULL] * 2},
    "lfm2_moe": {"layer_types": ["conv", FULL] * 2},
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "reformer": {"axial_pos_embds_dim": [8, 24], "axial_pos_shape": [8, 8]},
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX"},
    "xlstm": {"num_heads": 2},
    "zamba": {
        "layers_block_type": [LINEAR, "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {
        "layers_block_type": [LINEAR, "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
}


def tiny_config(kind: Any) -> Any:
    """Return a configuration of a class with small sizes; raise what the class raises."""
    own = OWN.get(kind.model_type, {})
    error = None
    for options in ({}, {"is_whole": True}, {"is_whole": True, "crops": True}):
        try:
            return kind(**merged(smaller(defaults(kind, own), **options), own))
        except Exception as raised:  # of a class that checks its lists against its sizes
            error = error or raised
    assert error is not None
    raise error


def defaults(kind: Any, own: dict[str, Any]) -> dict[str, Any]:
    """Return the default settings of a class; with our own, if it is not whole without them."""
    try:
        default = kind()
    except Exception:
        default = kind(**own)
    return dict(default.to_dict())


def merged(settings: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return settings with others in their place, also in those inside them."""
    return settings | {
        key: merged(settings[key], value) if isinstance(settings.get(key), dict) else value
        for key, value in own.items()
    }


def smaller(
    default: dict[str, Any], *, is_whole: bool = False, crops: bool = False
) -> dict[str, Any]:
    """Return the settings of a configuration that become small, also of those inside it.

    ``is_whole``: those inside it keep their other settings instead of being made anew. ``crops``:
    lists of one value per layer are cropped instead of being made anew.
    """
    small: dict[str, Any] = {}
    depth = max((v for k, v in default.items() if k in DEPTHS and isinstance(v, int)), default=0)
    for key, value in default.items():
        if isinstance(value, dict) and "chunk_size_feed_forward" in value:
            kept = value if is_whole else {k: value[k] for k in value if k == "model_type"}
            small[key] = kept | smaller(value, is_whole=is_whole, crops=crops)
        elif isinstance(value, list) and crops and len(value) == depth:
            small[key] = value[:LAYERS]
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
            size = next((s for pattern, s in SIZES.items() if re.fullmatch(pattern, key)), None)
            if key == "num_key_value_heads" and value == default.get("num_attention_heads"):
                size = HEADS
            if key.endswith("token_id") and value >= VOCABULARY:
                size = VOCABULARY - 1
            if size is not None:
                small[key] = size
    if "is_decoder" in default:
        small["is_decoder"] = True
    return small


def make_model(config: Any, seed: int = 0) -> Any:
    """Return a random model in which no norm and no bias has its initial value."""
    import transformers

    auto = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        n = sum(p.numel() for p in auto.from_config(config).parameters())
    if n > LARGEST:
        raise ValueError(f"a tiny configuration has {n:,} parameters")
    torch.manual_seed(seed)
    model = auto.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.2 * noise)
            else:
                parameter.copy_(0.3 * noise)
    return model.eval()
