"""Make the counterfactual answers of a split of labelled prompts."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tasklens.core.errors import InputError
from tasklens.core.seeds import stream
from tasklens.data.answer_sites import AnswerSite, Tokens, answer_site, tokenize_answers
from tasklens.data.counterfactuals import (
    Bools,
    Counterfactuals,
    Fold,
    need_two_tasks,
    pair_notes,
    pairs_of,
    prompts_with_pairs,
    two_folds,
)
from tasklens.data.edited_prompts import EditedPrompts, Ints
from tasklens.data.labelled_prompts import LabelledPrompts, codes
from tasklens.data.prompt_answers import Texts, answers_by_label
from tasklens.data.special_tokens import SpecialTokens, read_texts
from tasklens.data.token_rows import Tokenizer

#: The tokens of an answer that count.
AnswerTokens: TypeAlias = Literal["auto", "first", "all"]
#: Most prompts whose answers are tokenized together.
BLOCK = 1000
_REMEDY = (
    "; give a column 'answers' with objects {label: answer}, or a column 'input' whose values "
    "several labels share, with a column 'output'"
)


@dataclass(frozen=True)
class _Part:
    """The m prompts of a split, as they are read up to their answers and edited."""

    texts: list[Texts]
    """What is known of the right answers to each, by label."""
    labels: list[str]
    inputs: tuple[str, ...] | None
    ids: list[list[int]]
    sites: list[AnswerSite | None]
    begin: Ints
    end: Ints

    @property
    def read(self) -> Ints:
        """Index of the last token that is read of each, (m,); -1 if it is not known."""
        return np.array([-1 if site is None else site.read for site in self.sites], dtype=np.int64)

    def edited(self, index: Ints) -> EditedPrompts:
        """Return some of the prompts."""
        read = self.read[index]
        ids = np.zeros((len(index), int(read.max(initial=0)) + 1), dtype=np.int64)
        for row, i, last in zip(ids, index, read, strict=True):
            row[: last + 1] = self.ids[i][: last + 1]
        return EditedPrompts(ids, read, self.begin[index], self.end[index])


def counterfactuals_of_prompts(
    table: LabelledPrompts,
    tokenizer: Tokenizer,
    split: str,
    position: str,
    span: tuple[Ints, Ints],
    n: int = 200,
    *,
    special_tokens: SpecialTokens = "auto",
    answers: AnswerTokens = "auto",
    seed: int = 0,
) -> Counterfactuals:
    """Return prompts of a split with what is known of their answers under each label.

    Labels are those of the first split, from which centroids are computed. If the first split is
    edited itself, there are two folds, each edited by the centroids of the other. A donor is a
    prompt of the same split with the same input, whose output is the answer under its label. If
    there are families, all of this is within each; they take turns in the choice of prompts.

    Parameters
    ----------
    span : int64 (N,), int64 (N,)
        Index of the first and of the last token that is edited in each prompt of the table.
    n : int
        Most prompts, drawn at random among those with another answer that is known.
    special_tokens
        As in `ModelStateSettings`.
    answers
        As in `InterventionSettings`.
    seed : int
        Root seed of the run.

    Raises
    ------
    InputError
        If there is a single label, or no prompt with another answer under another label. If the
        column of answers is wrong, see `answers_by_label`. If the position is behind the token
        that is read before the answer in each prompt. If the tokenizer gives no character offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} is not a fast tokenizer: it gives no character offsets to "
            "find the tokens of answers with"
        )
    first, rows = next(iter(table.splits)), table.splits[split]
    number, unit = np.array(codes(table.label)), table.unit_numbers  # (N,), (N,) or (N, 2)
    tasks, at = np.unique(number[table.splits[first]], return_index=True)  # (T,)
    family = np.array(codes(table.family or [""] * len(table)))  # (N,)
    family_of_task = family[table.splits[first]][at]
    need_two_tasks(first, len(tasks))
    names = sorted(set(table.label))
    labels = [names[task] for task in tasks]
    texts, notes = answers_by_label(table)
    part = _part(table, tokenizer, texts, rows, span, special_tokens)
    own, more = _own_columns(split, position, part, labels)
    notes += more
    group = np.array(codes(table.units[0] if table.input is None else table.input))
    fold = None
    if split == first:
        fold = two_folds(number[rows], group[rows], stream(seed, "folds", split))
        notes += (
            f"{split}: centroids are computed from this split, too, so that each half of its "
            f"{'inputs' if table.input else 'units'} is edited by the centroids of the other half",
        )
    known, in_words = _number_answers(part.texts, labels)  # (m, T)
    known[~_have_centroids(number[rows], tasks, fold)] = -1
    known[own < 0] = -1
    pairs = pairs_of(known, own, np.arange(len(in_words))[:, None])
    usable, more = prompts_with_pairs(split, pairs, _REMEDY)
    notes += more
    order = stream(seed, "intervened instances", split).permutation(usable)
    order = order[_in_turns(family[rows][order])]
    index, in_tokens, tokens = _answers_in_tokens(part, order, known, own, in_words, n, tokenizer)
    if not len(index):
        raise InputError(
            f"split {split}: under no other label does an answer begin with another token than the "
            f"prompt's own{_REMEDY}"
        )
    notes += pair_notes(split, in_tokens, own[index], tokens, family_of_task)
    known[index] = np.where(in_tokens < 0, -1, known[index])
    donors, donor = _donors(part, index, known, own, labels, stream(seed, "donors", split))
    if answers == "first" or (answers == "auto" and first_tokens_differ(in_tokens, tokens)):
        in_tokens, tokens = with_first_tokens(in_tokens, tokens)
    if not len(donors):
        notes += (
            f"{split}: no prompt of another label has the same input, so that there is no full "
            "patch, the ceiling of effects",
        )
    return Counterfactuals(
        split=split,
        position=position,
        prompts=part.edited(index),
        index=index,
        tasks=tasks,
        own=own[index],
        task=tasks[own[index]],
        unit=unit[rows][index],
        answers=in_tokens,
        tokens=tokens,
        donors=part.edited(donors),
        donor=donor,
        donor_index=donors,
        folds=_folds(family[table.splits[first]], family[rows][index], fold, index),
        family=family_of_task,
        notes=notes,
    )


