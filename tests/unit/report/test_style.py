"""The style of all figures: distinct colours, the axis of steps, files."""

import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from colors import VISION, closest, contrast, lab, linear
from tasklens.report.style import (
    NAMED_STATES,
    PALETTE,
    STYLE,
    in_style,
    named_states,
    new_figure,
    render,
)


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_distinct_without_one_kind_of_cones(vision: str) -> None:
    assert len(set(PALETTE)) == 8
    assert closest(PALETTE, vision) > 21


def test_colours_stand_out_from_white() -> None:
    assert min(contrast(color, "#ffffff") for color in PALETTE) > 3, "WCAG 2.2, 1.4.11"


def test_the_measures_of_colours_are_right() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    expected = np.array([[100, 0, 0], [53.24, 80.09, 67.20]])
    assert lab(linear(["#ffffff", "#ff0000"])) == pytest.approx(expected, abs=0.02)
    for matrix in VISION.values():
        assert matrix.sum(axis=1) == pytest.approx(1, abs=2e-6), "grey stays grey"
    vermilion_and_brown = ("#d55e00", "#8c6d00")
    assert closest(vermilion_and_brown, "protanopia") < 3 < closest(vermilion_and_brown, "normal")


def test_fonts_and_lines_that_a_user_set_count_and_the_figure_grows_with_them() -> None:
    @in_style
    def draw() -> Figure:
        figure = new_figure(3, 2, "constrained")
        figure.subplots().plot([1, 2])
        figure.axes[0].set_title("name")
        return figure

    plain = draw()
    assert plain.axes[0].title.get_fontsize() == STYLE["font.size"]
    own: dict[Any, Any] = {"font.size": 10.5, "font.family": ["serif"], "axes.grid": True}
    other: dict[Any, Any] = {"lines.linewidth": 9, "figure.figsize": (1, 1), "text.usetex": True}
    with mpl.rc_context(own | other):
        figure = draw()
    (ax,), (before,) = figure.axes, plain.axes
    assert ax.get_title(loc="left") == before.get_title(loc="left") == "name"
    label = ax.get_xticklabels()[0]
    assert (label.get_fontsize(), label.get_fontfamily()) == (10.5, ["serif"])
    assert ax.xaxis.get_gridlines()[0].get_visible()
    assert ax.lines[0].get_linewidth() == before.lines[0].get_linewidth()
    assert not label.get_usetex()
    assert figure.get_size_inches() == pytest.approx(1.5 * plain.get_size_inches())


@pytest.mark.parametrize("format", ["png", "pdf"])
def test_a_file_is_the_same_bytes_each_time(format: str) -> None:
    figure = in_style(new_figure)(3, 2)
    figure.subplots().plot([1, 2])
    first, second = (render(figure, format) for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    assert b"CreationDate" not in first
    if format == "png":
        assert Image.open(io.BytesIO(first)).size == (600, 400), "200 dots per inch"
    else:
        assert first.startswith(b"%PDF")


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    content, size = in_style(new_figure)(3, 2)._repr_png_()  # type: ignore[attr-defined]
    assert Image.open(io.BytesIO(content)).size == (600, 400)
    assert size == {"width": 300, "height": 200}


@pytest.mark.parametrize(
    ("blocks", "named"),
    [
        (18, [*range(1, 19)]),
        (24, [5, 10, 15, 20]),
        (30, [5, 10, 15, 20, 25]),
        (80, [10, 20, 30, 40, 50, 60, 70]),
        (126, [20, 40, 60, 80, 100, 120]),
    ],
)
def test_of_many_hidden_states_the_ends_and_round_blocks_are_named(
    blocks: int, named: list[int]
) -> None:
    states = ["embed", *(f"block{i}" for i in range(1, blocks + 1)), "ln_f"]
    shown = [states[i] for i in named_states(states)]
    assert shown == ["embed", *(f"block{i}" for i in named), "ln_f"]
    assert len(shown) <= NAMED_STATES


def test_many_other_names_are_named_at_even_distances() -> None:
    shown = named_states([f"state {i}" for i in range(40)])
    assert shown == [0, 5, 10, 15, 20, 25, 30, 35, 39]
