"""The probability of whole answers, compared with the model's own logits, answer by answer."""

from typing import Any

import numpy as np
import pytest
import torch

from models.families import VOCABULARY, family_model, made_prompts
from tasklens.data.token_prompts import Prompts
from tasklens.models.hf_subject import HuggingFaceSubject
from tasklens.models.whole_answers import whole_answers


def alone(model: Any, prompts: Prompts, candidates: Any) -> Any:
    """Return the sums of the log-probabilities by plain transformers."""
    sums = np.full(candidates.shape[:2], np.nan)
    for (n, k), _ in np.ndenumerate(sums):
        answer = candidates[n, k][candidates[n, k] >= 0]
        if not len(answer):
            continue
        prompt = prompts.ids[n, : prompts.answered[n] + 1]
        with torch.inference_mode():
            logits = model(torch.from_numpy(np.append(prompt, answer))[None]).logits[0].float()
        logs = logits.log_softmax(-1).numpy()[len(prompt) - 1 : -1]
        sums[n, k] = logs[np.arange(len(answer)), answer].sum()
    return sums


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("alike", [True, False])
def test_whole_answers_are_those_of_the_model_itself(name: str, alike: bool) -> None:
    rng = np.random.default_rng(1)
    prompts = made_prompts(alike)
    answers = rng.integers(1, VOCABULARY, (len(prompts), 3, 4))
    length = rng.integers(0, 5, (len(prompts), 3, 1))
    answers[np.arange(4) >= length] = -1
    model = family_model(name)
    expected = alone(model, prompts, answers)
    assert np.isnan(expected).any()
    got = whole_answers(HuggingFaceSubject(model), prompts, answers)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-4)
    some = np.array([5, 2, 7])
    part = whole_answers(HuggingFaceSubject(model), prompts, answers, some)
    np.testing.assert_allclose(part, expected[some], atol=1e-4)
