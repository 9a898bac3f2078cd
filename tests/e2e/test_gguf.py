"""A probe of a GGUF file measures what it stores, and notices that it is another one."""

import json
import shutil
from pathlib import Path

import numpy as np
import transformers

import tiny_gguf
from e2e.conftest import Probed, assert_refused, call, succeed
from e2e.stock import Stock, step_of


def test_a_gguf_file_is_probed_as_the_model_that_was_written(
    stock: Stock, probed: Probed, tmp_path: Path
) -> None:
    """Its tokenizer has no pairs, so it stands beside the file."""
    early, late = (
        transformers.AutoModelForCausalLM.from_pretrained(stock.checkpoints[step])
        for step in (100, 200)
    )
    (tmp_path / "model").mkdir()
    file = tiny_gguf.write_gguf(tmp_path / "model" / "step200.gguf", late)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(stock.checkpoints[200] / name, file.parent)
    path = tmp_path / "probe"
    command = stock.command("--states", "block2", models=file)
    plan = call(*command, "--dry-run").out
    assert f"  step 200: {file} (F32 weights, computed in float32)" in plan.splitlines()
    for model, step in ((late, 200), (early, 100)):
        tiny_gguf.write_gguf(file, model)
        succeed(*command, "--out", path, *(["--resume"] if path.exists() else []))
        states, expected = (
            np.load(step_of(each, of_step) / "block2.npy")
            for each, of_step in ((path, 200), (probed.path, step))
        )
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    facts = json.loads((step_of(path, 200) / "about.json").read_text())
    assert facts["stored_as"] == "F32 weights, computed in float32"

    file.write_bytes(file.read_bytes()[:-1])
    out = tmp_path / "refused"
    assert_refused(call(*command, "--out", out), f"{file}: cannot be read as GGUF: ", "whole?")
    assert not out.exists()
