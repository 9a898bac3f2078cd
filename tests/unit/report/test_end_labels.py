"""Names at the ends of lines: in order, apart, and as near to their lines as they can be."""

import itertools

import numpy as np
import pytest

from drawn import assert_no_texts_overlap, assert_nothing_cut_off, named_ends
from tasklens.core.seeds import stream
from tasklens.report.end_labels import End, EndLabels, label_ends, spread
from tasklens.report.style import in_style, new_figure


def test_names_that_are_apart_stay_and_others_move_as_little_as_possible() -> None:
    assert spread(np.array([1.0, 9.0, 5.0]), 2, 0, 10).tolist() == [1, 9, 5]
    assert spread(np.array([5.0, 5.0, 5.0]), 2, 0, 10).tolist() == [3, 5, 7]
    assert spread(np.array([0.0, 0.5]), 2, 0, 10).tolist() == [0, 2]
    assert spread(np.array([9.0, 10.0]), 3, 0, 10) == pytest.approx([7, 10])


def test_no_heights_in_steps_of_a_tenth_are_nearer_than_the_spread_ones() -> None:
    heights = np.array([2.0, 2.3, 0.1])
    grid = np.arange(0, 3.01, 0.1)
    possible = [
        np.array(each)
        for each in itertools.product(grid, repeat=3)
        if each[2] <= each[0] - 0.999 and each[0] <= each[1] - 0.999
    ]
    least = min(((each - heights) ** 2).sum() for each in possible)
    assert ((spread(heights, 1, 0, 3) - heights) ** 2).sum() == pytest.approx(least, abs=0.01)


def test_order_and_distances_hold_for_any_heights() -> None:
    random = stream(0, "heights")
    for n in range(1, 12):
        heights = random.uniform(-1, 2, n)
        moved = spread(heights, 0.08, 0, 1)
        assert np.diff(np.sort(moved)) == pytest.approx(np.maximum(np.diff(np.sort(moved)), 0.08))
        assert (np.argsort(moved, kind="stable") == np.argsort(heights, kind="stable")).all()
        assert moved.min() >= -1e-9
        assert moved.max() <= 1 + 1e-9


@pytest.mark.parametrize("size", [(3.0, 3.0), (1.6, 1.0), (8.0, 2.0)])
def test_names_do_not_overlap_at_any_size_and_leaders_reach_their_lines(
    size: tuple[float, float],
) -> None:
    figure = in_style(new_figure)(3, 3, "constrained")
    ax = figure.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    ends = [End(f"block{i}", 1.0, 0.9 + 0.001 * i, "black") for i in range(9)]
    in_style(label_ends)(ax, ends)
    figure.set_size_inches(size)
    assert_nothing_cut_off(figure)
    assert_no_texts_overlap(figure)
    (labels,) = (artist for artist in ax.artists if isinstance(artist, EndLabels))
    texts, leaders = labels.get_children()[:9], labels.get_children()[9:]
    shown = [text.get_visible() for text in texts]
    assert shown == [leader.get_visible() for leader in leaders]
    assert shown[0], "the most important name is always written"
    assert all(shown) == (size[1] > 1.0)
    for end, leader in zip(ends, leaders, strict=True):
        if leader.get_visible():
            begin = leader.get_xydata()[0]  # type: ignore[attr-defined]
            assert begin[1] == pytest.approx(ax.transData.transform((end.x, end.y))[1])
    assert named_ends(ax) == [end.name for end in ends]
