"""Our t-SNE beside scikit-learn's two methods: its stages one by one, then the whole."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE, _t_sne, trustworthiness
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from tasklens.clustering import numba_compile, tsne_affinities, tsne_kernels
from tasklens.clustering import tsne as module
from tasklens.clustering.estimators import KMeans
from tasklens.clustering.sklearn_fallback import sklearn_tsne
from tasklens.clustering.tsne import (
    EXACT_LIMIT,
    Neighbors,
    descent,
    fitting_perplexity,
    learning_rate,
    n_neighbors,
    pca_start,
    uses_numba,
)
from tasklens.clustering.tsne_affinities import Affinities, affinities
from tasklens.core.seeds import stream

Floats = NDArray[np.float32]


def mixture(n: int = 120, k: int = 5, d: int = 8, spread: float = 3) -> Floats:
    random = stream(0, "mixture")
    centres = spread * random.normal(size=(k, d))
    return (centres[random.integers(k, size=n)] + random.normal(size=(n, d))).astype(np.float32)


def digits(n: int = 150) -> Floats:
    return np.array(load_digits().data[:n], dtype=np.float32)


def token_rows(n: int = 200, tokens: int = 20) -> Floats:
    return mixture(tokens)[stream(0, "tokens").integers(tokens, size=n)]


def condensed_p(x: Floats, perplexity: float) -> NDArray[np.float64]:
    """Return scikit-learn's affinities, (N (N - 1) / 2,)."""
    distances = euclidean_distances(x, squared=True)
    p: NDArray[np.float64] = _t_sne._joint_probabilities(distances, perplexity, 0)
    return p


def joint_of_neighbours(x: Floats, perplexity: float) -> NDArray[np.float64]:
    """Return the affinities of scikit-learn's default, (N, N), from distances in float64."""
    k = min(len(x) - 1, int(3 * perplexity + 1))
    search = NearestNeighbors(n_neighbors=k).fit(x.astype(np.float64))
    distances = search.kneighbors_graph(mode="distance")
    distances.data **= 2
    p: NDArray[np.float64] = _t_sne._joint_probabilities_nn(distances, perplexity, 0).toarray()
    return p


def all_affinities(x: Floats, perplexity: float) -> Affinities:
    return affinities(x, len(x) - 1, float(perplexity))


def matrix(p: Affinities) -> NDArray[np.float64]:
    """Return the affinities as (N, N), whichever form they have."""
    if len(p.dense):
        return p.dense.astype(np.float64)
    n = len(p.first) - 1
    once = sparse.csr_array((p.value, p.other.astype(np.int64), p.first), shape=(n, n)).toarray()
    both: NDArray[np.float64] = (once + once.T).astype(np.float64)
    return both


