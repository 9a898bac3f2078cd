"""Read what should be answered to labelled prompts under other labels than their own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasklens.core.errors import InputError
from tasklens.core.messages import short
from tasklens.core.parse import parse_json
from tasklens.core.text import check_characters
from tasklens.data.cell_values import is_missing, name_of, plain
from tasklens.data.names import listed

if TYPE_CHECKING:
    from tasklens.data.labelled_prompts import LabelledPrompts

#: Column of the answers under other labels.
ANSWERS = "answers"
#: An example of a value, for messages.
_EXAMPLE = '{"plural": "cats", "french": "chat"}'

Texts = dict[str, str]
"""Answers by label."""


def given_answers(
    sources: Sequence[str], values: Sequence[Any], labels: Sequence[str]
) -> list[Texts]:
    """Return the answers in the column `ANSWERS`, by label, of each prompt.

    Parameters
    ----------
    sources : sequence of str
        File and line of each prompt.
    values : sequence
        The cells: an object {label: answer}, or its JSON. A cell may be missing, and so may an
        answer: null.
    labels : sequence of str
        The label of each prompt.

    Raises
    ------
    InputError
        If a cell is no object, or has a label that no prompt has. If an answer is empty, or no
        text, number, boolean or date.
    """
    known = sorted(set(labels))
    return [
        _read(*each, known) if not is_missing(each[1]) else {}
        for each in zip(sources, values, strict=True)
    ]


def _read(source: str, value: Any, known: Sequence[str]) -> Texts:
    cell = f"{source}: {ANSWERS!r}"
    if isinstance(value, str):
        try:
            value = parse_json(value)
            check_characters(value)
        except ValueError as error:
            raise InputError(
                f"{cell} is not JSON: {error}: should be an object of an answer for each label, as "
                f"in {_EXAMPLE}"
            ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"{cell} is of the type {type(value).__name__}: should be an object of an answer for "
            f"each label, as in {_EXAMPLE}"
        )
    answers = {}
    for label, answer in value.items():
        if label not in known:
            raise InputError(
                f"{cell} has the label {short(label)}, which no prompt has; the labels are "
                f"{listed(known)}"
            )
        if (answer := plain(answer)) is None:
            continue
        if is_missing(answer):
            raise InputError(
                f"{cell} has an empty answer for {short(label)}: should be a text, or null if it "
                "is not known"
            )
        answers[label] = name_of(f"{ANSWERS}.{label}", source, answer).strip()
    return answers


def answers_by_label(table: "LabelledPrompts") -> tuple[list[Texts], tuple[str, ...]]:
    """Return all that is known of the right answers to each prompt, by label, its own included.

    An answer is that of the column `ANSWERS`. Otherwise, if there is a column of inputs, it is the
    output of the prompts that have this label and the same input. If there are families, answers
    are those under the labels of the prompt's own family. The second part is what was left out, in
    sentences.

    Raises
    ------
    InputError
        As `given_answers`. If a prompt has another answer under its own label than its output.
    """
    given = [Texts() for _ in table.text]
    if ANSWERS in table.columns:
        given = given_answers(table.source, table.columns[ANSWERS], table.label)
    families = table.family or [""] * len(table)
    family_of = dict(zip(table.label, families, strict=True))
    given = [
        {label: answer for label, answer in answers.items() if family_of[label] == family}
        for answers, family in zip(given, families, strict=True)
    ]
    outputs = [None] * len(table) if table.output is None else [y.strip() for y in table.output]
    for source, label, output, answers in zip(
        table.source, table.label, outputs, given, strict=True
    ):
        if output is not None and answers.setdefault(label, output) != output:
            raise InputError(
                f"{source}: {ANSWERS!r} has {short(answers[label])} for the prompt's own label "
                f"{short(label)}, but its output is {short(output)}: should be the same"
            )
    if table.input is None:
        return given, ()
    functions: dict[tuple[str, str], dict[str, set[str]]] = {}  # by family and input, and label
    inputs = [*zip(families, table.input, strict=True)]
    for x, label, answers in zip(inputs, table.label, given, strict=True):
        if label in answers:
            functions.setdefault(x, {}).setdefault(label, set()).add(answers[label])
    every = [
        {label: min(ys) for label, ys in functions.get(x, {}).items() if len(ys) == 1} | answers
        for x, answers in zip(inputs, given, strict=True)
    ]
    unclear = [(x, label) for x, ys in functions.items() for label, y in ys.items() if len(y) > 1]
    if not unclear:
        return every, ()
    ((_, word), label), *_ = unclear
    return every, (
        f"inputs have several outputs under a label {len(unclear):,} times, first {short(word)} "
        f"under {short(label)}: these are no answers to prompts of other labels",
    )
