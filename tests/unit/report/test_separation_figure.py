"""ARI against separation: a dot for each hidden state of a block."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from drawn import title
from tasklens.core.errors import InputError
from tasklens.report.separation_figure import DOTS, separation_pairs, separation_plot
from tasklens.scoring.score_table import Row, score_rows, to_table


def states(**separations: float | None) -> pa.Table:
    """Two checkpoints of some layers; the ARI of two cluster seeds falls with the separation."""
    rows: list[Row] = []
    for (layer, separation), (step, share), space in itertools.product(
        separations.items(), ((0, 0.5), (16, 1.0)), ("raw", "tsne")
    ):
        row: dict[str, Any] = {"run": "r", "seed": 0, "step": step, "split": "s", "space": space}
        row |= {"position": "", "layer": layer}
        for seed in (0, 1):
            ari = 1 / (1 + (separation or 0) * share) + 0.1 * seed
            rows += score_rows({"ari": ari}, **row, cluster_seed=seed)
        if separation is not None and space == "raw":
            rows += score_rows({"separation": separation * share}, **row)
    return to_table(rows)


def test_a_dot_for_each_state_of_the_blocks() -> None:
    figure = separation_plot(separation_pairs(states(embed=9.0, block1=1.0, block2=3.0, ln_f=9.0)))
    (ax,) = figure.axes
    trained, untrained = ax.collections
    assert [trained.get_label(), untrained.get_label()] == ["trained", "untrained"]
    for dots, expected in (
        *((trained, [[1, 0.55], [3, 0.3]]), (untrained, [[0.5, 2 / 3 + 0.05], [1.5, 0.45]])),
    ):
        np.testing.assert_allclose(np.array(dots.get_offsets(), float), expected)
    assert ax.get_xscale() == "log"
    # Ranks are opposite in all four.
    assert title(ax) == "4 hidden states; Spearman -1.00"


def test_no_separation_is_an_error_of_one_line() -> None:
    with pytest.raises(InputError, match=r"^the table has no separation of a block: measure"):
        separation_plot(separation_pairs(states(block1=None, embed=1.0)))


def test_of_very_many_states_some_are_drawn_and_all_are_correlated() -> None:
    n = DOTS + 96
    pairs = np.stack([np.arange(n) % 2, 1.0 + np.arange(n), np.linspace(0, 1, n)], axis=1)
    (ax,) = separation_plot(pairs).axes
    drawn = np.concatenate([np.array(dots.get_offsets(), float) for dots in ax.collections])
    assert len({tuple(dot) for dot in drawn}) == DOTS
    assert {tuple(dot) for dot in drawn} <= {tuple(pair) for pair in pairs[:, 1:]}
    assert title(ax) == f"{n:,} hidden states; Spearman 1.00"
