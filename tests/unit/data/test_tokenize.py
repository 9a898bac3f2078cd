"""Texts become token rows of real tokenizers, made here; which token is measured is known."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tasklens.core.errors import InputError
from tasklens.data.labelled_prompts import LabelledPrompts
from tasklens.data.tokenize import ModelStateSettings, instances_of_prompts, shown, tokenize

BOS, EOS, UNKNOWN = "[BOS]", "[EOS]", "[UNK]"


class Fake:
    """A tokenizer with the methods of transformers that tasklens calls."""

    def __init__(self, inner: Tokenizer, is_fast: bool = True) -> None:
        self.inner, self.is_fast = inner, is_fast

    def __call__(self, texts: list[str], **options: bool) -> dict[str, list[Any]]:
        assert isinstance(texts, list), "a tuple would be a pair of texts"
        assert {name for name, value in options.items() if not value} >= {
            *("truncation", "padding", "return_attention_mask", "verbose")
        }, "these are on by default, or add what nothing reads"
        if options.get("return_offsets_mapping") and not self.is_fast:
            raise NotImplementedError("as transformers' slow tokenizers do")
        special = options["add_special_tokens"]
        encoded = [self.inner.encode(text, add_special_tokens=special) for text in texts]
        read: dict[str, list[Any]] = {"input_ids": [encoding.ids for encoding in encoded]}
        if options.get("return_offsets_mapping"):
            read["offset_mapping"] = [encoding.offsets for encoding in encoded]
        return read

    def get_vocab(self) -> dict[str, int]:
        return self.inner.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        return {}

    def number(self, token: str) -> int:
        return self.inner.get_vocab()[token]

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [self.inner.id_to_token(i) for i in ids]


def word_tokenizer(*texts: str, ends: bool = False, is_fast: bool = True) -> Fake:
    """Return a tokenizer with one token per word or sign, BOS first, and EOS last if ``ends``."""
    known = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text)})
    vocabulary = {word: i for i, word in enumerate([UNKNOWN, BOS, EOS, *known])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(BOS, vocabulary[BOS]), (EOS, vocabulary[EOS])]
    single = f"{BOS} $A {EOS}" if ends else f"{BOS} $A"
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return Fake(inner, is_fast)


SENTENCES = (
    "Plural: banana bananas", "Plural: strawberry strawberries", "the past tense of walk walked",
    "the opposite of hot cold", "the opposite of cold hot", "the past tense of talk talked",
    "the colour of a banana is yellow", "the colour of grass is green", "Plural: walk walks",
)  # fmt: skip


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """Return a tokenizer like GPT-2's, with so few tokens that rare words are several."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(SENTENCES, trainer)
    return inner


@pytest.fixture(params=[True, False], ids=["trimmed", "with space"])
def pairs(request: pytest.FixtureRequest, byte_level: Tokenizer) -> Fake:
    """Return the same tokenizer, whose offsets include the space before a word or not."""
    inner = Tokenizer.from_str(byte_level.to_str())
    inner.post_processor = processors.ByteLevel(trim_offsets=request.param)
    return Fake(inner)


def table(*texts: str, **columns: Sequence[Any]) -> LabelledPrompts:
    """Return prompts in one split, with the labels x and y in turn."""
    n = len(texts)
    label = tuple("xy"[i % 2] for i in range(n))
    all_columns = {"text": texts, "label": label, **{k: tuple(v) for k, v in columns.items()}}
    parts: dict[str, Any] = {
        part: all_columns.get(part) for part in ("text", "label", "input", "output")
    }
    parts["groups"] = {"group": all_columns["group"]} if "group" in columns else {}
    source = tuple(f"file line {i}" for i in range(1, n + 1))
    splits = {"all": slice(0, n)}
    return LabelledPrompts(source=source, columns=all_columns, splits=splits, **parts)


def read(
    prompts: LabelledPrompts, tokenizer: Fake | None = None, at: str = "", **settings: Any
) -> Any:
    return tokenize(prompts, tokenizer or word_tokenizer(*prompts.text), at, **settings)


