import tomllib
from pathlib import Path
from typing import Any

import pytest

from tasklens.core.errors import InputError
from tasklens.runs.settings import PRESETS, TrainingRunSettings, load_settings


def one_line_error(source: str | Path, *changes: str) -> str:
    with pytest.raises(InputError) as error:
        load_settings(str(source), changes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_loads_and_comes_back_from_its_toml(preset: str, file: Path) -> None:
    settings = load_settings(preset)
    file.write_text(settings.toml())
    assert load_settings(str(file)) == settings
    assert load_settings(str(file)).toml() == settings.toml()


def test_the_presets_are_what_they_say() -> None:
    smoke, default, paper = map(load_settings, PRESETS)
    assert (default.model.n_layer, default.tasks.n_tasks) == (6, 50)
    assert (paper.model.n_layer, paper.model.n_embd, paper.model.n_head) == (6, 768, 12)
    assert paper.tasks == default.tasks
    assert paper.data == default.data
    assert smoke.train.steps < 100


def test_a_file_leaves_the_rest_at_its_defaults(file: Path) -> None:
    file.write_text("seed = 3\n[model]\nn_layer = 2\n")
    settings = load_settings(str(file))
    default = TrainingRunSettings()
    assert settings == default.changed(seed=3, model=default.model.changed(n_layer=2))


def test_awkward_strings_survive_toml(file: Path) -> None:
    regexes = tuple(f"\"{i}\\.\\\\[x-z]+#é'{i}" for i in range(50))
    settings = TrainingRunSettings.from_table(
        {"tasks": {"regexes": regexes, "symbols": "\"'\\#é="}}
    )
    file.write_text(settings.toml(), encoding="utf-8")
    assert load_settings(str(file)) == settings


def test_every_key_stands_under_its_meaning() -> None:
    text = TrainingRunSettings().toml()
    lines = text.splitlines()
    table, seen = "", []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif line and not line.startswith("#"):
            key = line.partition(" =")[0]
            assert before.startswith("# "), key
            assert len(before) > 10
            seen.append(table + key)
    assert sorted(seen) == sorted(TrainingRunSettings.declared())
    assert all(len(line) <= 100 for line in lines if line.startswith("#"))
    assert tomllib.loads(text) == {
        name: {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in TrainingRunSettings().model_dump().items()
    }


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.step", "train.steps"),
        ("train.learning_rat", "train.learning_rate"),
        ("trian.learning_rate", "train.learning_rate"),
        ("n_layer", "model.n_layer"),
        ("model.seed", "seed"),
        ("sed", "seed"),
        ("train", "train.steps"),
        ("checkpoints.weights", "checkpoints.weights_gib"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str, file: Path) -> None:
    message = one_line_error("smoke", f"{key}=1")
    if key == "train":
        assert message.startswith("--set: no setting 'train'; the nearest is 'train.")
        return
    assert message == f"--set: no setting {key!r}; the nearest is {nearest!r}"
    table, _, last = key.rpartition(".")
    file.write_text(f"[{table}]\n{last} = 1\n" if table else f"{last} = 1\n")
    assert one_line_error(file) == f"{file}: no setting {key!r}; the nearest is {nearest!r}"


def test_an_unknown_table_is_refused_even_where_it_is_empty(file: Path) -> None:
    file.write_text("[trian]\n")
    assert "trian" in one_line_error(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.steps=0", "train.steps = 0: input should be greater than or equal to 1"),
        ("train.steps=1.5", "train.steps = 1.5: input should be a valid integer"),
        ("train.steps=many", "train.steps = 'many': input should be a valid integer"),
        ("train.learning_rate=0", "train.learning_rate = 0: input should be greater than 0"),
        ("train.loss=some", "train.loss = 'some': input should be 'all' or 'output'"),
        ("model.dropout=1.0", "model.dropout = 1.0: input should be less than 1"),
        ("model.n_head=7", "model: n_embd = 32 is not a multiple of n_head = 7; 28 would be"),
        ("data.val_instruction_fraction=nan", "data.val_instruction_fraction = nan: "),
        ("seed=-1", "seed = -1: input should be greater than or equal to 0"),
        ("tasks.symbols=7", "tasks.symbols = 7: input should be a valid string"),
        ("tasks.regexes=abc", "tasks.regexes = 'abc': input should be a valid tuple"),
        ("seed", "--set seed: should be key=value, e.g. train.steps=100"),
    ],
)
def test_a_value_out_of_range_is_named(change: str, message: str) -> None:
    assert one_line_error("smoke", change).startswith(message)


def test_a_value_out_of_range_in_a_file_is_named(file: Path) -> None:
    file.write_text("[train]\nsteps = 0\n")
    assert "train.steps = 0: input should be greater" in one_line_error(file)


@pytest.mark.parametrize("content", [b"seed = ", b"[train", b"seed = 1\nseed = 2", b"\xff\xfe"])
def test_what_is_not_toml_is_refused(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert one_line_error(file).startswith(f"{file} ")


def test_a_missing_file_is_named(file: Path) -> None:
    assert one_line_error(file) == f"{file} cannot be read: No such file or directory"
    message = "'smok' is neither a preset (smoke, default, paper) nor a .toml file"
    assert one_line_error("smok") == message


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("train.steps = 1_000", "train.steps", 1000),
        ("train.learning_rate=1e-3", "train.learning_rate", 1e-3),
        ("train.warmup_steps=0", "train.warmup_steps", 0),
        ("tasks.symbols=xyz", "tasks.symbols", "xyz"),
        ('tasks.symbols="123"', "tasks.symbols", "123"),
        ("tasks.file=some/file.json", "tasks.file", "some/file.json"),
        ("tasks.file=a=b.json", "tasks.file", "a=b.json"),
        ("tasks.file=", "tasks.file", ""),
        ("tasks.regexes=[" + '"a+",' * 5 + '"b"]', "tasks.regexes", ("a+",) * 5 + ("b",)),
    ],
)
def test_set_reads_values_as_toml_and_bare_words_as_strings(
    change: str, key: str, value: Any
) -> None:
    expected = load_settings("smoke").model_dump()
    table, _, last = key.rpartition(".")
    (expected[table] if table else expected)[last] = value
    assert load_settings("smoke", [change]).model_dump() == expected


def test_the_last_of_two_changes_counts() -> None:
    assert load_settings("smoke", ["seed=1", "seed=2"]).seed == 2


def test_changes_are_checked_together() -> None:
    settings = load_settings("smoke", ["model.n_head=3", "model.n_embd=33"])
    assert (settings.model.n_head, settings.model.n_embd) == (3, 33)
