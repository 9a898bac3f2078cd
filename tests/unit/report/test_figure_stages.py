"""Figure 1 of the stages of one model: what its lines are."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes

from drawn import assert_nothing_cut_off, legend, title
from planted_model import planted_model
from planted_stages import ARI, DECODED, NAMES, planted_stages
from tasklens.core.errors import InputError
from tasklens.findings.compare import ComparedSteps, compare_curves
from tasklens.report.figure_by_layer import CONTROLS
from tasklens.report.figure_stages import figure_stages

STAGES = {step: name for step, name in NAMES.items() if step}


def compared() -> list[ComparedSteps]:
    """Return the pairs that `compare_steps` returns: neighbours, then the last and the first."""
    curves, pairs = planted_stages(), [*pairwise(STAGES), (1, 3)]
    return [
        ComparedSteps(
            (NAMES[a], NAMES[b]),
            (a, b),
            compare_curves(*(curves.at(step, run=NAMES[step]) for step in (a, b)), paired=True),
        )
        for a, b in pairs
    ]


def lines(ax: Axes) -> list[list[float]]:
    """Return the values of the lines of the stages, in their order, without controls."""
    grey = {CONTROLS[label].color for label in ("untrained twin", "bag of tokens")} | {"0.7"}
    return [
        [float(y) for y in np.asarray(line.get_ydata())]
        for line in ax.lines
        if line.get_color() not in grey
    ]


def test_there_is_a_line_per_stage_and_its_paired_difference_below() -> None:
    figure = figure_stages(planted_stages(), compared())
    upper, lower = figure.axes[:4], figure.axes[4:]
    assert [title(ax).split(", ")[0] for ax in upper] == [
        "(a) ARI", "(b) ARI", "(c) linear classifier", "(d) linear classifier",
    ]  # fmt: skip
    for ax in upper[:2]:
        by_stage = [[values[step] for values in ARI.values()] for step in STAGES]
        assert np.allclose(lines(ax), by_stage)
    assert np.allclose(lines(upper[2]), [[DECODED[step]] * len(ARI) for step in STAGES])
    for ax in lower[:2]:
        changes = [[v[b] - v[a] for v in ARI.values()] for a, b in pairwise(STAGES)]
        assert np.allclose(lines(ax), changes), "the last minus the first is not drawn"
        for band, change in zip(ax.collections, changes, strict=True):
            extents = band.get_paths()[0].get_extents()
            assert [extents.y0, extents.y1] == pytest.approx([min(change), max(change)])
    assert legend(figure) == [
        *STAGES.values(),
        "untrained twin",
        "bag of tokens",
        "95% interval over instructions",
    ]
    assert_nothing_cut_off(figure)


def test_the_twin_is_grey_and_differences_may_be_left_out() -> None:
    figure = figure_stages(planted_stages())
    assert len(figure.axes) == 4
    look = CONTROLS["untrained twin"]
    (twin,) = [line for line in figure.axes[0].lines if line.get_marker() == look.marker]
    assert np.allclose(np.asarray(twin.get_ydata()), [values[0] for values in ARI.values()])


def test_one_model_has_no_stages() -> None:
    with pytest.raises(InputError, match="has no two stages of one model"):
        figure_stages(planted_model())
