"""Figures of matrices: their cells and marks are the numbers of the view."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from drawn import assert_nothing_cut_off, ticks, title
from tasklens.core.errors import InputError
from tasklens.report.heatmaps import (
    figure_agreement,
    figure_contingency,
    figure_order,
    figure_world,
)
from tasklens.report.matrices import NAMED_ROWS, name_checkpoints
from tasklens.report.view import View
from tasklens.scoring.score_table import to_table
from views import VIEW_ARI, planted_view

Values = NDArray[np.float64]


def heat_maps(figure: Figure) -> list[Axes]:
    """Return the panels, without the bar of colours."""
    return [ax for ax in figure.axes if ax.images]


def cells(ax: Axes) -> Values:
    """Return the values of the colours of a panel, the lowest row last."""
    image = ax.images[0]
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    values = np.ma.filled(np.ma.asarray(image.get_array(), dtype=np.float64), np.nan)
    return values if image.origin == "upper" else values[::-1]


def numbers(ax: Axes) -> dict[tuple[float, float], str]:
    """Return what is written into the cells, by row and column."""
    return {text.get_position()[::-1]: text.get_text() for text in ax.texts}


# --- Agreement ---


def test_agreement_is_that_of_the_table_with_the_input_at_the_bottom() -> None:
    figure = figure_agreement(planted_view(), "train_subset")
    panels = {title(ax): ax for ax in heat_maps(figure)}
    expected = np.array([VIEW_ARI[state] for state in ("block2", "block1", "embed")])
    values = {"task": expected, "input": 0.5 - expected / 2, "output": np.full((3, 3), 0.2)}
    for part, ax in zip(values, panels.values(), strict=True):
        np.testing.assert_allclose(cells(panels[f"ARI against the {part}"]), values[part])
        low, high = ax.get_ylim()
        assert low < high, "the first state is the lowest"
        assert ticks(ax) == ["0", "10", "40"]
    assert ticks(panels["ARI against the task"], "y") == ["embed", "block1", "block2"]
    assert figure.get_suptitle() == "train_subset (seen in training)"
    unseen = heat_maps(figure_agreement(planted_view()))[0]
    np.testing.assert_allclose(cells(unseen), expected + 0.1)


def test_only_what_was_scored_has_a_panel_or_a_colour() -> None:
    view = planted_view(outputs=False)
    rows = [r for r in view.table.to_pylist() if (r["step"], r["layer"]) != (10, "block1")]
    view = dataclasses.replace(view, table=to_table(rows))
    panels = heat_maps(figure_agreement(view))
    assert [title(ax) for ax in panels] == ["ARI against the task", "ARI against the input"]
    assert np.argwhere(np.isnan(cells(panels[0]))).tolist() == [[1, 1]]


def test_a_heat_map_without_content_is_a_sentence_with_its_largest_value() -> None:
    view = planted_view()
    rows = view.table.to_pylist()
    for scale, expected in (
        (0.4, {"task", "input"}),
        (0.02, {"task"}),  # one remains
    ):
        faint = [
            row | {"value": row["value"] * (0.4 if row["metric"] == "ari_output" else scale)}
            for row in rows
        ]
        figure = figure_agreement(dataclasses.replace(view, table=to_table(faint)))
        assert {title(ax).split()[-1] for ax in heat_maps(figure)} == expected
        lines = str(figure.get_supxlabel()).splitlines()
        assert lines[-1] == "ARI against the output: at most 0.08 (embed, step 0)"
        assert len(lines) == 3 - len(expected)
        assert len(heat_maps(figure)[0].texts) == 9, "few columns have numbers"
        assert_nothing_cut_off(figure)


@pytest.mark.parametrize(
    ("n", "ticks_at"),
    [(1, [0]), (2, [0, 1]), (7, [0, 2, 4, 6]), (8, [0, 7]), (41, [0, 10, 20, 30, 40])],
)
def test_named_checkpoints_are_far_enough_apart(n: int, ticks_at: list[int]) -> None:
    ax = Figure().subplots()
    name_checkpoints(ax, range(n), {})
    assert [int(tick) for tick in ax.get_xticks()] == ticks_at


def test_a_table_without_agreement_is_refused() -> None:
    view = dataclasses.replace(planted_view(), table=to_table([]))
    with pytest.raises(
        InputError, match=r"^seen: the table has no ARI of a hidden state on val_subset"
    ):
        figure_agreement(view)


# --- Tasks and clusters ---


def test_counts_are_those_made_by_hand() -> None:
    figure = figure_contingency(planted_view(), "block2", 40, "train_subset")
    (ax,) = heat_maps(figure)
    counts = np.array([[4, 0, 0], [0, 4, 0], [0, 1, 3]])
    np.testing.assert_allclose(cells(ax), np.where(counts, counts / 4, np.nan))
    assert numbers(ax) == {cell: str(n) for cell, n in np.ndenumerate(counts) if n}
    assert ticks(ax, "x") == ticks(ax, "y") == ["plus", "minus", "swap"]
    assert figure.get_suptitle() == (
        "block2, step 40\ntrain_subset (seen in training): 12 points\n"
        "11 are in the cluster of their task"
    )
    top, bottom = ax.get_ylim()
    assert top > bottom, "the first task is the highest"
    colors = {text.get_position()[::-1]: text.get_color() for text in ax.texts}
    assert (colors[0, 0], colors[2, 1]) == ("black", "white"), "legible"


def test_clusters_without_a_task_come_last_and_tasks_without_a_cluster_have_no_column() -> None:
    figure = figure_contingency(planted_view())
    assert figure.get_suptitle() == (
        "block2, step 40\nval_subset (unseen pairs): 12 points\n10 are in the cluster of their task"
    )
    (ax,) = heat_maps(figure)
    assert ticks(ax) == ["plus", "minus", "swap", "no task (1)"]
    np.testing.assert_allclose(
        np.nan_to_num(cells(ax)) * 4, [[4, 0, 0, 0], [0, 4, 0, 0], [0, 1, 2, 1]]
    )
    (ax,) = heat_maps(figure_contingency(planted_view(), "block2", 10, "train_subset"))
    assert ticks(ax, "y") == ["plus", "minus", "swap"]
    assert ticks(ax) == ["plus", "swap"]
    np.testing.assert_allclose(np.nan_to_num(cells(ax)), [[1, 0], [1, 0], [0, 1]])


def with_tasks(n: int, **changed: Any) -> View:
    """Return a view of one split, of n tasks."""
    view = planted_view()
    points = dataclasses.replace(view.splits["val_subset"], **changed)
    names = {"task": tuple(f"t{i}" for i in range(n))}
    return dataclasses.replace(view, splits={"val_subset": points}, names=names)


@pytest.mark.parametrize(("n", "written"), [(12, 12), (13, 0)])
def test_few_tasks_have_numbers_in_their_cells(n: int, written: int) -> None:
    clusters = {"block2": np.tile(np.arange(n), (3, 1))}
    view = with_tasks(n, parts={"task": np.arange(n)}, assigned=clusters)
    (ax,) = heat_maps(figure_contingency(view, "block2"))
    np.testing.assert_allclose(np.nan_to_num(cells(ax)), np.eye(n))
    assert len(ax.texts) == written


# --- The order in which tasks form ---


def test_tasks_stand_in_the_order_in_which_they_formed() -> None:
    (ax,) = heat_maps(figure_order(planted_view(), "block2", "train_subset"))
    # Of two tasks in one cluster, by half each, the first takes it; the last is on its own.
    assert ticks(ax, "y") == ["plus", "swap", "minus"]
    np.testing.assert_allclose(
        cells(ax), [[1 / 4, 0.5, 1], [1 / 6, 1, 0.75], [1 / 6, 0, 0.8]], atol=1e-12
    )
    (marks,) = ax.lines
    assert np.asarray(marks.get_xydata()).tolist() == [[1, 0], [1, 1], [2, 2]]
    assert title(ax) == "block2, train_subset (seen in training)\n3 of 3 tasks have formed"
    top, bottom = ax.get_ylim()
    assert top > bottom, "the first to form is the highest"


def test_what_has_not_formed_comes_last_and_has_no_mark() -> None:
    followed = planted_view().splits["train_subset"].followed["block1"]
    never = dataclasses.replace(followed, formed=(None, 40, 0))
    (ax,) = heat_maps(figure_order(with_tasks(3, followed={"block1": never}), "block1"))
    assert ticks(ax, "y") == ["t2", "t1", "t0"]
    assert np.asarray(ax.lines[0].get_xydata()).tolist() == [[0, 0], [2, 1]]
    assert title(ax) == "block1, val_subset (unseen pairs)\n2 of 3 tasks have formed"
    (ax,) = heat_maps(figure_order(planted_view(), "embed"))
    assert not np.size(ax.lines[0].get_xdata())
    assert title(ax) == "embed, val_subset (unseen pairs)\n0 of 3 tasks have formed"


def test_of_many_tasks_some_are_named() -> None:
    n = NAMED_ROWS + 1
    followed = planted_view().splits["val_subset"].followed["block2"]
    overlap = np.tile(np.arange(n) / n, (3, 1))
    many = dataclasses.replace(followed, overlap=overlap, formed=(None,) * n, tasks=np.arange(n))
    (ax,) = heat_maps(figure_order(with_tasks(n, followed={"block2": many}), "block2"))
    assert ticks(ax, "y") == [f"t{i}" for i in range(0, n, 2)]
    np.testing.assert_allclose(cells(ax), overlap.T)


# --- What the model was asked about ---


@pytest.mark.parametrize(("outputs", "symbols"), [(True, "symbols"), (False, "tokens")])
def test_the_world_is_a_matrix_of_wording_and_one_of_functions_if_known(
    outputs: bool, symbols: str
) -> None:
    view = planted_view(outputs=outputs)
    *functions, wording = heat_maps(figure_world(view))
    assert title(wording) == f"cosine of mean counts\nof {symbols}"
    np.testing.assert_allclose(cells(wording), view.world.same_symbols)
    assert numbers(wording)[1, 2] == "0.71"
    assert len(functions) == outputs
    for ax in functions:
        assert title(ax) == "share of common inputs\nmapped to the same output"
        np.testing.assert_array_equal(cells(ax), np.asarray(view.world.same_output))
        assert ticks(ax, "y") == ticks(ax) == ticks(wording) == ["plus", "minus", "swap"]


def test_a_matrix_of_equal_pairs_is_a_sentence() -> None:
    view = planted_view()
    same = np.array([[1, 0.02, 0], [0.02, 1, 0.05], [0, 0.05, 1]])
    for functions, wording, matrices, sentence in (
        (same, view.world.same_symbols, ["cosine"], "same output: 0.00 to 0.05 for any two tasks"),
        (view.world.same_output, same, ["share"], "of symbols: 0.00 to 0.05 for any two tasks"),
        (same, same, ["cosine"], "same output: 0.00 to 0.05 for any two tasks"),
    ):
        world = dataclasses.replace(view.world, same_output=functions, same_symbols=wording)
        figure = figure_world(dataclasses.replace(view, world=world))
        assert [title(ax).split()[0] for ax in heat_maps(figure)] == matrices
        assert str(figure.get_supxlabel()).endswith(sentence)
        assert_nothing_cut_off(figure)


# --- In the user's own axes ---


@pytest.mark.parametrize("draw", [figure_contingency, figure_order])
def test_matrices_are_drawn_into_given_axes(draw: Callable[..., Figure]) -> None:
    figure = Figure(figsize=(10, 4), layout="compressed")
    left, right = figure.subplots(1, 2)
    assert draw(planted_view(), "block2", ax=right) is figure
    alone = draw(planted_view(), "block2")
    (expected,) = heat_maps(alone)
    np.testing.assert_array_equal(cells(right), cells(expected))
    assert right.get_title() == title(expected) or alone.get_suptitle()
    assert not left.has_data()
    assert [ax.get_label() for ax in figure.axes[2:]] == ["<colorbar>"]
    assert_nothing_cut_off(figure)
