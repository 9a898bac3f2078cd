"""Rows with a shared prefix.

The output is predicted, never read, and all instances of one instruction share it as their prefix.
A row [I; x1 .. xm], with every x at position |I| and looking at I and itself only, stands for m
plain sequences [I; x] at the cost of |I| + m tokens, with identical logits and states.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasklens.core.seeds import stream


@dataclass(frozen=True)
class Prompts:
    """Token rows and the position of interest in each: what a Subject is asked about.

    Attributes
    ----------
    ids : int64 (N, T)
        Token ids; what stands behind the position of interest is never read.
    position : int64 (N,)
        Index of the token whose state is wanted.
    begin : int64 (N,), optional
        Index of the first token of the span, up to the position, over which the mean of the state
        is wanted instead.
    """

    ids: NDArray[np.int64]
    position: NDArray[np.int64]
    begin: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def join(prompts: Sequence[Prompts]) -> Prompts:
    """Return several sets of prompts of one width as one."""
    return Prompts(
        np.concatenate([p.ids for p in prompts]), np.concatenate([p.position for p in prompts])
    )


@dataclass(frozen=True)
class Rows:
    """R shared-prefix rows with m inputs each.

    Attributes
    ----------
    prefix : int64 (R, L)
        Token ids of the instruction, padded with 0 at the end.
    length : int64 (R,)
        Tokens of the instruction.
    inputs : int64 (R, m)
        Token ids of x1 .. xm.
    instance : int64 (R, m)
        Which of the original instances each x is.
    """

    prefix: NDArray[np.int64]
    length: NDArray[np.int64]
    inputs: NDArray[np.int64]
    instance: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.prefix)

    def take(self, which: NDArray[np.int64] | slice) -> "Rows":
        """Return some of the rows, padded no further than the longest of them needs."""
        length = self.length[which]
        return Rows(
            self.prefix[which, : length.max()], length, self.inputs[which], self.instance[which]
        )


def shared_prefix_rows(prompts: Prompts) -> list[Rows]:
    """Group prompts that agree up to their position of interest, one `Rows` for each m.

    Rows are in the order of their lengths.
    """
    N, T = prompts.ids.shape
    outside = np.arange(T) >= prompts.position[:, None]  # (N, T)
    masked = np.where(outside, -1, prompts.ids)
    prefixes, group = np.unique(masked, axis=0, return_inverse=True)  # (G, T), (N,)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=len(prefixes))  # (G,)
    starts = np.cumsum(counts) - counts
    lengths = (prefixes != -1).sum(axis=1)
    x = prompts.ids[np.arange(N), prompts.position]
    rows = []
    for m in np.unique(counts):
        here = np.flatnonzero(counts == m)
        here = here[np.argsort(lengths[here], kind="stable")]
        instance = order[starts[here][:, None] + np.arange(m)]  # (R, m)
        prefix = np.maximum(prefixes[here, : lengths[here].max()], 0)
        rows.append(Rows(prefix, lengths[here], x[instance], instance))
    return rows


def batches(rows: list[Rows], size: int, seed: int) -> Iterator[Rows]:
    """Yield batches of exactly ``size`` rows of one m, for ever.

    Each pass shuffles the rows of every m and cuts them into batches, which come in a random
    order; rows left over open the next pass. So every row is seen equally often (to within one
    batch). Lengths are mixed in a batch: batches of one length would save the 5 % of tokens that
    are padding, and were measured to learn several times more slowly. The order is a function of
    the seed alone.
    """
    left = [np.empty(0, dtype=np.int64) for _ in rows]
    epoch = 0
    while True:
        rng = stream(seed, "batches", epoch)
        epoch += 1
        cut: list[tuple[int, NDArray[np.int64]]] = []
        for i, same in enumerate(rows):
            pending = np.concatenate([left[i], rng.permutation(len(same))])
            n = len(pending) // size
            cut += [(i, pending[j * size : (j + 1) * size]) for j in range(n)]
            left[i] = pending[n * size :]
        for j in rng.permutation(len(cut)):
            i, which = cut[j]
            yield rows[i].take(which)
