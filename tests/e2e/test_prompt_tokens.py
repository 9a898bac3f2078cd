"""Test special tokens, right answers and steps of a model run, through the command line."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tasklens as tl
from e2e.conftest import Result, call, scores_of, succeed
from e2e.stock import QUICK, STEPS, Stock, save_model, step_of, write_prompts
from tiny_tokenizers import COLOURS, byte_level, sentence_piece

STARTS = ("the city", "a red dog", "paint it", "a lamp", "red and blue", "green, red, blue", "")
#: Ends of prompts that an answer follows with a space, without one, and in both ways.
SPACED = ("{} of", "{} is")
JOINED = ("{} answer: ", "{} answer:\n", "{}<|assistant|>\n\n")
EITHER = ("{} answer:", "{}<|assistant|>", "{} 答案：", "{} =", '{} answer: "')


def notes_of(result: Result) -> list[str]:
    mark = "tasklens: warning: "
    return [line.removeprefix(mark) for line in result.err.splitlines() if line.startswith(mark)]


def probe(model: Path, prompts: Path) -> list[str | Path]:
    settings = [part for setting in QUICK for part in ("--set", setting)]
    return ["probe", model, "--prompts", prompts, "--states", "embed", *settings]


def save_colour_model(path: Path, tokenizer: Any, spaced: bool) -> Any:
    """Save a random model that answers with colours only, with a space before them or without."""
    save_model(path, 0, tokenizer=tokenizer, vocabulary=len(tokenizer))
    model = transformers.LlamaForCausalLM.from_pretrained(path)
    before = "a " if spaced else "\n"
    answers = [tokenizer(f"{before}{colour}")["input_ids"][-1] for colour in COLOURS]
    other = torch.ones(len(tokenizer), dtype=torch.bool)
    other[answers] = False
    with torch.no_grad():
        model.lm_head.weight[other] = 0
    # Two rows and the negative of their sum, so that one of the three logits is positive.
    with torch.no_grad():
        first, second, third = answers
        model.lm_head.weight[third] = -model.lm_head.weight[[first, second]].sum(0)
    model.save_pretrained(path)
    return model.eval()


def answers_of(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Return the most likely next token of each text as the text that it is, by transformers."""
    with torch.inference_mode():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0, -1] for text in texts]
    return [tokenizer.decode([int(each.argmax())]).strip() for each in logits]


