"""Maps of points: their coordinates, symbols, legends and titles."""

import dataclasses
import itertools
import os
import subprocess
import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from drawn import assert_nothing_cut_off, legend, title
from tasklens.core.errors import InputError
from tasklens.report.map_drawing import NAMED
from tasklens.report.maps import figure_forming, figure_layers, figure_map
from tasklens.report.style import PALETTE
from tasklens.report.view import MAPS, View
from tasklens.scoring.score_table import to_table
from views import MIXED, VIEW_ARI, VIEW_STEPS, VIEW_TASK, planted_view

Symbol = tuple[str, bytes]
"""Colour and shape."""

# --- One map ---


def color_of(drawn: Any) -> str:
    return to_hex(drawn.get_facecolor()[0])


def symbols(ax: Axes, coordinates: Any) -> list[Symbol]:
    """Return the symbols of points in their order; each has to be drawn, and no other."""
    by_point: dict[tuple[float, ...], Symbol] = {}
    for drawn in ax.collections:
        symbol = color_of(drawn), np.asarray(drawn.get_paths()[0].vertices).tobytes()
        by_point |= {tuple(point): symbol for point in np.asarray(drawn.get_offsets()).tolist()}
    assert set(by_point) == {tuple(point) for point in coordinates.tolist()}
    return [by_point[tuple(point)] for point in coordinates.tolist()]


@pytest.mark.parametrize("name", MAPS)
def test_a_map_shows_the_points_of_its_state_step_and_split(name: Any) -> None:
    view = planted_view()
    for split, state, step, share in (
        *(("train_subset", "block1", 10, "25%"), ("val_subset", "embed", 40, "50%")),
    ):
        (ax,) = figure_map(view, state, step, split, map=name).axes
        symbols(ax, view.splits[split].maps[name, state][VIEW_STEPS.index(step)])
        half, between = {10: ("12%", "60%"), 40: ("25%", "90%")}[step]
        shares = {
            "tsne": "",
            "pca": f"{share} of the variance",
            "centroids": f"{half} of the variance,\n{between} of that between tasks",
        }
        assert ax.get_xlabel() == shares[name]
        assert ax.get_aspect() == 1


def test_equal_tasks_have_equal_symbols_and_others_other_ones() -> None:
    view = planted_view()
    figure = figure_map(view, "block2")
    got = symbols(figure.axes[0], view.splits["val_subset"].maps["tsne", "block2"][2])
    for (a, i), (b, j) in itertools.combinations(zip(got, VIEW_TASK, strict=True), 2):
        assert (a == b) == (i == j)
        assert i == j or (a[0] != b[0] and a[1] != b[1])
    assert [got[4 * task][0] for task in range(3)] == list(PALETTE[:3])
    assert legend(figure) == ["plus", "minus", "swap"]
    assert figure.legends[0].get_title().get_text() == "task"


def test_a_cluster_has_the_symbol_of_its_task_or_one_without_a_task() -> None:
    view = planted_view()
    for at, numbers, more in ((2, [0] * 4 + [1] * 5 + [2, 2, 3], ["no task (1)"]), (0, MIXED, [])):
        figure = figure_map(view, "block2", VIEW_STEPS[at], color="cluster")
        got = symbols(figure.axes[0], view.splits["val_subset"].maps["tsne", "block2"][at])
        assert [color for color, _ in got] == [PALETTE[i] for i in numbers]
        assert legend(figure) == ["plus", "minus", "swap", *more]
        assert figure.legends[0].get_title().get_text() == "cluster of"


