"""Settings that fit the user's regular expressions."""

import shlex

import pytest

from tasklens.core.errors import InputError
from tasklens.runs.fit_settings import draw_dataset
from tasklens.runs.settings import load_settings


@pytest.mark.parametrize("preset", ["smoke", "default"])
@pytest.mark.parametrize(
    "regexes",
    [
        ["(ab|c)d{2,4}", "b(a|d){3}"],  # too few strings, tasks and instances
        ["(ab|c)+d{1,4}", "b(a|d){3,7}"],  # too few tasks
        ["a{1,3}b{17,20}", "(c|d)+", "b[bc]{20}"],  # too long
    ],
)
def test_the_settings_that_an_error_names_are_enough(preset: str, regexes: list[str]) -> None:
    changes: list[str] = [f"tasks.regexes={regexes}".replace("'", '"')]
    with pytest.raises(InputError) as raised:
        draw_dataset(load_settings(preset, changes))
    _, fit, options = str(raised.value).partition("; these settings fit: ")
    assert fit
    more = [option for option in shlex.split(options) if option != "--set"]
    before = load_settings(preset).flat()
    for change in more:
        key, _, value = change.partition("=")
        assert value != str(before[key]), "only what has to change is named"
    dataset = draw_dataset(load_settings(preset, changes + more))
    assert [task.grammars[0].regex for task in dataset.tasks.tasks] == regexes


def test_unseen_expressions_fit_too() -> None:
    regexes = ["(ab|c)+d{1,4}", "d(ab|c){2,5}", "b(a|d){3,7}", "bb(a|d){1,4}", "a(b|c){3,6}"]
    unseen = {"tasks.unseen_distributions": 1, "tasks.unseen_tasks": 1, "tasks.regexes": regexes}
    with pytest.raises(InputError) as raised:
        draw_dataset(load_settings("smoke", unseen))
    _, _, options = str(raised.value).partition("; these settings fit: ")
    more = [option.partition("=") for option in shlex.split(options) if option != "--set"]
    fitting = unseen | {key: int(value) for key, _, value in more}
    dataset = draw_dataset(load_settings("smoke", fitting))
    assert [len(task.unseen) for task in dataset.tasks.all_tasks] == [1, 1, 0]


@pytest.mark.parametrize("regexes", [["a", "b+"], ["[ab]+", "b+"]])
def test_no_settings_are_named_if_none_fit(regexes: list[str]) -> None:
    settings = load_settings("smoke", {"tasks.regexes": regexes})
    with pytest.raises(InputError) as raised:
        draw_dataset(settings)
    assert "fit" not in str(raised.value)
