"""Training rows with a shared prefix, and batches of them.

The output is predicted, never read, and all instances of one instruction share it as their prefix.
A row [I; x1 .. xm], with every x at position |I| attending to I and itself only, stands for m plain
sequences [I; x] at the cost of |I| + m tokens, with identical logits and states.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasklens.core.seeds import stream
from tasklens.data.token_prompts import Prompts


class TrainingBatch(NamedTuple):
    """Shared-prefix rows and their outputs: (B, L), (B,), (B, m) and (B, m), all int64."""

    prefix: Tensor
    length: Tensor
    inputs: Tensor
    outputs: Tensor


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
        Index of each x among the original instances.
    """

    prefix: NDArray[np.int64]
    length: NDArray[np.int64]
    inputs: NDArray[np.int64]
    instance: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.prefix)

    def take(self, index: NDArray[np.int64] | slice) -> "Rows":
        """Return the rows at these indices, padded no further than the longest of them needs."""
        length = self.length[index]
        return Rows(
            self.prefix[index, : length.max()], length, self.inputs[index], self.instance[index]
        )

    def batch(self, output: NDArray[np.int64], device: torch.device) -> TrainingBatch:
        """Return the rows as tensors on a device, given the output of each original instance."""
        arrays = (self.prefix, self.length, self.inputs, output[self.instance])
        return TrainingBatch(*(torch.from_numpy(a).to(device, non_blocking=True) for a in arrays))


def shared_prefix_rows(prompts: Prompts) -> list[Rows]:
    """Group prompts that agree up to their position: one `Rows` per m, sorted by length."""
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
        same = np.flatnonzero(counts == m)
        same = same[np.argsort(lengths[same], kind="stable")]
        instance = order[starts[same][:, None] + np.arange(m)]  # (R, m)
        prefix = np.maximum(prefixes[same, : lengths[same].max()], 0)
        rows.append(Rows(prefix, lengths[same], x[instance], instance))
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
            i, index = cut[j]
            yield rows[i].take(index)
