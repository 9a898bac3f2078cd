"""Choose the best layer, by one rule for the whole package."""

import functools
import re
from collections.abc import Mapping

import numpy as np

from tasklens.scoring.score_table import layers_in_order


@functools.cache
def is_layer(state: str) -> bool:
    """Return whether a hidden state is a layer: ``embed`` or a block."""
    return re.fullmatch(r"embed|block\d+", state) is not None


def best_layer(final: Mapping[tuple[str, str], float]) -> tuple[str, str] | None:
    """Return the layer and space with the highest final ARI; None if there is none.

    Candidates are ``embed`` and the blocks, or, if none of them has a score, every hidden state. If
    scores are equal up to rounding, the lowest layer is chosen, and "raw" before "tsne".

    ``final`` is the mean ARI at the last checkpoint, by (state, space), on the split that training
    has seen, or on the first split. The scores of the other splits then remain free of selection.
    NaN is no score.
    """
    scored = {key: value for key, value in final.items() if np.isfinite(value)}
    scored = {key: value for key, value in scored.items() if is_layer(key[0])} or scored
    order = layers_in_order({state for state, _ in scored})
    upward = sorted(scored, key=lambda key: (order.index(key[0]), key[1]))
    return max(upward, key=lambda key: round(float(scored[key]), 9), default=None)
