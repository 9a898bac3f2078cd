"""Loading models from directories, and the hash of their weights."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import tasklens as tl
from models.conftest import Limit
from models.families import WIDTH, assert_close, config_of, family_model, made_prompts, model_of
from tasklens.core.errors import InputError
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_loading import load_subject
from tasklens.models.hf_subject import HuggingFaceSubject


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    """Copy the saved model, so that a test may change it."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def assert_same_states(subject: HuggingFaceSubject, prompts: Prompts) -> None:
    expected = HuggingFaceSubject(family_model("llama")).harvest(prompts, ["block3", "ln_f"])
    got = subject.harvest(prompts, ["block3", "ln_f"])
    for state, x in got.states.items():
        assert_close(x, expected.states[state], what=state)


@pytest.mark.parametrize("weights", ["in one file", "in several", "old"])
def test_a_directory_is_loaded_without_the_network_and_old_weights_with_a_warning(
    directory: Path,
    prompts: Prompts,
    offline: list[Any],
    capsys: pytest.CaptureFixture[str],
    weights: str,
) -> None:
    """The hash of the weights is the same, whatever files they are in."""
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    if weights == "old":
        file = directory / "model.safetensors"
        torch.save(safetensors.torch.load_file(file), directory / "pytorch_model.bin")
        file.unlink()
    elif weights == "in several":
        family_model("llama").save_pretrained(directory, max_shard_size="4KB")
        assert len([*directory.glob("*.safetensors")]) > 2
        capsys.readouterr()  # a progress bar
    subject = load_subject(directory, max_tokens=77)
    assert offline == []
    assert before == (logging.get_verbosity(), logging.is_progress_bar_enabled())
    assert subject.max_tokens == 77
    assert_same_states(subject, prompts)
    assert re.fullmatch("[0-9a-f]{64}", subject.weights_hash())
    assert subject.weights_hash() == HuggingFaceSubject(family_model("llama")).weights_hash()
    assert subject.tokenizer("w5 w7 w39")["input_ids"] == [5, 7, 39]
    what = "its .bin files are unpickled, tensors only (weights_only)"
    warning = f"tasklens: warning: {directory} has no safetensors; {what}\n"
    assert capsys.readouterr() == ("", warning if weights == "old" else "")


# --- A model that no device holds whole ---


@pytest.mark.parametrize(("untrained", "on_disk"), [(None, False), (3, False), (None, True)])
def test_a_spread_model_is_the_same_as_a_whole_one(
    saved: Path, tmp_path: Path, untrained: int | None, on_disk: bool
) -> None:
    """From the disk, weights are brought in module by module, as if the memory were too small."""
    import accelerate

    spread = load_subject(saved, device="auto", untrained=untrained)
    single = load_subject(saved, untrained=untrained)
    if on_disk:
        cpu = torch.device("cpu")
        model = accelerate.disk_offload(spread.model, str(tmp_path), execution_device=cpu)
        spread = HuggingFaceSubject(model)
        assert spread.device == cpu
    places = {p.device.type for p in spread.model.parameters()}
    assert places == ({"meta"} if on_disk else {"cpu"})
    assert spread.names == single.names
    assert spread.weights_hash() == single.weights_hash()
    mine, theirs = (one.harvest(made_prompts(), single.names) for one in (spread, single))
    for name in single.names:
        np.testing.assert_array_equal(mine.states[name], theirs.states[name])
    np.testing.assert_array_equal(mine.answer, theirs.answer)
    assert {p.device.type for p in spread.model.parameters()} == places, "let go of again"


def test_a_spread_model_needs_accelerate(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"^device = auto needs accelerate.*\[hf\]"):
        load_subject(saved, device="auto")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_loaded_as_what_is_computed_in(saved: Path, dtype: str) -> None:
    subject = load_subject(saved, dtype=dtype)
    assert {p.dtype for p in subject.model.parameters()} == {getattr(torch, dtype)}
    weights = dict(family_model("llama").named_parameters())
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
    tokenizer = load_subject(directory, tokenizer=tmp_path / "elsewhere").tokenizer
    assert tokenizer.get_vocab()["w7"] == 7


def refused(directory: Path, **others: Any) -> str:
    """Check that loading raises an InputError of one line; return it."""
    with pytest.raises(InputError) as error:
        load_subject(directory, **others)
    assert "\n" not in str(error.value)
    assert str(directory) in str(error.value)
    return str(error.value)


