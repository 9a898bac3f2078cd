"""Our KMeans beside scikit-learn's, beside exact probabilities, and at its edges."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from operator import itemgetter

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from planted import near_square
from tasklens.clustering import kmeans as module
from tasklens.clustering import kmeans_kernels as kernels
from tasklens.clustering import numba_compile
from tasklens.clustering.kmeans import (
    MOST_POINTS,
    Result,
    _distances,
    distinct,
    kmeans,
    uses_numba,
)
from tasklens.clustering.sklearn_fallback import kmeans_starts
from tasklens.core.seeds import stream

Floats = NDArray[np.float32]
Ints = NDArray[np.int16]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads of scikit-learn's that wait for each other take minutes on a busy machine."""
    with threadpool_limits(limits=1):
        yield


def mixture(n: int, d: int, k: int, spread: float) -> tuple[Floats, NDArray[np.int64]]:
    """Return points around k means, whose standard deviation is `spread` times the points'."""
    random = stream(0, "mixture", n, d, k)
    task = random.integers(k, size=n)
    x = spread * random.normal(size=(k, d))[task] + random.normal(size=(n, d))
    return x.astype(np.float32), task


def noise(n: int, d: int) -> Floats:
    return mixture(n, d, 1, 0)[0]


def token_rows(n: int, tokens: int, d: int) -> Floats:
    """Rows as in the word embedding: only as many distinct ones as there are tokens."""
    return noise(tokens, d)[stream(0, "tokens").integers(tokens, size=n)]


def run(
    x: Floats, k: int, seeds: tuple[int, ...] = (0,), n_init: int = 10, tol: float = 1e-4
) -> Result:
    return kmeans(x, k, seeds=seeds, n_init=n_init, max_iter=300, tol=tol)


def content(result: Result) -> tuple[bytes, bytes]:
    return result.labels.tobytes(), result.inertia.tobytes()


def lloyd(
    x: Floats, starts: NDArray[np.int64], max_iter: int = 300, tol: float = 1e-4
) -> tuple[NDArray[np.int32], float]:
    """Run the core from the rows `starts` of `x`."""
    points, weights, row = distinct(x - x.mean(axis=0))
    columns = np.ascontiguousarray(points.T)
    tolerance = tol * float(x.var(axis=0, dtype=float).mean())
    centres = row[starts].astype(np.int32)
    distances = _distances(points)
    labels, inertia, _ = kernels.lloyd(distances, columns, weights, centres, max_iter, tolerance)
    return labels[row], inertia


def witness(x: Floats, starts: NDArray[np.int64], max_iter: int = 300, tol: float = 1e-4) -> KMeans:
    return KMeans(len(starts), init=x[starts], n_init=1, max_iter=max_iter, tol=tol).fit(x)


def means(x: Floats, labels: NDArray[np.signedinteger]) -> NDArray[np.float64]:
    """Return the means of the clusters, (k, D), in float64."""
    return np.stack([x[labels == j].mean(axis=0, dtype=float) for j in range(labels.max() + 1)])


def inertia_of(x: Floats, labels: NDArray[np.signedinteger]) -> float:
    return float(np.sum((x - means(x, labels)[labels]) ** 2))


SHAPES = [(300, 1, 7), (300, 2, 3), (301, 2, 20), (250, 33, 10), (400, 256, 5)]


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
@pytest.mark.parametrize("spread", [0, 1, 10])
def test_labels_are_those_of_the_nearest_mean_and_inertia_is_its_definition(
    n: int, d: int, k: int, spread: float
) -> None:
    x, _ = mixture(n, d, k, spread)
    labels, inertia, *_ = run(x, k, seeds=(0, 1, 2), n_init=2, tol=0)
    for clusters, value in zip(labels, inertia, strict=True):
        assert value == pytest.approx(inertia_of(x, clusters), rel=1e-6)
        distance = np.sum((x[:, None] - means(x, clusters)) ** 2, axis=2)  # (N, k)
        assert distance.shape == (n, k)
        own = distance[np.arange(n), clusters]
        assert (own - distance.min(axis=1)).max() <= 1e-5 * own.mean(), "up to rounding"


