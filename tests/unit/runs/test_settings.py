import tomllib
from pathlib import Path

import pytest

from tasklens.core.errors import InputError
from tasklens.runs.settings import (
    PRESETS,
    SubjectSettings,
    TrainingRunSettings,
    load_settings,
)


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


def test_the_presets_have_their_sizes() -> None:
    smoke, default, distributions, paper = map(load_settings, PRESETS)
    assert (default.model.n_layer, default.tasks.n_tasks) == (6, 50)
    assert (paper.model.n_layer, paper.model.n_embd, paper.model.n_head) == (6, 768, 12)
    assert paper.tasks == default.tasks
    assert paper.data == distributions.data == default.data
    assert distributions.model == default.model
    assert distributions.measure.k == (10, 30)  # of the measured tasks, and of their expressions
    assert smoke.train.steps < 100


def test_a_file_leaves_the_rest_at_its_defaults(file: Path) -> None:
    file.write_text("seed = 3\n[model]\nn_layer = 2\n")
    settings = load_settings(str(file))
    default = TrainingRunSettings()
    assert settings == default.changed(seed=3, model=default.model.changed(n_layer=2))


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
            assert len(before) > 2
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
    ("change", "message"),
    [
        ("train.steps=0", "train.steps = 0: should be at least 1"),
        ("train.loss=some", "train.loss = 'some': should be 'all' or 'output'"),
        ("model.dropout=1.0", "model.dropout = 1.0: should be less than 1"),
        (
            "measure.cross=form",
            "measure.cross: the data of a training run have no column 'form': should be one of "
            "length, input, output",
        ),
        ("measure.residualize=['a','a']", "measure.residualize = ['a', 'a']: should be distinct"),
        ("model.n_head=7", "model: n_embd = 32: should be a multiple of n_head = 7, e.g. 28"),
    ],
)
def test_a_value_out_of_range_is_named(change: str, message: str) -> None:
    assert one_line_error("smoke", change).startswith(message)


@pytest.mark.parametrize("key", ["cross", "residualize"])
def test_instances_without_outputs_are_not_compared_with_them(key: str) -> None:
    change = {f"measure.{key}": ["length", "output"], "tasks.unseen_tasks": 4}
    with pytest.raises(InputError) as error:
        load_settings("smoke", change)
    assert str(error.value) == (
        f"measure.{key}: instances of tasks.unseen_tasks = 4 have no output; leave out one of them"
    )
    assert load_settings("smoke", change | {"tasks.unseen_tasks": 0})


def test_a_gradient_that_is_never_clipped_comes_back_from_toml() -> None:
    settings = load_settings("smoke", "train.grad_clip=inf")
    assert "grad_clip = inf\n" in settings.toml()
    assert TrainingRunSettings.from_toml(settings.toml().encode(), "") == settings
    assert one_line_error("smoke", "train.learning_rate=inf").endswith("should be a finite number")


def test_a_mapping_of_changes_may_have_any_key() -> None:
    with pytest.raises(InputError, match=r"^changes: no setting '1'; the nearest is "):
        load_settings("smoke", {1: 2})  # type: ignore[dict-item]


def test_a_missing_file_is_named(file: Path) -> None:
    assert one_line_error(file) == f"{file} cannot be read: No such file or directory"
    message = "'smok' is neither a preset (smoke, default, distributions, paper) nor a .toml file"
    assert one_line_error("smok") == message


@pytest.mark.parametrize(
    ("names", "models", "message"),
    [
        (["base", "base"], 2, "names: base is given twice"),
        (["base"], 2, "names: 1 names for 2 models: should be one for each"),
        (["1", "sft"], 2, "names: '1': should be a word of letters"),
        (["untrained", "sft"], 2, "no number, and not untrained"),
        (["a,b", "sft"], 2, "names: 'a,b': should be a word"),
        (["a b", "sft"], 2, "names: 'a b': should be a word"),
        (["", "sft"], 2, "names: '': should be a word"),
    ],
)
def test_names_of_stages_are_words_one_for_each_model(
    names: list[str], models: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        SubjectSettings(names=tuple(names), models=tuple(f"m{i}" for i in range(models)))


def test_stages_have_their_revisions_in_their_models() -> None:
    with pytest.raises(InputError, match="stages with names take ORG/NAME@REVISION"):
        SubjectSettings(names=("base",), models=("gpt2",), revisions=("main",))
