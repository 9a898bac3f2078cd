"""`tasklens prompts` writes prompts that `tasklens probe` reads; a model alone gets its own."""

import json
from pathlib import Path

import pytest

import tasklens as tl
from e2e.conftest import assert_refused, call, succeed
from e2e.stock import QUICK
from tasklens.data.prompt_families import shipped_family
from tiny_tokenizers import word_level

VERBS = shipped_family("verbs").answers
SETTINGS: list[str] = [part for setting in QUICK for part in ("--set", setting)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a tiny Llama that knows the verbs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("models") / "llama"
    known = [word for x, ys in VERBS.items() for word in (x, *ys.values())]
    tokenizer = word_level([*known, "->"])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_file_is_what_is_printed_and_what_python_returns(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "verbs.jsonl"
    options = ("--families", "verbs", "--shots", "2", "--contexts", "5", "--inputs", "10")
    asked: list[str | Path] = ["icl", "--tokenizer", model, *options, "--seed", "3", "--out", out]
    result = succeed("prompts", *asked)
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[-1] == str(out)
    assert "verbs: past_tense, past_participle, third_person, ing_form" in lines
    assert "  10 inputs of 54, 5 contexts" in lines
    assert (
        "the answers to an input begin with different tokens, as the tokenizer reads them" in lines
    )
    content = out.read_bytes()
    rows = [json.loads(line) for line in content.decode().splitlines()]
    frame = tl.icl_prompts(families=["verbs"], shots=2, contexts=5, inputs=10, seed=3)
    assert rows == frame.to_dict("records")
    table = tl.read_prompts(str(out))
    assert [(s, p.stop - p.start) for s, p in table.splits.items()] == [
        ("kept", 128),
        ("held_out_context", 32),
        ("held_out_input", 32),
    ]
    document = json.loads(succeed("prompts", *asked, "--json").out)
    assert document["splits"] == {"kept": 128, "held_out_context": 32, "held_out_input": 32}
    assert document["file"] == str(out)
    assert out.read_bytes() == content, "the same seed gives the same bytes"


def test_without_a_tokenizer_it_is_printed_that_nothing_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("prompts", "plain", "--tasks", "capital,continent", "--tasks", "language")
    result = succeed(*asked, "--hold-out", "none", "--forms", "is,colon")
    assert "not checked: whether the answers to an input begin with different tokens" in result.out
    assert result.out.splitlines()[-1] == "plain.jsonl"
    assert "countries: capital, continent, language" in result.out
    Path("plain.jsonl").write_text("mine")
    assert_refused(call(*asked), "plain.jsonl is not of tasklens")
    assert Path("plain.jsonl").read_text() == "mine"


def test_mistakes_are_one_line_and_write_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text('[{"input": "a"}]')
    out = tmp_path / "out.jsonl"
    arguments: tuple[str | Path, ...]
    for arguments, line in (
        (("few",), "no prompts of the kind 'few': should be one of icl, plain, chat"),
        (("icl", "--tasks", mine), "mine.json: item 1: should have an input and an output"),
        (("icl", "--tokenizer", tmp_path / "none"), "has no tokenizer"),
        (("icl", "--hold-out", "task"), "hold_out.0 = 'task'"),
        (("icl", "--share", "some"), "share = 'some': should be 'all', 'common' or 'none'"),
    ):
        assert_refused(call("prompts", *arguments, "--out", out), line)
    assert_refused(call("prompts", "icl", "--out", tmp_path / "a.csv"), "should end in .jsonl")
    assert_refused(
        call("prompts", "icl", "--tasks", mine, "--out", mine.with_suffix(".jsonl")), "item"
    )
    assert sorted(tmp_path.iterdir()) == [mine]


def test_a_model_alone_is_asked_few_shot_prompts_which_its_run_keeps(
    model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    asked: list[str | Path] = ["probe", model, "--out", path, *SETTINGS]
    result = succeed(*asked)
    assert "made for the tokenizer of the model, since --prompts names no file" in result.err
    assert result.err.count("family nouns is left out") == 1
    run = tl.load_run(path)
    assert list(run.table.splits) == ["kept", "held_out_context", "held_out_input"]  # type: ignore[attr-defined]
    assert run.positions == ("separator",)
    assert set(run.table.label) == set(shipped_family("verbs").tasks)  # type: ignore[attr-defined]
    before = {file: file.stat().st_mtime_ns for file in (path / "data").iterdir()}
    succeed(*asked, "--resume")
    assert {file: file.stat().st_mtime_ns for file in (path / "data").iterdir()} == before
    tokenizer = model / "tokenizer.json"
    content = tokenizer.read_text()
    try:
        tokenizer.write_text(content.replace('"began"', '"begann"'))
        refused = call(*asked, "--resume")
        assert refused.status == 2
        assert "few-shot has changed since its data were made" in refused.err
    finally:
        tokenizer.write_text(content)


def test_few_shot_prompts_need_a_tokenizer_that_tells_answers_apart(tmp_path: Path) -> None:
    word_level(["->"]).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    result = call("probe", tmp_path / "model", "--dry-run")
    assert_refused(result, "no few-shot prompts can be made for its tokenizer")
    named = call("probe", tmp_path / "model", "--prompts", "few-shot", "--prompts", "a.jsonl")
    assert_refused(named, "few-shot has splits of its own: name no other file of prompts")