def test_as_good_as_scikit_learn() -> None:
    """Twenty problems from well separated to noise: inertia within 0.2 %, ARI within 0.01."""
    shapes = [(200, 2, 5), (300, 16, 8), (250, 64, 5), (200, 1, 4), (300, 4, 20)]
    ratio, gain = [], []
    for (n, d, k), spread in product(shapes, [0, 0.7, 1.5, 4]):
        x, task = mixture(n, d, k, spread)
        ours = run(x, k, seeds=(0, 1))
        for s in range(2):
            theirs = KMeans(k, n_init=10, random_state=s).fit(x)
            ratio.append(ours.inertia[s] / theirs.inertia_)
            of_theirs = adjusted_rand_score(task, theirs.labels_)
            gain.append(adjusted_rand_score(task, ours.labels[s]) - of_theirs)
    assert np.mean(ratio) == pytest.approx(1, abs=0.002)
    assert np.mean(gain) == pytest.approx(0, abs=0.01)


def draws(x: Floats, k: int, n: int) -> NDArray[np.int32]:
    """Return the centres of n starts, (n, k), as indices into the distinct rows of `x`."""
    points, weights, _ = distinct(x - x.mean(axis=0))
    uniforms = np.random.default_rng(0).random((n, k, 2 + int(np.log(k))))
    return np.stack([kernels.plusplus(_distances(points), weights, u) for u in uniforms])


def test_second_centres_have_the_exact_probabilities() -> None:
    """Two candidates are drawn by weight times squared distance, and the better is taken."""
    values = np.array([0, 1, 3, 4, 8, 20], dtype=np.float32)
    count = np.array([1, 2, 1, 3, 1, 1])
    x = np.repeat(values, count)[:, None]
    distance = (values[:, None] - values) ** 2  # (U, U)
    exact = np.zeros((6, 6))
    for first in range(6):
        mass = count * distance[first]
        sums = np.minimum(distance[first], distance) @ count  # (U,) were this the second
        for a, b in product(range(6), repeat=2):
            second = a if sums[a] <= sums[b] else b
            chance = mass[a] * mass[b] / mass.sum() ** 2
            exact[first, second] += count[first] / count.sum() * chance
    n = 10_000
    frequency = np.zeros((6, 6))
    np.add.at(frequency, tuple(draws(x, 2, n).T), 1 / n)
    error = np.sqrt(exact * (1 - exact) / n)
    assert np.all(np.abs(frequency - exact) <= 4 * error), "standard errors, of 36 numbers"


def test_seeding_is_that_of_scikit_learn() -> None:
    """Six centres of 40 points: how often each point is one, and the sum of distances left."""
    x, _ = mixture(40, 2, 5, 3)
    distance = np.sum((x[:, None].astype(float) - x) ** 2, axis=2)
    n = 1_000
    ours = draws(x, 6, n)
    theirs = np.stack([kmeans_plusplus(x, 6, random_state=seed)[1] for seed in range(n)])
    chosen, left = [], []
    for centres in (ours, theirs):
        assert all(len(set(row)) == 6 for row in centres)
        chosen.append(np.bincount(centres.ravel(), minlength=40) / n)
        left.append([distance[row].min(axis=0).sum() for row in centres])
    chance = np.mean(chosen, axis=0)
    error = np.sqrt(2 * chance * (1 - chance) / n)
    assert np.all(np.abs(chosen[0] - chosen[1]) <= 4 * error)
    error = np.sqrt(np.var(left[0]) / n + np.var(left[1]) / n)
    assert abs(np.mean(left[0]) - np.mean(left[1])) <= 3 * error
    assert error < 0.02 * np.mean(left), "or the test would see nothing"


@pytest.mark.parametrize(("n", "d", "k"), [(300, 2, 6), (200, 20, 5), (400, 128, 12), (150, 1, 4)])
@pytest.mark.parametrize("spread", [0.5, 2])
@pytest.mark.parametrize(("max_iter", "tol"), [(300, 1e-4), (300, 0), (1, 0), (3, 0), (300, 0.03)])
def test_lloyd_takes_the_path_of_scikit_learn(
    n: int, d: int, k: int, spread: float, max_iter: int, tol: float
) -> None:
    x, _ = mixture(n, d, k, spread)
    starts = stream(0, "starts").choice(n, size=k, replace=False)
    labels, inertia = lloyd(x, starts, max_iter, tol)
    theirs = witness(x, starts, max_iter, tol)
    assert np.array_equal(labels, theirs.labels_)
    assert inertia == pytest.approx(theirs.inertia_, rel=1e-4)


