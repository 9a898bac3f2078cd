"""Choose the best layer of a run from its scores."""

from tasklens.core.errors import InputError
from tasklens.findings.curves import curves_of_table
from tasklens.runs.run import Run
from tasklens.scoring.best_layer import best_layer
from tasklens.scoring.score_table import at_position


def chosen_layer(run: Run, position: str | None = None, space: str = "raw") -> str | None:
    """Return the layer with the highest final ARI on the first split; None if none has a score."""
    table = at_position(run.score_table(), run.position(position))
    first, ari = next(iter(run.splits)), curves_of_table(table)[0].ari
    best = best_layer(
        {cell[1:]: y[0, -1] for cell, y in ari.items() if cell[::2] == (first, space)}
    )
    return best[0] if best else None


def need_layer(run: Run, position: str, space: str = "raw") -> str:
    """Return the `chosen_layer`; InputError if there is none."""
    layer = chosen_layer(run, position, space)
    if layer is None:
        raise InputError(f"{run.directory.path}: nothing was clustered in the space {space!r}")
    return layer