def measured(prompts: LabelledPrompts, tokenizer: Fake | None = None, **settings: Any) -> list[str]:
    """Return the measured tokens of each text, joined by spaces."""
    tokenizer = tokenizer or word_tokenizer(*prompts.text)
    tokens = read(prompts, tokenizer, **settings)
    rows = zip(tokens.prompts.ids, tokens.begin, tokens.prompts.position, strict=True)
    parts = [tokenizer.convert_ids_to_tokens(ids[i : j + 1].tolist()) for ids, i, j in rows]
    return [" ".join(map(str, part)) for part in parts]


def positions(prompts: LabelledPrompts, tokenizer: Fake | None = None, **settings: Any) -> Any:
    return read(prompts, tokenizer, **settings).prompts.position.tolist()


def targets(prompts: LabelledPrompts, tokenizer: Fake, **settings: Any) -> list[str | None]:
    """Return the likely target tokens, None if they are not known."""
    ids = read(prompts, tokenizer, **settings).target[:, 0].tolist()
    return [tokenizer.convert_ids_to_tokens([i])[0] if i >= 0 else None for i in ids]


def error_of(prompts: LabelledPrompts, tokenizer: Fake | None = None, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        read(prompts, tokenizer, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


DOUBLE = table(  # BOS is token 0, double 1, ..., seven 4
    "double this : seven fourteen", "double : two four",
    input=["seven", "two"], output=["fourteen", "four"],
    place=["this", ":"], number=[2, -1], pair=[[7, 11], [0, 6]],
)  # fmt: skip


def test_by_default_the_input_is_measured_otherwise_the_last_token() -> None:
    assert tokenize(DOUBLE, word_tokenizer(*DOUBLE.text)).prompts.position.tolist() == [4, 3]
    long = dataclasses.replace(DOUBLE, input=("this : seven", ": two"))
    assert positions(long) == [4, 3]
    assert measured(long) == ["this : seven", ": two"]
    assert positions(dataclasses.replace(DOUBLE, input=None)) == [5, 4]
    assert measured(DOUBLE, at="last_mean") == ["fourteen", "four"]


POSITIONS = {
    **{"": (4, 3), "last": (5, 4), "double": (1, 1), ": ": (3, 2)},
    **{"place": (2, 2), "number": (2, 4), "pair": (2, 1)},
    **{"input": (4, 3), "text": (5, 4), "output": (5, 4)},
    **{"0": (0, 0), "3": (3, 3), "+3": (3, 3), "-1": (5, 4), "-2": (4, 3), "-5": (1, 0)},
    **{"0:6": (1, 1), "0:13": (3, 3), "5:13": (3, 3)},
    "3:4": (1, 1),  # a part of a token is the token
}


@pytest.mark.parametrize("at", POSITIONS)
def test_a_position_is_a_text_a_column_a_number_or_characters(at: str) -> None:
    assert positions(DOUBLE, at=at) == [*POSITIONS[at]]


def test_a_column_goes_before_a_text() -> None:
    prompts = table("a b a", "a c a", a=[2, 0])
    assert positions(prompts, at="a") == [2, 0]
    assert positions(prompts, at="1") == [1, 1]


@pytest.mark.parametrize("at", ["last", "2", "-1", "0:1"])
def test_a_column_with_the_name_of_a_token_is_refused(at: str) -> None:
    prompts = table("a b a", "a c a", **{at: ["b", "c"]})
    assert error_of(prompts, at=at) == (
        f"position {at!r} is a column, but also means tokens or characters: rename the column"
    )


@pytest.mark.parametrize("values", list(permutations(["b", 2, [0, 1]], 2)))
def test_the_values_of_a_column_mean_one_thing(values: tuple[Any, Any]) -> None:
    """A CSV has the text "3" and a JSONL the token 3: both in one column measure two things."""
    kinds = {str: "a text", int: "the index of a token", list: "a pair of characters"}
    first, second = (kinds[type(value)] for value in values)
    assert error_of(table("a b a", "a b a", at=values), at="at") == (
        f"file line 2: 'at' = {values[1]!r} is {second}, but {first} in file line 1: should be of "
        "one kind"
    )


def test_the_input_is_a_text_whether_its_column_is_named_or_not() -> None:
    prompts = table("7 2 1", "1 7 2", input=["2", "1"])
    numbers = dataclasses.replace(prompts, columns=prompts.columns | {"input": (2, 1)})
    assert positions(numbers) == positions(numbers, at="input") == [2, 1]


def test_of_several_places_it_is_the_last_but_a_word_is_preferred_to_a_part_of_one() -> None:
    prompts = table("two and two or two .", "two .", input=["two", "two"])
    assert positions(prompts) == positions(prompts, at="two") == [5, 1]
    texts = ("x10 x1 y1", "x1 x10 y1", "x10 y1", "y1 ax1 x1. x1a")
    prompts = table(*texts, input=["x1"] * 4)
    assert positions(prompts) == [2, 1, 1, 3]
    assert measured(prompts) == ["x1", "x1", "x10", "x1"]
    signs = table("c++ or c is c+", "c+ c d", input=["c+", "c+"])
    assert positions(signs) == [7, 2], "a sign is no part of a word"


def test_a_column_may_stand_in_the_text_with_spaces_between_its_characters() -> None:
    texts = ("a b b a x1 y2", "b a x2 y1", "bb a b x1 y2")
    prompts = table(*texts, instruction=("abba", "ba", "ab"), input=("x1", "x2", "x1"))
    assert positions(prompts, at="instruction") == [4, 2, 3]
    assert read(prompts, at="instruction").begin.tolist() == [1, 1, 2]
    exact = table("a b ab x1", instruction=("ab",))
    assert positions(exact, at="instruction") == [3], "unchanged if it is in the text"
    assert "'ab' is not in the text" in error_of(table("ca b", more=("ab",)), at="more")


def test_the_output_at_the_end_is_not_taken_for_the_input() -> None:
    same = table(
        "same : sheep sheep", "same : ox sheep \n", input=["sheep", "ox"], output=["sheep"] * 2
    )
    assert positions(same) == positions(same, at="input") == [3, 3]
    assert positions(dataclasses.replace(same, output=None)) == [4, 3]
    # In "re-do" and in scripts without spaces no word begins where the input does.
    prompts = table("past of redo did do", "輸入苹果輸出苹果", input=["do", "苹果"],
                    output=["do", "苹果"])  # fmt: skip
    tokenizer = word_tokenizer("past of redo did do 輸入苹果輸出苹果")
    tokenizer.inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("苹果", "isolated")]
    )
    assert positions(prompts, tokenizer) == [3, 2]

    # If the text ends with the input, its last letters are no output.
    prompts = table("take banana : banana", "take fig : fig", input=["banana", "fig"],
                    output=["a", "g"])  # fmt: skip
    assert positions(prompts) == [4, 4]


