"""Prompts as token trees: what several prompts begin with stands, and is computed, once.

A causal model's state at a token depends on the tokens before it alone. So prompts that begin alike
share those tokens, to whatever depth: where a row [I; x1 .. xm] shares one instruction among its
inputs, a tree also shares what instructions of one task have in common. A token looks at its
ancestors and itself, and its position is its depth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasklens.data.token_prompts import Prompts

#: Tokens in one tree row, unless a single prompt is longer. The scores between the tokens of a row
#: grow with its square; what neighbouring rows repeat shrinks with its length.
ROW_TOKENS = 128


@dataclass(frozen=True)
class Trees:
    """B rows of T tokens, each a tree, or several; all arrays are int64.

    The measured token of prompt n stands at (``row[n]``, ``slot[n]``).
    """

    ids: NDArray[np.int64]  # (B, T), token ids; a row that is not full ends in zeros
    depth: NDArray[np.int64]  # (B, T), the number of tokens before it on its path: its position
    #: (B, T), the index in the row of the token before it on its path, which is smaller than its
    #: own; a token with none before it is its own parent.
    parent: NDArray[np.int64]
    row: NDArray[np.int64]  # (N,)
    slot: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.ids)

    def prompts_in(self, rows: slice) -> NDArray[np.int64]:
        """Return the indices of the prompts that stand in some rows."""
        return np.flatnonzero((self.row >= rows.start) & (self.row < rows.stop))


def token_trees(prompts: Prompts, row_tokens: int = ROW_TOKENS) -> Trees:
    """Return N prompts as trees, cut into rows of ``row_tokens``, or of the longest prompt's.

    What stands behind the measured positions is not read.
    """
    N, L = prompts.ids.shape
    length = prompts.position + 1  # (N,)
    inside = prompts.is_read  # (N, L)
    order = np.lexsort(np.where(inside, prompts.ids, -1).T[::-1])
    length, inside = length[order], inside[order]
    ids = np.where(inside, prompts.ids[order], -1)
    # Neighbours in this order share the most: shared[n] tokens with the one before.
    differs = ids[1:] != ids[:-1]
    shared = np.zeros(N, dtype=np.int64)
    shared[1:] = np.where(differs.any(axis=1), differs.argmax(axis=1), length[1:])
    T = max(row_tokens, int(length.max()))
    first = _cut(length, shared, T)  # (N,) bool: begins a row
    shared[first] = 0
    row = np.cumsum(first) - 1  # (N,)
    ends = np.cumsum(length - shared)
    begins = ends - (length - shared)
    begins -= begins[first][row]  # slot of each prompt's first token of its own
    place = np.arange(L)
    own = inside & (place >= shared[:, None])  # (N, L)
    # A token that is not a prompt's own is that of the last prompt which had it as its own.
    owner = np.maximum.accumulate(np.where(own, np.arange(N)[:, None], 0), axis=0)
    slot = begins[owner] + place - shared[owner]  # (N, L)
    before = np.concatenate([slot[:, :1], slot[:, :-1]], axis=1)
    n, t = np.nonzero(own)
    at = row[n], slot[n, t]
    tokens, depth = np.zeros((2, int(row[-1]) + 1, T), dtype=np.int64)
    parent = np.tile(np.arange(T), (len(tokens), 1))
    tokens[at], depth[at], parent[at] = ids[n, t], t, before[n, t]
    back = np.argsort(order)
    return Trees(tokens, depth, parent, row[back], slot[np.arange(N), length - 1][back])


def _cut(length: NDArray[np.int64], shared: NDArray[np.int64], T: int) -> NDArray[np.bool_]:
    """Say of each prompt whether it begins a new row, filling rows of T tokens in turn."""
    first = np.zeros(len(length), dtype=bool)
    used = T + 1  # nothing fits
    for n, (whole, own) in enumerate(zip(length.tolist(), (length - shared).tolist(), strict=True)):
        used += own
        if used > T:
            first[n], used = True, whole
    return first
