"""Tables of sweeps in the small world: every layer of each run, and the positions."""

import math
from itertools import product

from tables.markdown import MISSING, markdown, named_seeds, number, spread
from tables.sweep_points import BASE, INSTRUCTIONS, PAIRS, Points

#: Numbers of outputs of the study of positions, each with the name of its run.
OUTPUTS = {
    6: "n_outputs = 6",
    24: "n_outputs = 24",
    96: "n_outputs = 96",
    480: BASE,
}


def sweep_table(points: Points, title: str) -> str:
    """Return the final ARI of each run of a sweep on unseen pairs, with the last block's peak."""
    last = points.layers[-1]
    rows = []
    for name in points.names:
        finals = [spread(points.each(name, layer)) for layer in points.layers]
        peak = ", ".join(_peak(points, name, seed, last) for seed in points.seeds)
        others = (
            points.each(name, last, space="tsne"),
            points.each(name, last, "ari_output"),
            points.each(name, last, "accuracy"),
        )
        rows.append([name, *finals, peak, *map(spread, others)])
    heads = [f"{last}, {word}" for word in ("peak", "after t-SNE", "with outputs")]
    title = f"{title}, {named_seeds(points.seeds)}"
    return markdown([title, *points.layers, *heads, "accuracy"], rows)


def _peak(points: Points, name: str, seed: int, layer: str) -> str:
    """Return the highest ARI of a layer and its step."""
    step = points.value(name, seed, layer, "peak_step")
    if math.isnan(step):
        return MISSING
    return f"{number(points.value(name, seed, layer, 'peak'))} at {number(step, 0)}"


def positions_table(points: Points) -> str:
    """Return the best layer's ARI at each position, before and after training, by outputs.

    The layer is chosen on the training subset, before and after training for itself.
    """
    rows = []
    for position, (outputs, name) in product(points.positions, OUTPUTS.items()):
        if name not in points.names:
            continue
        cells = []
        for split in (PAIRS, INSTRUCTIONS):
            for column in ("initial", "final"):
                each = [
                    points.of_best(name, seed, column, by=column, position=position, split=split)
                    for seed in points.seeds
                ]
                cells.append(spread(each))
        layers = [points.best(name, seed, position=position) or "-" for seed in points.seeds]
        symbols = spread(points.each(name, "control:symbols"))
        accuracy = spread(points.each(name, points.layers[-1], "accuracy", position=position))
        rows.append([position, str(outputs), ", ".join(layers), *cells, symbols, accuracy])
    heads = [
        f"{split}, {when}"
        for split in ("unseen pairs", "unseen instructions")
        for when in ("untrained", "trained")
    ]
    head = [
        f"position, {named_seeds(points.seeds)}",
        "outputs",
        "best layer",
        *heads,
        "bag of symbols",
        "accuracy",
    ]
    return markdown(head, rows)


def positions_by_layer(points: Points) -> str:
    """Return the ARI of every layer at each position on unseen pairs, before and after training."""
    rows = []
    for position, (outputs, name) in product(points.positions, OUTPUTS.items()):
        if name not in points.names:
            continue
        for column, when in (("initial", "untrained"), ("final", "trained")):
            each = [points.each(name, x, column, position=position) for x in points.layers]
            rows.append([position, str(outputs), when, *map(spread, each)])
    head = [f"position, {named_seeds(points.seeds)}", "outputs", "", *points.layers]
    return markdown(head, rows)
