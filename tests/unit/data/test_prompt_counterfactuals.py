"""Test the counterfactual answers of labelled prompts against tables made by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.stock import SPECIAL, word_level_tokenizer
from tasklens.core.errors import InputError
from tasklens.data.counterfactuals import Counterfactuals
from tasklens.data.labelled_prompts import LabelledPrompts, PromptSettings, codes, read_prompts
from tasklens.data.prompt_counterfactuals import AnswerTokens, counterfactuals_of_prompts
from tasklens.data.tokenize import tokenize

VOCABULARY = (*"abcdpqrswxyz", "big", "very", "of", "is", "a1", "a2", "b1", "b2", "c1", "c2")
TOKENIZER = word_level_tokenizer((*SPECIAL, *VOCABULARY))


def table(rows: list[tuple[str, str, str, str]], **settings: Any) -> LabelledPrompts:
    """Return prompts of label, input, output and text."""
    names = ("label", "input", "output", "text")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return read_prompts(
        {name: values for name, values in columns.items() if any(values)}, **settings
    )


def ask(
    prompts: LabelledPrompts,
    split: str = "all",
    n: int = 99,
    seed: int = 0,
    position: str = "",
    answers: AnswerTokens = "auto",
) -> Counterfactuals:
    read = tokenize(prompts, TOKENIZER, position).prompts
    begin = read.position if read.begin is None else read.begin
    span = begin, read.position
    return counterfactuals_of_prompts(
        prompts, TOKENIZER, split, position or "input", span, n, answers=answers, seed=seed
    )


def answers_of(moved: Counterfactuals) -> list[list[str]]:
    """Return each answer in words, "" if it is not known."""
    names = [
        " ".join(TOKENIZER.convert_ids_to_tokens([token for token in row if token >= 0]))
        for row in moved.tokens.tolist()
    ]
    return [["" if k < 0 else names[k] for k in row] for row in moved.answers.tolist()]


def read_text(moved: Any, i: int) -> str:
    """Return what is read of a prompt, with the edited tokens in brackets."""
    names = TOKENIZER.convert_ids_to_tokens(moved.ids[i, : moved.read[i] + 1].tolist())
    names[moved.begin[i]] = f"[{names[moved.begin[i]]}"
    names[moved.end[i]] += "]"
    return " ".join(names)


#: Three labels; a and b share all inputs, c has x alone, and only c has z.
ROWS = [
    ("a", "x", "p", "big a x is p"),
    ("a", "y", "q", "big a y is q"),
    ("a", "x", "p", "very big a x is p"),
    ("b", "x", "q", "big b x is q"),
    ("b", "y", "q r", "big b y is q r"),
    ("b", "w", "s", "big b w is s"),
    ("c", "x", "r", "big c x is r"),
    ("c", "z", "r", "big c z is r"),
    ("c", "z", "s", "very c z is s"),
]


def test_answers_are_derived_and_donors_have_the_same_input() -> None:
    moved = ask(table(ROWS))
    # y is answered by q and q r, which begin alike; w and z are of one label each
    assert moved.index.tolist() == [0, 2, 3, 6]
    assert moved.tasks.tolist() == [0, 1, 2]
    assert moved.own.tolist() == [0, 0, 1, 2]
    assert answers_of(moved) == [["p", "q", "r"]] * 4
    assert [read_text(moved.prompts, i) for i in range(4)] == [
        "<s> big a [x] is",
        "<s> very big a [x] is",
        "<s> big b [x] is",
        "<s> big c [x] is",
    ]
    donors = [
        ["" if m < 0 else read_text(moved.donors, m) for m in row] for row in moved.donor.tolist()
    ]
    mine = {"<s> big a [x] is", "<s> very big a [x] is"}
    assert [row[1:] for row in donors[:2]] == [["<s> big b [x] is", "<s> big c [x] is"]] * 2
    assert [row[0] for row in donors[:2]] == ["", ""]
    assert {donors[2][0], donors[3][0]} <= mine
    assert (donors[2][1], donors[3][2]) == ("", "")
    assert moved.notes[0] == (
        "inputs have several outputs under a label 1 times, first 'z' under 'c': these are no "
        "answers to prompts of other labels"
    )


def test_all_donors_that_fit_are_drawn() -> None:
    prompts = table(ROWS)
    drawn = set()
    for seed in range(20):
        moved = ask(prompts, seed=seed)
        i = moved.own.tolist().index(1)
        drawn.add(read_text(moved.donors, moved.donor[i, 0]))
    assert drawn == {"<s> big a [x] is", "<s> very big a [x] is"}


def test_a_donor_has_the_answer_that_the_prompt_should_be_moved_to() -> None:
    rows = [*ROWS, ("a", "x", "s", "very a x is s"), ("a", "x", "s", "very very a x is s")]
    answers: list[Any] = [None] * len(rows)
    answers[3] = {"a": "s"}  # the label a has two outputs for x
    names = ("label", "input", "output", "text")
    columns: dict[str, Any] = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    for seed in range(9):
        moved = ask(read_prompts(columns | {"answers": answers}), seed=seed)
        i = moved.index.tolist().index(3)
        assert answers_of(moved)[i][0] == "s"
        assert read_text(moved.donors, moved.donor[i, 0]).startswith("<s> very")


def test_answers_of_several_tokens_are_whole_sequences() -> None:
    rows = [
        ("a", "x", "p q r", "a x"),
        ("a", "y", "q", "a y"),
        ("b", "x", "r s", "b x"),
        ("b", "y", "p", "b y"),
    ]
    moved = ask(table(rows), answers="all")
    assert answers_of(moved) == [["p q r", "r s"], ["q", "p"]] * 2
    assert moved.tokens.shape == (4, 3)
    by_length = sorted((row >= 0).sum() for row in moved.tokens)
    assert by_length == [1, 1, 2, 3]
    assert [read_text(moved.prompts, i) for i in (0, 3)] == ["<s> a [x]", "<s> b [y]"]


def test_first_tokens_count_if_they_tell_the_answers_to_each_prompt_apart() -> None:
    rows = [
        ("a", "x", "p q r", "a x"),
        ("a", "y", "p s", "a y"),
        ("b", "x", "r s", "b x"),
        ("b", "y", "q", "b y"),
    ]
    cut = [["p", "r"], ["p", "q"]] * 2
    for answers in ("auto", "first"):
        moved = ask(table(rows), answers=answers)
        assert answers_of(moved) == cut
        assert moved.tokens.shape == (3, 1)
    # Another label whose answer begins as that of a does.
    rows += [("c", "x", "p r", "c x"), ("c", "y", "r", "c y")]
    assert answers_of(ask(table(rows)))[0] == ["p q r", "r s", "p r"]
    moved = ask(table(rows), answers="first")
    assert answers_of(moved)[0] == ["p", "r", "p"]
    # The answer would not show the move.
    assert not moved.pairs[0, 2]
    assert not moved.pairs[4, 0]


@pytest.mark.parametrize(
    ("at", "over", "edited"),
    [
        ("input", "last", "<s> big b [x] is"),
        ("big b", "last", "<s> big [b] x is"),
        ("big b", "mean", "<s> [big b] x is"),
        ("is", "last", "<s> big b x [is]"),
        ("0", "last", "[<s>] big b x is"),
    ],
)
def test_a_position_is_edited_and_the_answer_is_read_later(at: str, over: str, edited: str) -> None:
    rows = [(label, x, y, f"big b {x} is {y}") for label, x, y, _ in ROWS]
    moved = ask(table(rows), position=f"{at}_{over}" if at else "")
    assert read_text(moved.prompts, moved.index.tolist().index(3)) == edited


def test_prompts_with_the_position_behind_the_answer_are_left_out() -> None:
    names = ("label", "input", "output", "text")
    columns: dict[str, Any] = {name: [row[i] for row in ROWS] for i, name in enumerate(names)}
    prompts = read_prompts(columns | {"part": ["big", *["is"] * 2, "q", *["is"] * 5]})
    moved = ask(prompts, position="part")
    assert moved.index.tolist() == [0, 2, 6]
    assert moved.prompts.end.tolist() == [1, 5, 4]
    assert moved.notes[1] == (
        "all: 1 of 9 prompts are left out, as they have the position 'part' behind the beginning "
        "of the answer"
    )
    with pytest.raises(InputError, match="is behind the token after which the answer follows, in"):
        ask(prompts, position="last")


def test_one_split_has_two_folds_over_its_inputs() -> None:
    rows = [
        (label, x, f"{label}{k}", f"{how} {label} {x} is {label}{k}")
        for label in "ab"
        for k, x in enumerate("wxyz", 1)
        for how in ("big", "very")
        if k <= 2
    ]
    prompts = table(rows)
    moved = ask(prompts)
    assert moved.index.tolist() == list(range(len(rows)))
    assert len(moved.folds) == 2
    assert prompts.input is not None
    of_fold = [{prompts.input[i] for i in fold.fit} for fold in moved.folds]
    assert of_fold[0] | of_fold[1] == {"w", "x"}
    assert not of_fold[0] & of_fold[1]
    for fold in moved.folds:
        edited = moved.index[fold.edited]
        assert not {prompts.input[i] for i in edited} & {prompts.input[i] for i in fold.fit}
        assert {prompts.label[i] for i in fold.fit} == {"a", "b"}
    every = np.concatenate([fold.edited for fold in moved.folds])
    assert sorted(every.tolist()) == list(range(len(rows)))
    assert any(
        "each half of its inputs is edited by the centroids of the other" in note
        for note in moved.notes
    )


def test_a_label_without_centroid_in_a_fold_is_no_target_there() -> None:
    rows = [*ROWS[:6], ("c", "x", "r", "big c x is r"), ("c", "x", "r", "very c x is r")]
    moved = ask(table(rows))
    fold = next(fold for fold in moved.folds if not {6, 7} & set(fold.fit.tolist()))
    assert 3 in moved.index[fold.edited]  # b of x, which can be moved to a, but not to c
    assert not moved.pairs[fold.edited][:, 2].any()
    assert not {6, 7} & set(moved.index)


def test_centroids_are_of_the_kept_split() -> None:
    rows = [
        (label, x, f"{label}{1 + (x in 'yz')}", f"{label} {x} is") for label in "ab" for x in "wxyz"
    ] * 3
    prompts = table(rows, hold_out=["input"], hold_out_share=0.5)
    split = "held_out_input"
    moved = ask(prompts, split)
    (fold,) = moved.folds
    assert fold.fit.tolist() == list(range(prompts.splits["kept"].stop))
    part = prompts.splits[split]
    assert (moved.tasks[moved.own] == np.array(codes(prompts.label))[part][moved.index]).all()
    assert (moved.unit == prompts.unit_numbers[part][moved.index]).all()
    # an input may be held out of one label alone: its answer is known, but there is no donor
    assert prompts.input is not None
    held = set(zip(prompts.label[part], prompts.input[part], strict=True))
    for i, row in enumerate(moved.index):
        x = prompts.input[part][row]
        for column, label in enumerate("ab"):
            expected = (label, x) in held and column != moved.own[i]
            assert (moved.donor[i, column] >= 0) == expected
    assert len(ask(prompts, "kept").folds) == 2


def test_labels_that_the_first_split_lacks_are_left_out(tmp_path: Path) -> None:
    files = {"first": "ab", "second": "abc"}
    for name, labels in files.items():
        rows = [
            {"label": a, "input": x, "output": f"{a}{1 + (x == 'y')}", "text": f"{a} {x} is"}
            for a in labels
            for x in "xyx"
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = PromptSettings(files=tuple(str(tmp_path / f"{name}.jsonl") for name in files))
    moved = ask(read_prompts(settings), "second")
    assert moved.tasks.tolist() == [0, 1]
    assert moved.index.tolist() == list(range(6))
    assert moved.notes[0] == (
        "second: 3 of 9 prompts are left out, as they have a label that the first split has not"
    )


def test_without_inputs_there_is_no_ceiling() -> None:
    columns = {
        "text": ["a x is", "a y is", "b x is", "b y is"] * 2,
        "label": [*"aabb"] * 2,
        "output": [*"pqqr"] * 2,
        "answers": [{"b": "q"}, {"b": "r"}, {"a": "p"}, {}] * 2,
    }
    moved = ask(read_prompts(columns), position="last")
    assert moved.index.tolist() == [0, 1, 2, 4, 5, 6]
    assert (moved.donor == -1).all()
    assert len(moved.donors) == 0
    assert any("no full patch, the ceiling of effects" in note for note in moved.notes)
    assert any("each half of its units is edited" in note for note in moved.notes)
    for fold in moved.folds:
        assert not set(moved.unit[fold.edited]) & set(read_prompts(columns).unit_numbers[fold.fit])


def test_at_most_n_prompts_are_drawn_by_the_seed() -> None:
    prompts = table([*ROWS, *[(a, x, y, f"very {text}") for a, x, y, text in ROWS]])
    first, again = ask(prompts, n=4, seed=1), ask(prompts, n=4, seed=1)
    assert len(first.prompts) == 4
    assert first.index.tolist() == again.index.tolist()
    assert first.donor.tolist() == again.donor.tolist()
    assert len({tuple(ask(prompts, n=4, seed=seed).index) for seed in range(9)}) > 4


def test_prompts_that_only_tokens_rule_out_are_replaced_by_others() -> None:
    """The input y has answers that begin alike: half of the prompts that are drawn first."""
    rows = [(a, x, y, f"{how} {text}") for a, x, y, text in ROWS[:6] for how in ("big", "very")]
    prompts = table(rows)
    assert prompts.input is not None
    for seed in range(9):
        moved = ask(prompts, n=5, seed=seed)
        assert [prompts.input[i] for i in moved.index] == ["x"] * 5
        assert moved.tokens.shape == (2, 1)  # without those of y


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "", "p", "a"), ("a", "", "q", "a a"), ("b", "", "r", "b"), ("b", "", "r", "b b")],
        [
            ("a", "x", "p", "a x"),
            ("a", "y", "q", "a y"),
            ("b", "w", "r", "b w"),
            ("b", "z", "r", "b z"),
        ],
        [
            ("a", "x", "p", "a x"),
            ("a", "y", "q", "a y"),
            ("b", "x", "p", "b x"),
            ("b", "y", "q", "b y"),
        ],
        [
            ("a", "x", "", "a x"),
            ("a", "y", "", "a y"),
            ("b", "x", "", "b x"),
            ("b", "y", "", "b y"),
        ],
    ],
    ids=["no inputs", "inputs that are not shared", "the same answers", "no outputs"],
)
def test_prompts_without_a_counterfactual_are_refused_in_one_line(
    rows: list[tuple[str, str, str, str]],
) -> None:
    with pytest.raises(InputError) as error:
        ask(table(rows), position="last")
    assert str(error.value) == (
        "split all: no prompt has a right answer that differs from that under another task; give a "
        "column 'answers' with objects {label: answer}, or a column 'input' whose values several "
        "labels share, with a column 'output'"
    )


def test_answers_that_all_begin_alike_are_refused_in_one_line() -> None:
    rows = [("a", "x", "p q", "a x"), ("a", "y", "p q", "a y"), ("b", "x", "p r", "b x")]
    with pytest.raises(InputError, match=r"^split all: under no other label does an answer begin"):
        ask(table([*rows, ("b", "y", "p s", "b y")]))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    zeros = np.zeros(len(ROWS), dtype=np.int64)
    with pytest.raises(InputError, match=r"^Slow is not a fast tokenizer"):
        counterfactuals_of_prompts(table(ROWS), Slow(), "all", "last", (zeros, zeros))


def test_answers_donors_and_folds_are_those_of_the_own_family() -> None:
    outputs = {"a": "p", "b": "q", "c": "r", "d": "s"}
    rows = [(label, x) for label in outputs for x in "xy" for _ in range(2)]
    columns: dict[str, Any] = {
        "label": [label for label, _ in rows],
        "input": [x for _, x in rows],
        "output": [outputs[label] for label, _ in rows],
        "text": [f"big {label} {x}" for label, x in rows],
        "family": ["one" if label in "ab" else "two" for label, _ in rows],
    }
    moved = ask(read_prompts(columns))
    family = moved.family[moved.own]
    assert moved.family.tolist() == [0, 0, 1, 1]
    assert answers_of(moved)[0] == ["p", "q", "", ""]
    assert answers_of(moved)[-1] == ["", "", "r", "s"]
    assert ((moved.answers >= 0) == (moved.family == family[:, None])).all()
    assert ((moved.donor >= 0).sum(axis=1) == 1).all(), "of the other task of the family"
    same = [(fold.fit // 8 == fold.edited[:, None] // 8).all() for fold in moved.folds]
    assert same == [True] * 4, "a fold is half of a family"
    assert not [note for note in moved.notes if "unknown" in note]
    few = ask(read_prompts(columns), n=6)
    assert np.bincount(few.family[few.own]).tolist() == [3, 3], "families take turns"
    together = ask(read_prompts(columns, family="none"))
    assert answers_of(together)[0] == ["p", "q", "r", "s"]
    assert [len(fold.fit) for fold in together.folds] == [8, 8]
    del columns["output"]
    known = ask(read_prompts(columns | {"answers": [outputs] * len(rows)}))
    assert ((known.answers >= 0) == (known.family == family[:, None])).all()
