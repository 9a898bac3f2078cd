"""A verdict for each stage of one model: planted curves of three models and an untrained twin."""

import pytest

from planted_stages import NAMES, planted_stages
from tasklens.core.text import json_text
from tasklens.findings.verdict import Verdict, judge
from tasklens.findings.verdict_text import summary_text, verdict_document, verdict_text


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return judge([planted_stages()])


def test_each_stage_has_the_verdict_of_its_model_alone(verdict: Verdict) -> None:
    assert list(verdict.stages) == ["base", "sft", "dpo"]
    for step, name in list(NAMES.items())[1:]:
        stage, alone = verdict.stages[name], judge([planted_stages().at(0, step)])
        assert stage.checks == alone.checks
        assert stage.location == alone.location
        assert not stage.stages
    outcomes = {name: stage.outcome("clusters") for name, stage in verdict.stages.items()}
    assert outcomes == {"base": "fails", "sft": "holds", "dpo": "holds"}
    layers = {n: stage.location and stage.location.layer for n, stage in verdict.stages.items()}
    assert layers == {"base": "block1", "sft": "block2", "dpo": "block2"}


def test_the_twin_is_the_control_of_each_stage(verdict: Verdict) -> None:
    for name, best in (("base", 0.2), ("sft", 0.9), ("dpo", 0.8)):
        (twin,) = {
            round(check.value, 6)
            for check in verdict.stages[name].checks_of("above the controls")
            if "untrained twin" in check.rule.statistic
        }
        assert twin == pytest.approx(0.1 / best, abs=1e-6)


def test_the_verdict_itself_is_that_of_the_last_stage(verdict: Verdict) -> None:
    assert verdict.checks == verdict.stages["dpo"].checks
    assert verdict.holds
    assert not verdict.stages["base"].holds


def test_one_model_with_its_twin_has_no_stages() -> None:
    assert not judge([planted_stages().at(0, 1)]).stages


def test_a_verdict_on_stages_names_them(verdict: Verdict) -> None:
    lines = summary_text(verdict).splitlines()
    assert [line for line in lines if line.endswith(":")] == ["base:", "sft:", "dpo:"]
    rows = [line.split() for line in lines]
    assert ["finding", "base", "sft", "dpo"] in rows
    assert ["clusters", "fails", "holds", "holds"] in rows
    assert not any(word in summary_text(verdict) for word in ("step", "training"))
    text = verdict_text(verdict)
    assert text.startswith(summary_text(verdict))
    assert text.index("\nbase:\n\n") < text.index("\nsft:\n\n") < text.index("\ndpo:\n\n")
    document = verdict_document(verdict)
    assert list(document["stages"]) == ["base", "sft", "dpo"]
    assert document["stages"]["dpo"]["findings"] == document["findings"]
    assert json_text(document)
