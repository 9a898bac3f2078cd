"""Prompts as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasklens.data.instances import Instances


@dataclass(frozen=True)
class Prompts:
    """Token rows and the measured position in each.

    Attributes
    ----------
    ids : int64 (N, T)
        Token ids; tokens after the measured position are never read.
    position : int64 (N,)
        Index of the token whose hidden state is measured.
    begin : int64 (N,), optional
        Index of the first token of a span that ends at the position. If given, the mean of the
        hidden states over the span is measured.
    split : str
        Name of the prompts' split; empty if they have none, or several.
    position_name : str
        Name of the measured position.
    instances : Instances, optional
        Task, input and output of the N prompts.

    Examples
    --------
    >>> import numpy as np
    >>> import tasklens as tl
    >>> len(tl.Prompts(ids=np.array([[4, 7, 0], [4, 2, 9]]), position=np.array([1, 2])))
    2
    """

    ids: NDArray[np.int64]
    position: NDArray[np.int64]
    begin: NDArray[np.int64] | None = None
    split: str = ""
    position_name: str = "input"
    instances: Instances | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_read(self) -> NDArray[np.bool_]:
        """True for each token up to the measured position, bool (N, T)."""
        return np.arange(self.ids.shape[1]) <= self.position[:, None]


def join(prompts: Sequence[Prompts]) -> Prompts:
    """Concatenate prompts of one width; the split is kept if it is the same for all.

    ValueError if the names of the positions differ, or only some of the prompts have spans.
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
