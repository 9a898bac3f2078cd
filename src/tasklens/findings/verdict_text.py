"""Write a verdict as JSON, or as plain text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tasklens.core.text import aligned, json_text, visible
from tasklens.findings.check import OUTCOMES, Check
from tasklens.findings.location import Location
from tasklens.findings.measurement import Measurement
from tasklens.findings.one_model import NOTHING_HELD_OUT
from tasklens.findings.use import CAVEAT, USE
from tasklens.findings.use_measurements import Edited
from tasklens.findings.verdict import Verdict
from tasklens.scoring.bootstrap import CONFIDENCE

#: At most this many layers are named with the share of copies in which they are the best.
FEW_LAYERS = 5
#: Why no finding is judged on splits of unseen kinds.
UNJUDGED = "measured, not judged: nothing tells a model to which task these instances belong"


def verdict_json(verdict: Verdict) -> bytes:
    """Return the verdict as JSON; what is missing or not finite is null."""
    return f"{json_text(verdict_document(verdict))}\n".encode()


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as nested dictionaries and lists: the content of ``verdict.json``."""
    return {
        "headline": verdict.headline,
        "title": verdict.title,
        "holds": verdict.holds,
        "doubt": verdict.doubt,
        "runs": [{"run": run, "seed": seed} for run, seed in verdict.runs],
        "confidence": CONFIDENCE,
        "intervals over": verdict.over,
        "findings": _findings_data(verdict, verdict.findings),
        "not judged": verdict.unjudged,
        "stages": {name: verdict_document(each) for name, each in verdict.stages.items()},
        "where": verdict.location and _location_data(verdict.location),
        "half way": [
            {"what": t.what, "split": t.split, "each": t.each, "step": t.value}
            | {"low": t.low, "high": t.high}
            for t in verdict.timings
        ],
        "unseen data": [vars(measurement) for measurement in verdict.unseen],
        "use": {
            "untested": verdict.use.untested,
            "layers": verdict.use.layers,
            "edited": [vars(edited) for edited in verdict.use.edited],
            "findings": [] if verdict.use.untested else _findings_data(verdict, USE),
            "measurements": [vars(measurement) for measurement in verdict.use.measurements],
        },
    }


def _location_data(location: Location) -> dict[str, Any]:
    return {
        "layer": location.layer,
        "chosen on": location.split,
        "best in": [{"layer": layer, "share": share} for layer, share in location.shares],
        "not distinguishable": location.alike,
        "measurements": [vars(measurement) for measurement in location.measurements],
    }


def _findings_data(verdict: Verdict, findings: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "finding": finding,
            "sentence": sentence,
            "verdict": verdict.outcome(finding),
            "checks": [_check_data(check) for check in verdict.checks_of(finding)],
        }
        for finding, sentence in findings.items()
    ]


def _check_data(check: Check) -> dict[str, Any]:
    numbers = {"value": check.value, "low": check.low, "high": check.high}
    limits = {"above": check.rule.above, "below": check.rule.below}
    return {
        "statistic": check.rule.statistic,
        "split": check.split,
        "verdict": check.verdict,
        "each": check.each,
        **(numbers | limits),
        "reason": check.rule.reason,
        "note": check.note,
    }


def verdict_text(verdict: Verdict) -> str:
    """Return the verdict with all checks as plain text: what `tasklens verify` prints.

    Of several stages of one model, a table of all stages comes first.
    """
    if verdict.stages:
        each = [f"{name}:\n\n{verdict_text(stage)}" for name, stage in verdict.stages.items()]
        return "\n".join([stages_text(verdict), *each])
    lines = [*location_lines(verdict)]
    if verdict.location:
        lines += [*_measurement_lines(verdict.location.measurements), ""]
    lines += _finding_lines(verdict, verdict.findings)
    if verdict.timings:
        on = visible(verdict.timings[0].split)
        lines += [f"half way from first to last, in steps, on {on}:"]
        lines += [
            f"  {t.what:<31}  {t.value:8.0f}  [{t.low:.0f}, {t.high:.0f}]" for t in verdict.timings
        ]
        lines.append("")
    if verdict.unseen:
        lines += ["unseen data by kind, in the best layer of each run (measured, not judged):"]
        lines += [*_measurement_lines(verdict.unseen), ""]
    return "\n".join([*lines, use_text(verdict), *_last_lines(verdict), ""])


