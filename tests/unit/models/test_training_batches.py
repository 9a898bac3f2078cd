from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from tasklens.data.dataset import Dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.training_batches import TrainingBatch, batches, shared_prefix_rows


def prompts_of(*texts: str) -> Prompts:
    """Return a prompt [I; x] per text, with one token per letter, and junk after x."""
    width = max(map(len, texts)) + 1
    ids = np.full((len(texts), width), 99)
    for i, text in enumerate(texts):
        ids[i, : len(text)] = [ord(letter) for letter in text]
        ids[i, len(text) :] = 90 + i
    return Prompts(ids, np.array([len(text) - 1 for text in texts]))


def letters(ids: torch.Tensor) -> str:
    return "".join(map(chr, ids.tolist()))


def test_prompts_with_one_prefix_share_a_row() -> None:
    prompts = prompts_of("abz", "cdx", "aby", "abcx", "abw", "cdy", "cdz", "qx")
    rows = shared_prefix_rows(prompts, np.arange(8))
    got = {
        letters(prefix[:length]): (letters(inputs), outputs.tolist())
        for same in rows
        for prefix, length, inputs, outputs in zip(*same, strict=True)
    }
    assert got == {
        "ab": ("zyw", [0, 2, 4]),
        "cd": ("xyz", [1, 5, 6]),
        "abc": ("x", [3]),
        "q": ("x", [7]),
    }
    assert [same.prefix.shape for same in rows] == [(2, 3), (2, 2)]
    assert [same.inputs.shape for same in rows] == [(2, 1), (2, 3)]
    assert [same.length.tolist() for same in rows] == [[1, 3], [2, 2]]
    assert rows[0].prefix.tolist() == [[ord("q"), 0, 0], [ord("a"), ord("b"), ord("c")]]


def test_every_instance_is_in_one_row_with_its_own_prefix_and_input(dataset: Dataset) -> None:
    for split, part in dataset.splits.items():
        rows = shared_prefix_rows(dataset.prompts(split), np.arange(len(part)))
        seen = Counter(torch.cat([same.outputs.ravel() for same in rows]).tolist())
        assert seen == Counter(range(len(part)))
        assert len({same.inputs.shape[1] for same in rows}) == len(rows)
        texts = []
        for same in rows:
            assert same.length.tolist() == sorted(same.length.tolist())
            assert same.prefix.shape == (len(same.length), same.length.max())
            for prefix, length, inputs, instances in zip(*same, strict=True):
                assert (prefix[length:] == 0).all()
                text = "".join(dataset.vocabulary.tokens[t] for t in prefix[:length])
                texts.append(text)
                for x, i in zip(inputs, instances, strict=True):
                    assert dataset.instructions[part.instruction[i]] == text
                    assert x == part.input[i]
        assert len(set(texts)) == len(texts)


def random_rows(n: int, m: int, longest: int, first: int = 0) -> TrainingBatch:
    """Return random rows in which each output is the number of its row."""
    length = np.random.default_rng(n).integers(1, longest, size=n, endpoint=True)
    length[-1] = longest
    number = np.arange(first, first + n)[:, None]
    prefix = np.where(np.arange(longest) < length[:, None], 100 + number, 0)
    ones = np.ones((1, m), dtype=np.int64)
    arrays = (prefix, length, 200 + number * ones, number * ones)
    return TrainingBatch(*map(torch.from_numpy, arrays))


SIZE = 4
#: Number of rows: number of their inputs. The middle one has fewer rows than a batch.
KINDS = {10: 3, 3: 1, 7: 2}
FIRST = {10: 0, 3: 10, 7: 13}


ROWS = [random_rows(n, m, longest=6, first=FIRST[n]) for n, m in KINDS.items()]


def take(n: int, seed: int = 0) -> list[TrainingBatch]:
    return list(islice(batches(ROWS, SIZE, seed), n))


def content(seed: int = 0) -> list[list[list[int]]]:
    return [batch.outputs.tolist() for batch in take(30, seed)]


