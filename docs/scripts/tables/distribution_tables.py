"""Tables of runs with several distributions per task: clusters of which, and unseen kinds."""

import math
from collections.abc import Mapping

from tables.markdown import markdown, number, spread
from tables.run_scores import Scores
from tasklens.data.instances import SPLIT_MEANINGS

PAIRS = "val_subset"
DISTRIBUTIONS = ("against the distribution", "within tasks, each alone")
#: The first steps are dense; only about every `SPACING` is shown.
SPACING = 150
#: Scores of each kind of unseen data with their titles; most are of the known tasks' centroids.
KINDS = {
    "ari": "ARI",
    "probe_task": "linear probe",
    "centroid_task": "nearest centroid is the own",
    "error_auroc": "distance against error (AUROC)",
    "task_ari_accuracy": "ARI against accuracy, over tasks",
    "span_share": "share in the span of the centroids",
    "span_share_random": "the same by chance",
    "nearest_task_share": "share of the commonest nearest task",
    "answer_of_nearest": "answer is that of the nearest task",
    "answer_of_nearest_random": "the same by chance",
}


def distributions_table(scores: Scores) -> str:
    """Return by layer at the end the ARI against the tasks and against their distributions.

    For tasks there are as many clusters as tasks, for distributions as many as distributions.
    """
    last = scores.steps[-1]
    rows = [
        [layer, *(map(spread, three_ari(scores, dict.fromkeys(scores.seeds, layer), last)))]
        for layer in scores.layers
    ]
    return markdown([PAIRS, "ARI against the task", *DISTRIBUTIONS], rows)


def three_ari(scores: Scores, layer: Mapping[int, str], step: int) -> list[list[float]]:
    """Return three ARI of each seed, in its layer: of tasks, of distributions, within tasks.

    The last is a mean over tasks, each of which is clustered alone.
    """
    get, over_all = scores.get, scores.with_most_clusters
    within = "ari_distribution_within_task"
    return [
        [get(seed, "ari", PAIRS, layer[seed], step) for seed in scores.seeds],
        [over_all(seed, "ari_distribution", PAIRS, layer[seed], step) for seed in scores.seeds],
        [get(seed, within, PAIRS, layer[seed], step) for seed in scores.seeds],
    ]


def distributions_course(scores: Scores) -> str:
    """Return these numbers in each run's best layer through training."""
    best = {seed: scores.best(seed) for seed in scores.seeds}
    rows = []
    for step in [s for s in scores.steps if s == 0 or s >= SPACING]:
        accuracy = scores.each("accuracy", PAIRS, "model", step, "")
        rows.append([f"{step:,}", *map(spread, (*three_ari(scores, best, step), accuracy))])
    layers = ", ".join(dict.fromkeys(best.values()))
    return markdown(["step", f"ARI against the task ({layers})", *DISTRIBUTIONS, "accuracy"], rows)


def lead_of_distributions(scores: Scores) -> list[float]:
    """Return by how much the distributions lead at most, in each run's best layer.

    That is the largest ARI against the distributions minus that against the tasks, over training.
    """
    leads = []
    for seed in scores.seeds:
        best = scores.best(seed)
        each = [
            scores.with_most_clusters(seed, "ari_distribution", PAIRS, best, step)
            - scores.get(seed, "ari", PAIRS, best, step)
            for step in scores.steps
        ]
        known = [lead for lead in each if not math.isnan(lead)]
        leads.append(max(known, default=math.nan))
    return leads


def within_tasks(scores: Scores) -> tuple[list[float], list[float]]:
    """Return the highest and the last ARI of distributions within tasks, in each best layer."""
    best = {seed: scores.best(seed) for seed in scores.seeds}
    courses = [*zip(*(three_ari(scores, best, step)[2] for step in scores.steps), strict=True)]
    known = [[x for x in course if not math.isnan(x)] for course in courses]
    return [max(x, default=math.nan) for x in known], [course[-1] for course in courses]


def kinds_table(scores: Scores) -> str:
    """Return on each split the best layer's scores at the end, for each kind of unseen data."""
    last = scores.steps[-1]
    splits = [split for split in SPLIT_MEANINGS if split in scores.splits]
    rows = [
        [title, *(spread(scores.of_best(name, split)) for split in splits)]
        for name, title in KINDS.items()
    ]
    accuracy = [spread(scores.each("accuracy", split, "model", last, ""), 3) for split in splits]
    return markdown(
        [f"step {number(last, 0)}, best layer", *splits], [["accuracy", *accuracy], *rows]
    )
