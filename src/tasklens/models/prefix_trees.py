"""Arrange prompts as token trees, in which a prefix of several prompts is computed once.

A causal model's state at a token depends on that token and those before it only. Prompts with the
same first tokens can therefore share them, at any depth. A row [I; x1 .. xm] shares one instruction
among its inputs; a tree also shares the common prefix of several instructions. A token attends to
its ancestors and itself, and its position is its depth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasklens.data.token_prompts import Prompts

#: Tokens in one tree row, unless a single prompt is longer. Longer rows repeat fewer prefixes, but
#: the number of attention scores grows with the square of the length.
ROW_TOKENS = 128


@dataclass(frozen=True)
class Trees:
    """B rows of T tokens, each with one tree or several; all arrays are int64.

    The last token that is read of prompt n is at (``row[n]``, ``slot[n]``), its token t at
    ``slots[n, t]`` of the same row.
    """

    ids: NDArray[np.int64]  # (B, T), token ids; a row that is not full ends in zeros
    depth: NDArray[np.int64]  # (B, T), the number of a token's ancestors, which is its position
    parent: NDArray[np.int64]  # (B, T), a smaller index in the row; a root is its own parent
    row: NDArray[np.int64]  # (N,)
    slots: NDArray[np.int64]  # (N, L); anything for tokens that are not read
    slot: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.ids)

    def prompts_in(self, rows: slice) -> NDArray[np.int64]:
        """Return the indices of the prompts in some rows."""
        return np.flatnonzero((self.row >= rows.start) & (self.row < rows.stop))


def token_trees(prompts: Prompts, row_tokens: int = ROW_TOKENS) -> Trees:
    """Arrange N prompts as trees, in rows of ``row_tokens`` or of the longest prompt's length.

    Tokens after the last that is read are left out.
    """
    N, L = prompts.ids.shape
    length = prompts.last + 1  # (N,)
    inside = prompts.is_read  # (N, L)
    order = np.lexsort(np.where(inside, prompts.ids, -1).T[::-1])
    length, inside = length[order], inside[order]
    ids = np.where(inside, prompts.ids[order], -1)
    # Neighbours in this order share most tokens: prompt n shares shared[n] with prompt n - 1.
    differs = ids[1:] != ids[:-1]
    shared = np.zeros(N, dtype=np.int64)
    shared[1:] = np.where(differs.any(axis=1), differs.argmax(axis=1), length[1:])
    T = max(row_tokens, int(length.max()))
    first = _cut(length, shared, T)  # (N,) bool, whether a prompt begins a row
    shared[first] = 0
    row = np.cumsum(first) - 1  # (N,)
    ends = np.cumsum(length - shared)
    begins = ends - (length - shared)
    begins -= begins[first][row]  # slot of the first token that a prompt does not share
    column = np.arange(L)
    own = inside & (column >= shared[:, None])  # (N, L)
    # A shared token belongs to the last prompt before that has it as its own.
    owner = np.maximum.accumulate(np.where(own, np.arange(N)[:, None], 0), axis=0)
    slots = begins[owner] + column - shared[owner]  # (N, L)
    before = np.concatenate([slots[:, :1], slots[:, :-1]], axis=1)
    n, t = np.nonzero(own)
    at = row[n], slots[n, t]
    tokens, depth = np.zeros((2, int(row[-1]) + 1, T), dtype=np.int64)
    parent = np.tile(np.arange(T), (len(tokens), 1))
    tokens[at], depth[at], parent[at] = ids[n, t], t, before[n, t]
    back = np.argsort(order)
    last = slots[np.arange(N), length - 1]
    return Trees(tokens, depth, parent, row[back], slots[back], last[back])


def _cut(length: NDArray[np.int64], shared: NDArray[np.int64], T: int) -> NDArray[np.bool_]:
    """Return whether each prompt begins a new row, if rows of T tokens are filled in turn."""
    first = np.zeros(len(length), dtype=bool)
    used = T + 1  # so that the first prompt begins a row
    for n, (n_tokens, own) in enumerate(
        zip(length.tolist(), (length - shared).tolist(), strict=True)
    ):
        used += own
        if used > T:
            first[n], used = True, n_tokens
    return first
