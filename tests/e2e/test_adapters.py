"""A probe of LoRA adapters measures the merged models, and notices a change of an adapter."""

import shutil
from pathlib import Path

import numpy as np

from e2e.conftest import assert_refused, call, succeed
from e2e.stock import Stock, step_of
from tiny_adapters import make_adapter


def test_a_series_of_adapters_is_probed_as_the_merged_models(stock: Stock, tmp_path: Path) -> None:
    base = stock.checkpoints[200]
    for step in (5, 10):
        adapter = tmp_path / "adapters" / f"checkpoint-{step}"
        make_adapter(base, adapter, seed=step, target_modules=["q_proj", "down_proj"])
        merged = tmp_path / "merged" / adapter.name
        shutil.move(f"{adapter}-merged", merged)
        shutil.copy(base / "tokenizer.json", merged)
        shutil.copy(base / "tokenizer_config.json", merged)
    paths = {name: tmp_path / f"probe-{name}" for name in ("adapters", "merged")}
    for name, path in paths.items():
        of_base = ("--base", base) if name == "adapters" else ()
        command = stock.command(*of_base, "--states", "block2", models=tmp_path / name)
        succeed(*command, "--out", path)
    for step in (5, 10):
        got, expected = (np.load(step_of(path, step) / "block2.npy") for path in paths.values())
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    weights = tmp_path / "adapters" / "checkpoint-10" / "adapter_model.safetensors"
    shutil.copy(tmp_path / "adapters" / "checkpoint-5" / weights.name, weights)
    command = stock.command("--base", base, "--states", "block2", models=tmp_path / "adapters")
    succeed(*command, "--out", paths["adapters"], "--resume")
    first, second = (np.load(step_of(paths["adapters"], step) / "block2.npy") for step in (5, 10))
    np.testing.assert_array_equal(first, second)
    weights.unlink()
    refused = call(*command, "--out", tmp_path / "refused")
    assert_refused(refused, "adapter_model.safetensors")
    assert not (tmp_path / "refused").exists()
