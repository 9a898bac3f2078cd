"""The one rule by which a layer is called the best."""

import re
from collections.abc import Mapping

import numpy as np

from tasklens.scoring.score_table import layers_in_order


def is_layer(state: str) -> bool:
    """Return whether a state is one of layers 0 .. L: ``embed`` or a block."""
    return re.fullmatch(r"embed|block\d+", state) is not None


def best_layer(final: Mapping[tuple[str, str], float]) -> tuple[str, str] | None:
    """Return the layer and space with the highest final ARI; None if there is none.

    Only layers 0 .. L are candidates, or, if none of them was scored, every state. Among scores
    that are equal up to rounding, the lowest layer wins, and "raw" before "tsne".

    ``final`` is, by (state, space), the mean ARI at the last checkpoint on the split that training
    has seen, or the first split. Choosing there keeps the scores of the other splits free of
    selection. NaN is no score.
    """
    scored = {place: value for place, value in final.items() if np.isfinite(value)}
    scored = {place: value for place, value in scored.items() if is_layer(place[0])} or scored
    order = layers_in_order({state for state, _ in scored})
    upward = sorted(scored, key=lambda place: (order.index(place[0]), place[1]))
    return max(upward, key=lambda place: round(float(scored[place]), 9), default=None)