@pytest.mark.parametrize("ends", [True, False])
def test_all_tokens_of_a_part_are_measured_special_ones_by_number_alone(ends: bool) -> None:
    tokenizer = word_tokenizer(*DOUBLE.text, ends=ends)
    assert measured(DOUBLE, tokenizer, at="last") == ["fourteen", "four"]
    assert measured(DOUBLE, tokenizer, at="text") == [*DOUBLE.text]
    assert measured(DOUBLE, tokenizer, at="0:12") == ["double this", "double : two"]
    assert measured(DOUBLE, tokenizer, at="5:13") == ["double this :", "double : two"]
    assert measured(DOUBLE, tokenizer, at="6:13") == ["this :", ": two"]
    assert measured(DOUBLE, tokenizer, at="0") == [BOS, BOS]
    assert measured(DOUBLE, tokenizer, at="-1") == ([EOS] * 2 if ends else ["fourteen", "four"])
    assert positions(DOUBLE, tokenizer, at="-1") == [5 + ends, 4 + ends]


def text_of(tokenizer: Fake, ids: Any) -> str:
    return str(tokenizer.inner.decode(list(ids)))


def test_an_input_of_several_tokens(pairs: Fake) -> None:
    inputs = ["coconut", "ostrich", "walkingstick", "犬", "犬"]  # a character is several bytes
    before = ["the opposite of ", "Plural: ", "", "the ", "é 犬"]
    after = [" hot", " ostriches", ": a noun", " é hot", " the hot"]
    prompts = table(*map("".join, zip(before, inputs, after, strict=True)), input=inputs)
    last, mean = read(prompts, pairs), read(prompts, pairs, at="input_mean")
    assert last.prompts.begin is None
    assert mean.prompts.begin is not None
    np.testing.assert_array_equal(mean.prompts.begin, last.begin)
    np.testing.assert_array_equal(mean.begin, last.begin)
    np.testing.assert_array_equal(mean.prompts.position, last.prompts.position)
    ends = last.prompts.position
    for i, (ids, begin, end) in enumerate(zip(last.prompts.ids, last.begin, ends, strict=True)):
        assert end > begin + 1
        assert text_of(pairs, ids[begin : end + 1]).strip() == inputs[i]
        assert text_of(pairs, ids[: end + 1]) == before[i] + inputs[i]
    # A space alone is measured as the tokenizer has it.
    assert set(measured(table("the hot ", "the cold  "), pairs)) <= {"Ġ", "ĠĠ"}


