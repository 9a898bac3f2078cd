"""A probe's states do not depend on the prompts that are read together, nor its bytes on memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from e2e.conftest import assert_same, call, succeed
from e2e.stock import (
    SPECIAL,
    VOCABULARY,
    Stock,
    once,
    reading,
    records,
    step_of,
    word_level_tokenizer,
    write_prompts,
)
from tasklens.models import hf_batching, hf_subject
from tasklens.runs.load_run import load_run

SIZE = {
    **{"vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32},
    **{"initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0},
}
LONGROPE = {
    **{"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16},
    **{"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 2.0},
}
DYNAMIC = {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 1e4}


@pytest.fixture(autouse=True)
def nothing_printed_yet() -> None:
    hf_batching.print_once.cache_clear()


def save(path: Path, kind: str, **settings: Any) -> Path:
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**SIZE, **settings)
        getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(path)
    word_level_tokenizer().save_pretrained(path)
    return path


def long_prompts(path: Path, n_tokens: int) -> Path:
    """Write prompts of few tokens, and one of many."""
    rows = records()
    instruction = " ".join((VOCABULARY[len(SPECIAL) : len(SPECIAL) + 10] * 4)[: n_tokens - 2])
    for row in rows:
        del row["verb"]
    rows[10] |= {"instruction": instruction}
    rows[10]["text"] = f"{instruction} {rows[10]['input']} {rows[10]['output']}"
    return write_prompts(path / "long.jsonl", rows)


@pytest.mark.parametrize("kind", ["Phi3", "Llama"])
def test_one_long_prompt_changes_no_other(stock: Stock, tmp_path: Path, kind: str) -> None:
    if kind == "Phi3":
        context = {"max_position_embeddings": 64, "original_max_position_embeddings": 16}
        model = save(tmp_path / "model", kind, **context, rope_parameters=LONGROPE)
    else:
        model = save(tmp_path / "model", kind, max_position_embeddings=16, rope_parameters=DYNAMIC)
    prompts = long_prompts(tmp_path, 40)
    asked = ("--prompts", prompts, "--states", "embed,block2")
    how = {}
    for name, n in (("together", 0), ("alone", 1)):
        path = tmp_path / name
        more = ("--set", f"subject.max_tokens={n}", "--out", path)
        result = succeed(*stock.command(*asked, *more, models=model))
        facts = json.loads((step_of(path, 1) / "about.json").read_text())["reading"]
        how[name] = facts["how"]
        line = f"prompts are read {facts['how']}: {facts['reason']}"
        assert (line in result.err) == (name == "together")
    assert how["together"] == "in rows of equal length"
    together, alone = (
        np.load(step_of(tmp_path / name, 1) / "block2.npy") for name in ("together", "alone")
    )
    np.testing.assert_allclose(together, alone, atol=1e-5 * float(np.abs(alone).max()))


def test_a_resumed_probe_has_the_same_bytes_though_other_memory_is_free(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of tokens that the memory held is printed, kept and recorded."""
    free = 40
    monkeypatch.setattr(hf_subject, "tokens_that_fit", lambda *_: free)
    asked = stock.command("--states", "embed,block2", "--position", "input_mean")
    complete, path = tmp_path / "whole" / "probe", tmp_path / "broken" / "probe"
    result = succeed(*asked, "--out", complete)
    assert result.err.count("tasklens: the free memory holds 40 tokens at a time\n") == 1
    with reading(stop_after=3):
        assert call(*asked, "--out", path).status == 130
    free = 2048
    with reading(stop_after=2) as read:
        assert call(*asked, "--out", path, "--resume").status == 130
    assert read.models == {"checkpoint-100"}
    free = 40  # of the second checkpoint, nothing is read yet
    succeed(*asked, "--out", path, "--resume")
    assert_same(path, complete)
    facts = json.loads((step_of(path, 100) / "about.json").read_text())
    assert facts["reading"]["max_tokens"] == [["in padded rows", 0, 40]]


def test_several_positions_are_read_in_one_pass_and_a_later_one_in_another(
    stock: Stock, tmp_path: Path
) -> None:
    asked = stock.command("--states", "block2", models=stock.checkpoints[200])
    both = ("--position", "instruction", "--position", "input")
    with reading() as read:
        succeed(*asked, *both, "--out", tmp_path / "both")
    assert read.prompts == once(stock.rows, 200), "each prompt is read once, for both positions"
    succeed(*asked, *both[:2], "--out", tmp_path / "later")
    states = {at: load_run(tmp_path / "both").states("block2", position=at) for at in both[1::2]}
    alone = load_run(tmp_path / "later").states("block2")
    np.testing.assert_allclose(states["instruction"], alone, atol=1e-5 * float(np.abs(alone).max()))
    kept = alone.tobytes()
    positions = json.dumps(both[1::2])
    with reading() as read:
        succeed("measure", tmp_path / "later", "--set", f"states.positions={positions}")
    assert read.prompts == once(stock.rows, 200), "only for the position that was added"
    later = load_run(tmp_path / "later")
    assert later.states("block2", position="instruction").tobytes() == kept
    added = later.states("block2", position="input")
    np.testing.assert_allclose(added, states["input"], atol=1e-5 * float(np.abs(added).max()))
