"""Figure 1 in the manner of the paper: a dot per layer, checkpoint and run, on a linear axis."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from drawn import assert_nothing_cut_off, legend, title
from planted import planted_table
from tasklens.core.errors import InputError
from tasklens.report.figure1 import figure1
from tasklens.report.figure_paper import layer_number
from tasklens.report.figure_settings import FigureSettings
from tasklens.scoring.score_table import NO_STEP, to_frame

PAPER = FigureSettings(style="paper")


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_dots_are_the_means_of_each_run_by_layer(seeds: tuple[int, ...]) -> None:
    table = planted_table(seeds=seeds)
    figure = figure1(table, PAPER)
    assert [title(ax) for ax in figure.axes] == ["(a) training", "(b) validation"]
    rows = to_frame(table, ("ari",))
    rows = rows[~rows["ends"] & (rows["space"] == "raw") & (rows["step"] != NO_STEP)]
    blocks = sorted({name for name in rows["layer"] if name.startswith("block")})
    layers = [*enumerate(["embed", *blocks])]
    assert legend(figure) == [f"layer {i} ({state})" for i, state in layers]
    for ax, split in zip(figure.axes, ("train_subset", "val_subset"), strict=True):
        assert ax.get_xscale() == "linear"
        assert ax.get_xlabel() == "training step"
        assert len(ax.lines) == len(layers), "no controls, no accuracy, no bands"
        assert not ax.collections
        for line, (_, state) in zip(ax.lines, layers, strict=True):
            same = rows[(rows["split"] == split) & (rows["layer"] == state)]
            expected = same.groupby(["step", "run", "seed"])["value"].mean().reset_index()
            assert len(expected) == len(seeds) * expected["step"].nunique()
            dots = np.array(line.get_xydata(), float)
            assert line.get_linestyle() == "None"
            wanted = expected[["step", "value"]].to_numpy(float)
            np.testing.assert_allclose(dots[np.lexsort(dots.T)], wanted[np.lexsort(wanted.T)])
    assert_nothing_cut_off(figure)


def test_layers_have_the_numbers_of_the_paper() -> None:
    states = ("wte", "embed", "block1", "attn1", "block6", "ln_f")
    assert [layer_number(state) for state in states] == [None, 0, 1, None, 6, None]


def test_axes_and_splits_of_the_user() -> None:
    axes = Figure().subplots(1, 2)
    settings = FigureSettings(style="paper", splits=("val", "val_instruction"))
    figure1(planted_table(), settings, axes=axes)
    assert [ax.get_title() for ax in axes] == ["(a) validation", "(b) unseen instructions"]


def test_one_checkpoint_has_no_course() -> None:
    table = planted_table()
    last = table.filter([step in (None, 1600) for step in table["step"].to_pylist()])
    with pytest.raises(InputError, match=r"^figure.style = 'paper': should be"):
        figure1(last, PAPER)
