"""The prompt sets are those of their source, balanced, and right where a program can tell."""

import json
import re
import runpy
import unicodedata
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DIRECTORY = ROOT / "src" / "tasklens" / "data" / "prompt_sets"
NAMES = ("tasks-in-words.jsonl", "tasks-in-words-equal.jsonl")
GENERIC = {"first_letter", "last_letter", "letter_count", "french"}
OF_GROUP = {
    "nouns": {"plural", "colour", "category"},
    "adjectives": {"opposite", "comparative", "superlative"},
    "verbs": {"past_tense", "ing_form", "third_person"},
    "countries": {"capital", "continent", "language"},
}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

Row = dict[str, Any]


def tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def read(name: str) -> list[Row]:
    text = (DIRECTORY / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def inputs_by_group(rows: list[Row]) -> dict[str, set[str]]:
    return {g: {r["input"] for r in rows if r["task"] in ts} for g, ts in OF_GROUP.items()}


@pytest.fixture(params=NAMES)
def rows(request: pytest.FixtureRequest) -> list[Row]:
    return read(request.param)


def instructions(rows: list[Row]) -> dict[tuple[str, int], str]:
    texts = {(r["task"], r["phrasing"]): r["instruction"] for r in rows}
    assert all(texts[r["task"], r["phrasing"]] == r["instruction"] for r in rows)
    return texts


def test_committed_files_are_what_the_maker_gives() -> None:
    prompt_sets = runpy.run_path(str(ROOT / "docs" / "scripts" / "make_prompt_sets.py"))[
        "prompt_sets"
    ]()
    assert set(prompt_sets) == set(NAMES) == {path.name for path in DIRECTORY.glob("*.jsonl")}
    for name, text in prompt_sets.items():
        drifted = (DIRECTORY / name).read_bytes() != text.encode()
        assert not drifted, "run: python docs/scripts/make_prompt_sets.py"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('["bananas", "yellow", "fruit", ', '["bananas", "yellow", '),
        ('"yellow"', '"bright yellow"'),
        ("\nbanana ", "\ncold-banana "),
        ("\nbanana ", "\nwolf2 "),
        ("\nhot ", "\nwolf "),
        ('"Plural:"', '"Colour:"'),
        ('    "Plural:",\n', ""),
        ('"Plural:"', '"Plural of good things:"'),
        ('"not a single one but many"', '"not one but many"'),
        ('"not a single one but many"', '"not a single one, but many"'),
        ("[tasks.plural]", "[tasks.plurals]"),
    ],
)
def test_the_maker_refuses_a_broken_source(right: str, wrong: str, tmp_path: Path) -> None:
    source = (ROOT / "docs" / "data" / "tasks_in_words.toml").read_text(encoding="utf-8")
    assert right in source
    path = tmp_path / "tasks_in_words.toml"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    script = runpy.run_path(str(ROOT / "docs" / "scripts" / "make_prompt_sets.py"))
    with pytest.raises(ValueError, match=r"tasks_in_words\.toml: "):
        script["prompt_sets"](path)


def test_columns(rows: list[Row]) -> None:
    for row in rows:
        assert list(row) == ["task", "phrasing", "instruction", "input", "output", "text"]
        assert row["text"] == f"{row['instruction']} {row['input']} {row['output']}"
        assert row["text"] == " ".join(row["text"].split())
        assert unicodedata.is_normalized("NFC", row["text"])
        assert row["output"].isalpha()


def test_four_groups_of_twelve_inputs(rows: list[Row]) -> None:
    groups = inputs_by_group(rows)
    assert [len(group) for group in groups.values()] == [12] * 4
    assert len(set.union(*groups.values())) == 48
    for group, inputs in groups.items():
        shape = "[A-Z][a-z]+" if group == "countries" else "[a-z]+"
        assert all(re.fullmatch(shape, word) for word in inputs)