def test_a_missing_text_is_named() -> None:
    prompts = table("a b", "a c", input=["b", "b"], more=["c", "d"])
    assert error_of(prompts) == "file line 2: 'b' is not in the text 'a c'"
    assert error_of(prompts, at="more") == "file line 1: 'c' is not in the text 'a b'"
    assert error_of(DOUBLE, at="double this").startswith("file line 2: 'double this' is not in")
    for at in ("bc", "B", "."):  # case matters, and it is no pattern
        assert error_of(prompts, at=at) == (
            f"file line 1: {at!r} is not in the text 'a b' and is not one of the columns text, "
            "label, input, "
            "more"
        )


def test_a_missing_token_or_character_is_named() -> None:
    for at, line, n in (("5", 2, 5), ("6", 1, 6), ("-6", 2, 5)):
        assert error_of(DOUBLE, at=at) == f"file line {line}: has no token {at}: it has {n} tokens"
    missing = "file line {}: characters {} to {} are not in the text, which has {}"
    for line, begin, end, n in ((2, 0, 18, 17), (1, 3, 3, 28), (1, 4, 3, 28)):
        assert error_of(DOUBLE, at=f"{begin}:{end}") == missing.format(line, begin, end, n)
    for pair in ([-1, 3], [2, 99], (2, 1)):
        prompts = table(*DOUBLE.text, pair=[[0, 6], pair])
        assert error_of(prompts, at="pair") == missing.format(2, *pair, 17)
    assert error_of(DOUBLE, at="6:7") == ("file line 1: the measured part has no token of its own")


@pytest.mark.parametrize("value", [1.5, True, [1, 2, 3], {}, ["a", "b"], [None, 2]])
def test_what_is_no_position_is_named(value: object) -> None:
    prompts = table("a b", "a b", at=["a", value])
    assert error_of(prompts, at="at") == (
        f"file line 2: 'at' = {value!r} is not a position: should be a text, a whole number (the "
        "index of a token), or two (the first character and the end)"
    )


@pytest.mark.parametrize("value", [None, ""])
def test_a_prompt_without_the_position_names_the_column_and_another_position(value: object) -> None:
    prompts = table("a b", "a b", at=["a", value])
    assert error_of(prompts, at="at") == (
        "file line 2: the column 'at' has no value, so that the prompt has no such position: fill "
        "it in, or measure another with --position, such as last"
    )


def test_an_input_that_no_column_has_names_the_last_token() -> None:
    prompts = table("a b", "b a", at=["a", "b"])
    assert error_of(prompts, at="input").endswith("; for the last token give --position last")


