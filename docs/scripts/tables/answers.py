"""The answers with which the page begins: statement, verdict, number, and the link to more.

A number is computed from the committed files. Numbers in square brackets are 95 % intervals, those
in round brackets, or several, are of single seeds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tables.distribution_tables import lead_of_distributions, within_tasks
from tables.markdown import markdown, number, spread
from tables.material import COMMANDS, Material
from tables.run_scores import Scores
from tables.small_world import STATEMENTS
from tables.statements import FAILS, HOLDS, NOT_RUN, UNDECIDED, judged, values_of, verdict
from tables.verdict_tables import interval, limits

ORDER = (FAILS, UNDECIDED, HOLDS, NOT_RUN)
#: What counts as hardly, as in the checks of use.
HARDLY = 0.1
PAIRS, INSTRUCTIONS = "val_subset", "val_instruction_subset"
#: Where the sweeps are described.
REGIME = "[regime](#the-regime-the-number-of-outputs)"
SECTIONS = {
    "phase": f"[phase.png](../images/phase.png), {REGIME}",
    "last_block": REGIME,
    "positions": "[positions](#at-which-position)",
    "rise": "[rise](#rise-and-fall)",
}
WORST = "[findings](#the-papers-findings)"
DISTRIBUTIONS = "[distributions](#several-distributions-per-task)"
KINDS = "[kinds](#unseen-data-by-kind)"


@dataclass(frozen=True)
class Answer:
    """A row of the table."""

    statement: str
    verdict: str
    number: str
    link: str


def answers_table(material: Material) -> str:
    """Return the answers: those that fail, are undecided, hold, and were not run."""
    rows = [
        *findings(material.verdict),
        *of_default(material),
        *of_distributions(material),
        *of_small_world(material),
    ]
    ordered = sorted(joined(rows), key=lambda row: ORDER.index(row.verdict))
    cells = [[r.statement, f"**{r.verdict}**", r.number, r.link] for r in ordered]
    return markdown(["statement", "verdict", "number", "more"], cells)


def joined(rows: Sequence[Answer]) -> list[Answer]:
    """Return the answers, with all that wait for one study in one row."""
    waiting: dict[str, list[Answer]] = {}
    for row in rows:
        if row.verdict == NOT_RUN:
            waiting.setdefault(row.number, []).append(row)
    return [
        *(row for row in rows if row.verdict != NOT_RUN),
        *(
            Answer("; ".join(row.statement for row in each), NOT_RUN, command, each[0].link)
            for command, each in waiting.items()
        ),
    ]


def findings(verdict: dict[str, Any]) -> list[Answer]:
    """Return the findings that do not hold, each alone, and those that hold."""
    alone, together = [], []
    for finding in verdict["findings"]:
        checks = [c for c in finding["checks"] if c["verdict"] == finding["verdict"]]
        check = next((c for c in checks if c["split"] == PAIRS), checks[0])
        if finding["verdict"] == HOLDS:
            together.append((finding["finding"], interval(check)))
        else:
            text = f"The paper: {finding['sentence']} ({finding['finding']})"
            needed = f"{check['statistic']}: {interval(check)}, should be {limits(check)}"
            alone.append(Answer(text, finding["verdict"], needed, WORST))
    names = ", ".join(name for name, _ in together)
    numbers = "; ".join(f"{name} {text}" for name, text in together)
    link = f"[Figure 1](../images/figure1.png), {WORST}"
    return [*alone, Answer(f"The paper: {names}", HOLDS, numbers, link)]


def by_seed(
    statement: str,
    values: Sequence[float],
    holds: Callable[[float], bool],
    text: str,
    link: str,
) -> Answer:
    """Return an answer that holds, or fails, if it does so in each seed."""
    known = [value for value in values if not math.isnan(value)]
    return Answer(statement, verdict(map(holds, known)), text, link)


def of_default(material: Material) -> list[Answer]:
    """Return the answers on the runs of the preset `default`."""
    scores = material.default
    last, first = scores.steps[-1], scores.steps[0]
    best = {seed: scores.best(seed) for seed in scores.seeds}
    tsne = [
        scores.get(seed, "ari", PAIRS, best[seed], last, "tsne")
        - scores.get(seed, "ari", PAIRS, best[seed], last)
        for seed in scores.seeds
    ]
    decodable = {
        seed: max(scores.layers, key=lambda x: scores.get(seed, "probe_task", PAIRS, x, first))
        for seed in scores.seeds
    }
    probe, ari = (
        [scores.get(seed, name, PAIRS, decodable[seed], first) for seed in scores.seeds]
        for name in ("probe_task", "ari")
    )
    used = [used_in(material, seed, best[seed]) for seed in scores.seeds]
    tasks = material.task_numbers
    every, from_means = (
        tasks.each(metric, tasks.last, tasks.numbers[-1], "block6")
        for metric in ("ari", "ari_from_means")
    )
    return [
        by_seed(
            "t-SNE before KMeans finds the tasks better",
            tsne,
            lambda x: x > 0,
            f"ARI of the best layer, after t-SNE minus before: {spread(tsne)}",
            "[t-SNE](#t-sne-before-kmeans)",
        ),
        by_seed(
            "Tasks that a linear probe finds are clusters",
            ari,
            lambda x: x > 0.2,
            f"untrained: ARI {spread(ari)}, linear probe {spread(probe)}",
            "[Figure 2](../images/figure2.png), [information](#information-without-clusters)",
        ),
        by_seed(
            "KMeans finds the clusters of all fifty tasks",
            every,
            lambda x: x > 0.8,
            f"ARI of `block6`: {spread(every)}; begun at the tasks' means: {spread(from_means)}",
            "[how many](#how-many-tasks-at-once)",
        ),
        first_or_later(material, scores),
        by_seed(
            "The clusters are used: a shift between centroids moves the answer",
            used,
            lambda x: x > 0.2,
            f"share of the way from random directions to a donor's state: {spread(used)}",
            "[Edits of three runs](interventions.md), [Figure 3](../images/figure3.png)",
        ),
    ]


def used_in(material: Material, seed: int, layer: str) -> float:
    """Return the normalised effect of a shift in a layer of one run at the end."""
    wanted = {"split": PAIRS, "state": layer, "edit": "shift", "metric": "becomes_normalised"}
    rows = [r for r in material.effects if wanted.items() <= r.items()]
    row = max(rows, key=lambda r: int(r["step"]))
    return float(row[f"seed {seed}"])


def first_or_later(material: Material, scores: Scores) -> Answer:
    """Return whether the clusters come before the accuracy, in the layer with the best mean."""
    layers = [t["what"] for t in material.verdict["half way"] if t["what"] in scores.layers]
    last = scores.steps[-1]
    layer = max(layers, key=lambda x: sum(scores.each("ari", "train_subset", x, last)))
    timing = next(t for t in material.verdict["half way"] if t["what"] == f"{layer} - accuracy")
    low, high = timing["low"], timing["high"]
    result = HOLDS if high < 0 else FAILS if low > 0 else UNDECIDED
    mean = "-" if timing["step"] is None else number(timing["step"], 0)
    text = f"steps from half the accuracy to half the ARI of `{layer}`: {mean}"
    link = "[order](#clusters-or-accuracy-first)"
    statement = "The clusters come before the accuracy"
    return Answer(statement, result, f"{text} [{number(low, 0)}, {number(high, 0)}]", link)


def of_distributions(material: Material) -> list[Answer]:
    """Return the answers on runs with several distributions per task."""
    judgement, scores = material.distributions_verdict, material.distributions
    statements = {
        "The findings hold with three distributions per task": DISTRIBUTIONS,
        "A task has a cluster for each distribution before they merge": DISTRIBUTIONS,
        "Instructions of distributions that training never saw are in their task's cluster, though "
        "nothing tells a model which that is": KINDS,
        "Tasks that training never saw are clusters of their own": KINDS,
        "States far from their task's centroid are answered wrongly": KINDS,
        "Tasks with better clusters are answered better": KINDS,
        "At the centroid of their task, wrong answers to unseen instructions become right": KINDS,
        "At the centroid of their task, wrong answers to unseen distributions become right": KINDS,
    }
    if scores is None or judgement is None:
        command = f"`{COMMANDS['distributions']}`"
        return [Answer(text, NOT_RUN, command, link) for text, link in statements.items()]
    names: dict[str, list[str]] = {}
    for finding in judgement["findings"]:
        names.setdefault(finding["verdict"], []).append(finding["finding"])
    worst = next(word for word in ORDER if word in names)
    counts = "; ".join(f"{word}: {', '.join(names[word])}" for word in ORDER if word in names)
    lead, (highest, end) = lead_of_distributions(scores), within_tasks(scores)
    ari = {split: scores.of_best("ari", split) for split in scores.splits}
    missing = [math.nan] * len(scores.seeds)
    unseen, tasks = (ari.get(f"unseen_{name}_subset", missing) for name in ("distribution", "task"))
    gap = [a - b for a, b in zip(ari["train_subset"], unseen, strict=True)]
    error = scores.of_best("error_auroc", INSTRUCTIONS)
    along = scores.of_best("task_ari_accuracy", INSTRUCTIONS)
    texts = list(statements)
    return [
        Answer(texts[0], worst, counts, DISTRIBUTIONS),
        by_seed(
            texts[1],
            lead,
            lambda x: x > 0.1,
            f"largest lead of the ARI against distributions over tasks: {spread(lead)}; "
            f"ARI within tasks at most {spread(highest)}, at the end {spread(end)}",
            DISTRIBUTIONS,
        ),
        by_seed(
            texts[2],
            gap,
            lambda x: x < 0.1,
            f"ARI of the best layer {spread(unseen)}, {spread(gap)} less than in training",
            KINDS,
        ),
        by_seed(
            texts[3], tasks, lambda x: x > 0.8, f"ARI of the best layer: {spread(tasks)}", KINDS
        ),
        by_seed(
            texts[4],
            error,
            lambda x: x > 0.5,
            f"AUROC, unseen instructions: {spread(error)}",
            KINDS,
        ),
        by_seed(
            texts[5],
            along,
            lambda x: x > 0,
            f"rank correlation over tasks, unseen instructions: {spread(along)}",
            KINDS,
        ),
        repaired(texts[6], judgement, INSTRUCTIONS),
        repaired(texts[7], judgement, "unseen_distribution_subset"),
    ]


def repaired(statement: str, judgement: dict[str, Any], split: str) -> Answer:
    """Return whether errors become right if states are moved to their own centroid."""
    measured = judgement["use"]["measurements"]
    share = "errors that become right at their own task's centroid"
    at = next(i for i, m in enumerate(measured) if (m["what"], m["split"]) == (share, split))
    moved, above_random = measured[at : at + 2]
    low, high = above_random["low"], above_random["high"]
    result = HOLDS if low > HARDLY else FAILS if high < HARDLY else UNDECIDED
    text = f"{interval(moved)} of the errors, {interval(above_random)} above random directions"
    return Answer(statement, result, text, KINDS)


def of_small_world(material: Material) -> list[Answer]:
    """Return the answers on the sweeps of the small world."""
    answers = []
    for statement in STATEMENTS:
        if statement.is_answer:
            values = values_of(statement, material.points)
            result = judged(statement, values)
            tested = result != NOT_RUN
            each = ", ".join(f"{value:z.2f} (seed {seed})" for seed, value in values.items())
            needed = f"{statement.what}: {each}, should be {statement.limits}"
            text = needed if tested else f"`{COMMANDS[statement.sweep]}`"
            answers.append(Answer(statement.text, result, text, SECTIONS[statement.sweep]))
    return answers
