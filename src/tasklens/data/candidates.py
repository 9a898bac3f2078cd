"""Collect the answers to each labelled prompt under all labels, as tokens after its site."""

from collections.abc import Sequence

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.answer_sites import AnswerSite, tokenize_answers
from tasklens.data.answer_tokens import Ints
from tasklens.data.labelled_prompts import LabelledPrompts
from tasklens.data.prompt_answers import ANSWERS, answers_by_label, given_answers
from tasklens.data.token_rows import Tokenizer


def candidate_tokens(
    table: LabelledPrompts, sites: Sequence[AnswerSite | None], tokenizer: Tokenizer
) -> Ints | None:
    """Return the right answer to each prompt, then the other ones, as tokens, int64 (N, K, L).

    Those are the different answers to the same input under other labels: of the column of answers,
    or the outputs of other prompts. -1 fills an answer up, and stands for one that is not known. A
    prompt whose own answer is not known has none. None if no prompt has one.
    """
    texts = _answers(table)
    wanted = [
        (i, k, site, answer)
        for i, (site, answers) in enumerate(zip(sites, texts, strict=True))
        if site is not None
        for k, answer in enumerate(answers)
    ]
    if not wanted:
        return None
    read = tokenize_answers([each[2] for each in wanted], [each[3] for each in wanted], tokenizer)
    n, longest = max(map(len, texts)), max(map(len, read))
    if not longest:
        return None
    tokens = np.full((len(table), n, longest), -1, dtype=np.int64)
    for (i, k, *_), answer in zip(wanted, read, strict=True):
        tokens[i, k, : len(answer)] = answer
    tokens[tokens[:, 0, 0] < 0] = -1
    return tokens


def _answers(table: LabelledPrompts) -> list[list[str]]:
    """Return the different answers to each prompt, its own first; none if that is not known."""
    by_input: list[dict[str, str]]
    try:
        by_input, _ = answers_by_label(table)
        given = [dict[str, str]() for _ in table.text]
        if ANSWERS in table.columns:
            given = given_answers(table.source, table.columns[ANSWERS], table.label)
    except InputError:  # of which `read_prompts` has warned
        return [[output.strip()] if output else [] for output in table.output or ("",) * len(table)]
    texts = []
    for label, own, every in zip(table.label, given, by_input, strict=True):
        # The column decides, if it has answers under other labels.
        others = own if len(own.keys() - {label}) else every
        answer = every.get(label, "")
        texts.append(list(dict.fromkeys([answer, *others.values()])) if answer else [])
    return texts
