"""Prompts of a set are crossed, split and written as documented; their answers differ."""

import json
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import tasklens as tl
from tasklens.core.errors import InputError
from tasklens.data.first_tokens import first_tokens
from tasklens.data.measured_parts import default_position, parse_position
from tasklens.data.prompt_drawing import draw_rows
from tasklens.data.prompt_families import SHIPPED_FAMILIES, shipped_family
from tasklens.data.prompt_forms import FORMS, Kind
from tasklens.data.prompt_set import make_prompts, settings_of
from tasklens.data.tokenize import tokenize
from tiny_tokenizers import byte_level, word_level

Row = dict[str, Any]
KINDS: tuple[Kind, ...] = ("icl", "chat", "plain")
SPLITS = ("kept", "held_out_context", "held_out_input")
#: Writes the messages of a chat like most models do.
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
#: Every word of the families, as a tokenizer of whole words needs them.
VOCABULARY = [
    word
    for name in SHIPPED_FAMILIES
    for x, ys in shipped_family(name).answers.items()
    for text in (x, *ys.values())
    for word in text.split()
]


def rows(kind: Kind = "icl", tokenizer: Any = None, seed: int = 0, **changes: Any) -> list[Row]:
    return list(make_prompts(kind, tokenizer, settings_of(kind, changes), seed).rows)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("icl", {}), ("icl", {"forms": ["colon", "qa"]}), ("chat", {}), ("plain", {"shots": 2})],
)
def test_every_task_comes_once_with_every_input_context_and_form(
    kind: Kind, changes: dict[str, Any]
) -> None:
    prompts = rows(kind, **changes)
    for family, split in product(SHIPPED_FAMILIES, SPLITS):
        part = [row for row in prompts if (row["family"], row["split"]) == (family, split)]
        tasks = shipped_family(family).tasks
        # Without examples, a context is a form.
        columns = ("input", "context") if kind == "chat" else ("input", "context", "form")
        values = [{row[column] for row in part} for column in columns]
        cells = Counter((row["label"], *(row[column] for column in columns)) for row in part)
        assert cells == Counter(product(tasks, *values))
        assert part


def test_examples_are_the_same_words_for_each_task_and_give_nothing_away() -> None:
    prompts = rows(contexts=7)
    asked = {row["input"] for row in prompts}
    by_context: dict[str, set[tuple[str, ...]]] = {}
    for row in prompts:
        by_context.setdefault(row["context"], set()).add(tuple(row["examples"]))
        assert len(set(row["examples"])) == row["shots"] == 5
        assert not asked & set(row["examples"]), "no example has an input that is asked about"
        ys = [shipped_family(row["family"]).answers[x][row["label"]] for x in row["examples"]]
        lines = [f"{x} -> {y}" for x, y in zip(row["examples"], ys, strict=True)]
        assert row["text"].split("\n") == [*lines, f"{row['input']} ->"]
    assert all(len(examples) == 1 for examples in by_context.values())
    assert len({next(iter(examples)) for examples in by_context.values()}) == 5 * 7
    shown: dict[bool, set[str]] = {True: set(), False: set()}
    for row in prompts:
        shown[row["split"] == "held_out_context"] |= set(row["examples"])
    assert shown[True]
    assert not shown[True] & shown[False], "the examples of held-out contexts are new, too"


def test_what_is_held_out_is_held_out_for_all_tasks_alike() -> None:
    prompts = rows(inputs=10, contexts=10)
    for family in SHIPPED_FAMILIES:
        by_split = {
            split: [r for r in prompts if (r["family"], r["split"]) == (family, split)]
            for split in SPLITS
        }
        sizes = {
            (split, column): len({row[column] for row in part})
            for split, part in by_split.items()
            for column in ("context", "input")
        }
        assert list(sizes.values()) == [8, 8, 2, 8, 8, 2]
        for split, column in (("held_out_context", "context"), ("held_out_input", "input")):
            kept = {row[column] for row in by_split["kept"]}
            assert not kept & {row[column] for row in by_split[split]}


def test_held_out_columns_can_be_chosen() -> None:
    assert {row["split"] for row in rows(hold_out=["input"])} == {"kept", "held_out_input"}
    assert "split" not in rows(hold_out=[])[0]
    with pytest.raises(InputError, match="contexts: there is one, which cannot be held out"):
        rows(contexts=1)
    with pytest.raises(InputError, match="forms: there is one, which cannot be held out"):
        rows("plain", forms=["is"])
    assert rows("plain", forms=["is"], hold_out=["input"])


