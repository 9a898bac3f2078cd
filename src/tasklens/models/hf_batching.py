"""Decide how prompts are read together, so that each has the states that it has alone.

The result of a model for a prompt may depend on the other rows of its pass. Dynamic and long RoPE
depend on the longest row. Experts of a limited capacity depend on the number of tokens, and the
scales of quantized activations on all values. So some prompts of very different lengths, and a full
pass, are tried against the same prompts alone. The fastest way that changes no state is used.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tasklens.core.errors import InputError, first_line
from tasklens.core.progress import inform
from tasklens.data.token_prompts import Prompts
from tasklens.models.devices import holds_float32, is_out_of_memory
from tasklens.models.hf_reader import HarvestBatch, HuggingFaceReader, Ints
from tasklens.models.hf_rows import ALONE, EQUAL, PADDED, TREES, Rows, may_share, rows_of
from tasklens.models.modes import evaluating, in_float32

#: Most prompts of a pass that are read alone for the comparison, and fewest if they are long.
CHECKED, FEWEST = 8, 4
#: Tokens of these prompts, in number and as a share of all, that are not too many.
AFFORDABLE, SHARE = 512, 0.05
#: Largest distance between the two states in float32, as a share of the state's norm.
TOLERANCE = 1e-4
#: In other types: largest median of the distances and largest distance, in units of the type's
#: rounding, which may change the expert of a token. Random networks of 8 layers, much rougher than
#: trained ones, have up to 12 and 100. Before rows are padded, fewer are allowed, because rows of
#: equal length cost little.
ROUNDINGS, ROUNDINGS_IF_PADDED = (16, 128), (4, 16)
REFUSALS = {
    TREES: "gives other states under a 4-D attention mask",
    PADDED: "gives other states in padded rows",
    EQUAL: "gives other states beside other prompts",
}

Floats: TypeAlias = npt.NDArray[np.float32]
#: The states of some rows' prompts, or None if the memory does not hold the pass.
Attempt: TypeAlias = Callable[[Rows, Ints, Sequence[str]], HarvestBatch | None]


@dataclass
class Reading:
    """Way in which prompts are read, which decides the last bits of their states."""

    how: str
    """One of `TREES`, `PADDED`, `EQUAL` and `ALONE`."""
    reason: str = ""
    """The reason for no faster way; empty if this is the fastest."""
    max_tokens: list[tuple[str, int, int]] = field(default_factory=list)
    """Tokens of a pass: how the prompts are read, the first row, and the tokens from there on."""
    threads: int = field(default_factory=torch.get_num_threads)
    """CPU threads of torch."""

    def tokens_from(self, row: int, otherwise: int) -> int:
        """Return the tokens of a pass that are recorded at a row, or other ones."""
        known = [n for how, first, n in self.max_tokens if (how, first) == (self.how, row)]
        return known[-1] if known else otherwise


class Pass(NamedTuple):
    """A pass that the trial has read."""

    how: str
    rows: Ints
    batch: HarvestBatch


class Trial:
    """Trial of the ways to read some prompts.

    Parameters
    ----------
    attempt : callable
        Read a pass with the given names. If the memory does not hold it, lower ``max_tokens`` and
        return None.
    max_tokens : callable
        Return the tokens of a pass.
    """

    def __init__(
        self,
        reader: HuggingFaceReader,
        prompts: Prompts,
        attempt: Attempt,
        max_tokens: Callable[[], int],
    ) -> None:
        self.reader, self.n_positions = reader, len(prompts.parts)
        self.prompts = prompts
        if (prompts.last > prompts.position).any():
            # The last token is compared, too: some errors show only late in a row.
            ends = replace(prompts, position=prompts.last, begin=None, also=())
            self.prompts = replace(prompts, also=(*prompts.also, ends))
        self.attempt, self.max_tokens = attempt, max_tokens
        self.name = reader.names[-1]
        self.order = np.argsort(prompts.last, kind="stable")
        n_tokens = int((prompts.last + 1).sum())
        affordable = max(AFFORDABLE, SHARE * n_tokens) / (int(prompts.last.max()) + 1)
        self.n_checked = int(np.clip(affordable, FEWEST, CHECKED))
        #: States of prompts that were read alone: in the model's type, and in float32.
        self._alone: tuple[dict[int, Floats], dict[int, Floats]] = ({}, {})

    def choose(
        self, names: Sequence[str], *, share: bool | None = None
    ) -> tuple[Reading, Pass | None]:
        """Return the fastest way that changes no state, and a full pass that was read for it.

        ``share``: whether trees are tried; None: if they save work.

        InputError if the model gives other states when it reads a prompt again, or if the memory
        does not hold a prompt.
        """
        self._check_repeats()
        if share is None:
            share = may_share(self.reader, self.prompts, self.max_tokens())
        reason = ""
        for how in (TREES, PADDED, EQUAL)[not share :]:
            rows = rows_of(how, self.reader, self.prompts)
            refusal = self._refusal_of_trees(rows) if how == TREES else self._refusal_in_part(rows)
            tried = None if refusal else self._full_pass(rows, names)
            if tried is not None and self._differs(tried.batch, self.n_checked // 2):
                refusal = REFUSALS[how]
            if not refusal:
                if tried is not None:  # without the trial's own position
                    also = tried.batch.also[: self.n_positions - 1]
                    tried = tried._replace(batch=tried.batch._replace(also=also))
                return Reading(how, reason), tried
            reason = f"{self.reader.kind} {refusal}"
        return Reading(ALONE, reason), None

    def _check_repeats(self) -> None:
        """Read the shortest prompt, the longest, and the shortest again."""
        shortest, longest = self.order[[0, -1]].tolist()
        first, _ = self._read_alone(shortest), self._read_alone(longest)
        again = self._read_alone(shortest, again=True)
        if _differ(again[None], first[None], self.reader.dtype):
            raise InputError(
                f"{self.reader.kind} gives other states if it reads a prompt again: it draws at "
                "random, or keeps something of what it has read"
            )

    def _refusal_of_trees(self, rows: Rows) -> str:
        """Return why trees change the states of their prompts, or "" if they do not.

        A token of a tree attends to its ancestors only, at the position that it has in its prompt.
        Some models compute positions or attention in another way: by ALiBi, by recurrence, or in a
        window shorter than the longest prompt. An error of the model's own code is a reason. An
        error of tasklens is raised.
        """
        trees = rows.trees
        assert trees is not None
        if not self.reader.takes_positions:
            return "does not take the positions of tokens"
        fullest = int(np.bincount(trees.row).argmax())
        tried = np.unique([*trees.row[self.order[[0, -1]]], fullest])
        n_rows = max(1, self.max_tokens() // trees.ids.shape[1])
        for part in np.split(tried, range(n_rows, len(tried), n_rows)):
            try:
                batch = self._read(rows, part)
            except Exception as error:
                if is_out_of_memory(error):
                    return "does not fit into memory with a 4-D attention mask"
                reason = self._error_without_hooks(self.reader.tree_inputs(trees, part))
                if not reason:
                    raise
                return f"does not accept a 4-D attention mask ({reason})"
            if self._differs(batch, self.n_checked):
                return REFUSALS[TREES]
        return ""

    def _error_without_hooks(self, inputs: dict[str, torch.Tensor]) -> str:
        """Return the error that the model's code alone raises on some rows, or "" if none."""
        try:
            with torch.inference_mode(), evaluating(self.reader.model):
                self.reader.forward(**inputs)
        except Exception as error:
            return f"{type(error).__name__}: {first_line(error)}"
        return ""

    def _refusal_in_part(self, rows: Rows) -> str:
        """Return why a small pass over all lengths changes states, or "" if it does not.

        Rounding would hide small differences, so the model is tried in float32 if the memory holds
        it and its code allows it.
        """
        if self.reader.dtype != torch.float32 and holds_float32(self.reader.model):
            part = self._over_all_lengths(rows)
            # The model's code may need the type that it has.
            with suppress(RuntimeError, MemoryError, ValueError), in_float32(self.reader.model):
                if len(part) > 1 and self._differs(self._read(rows, part), len(part), exact=True):
                    return REFUSALS[rows.how]
                return ""
        while len(part := self._over_all_lengths(rows)) > 1:
            batch = self.attempt(rows, part, [self.name])
            if batch is not None:
                roundings = ROUNDINGS_IF_PADDED if rows.how == PADDED else ROUNDINGS
                return REFUSALS[rows.how] if self._differs(batch, len(part), roundings) else ""
        return ""

    def _over_all_lengths(self, rows: Rows) -> Ints:
        """Return some rows for one pass: of all lengths that are ever padded, or of one length."""
        if rows.how == EQUAL:
            return _spread(rows.fullest_pass(self.max_tokens()), self.n_checked)
        padded = np.flatnonzero(2 * rows.lengths <= self.max_tokens())
        n = self.max_tokens() // int(rows.lengths[padded[-1]]) if len(padded) else 0
        return _spread(padded, min(n, self.n_checked))

    def _full_pass(self, rows: Rows, names: Sequence[str]) -> Pass | None:
        """Read the pass that has most rows; return None if no pass has several."""
        while len(full := rows.fullest_pass(self.max_tokens())) > 1:
            batch = self.attempt(rows, full, tuple(dict.fromkeys((*names, self.name))))
            if batch is not None:
                return Pass(rows.how, full, batch)
        return None

    def _differs(
        self,
        batch: HarvestBatch,
        n: int,
        roundings: tuple[int, int] = ROUNDINGS,
        *,
        exact: bool = False,
    ) -> bool:
        """Return whether n prompts of a pass, or those read alone before, have other states alone.

        ``exact`` if the model's weights are float32 for the trial.
        """
        by_length = np.argsort(self.prompts.last[batch.indices], kind="stable")
        known = np.flatnonzero(np.isin(batch.indices, [*self._alone[exact]]))
        checked = np.union1d(known, _spread(by_length, n))
        alone = [self._read_alone(i, exact=exact) for i in batch.indices[checked].tolist()]
        dtype = torch.float32 if exact else self.reader.dtype
        return _differ(self._states(batch)[checked], np.stack(alone), dtype, roundings)

    def _states(self, batch: HarvestBatch) -> Floats:
        """Return the last state at each position, (b, P, D)."""
        return np.stack([part.states[self.name] for part in batch.parts], axis=1)

    def _read_alone(self, index: int, *, exact: bool = False, again: bool = False) -> Floats:
        """Return the last state at each position, (P, D), of a prompt alone in its pass."""
        known = self._alone[exact]
        if again or index not in known:
            rows = rows_of(ALONE, self.reader, self.prompts)
            row = np.flatnonzero(self.order == index)
            try:
                known[index] = self._states(self._read(rows, row))[0]
            except Exception as error:
                n_tokens = int(self.prompts.last[index]) + 1
                if exact:
                    raise
                if is_out_of_memory(error):
                    raise too_long(self.reader, n_tokens) from error
                ids = torch.from_numpy(self.prompts.ids[[index], :n_tokens]).to(self.reader.device)
                reason = self._error_without_hooks({"ids": ids})
                if not reason:
                    raise
                raise InputError(
                    f"{self.reader.kind} cannot read a prompt of {n_tokens} tokens: {reason}"
                ) from error
        return known[index]

    def _read(self, rows: Rows, part: Ints) -> HarvestBatch:
        with evaluating(self.reader.model):
            return rows.read(part, [self.name])