@pytest.mark.parametrize("at", ["9" * 5000, "0:" + "9" * 5000, "-" + "9" * 5000])
def test_a_number_of_thousands_of_digits_is_no_index(at: str) -> None:
    assert len(error_of(DOUBLE, at=at)) < 700


def test_a_slow_tokenizer_measures_what_needs_no_characters() -> None:
    slow = word_tokenizer(*DOUBLE.text, ends=True, is_fast=False)
    assert positions(DOUBLE, slow, at="last") == [5, 4]
    assert positions(DOUBLE, slow, at="-2") == [5, 4]
    assert positions(DOUBLE, slow, at="number") == [2, 5]
    assert read(DOUBLE, slow, at="last").target.tolist() == [[-1, -1]] * 2
    for at in ("", "input", "double", "pair", "0:3"):
        assert error_of(DOUBLE, slow, at=at) == (
            "Fake is not a fast tokenizer: it gives no character offsets to find the measured part "
            "with; give --position last, or the index of a token"
        )


def test_a_prompt_that_is_too_long_is_named() -> None:
    assert positions(DOUBLE, max_length=5) == [4, 3]
    assert error_of(DOUBLE, max_length=4) == (
        "file line 1: 5 tokens up to the last that is read, but the model reads 4; shorten the text"
    )
    assert positions(DOUBLE, max_length=0) == [4, 3], "there is no limit"
    assert error_of(DOUBLE, at="double", max_length=4), "the answer follows later"
    unanswered = dataclasses.replace(DOUBLE, output=None)
    assert positions(unanswered, at="double", max_length=2) == [1, 1], "what follows is not read"
    with pytest.raises(InputError):
        ModelStateSettings(max_length=-1)


def test_rows_end_at_the_measured_token() -> None:
    prompts = table("a b c d", "d", "c b", "b a d c a", input=["c", "d", "b", "d"])
    tokenizer = word_tokenizer(*prompts.text)
    rows = read(prompts, tokenizer).prompts
    assert rows.position.tolist() == [3, 1, 2, 3]
    bos, a, b, c, d = (tokenizer.number(word) for word in (BOS, *"abcd"))
    assert rows.ids.dtype == rows.position.dtype == np.int64
    assert rows.ids.tolist() == [[bos, a, b, c], [bos, d, 0, 0], [bos, c, b, 0], [bos, b, a, d]]


@pytest.mark.parametrize("ends", [True, False])
def test_the_outputs_first_token_follows_whether_it_is_there_or_not(ends: bool) -> None:
    prompts = table(
        "plural : ox oxen here", "plural : ox", "plural : ox \n", "plural : ox big oxen",
        "plural : ox oxen and so on",
        input=["ox"] * 5, output=["oxen here", "oxen here", "big oxen", "big oxen", "oxen"],
    )  # fmt: skip
    tokenizer = word_tokenizer(*prompts.text, ends=ends)
    assert targets(prompts, tokenizer) == ["oxen", "oxen", "big", "big", "oxen"]
    assert targets(prompts, tokenizer, at="input_mean") == [
        "oxen",
        "oxen",
        "big",
        "big",
        "oxen",
    ]
    asked = table("plural : ox", "plural of ox", output=["oxen", "big oxen"])
    assert targets(asked, tokenizer, at="last") == ["oxen", "big"]
    assert targets(asked, tokenizer) == ["oxen", "big"]


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (table("2+2=4", "7*8 = 56.", input=["2+2=", "7*8 ="], output=["4", "56"]), ["4", "56"]),
        (table("as : ox and", "as : ox", input=["ox"] * 2, output=["", ""]), [None, None]),
        (table("as : ox fourteen", "as : ox four", input=["ox"] * 2, output=["four"] * 2),
         ["four", "four"]),
    ],
    ids=["without a space", "no output", "a word that begins like it"],
)  # fmt: skip
def test_what_follows_the_input(prompts: LabelledPrompts, expected: list[str | None]) -> None:
    assert targets(prompts, word_tokenizer(*prompts.text, ends=True)) == expected