def test_stopping_early_differs_from_stopping_late() -> None:
    """The cases above tell the rules apart."""
    x, _ = mixture(300, 2, 6, 2)
    starts = stream(0, "starts").choice(300, size=6, replace=False)
    ends = [lloyd(x, starts, *rule)[0] for rule in ((300, 0.0), (1, 0.0), (3, 0.0), (300, 0.03))]
    assert len({end.tobytes() for end in ends}) == 4


@pytest.mark.parametrize("twice", [1, 3])
@pytest.mark.parametrize("d", [2, 40])
def test_empty_clusters_get_the_farthest_points(d: int, twice: int) -> None:
    """Centres in the same place: the first of them takes all points."""
    x, _ = mixture(200, d, 6, 4)
    starts = np.arange(6)
    starts[-twice:] = starts[0]
    first, _ = lloyd(x, starts, max_iter=1, tol=0)
    centres = x[starts]
    nearest = np.argmin(np.sum((x[:, None] - centres) ** 2, axis=2), axis=1)
    distance = np.sum((x - centres[nearest]) ** 2, axis=1)
    far = np.argsort(-distance)[:twice]
    assert set(first[far]) >= set(range(6 - twice, 6)), "each is the centre of a cluster of its own"
    if twice == 1:  # of several, scikit-learn's come in no particular order
        assert np.array_equal(first, witness(x, starts, max_iter=1, tol=0).labels_)
        assert np.array_equal(lloyd(x, starts)[0], witness(x, starts).labels_)
    assert len(np.unique(lloyd(x, starts)[0])) == 6


@pytest.mark.parametrize("d", [1, 2, 64])
@pytest.mark.parametrize(("tokens", "k"), [(1, 1), (1, 5), (2, 2), (7, 7), (7, 30), (40, 10)])
def test_equal_rows_are_one_point_of_their_weight(d: int, tokens: int, k: int) -> None:
    x = token_rows(400, tokens, d)
    labels, inertia, *_ = run(x, k, seeds=(0, 1))
    for clusters, value in zip(labels, inertia, strict=True):
        assert len(np.unique(np.column_stack([x, clusters]), axis=0)) == tokens
        assert set(clusters) == set(range(min(k, tokens)))
        assert value == pytest.approx(inertia_of(x, clusters), rel=1e-6, abs=1e-9)
        assert (value > 1) == (k < tokens)
    starts = np.unique(x, axis=0, return_index=True)[1][: min(k, tokens)]
    for max_iter in (1, 300):
        theirs = witness(x, starts, max_iter)
        ours, value = lloyd(x, starts, max_iter)
        assert np.array_equal(ours, theirs.labels_)
        assert value == pytest.approx(theirs.inertia_, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("n", "d", "k"), [(60, 1, 60), (60, 3, 60), (60, 50, 60), (1, 4, 3)])
def test_every_point_its_own_cluster(n: int, d: int, k: int) -> None:
    labels, inertia, *_ = run(noise(n, d), k)
    assert sorted(labels[0]) == list(range(n))
    assert inertia[0] == 0


def test_rows_that_differ_in_their_last_bit() -> None:
    """Closer than the distances can tell: no cluster more than rows, none lost, no error."""
    x = np.repeat(noise(3, 8), 4, axis=0)
    x[::2] = np.nextafter(x[::2], np.float32(9))
    for k in (3, 6, 12):
        labels, inertia, *_ = run(x, k)
        assert np.isfinite(inertia).all()
        assert len(np.unique(labels[0])) == min(k, 6)


