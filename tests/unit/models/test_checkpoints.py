import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.data.synthetic_files import tokenizer_json
from tasklens.models.checkpoints import (
    CheckpointSettings,
    checkpoint_files,
    load_checkpoint,
    read_tensors,
)
from tasklens.models.gpt2 import GPT2, ModelSettings, make_model, state_names


@pytest.fixture
def directory(model: GPT2, dataset: Dataset, tmp_path: Path) -> Path:
    """Write a checkpoint as training does; return its directory."""
    return written(model, dataset, tmp_path)


@pytest.fixture
def untied(
    model_settings: ModelSettings, dataset: Dataset, disturbed: Callable[[GPT2], GPT2]
) -> GPT2:
    """Return a model with its own head, and another size."""
    settings = model_settings.changed(n_layer=3, n_head=3, n_embd=24, tie_word_embeddings=False)
    return disturbed(make_model(dataset, settings, seed=2))


def written(model: GPT2, dataset: Dataset, directory: Path) -> Path:
    files = checkpoint_files(model, tokenizer_json(dataset.vocabulary), step=7, seed=2)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def one_line_error(directory: Path) -> str:
    with pytest.raises(InputError) as error:
        load_checkpoint(directory)
    assert "\n" not in str(error.value)
    return str(error.value)


def change_config(directory: Path, **keys: object) -> None:
    config = json.loads((directory / "config.json").read_text()) | keys
    (directory / "config.json").write_text(json.dumps(config))


def assert_same_model(model: GPT2, again: GPT2) -> None:
    assert again.settings == model.settings
    assert (again.vocab_size, again.n_positions) == (model.vocab_size, model.n_positions)
    ours, theirs = model.state_dict(), again.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("tied", [True, False])
def test_we_and_transformers_load_the_model_from_its_directory(
    model: GPT2, untied: GPT2, dataset: Dataset, tmp_path: Path, tied: bool
) -> None:
    """Logits and states are the same at each token of a row."""
    from transformers import AutoModelForCausalLM

    ours = (model if tied else untied).eval()
    directory = written(ours, dataset, tmp_path)
    assert_same_model(ours, load_checkpoint(directory))
    theirs: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
    assert {p.dtype for p in theirs.parameters()} == {torch.float32}
    assert theirs.config.tie_word_embeddings is tied
    weight = theirs.transformer.wte.weight
    last: list[torch.Tensor] = []
    theirs.transformer.h[-1].register_forward_hook(
        lambda _, __, out: last.append(out if torch.is_tensor(out) else out[0])
    )
    ids = torch.from_numpy(dataset.prompts("val_subset").ids)
    names = state_names(ours.settings.n_layer)
    with torch.inference_mode():
        out = theirs(ids, output_hidden_states=True)
        logits, states = ours(ids, ids.shape[1], torch.full((len(ids),), ids.shape[1]), names)
        as_if_tied = states["ln_f"] @ weight.T
    assert tuple(states) == names
    *lower, norm = out.hidden_states
    expected = (out.logits, weight[ids], *lower, *last, norm)
    for mine, theirs in zip((logits, *states.values()), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert ((logits - as_if_tied).abs().max() > 0.1) == (not tied)
    # equality shows something only if positions and context change the logits
    assert (logits[:, 0] - logits[:, -1]).abs().max() > 0.1


def test_transformers_reads_the_tokenizer(dataset: Dataset, directory: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokens = [*dataset.instructions[0], dataset.tasks.inputs[0]]
    assert tokenizer(" ".join(tokens))["input_ids"] == dataset.vocabulary.encode(tokens).tolist()
    assert tokenizer.pad_token_id == 0


@pytest.mark.parametrize("tied", [True, False])
def test_a_configuration_that_is_wrong_about_the_head_is_refused(
    model: GPT2, untied: GPT2, dataset: Dataset, tmp_path: Path, tied: bool
) -> None:
    written(untied if tied else model, dataset, tmp_path)
    change_config(tmp_path, tie_word_embeddings=tied)
    message = one_line_error(tmp_path)
    assert message.startswith(f"{tmp_path / 'model.safetensors'} does not match its config.json: ")
    assert "lm_head.weight" in message


def test_the_configuration_keeps_dropout_step_and_seed(dataset: Dataset, directory: Path) -> None:
    settings = ModelSettings(n_layer=1, n_head=2, n_embd=8, dropout=0.25, initializer_range=0.1)
    model = make_model(dataset, settings)
    files = checkpoint_files(model, b"{}", step=512, seed=3)
    assert files == checkpoint_files(model, b"{}", step=512, seed=3), "byte for byte"
    config = json.loads(files["config.json"])
    assert config["tasklens"] == {"step": 512, "seed": 3}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    assert load_checkpoint(str(directory)).settings == settings
    assert json.loads(files["config.json"]).pop("tie_word_embeddings") is True
    del config["tie_word_embeddings"]  # without this key the head is tied
    (directory / "config.json").write_text(json.dumps(config))
    assert load_checkpoint(directory).settings == settings


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [None, 0, 5, 200, -1, bytes(range(256)) * 4])
def test_a_missing_or_damaged_file_is_named(
    directory: Path, name: str, damage: int | bytes | None
) -> None:
    """A file that is cut to so many bytes, or has another content."""
    file = directory / name
    if damage is None:
        file.unlink()
    else:
        cut = damage if isinstance(damage, bytes) else file.read_bytes().rstrip()[:damage]
        file.write_bytes(cut)
    assert one_line_error(directory).startswith(f"{file} is missing or damaged (")


MISFIT = [{"n_layer": 3}, {"n_layer": 1}, {"n_embd": 32}, {"vocab_size": 5}, {"n_positions": 3}]
NONE = [{"n_head": 3}, {"n_layer": 0}, {"n_embd": "wide"}, {"vocab_size": None}]


@pytest.mark.parametrize("keys", [*MISFIT, *NONE, {"tie_word_embeddings": "perhaps"}, {}])
def test_a_configuration_of_another_size_or_architecture_or_none_is_refused(
    directory: Path, keys: dict[str, Any]
) -> None:
    change_config(directory, **(keys or {"model_type": "llama"}))
    start = str(directory / "config.json")
    if keys in MISFIT:
        start = f"{directory / 'model.safetensors'} does not match its config.json: "
    elif not keys:
        start += ": model_type = 'llama': should be 'gpt2'"
    assert one_line_error(directory).startswith(start)


def test_tensors_come_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.arange(3)}, {"inputs": "x"}))
    for content in (None, path.read_bytes()):
        tensors, metadata = read_tensors(path, content)
        assert tensors["a"].tolist() == [0, 1, 2]
        assert metadata == {"inputs": "x"}
    path.write_bytes(safetensors.torch.save({"a": torch.arange(3)}))
    assert read_tensors(path)[1] == {}


def test_weights_are_kept_of_all_checkpoints_or_of_a_sparse_set() -> None:
    steps = (0, 1, 2, 4, 8, 16)
    settings = CheckpointSettings(weights_gib=6.0, sparse_weights=3)
    assert settings.steps_with_weights(steps, 2**30) == steps
    assert settings.steps_with_weights(steps, 2**30 + 1) == (0, 8, 16)
    assert CheckpointSettings(weights_gib=0).steps_with_weights(steps, 1) == steps
    none = CheckpointSettings(weights_gib=0, sparse_weights=1)
    assert none.steps_with_weights(steps, 1) == (16,)