def _part(
    table: LabelledPrompts,
    tokenizer: Tokenizer,
    texts: list[Texts],
    rows: slice,
    span: tuple[Ints, Ints],
    special_tokens: SpecialTokens,
) -> _Part:
    read = read_texts(tokenizer, table.text, special_tokens, table.source)
    eos: str = getattr(tokenizer, "eos_token", None) or ""
    known = [(i, texts[i].get(table.label[i])) for i in range(rows.start, rows.stop)]
    return _Part(
        texts[rows],
        list(table.label[rows]),
        None if table.input is None else table.input[rows],
        read.ids[rows],
        [None if own is None else answer_site(table, i, own, read, eos) for i, own in known],
        span[0][rows],
        span[1][rows],
    )


def _own_columns(
    split: str, position: str, part: _Part, labels: list[str]
) -> tuple[Ints, tuple[str, ...]]:
    """Return the column of each prompt's label, (m,), and why some are -1, in sentences."""
    column = {label: column for column, label in enumerate(labels)}
    own = np.array([column.get(label, -1) for label in part.labels])
    unknown = np.array(
        [label not in texts for label, texts in zip(part.labels, part.texts, strict=True)]
    )
    merged = ~unknown & (part.read < 0)
    late = ~unknown & ~merged & (part.end > part.read)
    if late.any() and not (~unknown & ~merged & ~late).any():
        raise InputError(
            f"split {split}: the position {position!r} is behind the token after which the answer "
            "follows, in all prompts: should be before it, or on it"
        )
    reasons = {
        "have a label that the first split has not": own < 0,
        "have no output": unknown,
        "have a token with parts of both the prompt and the answer": merged,
        f"have the position {position!r} behind the beginning of the answer": late,
    }
    own[unknown | merged | late] = -1
    notes = (
        f"{split}: {each.sum():,} of {len(own):,} prompts are left out, as they {reason}"
        for reason, each in reasons.items()
        if each.any()
    )
    return own, tuple(notes)


def _number_answers(texts: list[Texts], labels: list[str]) -> tuple[Ints, list[str]]:
    """Return each answer as a number, (m, T), -1 if it is not known; and the distinct answers."""
    in_words = sorted({answer for each in texts for answer in each.values()})
    number = {answer: k for k, answer in enumerate(in_words)}
    rows = [[number.get(each.get(label, ""), -1) for label in labels] for each in texts]
    return np.array(rows, dtype=np.int64), in_words


def _have_centroids(task: Ints, tasks: Ints, fold: Ints | None) -> Bools:
    """Return whether a prompt is edited by centroids with that of each task, bool (m, T)."""
    if fold is None:
        return np.ones((len(task), len(tasks)), dtype=np.bool_)
    each = np.stack([np.isin(tasks, task[fold != k]) for k in (0, 1)])  # (2, T)
    return each[fold]