def headline_text(verdict: Verdict) -> str:
    """Return the result in one sentence, or in one for each stage."""
    return "\n".join(each.headline for each in verdict.stages.values() or [verdict])


def use_text(verdict: Verdict) -> str:
    """Return the group `USE` with all checks and measurements as plain text."""
    lines = [_use_line(verdict)]
    if not verdict.use.untested:
        lines += [*map(_edited_line, verdict.use.edited), *_finding_lines(verdict, USE)]
        lines += _measurement_lines(verdict.use.measurements)
    return "\n".join([*lines, ""])


def summary_text(verdict: Verdict) -> str:
    """Return a line for each finding as plain text: what `tasklens run` ends with.

    That is a single line if the scores mean nothing.
    """
    if verdict.doubt:
        return f"findings: not tested. {verdict.doubt}.\n"
    if verdict.stages:
        return stages_text(verdict)
    use = [] if verdict.use.untested else [_finding_line(verdict, finding) for finding in USE]
    lines = [*location_lines(verdict), *(_finding_line(verdict, f) for f in verdict.findings)]
    lines += [_use_line(verdict), *use]
    return "\n".join([*lines, *_last_lines(verdict), ""])


def stages_text(verdict: Verdict) -> str:
    """Return where the clusters of each stage are, and a table of the findings by stage."""
    lines, stages = list[str](), verdict.stages
    for name, stage in stages.items():
        lines += [f"{name}:", *(f"  {line}" for line in location_lines(stage))]
    tested = [*verdict.findings, *([] if verdict.use.untested else USE)]
    rows = [["finding", *stages]]
    rows += [
        [finding, *(stage.outcome(finding) for stage in stages.values())] for finding in tested
    ]
    lines += ["", *aligned(rows), _use_line(verdict)]
    return "\n".join([*lines, *_last_lines(verdict)[1:], ""])


def location_lines(verdict: Verdict) -> Iterator[str]:
    """Yield where the clusters of a model are, and how surely; nothing for a series."""
    location = verdict.location
    if location is None:
        return
    of_best = location.measurements[0]
    sure = "no interval" if np.isnan(of_best.low) else f"[{of_best.low:z.2f}, {of_best.high:z.2f}]"
    yield (
        f"best layer: {location.layer}, with an ARI of {of_best.value:z.2f} {sure} on "
        f"{visible(location.split)}, which has chosen it"
    )
    if location.shares:
        some = [f"{layer} {share:.0%}" for layer, share in location.shares[:FEW_LAYERS]]
        more = len(location.shares) - FEW_LAYERS
        some += [f"{more} more"] if more > 0 else []
        yield f"  best in resampled copies: {', '.join(some)}"
        yield f"  not distinguishable from it: {_listed(location.alike) or 'no other layer'}"


def _listed(layers: Sequence[str]) -> str:
    """Return the names of layers, of three or more neighbouring blocks the first and the last."""
    groups: list[list[str]] = []
    for layer in layers:
        if groups and _number_of(layer) == _number_of(groups[-1][-1]) + 1:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return ", ".join(", ".join(g) if len(g) < 3 else f"{g[0]} to {g[-1]}" for g in groups)


def _number_of(layer: str) -> int:
    """Return the number of a layer: 0 of `embed`."""
    return int(layer.removeprefix("block")) if layer.startswith("block") else 0


def _use_line(verdict: Verdict) -> str:
    """Return the heading of the group `USE`, or why it was not tested."""
    if verdict.use.untested:
        return (
            f"use: not tested: {visible(verdict.use.untested)}; `tasklens intervene RUN` makes them"
        )
    layers = visible(" and ".join(dict.fromkeys(verdict.use.layers)))
    return f"use, apart from the findings, in the best layer, {layers} ({CAVEAT}):"


