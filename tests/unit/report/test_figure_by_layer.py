"""Figure 1 of one model: what its lines are."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes

from drawn import assert_nothing_cut_off, legend, ticks, title
from planted import planted_runs
from planted_model import ARI, CONTROLS, DECODED, MAJORITY, TWIN_ARI, TWIN_DECODED, planted_model
from tasklens.core.errors import InputError
from tasklens.findings.curves import Curves
from tasklens.report.figure_by_layer import CONTROLS as LOOKS
from tasklens.report.figure_by_layer import SPLITS, Look, figure_by_layer


def line(ax: Axes, look: Look) -> list[float]:
    """Return the values of the line with a look."""
    (found_line,) = [
        each
        for each in ax.lines
        if (each.get_color(), each.get_marker()) == (look.color, look.marker or "")
        and each.get_linewidth() == look.width
        and (each.get_linestyle() == look.dashes or not isinstance(look.dashes, str))
    ]
    return [float(y) for y in np.asarray(found_line.get_ydata())]


def test_the_lines_are_the_model_its_twin_and_controls() -> None:
    figure = figure_by_layer(planted_model(unseen=-0.1))
    clusters, classifier = figure.axes
    assert title(clusters) == "(a) clusters: ARI"
    assert title(classifier) == "(b) linear classifier: accuracy"
    assert line(clusters, SPLITS[0]) == pytest.approx(ARI)
    assert line(clusters, SPLITS[2]) == pytest.approx([ari - 0.1 for ari in ARI])
    assert line(classifier, SPLITS[1]) == pytest.approx(DECODED)
    expected = {
        "untrained twin": TWIN_ARI,
        "embed": ARI[0],
        "bag of tokens": CONTROLS["control:symbols"],
        "prompt's length": CONTROLS["control:length"],
        "input's class": CONTROLS["control:input_class"],
    }
    for label, level in expected.items():
        assert line(clusters, LOOKS[label]) == pytest.approx([level] * len(ARI))
    assert line(classifier, LOOKS["untrained twin"]) == pytest.approx([TWIN_DECODED] * len(ARI))
    assert line(classifier, LOOKS["commonest task"]) == pytest.approx([MAJORITY] * len(ARI))
    splits = ["kept", "held_out_context", "held_out_input"]
    assert legend(figure) == [*splits, *expected, "commonest task", "95% interval over prompts"]
    for ax in figure.axes:
        assert ax.get_xlabel() == "hidden state"
    assert_nothing_cut_off(figure)


def test_bands_are_the_intervals_of_the_copies() -> None:
    curves = planted_model()
    band = figure_by_layer(curves).axes[0].collections[0].get_paths()[0].get_extents()
    copies = curves.ari["train_subset", "block4", "raw"][1:, -1]
    assert np.quantile(copies, 0.95) < band.y1 <= copies.max()


def test_what_is_missing_is_left_out() -> None:
    figure = figure_by_layer(planted_model(twin=None, splits=1, copies=0, controls={}))
    assert [title(ax) for ax in figure.axes] == ["(a) clusters: ARI"]
    assert legend(figure) == ["kept", "embed"]
    with pytest.raises(InputError, match=r"^empty: no hidden state was scored$"):
        figure_by_layer(Curves("empty", 0, (1,)))


def test_of_thirty_blocks_some_are_named() -> None:
    figure = figure_by_layer(planted_model((0.1,) * 31, (0.5,) * 31))
    assert ticks(figure.axes[0]) == ["embed", *(f"block{i}" for i in range(5, 31, 5))]
    assert_nothing_cut_off(figure)


def test_several_models_have_a_row_each_and_a_series_its_last_checkpoint() -> None:
    names = {0: "base", 1: "sft"}
    figure = figure_by_layer(replace(planted_model(), step_names=names))
    titles = ["(a) base: clusters: ARI", "(b) base: linear classifier: accuracy"]
    titles += ["(c) sft: clusters: ARI", "(d) sft: linear classifier: accuracy"]
    assert [title(ax) for ax in figure.axes] == titles
    assert line(figure.axes[0], SPLITS[0]) == pytest.approx([TWIN_ARI] * len(ARI))
    assert line(figure.axes[2], SPLITS[0]) == pytest.approx(ARI)
    series = figure_by_layer(planted_runs()[0])
    assert {ax.get_xlabel() for ax in series.axes} == {"hidden state, at step 1,600"}


def test_another_measure_is_named() -> None:
    assert title(figure_by_layer(planted_model(), "AMI").axes[0]) == "(a) clusters: AMI"
