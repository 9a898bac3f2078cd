"""Every figure: nothing is cut off, and a user's matplotlibrc changes nothing."""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from matplotlib.figure import Figure

from drawn import assert_no_texts_overlap, assert_nothing_cut_off, title
from planted import planted_runs, planted_table
from planted_model import planted_model
from tasklens.core.errors import InputError
from tasklens.findings.curves import curves_of_table
from tasklens.findings.verdict import judge
from tasklens.report.figure1 import figure1
from tasklens.report.figure2 import figure2
from tasklens.report.figure3 import figure3
from tasklens.report.figure_by_layer import figure_by_layer
from tasklens.report.figure_settings import FigureSettings
from tasklens.report.heatmaps import (
    figure_agreement,
    figure_contingency,
    figure_order,
    figure_world,
)
from tasklens.report.maps import figure_forming, figure_layers, figure_map
from tasklens.report.separation_figure import separation_plot
from tasklens.report.style import render
from tasklens.report.sweep_figures import one_at_a_time, phase_diagram
from tasklens.report.use_heatmap import figure_use
from tasklens.report.verdict_figure import figure_verdict
from tasklens.report.view import TaskView, View
from views import planted_edits, planted_view


@functools.cache
def table() -> pa.Table:
    """Scores of two seeds, with a share of variance, which Figure 2 shows."""
    planted = planted_table(seeds=(0, 1))
    metric = pc.replace_substring(planted["metric"], "inertia", "variance_task")
    return planted.set_column(planted.column_names.index("metric"), "metric", metric)


POINTS = pa.Table.from_pylist(
    [
        {"run": f"{x}{y}", "seed": 0, "x": x, "y": y, "split": split, "layer": "block1"}
        | {"space": "raw", "final": 0.1 * x, "peak": 0.5, "accuracy": y}
        for x, y in ((1, 0.5), (2, 0.5), (1, 0.75))
        for split in ("train_subset", "val_subset")
    ]
)
FIGURES: dict[str, Callable[[View], Figure]] = {
    "figure1": lambda _: figure1(table()),
    "paper": lambda _: figure1(table(), FigureSettings(style="paper")),
    "figure2": lambda _: figure2(table()),
    "by layer": lambda _: figure_by_layer(planted_model()),
    "figure3": lambda _: figure3(planted_runs()),
    "column": lambda _: figure3(planted_runs()[0], "val_instruction_subset", columns=1),
    "map": lambda view: figure_map(view, "block2"),
    "clusters": lambda view: figure_map(view, "block2", color="cluster", map="pca"),
    "layers": figure_layers,
    "forming": figure_forming,
    "components": lambda view: figure_forming(view, map="pca"),
    "agreement": figure_agreement,
    "contingency": figure_contingency,
    "order": figure_order,
    "world": figure_world,
    "effects": lambda view: figure_use(dataclasses.replace(view, edits=planted_edits())),
    "verdict": lambda _: figure_verdict(judge(curves_of_table(table()))),
    "verdict and use": lambda _: figure_verdict(judge(planted_runs())),
    "phase": lambda _: phase_diagram(POINTS, "x", "y"),
    "around": lambda _: one_at_a_time(POINTS, [("x",), ("y",)], {"x": 1, "y": 0.5}),
    "separation": lambda _: separation_plot(np.array([[0, 0.1, 0.2], [8, 3.0, 0.9]])),
    "narrow": lambda _: separation_plot(np.array([[0, 0.21, 0.2], [8, 0.34, 0.9]])),
}


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_colours_lines_and_sizes_that_a_user_set_change_no_figure(name: str) -> None:
    expected = render(FIGURES[name](planted_view()), "png")
    with mpl.rc_context(
        {"figure.dpi": 50, "lines.linewidth": 9, "image.cmap": "jet", "savefig.bbox": "tight"}
    ):
        before = dict(mpl.rcParams)
        assert render(FIGURES[name](planted_view()), "png") == expected
        assert dict(mpl.rcParams) == before


def long_names(view: View) -> View:
    names = tuple(f"{name}, a task with a long name" for name in view.names["task"])
    world = dataclasses.replace(view.world, tasks=tuple(map(TaskView, names)))
    return dataclasses.replace(view, names={**view.names, "task": names}, world=world)


#: Figures of curves, which a user resizes for a page.
RESIZED = ("figure1", "figure2", "paper", "by layer", "figure3", "around", "separation")
#: A size that a user sets, as a part of the figure's own, and a font.
SMALLER = 0.75
FONT: dict[Any, Any] = {"font.size": 9.0, "font.family": ["serif"]}


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_or_covered(name: str, long: bool) -> None:
    with mpl.rc_context(FONT if long else {}):
        figure = FIGURES[name](long_names(planted_view()) if long else planted_view())
    assert_nothing_cut_off(
        figure, covered=name in ("verdict", "use")
    )  # its axes reach to the edges
    for ax in figure.axes:
        labels = [label for label in ax.get_xticklabels(which="both") if label.get_text()]
        boxes = [label.get_window_extent() for label in labels]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), title(ax)
        if ax.images and (name != "world" or ax is figure.axes[0]):
            box = ax.get_window_extent()
            assert min(box.width, box.height) > 0.4 * figure.dpi, "there is room for the cells"
    if name in RESIZED:
        assert_no_texts_overlap(figure)
        figure.set_size_inches(*(SMALLER * figure.get_size_inches()))
        assert_nothing_cut_off(figure)
        assert_no_texts_overlap(figure)


WRONG: dict[str, tuple[Any, str]] = {
    "state": ("block7", "no hidden state 'block7'; there are embed, block1, block2"),
    "step": (11, "no checkpoint at step 11; there are 0, 10, 40"),
    "steps": ([0, 3], "no checkpoint at step 3; there are 0, 10, 40"),
    "split": ("x", "no split 'x'; there are train_subset, val_subset"),
    "color": ("layer", "no colour by 'layer'; there are cluster, task, input, output"),
    "map": ("umap", "no map 'umap'; there are tsne, pca, centroids"),
}
OF_VIEWS: list[Callable[..., Figure]] = [
    *(figure_map, figure_layers, figure_forming),
    *(figure_agreement, figure_contingency, figure_order, figure_use),
]


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (draw, name)
        for draw in OF_VIEWS
        for name in WRONG
        if name in inspect.signature(draw).parameters
    ],
)
def test_a_wrong_argument_is_an_error_of_one_line_with_the_right_ones(
    draw: Callable[..., Figure], name: str
) -> None:
    value, message = WRONG[name]
    asked = {"state": "embed", name: value} if draw is figure_map else {name: value}
    with pytest.raises(InputError) as raised:
        draw(planted_view(), **asked)
    assert str(raised.value).removeprefix("seen: ") == message
