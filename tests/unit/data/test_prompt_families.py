"""The families of tasks are right where a program can tell; a user's files are read or refused."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tasklens.core.errors import InputError
from tasklens.data.prompt_families import SHIPPED_FAMILIES, choose_families, shipped_family
from tasklens.data.prompt_forms import FORMS

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def answers_of(family: str, task: str) -> dict[str, str]:
    return {x: ys[task] for x, ys in shipped_family(family).answers.items()}


def test_there_are_tasks_enough_and_all_are_crossed() -> None:
    tasks = [task for name in SHIPPED_FAMILIES for task in shipped_family(name).tasks]
    assert len(SHIPPED_FAMILIES) >= 3
    assert len(set(tasks)) == len(tasks) >= 16
    for name in SHIPPED_FAMILIES:
        family = shipped_family(name)
        assert len(family.tasks) >= 4
        assert len(family.answers) >= 40
        for x, ys in family.answers.items():
            assert set(ys) == set(family.tasks)
            assert len({x, *ys.values()}) == 1 + len(ys), "no two answers are equal, nor the input"
    first, *_ = choose_families((), ())
    assert first.left_out == {}


def test_no_input_is_in_two_families_or_behind_itself_in_a_form() -> None:
    inputs = [set(shipped_family(name).answers) for name in SHIPPED_FAMILIES]
    assert all(not a & b for a, b in combinations(inputs, 2))
    every = {x.lower() for each in inputs for x in each}
    for forms in FORMS.values():
        for form in forms.values():
            behind = re.findall(r"\w+", (form.after + form.separator).lower())
            assert not every & set(behind), "the input would be found there"


def test_answers_about_letters() -> None:
    for word, answers in shipped_family("letters").answers.items():
        assert answers == {
            "first_letter": word[0],
            "last_letter": word[-1],
            "letter_count": NUMBERS[len(word)],
            "upper_case": word.upper(),
            "capitalised": word.capitalize(),
            "reversed": word[::-1],
        }


def with_s(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


def stem(word: str, doubled: str) -> str:
    """Return what an ending that begins with a vowel is put behind."""
    if word in doubled.split():
        return word + word[-1]
    return word[:-1] if re.search(r"[^e]e$", word) else word


DOUBLED = "begin forbid forget swim hot wet sad fat thin"


def test_regular_endings() -> None:
    assert {x: y for x, y in answers_of("verbs", "third_person").items() if y != with_s(x)} == {}
    forms = answers_of("verbs", "ing_form")
    assert {x: y for x, y in forms.items() if y != stem(x, DOUBLED) + "ing"} == {}
    assert {x: y for x, y in answers_of("nouns", "plural").items() if y != with_s(x)} == {
        **{"fisherman": "fishermen", "knife": "knives", "mouse": "mice"},
        **{"shelf": "shelves", "wolf": "wolves"},
    }
    irregular = {"good": ("better", "best"), "bad": ("worse", "worst")}
    endings = zip(("comparative", "superlative"), ("er", "est"), strict=True)
    for i, (task, ending) in enumerate(endings):
        for x, y in answers_of("adjectives", task).items():
            base = re.sub(r"(?<=[^aeiou])y$", "i", stem(x, DOUBLED))
            assert y == (irregular[x][i] if x in irregular else base + ending)


def test_opposites_are_mutual_where_both_are_there() -> None:
    opposite = answers_of("adjectives", "opposite")
    others = {x: opposite[y] for x, y in opposite.items() if opposite.get(y, x) != x}
    assert others == {"fat": "thick", "quick": "fast"}, "thin and slow are those of thick and fast"


FAMILY = {"tasks": {"past": "past tense", "ing": "ing-form"}, "inputs": {"eat": ["ate", "eating"]}}


def write(directory: Path, **files: Any) -> list[str]:
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return [str(directory / f"{name}.json") for name in files]


def test_a_users_file_is_a_family(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[tasks]\npast = "past tense"\ning = "ing-form"\n[inputs]\neat = ["ate", "eating"]\n'
    )
    (family,) = choose_families([str(tmp_path / "mine.toml")], ())
    assert (family.name, family.tasks) == ("mine", FAMILY["tasks"])
    assert family.answers == {"eat": {"past": "ate", "ing": "eating"}}
    (same,) = choose_families(write(tmp_path, mine=FAMILY), ())
    assert same == family
    names = [
        each.name for each in choose_families([str(tmp_path / "mine.toml")], ["mine", "verbs"])
    ]
    assert names == ["mine", "verbs"]


def pairs(**outputs: str) -> list[dict[str, str]]:
    return [{"input": x, "output": y} for x, y in outputs.items()]


def test_lists_with_the_same_inputs_are_one_family(tmp_path: Path) -> None:
    files = write(
        tmp_path, plural=pairs(cat="cats", dog="dogs"), upper_case=pairs(cat="CAT", dog="DOG")
    )
    (family,) = choose_families(files, ())
    assert family.tasks == {"plural": "plural", "upper_case": "upper case"}
    assert family.answers == {
        "cat": {"plural": "cats", "upper_case": "CAT"},
        "dog": {"plural": "dogs", "upper_case": "DOG"},
    }


def test_lists_with_other_inputs_are_crossed_only_if_asked_for(tmp_path: Path) -> None:
    files = write(tmp_path, a=pairs(cat="cats", dog="dogs"), b=pairs(cat="CAT", ox="OX"))
    with pytest.raises(InputError, match=r"the list 'a' lacks 1 of 3 inputs .* first 'ox'"):
        choose_families(files, ())
    (common,) = choose_families(files, (), "common")
    assert common.answers == {"cat": {"a": "cats", "b": "CAT"}}
    assert common.left_out == {"that some lists lack": 2}
    (own,) = choose_families(files, (), "none")
    assert not own.crossed
    assert own.of_tasks(["b"]).answers == {"cat": {"b": "CAT"}, "ox": {"b": "OX"}}


def test_what_does_not_tell_tasks_apart_is_left_out_and_counted(tmp_path: Path) -> None:
    lists = {
        "a": [*pairs(cut="cut", sheep="sheep", ox="oxen", cat="cats"), *pairs(ox="oxes")],
        "b": pairs(cut="CUT", sheep="SHEEP", ox="OX", cat="cats"),
    }
    lists["a"] += pairs(hat="hats")
    lists["b"] += pairs(hat="HAT")
    (family,) = choose_families(write(tmp_path, **lists), ())
    assert list(family.answers) == ["hat"]
    assert family.left_out == {
        "with several outputs in a list": 1,
        "with the same answer under two tasks": 1,
        "that are an answer to themselves": 2,
    }


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (3, r"mine\.json: should have the tables tasks"),
        ({"tasks": {}}, r"mine\.json: has the keys tasks: should have the tables"),
        (FAMILY | {"more": 1}, r"has the keys tasks, inputs, more"),
        (FAMILY | {"tasks": {}}, r"mine\.json: should have the tables"),
        (FAMILY | {"inputs": {"eat": ["ate"]}}, r"inputs\.eat: should be a list of 2 answers"),
        (FAMILY | {"inputs": {"eat": ["ate", ""]}}, r"inputs\.eat: 'ing' is empty"),
        (FAMILY | {"inputs": {"eat": ["ate", {}]}}, r"inputs\.eat: 'ing' is of the type dict"),
        (FAMILY | {"inputs": {"eat": ["a\nb", "c"]}}, r"inputs\.eat: 'past' has a line break"),
        ([], r"mine\.json: is an empty list"),
        ([{"input": "a"}], r"mine\.json: item 1: should have an input and an output"),
        ([*pairs(a="b"), {"input": "", "output": "b"}], r"item 2: 'input' is empty"),
        (pairs(a="b"), r"family 'lists' has the single task 'mine': should have 2 or more"),
    ],
)
def test_a_broken_file_is_one_line(content: Any, line: str, tmp_path: Path) -> None:
    files = write(tmp_path, mine=content)
    with pytest.raises(InputError, match=line) as error:
        choose_families(files, ())
    assert "\n" not in str(error.value)


def test_a_broken_text_names_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    for text, line in (("[1,", "is not JSON: .*line 1"), ("\\ud800", "mine.json is not JSON")):
        path.write_text(text)
        with pytest.raises(InputError, match=line):
            choose_families([str(path)], ())
    path = path.with_suffix(".toml")
    path.write_text("a = = 1")
    with pytest.raises(InputError, match=r"mine\.toml is not TOML: .*line 1"):
        choose_families([str(path)], ())
    with pytest.raises(InputError, match=r"no_file\.toml"):
        choose_families([str(tmp_path / "no_file.toml")], ())


def test_unknown_and_doubled_names_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no task 'past'; the nearest is 'past_tense'"):
        choose_families(["past"], ())
    with pytest.raises(InputError, match="no family 'verb'; the nearest is 'verbs'"):
        choose_families((), ["verb"])
    with pytest.raises(InputError, match="no task 'capital'"):
        choose_families(["capital"], ["verbs"])
    with pytest.raises(InputError, match="family 'verbs' has the single task 'ing_form'"):
        choose_families(["ing_form"], ())
    (tmp_path / "other").mkdir()
    twice = write(tmp_path, mine=FAMILY) + write(tmp_path / "other", mine=FAMILY)
    with pytest.raises(InputError, match="two families are called 'mine'"):
        choose_families(twice, ())
    with pytest.raises(InputError, match="both have a task 'past'"):
        choose_families(write(tmp_path, mine=FAMILY, yours=FAMILY), ())
    lists = write(tmp_path, a=pairs(x="y")) + write(tmp_path / "other", a=pairs(x="z"))
    with pytest.raises(InputError, match="another list is called 'a'"):
        choose_families(lists, ())
