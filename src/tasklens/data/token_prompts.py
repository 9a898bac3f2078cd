"""Prompts as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasklens.data.instances import Instances


@dataclass(frozen=True)
class Prompts:
    """Token rows and the measured position in each.

    Attributes
    ----------
    ids : int64 (N, T)
        Token ids; tokens after `last` are never read.
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
    answer_at : int64 (N,), optional
        Index of the token after which the answer follows; by default the position.
    asked : int64 (N, C), optional
        Tokens whose probability after `answer_at` is wanted; -1: none.
    also : tuple of Prompts
        The same prompts at other positions, which are measured in the same pass.

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
    answer_at: NDArray[np.int64] | None = None
    asked: NDArray[np.int64] | None = None
    also: tuple["Prompts", ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def parts(self) -> tuple["Prompts", ...]:
        """The prompts at each position of a pass, in order."""
        return (replace(self, also=()), *self.also)

    @property
    def answered(self) -> NDArray[np.int64]:
        """Index of the token after which the answer is read, int64 (N,)."""
        return self.position if self.answer_at is None else self.answer_at

    @property
    def last(self) -> NDArray[np.int64]:
        """Index of the last token that is read: measured, or followed by the answer; int64 (N,)."""
        ends = [end for part in self.parts for end in (part.position, part.answered)]
        return np.maximum.reduce(ends)  # type: ignore[no-any-return]

    @property
    def is_read(self) -> NDArray[np.bool_]:
        """True for each token up to the last that is read, bool (N, T)."""
        return np.arange(self.ids.shape[1]) <= self.last[:, None]


def at_once(prompts: Sequence[Prompts]) -> Prompts:
    """Return the same N prompts at several positions as prompts that are read in one pass."""
    first, *others = prompts
    ids = np.zeros((len(first), max(each.ids.shape[1] for each in prompts)), dtype=np.int64)
    for each in prompts:
        width = each.ids.shape[1]
        ids[:, :width] = np.where(each.is_read, each.ids, ids[:, :width])
    return replace(first, ids=ids, also=tuple(others))


def distinct_sites(prompts: Prompts) -> tuple[list[Prompts], list[int]]:
    """Return positions with different tokens before the answer, and the number of that of each.

    Positions that ask for no tokens share another's site.
    """
    sites: list[Prompts] = []
    numbers = []
    for part in prompts.parts:
        alike = (
            i
            for i, site in enumerate(sites)
            if np.array_equal(site.answered, part.answered)
            and (part.asked is None or _alike(site.asked, part.asked))
        )
        number = next(alike, len(sites))
        if number == len(sites):
            sites.append(part)
        numbers.append(number)
    return sites, numbers


def _alike(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    return one is not None and other is not None and np.array_equal(one, other)


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