def test_a_directory_without_a_model_is_refused(saved: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone", saved / "config.json"):
        assert refused(path) == f"{path}: has no config.json: it is not a model's directory"


NO_OBJECT = "should be an object in JSON, but is"
CONFIGS = {
    "": "is empty: should have content",
    "{": "is not JSON: Expecting",
    "[]": f"{NO_OBJECT} list",
    "5": f"{NO_OBJECT} int",
    '{"n":' + "9" * 5000 + "}": "is not JSON: a number has thousands of digits",
    '{"n":' + "[" * 100_000: "is not JSON: it is nested too deeply",
    "{}": "model_type = None: should be the name of a type",
    '{"model_type": ["llama"]}': "model_type = ['llama']: should be the name of a type",
    '{"model_type": "llama", "auto_map": 5}': "auto_map should be an object in JSON",
    '{"model_type": "llama", "num_hidden_layers": 1000000}': "to 100 for files with 30 weights",
    '{"model_type": "llama", "num_hidden_layers": 0}': "num_hidden_layers = 0: should be 1 to 100",
}


@pytest.mark.parametrize("content", CONFIGS, ids=range(len(CONFIGS)))
def test_a_configuration_that_is_none_is_refused(directory: Path, content: str) -> None:
    config = directory / "config.json"
    config.write_text(content)
    line = refused(directory)
    assert line.startswith(str(config))
    assert CONFIGS[content] in line


VALUES: dict[str, tuple[object, str]] = {
    "model_type": ("no such", "does not recognize this architecture"),
    "vocab_size": (10**12, "embed_tokens.weight is (40, 16), but should be (1000000000000, 16)"),
    "hidden_size": ("many", "Field 'hidden_size' expected int, got str"),
    "hidden_act": ("no such", "(KeyError: 'no such'): a value in its files is wrong"),
    "quantization_config": ({"quant_method": "gptq", "bits": 4}, "requires optimum"),
}


@pytest.mark.parametrize("key", VALUES)
def test_a_configuration_with_a_wrong_value_is_refused(directory: Path, key: str) -> None:
    config = json.loads((directory / "config.json").read_text()) | {key: VALUES[key][0]}
    (directory / "config.json").write_text(json.dumps(config))
    line = refused(directory)
    assert VALUES[key][1] in line


def test_a_model_that_the_memory_does_not_hold_is_refused_before_it_is_made(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasklens.models.devices.free_bytes", lambda _: 10_000)
    for options in ({}, {"untrained": 1}):
        assert "the weights need 0.0 GB of memory, but 0.0 GB are free on cpu" in refused(
            directory, **options
        )


def test_a_fault_of_our_own_is_not_taken_for_a_model_that_cannot_be_loaded(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasklens.models.hf_reader.find_points", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load_subject(saved)


def test_a_model_that_cannot_be_run_is_refused_in_one_line(limit: Limit) -> None:
    error = TypeError("no such kernel\nand more that is not shown")
    limit(family_model("llama"), lambda *_: False, lambda: error)
    with pytest.raises(InputError, match=r"^LlamaForCausalLM cannot be run: no such kernel$"):
        HuggingFaceSubject(family_model("llama"))


@pytest.mark.parametrize("config", ["T5Config", "DistilBertConfig"])
def test_a_model_of_another_kind_is_refused(tmp_path: Path, config: str) -> None:
    import transformers

    getattr(transformers, config)().save_pretrained(tmp_path)
    safetensors.torch.save_file({"a": torch.ones(20)}, tmp_path / "model.safetensors")
    why = "is no causal language model: AutoModelForCausalLM does not support it"
    assert refused(tmp_path) == f"{tmp_path} {why}"


def test_weights_that_do_not_fit_the_configuration_are_refused(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, key = directory / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    weights = safetensors.torch.load_file(file)
    del weights[key]
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    assert refused(directory) == f"{directory}: 1 weights are missing, first {key}"
    weights[key] = torch.zeros(3, 5)
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    should = tuple(family_model("llama").get_parameter(key).shape)
    why = f"{key} is (3, 5), but should be {should} by config.json"
    assert refused(directory) == f"{directory}: {why}"
    weights[key] = torch.zeros(should)
    weights["more"] = torch.zeros(2)
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    load_subject(directory)
    line = f"tasklens: warning: {directory}: 1 weights are not of this model, first more\n"
    assert capsys.readouterr().err == line


@dataclass
class Malice:
    """An object that creates a directory if it is unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def test_weights_that_would_run_code_run_none_and_are_refused_unless_there_are_safetensors(
    directory: Path, tmp_path: Path, prompts: Prompts, capsys: pytest.CaptureFixture[str]
) -> None:
    file, proof = directory / "pytorch_model.bin", tmp_path / "proof"
    torch.save({"model.norm.weight": torch.ones(WIDTH), "more": Malice(proof)}, file)
    assert_same_states(load_subject(directory), prompts)
    assert capsys.readouterr().err == ""
    (directory / "model.safetensors").unlink()
    assert refused(directory).startswith(f"{directory} cannot be loaded: ")
    assert not proof.exists()
    torch.load(file, weights_only=False)
    assert proof.exists(), "it does what it should not be let do"


def test_a_chat_template_is_rendered_for_messages_only(directory: Path, tmp_path: Path) -> None:
    """That is done in the sandbox of transformers, which refuses what is harmful or too long."""
    import jinja2

    proof = tmp_path / "proof"
    harm = f"{{{{ cycler.__init__.__globals__.os.mkdir({str(proof)!r}) }}}}"
    config = json.loads((directory / "tokenizer_config.json").read_text())
    forever = "{% for i in range(10**12) %}{% endfor %}"
    (directory / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": harm}))
    (directory / "chat_template.jinja").write_text(harm + forever)
    subject = load_subject(directory)
    assert subject.tokenizer.chat_template == harm + forever
    records = [{"text": f"w5 w{i}", "label": label} for i, label in enumerate("abab")]
    tl.harvest(subject, records, ["embed"])
    assert not proof.exists()
    messages = [{"messages": [{"role": "user", "content": r["text"]}], **r} for r in records]
    refused_by = "prompt 0: the chat template of .* refuses the messages: "
    for template, why in ((harm, "access to attribute"), (forever, "Range too big")):
        subject.tokenizer.chat_template = template
        with pytest.raises(InputError, match=refused_by + why):
            tl.harvest(subject, tl.read_prompts(messages, text="messages"), ["embed"])
    assert not proof.exists()
    jinja2.Environment().from_string(harm).render()
    assert proof.exists(), "it does what it should not be let do"
    renders = [
        path.name
        for path in Path(tl.__file__).parent.rglob("*.py")
        if re.search("apply_chat_template|import jinja", path.read_text())
    ]
    assert renders == ["chats.py"]


DAMAGED = {
    "tokenizer.json": ("{", "/tokenizer.json is not JSON"),
    "tokenizer_config.json": ("[1]", "/tokenizer_config.json: should be an object in JSON"),
    "vocab.json": ("version https://git-lfs.github.com/spec/v1\n", "/vocab.json is a Git LFS"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_tokenizer_is_one_line(directory: Path, name: str) -> None:
    content, why = DAMAGED[name]
    (directory / name).write_text(content)
    assert refused(directory).startswith(f"{directory}{why}")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
def test_a_pipe_is_refused_instead_of_waited_for(directory: Path, name: str) -> None:
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    assert refused(directory) == f"{directory / name} is not a file; should be one"
    with pytest.raises(InputError, match="is not a file"):
        tl.harvest(directory, [{"text": "w1", "label": "a"}] * 2)


@pytest.mark.parametrize("key", ["model_max_length", "bos_token", "added_tokens_decoder"])
def test_a_tokenizer_with_a_wrong_value_is_one_line(directory: Path, key: str) -> None:
    """The length is looked at only when a text is read."""
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: ["no"]}))
    assert "a value in its files is wrong" in refused(directory)


OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({proof!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_custom_code_runs_only_if_it_is_trusted(
    directory: Path, tmp_path: Path, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.dynamic_module_utils as dynamic

    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    proof = tmp_path / "proof"
    config = json.loads((directory / "config.json").read_text()) | {"model_type": "own"}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "own.py").write_text(OWN_CODE.format(proof=str(proof)))
    why = "has code of its own; give --trust-remote-code if you trust this code"
    assert refused(directory) == f"{directory} {why}"
    assert not proof.exists()
    subject = load_subject(directory, trust_remote_code=True)
    assert type(subject.model).__name__ == "OwnModel"
    assert proof.exists()
    assert_same_states(subject, prompts)


OUTSIDE = ("../other.safetensors", "/tmp/other.safetensors", "..", ".", "", "a/b.safetensors", 5)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_an_index_that_names_a_file_outside_of_the_directory_is_refused(
    directory: Path, name: str | int, suffix: str
) -> None:
    """Even if the file is there, and whatever the other weights are in."""
    weights = directory / "model.safetensors"
    keys = [*safetensors.torch.load_file(weights)]
    weights.rename(directory.parent / "other.safetensors")
    index = directory / ("model.safetensors" if suffix == "safetensors" else "pytorch_model.bin")
    index = index.with_name(f"{index.name}.index.json")
    document = {"metadata": {}, "weight_map": dict.fromkeys(keys, "own") | {keys[3]: name}}
    index.write_text(json.dumps(document))
    why = f"names the file {name!r}: should be one in the same directory"
    for options in ({}, {"untrained": 1}, {"trust_remote_code": True}):
        assert refused(directory, **options) == f"{index} {why}"


def test_the_files_of_an_index_may_be_links_to_a_store(directory: Path, prompts: Prompts) -> None:
    """So the cache of the hub is made."""
    family_model("llama").save_pretrained(directory, max_shard_size="4KB")
    (directory / "model.safetensors").unlink(missing_ok=True)
    store = directory.parent / "store"
    store.mkdir()
    for i, path in enumerate([*directory.iterdir()]):
        path.rename(store / str(i))
        path.symlink_to(Path("..") / "store" / str(i))
    assert_same_states(load_subject(directory), prompts)


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("config.json", {"transformers_weights": "../model/model.safetensors"}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../model/tokenizer.4.0.0.json"]}),
    ],
)
def test_another_file_that_names_one_outside_of_the_directory_is_refused(
    directory: Path, file: str, more: dict[str, Any]
) -> None:
    path = directory / file
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    assert refused(directory).startswith(f"{path} names the file '../model/")


def test_a_tokenizer_does_not_read_what_its_configuration_names(directory: Path) -> None:
    """Those of many models name files of the machine that made them."""
    path = directory / "tokenizer_config.json"
    elsewhere = str(directory.parent / "elsewhere.json")
    more = dict.fromkeys(("tokenizer_file", "vocab_file", "special_tokens_map_file"), elsewhere)
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    (directory.parent / "elsewhere.json").write_text("{}")
    assert load_subject(directory).tokenizer("w5 w7 w39")["input_ids"] == [5, 7, 39]


@pytest.mark.parametrize("code", ["../own.OwnModel", "/tmp/own.OwnModel", "../model--own.OwnModel"])
def test_trusted_code_outside_of_the_directory_is_refused(directory: Path, code: str) -> None:
    (directory / "own.py").write_text(OWN_CODE.format(proof=str(directory / "proof")))
    config = json.loads((directory / "config.json").read_text()) | {"model_type": "own"}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": code}
    (directory / "config.json").write_text(json.dumps(config))
    why = f"auto_map names the code {code!r}: should be MODULE.CLASS, with MODULE.py in the same"
    assert refused(directory, trust_remote_code=True).startswith(f"{directory}/config.json: {why}")
    assert not (directory / "proof").exists()


def test_fresh_weights_are_of_the_configuration_and_the_seed(
    directory: Path, prompts: Prompts
) -> None:
    before = torch.get_rng_state()
    first, again, other = (load_subject(directory, untrained=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before), "nothing else is drawn in another way"
    trained = load_subject(directory)
    assert first.names == trained.names
    assert first.weights_hash() == again.weights_hash()
    assert len({subject.weights_hash() for subject in (first, other, trained)}) == 3
    pairs = zip(first.model.parameters(), trained.model.parameters(), strict=True)
    assert all(mine.shape == theirs.shape for mine, theirs in pairs)
    deviation = float(first.model.model.embed_tokens.weight.detach().std())
    assert deviation == pytest.approx(first.model.config.initializer_range, rel=0.2)
    (directory / "model.safetensors").unlink()
    assert load_subject(directory, untrained=1).weights_hash() == first.weights_hash()


# --- The hash of the weights ---


def swap(mine: torch.Tensor, other: torch.Tensor) -> None:
    mine[...], other[...] = other.clone(), mine.clone()


def test_the_hash_tells_weights_apart_by_a_bit_and_by_their_names() -> None:
    subject = HuggingFaceSubject(model_of(config_of("llama")))
    base = subject.model.model
    word, norm, layers = base.embed_tokens.weight, base.norm.weight, base.layers
    hashes = [subject.weights_hash()]
    with torch.no_grad():
        for change in (
            lambda: word.view(torch.int32)[-1, -1].bitwise_xor_(1),
            lambda: norm.view(torch.int32)[-1].bitwise_xor_(1),
            lambda: swap(word[0], word[1]),
            lambda: swap(norm[0], norm[1]),
            lambda: swap(layers[0].input_layernorm.weight, layers[1].input_layernorm.weight),
        ):
            change()
            hashes.append(subject.weights_hash())
    assert len(set(hashes)) == 6
