"""`harvest` reads any model on any prompts: held to plain transformers, one text at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from models.families import family_model, word_level_tokenizer
from tasklens.core.errors import InputError
from tasklens.data.dataset import Dataset
from tasklens.data.labelled_prompts import read_prompts
from tasklens.data.synthetic import make_dataset
from tasklens.data.synthetic_files import dataset_files
from tasklens.models.checkpoints import checkpoint_files
from tasklens.models.gpt2 import GPT2, make_model
from tasklens.models.gpt2_subject import GPT2Subject
from tasklens.models.harvest import harvest
from tasklens.models.subject import Harvest

TEXTS = ["w3 w1 w5", "w3 w1 w6", "w4 w1 w7", "w4 w1 w8 w2"]
LABELS = ["plural", "plural", "opposite", "opposite"]


@pytest.fixture(scope="module")
def llama() -> tuple[Any, Any]:
    """Return a random Llama and a tokenizer of whole words."""
    return family_model("llama"), word_level_tokenizer()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(
        n_tasks=3, variants_per_task=12, measured_tasks=3, measured_instances=30, seed=1
    )


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> GPT2:
    return make_model(dataset, n_layer=2, n_head=2, n_embd=16, seed=1)


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset, trained: GPT2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    tokenizer = dataset_files(dataset)["tokenizer.json"]
    for name, content in checkpoint_files(trained, tokenizer, step=7, seed=1).items():
        (path / name).write_bytes(content)
    return path


class WithoutBranches:
    names, step = ("position",), 0

    def harvest(self, prompts: object, names: object) -> Harvest:
        raise NotImplementedError


@torch.no_grad()
def alone(model: Any, tokenizer: Any, text: str, token: int) -> np.ndarray[Any, Any]:
    """Return the residual stream after the first block at one token of one text."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    hidden = model.eval()(ids, output_hidden_states=True).hidden_states[1]
    return np.asarray(hidden[0, token])


@pytest.mark.parametrize(
    "source",
    [
        {"text": TEXTS, "label": LABELS},
        pd.DataFrame({"text": TEXTS, "label": LABELS}),
        [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
        read_prompts({"text": TEXTS, "label": LABELS}),
    ],
    ids=["columns", "frame", "records", "labelled prompts"],
)
def test_texts_with_labels_in_any_form(source: Any, llama: tuple[Any, Any]) -> None:
    model, tokenizer = llama
    got = harvest(model, source, ["block1"], tokenizer=tokenizer)
    expected = [alone(model, tokenizer, text, -1) for text in TEXTS]
    assert len({state.tobytes() for state in expected}) == 4, "each text has a state of its own"
    assert got.states["block1"] == pytest.approx(np.array(expected), abs=1e-5)
    assert (got.split, got.position) == ("all", "last")
    assert got.instances is not None
    assert got.instances.task.tolist() == [1, 1, 0, 0], "labels in the order of their names"


def test_a_position_in_the_text(llama: tuple[Any, Any]) -> None:
    model, tokenizer = llama
    table = {"text": TEXTS, "label": LABELS}
    for position, token in (("w1", 1), ("0_last", 0), ("-2", -2)):
        got = harvest(model, table, ["block1"], tokenizer=tokenizer, position=position)
        expected = [alone(model, tokenizer, text, token) for text in TEXTS]
        assert got.states["block1"] == pytest.approx(np.array(expected), abs=1e-5)
    assert got.position == "-2"


def test_a_split_of_held_out_prompts(llama: tuple[Any, Any]) -> None:
    model, tokenizer = llama
    inputs = ["w5", "w6", "w7", "w8"]
    table = {
        "text": [f"w3 w1 {x}" for x in inputs] + [f"w4 w1 {x}" for x in inputs],
        "label": ["plural"] * 4 + ["opposite"] * 4,
        "input": inputs * 2,
    }
    prompts = read_prompts(table, hold_out=["input"], hold_out_share=0.5, seed=3)
    got = harvest(model, prompts, ["embed"], tokenizer=tokenizer, split="held_out_input")
    assert (got.split, got.position, len(got.answer)) == ("held_out_input", "input", 4)
    with pytest.raises(InputError, match="split = '': should be one of kept, held_out_input"):
        harvest(model, prompts, tokenizer=tokenizer)


def test_our_checkpoint_is_the_same_by_model_subject_path_and_transformers(
    dataset: Dataset, trained: GPT2, checkpoint: Path
) -> None:
    from transformers import AutoModelForCausalLM

    prompts = dataset["val_subset"]
    expected = harvest(GPT2Subject(trained), prompts)
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint)
    for model in (trained, str(checkpoint), checkpoint, theirs):
        got = harvest(model, prompts)
        assert got.states.keys() == expected.states.keys()
        for name, states in expected.states.items():
            assert got.states[name] == pytest.approx(states, abs=1e-5)
        assert got.answer.tolist() == expected.answer.tolist()
        assert got.instances is prompts.instances
        assert got.split == "val_subset"
        assert got.step == (7 if model in (str(checkpoint), checkpoint) else 0)