def test_the_output_follows_where_it_stands_whatever_is_measured() -> None:
    tokenizer = word_tokenizer(*DOUBLE.text, "five")
    assert targets(DOUBLE, tokenizer) == ["fourteen", "four"]
    for at in ("double", "place", "number", "-2", "0:6"):
        assert targets(DOUBLE, tokenizer, at=at) == ["fourteen", "four"]
        assert read(DOUBLE, tokenizer, at=at).prompts.answered.tolist() == [4, 3]
    other = dataclasses.replace(DOUBLE, output=("fourteen", "five"))
    assert targets(other, tokenizer) == ["fourteen", "five"]
    assert read(other, tokenizer).prompts.answered.tolist() == [4, 4], "behind the other text"
    assert targets(dataclasses.replace(DOUBLE, output=None), tokenizer) == [None, None]
    # If the output itself is measured, it is read before it.
    for at in ("last", "output", "-1"):
        assert measured(DOUBLE, tokenizer, at=at) == ["fourteen", "four"]
        assert targets(DOUBLE, tokenizer, at=at) == ["fourteen", "four"]
        assert read(DOUBLE, tokenizer, at=at).prompts.answered.tolist() == [4, 3]


def test_the_first_of_several_tokens_follows(pairs: Fake) -> None:
    prompts = table(
        "Plural: ostrich ostriches", "Plural: ostrich", "the opposite of hot coconut",
        input=["ostrich", "ostrich", "hot"], output=["ostriches", "ostriches", "coconut"],
    )  # fmt: skip
    tokenized = read(prompts, pairs)
    assert prompts.output is not None
    for i, output in enumerate(prompts.output):
        end = tokenized.prompts.position[i]
        first = text_of(pairs, [tokenized.target[i, 0]])
        assert first == f" {output}"[: len(first)]
        assert 1 < len(first) < len(f" {output}")
        both = text_of(pairs, [*tokenized.prompts.ids[i, : end + 1], tokenized.target[i, 0]])
        assert f"{prompts.text[i]} {output}".startswith(both)
    assert tokenized.target[0, 0] == tokenized.target[1, 0]


def test_an_output_in_the_same_token_does_not_follow(pairs: Fake) -> None:
    prompts = table(
        "Plural: bananas", "Plural: bananas are yellow", "past: walked", "past: walked away",
        input=["banana", "banana", "walk", "walk"], output=["s", "s", "ed", "ed"],
    )  # fmt: skip
    tokens = [len(pairs.inner.encode(text).tokens) for text in (" bananas", " walked")]
    assert tokens == [1, 1], "otherwise this tests nothing"
    assert targets(prompts, pairs) == [None] * 4

    # If a text ends in a space, what follows that token is the output without a space.
    prompts = table("the opposite of hot ", "the opposite of hot", output=["cold"] * 2)
    assert pairs.inner.encode("of hot ").tokens[-1] == "Ġ"
    assert targets(prompts, pairs) == ["co", "Ġcold"]


