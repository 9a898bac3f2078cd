"""The lines of mistakes in settings: plain, short, and with the key that was meant."""

import itertools
import re
from typing import Any

import pytest

from tasklens.core.errors import InputError
from tasklens.core.messages import SYNONYMS, nearest, short
from tasklens.core.settings import SettingsBase
from tasklens.runs.settings import ModelRunSettings, TrainingRunSettings

TRAINING, MODEL = (tuple(k.declared()) for k in (TrainingRunSettings, ModelRunSettings))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.lr", "train.learning_rate"),
        ("lr", "train.learning_rate"),
        ("optimizer.LR", "train.learning_rate"),
        ("train.batch-size", "train.instructions_per_step"),
        ("epochs", "train.steps"),
        ("seeds", "seed"),
        ("train.seed", "seed"),
        ("model.layers", "model.n_layer"),
        ("heads", "model.n_head"),
        ("d_model", "model.n_embd"),
        ("hidden_size", "model.n_embd"),
        ("warmup", "train.warmup_steps"),
        ("wd", "train.weight_decay"),
        ("train.dtype", "train.precision"),
        ("n_clusters", "measure.k"),
        ("train.stps", "train.steps"),
    ],
)
def test_a_setting_of_a_training_run(key: str, meant: str) -> None:
    assert nearest(key, TRAINING) == meant
    assert nearest("x" * 10**6, TRAINING) in TRAINING


def test_a_word_stands_for_what_a_model_run_has() -> None:
    meant = {
        "batch_size": "subject.max_tokens",
        "layers": "subject.states",
        "lable": "prompts.label",
    }
    assert {word: nearest(word, MODEL) for word in meant} == meant


def test_each_synonym_is_of_a_setting_and_is_none_itself() -> None:
    last = {key.rpartition(".")[2] for key in (*TRAINING, *MODEL)}
    assert set(SYNONYMS) <= last
    for key, synonyms in SYNONYMS.items():
        assert nearest(key, (*TRAINING, *MODEL)).endswith(key)
        assert key not in synonyms


def test_a_value_of_any_size_is_short() -> None:
    deep = {str(i): [i] * 99 for i in range(999)}
    for value in (9**5000, -(10**9000), "x" * 10**6, ["x" * 1000] * 1000, deep):
        assert len(short(value)) < 310


def test_a_value_of_a_usual_size_is_as_python_writes_it() -> None:
    for value in (3, -2.5, float("nan"), None, True, "größe\n", [3, 49], ("a+",) * 5, {"a": 1}):
        assert short(value) == repr(value)
    assert short(10**5000) == "a number of about 5,001 digits"


def test_a_message_of_any_length_keeps_its_ends() -> None:
    word = str(InputError(f"key = {'9' * 10**6}: should be less"))
    assert re.fullmatch(r"key = 9{200}\.\.\.9{98}9*: should be less", word)
    assert len(word) < 400
    whole = str(InputError(f"there are {'block1, ' * 10**5}and ln_f"))
    assert whole.startswith("there are block1, ")
    assert whole.endswith("block1, and ln_f")
    assert len(whole) < 2000
    path = f"/home/{'a/' * 150}: cannot be read"
    assert str(InputError(path)) == path


class Some(SettingsBase):
    n: int = 1
    x: float = 1.0
    on: bool = False
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": True}, "n = True: should be a whole number, not true or false"),
        ({"n": "²"}, "n = '²': should be a whole number"),
        ({"n": "١"}, "n = '١': should be a whole number"),
        ({"n": ""}, "n = '': should be a whole number"),
        ({"n": 1.5}, "n = 1.5: should be a whole number"),
        ({"n": 2**63}, "n = 9223372036854775808: should be a number below 2^63"),
        ({"n": 10**5000}, "n = a number of about 5,001 digits: should be a number below 2^63"),
        ({"n": "9" * 5000}, "n = '999"),
        ({"n": None}, "n = None: should be a whole number"),
        ({"n": {}}, "n: should be a whole number"),
        ({"x": True}, "x = True: should be a number, not true or false"),
        ({"x": 10**400}, "x = a number of about 401 digits: should be a number below 2^63"),
        ({"x": float("inf")}, "x = inf: should be a finite number"),
        ({"x": "fast"}, "x = 'fast': should be a number"),
        ({"on": "maybe"}, "on = 'maybe': should be true or false"),
        ({"names": 3}, "names = 3: should be a list"),
        ({"names": [3]}, "names.0 = 3: should be text"),
        ({"names": ["a\0"]}, r"names = 'a\x00': has a NUL: settings are written in UTF-8"),
        ({"names": ["a\udcff"]}, r"names = 'a\udcff': is not UTF-8: settings are written in UTF-8"),
        ({"counts": [1, True]}, "counts = [1, True]: should be whole numbers, not true or false"),
    ],
    ids=itertools.count(),
)
def test_the_words_for_a_fault(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        Some(**values)
    assert str(error.value).startswith(message)
    assert len(str(error.value)) < 300