def test_branches_of_our_model_add_up_and_are_those_of_transformers(
    dataset: Dataset, trained: GPT2, checkpoint: Path
) -> None:
    from transformers import AutoModelForCausalLM

    prompts, names = dataset["val_subset"], ["attn", "mlp", "block", "embed"]
    got = harvest(trained, prompts, names).states
    assert list(got) == ["attn1", "attn2", "mlp1", "mlp2", "block1", "block2", "embed"]
    for n, before in ((1, "embed"), (2, "block1")):
        total = got[before] + got[f"attn{n}"] + got[f"mlp{n}"]
        assert total == pytest.approx(got[f"block{n}"], rel=1e-5, abs=1e-6)
    theirs = harvest(AutoModelForCausalLM.from_pretrained(checkpoint), prompts, names).states
    assert theirs.keys() == got.keys()
    for name, states in theirs.items():
        assert got[name] == pytest.approx(states, abs=1e-6)


def test_a_directory_reads_texts_by_its_own_tokenizer(dataset: Dataset, checkpoint: Path) -> None:
    rows = dataset["val_subset"]
    read = dataset.splits["val_subset"]
    texts = [
        " ".join([*dataset.instructions[i], dataset.vocabulary.tokens[x]])
        for i, x in zip(read.instruction, read.input, strict=True)
    ]
    table = {"text": texts, "label": dataset.task("val_subset")}
    got = harvest(checkpoint, table, ["block2"])
    assert got.states["block2"] == pytest.approx(
        harvest(checkpoint, rows, ["block2"]).states["block2"], abs=1e-5
    )


def test_a_repr_of_one_line(dataset: Dataset, trained: GPT2) -> None:
    assert repr(harvest(trained, dataset["val_subset"], ["embed", "ln_f"])) == (
        "Harvest(30 instances of val_subset at step 0, position 'input', width 16: embed, ln_f)"
    )
    bare = Harvest({"a": np.zeros((2, 3), np.float32)}, np.zeros(2, np.int64))
    assert repr(bare) == "Harvest(2 instances at step 0, position 'input', width 3: a)"


def test_what_cannot_be_read_is_refused_in_one_line(
    llama: tuple[Any, Any], dataset: Dataset, trained: GPT2, tmp_path: Path
) -> None:
    model, tokenizer = llama
    table = {"text": TEXTS, "label": LABELS}
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((model, table), {}, "texts need a tokenizer; give the model's own: tokenizer=..."),
        ((trained, table), {}, "texts need a tokenizer"),
        ((3, dataset["val_subset"]), {}, "int is not a model: should be a GPT2"),
        ((torch.nn.Linear(2, 2), dataset["val_subset"]), {}, "Linear is not a model"),
        ((tmp_path, dataset["val_subset"]), {}, "no config.json"),
        ((model, {"text": TEXTS}), {"tokenizer": tokenizer}, "no column of labels"),
        ((model, {"text": TEXTS, "label": [1]}), {"tokenizer": tokenizer}, "same length"),
        ((model, []), {"tokenizer": tokenizer}, "prompts: should have at least one prompt"),
        ((model, 7), {"tokenizer": tokenizer}, "should be a path, a DataFrame, or columns"),
        ((trained, dataset["val_subset"], ["block9"]), {}, "'block9'"),
        ((trained, dataset["val_subset"], ["attn3"]), {}, "'attn3'; there are attn1, mlp1,"),
        ((WithoutBranches(), dataset["val_subset"], ["mlp"]), {}, "has no states attnN and mlpN"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(InputError) as error:
            harvest(*arguments, **options)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no split 'test'; there are train, val"):
        dataset["test"]


def test_a_missing_value_is_named(llama: tuple[Any, Any]) -> None:
    model, tokenizer = llama
    frame = pd.DataFrame({"text": [*TEXTS[:3], None], "label": LABELS})
    with pytest.raises(InputError, match="prompt 3: 'text' should be a text that is not empty"):
        harvest(model, frame, tokenizer=tokenizer)
