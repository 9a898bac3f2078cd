"""A probe whose prompts are messages: the template of the model's tokenizer writes the texts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from e2e.conftest import assert_refused, call, contents, scores_of, succeed
from e2e.stock import Stock, step_of, write_prompts
from tasklens.models.hf_loading import load_subject
from tasklens.runs.load_run import load_run

#: A template in the words of the stock models, which takes no answer of the assistant's.
TEMPLATE = "".join(
    (
        "{{ bos_token }} {% for m in messages %}",
        "{% if m.role == 'assistant' %}{{ raise_exception('no answer, please') }}{% endif %}",
        "a {{ m.content }} {% endfor %}",
        "{% if add_generation_prompt %}they did {% endif %}",
    )
)


@pytest.fixture
def model(stock: Stock, tmp_path: Path) -> Path:
    """Return a model whose tokenizer has a chat template."""
    path = Path(shutil.copytree(stock.checkpoints[200], tmp_path / "checkpoint-200"))
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.fixture
def prompts(stock: Stock, tmp_path: Path) -> Path:
    rows = [
        {
            "messages": [{"role": "user", "content": f"{row['instruction']} {row['input']}"}],
            **{key: row[key] for key in ("label", "input", "output", "instruction")},
        }
        for row in stock.rows
    ]
    return write_prompts(tmp_path / "chats.jsonl", rows)


def test_messages_are_read_as_the_template_writes_them(
    stock: Stock, model: Path, prompts: Path, tmp_path: Path
) -> None:
    asked = ("--prompts", prompts, "--states", "ln_f", "--set", "states.answers=whole")
    command = stock.command(
        *asked, "--position", "header", "--position", "input", "--position", "last", models=model
    )
    path = tmp_path / "probe"
    plan = succeed(*command, "--dry-run").out
    first = stock.rows[0]
    text = f"<s> a {first['instruction']} {first['input']} they did "
    assert f"the chat template writes: {text!r}" in plan.splitlines()
    succeed(*command, "--out", path)
    run = load_run(path)
    assert run.texts("all")[0] == text
    facts = json.loads((step_of(path, 200) / "about.json").read_text())
    assert len(facts["rendered"]) == 64
    states = {at: run.states("ln_f", position=at) for at in ("header", "input", "last")}
    assert (states["header"] == states["last"]).all()
    tokenizer = load_subject(model).tokenizer
    network = load_subject(model).model
    with torch.inference_mode():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        out = network(torch.tensor([ids]), output_hidden_states=True)
    # <s> a, the instruction, the input, they did
    assert len(ids) == 2 + len(first["instruction"].split()) + 3
    for at, index in (("header", -1), ("input", -3)):
        own = states[at][0]
        expected = out.hidden_states[-1][0, index]
        np.testing.assert_allclose(own, expected, atol=1e-5 * float(expected.abs().max()))
    answer = int(run.answers(200)["all"][0])
    assert answer == int(out.logits[0, -1].argmax()), "the answer follows the header"
    names = {row["metric"] for row in scores_of(path, layer="model")}
    assert names == {
        *("accuracy", "accuracy_among_first_tokens", "accuracy_among_candidates"),
        *("answer_log_probability", "answer_probability"),
    }
    before = contents(path)
    succeed(*command, "--out", path, "--resume")
    assert contents(path) == before


def test_what_cannot_be_rendered_is_one_line_and_nothing_is_written(
    stock: Stock, model: Path, prompts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "probe"
    command = stock.command("--prompts", prompts, "--out", path, models=stock.checkpoints[200])
    assert_refused(call(*command), "has no chat template, which prompts of messages need")
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    rows[2]["messages"].append({"role": "assistant", "content": "no"})
    write_prompts(prompts, rows)
    command = stock.command("--prompts", prompts, "--out", path, models=model)
    refused = "chats.jsonl line 3: the chat template of "
    assert_refused(call(*command), refused, "refuses the messages: no answer, please")
    assert not path.exists()