def test_symbols_are_counted_among_the_tasks_of_the_split() -> None:
    """Tasks 3 and 13 of 14, alone in a split, have the first two symbols, and not one colour."""
    view = planted_view()
    points = view.splits["val_subset"]
    tasks = np.array([3, 13])
    followed = {
        state: dataclasses.replace(each, tasks=tasks, formed=(None, None))
        for state, each in points.followed.items()
    }
    numbers = tasks[np.arange(12) // 6]
    assigned = {state: np.tile(np.append(numbers[:-1], 14), (3, 1)) for state in points.assigned}
    points = dataclasses.replace(
        points, parts={"task": numbers}, followed=followed, assigned=assigned
    )
    names = {"task": tuple(f"t{i}" for i in range(14))}
    view = dataclasses.replace(view, splits={"val_subset": points}, names=names)
    for color, expected in (("task", [0] * 6 + [1] * 6), ("cluster", [0] * 6 + [1] * 5 + [2])):
        figure = figure_map(view, "block2", color=color)  # type: ignore[arg-type]
        got = symbols(figure.axes[0], points.maps["tsne", "block2"][2])
        assert [each for each, _ in got] == [PALETTE[i] for i in expected]
        assert legend(figure)[:2] == ["t3", "t13"]
        handles = [to_hex(line.get_color()) for line in figure.legends[0].get_lines()]
        assert handles == list(PALETTE[: 1 + max(expected)])


def test_inputs_and_outputs_have_symbols_too() -> None:
    view = planted_view()
    coordinates = view.splits["val_subset"].maps["tsne", "block2"][2]
    figure = figure_map(view, "block2", color="input")
    got = symbols(figure.axes[0], coordinates)
    assert [color for color, _ in got] == list(PALETTE[:4]) * 3
    assert legend(figure) == ["a", "b", "c", "d"]
    figure = figure_map(view, "block2", color="output")
    assert len(set(symbols(figure.axes[0], coordinates))) == 12
    assert len(legend(figure)) == 12


def many_inputs(n: int) -> View:
    """Return a view of one split in which each of n points has an input of its own."""
    view = planted_view()
    points = view.splits["val_subset"]
    random = np.random.default_rng(0)
    points = dataclasses.replace(
        points,
        parts={"task": np.arange(n) % 3, "input": np.arange(n)},
        maps={key: random.normal(size=(3, n, 2)).astype(np.float32) for key in points.maps},
    )
    names = {**view.names, "input": tuple(f"input {i}" for i in range(n))}
    return dataclasses.replace(view, splits={"val_subset": points}, names=names)


@pytest.mark.parametrize("n", [NAMED, NAMED + 1])
def test_a_legend_names_few_values(n: int) -> None:
    figure = figure_map(many_inputs(n), "block2", color="input")
    assert len(figure.legends) == (n <= 48)


def test_symbols_repeat_after_70() -> None:
    view = many_inputs(72)
    figure = figure_map(view, "block2", color="input")
    got = symbols(figure.axes[0], view.splits["val_subset"].maps["tsne", "block2"][2])
    assert len(set(got)) == 70
    assert got[70:] == got[:2]
    assert "\n72 inputs share 70 symbols\n" in title(figure.axes[0])


def grouped_view() -> View:
    """Return a view whose tasks are three groups on each map, at 0, 10 and 20 along both axes."""
    view = planted_view()
    random = np.random.default_rng(0)
    maps = {
        key: (10 * VIEW_TASK[:, None] + random.normal(size=(3, 12, 2))).astype(np.float32)
        for key in view.splits["val_subset"].maps
    }
    points = dataclasses.replace(view.splits["val_subset"], maps=maps)
    return dataclasses.replace(view, splits={"val_subset": points})


def test_groups_have_their_names_if_they_are_wanted() -> None:
    view = grouped_view()
    coordinates = view.splits["val_subset"].maps["tsne", "block2"][2]
    (ax,) = figure_map(view, "block2", names=True).axes
    written = {text.get_text(): text.get_position() for text in ax.texts}
    assert list(written) == ["plus", "minus", "swap"]
    for task, name in enumerate(written):
        assert written[name] == pytest.approx(np.median(coordinates[task == VIEW_TASK], axis=0))
    assert not figure_map(view, "block2").axes[0].texts
    for figure in (figure_layers(view, names=True), figure_forming(view, names=True)):
        panels = [ax for ax in figure.axes if ax.get_visible()]
        assert [len(ax.texts) for ax in panels] == [3] * 3
    (ax,) = figure_map(view, "block2", color="input", names=True).axes
    assert not ax.texts, "the points of an input are scattered over all tasks"


def test_no_value_lies_on_top_of_all_others() -> None:
    order = [color_of(drawn) for drawn in figure_map(planted_view(), "block2").axes[0].collections]
    assert order.index(PALETTE[0], 1) > order.index(PALETTE[2]), "the first comes again"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("block2",), "block2, step 40\nval_subset (unseen pairs)\nARI 0.91"),
        (
            ("embed", 10, "train_subset", "cluster"),
            "embed, step 10\ntrain_subset (seen in training)\nARI 0.02",
        ),
        (
            ("block1", 0, None, "input"),
            "block1, step 0\nval_subset (unseen pairs)\nARI against the input 0.47",
        ),
        (
            ("block1", 0, None, "output"),
            "block1, step 0\nval_subset (unseen pairs)\nARI against the output 0.20",
        ),
    ],
)
def test_the_title_has_the_mean_over_cluster_seeds_if_there_is_one(
    arguments: Any, expected: str
) -> None:
    view = planted_view()
    assert title(figure_map(view, *arguments).axes[0]) == expected
    view = dataclasses.replace(view, table=to_table([]))
    assert title(figure_map(view, *arguments).axes[0]) == expected.rpartition("\n")[0]


# --- Many maps ---


