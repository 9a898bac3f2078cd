"""Return the edits of a view as data of the page: effects as JSON, moves as packed arrays."""

from typing import Any

import numpy as np

from tasklens.report.edits_view import EditsView, Moves
from tasklens.report.page_arrays import Packer
from tasklens.report.view import View

#: Effects that the page shows, and those of them that it also shows over able pairs.
METRICS = ("becomes", "stays", "third", "logit_change")
NORMALISED = "becomes_normalised"
#: Decimal places of an effect.
DIGITS = 3


def edits_data(view: View) -> dict[str, Any] | None:
    """Return the mean effects of the edits of a view as JSON, without its moves.

    They are by split, edit, metric and hidden state, a list with a number or null per checkpoint.
    """
    edits = view.edits
    if edits is None:
        return None
    return {
        "steps": [view.steps.index(step) for step in edits.steps],
        "splits": {
            split: {"effects": _effects(edits, split, view.states), "pairs": _pairs(edits, split)}
            for split in view.splits
            if (edits.effects["split"] == split).any()
        },
    }


def _effects(edits: EditsView, split: str, states: tuple[str, ...]) -> dict[str, Any]:
    number = {step: i for i, step in enumerate(edits.steps)}
    shown = {*METRICS, *(f"{metric}_able" for metric in METRICS), NORMALISED}
    effects: dict[str, Any] = {}
    columns = ["edit", "metric", "state", "step", "value"]
    for edit, metric, state, step, value in edits.means(split)[columns].itertuples(index=False):
        if metric in shown and state in states and np.isfinite(value):
            by_state = effects.setdefault(edit, {}).setdefault(metric, {})
            course = by_state.setdefault(state, [None] * len(number))
            course[number[step]] = round(float(value), DIGITS)
    return effects


def _pairs(edits: EditsView, split: str) -> list[list[int]]:
    """Return the number of pairs, and of those that the model can do, at each checkpoint."""
    means = edits.means(split)
    counts = means[means["metric"].isin(["pairs", "pairs_able"])]
    by_step = {
        (step, metric): int(n)
        for step, metric, n in zip(*(counts[c] for c in ("step", "metric", "value")), strict=True)
    }
    return [[by_step.get((step, m), 0) for m in ("pairs", "pairs_able")] for step in edits.steps]


def pack_moves(packer: Packer, moves: Moves) -> dict[str, Any]:
    """Pack the arrays of moves, and return the rest as JSON.

    In ``move/expected``, 0 is an answer that is not known. In ``move/answer/...``, 0 is a move that
    was not run, and 1 is any answer without a number.
    """
    packer.add("move/point", moves.point)
    packer.add("move/expected", moves.expected + 1)
    for state, answer in moves.answer.items():
        packer.add(f"move/answer/{state}", answer + 2)
    for state, centroids in moves.centroids.items():
        packer.add_map(f"move/centroids/{state}", centroids)
    return {"tasks": moves.tasks.tolist(), "answers": moves.answers}