def test_the_parts_of_a_text_are_where_the_columns_name_them() -> None:
    for kind in KINDS[::2]:
        for row in rows(kind, forms=list(FORMS[kind]), shots=1, contexts=2, inputs=3):
            (begin, end), (first, stop) = row["query"], row["separator"]
            form = FORMS[kind][row["form"]]
            assert row["text"][begin:end] == row["input"]
            assert row["text"][first:stop] == form.separator
            assert stop == len(row["text"]) == len(row["text"].rstrip())


def test_chat_prompts_are_messages_whose_last_one_asks() -> None:
    for row in rows("chat", shots=2):
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * 2 + ["user"]
        assert row["messages"][-1]["content"].count(row["query"]) >= 1
        answers = [shipped_family(row["family"]).answers[x][row["label"]] for x in row["examples"]]
        assert [m["content"] for m in row["messages"] if m["role"] == "assistant"] == answers


def test_answers_are_those_of_the_family() -> None:
    for row in rows():
        answers = shipped_family(row["family"]).answers[row["input"]]
        assert row["answers"] == answers
        assert row["output"] == answers[row["label"]]


def test_inputs_with_answers_alike_are_examples_only_and_held_out_contexts_have_half() -> None:
    family = shipped_family("verbs").without(["eat", "go"], "for a test", as_examples=True)
    settings = settings_of("icl", {"contexts": 60, "inputs": 40, "shots": 6})
    rows = [*draw_rows(family, "icl", {"arrow": FORMS["icl"]["arrow"]}, settings, 0)]
    assert {"eat", "go"}.isdisjoint(row["input"] for row in rows)
    held, others = (
        {x for row in rows if (row["split"] == "held_out_context") is out for x in row["examples"]}
        for out in (True, False)
    )
    assert {"eat", "go"} < held | others
    assert held.isdisjoint(others)
    assert abs(len(held) - len(others)) <= 1
    assert len(held | others) == len(shipped_family("verbs").answers) - 40


def test_the_same_seed_gives_the_same_prompts_and_a_family_does_not_change_another() -> None:
    assert rows(seed=3) == rows(seed=3) != rows(seed=4)
    alone = rows(families=["verbs"])
    assert alone == [row for row in rows() if row["family"] == "verbs"]


def test_the_prompts_are_read_with_their_splits_and_measured_at_the_separator() -> None:
    table = tl.read_prompts(tl.icl_prompts(families=["verbs"]))
    assert {split: part.stop - part.start for split, part in table.splits.items()} == {
        "kept": 312,
        "held_out_context": 72,
        "held_out_input": 104,
    }
    assert default_position(table) == "separator"
    tokenizer = word_level([*VOCABULARY, "->"])
    read = tokenize(table, tokenizer)
    assert read.prompts.position_name == "separator"
    measured = read.prompts.ids[range(len(table)), read.prompts.position]
    assert set(tokenizer.convert_ids_to_tokens(measured)) == {"->"}
    answers = tokenizer.convert_ids_to_tokens(read.target[:, 0])
    assert tuple(answers) == table.output, "each answer is a token of its own"


def test_the_default_position_is_the_end_of_the_question_if_it_is_known() -> None:
    rows: Any = {"label": [0, 0, 1, 1], "input": ["a"] * 4}
    texts = rows | {"text": ["a ->"] * 4}
    pairs = texts | {"separator": [[2, 4]] * 4}
    messages = rows | {"messages": [[{"role": "user", "content": "a?"}]] * 4}
    for name, part, columns in (
        ("input", "", texts),
        ("input", "", texts | {"separator": ["->"] * 4}),
        ("separator", "separator", pairs),
        ("last", "last", messages),
    ):
        table = tl.read_prompts(columns)
        assert default_position(table) == name
        assert parse_position(table, "")[0] == part