@pytest.fixture(params=["dense", "listed"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make affinities of this form, whatever their number."""
    name: str = request.param
    monkeypatch.setattr(tsne_affinities, "DENSE", 0 if name == "dense" else 1)
    return name


def kl_and_gradient(p: NDArray[np.float64], y: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    """Return scikit-learn's KL divergence and its gradient, (N, 2), in float64."""
    kl, gradient = _t_sne._kl_divergence(y.astype(np.float64).ravel(), p, 1, len(y), 2)
    return float(kl), gradient.reshape(-1, 2)


def listed(p: Affinities) -> Affinities:
    """Return dense affinities as a list."""
    once = sparse.csr_array(np.tril(p.dense, -1))
    first, other = once.indptr.astype(np.int64), once.indices.astype(np.uint32)
    return Affinities(np.zeros((0, 0), np.float32), first, other, once.data)


def our_gradient(p: Affinities, y: Floats, exaggeration: float = 1) -> tuple[Floats, float]:
    """Return the gradient, (N, 2), and Z."""
    rows = np.ascontiguousarray(y.T)
    attraction, repulsion = np.empty_like(rows), np.empty_like(rows)
    z = tsne_kernels.forces(*p, rows, attraction, repulsion)
    return (4 * (exaggeration * attraction - repulsion / z)).T.astype(np.float32), z


def embed(x: Floats, **changes: Any) -> Floats:
    keys: dict[str, Any] = {"neighbors": "auto", "max_iter": 1000, "pca": 0, "seed": 0}
    return module.tsne(x, **(keys | changes))


def spread_points(n: int, scale: float) -> Floats:
    return (scale * stream(0, "points").normal(size=(n, 2))).astype(np.float32)


def relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("u", [0, -1e-6, -0.5, -1, -7.3, -20.49, -80, -125.9])
def test_exp2(u: float) -> None:
    u = float(np.float32(u))
    assert tsne_affinities.exp2(np.float32(u)) == pytest.approx(2**u, rel=2e-7, abs=0)
    assert tsne_affinities.exp2(np.float32(-1e30)) == np.finfo(np.float32).tiny


@pytest.mark.parametrize("u", [1, 1 + 1e-6, 1.4142, 1.4143, 2, 2.9, 1000.5, 1e20, 3e38])
def test_log(u: float) -> None:
    u = float(np.float32(u))
    assert tsne_kernels.log(np.float32(u)) == pytest.approx(math.log(u), rel=2e-7, abs=0)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 63, 64, 65, 1501])
def test_total(n: int) -> None:
    values = stream(0, "values").normal(size=n).astype(np.float32)
    exact, size = math.fsum(values.tolist()), float(np.abs(values).sum())
    assert numba_compile.total(values.astype(np.float64)) == pytest.approx(exact, abs=1e-15 * size)
    assert numba_compile.total(values.copy()) == pytest.approx(exact, abs=1e-7 * size)


@pytest.mark.parametrize(
    ("x", "perplexity"),
    [(mixture(), 5), (mixture(), 40), (digits(), 15), (mixture(12), 5), (mixture(12), 10.9)],
)
def test_affinities_are_scikit_learns(x: Floats, perplexity: float) -> None:
    p = matrix(all_affinities(x, perplexity))
    expected = squareform(condensed_p(x, perplexity))
    np.testing.assert_allclose(p, expected, rtol=3e-4, atol=1e-12)
    assert p.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(p, p.T)


@pytest.mark.parametrize(
    ("x", "perplexity"),
    [(mixture(), 5), (mixture(600), 30), (mixture(300, spread=0), 15), (mixture(12), 2.6)],
)
def test_affinities_of_neighbours_are_scikit_learns(
    x: Floats, perplexity: float, form: str
) -> None:
    p = affinities(x, n_neighbors("auto", perplexity, len(x)), float(perplexity))
    assert bool(len(p.dense)) == (form == "dense")
    got, expected = matrix(p), joint_of_neighbours(x, perplexity)
    np.testing.assert_array_equal(got > 0, expected > 0)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-15)
    kept = expected > 0
    assert np.median(np.abs(got[kept] / expected[kept] - 1)) < 1e-6
    assert got.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(got, got.T)


def test_both_forms_have_the_same_affinities(monkeypatch: pytest.MonkeyPatch) -> None:
    x, forms = mixture(300), []
    for dense in (0, 1):
        monkeypatch.setattr(tsne_affinities, "DENSE", dense)
        forms.append(affinities(x, 31, 10.0))
    assert [len(p.dense) for p in forms] == [300, 0]
    np.testing.assert_array_equal(matrix(forms[0]), matrix(forms[1]))


