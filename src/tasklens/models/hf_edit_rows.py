"""Arrange edits in the rows that a model of transformers reads together.

A *job* is a prompt with an edit, and with the tokens of an answer that are read. Usually it has a
row of its own. If a model reads token trees, a row is [I; s1 .. sE]: the tokens I before the edited
span are read once, for E jobs whose other tokens s attend to I and to their own job.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasklens.data.edited_prompts import EditedPrompts, Ints
from tasklens.models.hf_rows import ALONE, EQUAL, TREES
from tasklens.models.prefix_trees import ROW_TOKENS

#: Length of a tree row in prefixes. Longer rows repeat fewer prefixes, but the number of attention
#: scores grows with the square of the length.
PREFIXES = 4


class EditRows(NamedTuple):
    """B rows of T tokens with J jobs, of which at most S tokens from the edited span on are read.

    ``ids``, ``depth`` and ``parent`` are those of `Trees`.
    """

    ids: Ints  # (B, T)
    depth: Ints  # (B, T)
    parent: Ints  # (B, T)
    is_read: NDArray[np.bool_]  # (B, T), False for padding
    prompt: Ints  # (B, T), prompt of each token
    job: Ints  # (J,)
    row: Ints  # (J,)
    slot: Ints  # (J, S), of each job's tokens; the last one again after it


class EditArranger:
    """Arranger of the jobs of N prompts.

    Parameters
    ----------
    how : str
        One of the ways of `hf_rows`.
    prompts : EditedPrompts
    n_following : int
        Tokens of an answer that are read after the prompt.
    """

    def __init__(self, how: str, prompts: EditedPrompts, n_following: int) -> None:
        self.how, self.prompts = how, prompts
        #: Index of the last token of the prompt, from the beginning of the span on, (N,).
        self.last: Ints = prompts.read - prompts.begin
        self.n_tokens = int(self.last.max(initial=0)) + 1 + n_following
        columns = np.arange(int(prompts.begin.max(initial=0)))
        before = np.where(
            columns < prompts.begin[:, None], prompts.ids[:, : len(columns)], -1
        )  # (N, P)
        _, first, prefix = np.unique(before, axis=0, return_index=True, return_inverse=True)
        #: The first prompt that has the same tokens before the span, (N,).
        self._owner: Ints = first[prefix.reshape(-1)]

    def passes(
        self, row: Ints, following: Ints, max_tokens: int, max_jobs: int
    ) -> Iterator[list[Ints]]:
        """Yield the rows of each pass, as the jobs of each row.

        A pass has at most ``max_tokens`` tokens and ``max_jobs`` jobs, or a single row.

        Parameters
        ----------
        row : int64 (J,)
            Prompt of each job.
        following : int64 (J, F)
            Tokens of an answer that are read after it, with -1 after the last one.
        max_tokens, max_jobs : int
        """
        together: list[Ints] = []
        n_jobs, longest = 0, 0
        for length, jobs in self._rows(row, following, max_tokens, max_jobs):
            full = (len(together) + 1) * length > max_tokens or n_jobs + len(jobs) > max_jobs
            if together and (
                full or self.how == ALONE or (self.how == EQUAL and length != longest)
            ):
                yield together
                together, n_jobs = [], 0
            together.append(jobs)
            n_jobs, longest = n_jobs + len(jobs), length
        if together:
            yield together

    def _rows(
        self, row: Ints, following: Ints, max_tokens: int, max_jobs: int
    ) -> Iterator[tuple[int, Ints]]:
        """Yield the length and the jobs of each row, in the order of the lengths."""
        if self.how != TREES:
            lengths = self.prompts.read[row] + 1 + (following >= 0).sum(axis=1)
            order = np.argsort(lengths, kind="stable")
            yield from zip(lengths[order].tolist(), order[:, None], strict=True)
            return
        rows = []
        order = np.argsort(self._owner[row], kind="stable")
        cuts = np.flatnonzero(np.diff(self._owner[row[order]])) + 1
        for jobs in np.split(order, cuts) if len(order) else []:
            n_before = int(self.prompts.begin[row[jobs[0]]])
            length = min(max(ROW_TOKENS, PREFIXES * n_before), max_tokens)
            n = int(np.clip((length - n_before) // self.n_tokens, 1, max_jobs))
            parts = np.array_split(jobs, -(-len(jobs) // n))
            rows += [(n_before + len(part) * self.n_tokens, part) for part in parts]
        yield from sorted(rows, key=lambda each: each[0])

    def arrange(self, rows: list[Ints], row: Ints, following: Ints) -> EditRows:
        """Return the tokens of some rows of `passes`, for all jobs' prompts and answers."""
        S = self.n_tokens
        n_following = (following >= 0).sum(axis=1)
        n_own = self.last[row] + 1 + n_following  # (all jobs,), tokens from the span on
        begins = [int(self.prompts.begin[row[jobs[0]]]) for jobs in rows]
        ends = [
            begin + (len(jobs) - 1) * S + int(n_own[jobs[-1]])
            for begin, jobs in zip(begins, rows, strict=True)
        ]
        B, T = len(rows), max(ends)
        ids, depth, prompt = np.zeros((3, B, T), dtype=np.int64)
        is_read = np.zeros((B, T), dtype=np.bool_)
        parent = np.tile(np.arange(T), (B, 1))
        slots = []
        for b, (begin, jobs) in enumerate(zip(begins, rows, strict=True)):
            first = row[jobs[0]]
            ids[b, :begin], prompt[b, :begin] = self.prompts.ids[first, :begin], self._owner[first]
            depth[b, :begin], is_read[b, :begin] = np.arange(begin), True
            parent[b, 1:begin] = np.arange(max(begin - 1, 0))
            for e, job in enumerate(jobs.tolist()):
                n = row[job]
                own = begin + e * S + np.arange(n_own[job])
                ids[b, own] = [
                    *self.prompts.ids[n, begin : self.prompts.read[n] + 1],
                    *following[job, : n_following[job]],
                ]
                depth[b, own] = begin + np.arange(len(own))
                prompt[b, own], is_read[b, own] = n, True
                parent[b, own[1:]] = own[:-1]
                parent[b, own[0]] = begin - 1 if begin else own[0]
                slots.append(own[np.minimum(np.arange(S), len(own) - 1)])
        job, of_row = np.concatenate(rows), np.repeat(np.arange(B), [len(jobs) for jobs in rows])
        return EditRows(ids, depth, parent, is_read, prompt, job, of_row, np.stack(slots))
