"""Make small random models of many families, and read prompts with each one by one."""

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tasklens.data.token_prompts import Prompts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
States = dict[str, Floats]

VOCABULARY, WIDTH, LAYERS, CONTEXT = 40, 16, 3, 32
#: Shorter than most prompts, so that what lies outside of it is missed.
WINDOW = 4
POSITIONS = {"max_position_embeddings": CONTEXT}
SIZE = {
    **{"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS},
    "num_attention_heads": 2,
}
#: What Llama and all that derive from it are made of.
LLAMA = {**SIZE, **POSITIONS, "num_key_value_heads": 1, "intermediate_size": 32}
BLOCKS = tuple(f"block{i + 1}" for i in range(LAYERS))
FIRST = ("embed", *BLOCKS[:-1])


class Family(NamedTuple):
    """A family of models, and the meaning of its own tuple of hidden states."""

    config: str
    settings: dict[str, Any]
    blocks: str
    """Path of its list of blocks."""
    hidden: tuple[str, ...] = (*FIRST, "ln_f")
    """The state that each of the tuple of hidden states is."""
    has_wte: bool = False
    """Whether the first block reads something else than the word embedding."""
    context: int = CONTEXT


GPT2 = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 2}
GEMMA2 = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW}
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": 2}
MAMBA = {k: SIZE[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers")} | {"state_size": 4}
OPT = {**SIZE, **POSITIONS, "word_embed_proj_dim": 8, "ffn_dim": 32}
WIDER = {**SIZE, **POSITIONS, "intermediate_size": 32, "pad_token_id": 0}
FAMILIES = {
    "gpt2": Family("GPT2Config", {**GPT2, "n_positions": CONTEXT}, "transformer.h", has_wte=True),
    "gpt_neox": Family("GPTNeoXConfig", WIDER, "gpt_neox.layers"),
    "llama": Family("LlamaConfig", LLAMA, "model.layers"),
    "qwen2": Family("Qwen2Config", LLAMA, "model.layers"),
    "mistral": Family("MistralConfig", {**LLAMA, "sliding_window": WINDOW}, "model.layers"),
    "gemma": Family("GemmaConfig", {**LLAMA, "head_dim": 8}, "model.layers"),
    "gemma2": Family("Gemma2Config", {**LLAMA, **GEMMA2}, "model.layers"),
    # what follows the final norm here is projected to the width of the word embeddings
    "opt": Family(
        "OPTConfig", OPT, "model.decoder.layers", (*FIRST, "ln_f projected"), has_wte=True
    ),
    # its tuple of hidden states begins with what the first block gives
    "mamba": Family("MambaConfig", MAMBA, "backbone.layers", (*BLOCKS, "ln_f"), context=0),
    "falcon": Family("FalconConfig", {**SIZE, **POSITIONS, "alibi": False}, "transformer.h"),
    "falcon_alibi": Family("FalconConfig", {**SIZE, **POSITIONS, "alibi": True}, "transformer.h"),
    "bloom": Family("BloomConfig", BLOOM, "transformer.h", has_wte=True, context=0),
    # a head of several layers, with a norm of its own
    "modernbert": Family("ModernBertDecoderConfig", WIDER, "model.layers", has_wte=True),
}


def config_of(name: str, **others: object) -> Any:
    import transformers

    family = FAMILIES[name]
    return getattr(transformers, family.config)(**family.settings | others)


def model_of(config: Any, kind: str = "AutoModelForCausalLM", seed: int = 0) -> Any:
    """Return a random model in which no norm and no bias has its initial value.

    Weights are so large that every part of the network changes the output.
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
def family_model(name: str, dtype: str = "float32") -> Any:
    """Return the family's model, which tests must not change."""
    return model_of(config_of(name)).to(getattr(torch, dtype))


@functools.cache
def made_prompts(alike: bool = False) -> Prompts:
    """Return prompts of many lengths, with common prefixes if ``alike``; do not change them.

    The tokens after the measured one are not read: most of them are not in the vocabulary.
    """
    rng = np.random.default_rng(0)
    position = np.array([10, 3, 0, 13, 3, 7, 10, 1, 12])
    ids = rng.integers(VOCABULARY, size=(len(position), 17))
    if alike:
        position = np.array([20, 20, 20, 21, 21, 14, 6, 20, 20, 20, 18, 18, 18, 18, 1, 0, 20, 20])
        ids = rng.integers(VOCABULARY, size=(3, 24))[np.arange(len(position)) // 7]
        ids[np.arange(len(position)), position] = rng.integers(VOCABULARY, size=len(position))
    junk = np.resize([-1, 10**9, VOCABULARY, 3], ids.shape)
    return Prompts(np.where(np.arange(ids.shape[1]) > position[:, None], junk, ids), position)


@functools.cache
@torch.inference_mode()
def one_by_one(name: str, dtype: str = "float32", alike: bool = False) -> tuple[list[States], Ints]:
    """Return the model's own states of each prompt, and the most likely next tokens.

    The states at all tokens of each prompt, (T, D), are given by name. They are the model's own
    tuple, the last block's output, and the word embedding. Tests must not change them.
    """
    family, model, prompts = FAMILIES[name], family_model(name, dtype), made_prompts(alike)
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
        word = model.get_input_embeddings()(row)
        named = {"embed": word, "wte": word}
        named |= dict(zip(family.hidden, out.hidden_states, strict=True)) | {BLOCKS[-1]: last[0]}
        states.append({name: state[0].float().numpy() for name, state in named.items()})
        answer.append(int(out.logits[0, -1].argmax()))
    handle.remove()
    return states, np.array(answer)


def assert_close(got: Floats, expected: Floats, tolerance: float = 1e-5, what: str = "") -> None:
    """Compare with a tolerance of the largest number's size.

    A number of float32 is rounded by 6e-8 of its size. The order of a sum depends on the number of
    rows, so each of some fifty sums up to the last norm is rounded differently. 1e-5 is a hundred
    roundings. It is a fiftieth of the smallest change that another first token makes.
    """
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    difference = float(np.abs(got - expected).max())
    assert difference <= tolerance * float(np.abs(expected).max()), (what, difference)


def word_level_tokenizer() -> Any:
    import tokenizers
    import transformers

    vocabulary = {f"w{i}": i for i in range(VOCABULARY)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="w0")
