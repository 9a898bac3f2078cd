"""The files of a directory that make a model, and the line about a directory that is none."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tasklens.core.errors import InputError
from tasklens.models.model_files import find_weights, is_adapter, is_model, why_no_model

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def put(directory: Path, *names: str) -> Path:
    """Write files of one weight each, named after the file; return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".safetensors"):
            safetensors.torch.save_file({name: torch.ones(2, 3)}, path)
        else:
            path.write_bytes(b"\x80\x02content")
    return directory


def index(directory: Path, weight_map: object, name: str = INDEX) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps({"weight_map": weight_map}))


def line_of(directory: Path) -> str:
    """Check that the weights are refused in one line about the directory; return the rest."""
    with pytest.raises(InputError) as error:
        find_weights(directory)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(str(directory))
    return line.removeprefix(str(directory))


#: Files of a directory, and those of them that are read, with the variant.
READ = [
    (["model.safetensors", "pytorch_model.bin", "optimizer.safetensors"], "model.safetensors", ""),
    (["pytorch_model.bin", "value_head.safetensors"], "pytorch_model.bin", ""),
    (["pytorch_model.bin", "rng_state.safetensors", "scheduler.bin"], "pytorch_model.bin", ""),
    (["pytorch_model.bin", "model-00001-of-00002.safetensors"], "pytorch_model.bin", ""),
    (["model.fp16.safetensors", "training_args.bin"], "model.fp16.safetensors", "fp16"),
    (["model.safetensors", "model.fp16.safetensors"], "model.safetensors", ""),
    (["pytorch_model.fp16.bin", "model.fp16.safetensors"], "model.fp16.safetensors", "fp16"),
]


@pytest.mark.parametrize(("names", "read", "variant"), READ)
def test_weights_are_the_files_that_transformers_reads(
    tmp_path: Path, names: list[str], read: str, variant: str
) -> None:
    weights = find_weights(put(tmp_path, *names))
    assert [file.name for file in weights.files] == [read]
    assert (weights.variant or "") == variant
    assert weights.safe == read.endswith(".safetensors")
    assert weights.shapes == ({read: (2, 3)} if weights.safe else {})


def test_an_index_names_the_files(tmp_path: Path) -> None:
    put(tmp_path, *SHARDS, "pytorch_model.bin")
    index(tmp_path, dict(zip(SHARDS, SHARDS, strict=True)))
    weights = find_weights(tmp_path)
    assert weights.files == tuple(tmp_path / name for name in SHARDS)
    assert weights.shapes == dict.fromkeys(SHARDS, (2, 3))
    (tmp_path / SHARDS[1]).unlink()
    why = f"/{INDEX} names 1 of 2 files that are not there, first {SHARDS[1]}"
    assert line_of(tmp_path).startswith(why)
    wrong: list[object] = [{}, [], None]
    for names in wrong:
        index(tmp_path, names)
        assert "should have a weight_map" in line_of(tmp_path)
    (tmp_path / INDEX).write_text("[" * 10**5)
    assert line_of(tmp_path).startswith(f"/{INDEX} is not JSON")


def test_a_weight_in_two_files_is_refused(tmp_path: Path) -> None:
    """Transformers would take one or the other by its order of files."""
    put(tmp_path, *SHARDS)
    safetensors.torch.save_file({SHARDS[0]: torch.zeros(2, 3)}, tmp_path / SHARDS[1])
    index(tmp_path, dict(zip(SHARDS, SHARDS, strict=True)))
    why = f": the weight {SHARDS[0]} is in both {SHARDS[0]} and {SHARDS[1]}: should be in one file"
    assert line_of(tmp_path).startswith(why)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, name: str) -> None:
    path = put(tmp_path) / name
    if path.suffix == ".bin":
        torch.save({"a": torch.ones(100)}, path)
    else:
        safetensors.torch.save_file({"a": torch.ones(100)}, path)
    content = path.read_bytes()
    for n in (9, 60, len(content) - 1):
        path.write_bytes(content[:n])
        assert line_of(tmp_path).startswith(f"/{name} is ")
        assert "cut" in line_of(tmp_path)
    path.write_bytes(b"")
    assert line_of(tmp_path).startswith(f"/{name} is empty")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n")
    assert "git lfs pull" in line_of(tmp_path)
    path.unlink()
    path.symlink_to("gone")
    assert line_of(tmp_path).startswith(f"/{name} is a link to gone, which is not there")


def test_the_line_about_a_directory_without_weights_lists_its_files(tmp_path: Path) -> None:
    put(tmp_path, "optimizer.safetensors", "tf_model.h5")
    assert line_of(tmp_path) == (
        ": has no weights: should have model.safetensors or pytorch_model.bin, or shards with an "
        "index; it has optimizer.safetensors, tf_model.h5"
    )
    put(tmp_path, *SHARDS)
    assert line_of(tmp_path) == (
        f": has parts of the weights ({SHARDS[0]}), but no {INDEX}, which lists them"
    )
    kinds = put(tmp_path / "kinds", "model.fp16.safetensors", "model.ema.safetensors")
    assert "weights of several kinds (ema, fp16)" in line_of(kinds)


PARTS = {
    "global_step5/mp_rank_00_model_states.pt": "is a DeepSpeed checkpoint",
    "global_step5/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt": "is a DeepSpeed checkpoint",
    "zero_to_fp32.py": "is a DeepSpeed checkpoint",
    "zero_pp_rank_0_mp_rank_00_model_states.pt": "is a DeepSpeed checkpoint",
    "pytorch_model_fsdp_0/__0_0.distcp": "is an FSDP checkpoint in shards",
    "__0_0.distcp": "is an FSDP checkpoint in shards",
    "README.md": "has no config.json: it is not a model's directory",
}


@pytest.mark.parametrize("name", PARTS)
def test_the_line_names_the_program_that_wrote_parts(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    assert not is_model(tmp_path)
    assert why_no_model(tmp_path).startswith(PARTS[name])
    if name != "README.md":
        makes = "zero_to_fp32.py, " if "DeepSpeed" in PARTS[name] else "accelerate merge-weights"
        assert makes in line_of(tmp_path)


def test_an_adapter_has_no_weights_of_a_model(tmp_path: Path) -> None:
    put(tmp_path, "adapter_config.json", "config.json", "adapter_model.safetensors")
    assert is_model(tmp_path)
    assert is_adapter(tmp_path)
    put(tmp_path, "model.safetensors")
    with pytest.raises(InputError, match="has both the weights of a model and adapter_config"):
        is_adapter(tmp_path)
