"""Return the edits of a view as data of the page: effects as JSON, moves as packed arrays."""

from typing import Any

import numpy as np

from tasklens.interventions.effects import ABLE, EFFECTS, NORMALISED
from tasklens.interventions.repair_effects import AUROC, RIGHT
from tasklens.report.edits_view import EditsView, Moves
from tasklens.report.page_arrays import Packer
from tasklens.report.view import View

#: The effects of edits that the page shows.
SHOWN = {
    *(metric + suffix for metric in EFFECTS for suffix in ("", ABLE)),
    f"becomes{NORMALISED}",
    *(RIGHT, AUROC),
}
#: Decimal places of an effect.
DIGITS = 4


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
    effects: dict[str, Any] = {}
    columns = ["edit", "metric", "state", "step", "value"]
    for edit, metric, state, step, value in edits.means(split)[columns].itertuples(index=False):
        if metric in SHOWN and state in states and np.isfinite(value):
            by_state = effects.setdefault(edit, {}).setdefault(metric, {})
            course = by_state.setdefault(state, [None] * len(number))
            course[number[step]] = round(float(value), DIGITS)
    return effects


def _pairs(edits: EditsView, split: str) -> list[list[int]]:
    """Return the number of pairs, and of those that the model can do, at each checkpoint."""
    means = edits.means(split)
    counts = {
        metric: means[means["metric"] == metric].set_index("step")["value"].to_dict()
        for metric in ("pairs", f"pairs{ABLE}")
    }
    return [[int(by_step.get(step, 0)) for by_step in counts.values()] for step in edits.steps]


def pack_moves(packer: Packer, moves: Moves) -> dict[str, Any]:
    """Pack the arrays of moves, and return the rest as JSON.

    In ``move/expected``, 0 is an answer that is not known. In ``move/answer/...``, 0 is a move that
    was not run, and 1 is any answer without a number.
    """
    packer.add("move/point", moves.point)
    packer.add("move/expected", moves.expected + 1)
    for state, answer in moves.answer.items():
        packer.add(f"move/answer/{state}", answer + 2)
    for (plane, state), centroids in moves.centroids.items():
        packer.add_map(f"move/{plane}/{state}", centroids)
    return {"tasks": moves.tasks.tolist(), "answers": moves.answers}
