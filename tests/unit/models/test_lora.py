"""LoRA adapters: states equal those of the merged model, and what cannot be merged is refused."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from models.families import assert_close, config_of, made_prompts, model_of, word_level_tokenizer
from tasklens.core.errors import InputError
from tasklens.core.files import digest
from tasklens.models.checkpoint_series import find_checkpoints, identity
from tasklens.models.hf_loading import load_subject
from tiny_adapters import make_adapter

pytest.importorskip("peft")


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a Llama, and a GPT-2 whose linear layers are Conv1D; return their parent."""
    path = tmp_path_factory.mktemp("bases")
    model_of(config_of("llama", tie_word_embeddings=False)).save_pretrained(path / "llama")
    model_of(config_of("gpt2")).save_pretrained(path / "gpt2")
    word_level_tokenizer().save_pretrained(path / "llama")
    return path


@pytest.fixture
def adapter(bases: Path, tmp_path: Path) -> Path:
    """Return a plain adapter of the Llama, which a test may change."""
    return make_adapter(bases / "llama", tmp_path / "adapter", target_modules=["q_proj", "up_proj"])


def edit(adapter: Path, **changes: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(adapter: Path, **options: Any) -> str:
    """Check that loading raises an InputError of one line about the adapter; return it."""
    with pytest.raises(InputError) as error:
        load_subject(adapter, **options)
    assert "\n" not in str(error.value)
    assert str(adapter) in str(error.value)
    return str(error.value)


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"target_modules": ["q_proj", "up_proj"]}),
    ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    ("gpt2", {"target_modules": ["c_proj"], "bias": "lora_only"}),
    ("gpt2", {"target_modules": "all-linear", "bias": "all", "lora_bias": False}),
    ("llama", {"target_modules": "all-linear", "use_rslora": True}),
    ("llama", {"target_modules": ["v_proj"], "use_dora": True}),
    ("gpt2", {"target_modules": ["c_attn"], "use_dora": True, "fan_in_fan_out": True}),
    ("gpt2", {"target_modules": ["c_attn"], "lora_bias": True}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head", "k_proj"]}),
    (
        "llama",
        {
            "target_modules": r".*layers\.\d+\.(self_attn|mlp)\.(q|k|gate)_proj",
            "rank_pattern": {"q_proj": 2, r"layers.1.*k_proj": 4},
            "alpha_pattern": {"mlp.gate_proj": 9},
        },
    ),
    (
        "llama",
        {"target_modules": ["o_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    ),
]


@pytest.mark.parametrize(("base", "settings"), KINDS)
def test_states_are_those_of_the_merged_model(
    bases: Path, tmp_path: Path, base: str, settings: dict[str, Any]
) -> None:
    adapter = make_adapter(bases / base, tmp_path / "adapter", **settings)
    before = torch.get_rng_state()
    subject = load_subject(adapter)
    assert torch.equal(torch.get_rng_state(), before), "the caller's generator is as it was"
    prompts = made_prompts()
    merged, plain = (load_subject(path) for path in (f"{adapter}-merged", bases / base))
    got, expected, unchanged = (
        each.harvest(prompts, merged.names) for each in (subject, merged, plain)
    )
    assert [*got.states] == [*expected.states]
    for state, x in got.states.items():
        assert_close(x, expected.states[state], what=state)
    np.testing.assert_array_equal(got.answer, expected.answer)
    assert not np.allclose(got.states["block2"], unchanged.states["block2"], atol=0.05)


def test_weights_are_merged_in_float32_and_then_rounded(adapter: Path) -> None:
    subject = load_subject(adapter, dtype="bfloat16")
    merged = load_subject(f"{adapter}-merged", dtype="bfloat16")
    assert subject.weights_hash() == merged.weights_hash()
    plain, untrained = (load_subject(adapter, untrained=seed).weights_hash() for seed in (1, 2))
    assert plain != untrained


def test_the_base_is_a_directory_and_never_fetched(
    adapter: Path,
    bases: Path,
    tmp_path: Path,
    offline: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hashes = {load_subject(adapter).weights_hash()}
    line = f"tasklens: {adapter} is a LoRA adapter; it is merged into {bases / 'llama'}\n"
    assert capsys.readouterr().err == line
    edit(adapter, base_model_name_or_path="owner/name")
    why = "is a LoRA adapter of 'owner/name', which is not a directory, and a base model is never"
    assert why in refused(adapter)
    hashes.add(load_subject(adapter, base=bases / "llama").weights_hash())
    shutil.copytree(bases / "llama", adapter / "owner" / "name")
    hashes.add(load_subject(adapter).weights_hash())
    monkeypatch.chdir(bases)
    edit(adapter, base_model_name_or_path="llama")
    hashes.add(load_subject(adapter).weights_hash())
    assert len(hashes) == 1
    edit(adapter, base_model_name_or_path=None)
    assert "names no base model: give its directory with --base DIR" in refused(adapter)
    for other, why in ((adapter, "is a LoRA adapter itself"), (tmp_path, "has no config.json")):
        with pytest.raises(InputError, match=f"^--base {other}: {why}"):
            load_subject(adapter, base=other)
    with pytest.raises(InputError, match=f"^--base: {bases / 'llama'} is not a LoRA adapter"):
        load_subject(bases / "llama", base=bases / "gpt2")
    assert load_subject(adapter, base=bases / "llama").tokenizer.get_vocab()["w7"] == 7
    assert offline == []


WRONG: dict[str, object] = {
    "peft_type": "IA3",
    "task_type": "SEQ_CLS",
    "init_lora_weights": "pissa",
    "modules_to_save": ["lm_head"],
    "auto_mapping": {"base_model_class": "Own", "parent_library": "own"},
    "trainable_token_indices": [1, 2],
    "layer_replication": [[0, 2], [1, 3]],
    "target_parameters": ["mlp.up_proj"],
    "alora_invocation_tokens": [3],
    "no_such_setting": True,
    "target_modules": "(a+)+x",
    "r": 5,
    "rank_pattern": {"q_proj": 10**12},
    "alpha_pattern": 5,
    "lora_alpha": "five",
}


@pytest.mark.parametrize("key", WRONG)
def test_what_cannot_be_merged_exactly_is_refused(adapter: Path, key: str) -> None:
    edit(adapter, **{key: WRONG[key]})
    refused(adapter)


def test_an_adapter_that_does_not_fit_is_refused(adapter: Path, bases: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = safetensors.torch.load_file(file)
    first = sorted(weights)[0]
    why = f"{adapter}: does not fit the base model and adapter_config.json: {first} is"
    safetensors.torch.save_file({k: v for k, v in weights.items() if k != first}, file)
    assert refused(adapter).startswith(f"{why} no such weight, should be (")
    safetensors.torch.save_file(weights | {first: torch.ones(2, 2)}, file)
    assert refused(adapter).startswith(f"{why} (2, 2), should be (")
    safetensors.torch.save_file(weights | {"more": torch.ones(2)}, file)
    assert "more is (2,), should be no such weight" in refused(adapter)
    safetensors.torch.save_file(weights | {first: weights[first] * torch.nan}, file)
    assert "cannot be loaded: NaNs detected in the merged weights" in refused(adapter)
    assert "cannot be loaded" in refused(adapter, base=bases / "gpt2")
    file.write_bytes(file.read_bytes()[:50])
    assert "cannot be loaded" in refused(adapter)
    file.rename(file.with_suffix(".bin"))
    assert "it has adapter_model.bin; save it in safetensors" in refused(adapter)


def test_an_adapter_of_a_tied_weight_is_refused(bases: Path, tmp_path: Path) -> None:
    """Merging would change the output layer with the embedding, or the other way round."""
    for name, target in (("a", "wte"), ("b", "lm_head")):
        adapter = make_adapter(bases / "gpt2", tmp_path / name, target_modules=[target, "c_attn"])
        why = "cannot be merged exactly: transformer.wte.weight and lm_head.weight are one weight"
        assert why in refused(adapter)


def test_without_peft_the_line_has_the_command(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "needs peft, which is not installed: pip install -e '.[peft]'" in refused(adapter)


def test_adapters_are_a_series_and_their_content_counts(adapter: Path, tmp_path: Path) -> None:
    for step in (10, 5):
        shutil.copytree(adapter, tmp_path / "out" / f"checkpoint-{step}")
    series = find_checkpoints([str(tmp_path / "out")])
    assert [checkpoint.step for checkpoint in series] == [5, 10]
    assert {checkpoint.base for checkpoint in series} == {Path(_base_of(adapter))}
    before = digest(identity(series[0]))
    file = tmp_path / "out" / "checkpoint-5" / "adapter_model.safetensors"
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(identity(series[0])) != before
    base = str(tmp_path / "other")
    with pytest.raises(InputError, match=f"^--base {base}: is not a directory"):
        find_checkpoints([str(tmp_path / "out")], base=Path(base))
    edit(tmp_path / "out" / "checkpoint-10", base_model_name_or_path="owner/name")
    with pytest.raises(InputError, match=r"checkpoint-10 is a LoRA adapter of 'owner/name'"):
        find_checkpoints([str(tmp_path / "out")])


def _base_of(adapter: Path) -> str:
    config = json.loads((adapter / "adapter_config.json").read_text())
    return str(config["base_model_name_or_path"])