def test_layers_have_a_panel_each() -> None:
    view = planted_view()
    figure = figure_layers(view, 10, "train_subset")
    for ax, state in zip(figure.axes, view.states, strict=True):
        assert title(ax) == f"{state}\nARI {VIEW_ARI[state][1]:.2f}"
        symbols(ax, view.splits["train_subset"].maps["tsne", state][1])
    assert figure.get_suptitle() == "step 10, train_subset (seen in training)"
    assert legend(figure) == ["plus", "minus", "swap"]
    assert len({ax.get_xlim() for ax in figure.axes}) == 3, "each on a scale of its own"


def test_a_layer_is_shown_as_it_forms_on_one_scale() -> None:
    view = planted_view()
    figure = figure_forming(view, "block1", [40, 0])
    assert [title(ax) for ax in figure.axes] == ["step 40\nARI 0.70", "step 0\nARI 0.15"]
    for ax, at in zip(figure.axes, (2, 0), strict=True):
        coordinates = view.splits["val_subset"].maps["tsne", "block1"][at]
        symbols(ax, coordinates)
        low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
        assert ((low < coordinates) & (coordinates < high)).all()
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    assert figure.get_suptitle() == "block1, val_subset (unseen pairs)"


def test_by_default_it_is_the_best_state_at_all_of_few_steps() -> None:
    view = planted_view()
    figure = figure_forming(view)
    assert figure.get_suptitle() == "block2, val_subset (unseen pairs)"
    assert [title(ax).split("\n")[0] for ax in figure.axes] == ["step 0", "step 10", "step 40"]


def test_of_many_steps_six_are_shown_and_others_if_they_are_asked_for() -> None:
    view = planted_view()
    points, checkpoint = view.splits["val_subset"], np.arange(31) % 3
    maps = {key: coordinates[checkpoint] for key, coordinates in points.maps.items()}
    splits = {"val_subset": dataclasses.replace(points, maps=maps)}
    view = dataclasses.replace(view, splits=splits, steps=tuple(range(0, 310, 10)))
    shown = figure_forming(view, "block1").axes
    titles = [title(ax).partition("\n")[0] for ax in shown if ax.get_visible()]
    assert titles == [f"step {10 * i}" for i in (0, 6, 12, 18, 24, 30)]
    seven = figure_forming(view, "block1", view.steps[:7]).axes
    assert [ax.get_visible() for ax in seven] == [True] * 7 + [False], "one is not needed"


def test_steps_have_to_be_given_and_colours_to_be_known() -> None:
    with pytest.raises(
        InputError, match=r"^seen: steps is empty: should be some of \(0, 10, 40\)$"
    ):
        figure_forming(planted_view(), steps=[])
    with pytest.raises(InputError, match=r"no colour by 'output'; there are cluster, task, input$"):
        figure_map(planted_view(outputs=False), "embed", color="output")


# --- In the user's own axes ---


def test_a_map_is_drawn_into_given_axes_in_their_own_style() -> None:
    view, figure = planted_view(), Figure(figsize=(6, 3), layout="constrained")
    first, second = figure.subplots(1, 2)
    with mpl.rc_context({"axes.titlesize": 13}):
        assert figure_map(view, "block2", ax=second) is figure
    alone = figure_map(view, "block2").axes[0]
    assert second.get_title() == title(alone)
    assert second.title.get_fontsize() == 13
    coordinates = view.splits["val_subset"].maps["tsne", "block2"][2]
    assert symbols(second, coordinates) == symbols(alone, coordinates)
    assert second.get_aspect() == 1
    assert [text.get_text() for text in second.get_legend().get_texts()] == [
        "plus",
        "minus",
        "swap",
    ]
    assert not first.has_data()
    assert figure.axes == [first, second]
    assert not figure.legends
    assert_nothing_cut_off(figure)


def test_axes_of_a_subfigure_belong_to_the_whole_figure() -> None:
    figure = Figure()
    ax = figure.add_subfigure(figure.add_gridspec()[0]).subplots()
    assert figure_map(planted_view(), "block2", ax=ax) is figure


def test_no_global_state_of_matplotlib_is_touched() -> None:
    program = [
        "import sys",
        "import matplotlib as mpl",
        "from tasklens.report.maps import figure_map",
        "from views import planted_view",
        'mpl.rcParams["font.size"] = 30',
        "view = planted_view()",
        'figure_map(view, "block2")',
        'assert "matplotlib.pyplot" not in sys.modules',
        "import matplotlib.pyplot as plt",
        'mpl.use("svg")',
        "current, ax = plt.subplots()",
        "settings = dict(mpl.rcParams)",
        'figure_map(view, "block2")',
        'figure_map(view, "block2", ax=ax)',
        "assert dict(mpl.rcParams) == settings",
        "assert plt.get_fignums() == [1]",
        "assert plt.gcf() is current",
        "assert plt.gca() is ax",
        'assert mpl.get_backend() == "svg"',
        'print("passed")',
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = [sys.executable, "-W", "error::UserWarning", "-c", "\n".join(program)]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "passed\n", done.stderr
