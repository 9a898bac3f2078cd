"""Names at groups of points: at their medians, apart, and only if a group is compact."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasklens.report.group_names import LINES, place_names


def groups(*middles: tuple[float, float], spread: float = 1.0, n: int = 30) -> np.ndarray:
    """Return n points around each of some middles, (len(middles) * n, 2)."""
    random = np.random.default_rng(1)
    noise = random.normal(scale=spread, size=(len(middles), n, 2))
    return (np.array(middles)[:, None] + noise).reshape(-1, 2)


def test_a_name_is_at_the_median_of_its_points() -> None:
    points, values = groups((0, 0), (50, 0), (0, 50)), np.repeat([4, 7, 9], 30)
    placed = place_names(points, values, dict.fromkeys([4, 7, 9], 5.0), 2.0)
    assert set(placed) == {4, 7, 9}
    for value, middle in placed.items():
        assert middle == pytest.approx(np.median(points[values == value], axis=0))


def test_scattered_points_have_no_name() -> None:
    points = groups((0, 0), (50, 0), (0, 50))
    mixed = np.arange(90) % 3
    assert place_names(points, mixed, dict.fromkeys(range(3), 5.0), 2.0) == {}
    one = np.where(np.arange(90) < 30, 0, 1 + mixed % 2)  # a compact group beside two mixed ones
    assert set(place_names(points, one, dict.fromkeys(range(3), 5.0), 2.0)) == {0}
    assert place_names(points, np.zeros(90, int), {0: 5.0}, 2.0) == {}, "a single value"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=20),
    st.integers(1, 25),
)
def test_names_do_not_overlap_and_stay_near(middles: list[tuple[int, int]], wide: int) -> None:
    points, values = groups(*middles, spread=0.5), np.repeat(np.arange(len(middles)), 30)
    high = 3.0
    placed = place_names(points, values, dict.fromkeys(range(len(middles)), float(wide)), high)
    for (x1, y1), (x2, y2) in itertools.combinations(placed.values(), 2):
        assert abs(x1 - x2) >= wide or abs(y1 - y2) >= 0.99 * high
    for value, (x, y) in placed.items():
        middle = np.median(points[values == value], axis=0)
        assert x == pytest.approx(middle[0])
        assert abs(y - middle[1]) <= LINES * high


def test_names_at_one_place_are_moved_apart() -> None:
    points = np.concatenate([groups((0, 0), (0.5, 0.5)), groups((90, 90), (91, 90))])
    placed = place_names(points, np.repeat(range(4), 30), dict.fromkeys(range(4), 5.0), 2.0)
    assert len(placed) == 4
    assert abs(placed[0][1] - placed[1][1]) == pytest.approx(2.0)


def test_names_stay_inside_the_panel() -> None:
    points, values = groups((0, 0), (50, 0), (0, 50)), np.repeat([0, 1, 2], 30)
    placed = place_names(points, values, dict.fromkeys(range(3), 20.0), 2.0, limits=(-3.0, 53.0))
    assert [round(x, 6) for x, _ in placed.values()] == [7, 43, 7]
