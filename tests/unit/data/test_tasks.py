import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from tasklens.core.errors import InputError
from tasklens.data.random_tasks import draw_instructions, make_tasks
from tasklens.data.task_file import tasks_from_json, tasks_to_json
from tasklens.data.tasks import TaskSet, TaskSettings

SMALL: dict[str, Any] = {"n_tasks": 6, "variants_per_task": 20, "min_length": 4, "max_length": 8}


def small(**changes: Any) -> TaskSettings:
    return TaskSettings(**{**SMALL, **changes})


def file_content() -> dict[str, Any]:
    """Return the shortest task file: two tasks on two inputs."""
    return {
        "min_length": 1,
        "max_length": 4,
        "tasks": [
            {"regexes": ["a(b|c){1,3}"], "function": {"1": "odd", "2": "even"}, "n_variants": 5},
            {"regexes": ["b{2,4}", "c{1,4}"], "function": {"1": "even", "2": "odd"}, "name": "z"},
        ],
    }


def read(text: str) -> TaskSet:
    return tasks_from_json(text, "my.json", small(variants_per_task=6))


def test_the_paper_s_world() -> None:
    taskset = make_tasks(TaskSettings(), 0)
    variants = [task.n_variants for task in taskset.tasks]
    assert len(taskset.tasks) == 50
    assert sum(variants) == 50 * 152
    assert 114 <= min(variants) < 130 < 170 < max(variants) <= 190
    assert taskset.inputs == tuple(f"x{i}" for i in range(48))
    assert taskset.outputs == tuple(f"y{i}" for i in range(48))
    assert taskset.symbols == tuple("abcde")
    for task in taskset.tasks:
        assert tuple(task.function) == taskset.inputs
        assert set(task.function.values()) <= set(taskset.outputs)


def test_outputs_and_mapped_inputs_are_uniform() -> None:
    tasks = make_tasks(small(n_tasks=50, n_inputs=8, inputs_per_task=4, n_outputs=8), 1).tasks
    pairs = [pair for task in tasks for pair in task.function.items()]
    for tokens in zip(*pairs, strict=True):
        seen = np.bincount([int(token[1:]) for token in tokens], minlength=8)
        assert chisquare(seen).pvalue > 0.001


@pytest.mark.parametrize("seed", range(5))
def test_the_input_alone_tells_neither_task_nor_output(seed: int) -> None:
    tasks = make_tasks(small(n_inputs=10, inputs_per_task=5, n_outputs=2), seed).tasks
    assert all(len(task.function) == 5 for task in tasks)
    for x in set().union(*(task.function for task in tasks)):
        outputs = [task.function[x] for task in tasks if x in task.function]
        assert len(outputs) >= 2
        assert len(set(outputs)) == 2
    functions = [tuple(task.function.items()) for task in tasks]
    assert len(set(functions)) == len(functions)


@pytest.mark.parametrize("n_tasks", [6, 7])
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_the_number_of_variants_is_exact_over_the_set(n_tasks: int, spread: float) -> None:
    for seed in range(5):
        taskset = make_tasks(small(n_tasks=n_tasks, variants_spread=spread), seed)
        variants = [task.n_variants for task in taskset.tasks]
        assert sum(variants) == 20 * n_tasks
        assert max(abs(number - 20) for number in variants) <= 20 * spread


def test_one_stream_a_purpose() -> None:
    fewer, more = make_tasks(small(), 0), make_tasks(small(n_inputs=60), 0)
    assert [task.grammars for task in fewer.tasks] == [task.grammars for task in more.tasks]
    assert [task.n_variants for task in fewer.tasks] == [task.n_variants for task in more.tasks]
    assert draw_instructions(fewer, 0) == draw_instructions(more, 0) != draw_instructions(fewer, 1)
    assert fewer != make_tasks(small(), 1)


def test_own_regexes() -> None:
    taskset = make_tasks(small(regexes=("[ab]{4,8}", "[cd]{4,8}")), 0)
    assert len(taskset.tasks) == 2
    assert [task.grammars[0].regex for task in taskset.tasks] == ["[ab]{4,8}", "[cd]{4,8}"]
    assert taskset.symbols == tuple("abcd")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    taskset = make_tasks(small(distributions_per_task=2, n_inputs=10, inputs_per_task=5), 0)
    path = tmp_path / "tasks.json"
    path.write_text(tasks_to_json(taskset))
    again = make_tasks(TaskSettings(file=str(path)), 99)
    assert again == taskset
    assert tasks_to_json(again) == path.read_text()


