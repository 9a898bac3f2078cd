"""The paper's findings as checks that can fail, each with an interval, a threshold and its reason.

Wu and Varshney, "Clusters Emerge in Transformer-based Causal Language Models" (arXiv 2402.12151).
A check is a number of each run, averaged over runs. It holds where its whole interval is on the
right side of its threshold, fails where all of it is on the wrong side, and is undecided else.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from tasklens.core.errors import InputError
from tasklens.data.instances import split_name
from tasklens.findings import statistics as of
from tasklens.findings.curves import Curves
from tasklens.findings.half_way import Timing, timings
from tasklens.scoring.bootstrap import CONFIDENCE, Floats, interval

Word: TypeAlias = Literal["holds", "fails", "undecided"]

TRAIN, PAIRS, INSTRUCTIONS = "train_subset", "val_subset", "val_instruction_subset"
SEEN_AND_UNSEEN = (TRAIN, PAIRS)

FINDINGS = {
    "emergence": "ARI in the upper layers rises through training",
    "saturation": "it saturates at a high value",
    "depth": "higher layers score higher",
    "depth below the last block": "higher layers score higher, the last block left aside",
    "baseline": "layer 0, the embedding, stays low and hardly moves",
    "generalisation": "validation follows training",
    "gradual": "the rise is gradual",
    "not from the inputs": "the inputs alone, or an untrained network, score far below",
}


@dataclass(frozen=True)
class Rule:
    """One number of a run and the side of a threshold that it should be on."""

    finding: str
    statistic: str
    number: Callable[[Curves, str], Floats]
    """From a run and a split to the number, (B,); see `tasklens.findings.statistics`."""
    splits: tuple[str, ...]
    reason: str
    above: float = -np.inf
    below: float = np.inf

    @property
    def threshold(self) -> str:
        """The threshold in words."""
        if np.isinf(self.below):
            return f"> {self.above:g}"
        if np.isinf(self.above):
            return f"< {self.below:g}"
        return f"{self.above:g} to {self.below:g}"


@dataclass(frozen=True)
class Check:
    """A rule held against runs, on one split."""

    rule: Rule
    split: str
    each: tuple[float, ...]
    """The number of each run."""
    value: float
    """Their mean; NaN where something is missing."""
    low: float
    high: float
    """The interval around it."""
    verdict: Word
    note: str = ""
    """Why it is undecided, where its interval is not the reason."""


@dataclass(frozen=True)
class Verdict:
    """What some runs say of each finding."""

    runs: tuple[tuple[str, int], ...]
    """Name and seed of each run."""
    checks: tuple[Check, ...]
    over: str = ""
    """What the intervals are over: "runs", "instructions", or both."""
    timings: tuple[Timing, ...] = ()
    """When each layer's clusters and the skill were half there: no finding, so nothing to fail."""

    def of(self, finding: str) -> Word:
        """Return the verdict on a finding: that of the worst of its checks."""
        words = {check.verdict for check in self.checks if check.rule.finding == finding}
        words |= {"undecided"} if not words else set()
        return "fails" if "fails" in words else "undecided" if "undecided" in words else "holds"

    @property
    def holds(self) -> bool:
        """Whether every finding holds."""
        return all(self.of(finding) == "holds" for finding in FINDINGS)


def judge(runs: Sequence[Curves]) -> Verdict:
    """Hold the findings against runs that differ in their seed.

    Parameters
    ----------
    runs : sequence of Curves
        Of one setting, each with a seed of its own.

    Raises
    ------
    InputError
        Where there is no run, a run is given twice, or one lacks the embedding or the layers above.
    """
    names = tuple((curves.run, curves.seed) for curves in runs)
    if not runs:
        raise InputError("no run to verify: give at least one")
    for curves in runs:
        if names.count((curves.run, curves.seed)) > 1:
            raise InputError(f"run {curves.run!r} with seed {curves.seed} is given twice")
        if len(curves.layers) < 2 or curves.layers[0] != "embed":
            raise InputError(
                f"run {curves.run!r}: its layers are {curves.layers}: should be embed and blocks"
            )
    # What was never held out says nothing of what holds there.
    checks = tuple(
        _check(rule, split, runs)
        for rule in RULES
        for split in rule.splits
        if all(split in curves.called for curves in runs)
    )
    resampled = any(len(y) > 1 for curves in runs for y in curves.ari.values())
    over = ["runs"] * (len(runs) > 1) + ["instructions"] * resampled
    return Verdict(names, checks, " and ".join(over), tuple(timings(runs)))