def test_balance(rows: list[Row]) -> None:
    assert len({r["text"] for r in rows}) == len(rows) == 2304
    tasks = set.union(GENERIC, *OF_GROUP.values())
    assert Counter(r["task"] for r in rows) == dict.fromkeys(tasks, 144)
    assert set(Counter(r["input"] for r in rows).values()) == {48}
    pairs = Counter((r["task"], r["phrasing"]) for r in rows)
    assert pairs == {(task, phrasing): 12 for task in tasks for phrasing in range(12)}
    for task in tasks:
        each = Counter(r["input"] for r in rows if r["task"] == task)
        assert set(each.values()) == {3 if task in GENERIC else 12}
    # An input has one answer to a task.
    assert len({(r["task"], r["input"], r["output"]) for r in rows}) == 12 * 12 + 4 * 48


def test_generic_phrasings_take_three_inputs_of_each_group(rows: list[Row]) -> None:
    for inputs in inputs_by_group(rows).values():
        for task in GENERIC:
            taken = [
                {r["input"] for r in rows if (r["task"], r["phrasing"]) == (task, phrasing)}
                & inputs
                for phrasing in range(12)
            ]
            assert [len(some) for some in taken] == [3] * 12
            assert all(len(a & b) <= 1 for i, a in enumerate(taken) for b in taken[:i])


def test_answers_about_letters(rows: list[Row]) -> None:
    for row in rows:
        word = row["input"].lower()
        right = {"first_letter": word[0], "last_letter": word[-1]}
        right["letter_count"] = NUMBERS[len(word)]
        assert row["output"] == right.get(row["task"], row["output"])


def test_endings(rows: list[Row]) -> None:
    """Spelling by rule where English has one; the irregular forms are listed."""
    irregular = {
        **{("plural", "sheep"): "sheep", ("plural", "wolf"): "wolves"},
        **{("comparative", "good"): "better", ("superlative", "good"): "best"},
        **{("past_tense", "eat"): "ate", ("past_tense", "swim"): "swam"},
        **{("past_tense", "sing"): "sang", ("past_tense", "sleep"): "slept"},
        **{("past_tense", "buy"): "bought", ("past_tense", "teach"): "taught"},
    }
    endings = {
        **{"plural": "s", "third_person": "s", "ing_form": "ing", "past_tense": "ed"},
        **{"comparative": "er", "superlative": "est"},
    }
    for row in rows:
        word, task = row["input"], row["task"]
        if task in endings:
            by_rule = inflected(word, endings[task])
            assert row["output"] == irregular.get((task, word), by_rule)


def inflected(word: str, ending: str) -> str:
    if re.search("[^aeiou]y$", word) and ending != "ing":
        return word[:-1] + ("ies" if ending == "s" else "i" + ending)
    if ending == "s":
        return word + ("es" if re.search("(s|x|z|ch|sh)$", word) else "s")
    if re.fullmatch("[^aeiou]*[aeiou][^aeiouwxy]", word):
        return word + word[-1] + ending
    return word.removesuffix("e") + ending


def test_instructions_differ_and_name_no_input(rows: list[Row]) -> None:
    spoken = {key: tokens(text) for key, text in instructions(rows).items()}
    assert len(set(map(tuple, spoken.values()))) == len(spoken) == 192
    assert {r["input"].lower() for r in rows}.isdisjoint(chain(*spoken.values()))
    for (task, phrasing), text in spoken.items():
        for other in range(phrasing):
            a, b = set(text), set(spoken[task, other])
            assert len(a & b) / len(a | b) < 0.6


def test_half_of_the_words_of_instructions_are_those_of_most_tasks(rows: list[Row]) -> None:
    spoken = [(task, w) for (task, _), text in instructions(rows).items() for w in tokens(text)]
    tasks = Counter(word for _, word in set(spoken))
    assert sum(tasks[word] >= 8 for _, word in spoken) >= len(spoken) / 2


def test_equal_instructions_are_six_plain_words_and_the_others_vary() -> None:
    free, equal = (instructions(read(name)).values() for name in NAMES)
    assert all(re.fullmatch("[a-z]+( [a-z]+){5}", text) for text in equal)
    lengths = {len(text.split()) for text in free}
    assert min(lengths) == 1
    assert 10 <= max(lengths) <= 12


def test_the_sets_differ_in_their_instructions_only() -> None:
    columns = ("task", "phrasing", "input", "output")
    free, equal = ([[row[c] for c in columns] for row in read(name)] for name in NAMES)
    assert free == equal