def many() -> tuple[LabelledPrompts, Fake]:
    """Return two splits of prompts: an instruction of a few letters, an input and an output."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(40):
        instruction = random.choice([*("abcdef" if i < 25 else "bcdefgh")], random.integers(1, 9))
        rows.append((" ".join(instruction), f"x{random.integers(5)}", f"y{random.integers(3)}"))
    texts, (_, inputs, outputs) = list(map(" ".join, rows)), zip(*rows, strict=True)
    prompts = table(*texts, input=inputs, output=outputs, group=[str(i // 6) for i in range(40)])
    label = tuple(("no", "yes", "perhaps")[i % 3] for i in range(40))
    splits = {"kept": slice(0, 25), "held_out_input": slice(25, 40)}
    return dataclasses.replace(prompts, label=label, splits=splits), word_tokenizer(*texts)


@pytest.mark.parametrize("split", ["kept", "held_out_input"])
def test_instances_are_counted_as_plain_python_counts(split: str) -> None:
    prompts, tokenizer = many()
    rows = prompts.splits[split]
    instances = instances_of_prompts(prompts, read(prompts, tokenizer), split)
    symbols = [[BOS, *text.split()[:-2]] for text in prompts.text[rows]]
    assert instances.length.tolist() == [len(s) for s in symbols]
    kinds = sorted({s for row in symbols for s in row}, key=tokenizer.number)
    counts = [[Counter(row)[kind] for kind in kinds] for row in symbols]
    assert instances.symbol_counts.tolist() == counts
    assert instances.split == split
    units, same = prompts.units[0][rows], instances.unit[:, None] == instances.unit
    assert same.tolist() == [[a == b for b in units] for a in units]
    assert instances.n_tasks == 3
    assert instances.task.tolist() == [
        sorted(set(prompts.label)).index(v) for v in prompts.label[rows]
    ]
    for part in ("input", "output"):
        numbers = [int(name[1:]) for name in getattr(prompts, part)[rows]]
        assert instances.parts[part].tolist() == numbers
    assert set(instances.parts) == {"task", "input", "output"}


def test_without_an_input_the_measured_token_is_it() -> None:
    prompts, tokenizer = many()
    prompts = dataclasses.replace(prompts, input=None, output=None)
    instances = instances_of_prompts(prompts, read(prompts, tokenizer, at="-2"), "held_out_input")
    inputs = [text.split()[-2] for text in prompts.text[25:]]
    assert instances.input.tolist() == [tokenizer.number(x) for x in inputs]
    assert instances.output is None
    assert set(instances.parts) == {"task", "input"}


@pytest.mark.parametrize("over", ["last", "mean"])
def test_symbols_are_what_stands_before_all_of_the_measured_part(pairs: Fake, over: str) -> None:
    prompts = table("the opposite of coconut", "of ostrich", input=["coconut", "ostrich"])
    tokens = read(prompts, pairs, at=f"input_{over}")
    instances = instances_of_prompts(prompts, tokens, "all")
    before = [pairs.inner.encode(text).ids for text in ("the opposite of", "of")]
    assert instances.length.tolist() == [len(ids) for ids in before]
    assert instances.symbol_counts.sum(axis=1).tolist() == [len(ids) for ids in before]
    at_first = instances_of_prompts(prompts, read(prompts, pairs, at=f"0_{over}"), "all")
    assert at_first.length.tolist() == [0, 0], "nothing stands before"
    assert at_first.symbol_counts.tolist() == [[0], [0]]


def test_the_measured_tokens_of_a_few_prompts_are_shown_in_brackets(pairs: Fake) -> None:
    many = table(*(f"a{i}" for i in range(9)))
    tokenizer = word_tokenizer(*many.text)
    lines = shown(many, read(many, tokenizer), tokenizer).splitlines()
    assert [re.findall(r"\[\[(\w+)", line) for line in lines] == [["a0"], ["a4"], ["a8"]]
    tokenizer = word_tokenizer(*DOUBLE.text)
    assert shown(DOUBLE, read(DOUBLE, tokenizer), tokenizer) == (
        "  x: [BOS] double this : [[seven]]  -> fourteen\n  y: [BOS] double : [[two]]  -> four\n"
    )
    for over, first in (("last", "double this"), ("mean", "[[double]] [[this]]")):
        tokenized = read(DOUBLE, tokenizer, at=f"0:13_{over}")
        line = f"  x: [BOS] {first} [[:]] seven  -> fourteen"
        assert shown(DOUBLE, tokenized, tokenizer).splitlines()[0] == line
    # A space of a word's own token is part of it, one that is a token itself is not.
    for word, expected in (("coconut", "Ġcoconut"), ("cranberry", "cranberry")):
        prompts = table(f"of {word} hot", input=[word])
        line = shown(prompts, read(prompts, pairs, at="input_mean"), pairs)
        inside = re.findall(r"\[\[(\S+?)\]\]", line)
        assert len(inside) > 1
        assert "".join(inside) == expected
        assert line.startswith("  x: o")
        assert line.endswith("]]\n")