def test_what_a_file_may_leave_out() -> None:
    taskset = read(json.dumps(file_content()))
    assert [task.name for task in taskset.tasks] == ["task0", "z"]
    assert [task.n_variants for task in taskset.tasks] == [5, 6]
    assert taskset.tasks[1].shares() == [3, 3]
    assert taskset.inputs == ("1", "2")
    assert taskset.outputs == ("odd", "even")
    assert taskset.symbols == ("a", "b", "c")


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(taks=1), "unknown key 'taks'; did you mean 'tasks'?"),
        (lambda c: c.pop("tasks"), "tasks: is missing"),
        (lambda c: c.update(tasks=c["tasks"][:1]), "1 tasks: should be at least 2"),
        (lambda c: c.update(min_length=5), "min_length = 5: should be at most max_length = 4"),
        (lambda c: c.update(max_length="x"), "max_length = 'x': should be a whole number"),
        (lambda c: c.update(max_length="4"), "max_length = '4': should be a whole number"),
        (lambda c: c.update(min_length=True), "min_length = True: should be a whole number"),
        (lambda c: c.update(min_length=0), "min_length = 0: should be at least 1"),
        (lambda c: c.update(max_length=-1), "max_length = -1: should be at least 1"),
        (lambda c: c.update(max_length=2**63), f"max_length = {2**63}: should be "),
        (lambda c: c.update(max_length=4.0), "max_length = 4.0: should be a whole number"),
        # A key that is there has a value.
        *(
            (lambda c, key=key, value=value: c.update({key: value}), f"{key} = {value}: should")
            for value, keys in (
                (None, ("min_length", "max_length", "inputs", "outputs", "symbols", "tasks")),
                ([], ("inputs", "outputs", "symbols")),
            )
            for key in keys
        ),
        ({"n_variants": None}, "tasks.0.n_variants = None: should be a whole number"),
        ({"name": ""}, "tasks.0.name = '': string should have at least 1"),
        ({"name": None}, "tasks.0.name = None: should be text"),
        ({"regexes": "a"}, "tasks.0.regexes = 'a': should be a list"),
        ({"function": [["1", "odd"]]}, "tasks.0.function = [['1', 'odd']]: should be a table"),
        # The words of prompts have to differ in a way that is seen.
        (lambda c: c.update(inputs=["1", "2", "a\u200b"]), "should be without whitespace and not"),
        (lambda c: c.update(symbols=[*"abc", "\u200b"]), "should be one character, not whitespace"),
        (
            lambda c: c.update(inputs=["1", "2", "\u00e1", "a\u0301"]),
            r"inputs: 'a\u0301' looks like '\xe1'; all should differ visibly",
        ),
        (lambda c: c["tasks"][0].update(n_variants=True), "tasks.0.n_variants = True: should"),
        (
            lambda c: c["tasks"][0]["function"].update({"1": 3}),
            "tasks.0.function.1 = 3: should be text",
        ),
        (lambda c: c.update(inputs=["1", "2", "1"]), "inputs: '1' occurs twice"),
        (lambda c: c.update(inputs=["1"]), "task 'task0': input '2' is not among the inputs"),
        (lambda c: c.update(outputs=["odd"]), "task 'task0': output 'even' is not among the out"),
        (lambda c: c.update(symbols=["b", "c"]), "task 'task0': symbol 'a' is not among the sym"),
        (lambda c: c.update(symbols=["ab"]), "symbol 'ab' should be one character"),
        (
            lambda c: c.update(inputs=["1", "2", ""]),
            "token '' should be without whitespace and not",
        ),
        (lambda c: c.update(inputs=["1", "2", "3 4"]), "token '3 4' should be without whitespace"),
        (lambda c: c.update(inputs=["1", "2", "b"]), "token 'b' is a symbol of the instructions"),
        (
            lambda c: c["tasks"].append(c["tasks"][0] | {"regexes": ["aa"], "n_variants": 1}),
            "tasks 'task0' and 'task2' have the same function",
        ),
        # of the first task
        ({"regexs": []}, "unknown key 'tasks.0.regexs'; did you mean 'regexes'?"),
        ({"n_variants": 0}, "tasks.0.n_variants = 0: should be at least 1"),
        ({"function": {}}, "task 'task0': function maps no input"),
        ({"function": {"1": 2}}, "tasks.0.function.1 = 2: should be text"),
        (
            {"function": {"1": "odd"}},
            "input '2' is mapped by task 'z' only; the input alone should",
        ),
        (
            {"function": {"1": "even", "2": "even"}},
            "all tasks that map input '1' map it to 'even'; the input alone should not",
        ),
        ({"regexes": []}, "task 'task0': 0 regexes for n_variants = 5: should be at least 1"),
        ({"regexes": ["a.b"]}, "task 'task0': regex 'a.b', position 1: . is not supported here"),
        (
            {"n_variants": 15},
            "task 'task0': regex 'a(b|c){1,3}' matches only 14 strings of length 1 to 4: should be",
        ),
        (
            {"regexes": ["[ab]{1,3}"]},
            "tasks 'task0' and 'z' share the string 'bb' (regexes '[ab]{1,3}' and 'b{2,4}')",
        ),
        ({"name": "z"}, "task names: 'z' occurs twice"),
        # the text of the file
        ("[" * 100_000, "is not a task file: it is nested too deeply"),
        ('{"min_length": ' + "9" * 5000 + "}", "is not a task file: a number has thousands of"),
        ('{"' + "key" * 9999 + '": 1}', "did you mean"),
        ("[1]", "should be an object with the keys tasks, inputs"),
        ('{"tasks": [', "is not a task file: Expecting value: line 1 column 12"),
        ({"name": "half \ud83d"}, "is not a task file: a text has half a character"),
        ('{"tasks": [{"function": {"x": "1", "x": "2"}}]}', "the key 'x' occurs twice in one obj"),
    ],
)
def test_refused_files(change: Change | dict[str, Any] | str, message: str) -> None:
    content = file_content()
    if callable(change):
        change(content)
    elif isinstance(change, dict):
        content["tasks"][0].update(change)
    text = change if isinstance(change, str) else json.dumps(content)
    with pytest.raises(InputError, match=r"^my\.json: ") as error:
        read(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    contents = {
        b"\xff\xfe\x00": ": is not a task file: it is UTF-16; save it as UTF-8",
        "\u00e9".encode("latin-1"): ": is not a task file: it is not UTF-8",
        b"version https://git-lfs.github.com/spec/v1\n": " is a Git LFS pointer",
        b"": ": is not a task file: ",
    }
    for content, message in contents.items():
        file.write_bytes(content)
        with pytest.raises(InputError) as error:
            make_tasks(TaskSettings(file=str(file)), 0)
        assert str(error.value).startswith(f"{file}{message}")
    for path, why in ((tmp_path, "it is a directory"), ("/dev/zero", "it is a pipe or a device")):
        with pytest.raises(InputError, match=f"cannot be read: {why}"):
            make_tasks(TaskSettings(file=str(path)), 0)
    with pytest.raises(InputError, match=r"absent\.json cannot be read: No such file"):
        make_tasks(TaskSettings(file=str(tmp_path / "absent.json")), 0)


def test_a_mark_of_utf_8_and_tokens_of_any_language_are_read(tmp_path: Path) -> None:
    content = file_content()
    content["tasks"][0]["function"], content["tasks"][1]["function"] = (
        {"\u732b": "\u00e9", "\u72ac": "\u0928\u092e"},
        {"\u732b": "\u0928\u092e", "\u72ac": "\u00e9"},
    )
    file = tmp_path / "tasks.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    settings = small(variants_per_task=6).changed(file=str(file))
    assert make_tasks(settings, 0).inputs == ("\u732b", "\u72ac")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_inputs": 40}, "inputs_per_task = 48: should be at most n_inputs = 40"),
        ({"min_length": 9}, "min_length = 9: should be at most max_length = 8"),
        ({"symbols": "aba"}, "symbols = 'aba': should be distinct characters"),
        (
            {"symbols": "a b"},
            "symbols = 'a b': should be distinct characters without whitespace",
        ),
        (
            {"regexes": ("a", "b", "c"), "distributions_per_task": 2},
            "3 regexes: should be distributions_per_task = 2 for each of two tasks or more",
        ),
        ({"regexes": ("a",) * 6, "file": "x"}, "regexes and file exclude each other"),
        (
            {"distributions_per_task": 16},
            "gives some task fewer instructions than distributions_per",
        ),
        ({"n_tasks": 1}, "n_tasks = 1: should be at least 2"),
        ({"n_outputs": 1}, "n_outputs = 1: should be at least 2"),
        ({"variants_spread": 1.0}, "variants_spread = 1.0: should be less than 1"),
    ],
)
def test_refused_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        small(**changes)
    line = str(error.value)
    assert message in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regexes": ("[ab]{4,8}", "[bc]{4,8}")}, "'task0' and 'task1' share the string 'bbbb'"),
        ({"regexes": ("(a", "b")}, r"^regexes: regex '\(a', position 0: group is not closed"),
        ({"regexes": ("[ab]{4}", "[cd]{4,8}")}, "'task0': .* only 16 strings .* at least 20"),
        ({"n_inputs": 30, "inputs_per_task": 2}, r"by task 'task\d' only; raise n_tasks"),
        (
            {"n_tasks": 6, "n_inputs": 1, "inputs_per_task": 1, "n_outputs": 2},
            "have the same function; raise n_tasks, inputs_per_task",
        ),
        (
            {"symbols": "ab", "min_length": 1, "max_length": 3},
            "fewer than the 20 strings .* allow more symbols",
        ),
    ],
)
def test_tasks_that_cannot_be_had(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_tasks(small(**{"n_tasks": 2, "variants_spread": 0} | changes), 0)


@pytest.mark.parametrize("seed", range(3))
def test_neither_symbols_nor_length_settle_the_task(seed: int) -> None:
    """Structure must matter: a bag of symbols or the length alone are far from the tasks."""
    drawn = draw_instructions(make_tasks(TaskSettings(), seed), seed)
    few = [each for each in drawn if each.task < 10]
    task = np.array([each.task for each in few])
    bags = np.array([[each.text.count(c) for c in "abcde"] for each in few])
    clusters = KMeans(10, n_init=2, random_state=0).fit_predict(bags)
    assert adjusted_rand_score(task, clusters) < 0.5
    assert adjusted_rand_score(task, bags.sum(axis=1)) < 0.15
