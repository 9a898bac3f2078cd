"""Forms in which a prompt of a prompt set asks for an answer, and how a text is written in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.data.answer_tokens import spaces
from tasklens.data.names import listed

Kind: TypeAlias = Literal["icl", "chat", "plain"]
Messages: TypeAlias = list[dict[str, str]]


@dataclass(frozen=True)
class Form:
    """A way to ask for the answer to an input.

    In the parts, {task} is what the task is called, and {Task} the same with a capital letter.
    """

    before: str
    """What stands before the input."""
    after: str
    """What stands between the input and the separator."""
    separator: str
    """The end of the question, after which the answer follows."""
    between: str = "\n"
    """What stands between two examples."""

    def question(self, phrase: str, x: str) -> tuple[str, dict[str, list[int]]]:
        """Return the text that asks, and the characters of its parts: the first and the end."""
        names = {"task": phrase, "Task": phrase[:1].upper() + phrase[1:]}
        before, after = (part.format_map(names) for part in (self.before, self.after))
        separator = self.separator.format_map(names)
        text = f"{before}{x}{after}{separator}"
        spans = {"query": [len(before), len(before) + len(x)]}
        if separator:
            spans["separator"] = [len(text) - len(separator), len(text)]
        return text, spans


#: The forms of each kind of prompts. A form that names the task does so before the input. So a
#: model that reads the input can know the task.
FORMS: dict[Kind, dict[str, Form]] = {
    "icl": {
        "arrow": Form("", " ", "->"),
        "colon": Form("", "", ":"),
        "equals": Form("", " ", "="),
        "qa": Form("Q: ", "\n", "A:", between="\n\n"),
    },
    "plain": {
        "is": Form("The {task} of ", " ", "is"),
        "quotes": Form('The {task} of "', '" ', "is"),
        "colon": Form("{Task} of ", "", ":"),
        "question": Form("What is the {task} of ", "? ", "It is"),
        "qa": Form("Q: What is the {task} of ", "?\n", "A:", between="\n\n"),
        "order": Form("Write the {task} of ", ".\n", "Answer:", between="\n\n"),
    },
    "chat": {
        "question": Form("What is the {task} of ", "? Reply with the answer only.", ""),
        "quotes": Form('What is the {task} of "', '"? Reply with the answer only.', ""),
        "order": Form("Write the {task} of ", ". Reply with the answer only.", ""),
        "first": Form("Reply with the answer only: the {task} of ", "?", ""),
        "colon": Form("Reply with the answer only. {Task} of ", ":", ""),
        "short": Form("{Task} of ", "?", ""),
    },
}


def find_kind(name: str) -> Kind:
    """Return a kind of prompts by its name; InputError if there is no such kind."""
    for kind in FORMS:
        if kind == name:
            return kind
    raise InputError(f"no prompts of the kind {short(name)}: should be one of {listed(FORMS)}")


def written(
    form: Form, phrase: str, examples: Sequence[tuple[str, str]], x: str
) -> tuple[str, dict[str, list[int]]]:
    """Return a prompt as text, examples before the input, and the characters of its parts."""
    begin = "".join(
        asked + spaces(asked, y, ())[0] + y + form.between
        for asked, y in ((form.question(phrase, other)[0], y) for other, y in examples)
    )
    text, spans = form.question(phrase, x)
    return begin + text, {name: [len(begin) + i for i in span] for name, span in spans.items()}


def as_messages(form: Form, phrase: str, examples: Sequence[tuple[str, str]], x: str) -> Messages:
    """Return a prompt as the messages of a chat, each example a question and an answer."""
    turns = [
        {"role": role, "content": content}
        for other, y in examples
        for role, content in (("user", form.question(phrase, other)[0]), ("assistant", y))
    ]
    return [*turns, {"role": "user", "content": form.question(phrase, x)[0]}]
