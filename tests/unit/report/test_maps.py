"""Figures of points: where they are, what their symbols stand for, and what is said of them."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from drawn import assert_nothing_cut_off, sizes
from planted import VIEW_STEPS, VIEW_TASK, planted_view
from tasklens.core.errors import InputError
from tasklens.report.maps import (
    NAMED,
    figure_forming,
    figure_layers,
    figure_map,
)
from tasklens.report.style import MARKERS, PALETTE, SYMBOLS, render
from tasklens.report.summary import best_state
from tasklens.report.view import MAPS, View

Floats = NDArray[np.float64]

Symbol = tuple[str, bytes]
"""Colour and shape."""

# --- Colours ---

#: From linear RGB to what is seen without one kind of cones: Machado, Oliveira and Fernandes, "A
#: physiologically-based model for simulation of color vision deficiency", 2009, table 1, severity
#: 1.0.
SEEN = {
    "by most": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
#: From linear sRGB to CIE XYZ of the white point D65.
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(colors: tuple[str, ...]) -> Floats:
    rgb = np.array([mpl.colors.to_rgb(color) for color in colors])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """Return CIELAB, (N, 3), of linear RGB."""
    t = np.clip(rgb, 0, 1) @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def closest(colors: tuple[str, ...], seen: str) -> float:
    """Return the smallest CIELAB distance of two colours as some people see them."""
    places = lab(linear(colors) @ np.asarray(SEEN[seen]).T)
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(places, 2))


@pytest.mark.parametrize("seen", SEEN)
def test_colours_are_told_apart_by_those_who_lack_a_kind_of_cones(seen: str) -> None:
    assert len(set(PALETTE)) == 8
    assert closest(PALETTE, seen) > 21


def test_colours_stand_out_from_white() -> None:
    luminance = linear(PALETTE) @ XYZ[1]
    assert (1.05 / (luminance + 0.05)).min() > 3, "WCAG 2.2, 1.4.11"


def test_the_witness_knows_colours_that_are_confused() -> None:
    assert lab(linear(("#ffffff", "#ff0000")))[0] == pytest.approx([100, 0, 0], abs=0.01)
    assert lab(linear(("#ff0000",)))[0] == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    vermilion_and_brown = ("#d55e00", "#8c6d00")
    assert closest(vermilion_and_brown, "protanopia") < 3 < closest(vermilion_and_brown, "by most")


def test_there_are_56_symbols() -> None:
    symbols = {(PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i in range(SYMBOLS)}
    assert len(symbols) == SYMBOLS == 56


# --- One map ---


def color_of(drawn: Any) -> str:
    return to_hex(drawn.get_facecolor()[0])


def points(ax: Axes) -> dict[tuple[float, float], Symbol]:
    """Return the symbol at each place where there is one."""
    found = {}
    for drawn in ax.collections:
        symbol = color_of(drawn), np.asarray(drawn.get_paths()[0].vertices).tobytes()
        for x, y in np.asarray(drawn.get_offsets()):
            found[float(x), float(y)] = symbol
    return found


def symbols(ax: Axes, places: Any) -> list[Symbol]:
    """Return the symbols of points in their order; each has to be there, and no other."""
    found = points(ax)
    assert set(found) == {(float(x), float(y)) for x, y in places}
    return [found[float(x), float(y)] for x, y in places]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def title(ax: Axes) -> str:
    return ax.get_title(loc="left")


@pytest.mark.parametrize("which", MAPS)
def test_a_map_shows_the_points_of_its_state_step_and_split(which: Any) -> None:
    view = planted_view()
    for split, state, step in (("train_subset", "block1", 10), ("val_subset", "embed", 40)):
        figure = figure_map(view, state, step, split, map=which)
        (ax,) = figure.axes
        symbols(ax, view.splits[split].maps[which, state][VIEW_STEPS.index(step)])
        assert ax.get_xlabel() == ("" if which == "tsne" else {10: "25%", 40: "50%"}[step]) + (
            "" if which == "tsne" else " of the variance"
        )


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


def test_a_cluster_has_the_symbol_of_its_task_and_what_is_left_over_one_of_its_own() -> None:
    view = planted_view()
    its = view.splits["val_subset"]
    figure = figure_map(view, "block2", color="cluster")
    got = symbols(figure.axes[0], its.maps["tsne", "block2"][2])
    assert [color for color, _ in got] == [PALETTE[i] for i in [0] * 4 + [1] * 5 + [2, 2, 3]]
    assert legend(figure) == ["plus", "minus", "swap", "left over 1"]
    assert figure.legends[0].get_title().get_text() == "cluster of"
    early = figure_map(view, "block2", 0, color="cluster")
    got = symbols(early.axes[0], its.maps["tsne", "block2"][0])
    assert [color for color, _ in got] == [PALETTE[i] for i in [0, 1, 2, 0] * 3]
    assert legend(early) == ["plus", "minus", "swap"]


def test_inputs_and_outputs_have_symbols_too() -> None:
    view = planted_view()
    places = view.splits["val_subset"].maps["tsne", "block2"][2]
    figure = figure_map(view, "block2", color="input")
    got = symbols(figure.axes[0], places)
    assert [color for color, _ in got] == list(PALETTE[:4]) * 3
    assert legend(figure) == ["a", "b", "c", "d"]
    figure = figure_map(view, "block2", color="output")
    assert len(set(symbols(figure.axes[0], places))) == 12
    assert len(legend(figure)) == 12


def many_inputs(n: int) -> View:
    """Return a view of one split in which each of n points has an input of its own."""
    view = planted_view()
    its = view.splits["val_subset"]
    random = np.random.default_rng(0)
    its = dataclasses.replace(
        its,
        parts={"task": np.arange(n) % 3, "input": np.arange(n)},
        maps={place: random.normal(size=(3, n, 2)).astype(np.float32) for place in its.maps},
    )
    names = {**view.names, "input": tuple(f"input {i}" for i in range(n))}
    return dataclasses.replace(view, splits={"val_subset": its}, names=names)


@pytest.mark.parametrize("n", [NAMED, NAMED + 1])
def test_a_legend_names_few_values(n: int) -> None:
    figure = figure_map(many_inputs(n), "block2", color="input")
    assert len(figure.legends) == (n <= 20)


def test_symbols_come_again_after_all_of_them() -> None:
    view = many_inputs(58)
    figure = figure_map(view, "block2", color="input")
    got = symbols(figure.axes[0], view.splits["val_subset"].maps["tsne", "block2"][2])
    assert len(set(got)) == 56
    assert got[56:] == got[:2]


def test_no_value_lies_on_top_of_all_others() -> None:
    order = [color_of(drawn) for drawn in figure_map(planted_view(), "block2").axes[0].collections]
    assert order.index(PALETTE[0], 1) > order.index(PALETTE[2]), "the first comes again"


def test_the_title_says_what_is_drawn_and_the_mean_over_cluster_seeds() -> None:
    view = planted_view()
    wanted = "block2, step 40, unseen pairs\nARI 0.91"
    assert title(figure_map(view, "block2").axes[0]) == wanted
    wanted = "embed, step 10, training subset\nARI 0.02"
    assert title(figure_map(view, "embed", 10, "train_subset", "cluster").axes[0]) == wanted
    wanted = "block1, step 40, unseen pairs\nARI with the inputs 0.20"
    assert title(figure_map(view, "block1", color="input").axes[0]) == wanted
    wanted = "block1, step 40, unseen pairs\nARI with the outputs 0.20"
    assert title(figure_map(view, "block1", color="output").axes[0]) == wanted


def test_where_nothing_was_scored_the_title_is_without_a_score() -> None:
    view = planted_view()
    view = dataclasses.replace(view, table=view.table.slice(0, 0))
    assert title(figure_map(view, "block2").axes[0]) == "block2, step 40, unseen pairs"
    assert best_state(view) == "embed", "the first state"


# --- Many maps ---


def test_layers_have_a_panel_each() -> None:
    view = planted_view()
    figure = figure_layers(view, 10, "train_subset")
    assert [title(ax) for ax in figure.axes] == [
        "embed\nARI 0.02",
        "block1\nARI 0.30",
        "block2\nARI 0.25",
    ]
    for ax, state in zip(figure.axes, view.states, strict=True):
        symbols(ax, view.splits["train_subset"].maps["tsne", state][1])
    assert figure.get_suptitle() == "step 10, training subset"
    assert legend(figure) == ["plus", "minus", "swap"]
    assert len({ax.get_xlim() for ax in figure.axes}) == 3, "each on a scale of its own"


def test_a_layer_is_shown_as_it_forms_on_one_scale() -> None:
    view = planted_view()
    figure = figure_forming(view, "block1", [40, 0])
    assert [title(ax) for ax in figure.axes] == ["step 40\nARI 0.70", "step 0\nARI 0.15"]
    for ax, at in zip(figure.axes, (2, 0), strict=True):
        places = view.splits["val_subset"].maps["tsne", "block1"][at]
        symbols(ax, places)
        low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
        assert ((low < places) & (places < high)).all()
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    assert figure.get_suptitle() == "block1, unseen pairs"


def test_by_default_it_is_the_best_block_of_the_first_split_at_all_of_few_steps() -> None:
    view = planted_view()
    figure = figure_forming(view)
    assert figure.get_suptitle() == "block2, unseen pairs"
    assert [title(ax).split("\n")[0] for ax in figure.axes] == ["step 0", "step 10", "step 40"]
    rows = view.table.to_pylist()
    for row in rows:  # on the other split the first block is best now
        if (row["split"], row["layer"]) == ("val_subset", "block1"):
            row["value"] += 1
    misled = dataclasses.replace(view, table=type(view.table).from_pylist(rows, view.table.schema))
    assert best_state(misled) == "block2"


def long_view(n: int) -> View:
    """Return a view of n checkpoints at 0, 10, 20, ... without scores."""
    view = planted_view()
    its = view.splits["val_subset"]
    which = np.arange(n) % 3
    its = dataclasses.replace(
        its,
        maps={place: ys[which] for place, ys in its.maps.items()},
        assigned={state: each[which] for state, each in its.assigned.items()},
    )
    steps = tuple(range(0, 10 * n, 10))
    empty = view.table.slice(0, 0)
    return dataclasses.replace(view, steps=steps, splits={"val_subset": its}, table=empty)


def test_of_many_steps_six_are_shown() -> None:
    figure = figure_forming(long_view(31), color="cluster")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [title(ax) for ax in shown] == [f"step {10 * i}" for i in (0, 6, 12, 18, 24, 30)]


def test_panels_that_are_not_needed_are_not_there() -> None:
    view = long_view(31)
    figure = figure_forming(view, steps=view.steps[:7])
    assert [ax.get_visible() for ax in figure.axes] == [True] * 7 + [False]


# --- All of them ---

FIGURES: dict[str, Callable[[View], Figure]] = {
    "map": lambda view: figure_map(view, "block2"),
    "clusters": lambda view: figure_map(view, "block2", color="cluster", map="pca"),
    "layers": figure_layers,
    "forming": figure_forming,
    "components": lambda view: figure_forming(view, map="pca"),
}


@pytest.mark.parametrize(("name", "long"), [*((name, True) for name in FIGURES), ("map", False)])
def test_nothing_is_cut_off_and_the_legend_covers_nothing(name: str, long: bool) -> None:
    view = planted_view()
    if long:
        names = tuple(f"{name}, a task with a long name" for name in view.names["task"])
        view = dataclasses.replace(view, names={**view.names, "task": names})
    figure = FIGURES[name](view)
    assert_nothing_cut_off(figure)
    beside = figure.legends[0].get_window_extent()
    for ax in figure.axes:
        around = ax.get_tightbbox()
        assert around is not None
        assert not beside.overlaps(around)
        box = ax.get_window_extent()
        assert box.width == pytest.approx(box.height)
        assert box.width > 0.8 * figure.dpi * (1.4 if len(figure.axes) > 1 else 3.2)


def test_global_settings_neither_change_a_figure_nor_are_changed() -> None:
    expected = render(figure_map(planted_view(), "block2"), "png")
    assert render(figure_map(planted_view(), "block2"), "png") == expected
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.bbox": "tight"}):
        before = dict(mpl.rcParams)
        assert render(figure_map(planted_view(), "block2"), "png") == expected
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_in_a_style_of_their_own(name: str) -> None:
    expected = sizes(FIGURES[name](planted_view()))
    with mpl.rc_context({"font.size": 30, "axes.titlesize": 40, "lines.linewidth": 9}):
        assert sizes(FIGURES[name](planted_view())) == expected


STATES, STEPS = "there are embed, block1, block2", "there are (0, 10, 40)"
SPLITS, COLORS = "there are train_subset, val_subset", "there are cluster, task, input, output"
MISSING: list[tuple[Callable[..., Figure], dict[str, Any], str]] = [
    (figure_map, {"state": "block7"}, f"no state 'block7'; {STATES}"),
    (figure_map, {"state": "embed", "step": 11}, f"no checkpoint at step 11; {STEPS}"),
    (figure_map, {"state": "embed", "split": "x"}, f"no split 'x'; {SPLITS}"),
    (figure_map, {"state": "embed", "color": "layer"}, f"no colour by 'layer'; {COLORS}"),
    (figure_map, {"state": "embed", "map": "umap"}, "no map 'umap'; there are tsne, pca"),
    (figure_layers, {"step": 11}, f"no checkpoint at step 11; {STEPS}"),
    (figure_layers, {"split": "x"}, f"no split 'x'; {SPLITS}"),
    (figure_layers, {"color": "layer"}, f"no colour by 'layer'; {COLORS}"),
    (figure_layers, {"map": "umap"}, "no map 'umap'; there are tsne, pca"),
    (figure_forming, {"state": "block7"}, f"no state 'block7'; {STATES}"),
    (figure_forming, {"steps": [0, 3]}, f"no checkpoint at step 3; {STEPS}"),
    (figure_forming, {"steps": []}, f"no steps are given to draw; {STEPS}"),
    (figure_forming, {"split": "x"}, f"no split 'x'; {SPLITS}"),
    (figure_forming, {"color": "layer"}, f"no colour by 'layer'; {COLORS}"),
    (figure_forming, {"map": "umap"}, "no map 'umap'; there are tsne, pca"),
]


@pytest.mark.parametrize(("draw", "asked", "message"), MISSING)
def test_what_is_not_there_is_one_line_that_names_what_is(
    draw: Callable[..., Figure], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        draw(planted_view(), **asked)
    assert str(raised.value) == f"seen: {message}"


def test_without_outputs_there_is_no_colour_by_them() -> None:
    with pytest.raises(InputError, match=r"no colour by 'output'; there are cluster, task, input$"):
        figure_map(planted_view(outputs=False), "embed", color="output")