def test_distances_between_close_points_keep_their_digits() -> None:
    """Three knots of points 1,000 apart with a width of 0.01: inner products cannot tell."""
    x = (1000 * np.eye(3, 10)[np.arange(30) % 3] + 0.01 * noise(30, 10)).astype(np.float32)
    x -= x.mean(axis=0)
    exact = np.sum((x[:, None].astype(float) - x) ** 2, axis=2)
    distances = _distances(x)
    assert np.array_equal(distances, distances.T)
    assert distances == pytest.approx(exact, rel=1e-5)
    assert inertia_of(x, run(x, 6)[0][0]) <= 1.05 * inertia_of(
        x, min(kmeans_starts(x, 6, seed=0, n_init=10, max_iter=300, tol=1e-4), key=itemgetter(1))[0]
    )


@pytest.mark.parametrize("d", [2, 20])
def test_far_points_leave_no_trace_in_the_sums(d: int) -> None:
    """There are 60 squared distances of 100,000,000 and 140 of about 2 D; the large ones leave."""
    x = noise(200, d)
    x[:60, 0] += 10_000
    distances, weights = _distances(x), np.ones(200, dtype=np.float32)
    columns = np.ascontiguousarray(x.T)
    sums, old = np.zeros((2, 200)), np.full(200, -1, dtype=np.int32)
    for gone in range(3, 61, 3):
        labels = (np.arange(200) < gone).astype(np.int32)
        members = np.bincount(labels).astype(np.int32)
        assert kernels.move(sums, distances, columns, weights, old, labels, members)
        for j in range(2):
            exact = distances[labels == j].sum(axis=0, dtype=float)
            assert sums[j] == pytest.approx(exact, rel=1e-6)
        old = labels
    assert not kernels.move(sums, distances, columns, weights, old, old, members)


@pytest.mark.parametrize("d", [2, 100])
def test_where_the_origin_lies_and_what_the_unit_is_change_nothing(d: int) -> None:
    x = np.round(64 * mixture(200, d, 4, 2)[0]) / np.float32(64)  # so that nothing below is rounded
    labels, inertia, *_ = run(x, 5)
    moved = run((x + 65536).astype(np.float32), 5)
    assert np.array_equal(moved[0], labels)
    assert moved[1] == pytest.approx(inertia, rel=1e-6)
    for exponent in (-100, 100):
        scaled = run(np.ldexp(x, exponent).astype(np.float32), 5)
        assert np.array_equal(scaled[0], labels)
        assert np.array_equal(scaled[1], np.ldexp(inertia, 2 * exponent))


def test_the_largest_numbers() -> None:
    x = np.array([[-3e38], [-2.9e38], [2.9e38], [3e38]], dtype=np.float32)
    labels, inertia, *_ = run(x, 2)
    assert adjusted_rand_score([0, 0, 1, 1], labels[0]) == 1
    assert inertia[0] == pytest.approx(2 * 2 * (0.05e38) ** 2, rel=1e-5)


def test_neither_memory_layout_nor_threads_change_a_byte() -> None:
    x = noise(400, 100)  # no structure, so that a rounding error could show
    frozen = x.copy()
    frozen.flags.writeable = False
    wide = np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)

    def result(points: Floats) -> tuple[bytes, bytes]:
        return content(run(points, 8, seeds=(0, 1)))

    plain = result(x)
    assert {*map(result, (np.asfortranarray(x), wide[::2, ::2], frozen))} == {plain}
    assert np.array_equal(frozen, x)
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            assert result(x) == plain
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert result(x) == plain
    finally:
        numba.set_num_threads(before)
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(result, [x] * 4)) == {plain}


def test_a_seed_gives_its_result_in_any_company() -> None:
    x = noise(150, 3)
    seeds = (0, 2**63 - 1, 2**100)
    labels, inertia, *_ = run(x, 6, seeds=seeds, n_init=1)
    for seed, clusters, value in zip(seeds, labels, inertia, strict=True):
        alone = run(x, 6, seeds=(seed,), n_init=1)
        assert np.array_equal(alone[0][0], clusters)
        assert alone[1][0] == value
    assert len(set(inertia)) == 3


def test_the_best_start_is_kept() -> None:
    x = noise(150, 3)
    best = np.array([run(x, 8, n_init=n)[1][0] for n in (1, 2, 5, 20)])
    assert np.all(np.diff(best) <= 0), "the first starts are the same"
    assert best[-1] < best[0]


