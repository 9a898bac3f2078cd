"""Planted answers for one model: every finding holds, or one is broken and fails."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from drawn import assert_nothing_cut_off
from planted import planted_runs
from planted_model import ARI, CONTROLS, planted_model
from tasklens.findings.curves import Curves
from tasklens.findings.one_model import MODEL_FINDINGS, MODEL_RULES, NO_ROOM
from tasklens.findings.rules import FINDINGS
from tasklens.findings.verdict import Verdict, judge
from tasklens.findings.verdict_text import summary_text, verdict_document, verdict_text
from tasklens.report.verdict_figure import figure_verdict

#: Words of a training, which no text of one model has.
OF_TRAINING = re.compile(r"training|checkpoint|\bsteps?\b|emerge|satura|gradual|half way", re.I)


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {finding: verdict.outcome(finding) for finding in verdict.findings}


def failing(verdict: Verdict) -> set[str]:
    """Return the statistics whose checks do not hold."""
    return {check.rule.statistic for check in verdict.checks if check.verdict != "holds"}


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return judge([planted_model()])


def test_every_finding_holds_in_a_sound_model(verdict: Verdict) -> None:
    assert outcomes(verdict) == dict.fromkeys(MODEL_FINDINGS, "holds")
    assert verdict.holds
    assert verdict.over == "prompts"
    assert {rule.finding for rule in MODEL_RULES} == set(MODEL_FINDINGS)
    values = {(c.rule.statistic, c.split): c.value for c in verdict.checks}
    assert values["ARI of the best layer", "kept"] == 0.905
    assert values["ARI of layer 0, divided by that of the best layer", "kept"] == pytest.approx(
        0.05 / 0.905
    )
    decoded = "accuracy in the best layer, from that of the commonest task (0) to 1"
    assert values[decoded, "held_out_input"] == pytest.approx((0.9 - 0.25) / 0.75)


BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "few clusters": (
        {"ari": (0.02, 0.1, 0.2, 0.3, 0.4, 0.3, 0.2), "twin": (0.05, 0.5)}
        | {"controls": dict.fromkeys(CONTROLS, 0.05)},
        "clusters",
        "ARI of the best layer",
    ),
    "a twin with clusters": (
        {"twin": (0.6, 0.5)},
        "above the controls",
        "ARI of the best layer of the untrained twin, divided by that of the best layer",
    ),
    "clusters of the inputs": (
        {"ari": (0.8, *ARI[1:])},
        "above the controls",
        "ARI of layer 0, divided by that of the best layer",
    ),
    "clusters of words": (
        {"controls": CONTROLS | {"control:symbols": 0.7}},
        "above the controls",
        "ARI of the bag of tokens, divided by that of the best layer",
    ),
    "clusters of lengths": (
        {"controls": CONTROLS | {"control:length": 0.7}},
        "above the controls",
        "ARI of the prompt's length, divided by that of the best layer",
    ),
    "clusters of verbs and countries": (
        {"controls": CONTROLS | {"control:input_class": 0.7}},
        "above the controls",
        "ARI of the input's class, divided by that of the best layer",
    ),
    "no clusters on unseen data": (
        {"unseen": -0.45},
        "unseen data",
        "ARI of the best layer, which the first split has chosen",
    ),
    "nothing to decode": (
        {"decoded": (0.25,) * 7, "twin": (0.1, 0.1)},
        "decodable",
        "accuracy in the best layer, from that of the commonest task (0) to 1",
    ),
    "a twin that is decodable, too": (
        {"twin": (0.1, 0.85)},
        "decodable",
        "accuracy in the best layer, minus that in the untrained twin's best layer",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_fails(name: str) -> None:
    changes, finding, statistic = BROKEN[name]
    verdict = judge([planted_model(**changes)])
    assert verdict.outcome(finding) == "fails"
    assert statistic in failing(verdict)
    also = {"few clusters": {"unseen data"}}.get(name, set())
    assert {c.rule.finding for c in verdict.checks if c.verdict == "fails"} == {finding, *also}


def test_a_split_on_which_no_model_could_be_above_the_twin_is_left_out() -> None:
    statistic = "accuracy in the best layer, minus that in the untrained twin's best layer"

    def with_full_twin(*splits: str) -> dict[str, str]:
        curves = planted_model()
        for split in splits:
            for layer in curves.layers:
                curves.decoded[split, layer][:, 0] = 0.95
        checks = judge([curves]).checks
        return {c.split: c.note for c in checks if c.rule.statistic == statistic}

    assert with_full_twin() == {"held_out_context": "", "held_out_input": ""}
    assert with_full_twin("val_instruction_subset") == {"held_out_context": ""}
    both = with_full_twin("val_subset", "val_instruction_subset")
    assert both == dict.fromkeys(("held_out_context", "held_out_input"), NO_ROOM)


def test_copies_without_pairs_choose_no_layer() -> None:
    curves = planted_model()
    for key, y in curves.ari.items():
        if key[0] == "train_subset":
            y[1:11] = np.nan
    location = judge([curves]).location
    assert location is not None
    assert {layer for layer, _ in location.shares} == {"block3", "block4"}
    assert sum(share for _, share in location.shares) == pytest.approx(1)


# --- Where the clusters are ---


def test_the_best_layer_and_what_is_not_distinguishable(verdict: Verdict) -> None:
    location = verdict.location
    assert location is not None
    assert (location.layer, location.split, location.alike) == ("block4", "kept", ("block3",))
    shares = dict(location.shares)
    assert set(shares) == {"block3", "block4"}
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.2 < shares["block3"] < 0.5
    first, *_, decoded = location.measurements
    (check,) = verdict.checks_of("clusters")
    assert (first.value, first.low, first.high) == (check.value, check.low, check.high)
    assert decoded.what == "linear classifier in block3, where it is highest"
    assert decoded.value == 0.95
    lines = summary_text(verdict).splitlines()
    assert lines[0].startswith("best layer: block4, with an ARI of 0.91 [0.8")
    assert lines[2] == "  not distinguishable from it: block3"


def test_neighbouring_layers_are_listed_from_the_first_to_the_last() -> None:
    flat = judge([planted_model((0.05, 0.9, 0.1, 0.9, 0.9, 0.9, 0.905))])
    assert "not distinguishable from it: block1, block3 to block5\n" in summary_text(flat)


# --- What is missing ---


def test_without_a_twin_its_checks_name_the_option() -> None:
    verdict = judge([planted_model(twin=None)])
    missing = [check for check in verdict.checks if check.verdict == "undecided"]
    assert {check.rule.finding for check in missing} == {"above the controls", "decodable"}
    assert {c.note for c in missing} == {
        "there is no untrained twin: measure again with --untrained"
    }
    assert verdict.outcome("clusters") == verdict.outcome("unseen data") == "holds"


def test_without_unseen_data_there_is_one_line_on_it() -> None:
    verdict = judge([planted_model(splits=1)])
    assert outcomes(verdict) == {
        **{"clusters": "holds", "above the controls": "holds"},
        **{"unseen data": "undecided", "decodable": "undecided"},
    }
    assert not verdict.holds
    once = [line for line in verdict_text(verdict).splitlines() if "Nothing shows" in line]
    assert once == [
        "Nothing shows that this is so on unseen data: hold some out, by --hold-out COLUMN or by "
        "a file per split."
    ]
    assert "Nothing shows" not in verdict_text(judge([planted_model()]))


def test_a_table_without_copies_has_no_intervals() -> None:
    verdict = judge([planted_model(copies=0)])
    assert {check.verdict for check in verdict.checks} == {"undecided"}
    assert verdict.location is not None
    assert (verdict.location.shares, verdict.location.alike) == ((), ())
    assert summary_text(verdict).startswith(
        "best layer: block4, with an ARI of 0.91 no interval on kept"
    )


# --- Words ---


@pytest.mark.parametrize("changes", [{}, {"twin": None}, {"splits": 1}, {"copies": 0}])
def test_no_text_of_one_model_speaks_of_a_training(changes: dict[str, Any]) -> None:
    verdict = judge([planted_model(**changes)])
    document = verdict_document(verdict)
    assert document["half way"] == []
    texts = [verdict_text(verdict), summary_text(verdict), repr(verdict)]
    texts += [json.dumps({k: v for k, v in document.items() if k != "half way"}, default=str)]
    for text in texts:
        assert not OF_TRAINING.search(text), OF_TRAINING.search(text)
        assert not any(f"  {finding}  " in text for finding in FINDINGS)
    assert [finding["finding"] for finding in document["findings"]] == list(MODEL_FINDINGS)
    figure = figure_verdict(verdict)
    assert_nothing_cut_off(figure)
    drawn = " ".join(each.get_text() for each in figure.findobj(Text))
    assert not OF_TRAINING.search(drawn)


def edited(curves: Curves) -> Curves:
    """Return curves of one model with the planted effects of a training of two checkpoints."""
    source = planted_runs()[0].effects
    assert source is not None
    last = {key: y[:, -2:] for key, y in source.effect.items()}
    draws = {key: y[-2:] for key, y in source.draws.items()}
    effects = replace(source, steps=(0, 1), effect=last, draws=draws)
    return replace(curves, effects=effects)


def test_use_of_one_model_is_measured_without_steps() -> None:
    curves = replace(planted_model(), split_names=planted_runs()[0].split_names)
    verdict = judge([edited(curves)])
    assert not verdict.use.untested
    assert verdict.use.measurements
    assert not OF_TRAINING.search(
        " ".join(measurement.what for measurement in verdict.use.measurements)
    )


def test_a_series_has_the_findings_of_the_paper() -> None:
    series = planted_runs()
    assert judge(series).findings is FINDINGS
    assert judge(series).location is None
    assert planted_model().is_series is False
    assert replace(planted_model(), step_names={}).is_series is True
