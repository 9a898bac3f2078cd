"""Compute how likely a model finds whole answers to prompts, beyond their first tokens."""

import numpy as np
import numpy.typing as npt

from tasklens.data.token_prompts import Prompts, at_once
from tasklens.models.hf_subject import HuggingFaceSubject

Ints = npt.NDArray[np.int64]


def whole_answers(
    subject: HuggingFaceSubject,
    prompts: Prompts,
    candidates: Ints,
    indices: Ints | None = None,
) -> npt.NDArray[np.float32]:
    """Return the log-probability of each answer to some prompts, in nats, float32 (n, K).

    It is the sum over the answer's tokens, each given the prompt and the tokens before it.

    Parameters
    ----------
    subject : HuggingFaceSubject
        One that has read nothing: it decides how to read the prompts with their answers.
    prompts : Prompts
        N prompts up to the token after which the answer follows, at least.
    candidates : int64 (N, K, L)
        The tokens of K answers to each, -1 after their ends. An answer without tokens gets NaN.
    indices : int64 (n,), optional
        Some of the prompts; by default all.
    """
    indices = np.arange(len(prompts)) if indices is None else indices
    tokens = candidates[indices]  # (n, K, L)
    site = prompts.answered[indices]
    known = tokens >= 0
    logs = np.where(known[:, :, 0], 0.0, np.nan)
    i, k = np.nonzero(known[:, :, 0])
    if not len(i):
        return logs.astype(np.float32)
    answer, length = tokens[i, k], known[i, k].sum(axis=1)  # (m, L), (m,)
    width = int((site[i] + length).max())
    ids = np.zeros((len(i), max(width, prompts.ids.shape[1])), dtype=np.int64)
    ids[:, : prompts.ids.shape[1]] = prompts.ids[indices[i]]
    for t in range(tokens.shape[2] - 1):
        rows = np.flatnonzero(length > t + 1)
        ids[rows, site[i][rows] + 1 + t] = answer[rows, t]
    parts = []
    for t in range(tokens.shape[2]):
        at = site[i] + np.minimum(t, length - 1)
        asked = np.where(t < length, answer[:, t], -1)[:, None]
        parts.append(Prompts(ids, at, answer_at=at, asked=asked))
    for batch in subject.batches(at_once(parts), ()):
        rows = batch.indices
        for part in batch.parts:
            assert part.asked is not None
            logs[i[rows], k[rows]] += np.nan_to_num(part.asked[:, 0])
    return logs.astype(np.float32)