def _check(rule: Rule, split: str, runs: Sequence[Curves]) -> Check:
    nan, called = float("nan"), runs[0].called[split]
    try:
        values = [rule.number(curves, split) for curves in runs]
    except of.MissingError as missing:
        return Check(rule, called, (), nan, nan, nan, "undecided", str(missing))
    each = tuple(float(v[0]) for v in values)
    if len(values) == 1 and len(values[0]) == 1:
        note = "no interval: a single table of scores; give the run's directory or more seeds"
        return Check(rule, called, each, each[0], nan, nan, "undecided", note)
    low, high = interval(values, rule.finding, rule.statistic, split)
    verdict: Word = "undecided"
    if low > rule.above and high < rule.below:
        verdict = "holds"
    elif high <= rule.above or low >= rule.below:
        verdict = "fails"
    return Check(rule, called, each, float(np.mean(each)), low, high, verdict)


#: Thresholds were set before the seeds that docs/reproduction.md reports were run.
RULES = (
    Rule(
        "emergence",
        "rank correlation of the upper blocks' mean ARI with the step, until saturation",
        of.rank_with_step,
        SEEN_AND_UNSEEN,
        "of a dozen checkpoints in random order fewer than one in a hundred exceeds it",
        above=0.7,
    ),
    Rule(
        "emergence",
        "rise of the upper blocks' mean ARI, final minus initial",
        of.upper_gain,
        SEEN_AND_UNSEEN,
        "rounding alone was seen to move a final ARI by 0.2 at one seed",
        above=0.2,
    ),
    Rule(
        "saturation",
        "final ARI of the best layer, in the better space",
        of.highest,
        SEEN_AND_UNSEEN,
        "nine instances of ten then lie in their task's cluster, where errors fall at random",
        above=0.8,
    ),
    Rule(
        "saturation",
        "change over the last quarter of training, as a share of the rise",
        of.drift,
        SEEN_AND_UNSEEN,
        "a rise that goes on evenly makes a quarter of its way there",
        above=-0.1,
        below=0.1,
    ),
    Rule(
        "depth",
        "rank correlation of the final ARI with the layer",
        of.rank_with_layer,
        SEEN_AND_UNSEEN,
        "of seven layers in random order one in twenty exceeds it",
        above=0.7,
    ),
    Rule(
        "depth",
        "the best layer, as a share of the last",
        of.height,
        SEEN_AND_UNSEEN,
        "the upper half begins there",
        above=0.5,
    ),
    Rule(
        "depth",
        "final ARI of the best layer, minus that of layer 0",
        of.above_embedding,
        SEEN_AND_UNSEEN,
        "rounding alone was seen to move a final ARI by 0.2 at one seed",
        above=0.2,
    ),
    Rule(
        "depth below the last block",
        "rank correlation of the final ARI with the layer, the last left out",
        of.rank_with_layer_below,
        SEEN_AND_UNSEEN,
        "as for depth",
        above=0.7,
    ),
    Rule(
        "depth below the last block",
        "the best layer but for the last, as a share of the last but one",
        of.height_below,
        SEEN_AND_UNSEEN,
        "as for depth",
        above=0.5,
    ),
    Rule(
        "depth below the last block",
        "final ARI of the best layer but for the last, minus that of layer 0",
        of.above_embedding_below,
        SEEN_AND_UNSEEN,
        "as for depth",
        above=0.2,
    ),
    Rule(
        "baseline",
        "final ARI of layer 0",
        of.embedding,
        SEEN_AND_UNSEEN,
        "a quarter of what counts as high; an instruction's length alone gives up to 0.15",
        below=0.2,
    ),
    Rule(
        "baseline",
        "range of layer 0's ARI through training over the best layer's",
        of.embedding_moves,
        SEEN_AND_UNSEEN,
        "hardly is less than a tenth",
        below=0.1,
    ),
    Rule(
        "generalisation",
        "final ARI of the best layer, training minus this",
        of.gap,
        (PAIRS, INSTRUCTIONS),
        "half of what rounding alone was seen to move",
        below=0.1,
    ),
    Rule(
        "generalisation",
        "correlation of the best layer's curve with that on training",
        of.follows,
        (PAIRS, INSTRUCTIONS),
        "the curves then share four fifths of their variance",
        above=0.9,
    ),
    Rule(
        "gradual",
        "largest rise between neighbouring checkpoints, as a share of the whole",
        of.largest_jump,
        SEEN_AND_UNSEEN,
        "one jump is one that makes most of the rise",
        below=0.5,
    ),
    Rule(
        "gradual",
        "time from a tenth to nine tenths of the rise, as a share of training",
        of.duration,
        SEEN_AND_UNSEEN,
        "at least a tenth of training",
        above=0.1,
    ),
    *(
        Rule(
            "not from the inputs",
            f"ARI of {words} over the best layer's",
            number,
            SEEN_AND_UNSEEN,
            "far below is less than half: most of the ARI is then the trained network's own",
            below=0.5,
        )
        for words, number in (
            ("the input token", of.control("control:input")),
            ("the instruction's length", of.control("control:length")),
            ("the bag of symbols", of.control("control:symbols")),
            ("the untrained network's best layer", of.untrained),
        )
    ),
)


