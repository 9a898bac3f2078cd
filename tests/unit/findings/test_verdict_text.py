"""The lines of a verdict: which number decides a finding, and how it is written."""

from dataclasses import replace

import numpy as np
import pytest

from planted import planted_table, sound
from tasklens.data.instances import JUDGED, SPLIT_MEANINGS, UNSEEN_KINDS
from tasklens.findings.check import Check, Outcome
from tasklens.findings.curves import curves_of_table
from tasklens.findings.rules import FINDINGS, PAIRS, RULES, Rule
from tasklens.findings.statistics import TRAIN
from tasklens.findings.verdict import LEAST_SKILL, Verdict, judge
from tasklens.findings.verdict_text import summary_text, verdict_document, verdict_text

SATURATION = [rule for rule in RULES if rule.finding == "saturation"]


def check(rule: Rule, value: float, spread: float = 0.01, split: str = TRAIN) -> Check:
    low, high = value - spread, value + spread
    outcome: Outcome = "undecided"
    if low > rule.above and high < rule.below:
        outcome = "holds"
    elif high <= rule.above or low >= rule.below:
        outcome = "fails"
    return Check(rule, split, (value,), value, low, high, outcome)


def line(finding: str, *checks: Check) -> str:
    text = summary_text(Verdict((("run", 0),), checks))
    (wanted,) = [line for line in text.splitlines() if line[11:].startswith(f"{finding}  ")]
    return wanted


def test_a_finding_that_holds_shows_the_least_margin_of_its_own_statistic() -> None:
    checks = check(SATURATION[0], 0.98), check(SATURATION[0], 0.9, split=PAIRS)
    drift = check(SATURATION[1], 0.05)
    assert line("saturation", *checks, drift) == (
        "holds      saturation                  0.90 > 0.8    val_subset              [0.89, 0.91]"
    )


def test_a_finding_that_fails_shows_the_check_that_fails() -> None:
    drift = check(SATURATION[1], 0.3)
    parts = line("saturation", check(SATURATION[0], 0.98), drift).split()
    assert parts[:2] == ["fails", "saturation"]
    assert " ".join(parts[2:]) == "0.30 outside -0.1 to 0.1 train_subset [0.29, 0.31]"
    worse = check(SATURATION[0], 0.1), check(SATURATION[0], 0.2, split=PAIRS)
    assert "  0.10 < 0.8    train_subset            [0.09, 0.11]" in line("saturation", *worse)


def test_an_undecided_finding_shows_what_is_missing_before_a_wide_interval() -> None:
    nan = float("nan")
    missing = Check(SATURATION[1], PAIRS, (), nan, nan, nan, "undecided", "no such score")
    assert line("saturation", check(SATURATION[0], 0.81, 0.1), missing) == (
        "undecided  saturation                  no number     val_subset              no such score"
    )
    wide = line("saturation", check(SATURATION[0], 0.81, 0.1))
    number = ["0.81", ">", "0.8", "train_subset", "[0.71,", "0.91]"]
    assert wide.split() == ["undecided", "saturation", *number]


def test_a_finding_without_data_has_no_number() -> None:
    assert line("generalisation").endswith(
        "undecided  generalisation              no data were held out"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7996, "0.7996 < 0.8"),
        (0.8, "0.80 = 0.8"),
        (-0.001, "0.00 < 0.8"),
        (-0.02, "-0.02 < 0.8"),
    ],
)
def test_a_number_is_rounded_but_not_to_its_threshold_and_never_to_minus_zero(
    value: float, text: str
) -> None:
    assert f"  {text}" in line("saturation", check(SATURATION[0], value))
    assert "-0.00" not in line("saturation", check(SATURATION[0], value, 0.001))


def test_the_whole_text_has_every_statistic_and_every_check() -> None:
    verdict = judge(curves_of_table(planted_table(sound), "ari"))
    lines = verdict_text(verdict).splitlines()
    summary = summary_text(verdict).splitlines()
    for number, (finding, sentence) in enumerate(FINDINGS.items()):
        at = lines.index(summary[number])
        assert lines[at].startswith(f"holds      {finding}  ")
        assert lines[at + 1].strip() == sentence
    assert lines[-1] == summary[-1] == "8 findings: 8 holds, 0 fails, 0 undecided"
    for rule in RULES:
        at = lines.index(f"             {rule.statistic} ({rule.threshold})")
        each = [row.split()[:2] for row in lines[at + 1 : at + 1 + len(rule.splits)]]
        assert each == [["holds", split] for split in rule.splits]


def test_splits_of_unseen_kinds_change_no_verdict_and_one_line_names_them() -> None:
    verdict, further = (
        judge(curves_of_table(planted_table(sound, splits=splits), "ari"))
        for splits in (JUDGED, tuple(SPLIT_MEANINGS))
    )
    assert further.unjudged == UNSEEN_KINDS
    assert verdict.unjudged == ()
    numbers = [
        [(c.rule, c.split, c.value, c.low, c.high) for c in v.checks] for v in (verdict, further)
    ]
    assert numbers[0] == numbers[1]
    for lines in (verdict_text(further).splitlines(), summary_text(further).splitlines()):
        assert lines[-1] == (
            "unseen_distribution_subset, unseen_task_subset: measured, not judged: nothing tells a "
            "model to which task these instances belong"
        )
    assert verdict_document(further)["not judged"] == UNSEEN_KINDS


# --- A model that has not learned its tasks ---


def learned(accuracy: float, chance: float = 0.2) -> str:
    """Return the doubt about a run of a given final accuracy."""
    (curves, *_) = curves_of_table(planted_table(sound), "ari")
    curves = replace(curves, chance=chance)
    curves.accuracy[TRAIN] = np.linspace(0, accuracy, len(curves.steps))[None]
    return judge([curves]).doubt


def test_scores_of_a_model_that_has_not_learned_mean_nothing() -> None:
    limit = 0.2 + LEAST_SKILL * 0.8
    assert learned(limit + 0.01) == ""
    doubt = learned(limit - 0.01)
    assert doubt.startswith("After 1,600 steps the model of planted answers 27% of train_subset")
    assert "(20% by chance), so that its scores mean nothing" in doubt
    assert learned(0.0, float("nan")) == "", "chance is not known"


def test_findings_are_not_tested_on_such_a_model_but_verify_prints_all() -> None:
    (curves, *_) = curves_of_table(planted_table(sound), "ari")
    curves.accuracy[TRAIN][:, -1] = 0.2
    verdict = judge([replace(curves, chance=0.25)])
    assert summary_text(verdict) == f"findings: not tested. {verdict.doubt}.\n"
    lines = verdict_text(verdict).splitlines()
    assert lines[-1] == f"{verdict.doubt}."
    assert lines[-2].startswith("8 findings: ")
