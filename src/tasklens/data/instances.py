"""Describe the measured instances of a split without any model."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasklens.core.errors import InputError

SPLIT_MEANINGS = {
    "train_subset": "seen in training",
    "val_subset": "unseen pairs",
    "val_instruction_subset": "unseen instructions",
    "unseen_distribution_subset": "unseen distributions",
    "unseen_task_subset": "unseen tasks",
}
"""Meanings of the measured splits of a training run, from the most to the least seen."""
UNSEEN_KINDS = ("unseen_distribution_subset", "unseen_task_subset")
"""The splits of unseen kinds: nothing in training tells what a model should make of them."""
JUDGED = tuple(split for split in SPLIT_MEANINGS if split not in UNSEEN_KINDS)
"""The splits on which findings are judged, the one that training has seen first."""


def split_title(split: str) -> str:
    """Return the name of a split and, if it is a split of a training run, what it is."""
    meaning = SPLIT_MEANINGS.get(split)
    return f"{split} ({meaning})" if meaning else split


@dataclass(frozen=True)
class Instances:
    """The N measured instances of one split: task, input, output, instruction, unit.

    Raises
    ------
    InputError
        If the shapes differ, or N is 0. If they are not integers: NaN would be a task of its own.

    Examples
    --------
    >>> import tasklens as tl
    >>> instances = tl.load_run("runs/smoke").instances("val_subset")
    >>> instances.task.shape == instances.input.shape == instances.output.shape
    True
    """

    split: str
    """Name of the split."""
    task: npt.NDArray[np.int64]
    """Task of each instance, (N,)."""
    input: npt.NDArray[np.int64]
    """Input token of each instance, (N,)."""
    output: npt.NDArray[np.int64] | None
    """Output token of each instance, (N,); None if outputs are not known."""
    length: npt.NDArray[np.int64]
    """Number of symbols in each instance's instruction, (N,)."""
    symbol_counts: npt.NDArray[np.int64]
    """How often each of A symbols occurs in each instance's instruction, (N, A)."""
    unit: npt.NDArray[np.int64]
    """Number of the unit that is resampled, (N,): the instruction, or the group of a prompt. If two
    kinds of units are resampled, such as contexts and inputs: (N, 2), all numbers distinct."""
    distribution: npt.NDArray[np.int64] | None = None
    """Number of the distribution that each instance's instruction was drawn from, (N,), distinct
    over all tasks; None if it is not known."""
    family: npt.NDArray[np.int64] | None = None
    """Number of the family of each instance, (N,); None if all are one family."""
    family_names: tuple[str, ...] = ()
    """Name of each family, by number."""
    crossed: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    """The value of each instance in columns that are compared with the clusters, too, (N,) each."""

    def __post_init__(self) -> None:
        unit = self.unit[..., 0] if self.unit.ndim == 2 and self.unit.shape[1] == 2 else self.unit
        known = [self.task, self.input, self.output, self.length, unit]
        known += [self.distribution, self.family]
        shapes = [a.shape for a in known if a is not None]
        n = shapes[0][0] if shapes[0] else 0
        if n == 0 or set(shapes) != {(n,)} or self.symbol_counts.shape[:-1] != (n,):
            raise InputError(
                f"instances of {self.split}: shapes {shapes}, {self.symbol_counts.shape}: should "
                "all be (N,) and (N, A), with N at least 1"
            )
        if not all(np.issubdtype(a.dtype, np.integer) for a in known if a is not None):
            raise InputError(f"instances of {self.split}: should be arrays of integers")

    @property
    def parts(self) -> dict[str, npt.NDArray[np.int64]]:
        """Task, input and, if known, output of each instance, by name: the labels to compare.

        Also the distribution, if a task has several.
        """
        parts = {"task": self.task, "input": self.input, "output": self.output}
        if self.distribution is not None and len(np.unique(self.distribution)) > self.n_tasks:
            parts["distribution"] = self.distribution
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def input_class(self) -> npt.NDArray[np.int64]:
        """Class of each instance's input, (N,): inputs that share a task are of one class.

        If each task is asked over all inputs, there is one class. If tasks have inputs of their
        own, such as verbs or countries, the input alone tells the class of its task.
        """
        _, inputs = np.unique(self.input, return_inverse=True)
        _, tasks = np.unique(self.task, return_inverse=True)
        n = int(inputs.max()) + 1
        size = n + int(tasks.max()) + 1
        links = coo_array((np.ones(len(inputs)), (inputs, n + tasks)), shape=(size, size))
        return connected_components(links, directed=False)[1][inputs].astype(np.int64)  # type: ignore[no-any-return]

    @functools.cached_property
    def n_tasks(self) -> int:
        """Number of distinct tasks, which is the default number of clusters."""
        return len(np.unique(self.task))

    @functools.cached_property
    def families(self) -> "tuple[Family, ...]":
        """The families, each of which is clustered and scored for itself; one if none are known."""
        if self.family is None:
            return (Family("", slice(None), self),)
        return tuple(
            Family(self.family_names[number], rows, self._take(rows))
            for number in np.unique(self.family).tolist()
            for rows in [np.flatnonzero(self.family == number)]
        )

    def of_family(self, name: str) -> "Family":
        """Return the family with a name; empty if all instances are one family."""
        (family,) = (each for each in self.families if each.name == name)
        return family

    def _take(self, rows: npt.NDArray[np.int64]) -> "Instances":
        """Return some of the instances, as those of one family."""
        parts = ("task", "input", "output", "length", "symbol_counts", "unit", "distribution")
        taken = {name: getattr(self, name) for name in parts}
        taken = {name: each if each is None else each[rows] for name, each in taken.items()}
        crossed = {name: values[rows] for name, values in self.crossed.items()}
        return replace(self, **taken, family=None, family_names=(), crossed=crossed)


class Family(NamedTuple):
    """The instances of a split whose tasks are compared with each other."""

    name: str
    """Empty if all instances of the split are one family."""
    rows: npt.NDArray[np.int64] | slice
    """Rows of the split."""
    instances: Instances


def join_families(
    parts: Sequence[tuple[Family, npt.NDArray[Any]]], axis: int = 0
) -> npt.NDArray[Any]:
    """Return the arrays of the families of a split as one, in the order of the split's rows.

    The instances of each are along ``axis``.
    """
    if len(parts) == 1:
        return parts[0][1]
    rows = np.concatenate([np.asarray(family.rows) for family, _ in parts])
    return np.take(np.concatenate([x for _, x in parts], axis=axis), np.argsort(rows), axis=axis)
