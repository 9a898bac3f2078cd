"""Prompts as token ids: what a model is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prompts:
    """Token rows and the measured position in each."""

    ids: NDArray[np.int64]
    """Token ids, (N, T); tokens behind the measured position are never read."""
    position: NDArray[np.int64]
    """Index of the token whose hidden state is measured, (N,)."""
    begin: NDArray[np.int64] | None = None
    """Index of the first token of a span that ends at the position, (N,). The mean of the hidden
    states over the span is measured instead."""
    split: str = ""
    """Name of the split that the prompts are of; empty if they are of none, or of several."""
    position_name: str = "input"
    """Name of the measured position."""

    def __len__(self) -> int:
        return len(self.ids)


def join(prompts: Sequence[Prompts]) -> Prompts:
    """Concatenate prompts of one width; the split is kept if all have the same.

    ValueError if the prompts are measured at positions of several names, or some at spans.
    """
    (name,) = {p.position_name for p in prompts}
    spans = [p.begin for p in prompts if p.begin is not None]
    if 0 < len(spans) < len(prompts):
        raise ValueError("prompts with spans and prompts without cannot be joined")
    splits = {p.split for p in prompts}
    return Prompts(
        np.concatenate([p.ids for p in prompts]),
        np.concatenate([p.position for p in prompts]),
        np.concatenate(spans) if spans else None,
        splits.pop() if len(splits) == 1 else "",
        name,
    )
