"""States at several positions and answers at a site, all read in one pass."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.families import assert_close, family_model, made_prompts, model_of
from tasklens.data.token_prompts import Prompts, at_once
from tasklens.models.hf_reader import HarvestBatch
from tasklens.models.hf_rows import PADDED, TREES
from tasklens.models.hf_subject import HuggingFaceSubject

NAMES = ("embed", "block1", "ln_f")


def positions(*, alike: bool = False) -> list[Prompts]:
    """Return prompts at three positions: early, the last token, and a span in the middle."""
    whole = made_prompts(alike)
    middle = replace(whole, position=whole.position // 2, position_name="middle")
    span = replace(middle, begin=middle.position // 2, position_name="span")
    return [middle, whole] if alike else [middle, whole, span]


def joined(subject: HuggingFaceSubject, prompts: Prompts) -> list[HarvestBatch]:
    """Return the batches of all positions as one batch each, in the order of the prompts."""
    batches = [batch.parts for batch in subject.batches(prompts, NAMES)]
    each = []
    for parts in zip(*batches, strict=True):
        order = np.argsort(np.concatenate([part.indices for part in parts]))
        asked = [part.asked for part in parts if part.asked is not None]
        each.append(
            HarvestBatch(
                order,
                {
                    name: np.concatenate([part.states[name] for part in parts])[order]
                    for name in NAMES
                },
                np.concatenate([part.answer for part in parts])[order],
                np.concatenate(asked)[order] if asked else None,
            )
        )
    return each


@pytest.fixture
def n_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the number of rows of each pass with hooks, which is no trial of a single state."""
    passes: list[int] = []
    real = HuggingFaceSubject._attempt

    def counted(self: Any, rows: Any, part: Any, names: Any) -> Any:
        passes.append(len(part))
        return real(self, rows, part, names)

    monkeypatch.setattr(HuggingFaceSubject, "_attempt", counted)
    return passes


@pytest.mark.parametrize(
    ("name", "alike", "how"), [("gpt2", True, TREES), ("llama", True, TREES), ("llama", False, "")]
)
def test_several_positions_are_read_in_one_pass_and_are_those_of_a_pass_each(
    n_passes: list[int], name: str, alike: bool, how: str
) -> None:
    subject = HuggingFaceSubject(family_model(name))
    parts = positions(alike=alike)
    singles, n_each = [], []
    for part in parts:
        subject.begin(None)
        n_passes.clear()
        singles.append(subject.harvest(part, NAMES))
        n_each.append(len(n_passes))
    subject.begin(None)
    n_passes.clear()
    together = joined(subject, at_once(parts))
    assert subject.reading is not None
    assert subject.reading.how == (how or PADDED)
    assert len(n_passes) == n_each[1], "as many passes as for the last token alone"
    for part, single, batch in zip(parts, singles, together, strict=True):
        assert (batch.answer == single.answer).all()
        for state in NAMES:
            at = f"{state} at {part.position_name}"
            assert_close(batch.states[state], single.states[state], 1e-5, at)
    # The rows of the last token's pass are those of all.
    for state in NAMES:
        assert np.array_equal(together[1].states[state], singles[1].states[state])
    early, late = (part.states["ln_f"] for part in together[:2])
    assert not np.allclose(early, late), "the positions differ"


def scores_alone(model: Any, prompts: Prompts) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the answers and log-probabilities by plain transformers, prompt by prompt."""
    assert prompts.asked is not None
    answer, logs = [], []
    for ids, at, asked in zip(prompts.ids, prompts.answered, prompts.asked, strict=True):
        with torch.inference_mode():
            logits = model(torch.from_numpy(ids[None, : at + 1])).logits[0, -1].float()
        each = logits.log_softmax(-1).numpy()
        answer.append(int(logits.argmax()))
        logs.append(np.where(asked < 0, np.nan, each[asked]))
    return np.array(answer), np.array(logs)


def capped() -> Any:
    """Return a model that caps its logits."""
    import transformers

    from models.families import LLAMA

    settings = {**LLAMA, "head_dim": 8, "final_logit_softcapping": 0.5, "pad_token_id": 0}
    return model_of(transformers.Gemma2Config(**settings))


@pytest.mark.parametrize("name", ["gpt2", "llama", "capped"])
@pytest.mark.parametrize("alike", [True, False])
def test_answers_are_read_at_their_site_whatever_is_measured(name: str, alike: bool) -> None:
    """The answer follows the last token; what is measured is early, or a span."""
    model = capped() if name == "capped" else family_model(name)
    whole = made_prompts(alike)
    asked = np.random.default_rng(0).integers(0, 12, (len(whole), 3))
    asked[::3, 1] = -1
    early = replace(
        whole, position=whole.position // 2, answer_at=whole.position, asked=asked, begin=None
    )
    answer, logs = scores_alone(model, early)
    subject = HuggingFaceSubject(model)
    spans = [] if alike else [replace(early, begin=early.position // 2)]
    together = joined(subject, at_once([early, *spans]))
    for batch in together:
        assert batch.asked is not None
        assert (batch.answer == answer).all()
        np.testing.assert_allclose(batch.asked, logs, atol=2e-5)
        assert (np.isnan(batch.asked) == (asked < 0)).all()
    single = subject.again().harvest(replace(early, answer_at=None, asked=None), NAMES)
    for state in NAMES:
        assert_close(together[0].states[state], single.states[state], 1e-5, state)
