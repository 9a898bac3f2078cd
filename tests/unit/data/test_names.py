"""Every way to write a hidden state or a split gives the name that a run has, or one line."""

import pytest

from tasklens.core.errors import InputError
from tasklens.data.dataset import MEASURED
from tasklens.data.names import find_split, find_state, state_name

STATES = ("wte", "embed", *(f"block{i}" for i in range(1, 13)), "ln_f", "attn3", "mlp12")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((text, "block5") for text in ("block5", "5", "layer 5", "Layer5", "block 5", "block_5")),
        *((text, "block12") for text in ("12", "LAYER-12", "block12", "layer 12")),
        *((text, "embed") for text in ("embed", "0", "layer 0", "embedding")),
        *((text, "ln_f") for text in ("ln_f", "lnf", "LN_F", "final layer norm")),
        *((text, "wte") for text in ("wte", "WTE", "word embedding")),
        *((text, "attn3") for text in ("attn3", "Attention 3", "attn_3")),
        *((text, "mlp12") for text in ("mlp12", "MLP 12")),
    ],
)
def test_ways_to_write_a_hidden_state(text: str, name: str) -> None:
    assert state_name(text) == name
    assert find_state(text, STATES) == name


@pytest.mark.parametrize(
    "text",
    [
        "13",
        "layer 13",
        "block0",
        "block",
        "layers",
        "-1",
        "",
        "attn5",
        "mlp0",
        "attn",
        "²",
        "block٣",
        "9" * 99,
    ],
)
def test_a_hidden_state_that_the_run_does_not_have(text: str) -> None:
    with pytest.raises(InputError) as error:
        find_state(text, STATES)
    assert str(error.value) == f"no hidden state {text!r}; there are {', '.join(STATES)}"


def test_digits_of_which_python_makes_no_number_are_no_hidden_state() -> None:
    for text in ("9" * 5000, f"block{'9' * 5000}"):
        with pytest.raises(InputError, match=r"^no hidden state '.*9'; there are "):
            find_state(text, STATES)


def test_what_names_no_hidden_state_stays() -> None:
    assert state_name("all") == "all"
    assert state_name("Block X") == "Block X"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((text, "train_subset") for text in ("train_subset", "train", "training", "seen")),
        *((text, "val_subset") for text in ("val", "Validation", "unseen pairs", "val subset")),
        *(
            (text, "val_instruction_subset")
            for text in ("val_instruction", "val-instruction", "unseen instructions")
        ),
    ],
)
def test_ways_to_write_a_split(text: str, name: str) -> None:
    assert find_split(text, MEASURED) == name


def test_the_splits_of_a_model_run_have_names_of_their_own() -> None:
    names = ("train", "Val", "held_out")
    assert find_split("train", names) == "train"
    assert find_split("training", names) == "train"
    assert find_split("val", names) == "Val"
    assert find_split("held out", names) == "held_out"


def test_a_split_that_the_run_does_not_have_or_that_two_could_be() -> None:
    with pytest.raises(InputError, match="no split 'test'; there are train_subset, val_subset"):
        find_split("test", MEASURED)
    with pytest.raises(InputError, match="no split 'VAL'; there are val, Val"):
        find_split("VAL", ("val", "Val"))
