"""Variance between and within groups, against known answers and sums by brute force."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ortho_group
from threadpoolctl import threadpool_limits

from tasklens.core.seeds import stream
from tasklens.scoring.variance import centred, separation, variance_share


def test_variance_share_of_constants_and_offsets() -> None:
    x = np.full((9, 3), 0.1, dtype=np.float32)
    assert variance_share(centred(x), np.arange(9) % 2) == 0.0
    # A common offset of 4096 costs float32 its precision, but not the sums.
    random = stream(0, "offsets")
    x = random.normal(size=(50, 3)).astype(np.float32).round(2)
    groups = random.integers(5, size=50)
    expected = pytest.approx(variance_share(centred(x), groups), rel=1e-3)
    assert variance_share(centred(x + np.float32(4096)), groups) == expected


def blobs(
    n_groups: int, distance: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return points in 12 dimensions whose groups differ along some of them, and their groups."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(n_groups, size=300)
    means = distance * rng.normal(size=(n_groups, 12))
    return means[groups] + rng.normal(size=(300, 12)) * np.arange(1, 13), groups


def test_separation_does_not_depend_on_the_number_of_threads() -> None:
    """At width 768 the eigenvalues differed in their last bits with 1, 2 and 4 threads."""
    for i in (0, 5):
        random = stream(0, "threads", i)
        x, groups = random.normal(size=(400, 768)).astype(np.float32), random.integers(10, size=400)
        results = set()
        for threads in (1, 2, 4):
            with threadpool_limits(limits=threads):
                results.add(separation(centred(x), groups))
        assert len(results) == 1


def test_separation_by_hand() -> None:
    # Two groups at (-3, 0) and (3, 0); within them +-1 along x, +-2 along y.
    corners = np.array([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]])
    left = np.array([3.0, 0.0])
    x = np.concatenate([corners - left, corners + left])
    groups = np.repeat([0, 1], 4)
    # between: 8 * 9; within: 8 * 1 along x, 8 * 4 along y, and one direction counts.
    assert separation(centred(x), groups) == pytest.approx(9 / 4)


@pytest.mark.parametrize("n_groups", [2, 5, 9])
def test_separation_is_the_ratio_of_the_spectra(n_groups: int) -> None:
    x, groups = blobs(n_groups, 1.0, seed=n_groups)
    within = np.concatenate([x[groups == g] - x[groups == g].mean(axis=0) for g in set(groups)])
    means = np.stack([x[groups == g].mean(axis=0) for g in groups]) - x.mean(axis=0)
    spectrum = np.linalg.svd(within, compute_uv=False) ** 2
    expected = (means**2).sum() / spectrum[: n_groups - 1].sum()
    assert separation(centred(x), groups) == pytest.approx(expected)


def test_separation_knows_neither_scale_nor_place_nor_axes() -> None:
    x, groups = blobs(4, 2.0, seed=0)
    turned = x @ ortho_group.rvs(12, random_state=1)
    assert separation(centred(7 * turned + 1000), groups) == pytest.approx(
        separation(centred(x), groups)
    )
    wide = np.concatenate([x, np.zeros((len(x), 400))], axis=1)  # more directions than points
    assert separation(centred(wide), groups) == pytest.approx(separation(centred(x), groups))


def test_separation_falls_as_other_directions_widen_and_not_as_more_are_added() -> None:
    x, groups = blobs(3, 3.0, seed=2)
    widest = x.copy()
    widest[:, 11] *= 10
    assert separation(centred(widest), groups) < separation(centred(x), groups) / 5
    noise = np.random.default_rng(3).normal(size=(300, 50))
    with_noise = separation(centred(np.concatenate([x, noise], axis=1)), groups)
    assert with_noise == pytest.approx(separation(centred(x), groups), rel=0.05)
    shares = [
        variance_share(centred(y), groups) for y in (x, np.concatenate([x, 5 * noise], axis=1))
    ]
    assert shares[1] < shares[0] / 2  # which is what sets it distance from the share of variance


def test_separation_at_its_ends() -> None:
    groups = np.arange(8) % 2
    assert separation(centred(np.ones((8, 3))), groups) == 0.0
    assert separation(centred(np.ones((8, 3))), np.zeros(8)) == 0.0
    assert separation(centred(groups[:, None] * 1.0), groups) == np.inf
