"""Score a model's answers to labelled prompts beyond the most likely token."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


def score_first_tokens(logs: Floats, tokens: Ints) -> dict[str, float]:
    """Return ``accuracy_among_first_tokens``, if any prompt has other answers.

    Parameters
    ----------
    logs : float (n, K)
        Log-probability of the first token of the right answer to each prompt, then of the others;
        NaN: not known.
    tokens : int64 (n, K, L)
        The tokens of these answers, -1 after their ends.
    """
    return _accuracy("accuracy_among_first_tokens", logs, tokens[:, :, :1])


def score_whole_answers(logs: Floats, tokens: Ints) -> dict[str, float]:
    """Return the scores of whole answers, as far as answers are known.

    ``accuracy_among_candidates`` is the share of prompts whose right answer is likelier than the
    others. ``answer_log_probability`` is the mean over prompts of the mean log-probability of the
    right answer's tokens, in nats per token. ``answer_probability`` is the mean over prompts of the
    probability of the whole right answer.

    The parameters are those of `score_first_tokens`, with the log-probability of the whole answer.
    """
    known = ~np.isnan(logs[:, 0])
    if not known.any():
        return {}
    own, length = logs[known, 0], (tokens[known, 0] >= 0).sum(axis=1)
    return _accuracy("accuracy_among_candidates", logs, tokens) | {
        "answer_log_probability": float(np.mean(own / length)),
        "answer_probability": float(np.mean(np.exp(own))),
    }


def _accuracy(name: str, logs: Floats, tokens: Ints) -> dict[str, float]:
    """Return the share of prompts whose right answer is likelier than all others.

    An answer with the same tokens as the right one is none of the others. A prompt without others
    does not count.
    """
    differs = (tokens != tokens[:, :1]).any(axis=2) & (tokens[:, :, 0] >= 0)  # (n, K)
    asked = differs.any(axis=1) & ~np.isnan(logs[:, 0])
    if not asked.any():
        return {}
    others = np.where(differs, logs, -np.inf).max(axis=1)
    return {name: float(np.mean(logs[asked, 0] > others[asked]))}
