"""Frames of maps: near those before, true to their own states, the same every time."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from tasklens.clustering import numba_compile
from tasklens.clustering.map_frames import (
    centroid_basis,
    common_basis,
    first_frame,
    laid_on,
    next_frame,
    project,
    shown_between,
    shown_variance,
)
from tasklens.clustering.tsne import tsne
from tasklens.core.seeds import stream

Floats = NDArray[np.float32]

N, GROUPS, D = 160, 4, 8
#: Groups before, and groups into which the same points reform: each takes a quarter of each.
BEFORE = np.arange(N) % GROUPS
AFTER = np.arange(N) // GROUPS % GROUPS


def grouped(group: NDArray[Any], distance: float = 6.0, noise: str = "noise") -> Floats:
    centres = distance * stream(0, "centres").normal(size=(GROUPS, D))
    x = centres[group] + stream(0, noise).normal(size=(len(group), D))
    return np.asarray(x, dtype=np.float32)


def purity(y: Floats, group: NDArray[Any]) -> float:
    """Return the share of the five nearest neighbours that are of a point's own group."""
    near = NearestNeighbors(n_neighbors=6).fit(y).kneighbors(return_distance=False)[:, :5]
    return float((group[near] == group[:, None]).mean())


def moved(y: Floats, before: Floats) -> float:
    """Return how far points have moved on average, over how far they are from the middle."""
    size = np.linalg.norm(before - before.mean(axis=0), axis=1).mean()
    return float(np.linalg.norm(y - before, axis=1).mean() / size)


def first_map(x: Floats, seed: int = 1) -> Floats:
    return first_frame(x, perplexity=30, exaggeration=1.5, seed=seed)


def next_map(x: Floats, before: Floats, stay: float = 1, exaggeration: float = 1.5) -> Floats:
    return next_frame(x, before, perplexity=30, exaggeration=exaggeration, stay=stay, seed=1)


@pytest.fixture(scope="module")
def first() -> Floats:
    return first_map(grouped(BEFORE))


def test_points_move_with_their_neighbours(first: Floats) -> None:
    assert purity(first, BEFORE) > 0.95
    assert purity(first, AFTER) < 0.5, "the groups do cross"
    y = next_map(grouped(AFTER), first)
    assert purity(y, AFTER) > 0.95
    assert purity(y, BEFORE) < 0.5


def test_what_has_not_changed_stays(first: Floats) -> None:
    x = grouped(BEFORE, noise="other noise")
    y = next_map(x, first)
    assert purity(y, BEFORE) > 0.95
    anew = laid_on(first_map(x, seed=2), first)
    assert moved(y, first) < 0.6 * moved(anew, first)
    centres = [[z[g == BEFORE].mean(axis=0) for g in range(GROUPS)] for z in (y, first)]
    assert moved(*np.array(centres, dtype=np.float32)) < 0.25


def test_the_stronger_the_hold_the_less_they_move(first: Floats) -> None:
    x = grouped(AFTER)
    far = [moved(next_map(x, first, stay=stay), first) for stay in (0.0, 0.3, 3.0, 30.0)]
    assert (np.diff(far) < -0.01).all(), far
    assert far[-1] < 0.25 * far[0]


def test_neighbours_are_kept_as_well_as_in_a_new_map() -> None:
    x = grouped(AFTER, distance=1.0, noise="other noise")
    before = first_frame(grouped(BEFORE, distance=1.0), perplexity=30, exaggeration=1, seed=1)
    anew = tsne(x, perplexity=30, neighbors="auto", max_iter=1000, pca=0, seed=2)
    kept, fresh, chance = (
        trustworthiness(x, y, n_neighbors=10)
        for y in (next_map(x, before, exaggeration=1), anew, before)
    )
    assert fresh > chance + 0.3
    assert kept > fresh - 0.02