def _edited_line(edited: Edited) -> str:
    """Return how many pairs the model can do, and how many errors it makes."""
    able = f"{edited.able:,} of {edited.pairs:,} pairs whose two tasks the model can do"
    errors = f", {edited.errors:,} errors" if edited.errors else ""
    return f"           {visible(edited.split)}: {able}{errors}"


def _finding_lines(verdict: Verdict, findings: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of findings with all their checks."""
    for finding, sentence in findings.items():
        yield from (_finding_line(verdict, finding), f"           {sentence}")
        yield from (*_check_lines(verdict.checks_of(finding)), "")


def _measurement_lines(measurements: Sequence[Measurement]) -> list[str]:
    """Return measurements and their intervals, a line each; steps have no decimals."""
    splits = [visible(m.split) for m in measurements]
    wide, lines = max(22, *map(len, splits), 0), []
    for m, split in zip(measurements, splits, strict=True):
        digits = 0 if max(map(abs, m.each), default=0) >= 10 else 2
        ends = "no interval" if np.isnan(m.low) else f"[{m.low:z.{digits}f}, {m.high:z.{digits}f}]"
        value = "none" if np.isnan(m.value) else f"{m.value:z.{digits}f}"
        lines.append(f"  {m.what:<67}  {split:<{wide}}  {value:>6}  {ends}")
    return lines


def _finding_line(verdict: Verdict, finding: str) -> str:
    """Return a finding, the verdict on it, and the number that decides it."""
    check = verdict.deciding(finding)
    begin = f"{verdict.outcome(finding):<9}  {finding:<26}"
    if check is None:
        return f"{begin}  no data were held out"
    return f"{begin}  {number_text(check):<12}  {visible(check.split):<22}  {interval_text(check)}"


def _check_lines(checks: Sequence[Check]) -> list[str]:
    lines, rule = [], None
    for check in checks:
        if check.rule is not rule:
            rule = check.rule
            lines.append(f"             {rule.statistic} ({rule.threshold})")
        number = f"{visible(check.split):<22}  {number_text(check):<12}  {interval_text(check)}"
        lines.append(f"               {check.verdict:<9}  {number}")
    return lines


def _last_lines(verdict: Verdict) -> list[str]:
    outcomes = [verdict.outcome(finding) for finding in verdict.findings]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in OUTCOMES)
    lines = [f"{len(outcomes)} findings: {counts}"]
    if len(verdict.runs) == 1 and verdict.over and verdict.is_series:
        lines[0] += "; of one run: another seed may differ by more than these intervals"
    if not verdict.is_series and not verdict.checks_of("unseen data"):
        lines.append(f"{NOTHING_HELD_OUT}.")
    if verdict.unjudged:
        lines.append(f"{', '.join(verdict.unjudged)}: {UNJUDGED}")
    return lines + ([f"{verdict.doubt}."] if verdict.doubt else [])


def number_text(check: Check) -> str:
    """Return the number of a check and how it relates to its threshold."""
    rule, value = check.rule, check.value
    if np.isnan(value):
        return "no number"
    if np.isfinite(rule.above) and np.isfinite(rule.below):
        relation = "within" if rule.above < value < rule.below else "outside"
        return f"{value:z.{rule.digits}f} {relation} {rule.threshold}"
    limit = rule.above if np.isfinite(rule.above) else rule.below
    relation = ">" if value > limit else "<" if value < limit else "="
    # More digits if two would show the threshold itself.
    close = value != limit and f"{value:.{rule.digits}f}" == f"{limit:.{rule.digits}f}"
    return f"{value:z.{rule.digits + 2 * close}f} {relation} {limit:g}"


def interval_text(check: Check) -> str:
    """Return the interval of a check, or why there is none."""
    digits = check.rule.digits
    return check.note or f"[{check.low:z.{digits}f}, {check.high:z.{digits}f}]"
