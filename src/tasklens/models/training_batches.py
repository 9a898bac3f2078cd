"""Training rows with a shared prefix, and batches of them.

The output is predicted, never read, and all instances of one instruction share it as their prefix.
In a row [I; x1 .. xm], every x is at position |I| and attends to I and itself only. The row stands
for m plain sequences [I; x] at the cost of |I| + m tokens, with identical logits and states.
"""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasklens.core.seeds import stream
from tasklens.data.token_prompts import Prompts


class TrainingBatch(NamedTuple):
    """B shared-prefix rows with m inputs each, and their outputs; all tensors are int64."""

    prefix: Tensor  # (B, L), the token ids of the instruction, padded with 0 at the end
    length: Tensor  # (B,), the number of its tokens
    inputs: Tensor  # (B, m), the token ids of x1 .. xm
    outputs: Tensor  # (B, m)

    def take(self, index: Tensor | slice) -> Self:
        """Return some of the rows, padded to the longest of them."""
        prefix, length, inputs, outputs = (tensor[index] for tensor in self)
        return type(self)(prefix[:, : length.max()], length, inputs, outputs)

    def with_inputs(self, column: Tensor) -> Self:
        """Return the rows with some of their inputs, named by their columns, int64 (B, fewer)."""
        inputs, outputs = self.inputs.gather(1, column), self.outputs.gather(1, column)
        return type(self)(self.prefix, self.length, inputs, outputs)

    def to(self, device: torch.device) -> Self:
        """Return the rows on a device."""
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in self))


def shared_prefix_rows(prompts: Prompts, output: NDArray[np.int64]) -> list[TrainingBatch]:
    """Group prompts with the same prefix into rows, given the output of each, int64 (N,).

    Return one batch per number of inputs, m, each with its rows sorted by length.
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
        same = np.flatnonzero(counts == m)
        same = same[np.argsort(lengths[same], kind="stable")]
        instance = order[starts[same][:, None] + np.arange(m)]  # (R, m)
        prefix = np.maximum(prefixes[same, : lengths[same].max()], 0)
        arrays = (prefix, lengths[same], x[instance], output[instance])
        rows.append(TrainingBatch(*map(torch.from_numpy, arrays)))
    return rows


def batches(
    rows: list[TrainingBatch], size: int, seed: int, inputs_per_row: int = 0
) -> Iterator[TrainingBatch]:
    """Yield batches of exactly ``size`` rows with one m, without end.

    Each pass shuffles the rows of every m and cuts them into batches, which are drawn in a random
    order; leftover rows begin the next pass. Thus every row is seen equally often, to within one
    batch. A row that has more than ``inputs_per_row`` inputs keeps as many of them, drawn anew
    for each batch; 0 keeps all. A batch mixes lengths: batches of one length would save the 5 %
    of tokens that are padding, but learned several times more slowly. The order is a function of
    the seed alone.
    """
    left = [np.empty(0, dtype=np.int64) for _ in rows]
    epoch = 0
    while True:
        rng = stream(seed, "batches", epoch)
        epoch += 1
        cut: list[tuple[int, NDArray[np.int64]]] = []
        for i, same in enumerate(rows):
            pending = np.concatenate([left[i], rng.permutation(len(same.length))])
            n = len(pending) // size
            cut += [(i, pending[j * size : (j + 1) * size]) for j in range(n)]
            left[i] = pending[n * size :]
        for j in rng.permutation(len(cut)):
            i, index = cut[j]
            batch = rows[i].take(torch.from_numpy(index))
            m = batch.inputs.shape[1]
            if 0 < inputs_per_row < m:
                order = rng.permuted(np.tile(np.arange(m), (size, 1)), axis=1)  # (B, m)
                batch = batch.with_inputs(torch.from_numpy(order[:, :inputs_per_row]))
            yield batch
