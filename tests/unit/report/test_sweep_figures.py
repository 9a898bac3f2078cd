"""Figures of a sweep: what they draw are the means of the summary."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from drawn import legend, ticks, title
from tasklens.core.errors import InputError
from tasklens.data.instances import split_title
from tasklens.report.sweep_figures import one_at_a_time, phase_diagram

Cell = tuple[float, float, float]


def table(runs: Mapping[str, tuple[dict[str, Any], list[Cell]]]) -> pa.Table:
    """The summary of runs: their settings, and (final, peak, accuracy) for each seed.

    The best layer is block2 by the training subset; block1 is better on the others, ln_f on all.
    The last block, block3, has half of what block2 has.
    """
    rows = []
    for run, (settings, cells) in runs.items():
        for seed, (final, peak, accuracy) in enumerate(cells):
            highest = (1.0, 1.0)
            unseen = {"block1": highest, "block2": (final, peak), "block3": (final / 2, 1.0)}
            for split, scores in {
                "train_subset": {
                    "block1": (0.02, 0.02),
                    "block2": (0.05, 0.05),
                    "block3": (0.0, 0.0),
                },
                "val_subset": unseen,
                "val_instruction_subset": unseen | {"block2": (final - 0.01, peak)},
            }.items():
                row = {"run": run, "seed": seed, **settings, "split": split, "space": "raw"}
                rows += [
                    {**row, "layer": layer, "final": a, "peak": b, "accuracy": accuracy}
                    for layer, (a, b) in {**scores, "ln_f": highest}.items()
                ]
    return pa.Table.from_pylist(rows)


def shown(ax: Axes) -> NDArray[np.float64]:
    """Return the cells of a map; NaN is blank."""
    (image,) = ax.images
    assert image.get_clim() == (0, 1)
    return np.ma.filled(np.ma.masked_invalid(np.ma.asarray(image.get_array(), float)), np.nan)


def numbers(ax: Axes) -> dict[tuple[int, int], list[str]]:
    """Return the text in each cell of a map, from above."""
    cells: dict[tuple[int, int], list[str]] = {}
    for text in sorted(ax.texts, key=lambda text: -text.get_position()[1]):
        x, y = text.get_position()
        cells.setdefault((round(y), round(x)), []).append(text.get_text())
    return cells


def drawn(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_visible()]


# --- Over two settings ---

GRID = table(
    {
        "a": ({"model.n_layer": 4, "train.rate": 1e-3}, [(0.2, 0.4, 0.6), (0.4, 0.6, 1.0)]),
        "b": ({"model.n_layer": 2, "train.rate": 1e-3}, [(0.1, 0.15, 0.95)]),
        "c": ({"model.n_layer": 4, "train.rate": 3e-4}, [(0.7, 0.9, 0.3)]),
        "d": ({"model.n_layer": 12, "train.rate": 1e-3}, [(0.0, 0.05, 0.0)]),
    }
)


def test_four_maps_over_two_settings() -> None:
    figure = phase_diagram(GRID, "model.n_layer", "train.rate")
    panels = drawn(figure)
    *panels, scale = panels
    assert scale.get_ylabel() == "ARI, accuracy"
    assert [title(ax) for ax in panels] == [
        *("(a) final ARI", "(b) peak ARI", "(c) final ARI, last block", "(d) accuracy")
    ]
    heading = "val_subset (unseen pairs); means and ranges over 1 to 2 seeds"
    assert figure.get_suptitle() == heading
    assert ticks(panels[0], "y") == ["0.0003", "0.001"]
    assert panels[0].get_ylabel() == "train.rate"
    expected = (
        [[np.nan, 0.7, np.nan], [0.1, 0.3, 0.0]],
        [[np.nan, 0.9, np.nan], [0.15, 0.5, 0.05]],
        [[np.nan, 0.35, np.nan], [0.05, 0.15, 0.0]],
        [[np.nan, 0.3, np.nan], [0.95, 0.8, 0.0]],
    )
    for ax, values in zip(panels, expected, strict=True):
        assert ax.get_xlabel() == "model.n_layer"
        assert ticks(ax) == ["2", "4", "12"], "in the order of numbers"
        assert ax.images[0].origin == "lower"
        np.testing.assert_allclose(shown(ax), values, atol=1e-12)
    cells = {(0, 1): ["0.70"], (1, 0): ["0.10"], (1, 1): ["0.30", "0.20\u20130.40"]}
    assert numbers(panels[0]) == {**cells, (1, 2): ["0.00"]}


def test_settings_change_places_and_splits_are_taken_alone() -> None:
    expected = np.array([[np.nan, 0.1], [0.7, 0.3], [np.nan, 0.0]])
    for split, less in (("val_subset", 0), ("val_instruction_subset", 0.01)):
        turned = phase_diagram(GRID, "train.rate", "model.n_layer", split)
        assert ticks(drawn(turned)[0]) == ["0.0003", "0.001"]
        assert turned.get_suptitle().startswith(f"{split_title(split)}; means and ranges")
        np.testing.assert_allclose(shown(drawn(turned)[0]), expected - less, atol=1e-12)


def test_one_run_per_cell_has_no_range() -> None:
    first = GRID.filter(pa.compute.equal(GRID["seed"], 0))
    figure = phase_diagram(first, "model.n_layer", "train.rate")
    assert figure.get_suptitle() == "val_subset (unseen pairs)"
    assert {len(texts) for texts in numbers(drawn(figure)[0]).values()} == {1}


def test_runs_that_differ_in_more_than_the_seed_are_no_seeds() -> None:
    figure = phase_diagram(GRID, "train.rate", "train.rate")
    assert figure.get_suptitle().endswith("; means and ranges over 1 to 4 runs")


def at_two_positions(points: pa.Table) -> pa.Table:
    """The summary with a second position, at which all scores are lower by 0.1."""
    rows = [r | {"position": "input"} for r in points.to_pylist()]
    lower = [
        r | {"position": "last", "final": r["final"] - 0.1, "peak": r["peak"] - 0.1} for r in rows
    ]
    return pa.Table.from_pylist([*rows, *lower])


def test_a_figure_is_of_one_position_and_names_it() -> None:
    both = at_two_positions(GRID)
    plain = phase_diagram(GRID, "model.n_layer", "train.rate")
    for position, less, name in (
        ("", 0.0, "input"),
        ("input", 0.0, "input"),
        ("last", 0.1, "last"),
    ):
        figure = phase_diagram(both, "model.n_layer", "train.rate", position=position)
        assert figure.get_suptitle().startswith(f"val_subset (unseen pairs), at {name}; ")
        for ax, expected in zip(drawn(figure)[:3], drawn(plain), strict=False):
            np.testing.assert_allclose(shown(ax), shown(expected) - less, atol=1e-12)
    x, _ = drawn(one_at_a_time(at_two_positions(STAR), AXES, BASE, position="last"))
    assert heights(x)["final ARI"] == pytest.approx([-0.1, 0.2, 0.5])
    with pytest.raises(InputError, match=r"^no position 'lost'; there are input, last$"):
        phase_diagram(both, "model.n_layer", "train.rate", position="lost")


def test_values_may_be_text() -> None:
    runs = table(
        {
            "a": ({"loss": "output", "tie": True}, [(0.2, 0.4, 0.6)]),
            "b": ({"loss": "all", "tie": False}, [(0.1, 0.3, 0.5)]),
        }
    )
    ax = drawn(phase_diagram(runs, "loss", "tie"))[0]
    assert ticks(ax) == ["all", "output"]
    assert ticks(ax, "y") == ["False", "True"]
    np.testing.assert_allclose(np.diag(shown(ax)), [0.1, 0.2])


@pytest.mark.parametrize(
    ("key", "options", "message"),
    [
        ("model.n_head", {}, "no setting 'model.n_head' varies; the columns are ['run', "),
        ("train.rate", {"space": "x"}, "the table has no scores of val_subset in the space 'x'"),
        ("train.rate", {"split": "x"}, "the table has no scores of x in the space 'raw'"),
    ],
)
def test_what_the_table_lacks_is_one_line(key: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        phase_diagram(GRID, "model.n_layer", key, **options)
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        one_at_a_time(GRID, [(key,)], {key: 2}, **options)


# --- One at a time ---

BASE = {"x": 8, "y": 0.5, "more": 3}
STAR = table(
    {
        "base": (BASE, [(0.2, 0.4, 0.6), (0.4, 0.6, 1.0)]),
        "x16": ({**BASE, "x": 16}, [(0.5, 0.7, 0.9), (0.7, 0.9, 0.7)]),
        "x4": ({**BASE, "x": 4}, [(0.0, 0.1, 0.2)]),
        "y1": ({**BASE, "y": 1.0}, [(0.8, 0.85, 0.95)]),
        # Of no line: another setting varies as well.
        "both": ({**BASE, "x": 32, "y": 1.0}, [(0.99, 0.99, 0.99)]),
        "other": ({**BASE, "more": 4}, [(0.99, 0.99, 0.99)]),
    }
)
AXES = (("x",), ("y",))


def heights(ax: Axes) -> dict[str, list[float]]:
    """Return the lines of the legend by their names."""
    return {
        str(line.get_label()): np.asarray(line.get_ydata(), dtype=float).tolist()
        for line in ax.lines
        if not str(line.get_label()).startswith("_")
    }


def dots(ax: Axes) -> set[tuple[float, float]]:
    points = [np.asarray(line.get_xydata()) for line in ax.lines if line.get_marker() == "o"]
    return {(x, round(y, 6)) for x, y in np.concatenate(points).tolist()}


def band(ax: Axes, number: int) -> list[tuple[float, float]]:
    """Return the lowest and the highest value of a band at each tick."""
    xy = np.asarray(ax.collections[number].get_paths()[0].vertices)
    ys = [xy[xy[:, 0] == i, 1] for i in range(len(ticks(ax)))]
    return [(float(y.min()), float(y.max())) for y in ys]


def marked(ax: Axes) -> list[float]:
    """Return where the thick line through the panel stands."""
    return [float(np.asarray(ln.get_xdata())[0]) for ln in ax.lines if ln.get_linewidth() == 4]


def test_each_axis_has_a_panel_of_the_runs_that_equal_the_base_otherwise() -> None:
    figure = one_at_a_time(STAR, AXES, BASE)
    x, y = drawn(figure)
    assert [title(ax) for ax in (x, y)] == ["x", "y"]
    assert (ticks(x), ticks(y)) == (["4", "8", "16"], ["0.5", "1"])
    expected = {"final ARI": [0.0, 0.3, 0.6], "peak ARI": [0.1, 0.5, 0.8]}
    expected |= {"final ARI, last block": [0.0, 0.15, 0.3], "accuracy": [0.2, 0.8, 0.8]}
    assert heights(x) == {name: pytest.approx(values) for name, values in expected.items()}
    assert heights(y)["final ARI"] == pytest.approx([0.3, 0.8])
    assert heights(y)["peak ARI"] == pytest.approx([0.5, 0.85])
    assert dots(x) == {
        *((0, 0.0), (0, 0.1), (0, 0.2)),
        *((1, 0.1), (1, 0.2), (1, 0.4), (1, 0.6), (1, 1.0)),
        *((2, 0.25), (2, 0.35), (2, 0.5), (2, 0.7), (2, 0.9)),
    }
    assert (marked(x), marked(y)) == ([1], [0])
    assert legend(figure) == list(expected)
    heading = "val_subset (unseen pairs); means, bands: ranges over 1 to 2 seeds"
    assert figure.get_suptitle() == heading
    low, high = np.transpose(band(x, 0))  # of the final ARI
    assert low.tolist() == pytest.approx([0.0, 0.2, 0.5])
    assert high.tolist() == pytest.approx([0.0, 0.4, 0.7])


def test_settings_that_vary_together_share_a_panel() -> None:
    together = table(
        {
            "base": ({"x": 1, "y": 10}, [(0.2, 0.2, 0.2)]),
            "both": ({"x": 2, "y": 20}, [(0.4, 0.4, 0.4)]),
            "y": ({"x": 1, "y": 30}, [(0.6, 0.6, 0.6)]),
        }
    )
    x, y = drawn(one_at_a_time(together, [("x", "y"), ("y",)], {"x": 1, "y": 10}))
    assert (ticks(x), ticks(y)) == (["1", "2"], ["10", "30"]), "of two axes that which varies alone"
    assert heights(x)["final ARI"] == pytest.approx([0.2, 0.4])
    assert heights(y)["final ARI"] == pytest.approx([0.2, 0.6])


def test_a_base_that_failed_is_not_marked() -> None:
    rest = pa.Table.from_pylist([r for r in STAR.to_pylist() if r["run"] != "base"])
    x, y = drawn(one_at_a_time(rest, AXES, BASE))
    assert (marked(x), marked(y)) == ([], [])
    assert heights(x)["final ARI"] == pytest.approx([0.0, 0.6])
    assert heights(y)["final ARI"] == pytest.approx([0.8])