def test_engine_and_what_scikit_learn_does_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    assert numba_compile.MISSING == ""
    assert uses_numba(MOST_POINTS)
    assert not uses_numba(MOST_POINTS + 1)
    x = token_rows(60, 20, 3)
    theirs = [KMeans(5, n_init=3, random_state=seed).fit(x) for seed in (3, 4)]
    ours = run(x, 5, seeds=(3, 4), n_init=3)
    assert any(not np.array_equal(ours.labels[s], theirs[s].labels_) for s in range(2))
    for name, value in (("MISSING", "no numba"), ("MOST_POINTS", 59)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert not uses_numba(60)
            got = run(x, 5, seeds=(3, 4), n_init=3)
            for s in range(2):
                assert np.array_equal(got.labels[s], theirs[s].labels_)
                assert got.inertia[s] == theirs[s].inertia_
            assert run(x, 30)[0].max() == len(np.unique(x, axis=0)) - 1, "k is lowered too"


# --- Near-best starts ---


def partitions(every: NDArray[np.integer]) -> set[bytes]:
    """Return the distinct partitions, (P, N), as which pairs of points are together."""
    return {(labels[:, None] == labels).tobytes() for labels in every}


@pytest.mark.parametrize("missing", ["", "no numba"])
@pytest.mark.parametrize(
    ("n", "d", "k", "spread"), [(150, 3, 6, 0), (200, 2, 4, 4), (90, 20, 3, 1), (60, 1, 9, 0)]
)
@pytest.mark.parametrize(("max_iter", "tol"), [(300, 1e-4), (2, 0.0), (300, 0.5)])
def test_near_best_starts_are_those_within_a_hundredth_of_the_least_inertia(
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    n: int,
    d: int,
    k: int,
    spread: float,
    max_iter: int,
    tol: float,
) -> None:
    """With one start per seed all starts are known; the inertia is that of its definition."""
    monkeypatch.setattr(module, "MISSING", missing)
    x, _ = mixture(n, d, k, spread)
    x = np.vstack([x, x[:20]])  # rows that come twice
    every = kmeans(x, k, seeds=range(25), n_init=1, max_iter=max_iter, tol=tol)
    inertia = np.array([inertia_of(x, labels) for labels in every.labels])
    near = inertia <= 1.01 * inertia.min()
    assert every.near_best_starts == near.sum()
    assert every.near_best.dtype == np.int16
    assert len(every.near_best) == len(partitions(every.near_best)), "none comes twice"
    assert partitions(every.near_best) == partitions(every.labels[near])
    for labels in every.near_best:
        first = np.unique(labels, return_index=True)[1]
        assert (np.diff(first) > 0).all(), "numbered in the order of first rows"


def test_scikit_learn_finds_the_same_near_best_partitions() -> None:
    for width, expected in ((1.003, 2), (1.02, 1)):
        x, corner = near_square(width)
        fits = [KMeans(2, n_init=1, random_state=s).fit(x) for s in range(40)]
        least = min(fit.inertia_ for fit in fits)
        theirs = np.stack([fit.labels_ for fit in fits if fit.inertia_ <= 1.01 * least])
        for seed in range(3):
            ours = run(x, 2, seeds=(seed, seed + 1)).near_best
            assert partitions(ours) == partitions(theirs)
            assert len(ours) == expected
            halves = partitions(np.stack([corner // 2, corner % 2])[:expected])
            assert partitions(ours) == halves


def test_near_best_starts_are_of_all_seeds_together() -> None:
    x = noise(150, 3)
    together = run(x, 8, seeds=(0, 1, 2), n_init=3)
    alone = [run(x, 8, seeds=(seed,), n_init=3) for seed in (0, 1, 2)]
    least = min(inertia_of(x, labels) for result in alone for labels in result.near_best)
    assert together.inertia.min() == pytest.approx(least, rel=1e-6)
    every = {
        labels.tobytes(): inertia_of(x, labels) for result in alone for labels in result.near_best
    }
    near = {labels for labels, inertia in every.items() if inertia <= 1.01 * least}
    assert {labels.tobytes() for labels in together.near_best} == near
    assert together.near_best_starts <= sum(result.near_best_starts for result in alone)
