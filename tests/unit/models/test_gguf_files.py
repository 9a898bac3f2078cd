"""Models in GGUF files have the states of the weights that they store, or are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

import tiny_gguf
from models.families import LLAMA, assert_close, config_of, family_model, made_prompts, model_of
from tasklens.core.errors import InputError
from tasklens.models import devices, gguf_files
from tasklens.models.checkpoint_series import find_checkpoints, identity
from tasklens.models.gguf_config import ARCHITECTURES
from tasklens.models.gguf_files import load_gguf_model, stored_as
from tasklens.models.harvest import as_subject
from tasklens.models.hf_loading import check_model, load_subject
from tasklens.models.hf_subject import HuggingFaceSubject


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf", family_model("llama"))


@pytest.fixture
def file(llama: Path, tmp_path: Path) -> Path:
    """Copy the file, so that a test may change it."""
    return Path(shutil.copy(llama, tmp_path / "m.gguf"))


def assert_same(subject: HuggingFaceSubject, model: Any) -> None:
    expected = HuggingFaceSubject(model)
    assert subject.names == expected.names
    mine, theirs = (one.harvest(made_prompts(), one.names) for one in (subject, expected))
    for name in expected.names:
        assert_close(mine.states[name], theirs.states[name], what=name)
    np.testing.assert_array_equal(mine.answer, theirs.answer)


def other_config(kind: str, **others: Any) -> Any:
    import transformers

    settings = LLAMA | {"head_dim": 8, "num_hidden_layers": 7} | others
    return getattr(transformers, kind)(**settings)


ROPE = {"rope_theta": 5000.0, "factor": 4.0}
MODELS: dict[str, Callable[[], Any]] = {
    "gemma": lambda: config_of("gemma"),
    "gemma2": lambda: config_of("gemma2"),
    "gemma3": lambda: other_config("Gemma3TextConfig", sliding_window=4, query_pre_attn_scalar=8),
    "gpt2": lambda: config_of("gpt2"),
    "llama": lambda: config_of("llama"),
    "qwen2": lambda: config_of("qwen2"),
    "qwen3": lambda: other_config("Qwen3Config"),
    "another epsilon and base": lambda: config_of(
        "llama", rms_norm_eps=0.03, rope_parameters={"rope_type": "default", "rope_theta": 50.0}
    ),
    "wider heads": lambda: config_of("llama", head_dim=12),
    "biases": lambda: config_of("llama", attention_bias=True, mlp_bias=True),
    "a tied head": lambda: config_of("qwen2", tie_word_embeddings=True),
    "an untied head": lambda: config_of("gpt2", tie_word_embeddings=False),
    "linear RoPE": lambda: config_of("llama", rope_parameters={"rope_type": "linear", **ROPE}),
    "YaRN": lambda: config_of(
        "qwen2",
        rope_parameters={"rope_type": "yarn", **ROPE, "original_max_position_embeddings": 8},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_states_are_those_of_the_model_that_was_written(tmp_path: Path, name: str) -> None:
    model = model_of(MODELS[name]())
    subject = load_subject(tiny_gguf.write_gguf(tmp_path / "m.gguf", model))
    assert type(subject.model) is type(model)
    assert_same(subject, model)
    assert subject.max_length == HuggingFaceSubject(model).max_length


@pytest.mark.parametrize("name", sorted({*ARCHITECTURES} - {"gemma"}))
def test_weights_are_those_that_transformers_reads(tmp_path: Path, name: str) -> None:
    """Its own reader is another program; it does not read the first Gemma."""
    path = tiny_gguf.write_gguf(tmp_path / "m.gguf", model_of(MODELS[name]()))
    model = load_gguf_model(path, torch.float32)
    theirs = type(model).from_pretrained(tmp_path, gguf_file=path.name, config=model.config)
    expected = theirs.state_dict()
    assert model.state_dict().keys() == expected.keys()
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, expected[key]), key


def test_every_architecture_that_is_read_is_tested() -> None:
    assert {*ARCHITECTURES} <= {*MODELS}


def test_the_factors_of_llama_3_1_scale_its_positions(tmp_path: Path) -> None:
    """Its converter writes what the frequencies are divided by, as a tensor."""
    rope = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    model = model_of(config_of("llama", rope_parameters={"rope_type": "llama3", **ROPE, **rope}))
    plain = model_of(config_of("llama", rope_parameters={"rope_type": "default", **ROPE}))
    factors = (plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq).numpy()
    assert factors.max() == pytest.approx(4)
    path = tiny_gguf.write_gguf(tmp_path / "m.gguf", model, further={"rope_freqs.weight": factors})
    assert_same(load_subject(path), model)
    untrained = load_subject(path, untrained=3).model.model.rotary_emb.inv_freq
    assert_close(untrained.numpy(), model.model.rotary_emb.inv_freq.numpy())


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_states_are_those_of_the_dequantised_weights(tmp_path: Path, kind: str) -> None:
    model = model_of(config_of("llama", hidden_size=64, intermediate_size=64))
    number = gguf.GGMLQuantizationType[kind]
    path = tiny_gguf.write_gguf(tmp_path / "m.gguf", model, kind=number)
    assert stored_as(path, "float32") == f"{kind} weights, computed in float32"
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                stored = gguf.quantize(parameter.numpy(), number)
                values = torch.from_numpy(gguf.dequantize(stored, number))
                assert kind == "F16" or not torch.equal(parameter, values)
                parameter.copy_(values)
    assert_same(load_subject(path), model)


def test_a_model_that_is_spread_has_the_same_states(llama: Path) -> None:
    assert_same(load_subject(llama, device="auto"), family_model("llama"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_loaded_as_what_is_computed_in(llama: Path, dtype: str) -> None:
    model = load_gguf_model(llama, getattr(torch, dtype))
    expected = family_model("llama").state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, expected[name].to(getattr(torch, dtype)))


def test_a_file_is_loaded_without_the_network_and_without_the_files_beside_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", None)
    for name in ("adapter_config.json", "config.json", "generation_config.json"):
        (file.parent / name).write_text('{"base_model_name_or_path": "org/model"}')
    assert_same(load_subject(file), family_model("llama"))


def test_fresh_weights_are_drawn_with_a_seed(llama: Path, saved: Path) -> None:
    first, again, other = (load_subject(llama, untrained=seed) for seed in (1, 1, 2))
    assert first.weights_hash() == again.weights_hash() != other.weights_hash()
    assert first.weights_hash() == load_subject(saved, untrained=1).weights_hash()


# --- Which file a path stands for ---


def test_a_directory_stands_for_its_only_file_unless_it_has_other_weights(
    file: Path, saved: Path
) -> None:
    expected = family_model("llama")
    assert_same(load_subject(file.parent), expected)
    assert_same(as_subject(str(file.parent)), expected)  # type: ignore[arg-type]
    file.with_name("other.gguf").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"has 2 GGUF files: name the path of one: m.gguf, other"):
        load_subject(file.parent)
    for each in saved.iterdir():
        shutil.copy(each, file.parent)
    assert_same(load_subject(file.parent), expected)
    assert stored_as(file.parent, "float32") is None


def test_the_parts_of_a_model_are_no_several_models(file: Path) -> None:
    for i in (1, 2):
        shutil.copy(file, file.with_name(f"big-0000{i}-of-00002.gguf"))
    with pytest.raises(InputError, match="has 3 GGUF files"):
        gguf_files.gguf_file(file.parent)
    file.unlink()
    first = gguf_files.gguf_file(file.parent)
    assert first is not None
    assert first.name == "big-00001-of-00002.gguf"


def test_a_file_is_a_checkpoint_with_the_step_of_its_name(file: Path) -> None:
    early, late = (file.with_name(f"step{step}.gguf") for step in (100, 200))
    for path in (early, late):
        shutil.copy(file, path)
    series = find_checkpoints([str(late), str(early)])
    assert [(c.step, c.directory) for c in series] == [(100, early), (200, late)]
    assert as_subject(early).step == 100
    before = identity(series[0])
    early.write_bytes(early.read_bytes() + b"\0")
    assert identity(series[0]) != before
    assert identity(series[1]) == identity(find_checkpoints([str(late)])[0])
    with pytest.raises(InputError, match="is on the disk; only the hub has revisions"):
        find_checkpoints([str(file)], ["main"])
    with pytest.raises(InputError, match="there is no such file"):
        find_checkpoints([str(file.with_name("none.gguf"))])


def test_directories_with_a_file_are_a_series(file: Path) -> None:
    for step in (5, 10):
        (file.parent / f"step-{step}").mkdir()
        shutil.copy(file, file.parent / f"step-{step}")
    file.unlink()
    assert [c.step for c in find_checkpoints([str(file.parent)])] == [5, 10]


# --- What is refused ---

LOST: dict[str, Any] = {
    "rope.scaling.type": "longrope",
    "attention.scale": 0.5,
    "attention.sliding_window": 4,
    "expert_count": 8,
    "rope.dimension_count": 4,
    "attention.value_length": 4,
    "attention.head_count_kv": [1, 2, 1],
}


@pytest.mark.parametrize("key", LOST)
def test_a_value_that_would_be_lost_is_refused(tmp_path: Path, key: str) -> None:
    metadata = {"attention__key_length": 8, key.replace(".", "__"): LOST[key]}
    path = tiny_gguf.write_gguf(tmp_path / "m.gguf", family_model("llama"), **metadata)
    with pytest.raises(InputError, match=rf"llama\.{key} = .*(is not read|should be a number)"):
        load_subject(path)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another size": ({"embedding_length": 8}, "its embedding_length is 8, but token_embd.weight"),
    "many blocks": ({"block_count": 2**31}, r"block_count is 2147483648, but .* of 3 blocks"),
    "other heads": ({"attention__head_count": 4}, r"has the shape \(16, 16\), but by the metadata"),
    "a huge layer": ({"feed_forward_length": 2**31}, "but by the metadata"),
    "no heads": ({"attention__head_count": 0}, "head_count = 0: should be a number above 0"),
    "a text": ({"block_count": "three"}, "block_count = three: should be a number above 0"),
    "no size": ({"embedding_length": None}, "its metadata have no llama.embedding_length"),
    "odd heads": ({"attention__head_count": 3}, "cannot be loaded: .*The hidden size"),
}


@pytest.mark.parametrize("what", WRONG)
def test_metadata_of_another_model_are_refused_before_anything_is_allocated(
    tmp_path: Path, what: str
) -> None:
    metadata, why = WRONG[what]
    path = tiny_gguf.write_gguf(tmp_path / "m.gguf", family_model("llama"), **metadata)
    with pytest.raises(InputError, match=why):
        load_subject(path)


def test_a_missing_tensor_is_not_drawn_at_random_and_none_is_left_over(tmp_path: Path) -> None:
    path, model = tmp_path / "m.gguf", family_model("llama")
    tiny_gguf.write_gguf(path, model, without=("blk.1.attn_q.weight",))
    with pytest.raises(InputError, match=r"lacks the tensor blk.1.attn_q.weight, which is model\."):
        load_subject(path)
    extra = {"blk.1.attn_q_norm.weight": np.ones(8, dtype=np.float32)}
    tiny_gguf.write_gguf(path, model, further=extra)
    with pytest.raises(InputError, match=r"1 tensors are not read .* first blk.1.attn_q_norm"):
        load_subject(path)
    tiny_gguf.write_gguf(path, model, without=("token_embd.weight",))
    with pytest.raises(InputError, match=r"has no word embedding"):
        load_subject(path)


def test_a_file_is_checked_before_others_of_its_series_are_measured(file: Path) -> None:
    assert check_model(file) is None
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="is it whole"):
        check_model(file)


def test_another_architecture_is_refused(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0falco"))
    with pytest.raises(InputError, match=r"architecture falco are not read .* gemma, .* qwen3; "):
        load_subject(file)


def test_numbers_that_gguf_does_not_dequantise_are_refused(tmp_path: Path) -> None:
    path = tiny_gguf.write_gguf(tmp_path / "m.gguf", family_model("llama"), norm_kind="F64")
    with pytest.raises(InputError, match=r"_norm.weight is stored as F64, which gguf does not"):
        load_subject(path)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    read: list[object] = []
    monkeypatch.setattr(devices, "free_bytes", lambda _: 10**4)
    monkeypatch.setattr(gguf_files, "_weight", lambda *arguments: read.append(arguments))
    return read


@pytest.mark.parametrize("untrained", [None, 1])
def test_a_model_that_the_memory_does_not_hold_is_refused_before_it_is_read(
    llama: Path, little_memory: list[object], untrained: int | None
) -> None:
    why = r"m.gguf: the weights need 0\.0 GB of memory, but 0\.0 GB are free on cpu: "
    with pytest.raises(InputError, match=why):
        load_subject(llama, dtype="bfloat16", untrained=untrained)
    assert little_memory == []