def test_exaggeration_widens_gaps_and_keeps_neighbours() -> None:
    x = grouped(AFTER, distance=2.0, noise="other noise")
    before = first_map(grouped(BEFORE, distance=2.0))
    maps = [next_map(x, before, exaggeration=factor) for factor in (1.0, 1.5, 3.0)]
    gaps = [silhouette_score(y, AFTER) for y in maps]
    assert gaps[0] + 0.03 < gaps[1] < gaps[2] - 0.03
    kept = [trustworthiness(x, y, n_neighbors=10) for y in maps]
    assert kept[1] > kept[0] - 0.02
    first = [first_frame(x, perplexity=30, exaggeration=factor, seed=1) for factor in (1.0, 3.0)]
    assert first[0].tobytes() == (
        tsne(x, perplexity=30, neighbors="auto", max_iter=1000, pca=0, seed=1).tobytes()
    )
    assert silhouette_score(first[1], AFTER) > silhouette_score(first[0], AFTER) + 0.03


def test_what_is_left_of_a_turn_is_taken_back(first: Floats) -> None:
    y = next_map(grouped(AFTER), first, stay=0)
    turn, _ = orthogonal_procrustes(y - y.mean(axis=0), first - first.mean(axis=0))
    assert turn == pytest.approx(np.eye(2), abs=1e-3)
    assert y.mean(axis=0) == pytest.approx(first.mean(axis=0), abs=1e-3)


@pytest.mark.parametrize("mirror", [1, -1])
def test_a_few_points_that_turned_or_were_mirrored_lie_where_they_were(mirror: int) -> None:
    x = stream(0, "few").normal(size=(7, D)).astype(np.float32)
    turn = np.array([[0.6, -0.8], [0.8 * mirror, 0.6 * mirror]], dtype=np.float32)
    before = project(x, common_basis(x)) @ turn + np.float32(3)
    y = next_map(x, before)
    assert y == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize("n", [3, N])
def test_rows_that_are_all_equal_stay_where_they_were(n: int, first: Floats) -> None:
    before = first[:n]
    assert next_map(np.full((n, D), 0.5, dtype=np.float32), before) is before


def test_the_same_states_give_the_same_bytes(first: Floats) -> None:
    before = first.copy()
    once, again = (next_map(grouped(AFTER), first) for _ in range(2))
    assert once.tobytes() == again.tobytes()
    assert first.tobytes() == before.tobytes(), "it is not written into"
    nowhere = np.zeros((N, 2), dtype=np.float32)  # all rows were equal until now: a new map
    for y in (first_map(grouped(BEFORE)), next_map(grouped(BEFORE), nowhere)):
        assert y.tobytes() == first.tobytes()


def test_without_a_compiler_it_is_done_by_scikit_learn(
    first: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = next_map(grouped(AFTER), first)
    monkeypatch.setattr(numba_compile, "MISSING", "numba")
    y = next_map(grouped(AFTER), first)
    assert y.tobytes() != compiled.tobytes()
    assert purity(y, AFTER) > 0.95
    assert y.tobytes() == next_map(grouped(AFTER), first).tobytes()


FIVE_ROWS = grouped(BEFORE, distance=10)[[0, 1, 2, 3, 8]][np.arange(40) % 5]
ODD = {
    "one direction": grouped(BEFORE)[:40, :1],
    "one other row": np.eye(20, D, dtype=np.float32) * (np.arange(20) == 0)[:, None],
    "five rows": FIVE_ROWS,
    **{f"{n} points": grouped(BEFORE)[:n] for n in (1, 2, 3, 7, 8)},
}


@pytest.mark.parametrize("x", ODD.values(), ids=ODD)
def test_odd_states_have_maps(x: Floats) -> None:
    before = first_map(x)
    after = x if len(x) > 8 else grouped(AFTER)[: len(x)]
    for y in (before, next_map(after, before)):
        assert y.shape == (len(x), 2)
        assert y.dtype == np.float32
        assert np.isfinite(y).all()
        assert (y != y[0]).any() or len(x) == 1
    shown = project(x, common_basis(x))
    assert (before.tobytes() == shown.tobytes()) == (len(x) < 8), "fewer than 8: their components"


def test_equal_rows_are_close() -> None:
    before = first_map(grouped(BEFORE)[:40])
    row = np.arange(40) % 5
    assert purity(before, row) < 0.5
    assert purity(next_map(FIVE_ROWS, before), row) == 1.0


def test_the_basis_is_that_of_the_first_two_components_and_shows_their_variance() -> None:
    x = np.asarray(grouped(BEFORE) * np.arange(1, D + 1), dtype=np.float32)
    basis = common_basis(x)
    witness = PCA(n_components=2, svd_solver="full").fit(x)
    assert np.abs((basis * witness.components_).sum(axis=1)) == pytest.approx([1, 1], abs=1e-5)
    share = float(witness.explained_variance_ratio_.sum())
    assert shown_variance(x, basis) == pytest.approx(share, abs=1e-5)
    assert np.abs(project(x, basis)) == pytest.approx(np.abs(witness.transform(x)), abs=1e-3)


def test_at_other_steps_the_basis_shows_less_than_their_own_would() -> None:
    basis = common_basis(grouped(BEFORE))
    for i in range(5):
        x = stream(i, "elsewhere").normal(size=(30, D)).astype(np.float32)
        assert 0 <= shown_variance(x, basis) < shown_variance(x, common_basis(x)) <= 1


def test_no_rounding_mirrors_the_basis() -> None:
    x = grouped(BEFORE)
    basis = common_basis(x)
    assert (np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1) > 0).all()
    assert common_basis(-x) == pytest.approx(basis, abs=1e-5)
    assert common_basis(x + np.float32(1e-4)) == pytest.approx(basis, abs=1e-3)


