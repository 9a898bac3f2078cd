"""Collect the answers of a model whose hidden states are edited."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tasklens.data.edited_prompts import Edited, Floats, Ints
from tasklens.data.names import find_state


def changes_by_state(name: str, change: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Return the change of each hidden state, (M, D), of several that are joined by +.

    The changes of R states are (M, R, D), in the order of their names. InputError if the model,
    whose states have the ``names``, lacks one.
    """
    states = [find_state(each, names) for each in name.split("+")]
    if change.ndim == 2:
        change = change[:, None]
    return {state: np.ascontiguousarray(change[:, r]) for r, state in enumerate(states)}


class EditedAnswers:
    """Answers to M edits, which passes fill in any order.

    A *job* is a row of tokens that is read. If all answers are single tokens, each edit is one job.
    Otherwise each candidate of each edit is one: the prompt and the candidate, but for the token
    that no other follows.

    Parameters
    ----------
    tokens : int64 (K, L)
        Answers as token sequences, with -1 after the end of each.
    candidates : int64 (M, C)
        Indices of the answers whose likelihood is computed; -1: none.
    """

    def __init__(self, tokens: Ints, candidates: Ints) -> None:
        self._tokens, self._candidates = tokens, candidates
        self._answer: Ints = np.full(len(candidates), -1)
        self._likelihood: Floats = np.full(candidates.shape, np.nan, dtype=np.float32)
        self._is_single = tokens.shape[1] == 1
        #: Edit of each job, (J,), and the tokens that it reads after the prompt, (J, L - 1), with
        #: -1 after the last one.
        self.edit: Ints = np.arange(len(candidates))
        self.following: Ints = np.empty((len(candidates), 0), dtype=np.int64)
        if not self._is_single:
            self.edit, self._column = np.nonzero(candidates >= 0)
            self._wanted: Ints = tokens[candidates[self.edit, self._column]]  # (J, L)
            self.following = np.where(self._wanted[:, 1:] >= 0, self._wanted[:, :-1], -1)

    def add(self, job: Ints, logits: Tensor) -> None:
        """Store what some jobs (j,) give: the logits that follow L tokens each, (j, L, V)."""
        logits = logits.float()
        if self._is_single:
            likely = logits[:, 0].argmax(dim=-1).cpu().numpy()  # (j,)
            matches = likely[:, None] == self._tokens[:, 0]  # (j, K)
            self._answer[job] = np.where(matches.any(axis=1), matches.argmax(axis=1), -1)
            candidates = self._candidates[job]  # (j, C)
            chance = _log_likelihood(logits[:, 0], self._tokens[np.maximum(candidates, 0), 0])
            self._likelihood[job] = np.where(candidates >= 0, chance, np.nan)
            return
        j, L = self.following[job].shape[0], self._wanted.shape[1]
        wanted = self._wanted[job]
        chance = _log_likelihood(logits.flatten(0, 1), np.maximum(wanted, 0).reshape(-1, 1))
        total = np.where(wanted >= 0, chance.reshape(j, L), 0).sum(axis=1)
        self._likelihood[self.edit[job], self._column[job]] = total

    def result(self) -> Edited:
        """Return the answers after all jobs."""
        if not self._is_single and self._candidates.shape[1]:
            likelihood = np.where(np.isnan(self._likelihood), -np.inf, self._likelihood)
            best = likelihood.argmax(axis=1)[:, None]
            self._answer = np.take_along_axis(self._candidates, best, axis=1)[:, 0]
        return Edited(self._answer, self._likelihood)


def _log_likelihood(logits: Tensor, tokens: Ints) -> Floats:
    """Return the log-likelihoods of C tokens each, (n, C), from logits (n, V)."""
    wanted = logits.gather(-1, torch.from_numpy(tokens).to(logits.device))
    return (wanted - logits.logsumexp(dim=-1, keepdim=True)).cpu().numpy()