def test_an_input_is_left_out_if_two_answers_begin_with_the_same_token() -> None:
    # The tokenizer knows neither the past tense nor the participle of one verb, and no form of
    # another.
    unknown = {"began", "ate", "eaten", "eats", "eating"}
    tokenizer = word_level([*[word for word in VOCABULARY if word not in unknown], "->"])
    prompts = make_prompts("icl", tokenizer, settings_of("icl", {"families": ["verbs"]}), 0)
    (family,) = prompts.families
    assert set(shipped_family("verbs").answers) - set(family.answers) == {"begin", "eat"}
    assert family.left_out == {"with an answer whose first token is not known": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_first_tokens_of_whole_prompts_differ_between_tasks(kind: Kind) -> None:
    vocabulary = [*VOCABULARY, "->", "<", ">", "assistant", "user"]
    tokenizer = word_level(vocabulary, TEMPLATE)
    settings = settings_of(kind, {"families": ["verbs"], "inputs": 4, "contexts": 3})
    prompts = make_prompts(kind, tokenizer, settings, 0)
    asked = [
        (text, row["input"], y)
        for row in prompts.rows[::7]
        for text in [row.get("text") or with_template(tokenizer, row["messages"])]
        for y in row["answers"].values()
    ]
    tokens = first_tokens(tokenizer, *map(list, zip(*asked, strict=True)))
    by_text: dict[str, list[int | None]] = {}
    for (text, *_), token in zip(asked, tokens, strict=True):
        by_text.setdefault(text, []).append(token)
    assert None not in tokens
    assert all(len(set(each)) == len(each) for each in by_text.values())


def with_template(tokenizer: Any, messages: Any) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def test_a_tokenizer_that_reads_bytes_leaves_nothing_and_that_is_one_line() -> None:
    with pytest.raises(InputError, match="family 'adjectives' has 0 inputs, too few for the 8 "):
        make_prompts("icl", byte_level(), settings_of("icl", {}), 0)
    with pytest.raises(InputError, match="has no chat template"):
        make_prompts("chat", word_level(VOCABULARY), settings_of("chat", {}), 0)


def test_a_family_with_too_few_inputs_is_left_out_with_a_warning_unless_it_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts = rows(inputs=46)
    assert {row["family"] for row in prompts} == {"adjectives", "countries", "letters", "nouns"}
    assert (
        "family verbs is left out: it has 54 inputs, too few for the 56" in capsys.readouterr().err
    )
    with pytest.raises(InputError, match="family 'verbs' has 54 inputs, too few for the 56"):
        rows(inputs=46, families=["verbs"])
    with pytest.raises(InputError, match="ask for fewer inputs or shots"):
        rows(shots=1000)


def test_tasks_that_are_not_crossed_have_inputs_and_examples_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = {"plural": "nouns", "past_tense": "verbs"}
    for task, family in lists.items():
        answers = shipped_family(family).answers
        content = [{"input": x, "output": ys[task]} for x, ys in answers.items()]
        (tmp_path / f"{task}.json").write_text(json.dumps(content))
    files = [str(tmp_path / f"{task}.json") for task in lists]
    prompts = rows(tasks=files, share="none", shots=3)
    assert "an input gives its task away" in capsys.readouterr().err
    for task, family in lists.items():
        own = [row for row in prompts if row["label"] == task]
        assert {row["family"] for row in own} == {"lists"}
        assert {x for row in own for x in (row["input"], *row["examples"])} <= set(
            shipped_family(family).answers
        )
        assert all(row["answers"] == {task: row["output"]} for row in own)


@pytest.mark.parametrize(
    ("kind", "changes", "line"),
    [
        ("icl", {"shots": 0}, "shots = 0: should be 1 or more"),
        ("icl", {"forms": ["is"]}, "no form 'is'; those of icl are arrow, colon"),
        ("icl", {"forms": ["arrow", "arrow"]}, "forms: 'arrow' is given twice"),
        (
            "icl",
            {"contexts": 100_000, "inputs": 40},
            "contexts = 100000: a prompt set needs at least",
        ),
        ("icl", {"shot": 3}, "PromptSetSettings has no field 'shot'; the nearest is 'shots'"),
        ("icl", {"contexts": 0}, "contexts = 0: should be at least 1"),
        ("icl", {"hold_out": ["task"]}, "hold_out.0 = 'task': should be 'context' or 'input'"),
    ],
)
def test_wrong_settings_are_one_line(
    kind: Kind, changes: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasklens.core.memory.free_memory", lambda: 10**9)
    with pytest.raises(InputError, match=line):
        rows(kind, **changes)
