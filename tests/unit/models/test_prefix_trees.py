import numpy as np
import pytest
from numpy.typing import NDArray

from tasklens.data.dataset import Dataset
from tasklens.data.token_prompts import Prompts
from tasklens.models.prefix_trees import Trees, token_trees


def prompts_of(*texts: str, junk: int = 9) -> Prompts:
    """Return prompts whose tokens are letters, followed by junk."""
    ids = np.full((len(texts), max(map(len, texts)) + 1), junk, dtype=np.int64)
    for i, text in enumerate(texts):
        ids[i, : len(text)] = [ord(c) for c in text]
    return Prompts(ids, np.array([len(text) - 1 for text in texts]))


def paths(trees: Trees, row: int) -> list[list[int]]:
    """Return the tokens from the root to each token of a row."""
    result: list[list[int]] = []
    for slot in range(trees.ids.shape[1]):
        parent = int(trees.parent[row, slot])
        assert parent <= slot
        before = [] if parent == slot else result[parent]
        assert trees.depth[row, slot] == len(before)
        result.append([*before, int(trees.ids[row, slot])])
    return result


def path(trees: Trees, n: int) -> list[int]:
    """Return the tokens from the root to the measured token of prompt n."""
    return paths(trees, int(trees.row[n]))[trees.slot[n]]


def n_tokens(trees: Trees) -> int:
    return int(np.count_nonzero(trees.ids))


def test_what_prompts_begin_with_stands_once() -> None:
    texts = ["abz", "abc", "abz", "ab", "b", "abcd", "zab"]
    trees = token_trees(prompts_of(*texts))
    assert trees.ids.shape == (1, 128)
    assert n_tokens(trees) == len({text[: i + 1] for text in texts for i in range(len(text))}) == 9
    assert ["".join(map(chr, path(trees, n))) for n in range(len(texts))] == texts
    assert trees.slot[0] == trees.slot[2]


@pytest.mark.parametrize("row_tokens", [1, 7, 40, 128])
@pytest.mark.parametrize("split", ["train", "val_subset"])
def test_every_prompt_is_a_path_whatever_the_rows(
    dataset: Dataset, split: str, row_tokens: int
) -> None:
    prompts = dataset.prompts(split)
    trees = token_trees(prompts, row_tokens)
    longest = int(prompts.position.max()) + 1
    assert trees.ids.shape[1] == max(row_tokens, longest)
    for n, (ids, position) in enumerate(zip(prompts.ids, prompts.position, strict=True)):
        assert path(trees, n) == ids[: position + 1].tolist()


def test_no_token_stands_twice_in_a_row_and_rows_are_filled(dataset: Dataset) -> None:
    trees = token_trees(dataset.prompts("train"), 40)
    sizes: NDArray[np.int64] = np.count_nonzero(trees.ids, axis=1)
    assert len(trees) > 3
    for row, size in enumerate(sizes):
        assert np.all(trees.ids[row, :size] > 0)
        assert len(set(map(tuple, paths(trees, row)[:size]))) == size
    assert sizes[:-1].min() > 40 - trees.depth.max() - 1
    assert n_tokens(trees) < 0.6 * (dataset.prompts("train").position + 1).sum()
