"""Place names at groups of points on a map; `page_assets/names.js` has the same rules."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

#: Spreads are relative to that of all points. A group that fills its share of a map has about the
#: root of its share of the points. It is named up to this many times that, and up to some spread.
TIMES, MOST = 1.5, 0.65
#: A name is moved by at most this many of its heights. Of more groups, none is named.
LINES, NAMED_GROUPS = 2.5, 60


class _Name(NamedTuple):
    value: int
    x: float
    n: int
    wide: float


def place_names(
    points: Floats,
    values: npt.NDArray[np.integer],
    widths: Mapping[int, float],
    high: float,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> dict[int, tuple[float, float]]:
    """Return where to write the name of each compact group of points, by value.

    A name is centred on the median of its points, and is moved up or down so that no names overlap.
    A group whose points are scattered has no name, nor has one whose name would be moved too far.

    Parameters
    ----------
    points : array (N, 2)
        Coordinates on the map.
    values : array (N,)
        The value of each point; points of one value are a group.
    widths : mapping
        The width of the name of each value, in units of the map.
    high : float
        The height of a name in the same units.
    limits : tuple of float
        The ends of the x axis, between which names stay.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if not 1 < len(distinct) <= NAMED_GROUPS:
        return {}
    _, spread_of_all = _middle(points)
    names, middles = [], {}
    for value, n in sorted(zip(distinct.tolist(), counts.tolist(), strict=True), key=_by_size):
        middle, spread = _middle(points[values == value])
        if spread <= min(MOST, TIMES * (n / len(values)) ** 0.5) * (spread_of_all or 1.0):
            half = widths[value] / 2
            x = max(limits[0] + half, min(limits[1] - half, middle[0]))
            names.append(_Name(value, x, n, widths[value]))
            middles[value] = middle[1]
    heights = _moved_apart(names, middles, high)
    placed: dict[int, tuple[float, float]] = {}
    kept: list[_Name] = []
    for name in names:
        y = heights[name.value]
        near = [o for o in kept if _beside(name, o) and abs(y - heights[o.value]) < 0.99 * high]
        if not near and abs(y - middles[name.value]) <= LINES * high:
            placed[name.value] = name.x, y
            kept.append(name)
    return placed


def _by_size(group: tuple[int, int]) -> tuple[int, int]:
    """Order groups by their number of points, the largest first."""
    value, n = group
    return -n, value


def _middle(points: Floats) -> tuple[tuple[float, float], float]:
    """Return the median of points, and the median of their distances to it."""
    x, y = np.median(points, axis=0).tolist()
    return (x, y), float(np.median(np.hypot(*(points - (x, y)).T)))


def _beside(a: _Name, b: _Name) -> bool:
    """Return whether two names would overlap if they were at one height."""
    return abs(a.x - b.x) < (a.wide + b.wide) / 2


def _moved_apart(names: list[_Name], middles: Mapping[int, float], high: float) -> dict[int, float]:
    """Return the height of each name, moved away from the others that it would overlap."""
    y = dict(middles)
    pairs = [(a, b) for a, b in itertools.combinations(names, 2) if _beside(a, b)]
    for _ in range(40):
        overlaps = [(a, b) for a, b in pairs if abs(y[a.value] - y[b.value]) < high * (1 - 1e-6)]
        if not overlaps:
            break
        for a, b in overlaps:
            low, up = (a, b) if y[a.value] <= y[b.value] else (b, a)
            by = (high - (y[up.value] - y[low.value])) / 2
            y[low.value] -= max(0.0, by)
            y[up.value] += max(0.0, by)
    return y
