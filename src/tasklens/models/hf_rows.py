"""Arrange prompts in the rows that a model of transformers reads together."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_reader import HarvestBatch, HuggingFaceReader, Ints
from tasklens.models.prefix_trees import Trees, token_trees

#: The ways in which prompts are read.
TREES = "with shared prefixes"
PADDED = "in padded rows"
EQUAL = "in rows of equal length"
ALONE = "one at a time"
#: Trees are used if they have at most this share of the prompts' tokens.
WORTH_SHARING = 0.7

Read: TypeAlias = Callable[[Ints, Sequence[str]], HarvestBatch]


class Rows(NamedTuple):
    """R rows in the order of their lengths, of which some at a time are read in one pass."""

    how: str
    lengths: Ints  # (R,), ascending
    prompts_in: Callable[[Ints], Ints]
    read: Read
    trees: Trees | None = None

    def next_pass(self, row: int, max_tokens: int) -> Ints:
        """Return the rows of the pass that begins with a row: at least this one.

        All rows of a pass are padded to the last one, and have at most ``max_tokens`` together.
        """
        lengths = self.lengths[row:]
        fits = np.arange(1, len(lengths) + 1) * lengths <= max_tokens
        if self.how == EQUAL:
            fits &= lengths == lengths[0]
        n = 1 if self.how == ALONE else max(1, int(fits.sum()))
        return np.arange(row, row + n)

    def fullest_pass(self, max_tokens: int) -> Ints:
        """Return the rows of the pass that has most rows."""
        fullest, row = np.arange(0), 0
        while row < len(self.lengths):
            rows = self.next_pass(row, max_tokens)
            fullest = max(fullest, rows, key=len)
            row += len(rows)
        return fullest


def rows_of(how: str, reader: HuggingFaceReader, prompts: Prompts) -> Rows:
    """Return all prompts in rows, one row each unless they are trees."""
    if how == TREES:
        trees = token_trees(prompts)
        return Rows(
            how,
            np.full(len(trees), trees.ids.shape[1]),
            lambda rows: np.flatnonzero(np.isin(trees.row, rows)),
            lambda rows, names: reader.read_trees(prompts, trees, rows, names),
            trees,
        )
    order = np.argsort(prompts.last, kind="stable")
    return Rows(
        how,
        prompts.last[order] + 1,
        order.__getitem__,
        lambda rows, names: reader.read_rows(prompts, order[rows], names),
    )


def may_share(reader: HuggingFaceReader, prompts: Prompts, max_tokens: int) -> bool:
    """Return whether trees would save work.

    Spans are not read as trees. Other types than float32 are not either, since they would be
    rounded in another way.
    """
    spans = [part for part in prompts.parts if part.begin is not None]
    if spans or reader.dtype != torch.float32 or len(prompts) < 2:
        return False
    ids = token_trees(prompts).ids  # (B, T)
    n_tokens = int((prompts.last + 1).sum())
    return ids.size <= WORTH_SHARING * n_tokens and ids.shape[1] <= max_tokens
