"""The style of all figures: distinct colours, the axis of steps, files."""

import io
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from colors import LEAST, VISION, closest, contrast, linear, oklab
from tasklens.report.style import (
    MARKERS,
    NAMED_STATES,
    PALETTE,
    STYLE,
    SYMBOLS,
    in_style,
    named_states,
    new_figure,
    render,
    symbol,
)

ASSETS = resources.files("tasklens.report").joinpath("page_assets")


def themes() -> tuple[list[str], list[str]]:
    """Return the colours of points of the page, on paper and on a dark ground, with the ground."""
    css = ASSETS.joinpath("page.css").read_text("utf-8")
    rules = [rule for rule in re.findall("{([^{}]*)}", css) if "--c0:" in rule]
    light, dark, chosen = ([*variables(rule)] for rule in rules)
    assert dark == chosen, "the colours of the system's choice and of the reader's are the same"
    return light, dark


def variables(rule: str) -> Iterator[str]:
    """Yield the values of --raised and of --c0, --c1 and so on."""
    values = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", rule))
    yield values["raised"]
    for i in range(sum(re.fullmatch(r"c\d+", name) is not None for name in values)):
        yield values[f"c{i}"]


def test_figures_and_the_page_have_the_same_symbols() -> None:
    light, dark = themes()
    assert tuple(light[1:]) == PALETTE
    script = ASSETS.joinpath("symbols.js").read_text("utf-8")
    assert f"const COLORS = {len(PALETTE)};" in script
    shapes = script.split("const SHAPES = [")[1].split("];")[0]
    assert shapes.count("//") == len(MARKERS)
    assert len(dark) == len(light) == 11
    symbols = [symbol(i)[:2] for i in range(SYMBOLS + 1)]
    assert len(set(symbols)) == SYMBOLS == 70
    assert symbols[-1] == symbols[0]


@pytest.mark.parametrize("theme", [0, 1])
def test_ten_colours_are_distinct_also_without_one_kind_of_cones(theme: int) -> None:
    ground, *colors = themes()[theme]
    assert len(set(colors)) == 10
    for vision, least in LEAST.items():
        assert closest(colors, vision) > least, vision
        for a, b in zip(colors, colors[len(MARKERS) :], strict=False):
            assert closest([a, b], vision) > 0.1, "of one shape"
    assert min(contrast(color, ground) for color in colors) > 3, "WCAG 2.2, 1.4.11"
    assert theme or min(contrast(color, "#ffffff") for color in colors) > 3


def test_the_measures_of_colours_are_right() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    expected = np.array([[1, 0, 0], [0.628, 0.2249, 0.1258]])
    assert oklab(linear(["#ffffff", "#ff0000"])) == pytest.approx(expected, abs=2e-4)
    for matrix in VISION.values():
        assert matrix.sum(axis=1) == pytest.approx(1, abs=2e-6), "grey stays grey"
    vermilion_and_brown = ("#d55e00", "#8c6d00")
    assert closest(vermilion_and_brown, "protanopia") < 0.03
    assert closest(vermilion_and_brown, "normal") > 0.1


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