def test_what_does_not_vary_has_no_direction() -> None:
    x = np.full((5, 3), 2.5, dtype=np.float32)
    assert not common_basis(x).any()
    assert not project(x, common_basis(x)).any()
    assert shown_variance(x, common_basis(x)) == 0
    assert shown_variance(x, np.eye(2, 3, dtype=np.float32)) == 0, "in whatever direction"
    x = np.arange(5, dtype=np.float32)[:, None]  # one direction: the other is empty
    assert common_basis(x).tolist() == [[1], [0]]
    assert project(x, common_basis(x)).tolist() == [[i - 2, 0] for i in range(5)]
    assert shown_variance(x, common_basis(x)) == pytest.approx(1)


def test_the_plane_of_centroids_is_that_of_their_components() -> None:
    x, unequal = grouped(BEFORE), np.minimum(np.arange(N) // 10, GROUPS - 1)
    for labels in (BEFORE, unequal):
        means = np.stack([x[labels == g].mean(axis=0) for g in range(GROUPS)])
        witness = PCA(n_components=2, svd_solver="full").fit(means)
        basis = centroid_basis(x, 7 * labels)
        assert np.abs((basis * witness.components_).sum(axis=1)) == pytest.approx([1, 1], abs=1e-5)
        weights = np.bincount(labels) / N
        squares = np.square(means - weights @ means)
        seen = np.square((means - weights @ means) @ witness.components_.T)
        share = float((weights @ seen).sum() / (weights @ squares).sum())
        assert shown_between(x, labels, basis) == pytest.approx(share, abs=1e-5)
    assert centroid_basis(-x, unequal) == pytest.approx(basis, abs=1e-5), "no rounding mirrors it"


def test_two_centroids_have_one_direction_and_the_largest_remaining_variance_is_the_other() -> None:
    noise = stream(0, "noise").normal(size=(N, 3)) * [0.5, 3, 1]
    side = np.arange(N) % 2
    for label in (0, 1):
        noise[side == label] -= noise[side == label].mean(axis=0)
    x = (noise + side[:, None] * [4, 0, 0]).astype(np.float32)
    assert np.abs(centroid_basis(x, side)) == pytest.approx(np.eye(2, 3), abs=0.05)
    assert shown_between(x, side, centroid_basis(x, side)) == pytest.approx(1, abs=1e-5)
    one = np.zeros(N, dtype=np.int64)
    assert centroid_basis(x, one) == pytest.approx(common_basis(x), abs=1e-5)
    # Means that differ by rounding only have no direction.
    same = np.concatenate([x, x]) + np.float32(100)
    assert centroid_basis(same, np.repeat([0, 1], N)) == pytest.approx(common_basis(same), abs=1e-5)


def test_the_plane_of_equal_rows_or_of_one_column_lacks_directions() -> None:
    x = np.full((4, 3), 2.5, dtype=np.float32)
    assert not centroid_basis(x, np.arange(4)).any()
    assert shown_between(x, np.arange(4), np.eye(2, 3, dtype=np.float32)) == 0
    x = np.arange(6, dtype=np.float32)[:, None]
    assert np.abs(centroid_basis(x, np.arange(6) % 2)).tolist() == [[1], [0]]