@pytest.mark.parametrize("k", [1, 30, 49, 199])
def test_equal_distances_are_chosen_from_evenly(k: int) -> None:
    """Each point is a neighbour of as many points, and those nearer than the last tie are in."""
    x = np.repeat(np.eye(4, dtype=np.float32), 50, axis=0)  # 50 equal rows at each of 4 corners
    near = tsne_affinities.conditional(x, k, 1.0)[1].astype(int)  # (N, k)
    assert all(len({*row, i}) == k + 1 for i, row in enumerate(near)), "distinct, and not itself"
    own = (near // 50 == np.arange(200)[:, None] // 50).sum(axis=1)
    assert (own == min(k, 49)).all()
    times = np.bincount(near.ravel(), minlength=200)
    if k <= 49:
        assert (times[1:49] >= k / 2).all()
        assert times.max() <= 2 * k


@pytest.mark.parametrize("perplexity", [1.5, 5.0, 30.0, 100.0])
def test_every_point_has_the_perplexity_asked_for(perplexity: float) -> None:
    x = mixture()
    x[7] += 1000  # far from all others: their weights would underflow but for the shift
    p, near = tsne_affinities.conditional(x, len(x) - 1, perplexity)
    logs = np.log(p, where=p > 0, out=np.zeros_like(p))
    np.testing.assert_allclose(np.exp(-(p * logs).sum(axis=1)), perplexity, rtol=5e-5)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert not (near == np.arange(len(x))[:, None]).any()


def test_equal_rows_share_their_affinities() -> None:
    x = token_rows()
    p = matrix(all_affinities(x, 30))
    assert np.isfinite(p).all()
    first, second = np.flatnonzero((x == x[0]).all(axis=1))[:2]
    others = np.delete(np.arange(len(x)), [first, second])
    # Their neighbours are summed in another order, which changes last bits.
    np.testing.assert_allclose(p[first, others], p[second, others], rtol=1e-6, atol=0)
    assert p[first, second] == p[first].max()


@pytest.mark.parametrize("scale", [1e-4, 1, 30])
@pytest.mark.parametrize("exaggeration", [1, 12])
@pytest.mark.parametrize("form", ["dense", "listed"])
def test_gradient_and_kl_are_scikit_learns(scale: float, exaggeration: float, form: str) -> None:
    """Both forms of all affinities: `repel_and_attract`, and `repel` with `attract`."""
    x = mixture(122)
    dense, expected_p = all_affinities(x, 20), condensed_p(x, 20)
    p = dense if form == "dense" else listed(dense)
    y = spread_points(len(x), scale)
    gradient, z = our_gradient(p, y, exaggeration)
    assert relative(gradient, kl_and_gradient(exaggeration * expected_p, y)[1]) < 1e-4
    entropy = -2 * np.sum(expected_p * np.log(expected_p))
    loss = tsne_kernels.cross_entropy(*p, np.ascontiguousarray(y.T), z)
    assert loss - entropy == pytest.approx(kl_and_gradient(expected_p, y)[0], abs=1e-5)


def test_the_start_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_only(self: Any, *args: Any, X_embedded: Floats, **kwargs: Any) -> Floats:
        return X_embedded

    monkeypatch.setattr(TSNE, "_tsne", start_only)
    seed = 2**32 + 2**31 + 5
    for x in (mixture(600, d=200), mixture(), digits()):
        model = TSNE(method="exact", init="pca", random_state=seed % 2**32)
        np.testing.assert_array_equal(pca_start(x, seed), model.fit_transform(x))


@pytest.mark.parametrize(("exaggeration", "momentum"), [(12, 0.5), (1, 0.8)])
def test_some_steps_are_scikit_learns(exaggeration: float, momentum: float) -> None:
    """Only some: rounding errors grow until the ends differ, in scikit-learn's too."""
    x, steps = digits(300), 10
    p = all_affinities(x, 30)
    start = pca_start(x, 0) if exaggeration > 1 else spread_points(len(x), 5)
    y = np.array(start.T, order="C")
    rate = learning_rate(len(x))
    update, gains = np.zeros_like(y), np.ones_like(y)
    loss, norm = tsne_kernels.descend(
        *p, y, update, gains, steps, float(exaggeration), float(momentum), rate
    )
    expected, kl, _ = _t_sne._gradient_descent(
        _t_sne._kl_divergence,
        start.astype(np.float64).ravel(),
        0,
        steps,
        n_iter_check=50,
        momentum=momentum,
        learning_rate=rate,
        args=[exaggeration * condensed_p(x, 30), 1, len(x), 2],
    )
    assert relative(y.T, expected.reshape(-1, 2)) < 1e-3
    assert relative(y.T, start) > 0.1
    if exaggeration == 1:
        entropy = -2 * np.sum(condensed_p(x, 30) * np.log(condensed_p(x, 30)))
        assert loss - entropy == pytest.approx(kl, abs=1e-4)
    assert norm > 0


#: Losses by iteration.
LOSSES: dict[str, Callable[[int], float]] = {
    "improving": lambda iteration: 1 / iteration,
    "stagnating": lambda iteration: 1.0 if iteration > 400 else 2 - iteration / 400,
    "worsening": float,
}


@pytest.mark.parametrize("max_iter", [250, 275, 1000])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("flat", [set(), {100}, {150, 200}, {500}, {501}])
def test_the_schedule_is_scikit_learns(
    loss: Callable[[int], float], flat: set[int], max_iter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the gradient vanishes at the iterations `flat`."""
    ours: list[tuple[float, float, bool]] = []

    def norm(iteration: int) -> float:
        return 0.0 if iteration in flat else 1.0

    def fake_steps(*arguments: Any) -> Any:
        gains, steps, exaggeration, momentum, rate = arguments[-5:]
        assert rate == 50
        for step in range(steps):
            ours.append((exaggeration, momentum, step == 0 and bool((gains == 1).all())))
        gains += 1
        return loss(len(ours)), norm(len(ours))

    monkeypatch.setattr(tsne_kernels, "descend", fake_steps)
    descent(all_affinities(np.eye(2, dtype=np.float32), 1), np.zeros((2, 2), np.float32), max_iter)

    theirs: list[tuple[float, float, bool]] = []
    real = _t_sne._gradient_descent

    def objective(params: Any, p: Any, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        theirs.append((p[0], momentum, fresh[0]))
        fresh[0] = False
        return loss(len(theirs)), np.full(4, norm(len(theirs)))

    momentum, fresh = 0.0, [True]

    def watched(function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal momentum
        momentum, fresh[0] = kwargs["momentum"], True
        return real(objective, *args, **kwargs)

    monkeypatch.setattr(_t_sne, "_gradient_descent", watched)
    model = TSNE(method="exact", init=np.zeros((2, 2)), max_iter=max_iter, perplexity=1)
    model.fit(np.eye(2, dtype=np.float32))
    scale = theirs[0][0] / 12
    assert [(round(a / scale), b, c) for a, b, c in theirs] == ours


#: Of these the ends differ by a few per cent with the rounding errors, not by more.
SETS = {
    "mixture": (mixture(200), 20),
    "digits": (digits(), 15),
    "two": (mixture(150, 2, 20, 2), 40),
}


def ends_of(x: Floats, p: Affinities, n: int = 10) -> list[Floats]:
    """Return the ends of starts that differ in the last bits."""
    start, random = pca_start(x, 0), stream(0, "starts")
    factors = [1 + i * 1e-6 * random.normal(size=start.shape) for i in [0] + [1] * (n - 1)]
    return [descent(p, (start * f).astype(np.float32), 1000) for f in factors]


def compare_ends(
    x: Floats,
    ends: list[Floats],
    theirs: Floats,
    divergence: Callable[[NDArray[Any]], float],
) -> None:
    """Check ten ends against scikit-learn's, which is a draw among its own."""
    divergences = np.array([divergence(y) for y in ends])
    assert divergences.min() <= 1.02 * divergence(theirs)
    assert np.median(divergences) <= 1.05 * divergence(theirs)
    trust = [trustworthiness(x, y) for y in ends]
    assert max(trust) >= trustworthiness(x, theirs) - 1e-3
    assert np.median(trust) >= trustworthiness(x, theirs) - 5e-3


@pytest.mark.parametrize(("x", "perplexity"), SETS.values(), ids=SETS)
def test_the_end_is_as_good_as_that_of_the_exact_method(x: Floats, perplexity: float) -> None:
    model = TSNE(method="exact", init="pca", perplexity=perplexity, random_state=0)
    their_p = condensed_p(x, perplexity)
    compare_ends(
        x,
        ends_of(x, all_affinities(x, perplexity)),
        model.fit_transform(x),
        lambda y: kl_and_gradient(their_p, y)[0],
    )


def sparse_divergence(p: NDArray[np.float64], y: NDArray[Any]) -> float:
    """Return the KL divergence of affinities (N, N), some of them 0, in float64."""
    q = squareform(1 / (1 + pdist(y.astype(np.float64), "sqeuclidean")))
    kept = p > 0
    return float(np.sum(p[kept] * np.log(p[kept] / (q / q.sum())[kept])))


@pytest.mark.parametrize(("x", "perplexity"), [(mixture(200), 20), (digits(), 15)])
def test_the_end_is_as_good_as_that_of_scikit_learns_default(x: Floats, perplexity: float) -> None:
    """Its angle is small, so that its repulsion is nearly exact, too."""
    their_p = joint_of_neighbours(x, perplexity)
    model = TSNE(angle=0.1, perplexity=perplexity, random_state=0, n_jobs=1)
    compare_ends(
        x,
        ends_of(x, affinities(x, n_neighbors("auto", perplexity, len(x)), perplexity)),
        model.fit_transform(x),
        lambda y: sparse_divergence(their_p, y),
    )


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 1500, 300))
def test_maps_are_those_of_scikit_learns_default_within_its_own_noise(first: int) -> None:
    """KL within 2 %, and the ARI of KMeans on the maps of digits within two standard errors."""
    part = slice(first, first + 600)
    digit = load_digits()
    x, label = digit.data[part].astype(np.float32), digit.target[part]
    their_p = joint_of_neighbours(x, 30)
    numbers: list[list[tuple[float, float, float]]] = []
    p = affinities(x, 91, 30.0)
    for sides in (
        ends_of(x, p, 5),
        [TSNE(angle=0.1, random_state=s, n_jobs=1).fit_transform(x) for s in range(5)],
    ):
        numbers.append(
            [
                (
                    sparse_divergence(their_p, y),
                    float(trustworthiness(x, y)),
                    adjusted_rand_score(label, KMeans(10, random_state=0).fit_predict(y)),
                )
                for y in sides
            ]
        )
    ours, theirs = np.array(numbers)  # (5, 3) each
    kl, trust, ari = ours.mean(axis=0)
    their_kl, their_trust, their_ari = theirs.mean(axis=0)
    assert kl == pytest.approx(their_kl, rel=0.02)
    assert trust == pytest.approx(their_trust, abs=2e-3)
    noise = np.sqrt((ours[:, 2].var(ddof=1) + theirs[:, 2].var(ddof=1)) / 5)
    assert abs(ari - their_ari) <= 2 * noise + 0.05