def _in_turns(family: Ints) -> Ints:
    """Return the order of prompts, (n,), in which the families take turns as long as they can."""
    turn = np.zeros(len(family), dtype=np.int64)
    for number in np.unique(family):
        turn[family == number] = np.arange(np.count_nonzero(family == number))
    return np.argsort(turn, kind="stable")


def _folds(first: Ints, family: Ints, fold: Ints | None, index: Ints) -> tuple[Fold, ...]:
    """Return the folds of the chosen prompts, each of one family.

    ``first`` and ``family`` are the families of the first split and of the chosen prompts.
    """
    folds = []
    for number in np.unique(first):
        for k in (0,) if fold is None else (0, 1):
            fit = (first == number) & (True if fold is None else fold != k)
            edited = (family == number) & (True if fold is None else fold[index] == k)
            folds.append(Fold(np.flatnonzero(fit), np.flatnonzero(edited)))
    return tuple(one for one in folds if len(one.edited))


def _answers_in_tokens(
    part: _Part,
    order: Ints,
    answers: Ints,
    own: Ints,
    in_words: list[str],
    n: int,
    tokenizer: Tokenizer,
) -> tuple[Ints, Ints, Ints]:
    """Return the first n prompts of an order whose tokens make a pair, and their answers as tokens.

    These are their rows, ascending, (n,); the index of each answer's tokens, (n, T); and the
    tokens, (K, L).
    """
    number: dict[Tokens, int] = {}
    in_tokens = np.full(answers.shape, -1)
    index = order[:0]
    size = min(n, BLOCK)
    for begin in range(0, len(order), size):
        wanted = [
            (i, column)
            for i in order[begin : begin + size].tolist()
            for column in np.flatnonzero(answers[i] >= 0).tolist()
        ]
        sites = [site for i, _ in wanted if (site := part.sites[i])]
        texts = [in_words[answers[each]] for each in wanted]
        for each, read in zip(wanted, tokenize_answers(sites, texts, tokenizer), strict=True):
            if read:
                in_tokens[each] = number.setdefault(read, len(number))
        pairs = pairs_of(in_tokens, own, _padded([*number]))
        index = np.sort(order[pairs[order].any(axis=1)][:n])
        if len(index) == n:
            break
    used = np.unique(in_tokens[index][in_tokens[index] >= 0])
    tokens = _padded([[*number][k] for k in used])
    return index, np.where(in_tokens < 0, -1, np.searchsorted(used, in_tokens))[index], tokens


def first_tokens_differ(answers: Ints, tokens: Ints) -> bool:
    """Return whether the different answers to each prompt, (N, T), begin with different tokens.

    Answers are indices of token sequences, (K, L); -1: not known.
    """
    first = np.where(answers < 0, -1, tokens[:, 0][answers])
    return all(
        len(np.unique(known)) == len(np.unique(begins))
        for known, begins in zip(answers, first, strict=True)
    )


def with_first_tokens(answers: Ints, tokens: Ints) -> tuple[Ints, Ints]:
    """Return answers and tokens as those of `first_tokens_differ`, cut to one token each."""
    first, number = np.unique(tokens[:, 0], return_inverse=True)
    return np.where(answers < 0, -1, number.reshape(-1)[answers]), first[:, None]


def _padded(rows: list[Tokens]) -> Ints:
    """Return token sequences as an array, (K, L), with -1 after the end of each."""
    array = np.full((len(rows), max(map(len, rows), default=1)), -1)
    for row, tokens in zip(array, rows, strict=True):
        row[: len(tokens)] = tokens
    return array


def _donors(
    part: _Part,
    index: Ints,
    answers: Ints,
    own: Ints,
    labels: list[str],
    rng: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Draw a prompt with each other label, the same input and the right output.

    Return the rows of the distinct donors, and the index among them, (n, T); -1: none.
    """
    drawn = rng.random((len(index), len(labels)))
    rows = np.full(drawn.shape, -1)
    if part.inputs is not None:
        pool: dict[tuple[str, int, int], list[int]] = {}
        for i in np.flatnonzero(own >= 0).tolist():
            pool.setdefault((part.inputs[i], own[i], answers[i, own[i]]), []).append(i)
        for i, row in enumerate(index.tolist()):
            for column in np.flatnonzero(answers[row] >= 0).tolist():
                fitting = pool.get((part.inputs[row], column, answers[row, column]), [])
                if fitting and column != own[row]:
                    rows[i, column] = fitting[int(drawn[i, column] * len(fitting))]
    kept = np.unique(rows[rows >= 0])
    return kept, np.where(rows >= 0, np.searchsorted(kept, rows), -1)
