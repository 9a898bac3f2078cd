"""Check prompts that are messages of a chat, and write them as text by a tokenizer's template.

A template comes with a model. transformers runs it in a sandbox of Jinja, which gives it no files
and no code of Python's.
"""

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tasklens.core.errors import InputError, first_line
from tasklens.core.messages import short
from tasklens.core.parse import parse_json
from tasklens.core.text import check_characters
from tasklens.data.token_rows import Tokenizer

if TYPE_CHECKING:
    from tasklens.data.labelled_prompts import LabelledPrompts

Messages: TypeAlias = list[dict[str, str]]

#: Usual name of a column of messages.
MESSAGES = "messages"
#: Position of the last token that a template writes after the last message.
HEADER = "header"
#: The date that templates are given as today's, which is the one that Llama 3.1 states itself.
TODAY = datetime.date(2024, 7, 26)
#: The parts of a date's format, of which `_FIXED` has the values.
_PARTS = ("%-d", "%-m", *(f"%{letter}" for letter in "aAwdbBmyYHIpMSfjUWcxXFDTeGuV"))
#: A macro of templates' name for today's date. transformers passes templates no functions.
_FIXED = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('{part}', '{TODAY.strftime(part)}')" for part in _PARTS)
    + " }}{% endmacro %}\n"
)
#: Most characters that a template may write of a prompt, beside the messages.
MOST = 1_000_000
_RIGHT = 'should be a list such as [{"role": "user", "content": "Hello"}]'


def read_messages(source: str, column: str, value: Any) -> Messages:
    """Return a cell of messages; InputError if it is no list of texts with a role and a content.

    The cell may be JSON, since CSV has no lists.
    """
    cell = f"{source}: {short(column)}"
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            raise InputError(f"{cell} is not JSON: {error}: {_RIGHT}") from error
    if not isinstance(value, list) or not value:
        raise InputError(f"{cell} = {short(value)} is no list of messages: {_RIGHT}")
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise InputError(f"{cell}: message {number} is {short(message)}: {_RIGHT}")
        for key in ("role", "content"):
            text = message.get(key)
            if not isinstance(text, str) or (key == "role" and not text.strip()):
                given = f"the {key} {short(text)}" if text is not None else f"no {key}"
                raise InputError(f"{cell}: message {number} has {given}, not a text: {_RIGHT}")
    try:
        check_characters(value)
    except ValueError as error:
        raise InputError(f"{cell}: {error}") from error
    return [{key: str(text) for key, text in each.items() if text is not None} for each in value]


def transcript(messages: Messages) -> str:
    """Return messages as a plain text, which no model reads."""
    return "\n".join(f"{each['role']}: {each['content']}" for each in messages)


def rendered(
    table: "LabelledPrompts", tokenizer: Tokenizer, *, generation_prompt: bool = True
) -> "LabelledPrompts":
    """Return prompts with the text that the tokenizer's template writes of their messages.

    Prompts that have a text are returned as they are. With a generation prompt there is a column
    `HEADER` of its characters, unless the prompts have one.

    Raises
    ------
    InputError
        If the tokenizer has no template, or the template refuses the messages of a prompt.
    """
    if table.messages is None or table.is_rendered:
        return table
    texts, headers = [], []
    for source, messages in zip(table.source, table.messages, strict=True):
        plain = render(tokenizer, messages, source, generation_prompt=False)
        text = render(tokenizer, messages, source) if generation_prompt else plain
        texts.append(text)
        headers.append(
            [len(plain), len(text)] if text.startswith(plain) and text != plain else None
        )
    columns = dict(table.columns)
    if None not in headers:
        columns.setdefault(HEADER, tuple(headers))
    return replace(table, text=tuple(texts), columns=columns, is_rendered=True)


def render(
    tokenizer: Tokenizer, messages: Messages, source: str, *, generation_prompt: bool = True
) -> str:
    """Return the text that a tokenizer's template writes of messages; InputError if it does not.

    ``generation_prompt``: whether the beginning of the assistant's answer is written, too.
    """
    name = type(tokenizer).__name__
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{name} has no chat template, which prompts of messages need: give a model that is "
            "tuned to chat, or prompts with a text"
        )
    try:
        template = tokenizer.get_chat_template()
        text: str = tokenizer.apply_chat_template(
            messages,
            chat_template=_FIXED + template if "strftime_now" in template else template,
            tokenize=False,
            add_generation_prompt=generation_prompt,
            date_string=TODAY.strftime("%d %b %Y"),
        )
    except Exception as error:  # the template's own, which may raise anything
        raise InputError(
            f"{source}: the chat template of {name} refuses the messages: {first_line(error)}"
        ) from error
    if not text.strip():
        raise InputError(f"{source}: the chat template of {name} writes no text of the messages")
    if len(text) > MOST + sum(len(each["content"]) for each in messages):
        raise InputError(
            f"{source}: the chat template of {name} writes {len(text):,} characters: should be at "
            f"most {MOST:,} more than the messages have"
        )
    return text