@pytest.fixture(params=["byte level", "sentence piece"])
def make_tokenizer(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return byte_level if request.param == "byte level" else sentence_piece


@pytest.mark.parametrize("spaced", [True, False], ids=["with a space", "without"])
def test_a_model_that_answers_right_has_an_accuracy_of_one(
    tmp_path: Path, make_tokenizer: Callable[[], Any], spaced: bool
) -> None:
    """This does not depend on whether a prompt ends in a word, a sign, a space or a header."""
    tokenizer = make_tokenizer()
    model = save_colour_model(tmp_path / "model", tokenizer, spaced)
    ends = (*(SPACED if spaced else JOINED), *EITHER)
    texts = [end.format(start) for end in ends for start in STARTS]
    outputs = answers_of(model, tokenizer, texts)
    assert set(outputs) == {*COLOURS}, "otherwise this tests little"
    rows = [
        {"text": text, "output": output, "label": "xy"[i % 2]}
        for i, (text, output) in enumerate(zip(texts, outputs, strict=True))
    ]
    file, path = write_prompts(tmp_path / "mine.jsonl", rows), tmp_path / "probe"
    command = probe(tmp_path / "model", file)
    result = succeed(*command, "--out", path)
    assert notes_of(result) == []
    (accuracy,) = scores_of(path, metric="accuracy")
    assert accuracy["value"] == 1.0
    plan = call(*command, "--dry-run").out
    assert f"the first token of the output is known in {len(rows)} prompts" in plan.splitlines()

    # With other outputs none is right.
    following = dict(zip(COLOURS, (*COLOURS[1:], COLOURS[0]), strict=True))
    wrong = [{**row, "output": following[row["output"]]} for row in rows]
    write_prompts(file, wrong)
    succeed(*command, "--out", tmp_path / "wrong")
    (accuracy,) = scores_of(tmp_path / "wrong", metric="accuracy")
    assert accuracy["value"] == 0.0


def test_an_accuracy_of_another_format_is_reported(tmp_path: Path) -> None:
    """A model that answers with spaces, after prompts that already end in a space or a new line."""
    tokenizer = byte_level()
    model = save_colour_model(tmp_path / "model", tokenizer, True)
    texts = [end.format(start) for end in JOINED for start in STARTS]
    outputs = answers_of(model, tokenizer, texts)
    rows = [
        {"text": text, "output": output, "label": "xy"[i % 2]}
        for i, (text, output) in enumerate(zip(texts, outputs, strict=True))
    ]
    file, path = write_prompts(tmp_path / "mine.jsonl", rows), tmp_path / "probe"
    command = probe(tmp_path / "model", file)
    result = succeed(*command, "--out", path)
    (note,) = notes_of(result)
    assert note.startswith(f"{tmp_path / 'model'} never answers with the first token of any output")
    assert note.endswith("the accuracy of 0 may come from the format of the prompts")
    (accuracy,) = scores_of(path, metric="accuracy")
    assert accuracy["value"] == 0.0


def test_texts_with_a_beginning_have_the_states_of_those_without(
    stock: Stock, tmp_path: Path
) -> None:
    """None, all or some of the prompts begin with <s>, as chat templates write it."""
    model = stock.checkpoints[200]
    states, notes = [], []
    for i, begins in enumerate((np.zeros(48, int), np.ones(48, int), np.arange(48) % 2)):
        texts = ["<s> " * n + row["text"] for n, row in zip(begins, stock.rows, strict=True)]
        rows = [{**row, "text": text} for row, text in zip(stock.rows, texts, strict=True)]
        file, path = write_prompts(tmp_path / f"{i}.jsonl", rows), tmp_path / f"probe-{i}"
        command = stock.command("--prompts", file, "--states", "block2", models=model)
        result = succeed(*command, "--out", path)
        states.append(np.load(next(path.rglob("block2.npy"))))
        notes.append(notes_of(result))
        dry = call(*command, "--dry-run")
        assert notes_of(dry) == notes[-1]
        added = 48 - begins.sum()
        summary = f"<s> before {added} of 48 prompts (auto)" if added else "none (auto)"
        assert f"special tokens: {summary}" in dry.out.splitlines()
        facts = json.loads((step_of(path, 200) / "about.json").read_text())
        assert (facts["step"], facts["name"]) == (200, str(model))
        assert (facts["special_tokens"], facts["notes"]) == (summary, notes[-1])
        mark = json.loads((path / "manifest.json").read_text())["stages"]["states"]
        assert mark["warnings"] == notes[-1]
    assert states[0].shape == (48, 16)
    assert np.array_equal(states[0], states[1])
    assert np.array_equal(states[0], states[2])
    line = "prompts begin with <s>, so that the tokenizer's <s> is not added before these"
    assert [len(each) for each in notes] == [0, 1, 1]
    assert notes[1][0].startswith(f"48 of 48 {line}")
    assert notes[2][0].startswith(f"24 of 48 {line}")

    # The setting is another run: twice, or none.
    for special_tokens, expected in (("add", ["<s>", "<s>"]), ("none", ["<s>"])):
        asked = ("--set", f"states.special_tokens={special_tokens}")
        plan = json.loads(call(*command, *asked, "--dry-run", "--json").out)
        assert plan["special tokens"].endswith(f"({special_tokens})")
        last = plan["positions"][0]["examples"][-1].split(": ", 1)[1].split()
        assert [token for token in last if token == "<s>"] == expected
        refused = call(*command, *asked, "--out", path, "--resume")
        assert refused.status == 2
        assert "states.special_tokens" in refused.err
    moved = tmp_path / "moved"
    succeed(*command, "--set", "states.special_tokens=add", "--out", moved)
    assert not np.array_equal(np.load(next(moved.rglob("block2.npy"))), states[0])


def test_texts_of_a_template_are_harvested_alike_in_python(
    stock: Stock, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = stock.rows
    plain, templated = (
        {"text": [before + row["text"] for row in rows], "label": [row["label"] for row in rows]}
        for before in ("", "<s> ")
    )
    expected = tl.harvest(stock.checkpoints[200], plain)
    assert capsys.readouterr().err == ""
    once = tl.harvest(stock.checkpoints[200], templated)
    assert "48 of 48 prompts begin with <s>" in capsys.readouterr().err
    twice = tl.harvest(stock.checkpoints[200], templated, special_tokens="add")
    assert "once more" in capsys.readouterr().err
    assert (expected.step, once.step) == (200, 200)
    for name, state in expected.states.items():
        assert np.array_equal(once.states[name], state), name
        assert np.array_equal(twice.states[name], state) == (name == "embed")


def test_checkpoints_in_a_store_are_measured_in_their_order(stock: Stock, tmp_path: Path) -> None:
    store, models = tmp_path / "store", tmp_path / "models"
    models.mkdir()
    for step, name in zip(STEPS, ("ff00", "00ff"), strict=True):  # the later one is first in order
        save_model(store / name, step)
        (models / f"checkpoint-{step}").symlink_to(store / name)
    for given in ([models], [models / f"checkpoint-{step}/" for step in STEPS[::-1]]):
        path = tmp_path / f"probe-{len(given)}"
        command = stock.command("--states", "embed", "--out", path, models=given[0])
        result = succeed(*command[:2], *given[1:], *command[2:])
        assert notes_of(result) == []
        assert {row["step"] for row in scores_of(path, metric="accuracy")} == {*STEPS}
        for step in STEPS:
            facts = json.loads((step_of(path, step) / "about.json").read_text())
            assert (facts["step"], facts["name"]) == (step, str(models / f"checkpoint-{step}"))
            expected = tl.load_subject(store / ("ff00" if step == STEPS[0] else "00ff"))
            assert facts["weights"] == expected.weights_hash()

    # Without names that have the step a line reports it, before and in the record.
    path = tmp_path / "numbered"
    command = stock.command("--states", "embed", "--out", path, models=store / "ff00")
    command = (*command[:2], store / "00ff", *command[2:])
    line = (
        f"the step of {store / 'ff00'} (and 1 more) is unknown: the models are numbered 1 to 2 in "
        "the order given"
    )
    assert notes_of(call(*command, "--dry-run")) == [line]
    assert notes_of(succeed(*command)) == [line]
    mark = json.loads((path / "manifest.json").read_text())["stages"]["states"]
    assert mark["warnings"] == [line]


def test_a_probe_is_named_after_the_link_that_was_given(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "final").symlink_to(stock.checkpoints[200])
    succeed(*stock.command("--states", "embed", models="final/"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["probe-final"]
