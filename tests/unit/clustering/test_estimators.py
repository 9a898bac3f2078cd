"""KMeans and t-SNE as scikit-learn's estimators: its own checks, and its own estimators."""

import numpy as np
import pytest
import sklearn.cluster
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from planted import near_square
from tasklens.clustering.estimators import TSNE, KMeans
from tasklens.core.errors import InputError


@pytest.mark.filterwarnings("ignore")  # some checks warn on purpose
@parametrize_with_checks(
    [KMeans(n_clusters=3, n_init=2, random_state=0), TSNE(perplexity=5, random_state=0)]
)  # type: ignore[untyped-decorator]
def test_it_keeps_the_contract_of_scikit_learn(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def test_kmeans_ends_where_scikit_learn_does() -> None:
    x, blob = make_blobs(300, centers=6, n_features=5, random_state=1)
    ours = KMeans(6, random_state=0).fit(x)
    theirs = sklearn.cluster.KMeans(6, n_init=10, random_state=0).fit(x)
    assert adjusted_rand_score(theirs.labels_, ours.labels_) == 1
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-5)
    order = [ours.labels_[theirs.labels_ == k][0] for k in range(6)]
    assert ours.cluster_centers_[order] == pytest.approx(theirs.cluster_centers_, rel=1e-4)
    assert adjusted_rand_score(blob, ours.labels_) > 0.9
    new, _ = make_blobs(50, centers=6, n_features=5, random_state=1)
    assert np.array_equal(order, ours.predict(theirs.cluster_centers_))
    assert ours.transform(new)[:, order] == pytest.approx(theirs.transform(new), rel=1e-4)


def test_near_best_partitions_are_there_to_be_scored() -> None:
    x, corner = near_square()
    fit = KMeans(2, random_state=0).fit(x)
    assert fit.near_best_.dtype == np.int32
    scores = [adjusted_rand_score(corner // 2, labels) for labels in fit.near_best_]
    assert sorted(scores) == pytest.approx([adjusted_rand_score(corner // 2, corner % 2), 1])
    assert any(np.array_equal(fit.labels_, labels) for labels in fit.near_best_)


def test_estimators_leave_the_global_generator_alone() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.random.seed(0)  # noqa: NPY002
    KMeans(3, n_init=1).fit(x)
    TSNE(perplexity=5, max_iter=250).fit(x)
    next_number = np.random.random()  # noqa: NPY002
    assert next_number == np.random.RandomState(0).random()


def test_a_seed_repeats_and_none_does_not() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    first, again = (KMeans(20, n_init=1, random_state=3).fit(x) for _ in range(2))
    assert np.array_equal(first.labels_, again.labels_)
    fresh = {KMeans(20, n_init=1).fit(x).inertia_ for _ in range(5)}
    assert len(fresh) > 1


def test_in_a_pipeline() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    assert make_pipeline(StandardScaler(), KMeans(3, random_state=0)).fit_predict(x).shape == (40,)
    assert make_pipeline(StandardScaler(), TSNE(perplexity=5)).fit_transform(x).shape == (40, 2)


def test_too_few_distinct_rows_warn() -> None:
    x = np.repeat(np.eye(3), 5, axis=0)
    with pytest.warns(
        ConvergenceWarning, match="3 distinct clusters are fewer than n_clusters = 5"
    ):
        fit = KMeans(5, random_state=0).fit(x)
    assert fit.labels_.tolist() == np.repeat([0, 1, 2], 5).tolist()
    assert fit.inertia_ == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (KMeans(0), r"n_clusters = 0: should be a whole number in 1 \.\. 10"),
        (KMeans(11), r"n_clusters = 11: should be a whole number in 1 \.\. 10"),
        (KMeans(2.5), r"n_clusters = 2\.5: should be"),  # type: ignore[arg-type]
        (KMeans(3, n_init=0), r"n_init = 0: should be a whole number in 1 \.\."),
        (KMeans(3, tol=-1), "tol = -1: should be at least 0"),
        (KMeans(3, random_state=-1), "random_state = -1: should be"),
        (TSNE(), r"perplexity = 30\.0: should be at least 1 and less than n_samples = 10"),
        (TSNE(perplexity=3, max_iter=10), r"max_iter = 10: should be a whole number in 250 \.\."),
        (TSNE(perplexity=3, neighbors="some"), "neighbors = 'some': should be 'auto' or 'all'"),  # type: ignore[arg-type]
        (TSNE(perplexity=3, pca=-1), "pca = -1: should be"),
    ],
)
def test_a_wrong_parameter_is_refused(estimator: KMeans | TSNE, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimator.fit(np.random.default_rng(0).normal(size=(10, 3)))