def test_mirrored_and_moved() -> None:
    x = digits()
    p, start = all_affinities(x, 15), pca_start(x, 0)
    np.testing.assert_array_equal(p.dense, all_affinities(x + 64, 15).dense)
    mirror = np.array([-1, 1], dtype=np.float32)
    np.testing.assert_array_equal(descent(p, start * mirror, 300), descent(p, start, 300) * mirror)
    y = spread_points(len(x), 4)
    assert relative(our_gradient(p, y + 8)[0], our_gradient(p, y)[0]) < 1e-4
    assert np.abs(our_gradient(p, y)[0].sum(axis=0)).max() < 1e-6


def test_threads_layout_and_flags_change_no_byte() -> None:
    x = mixture(600, d=300)
    read_only = x.copy()
    read_only.flags.writeable = False
    ends = []
    for threads, points in ((1, x), (2, x), (None, np.asfortranarray(x)), (2, read_only)):
        with threadpool_limits(limits=threads):
            end = embed(points, perplexity=30, max_iter=275, pca=20)
            assert end.flags.c_contiguous
            ends.append(end.tobytes())
    assert len(set(ends)) == 1
    assert x.tobytes() == read_only.tobytes()


def test_scikit_learn_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the same affinities, also if all are kept."""
    assert uses_numba(EXACT_LIMIT, "auto")
    assert not uses_numba(EXACT_LIMIT + 1, "auto")
    assert uses_numba(EXACT_LIMIT + 1, "all")
    x = mixture(60)
    keys: dict[str, Any] = {"perplexity": 10, "max_iter": 250, "seed": 3}
    near = sklearn_tsne(x, method="barnes_hut", **keys)
    every = sklearn_tsne(x, method="exact", **keys)
    assert not np.array_equal(embed(x, **keys), near)
    with monkeypatch.context() as patch:
        patch.setattr(module, "EXACT_LIMIT", 59)
        np.testing.assert_array_equal(embed(x, **keys), near)
        assert not np.array_equal(embed(x, neighbors="all", **keys), every)
    monkeypatch.setattr(numba_compile, "MISSING", "numba cannot be imported")
    np.testing.assert_array_equal(embed(x, **keys), near)
    np.testing.assert_array_equal(embed(x, neighbors="all", **keys), every)


def test_equal_rows_leave_nothing_to_embed() -> None:
    y = embed(np.ones((20, 3), np.float32), perplexity=5, max_iter=250, pca=2)
    np.testing.assert_array_equal(y, np.zeros((20, 2), np.float32))


@pytest.mark.parametrize(
    ("x", "perplexity"),
    [
        (mixture(12), 5),
        (mixture(12), 11.5),  # more than there are neighbours: they weigh the same
        (mixture(2), 1),
        (mixture(3), 1),
        (mixture(50, d=1), 10),
        (token_rows(tokens=2), 50),
        (token_rows(), 50),
        (1e-6 * mixture(), 20),
        (1e6 * mixture(), 20),
    ],
)
@pytest.mark.parametrize("neighbors", ["auto", "all"])
def test_small_and_odd_cells(x: Floats, perplexity: float, neighbors: Neighbors) -> None:
    y = embed(x, perplexity=perplexity, neighbors=neighbors, max_iter=500)
    assert y.shape == (len(x), 2)
    assert np.isfinite(y).all()
    assert np.ptp(y) > 0


def test_equal_rows_end_together() -> None:
    x = token_rows()
    y = embed(x, perplexity=30, neighbors="all")
    groups = [y[(x == row).all(axis=1)] for row in np.unique(x, axis=0)]
    assert max(np.ptp(group, axis=0).max() for group in groups) < 0.1 * np.ptp(y)


@pytest.mark.parametrize(
    ("perplexity", "n", "fitting"),
    [(50, 151, 50), (50, 150, 149 / 3), (5, 4, 1), (5, 2, 1), (5, 1, 1)],
)
def test_a_perplexity_is_at_most_a_third_of_the_other_points(
    perplexity: float, n: int, fitting: float
) -> None:
    assert fitting_perplexity(perplexity, n) == pytest.approx(fitting)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("neighbors", ["auto", "all"])
def test_very_few_points_have_a_map(n: int, neighbors: Neighbors) -> None:
    y = embed(mixture(n), perplexity=fitting_perplexity(50, n), neighbors=neighbors)
    assert y.shape == (n, 2)
    assert np.isfinite(y).all()
    assert len(np.unique(y, axis=0)) == n
