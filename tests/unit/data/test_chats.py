"""Test prompts that are messages: what they may be, and the text that a template writes of them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasklens.core.errors import InputError
from tasklens.core.parquet import parquet_bytes
from tasklens.data.chats import rendered
from tasklens.data.labelled_prompts import LabelledPrompts, read_prompts, read_table, table_of
from tasklens.data.tokenize import tokenize
from tiny_tokenizers import byte_level

TEMPLATE = "".join(
    (
        "{{ bos_token }}{% for m in messages %}",
        "{% if m.role == 'system' and not loop.first %}",
        "{{ raise_exception('roles must alternate') }}{% endif %}",
        "[{{ m.role }}]{{ m.content }}</s>\n{% endfor %}",
        "{% if add_generation_prompt %}[assistant]\n{% endif %}",
    )
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizer = byte_level()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def chats(*messages: Any, **columns: Any) -> LabelledPrompts:
    """Return messages as prompts of two labels, each twice."""
    n = len(messages)
    rows = {"messages": [*messages] * 4, "label": [label for label in "xxyy" for _ in range(n)]}
    return read_prompts(rows | {name: [*values] * 4 for name, values in columns.items()})


def test_the_template_writes_the_text_as_transformers_does(tokenizer: Any) -> None:
    system = [{"role": "system", "content": "the city"}, *user("red is")]
    table = chats(user("the city is"), system)
    assert table.text[1] == "system: the city\nuser: red is", "no model reads it"
    for prompt in (True, False):
        texts = rendered(table, tokenizer, generation_prompt=prompt).text[:2]
        expected = [
            tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=prompt)
            for each in (user("the city is"), system)
        ]
        assert [*texts] == expected
        tokenized = tokenize(table, tokenizer, "last", generation_prompt=prompt)
        own = tokenizer.apply_chat_template(
            system, tokenize=True, add_generation_prompt=prompt, return_dict=False
        )
        read = tokenized.prompts.ids[1, : tokenized.prompts.position[1] + 1].tolist()
        assert read == own, "no special token is doubled"


def test_positions_are_looked_for_in_what_the_template_writes(tokenizer: Any) -> None:
    table = chats(user("the city is"), user("red is the city"), query=["city", "red"])
    names = {}
    for position in ("query", "header", "last", "header_mean"):
        tokenized = tokenize(table, tokenizer, position)
        rows = tokenized.prompts
        names[position] = [
            "".join(tokenizer.convert_ids_to_tokens(rows.ids[i, begin : end + 1].tolist()))
            for i, (begin, end) in enumerate(zip(tokenized.begin, rows.position, strict=True))
        ][:2]
        assert tokenized.rendered is not None
        assert tokenized.rendered.text[0].endswith("[assistant]\n")
    assert [name.strip("Ġ") for name in names["query"]] == ["city", "red"]
    assert names["header_mean"][0].startswith("[")
    last, header = (tokenize(table, tokenizer, at).prompts for at in ("last", "header"))
    assert (last.position == header.position).all()
    with pytest.raises(InputError, match="'header' is not in the text"):
        tokenize(table, tokenizer, "header", generation_prompt=False)


def test_the_answer_follows_the_header(tokenizer: Any) -> None:
    table = chats(user("the city is"), input=["city"], output=["red"])
    for position in ("input", "header"):
        tokenized = tokenize(table, tokenizer, position)
        assert tokenizer.convert_ids_to_tokens(tokenized.target[0, :1].tolist()) == ["red"]
        assert (tokenized.prompts.answered == tokenized.prompts.last).all()
        written = tokenizer(tokenized.rendered.text[0] + "red")["input_ids"]  # type: ignore[union-attr]
        n = int(tokenized.prompts.answered[0]) + 1
        assert written[-1 - int(written[-1] != tokenized.target[0, 0])] == tokenized.target[0, 0]
        assert n == len(tokenized.prompts.ids[0])


def test_the_date_is_fixed() -> None:
    """In any format, in a macro, too; and the macro before the template adds no space."""
    dated = byte_level()
    dated.chat_template = (
        "  {% macro year() %}{{ strftime_now('%Y') }}{% endmacro %}{{ strftime_now('%d %b %Y') }}, "
        "{{ strftime_now('%A %-d %B %Y, %F') }}, {{ date_string }}, {{ year() }}"
    )
    expected = "26 Jul 2024, Friday 26 July 2024, 2024-07-26, 26 Jul 2024, 2024"
    assert rendered(chats(user("red")), dated).text[0] == expected


def test_messages_are_kept(tokenizer: Any) -> None:
    table = chats(user("the city is"), user("red is"))
    kept = read_table(parquet_bytes(table_of(table)))
    assert kept == table
    assert kept.messages == table.messages
    assert rendered(kept, tokenizer).text == rendered(table, tokenizer).text
    plain = read_prompts({"text": ["a", "b"] * 2, "label": [*"xxyy"]})
    assert read_table(parquet_bytes(table_of(plain))) == plain
    assert rendered(plain, byte_level()) is plain, "a text is read as it is written"


def test_a_named_column_may_be_messages_and_csv_has_them_as_json(tmp_path: Path) -> None:
    rows = [{"chat": user(f"w{i}"), "text": "no", "label": "ab"[i % 2]} for i in range(4)]
    assert read_prompts(rows, text="chat").messages == tuple(row["chat"] for row in rows)
    assert read_prompts(rows).messages is None, "the column text is the usual one"
    file = tmp_path / "prompts.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["messages", "label"])
        writer.writerows([json.dumps(row["chat"]), row["label"]] for row in rows)
    assert read_prompts(file).messages == tuple(row["chat"] for row in rows)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hello", "'messages' is not JSON: "),
        ([], "'messages' = [] is no list of messages: should be a list such as"),
        (None, "'messages' = None is no list of messages"),
        (["hello"], "'messages': message 1 is 'hello': should be a list such as"),
        ([{"content": "a"}], "'messages': message 1 has no role, not a text"),
        ([{"role": "user"}], "'messages': message 1 has no content, not a text"),
        ([{"role": " ", "content": "a"}], "message 1 has the role ' ', not a text"),
        (
            [*user("a"), {"role": "user", "content": [{"type": "text"}]}],
            "message 2 has the content",
        ),
        ([{"role": "user", "content": 7}], "message 1 has the content 7, not a text"),
    ],
)
def test_wrong_messages_are_refused_with_their_line(
    tmp_path: Path, value: Any, message: str
) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"messages": user("a"), "label": "a"}, {"messages": value, "label": "b"}] * 2
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError) as error:
        read_prompts(file)
    assert str(error.value).startswith(f"{file} line 2: "), str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_template_refuses_is_one_line(tokenizer: Any) -> None:
    late = [*user("red"), {"role": "system", "content": "late"}]
    with pytest.raises(InputError) as error:
        tokenize(chats(user("red"), late), tokenizer, "last")
    name = type(tokenizer).__name__
    assert str(error.value) == (
        f"prompt 1: the chat template of {name} refuses the messages: roles must alternate"
    )
    base = byte_level()
    with pytest.raises(InputError, match="has no chat template, which prompts of messages need"):
        tokenize(chats(user("red")), base, "last")
    base.chat_template = " "
    with pytest.raises(InputError, match=r"prompt 0: the chat template .* writes no text"):
        rendered(chats(user("red")), base)
    base.chat_template = "{% for i in range(99999) %}{{ 'a' * 11 }}{% endfor %}"
    with pytest.raises(InputError, match=r"prompt 0: the chat template .* writes 1,099,989 char"):
        rendered(chats(user("red")), base)


def test_texts_and_messages_are_not_mixed() -> None:
    rows = [{"text": "a", "label": "a"}, {"text": user("b"), "label": "b"}] * 2
    with pytest.raises(InputError, match="prompt 1: 'text' should be a text that is not empty"):
        read_prompts(rows)


def test_a_table_is_read_up_to_its_end_whatever_the_length(tokenizer: Any) -> None:
    table = chats(user("red"), user("red is the city"))
    rows = tokenize(table, tokenizer, "last").prompts
    assert (np.diff(rows.position[:2]) > 0).all()
