"""The scores of stages of one model as plain text: a column for each stage."""

from collections.abc import Mapping

import pyarrow as pa

from tasklens.core.text import aligned
from tasklens.data.names import UNTRAINED
from tasklens.scoring.score_table import (
    CONTROLS,
    MODEL,
    NO_STEP,
    at_position,
    layers_in_order,
    main_scores,
    summarise,
    to_frame,
)

#: The metrics that are shown, and the title of the table of each; hidden states have both.
TITLES = {
    "ari": "ARI against the task, mean over seeds and cluster seeds",
    "probe_task": "accuracy of a linear classifier that predicts the task",
}


def are_stages(step_names: Mapping[int, str]) -> bool:
    """Return whether there are several models that were trained, which are no series."""
    return len([name for name in step_names.values() if name != UNTRAINED]) > 1


def stage_tables(table: pa.Table, step_names: Mapping[int, str]) -> str:
    """Return the ARI and the linear classifier of each stage as plain text, and the accuracy.

    There is one row per hidden state and space, and one column per split and stage. Controls that
    need no model stand in the first column of a split. Of several positions the first counts.
    """
    rows = to_frame(at_position(main_scores(table)), (*TITLES, "accuracy"))
    by = ("metric", "layer", "space", "split", "step")
    means: dict[tuple[str, str, str, str, int], float] = summarise(rows, by)["mean"].to_dict()
    steps = list(step_names)
    parts = []
    for metric, title in TITLES.items():
        cells = [(layer, space) for each, layer, space, *_ in means if each == metric]
        states = layers_in_order({layer for layer, _ in cells} - {*CONTROLS})
        splits = list(dict.fromkeys(split for each, _, _, split, _ in means if each == metric))
        lines = [
            ["", "", *(cell for split in splits for cell in (split, *[""] * (len(steps) - 1)))],
            ["layer", "space", *(step_names[step] for _ in splits for step in steps)],
        ]
        for space in ("raw", "tsne"):
            for layer in [*states, *CONTROLS]:
                if (layer, space) in cells:
                    lines.append([layer, space])
                    for split in splits:
                        keys = [(metric, layer, space, split, step) for step in steps]
                        if layer in CONTROLS:
                            keys[0] = (metric, layer, space, split, NO_STEP)
                        lines[-1] += [
                            _number(means.get(key), "-" * (layer in states)) for key in keys
                        ]
        if metric == "ari":
            keys = [("accuracy", MODEL, "", split, step) for split in splits for step in steps]
            lines.append(["accuracy", "", *(_number(means.get(key), "-") for key in keys)])
        if cells:
            parts.append("\n".join([title, *aligned(lines)]) + "\n")
    return "\n".join(parts) or "no scores\n"


def _number(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:z5.2f}"