def verdict_json(verdict: Verdict) -> bytes:
    """Return the verdict as JSON; what is missing or not finite is null."""
    findings = [
        {
            "finding": finding,
            "sentence": sentence,
            "verdict": verdict.of(finding),
            "checks": [_plain(c) for c in verdict.checks if c.rule.finding == finding],
        }
        for finding, sentence in FINDINGS.items()
    ]
    content = {
        "holds": verdict.holds,
        "runs": [{"run": run, "seed": seed} for run, seed in verdict.runs],
        "confidence": CONFIDENCE,
        "intervals over": verdict.over,
        "findings": findings,
        "half way": [_timing(timing) for timing in verdict.timings],
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _timing(timing: Timing) -> dict[str, Any]:
    numbers = {"step": timing.value, "low": timing.low, "high": timing.high}
    return {
        "what": timing.what,
        "split": timing.split,
        "each": [_finite(v) for v in timing.each],
        **{name: _finite(v) for name, v in numbers.items()},
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _plain(check: Check) -> dict[str, Any]:
    numbers = {"value": check.value, "low": check.low, "high": check.high}
    limits = {"above": check.rule.above, "below": check.rule.below}
    finite = {name: _finite(v) for name, v in (numbers | limits).items()}
    return {
        "statistic": check.rule.statistic,
        "split": check.split,
        "verdict": check.verdict,
        "each": [_finite(v) for v in check.each],
        **finite,
        "reason": check.rule.reason,
        "note": check.note,
    }


def verdict_text(verdict: Verdict, *, checks: bool = True) -> str:
    """Return the verdict as plain text: what `tasklens verify` prints.

    Without its checks it is a line a finding: what `tasklens run` ends with.
    """
    words = [verdict.of(finding) for finding in FINDINGS]
    counts = ", ".join(f"{words.count(w)} {w}" for w in ("holds", "fails", "undecided"))
    total = f"{len(words)} findings: {counts}"
    lines = []
    for finding, sentence in FINDINGS.items():
        lines.append(f"{verdict.of(finding):<9}  {finding}: {sentence}")
        if not checks:
            continue
        here = [c for c in verdict.checks if c.rule.finding == finding]
        if not here:
            lines.append("             no data were held out")
        for i, check in enumerate(here):
            if i == 0 or check.rule is not here[i - 1].rule:
                lines.append(f"             {check.rule.statistic} ({check.rule.threshold})")
            about = check.note or f"{check.value:6.2f}  [{check.low:.2f}, {check.high:.2f}]"
            lines.append(
                f"               {split_name(check.split):<20} {check.verdict:<9}  {about}"
            )
        lines.append("")
    if verdict.timings and checks:
        where = split_name(verdict.timings[0].split)
        lines.append(f"Half way from first to last, in steps, on {where}:")
        for t in verdict.timings:
            lines.append(f"               {t.what:<20} {t.value:8.0f}  [{t.low:.0f}, {t.high:.0f}]")
        lines.append("")
    if len(verdict.runs) == 1 and verdict.over:
        total += "; of one run: another seed may differ by more than these intervals say"
    return "\n".join([*lines, total, ""])
