"""Table of a series: what is known of each revision without its weights, and what is odd."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from tasklens.core.files import digest
from tasklens.models.series_steps import missing_steps, without_step

#: The revision that a repository shows first; it is a copy of the last step as a rule.
MAIN = "main"
#: What a tokens424B or a 2.1T-tokens in a name counts.
_TOKENS = re.compile(
    r"(?<![a-z])(?:tokens?[-_=]?(?P<after>\d{1,15}(?:\.\d+)?)(?P<unit>[KMBT]?)"
    r"|(?P<before>\d{1,15}(?:\.\d+)?)(?P<unit_before>[KMBT]?)[-_]?tokens?)(?![0-9a-z])",
    re.IGNORECASE,
)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
#: Digits of a hash in a sentence.
_DIGITS = 12
#: How many names are in a sentence.
_SHOWN = 6


@dataclass(frozen=True)
class Revision:
    """One revision of a repository, or one directory of a series."""

    name: str
    step: int | None
    commit: str = ""  # empty on the disk
    size: int = 0  # of the weights, in bytes; 0 if there are none
    hashes: tuple[str, ...] = ()  # of the files of weights, by name; "" for one that is not known
    plain: tuple[str, ...] = ()  # the files of weights that are not in Git LFS
    notes: tuple[str, ...] = ()  # what is odd about its step, as sentences

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file of weights, or one over those of several; empty if not known."""
        if len(self.hashes) < 2:
            return "".join(self.hashes)
        return digest(self.hashes) if all(self.hashes) else ""

    @property
    def tokens(self) -> int | None:
        """The number of tokens in the name, such as 424B; None if it has none."""
        match = _TOKENS.search(self.name)
        if match is None:
            return None
        number, unit = match["after"] or match["before"], match["unit"] or match["unit_before"]
        return round(float(number) * _UNITS[(unit or "").upper()])

    @property
    def stage(self) -> str:
        """The name without its step and tokens: steps are counted in each stage by themselves."""
        return without_step(_TOKENS.sub("", self.name).strip("-_"))


def in_order(revisions: Iterable[Revision]) -> list[Revision]:
    """Return revisions in the order of stages and steps; those without a step are the last."""
    return sorted(revisions, key=lambda r: (r.step is None, r.stage, r.step or 0, r.name))


def doubts_of_each(revisions: Sequence[Revision]) -> list[list[str]]:
    """Return what is odd about each revision, in a few words each."""
    same: dict[str, str] = {}
    for group in _odd_groups(revisions):
        names = [r.name for r in group]
        original = MAIN if MAIN in names else names[0]
        same |= {name: f"same weights as {original}" for name in names if name != original}
    each = []
    for revision in revisions:
        odd = [same[revision.name]] if revision.name in same else []
        if not revision.size:
            odd.append("no weights")
        if revision.step is None and revision.name != MAIN:
            odd.append("no step")
        if revision.plain:
            odd.append("not in LFS")
        each.append(odd)
    return each


def doubts_of_series(revisions: Sequence[Revision]) -> list[str]:
    """Return what is odd about a series, as sentences for a warning."""
    ordered = in_order(revisions)
    sentences = [_equal(group) for group in _odd_groups(ordered)] + _equal_parts(ordered)
    none = [r.name for r in ordered if not r.size]
    if none:
        sentences.append(f"{_some(none)}: no weights that tasklens reads")
    sentences += [
        f"{r.name}: {_some(r.plain)} is not in Git LFS: should be, since weights are large; is it "
        "a pointer to other weights?"
        for r in ordered
        if r.plain
    ]
    unknown = [r.name for r in ordered if r.step is None and r.name != MAIN]
    if unknown:
        sentences.append(f"{_some(unknown)}: the name has no step")
    sentences += [note for r in ordered for note in r.notes]
    for stage, each in groupby((r for r in ordered if r.step is not None), lambda r: r.stage):
        sentences += _doubts_of_steps(stage, [*each])
    return sentences


def equal_weights(revisions: Sequence[Revision]) -> list[str]:
    """Return a sentence for each group of revisions with equal weights, or an equal part."""
    return [_equal(group) for group in _equal_groups(revisions)] + _equal_parts(revisions)


def _equal_groups(revisions: Sequence[Revision]) -> list[list[Revision]]:
    groups: dict[str, list[Revision]] = {}
    for revision in in_order(revisions):
        if revision.sha256:
            groups.setdefault(revision.sha256, []).append(revision)
    return [group for group in groups.values() if len(group) > 1]


def _odd_groups(revisions: Sequence[Revision]) -> list[list[Revision]]:
    """Return the groups with equal weights but that of ``main`` and the last step alone."""
    last = next((r for r in reversed(in_order(revisions)) if r.step is not None), None)
    return [
        group
        for group in _equal_groups(revisions)
        if [r.name for r in group] != [last and last.name, MAIN]
    ]


def _equal(group: Sequence[Revision]) -> str:
    names = [r.name for r in group]
    same = "the weights of main" if MAIN in names else "the same weights"
    others = [name for name in names if name != MAIN]
    return (
        f"{_some(others)} {'have' if len(others) > 1 else 'has'} {same} (SHA-256 "
        f"{group[0].sha256[:_DIGITS]}): one of these {len(group)} is enough"
    )


def _equal_parts(revisions: Sequence[Revision]) -> list[str]:
    """Return a sentence for each group of revisions that share a part of several.

    A series that was put together wrongly may have one file of another step, beside its own.
    """
    holders: dict[str, list[Revision]] = {}
    for revision in in_order(revisions):
        for part in filter(None, dict.fromkeys(revision.hashes)):
            holders.setdefault(part, []).append(revision)
    shared: dict[tuple[str, ...], list[str]] = {}
    for part, group in holders.items():
        if len({r.sha256 or r.name for r in group}) > 1:
            shared.setdefault(tuple(r.name for r in group), []).append(part)
    return [
        f"{_some(names)} share {len(parts)} of their files of weights (SHA-256 "
        f"{', '.join(part[:_DIGITS] for part in parts[:_SHOWN])}): a part of another step?"
        for names, parts in shared.items()
    ]


def _doubts_of_steps(stage: str, revisions: list[Revision]) -> list[str]:
    """Return what is odd about the steps of a stage, whose revisions are in their order."""
    steps = [r.step for r in revisions if r.step is not None]
    of_stage = f" of {stage}" if stage else ""
    sentences = []
    twice = [step for step, n in Counter(steps).items() if n > 1]
    for step in twice:
        names = [r.name for r in revisions if r.step == step]
        sentences.append(f"{_some(names)} are all of step {step}")
    missing = [] if twice else missing_steps(steps)
    if missing:
        are_missing = f"steps{of_stage} are" if len(missing) > 1 else f"step{of_stage} is"
        sentences.append(f"{len(missing):,} {are_missing} missing: {_some(missing)}")
    for before, after in pairwise(r for r in revisions if r.tokens is not None):
        if (before.tokens or 0) > (after.tokens or 0):
            sentences.append(
                f"{after.name} has fewer tokens than {before.name}, which is an earlier step: one "
                "of the names is wrong"
            )
    return sentences


def _some(names: Sequence[object]) -> str:
    """Return some names, and how many more there are."""
    shown = ", ".join(map(str, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"