def test_a_batch_has_exactly_its_size_and_one_m_and_mixed_lengths() -> None:
    """The columns still belong together and are padded as little as possible."""
    met = set()
    for batch in take(60):
        n = {m: n for n, m in KINDS.items()}[batch.inputs.shape[1]]
        met.add(n)
        assert len(batch.length) == SIZE
        assert set(batch.outputs.ravel().tolist()) <= set(range(FIRST[n], FIRST[n] + n))
        assert batch.prefix.shape[1] == batch.length.max()
        inside = torch.arange(batch.prefix.shape[1]) < batch.length[:, None]
        assert torch.equal(batch.prefix, torch.where(inside, 100 + batch.outputs[:, :1], 0))
        assert torch.equal(batch.inputs, 200 + batch.outputs)
    assert met == set(KINDS)
    assert max(len(set(batch.length.tolist())) for batch in take(20)) > 2


@pytest.mark.parametrize("passes", [1, 2, 3, 8, 20])
def test_every_row_is_seen_equally_often_to_within_a_batch(passes: int) -> None:
    n_batches = sum(n * passes // SIZE for n in KINDS)
    seen = Counter(int(i) for b in take(n_batches) for i in b.outputs[:, 0])
    for n, first in FIRST.items():
        missing = [passes - seen[i] for i in range(first, first + n)]
        assert min(missing) >= 0  # never more often than there were passes
        assert sum(missing) < SIZE  # what is left opens the next pass


def test_batches_are_a_function_of_the_seed_alone() -> None:
    np.random.seed(0)  # noqa: NPY002, the global generator must change nothing
    first = content()
    np.random.seed(1)  # noqa: NPY002
    assert content() == first
    assert content(seed=1) != first


def test_every_pass_has_an_order_of_its_own() -> None:
    whole = [b.outputs[:, 0].tolist() for b in islice(batches(ROWS[:1], 5, 0), 20)]
    orders = [(*a, *b) for a, b in zip(whole[::2], whole[1::2], strict=True)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 10


def distinct_inputs(n: int, m: int) -> TrainingBatch:
    """Return n rows with the inputs 0 .. m - 1, and the outputs 100 x row + input."""
    inputs = torch.arange(m).repeat(n, 1)
    row = torch.arange(n)
    return TrainingBatch(row[:, None], torch.ones_like(row), inputs, 100 * row[:, None] + inputs)


def test_a_row_with_fewer_inputs_keeps_their_outputs_and_draws_anew() -> None:
    rows = [distinct_inputs(n=8, m=20)]
    drawn = Counter[int]()
    sets = set()
    for batch in islice(batches(rows, SIZE, 0, inputs_per_row=5), 400):  # 200 passes
        assert batch.inputs.shape == batch.outputs.shape == (SIZE, 5)
        assert torch.equal(batch.outputs, 100 * batch.prefix + batch.inputs)
        assert all(len(set(row)) == 5 for row in batch.inputs.tolist())
        drawn.update(batch.outputs.ravel().tolist())
        sets |= {(row[0], tuple(sorted(row))) for row in batch.outputs.tolist()}
    # Each of 160 instances is drawn 200 * 5 / 20 = 50 times on average, with a deviation of 6.
    assert len(drawn) == 160
    assert 20 < min(drawn.values()) <= max(drawn.values()) < 80
    assert len(sets) > 1500  # of 1,600 rows: hardly any has the inputs of an earlier one


def test_a_limit_that_no_row_exceeds_changes_nothing() -> None:
    largest = max(KINDS.values())
    limited = islice(batches(ROWS, SIZE, 0, inputs_per_row=largest), 30)
    assert [batch.outputs.tolist() for batch in limited] == content()


def test_a_limit_keeps_the_order_of_the_rows_of_a_first_pass() -> None:
    whole = islice(batches([distinct_inputs(n=8, m=20)], SIZE, 0), 2)
    limited = islice(batches([distinct_inputs(n=8, m=20)], SIZE, 0, inputs_per_row=3), 2)
    for all_inputs, some in zip(whole, limited, strict=True):
        assert torch.equal(all_inputs.prefix, some.prefix)