def too_long(reader: HuggingFaceReader, n_tokens: int) -> InputError:
    """Return the error of a prompt that the memory does not hold."""
    return InputError(
        f"the memory of {reader.device} does not hold one prompt of {n_tokens} tokens; give "
        "another --device or --dtype bfloat16"
    )


def _differ(
    got: Floats, alone: Floats, dtype: torch.dtype, roundings: tuple[int, int] = ROUNDINGS
) -> bool:
    """Return whether states (..., D) differ from others by more than rounding.

    A state that is not finite alone is not compared.
    """
    got, alone = (states.reshape(-1, states.shape[-1]) for states in (got, alone))
    finite = np.isfinite(alone).all(axis=1)
    if not finite.any():
        return False
    got, alone = got[finite], alone[finite]
    norm = np.maximum(np.linalg.norm(alone, axis=1), np.finfo(np.float32).tiny)
    distance = np.linalg.norm(got - alone, axis=1) / norm
    if dtype == torch.float32:
        return not (distance <= TOLERANCE).all()
    measured = (np.median(distance), distance.max())
    return not (measured <= torch.finfo(dtype).eps * np.array(roundings)).all()


def _spread(values: Ints, n: int) -> Ints:
    """Return at most n of the values, from the first to the last."""
    if len(values) <= n:
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, n).round().astype(np.int64))]


@functools.cache
def print_once(line: str) -> None:
    """Print a line on standard error once per process, not for each checkpoint of a series."""
    inform(line)
