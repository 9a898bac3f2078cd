"""Predict the task from a hidden state by classifiers that learn from the tasks of one split.

A hidden state can contain the task without clusters: then a classifier finds it and KMeans does
not. Both are classifiers of scikit-learn. Theirs take twice as long: they check arrays that were
checked before, and compute all distances in float64.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from tasklens.clustering.kmeans import distinct
from tasklens.clustering.numba_compile import one_thread
from tasklens.data.instances import Instances
from tasklens.scoring.score_table import Row, score_rows

NEIGHBOURS = 10
#: Strengths of the ridge penalty; leave-one-out chooses one of them.
ALPHAS = np.logspace(-2, 4, 7)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Probed(NamedTuple):
    """Scores of the classifiers of a hidden state."""

    rows: list[Row]
    decoded: dict[str, npt.NDArray[np.bool_]]
    """Whether the linear classifier predicts the task, (N,), by split."""


def score_probes(
    state: str,
    states: Mapping[str, Floats],
    *,
    instances: Mapping[str, Instances],
    run: str,
    seed: int,
    step: int,
    position: str,
) -> Probed:
    """Learn the task from a hidden state on the first split, and predict it on the others.

    ``states`` has the hidden state on each split, (N, D). There are, per other split:

    - `probe_task`: the accuracy of a linear classifier. It is ridge regression on the standardised
      state; leave-one-out chooses the penalty.
    - `centroid_task`: the accuracy of the nearest mean state of a task on the first split.
    - `neighbours_task`: the accuracy of a vote among the `NEIGHBOURS` nearest instances of the
      first split.

    The accuracy by chance is one divided by the number of tasks. It is left out on a split of other
    tasks than the first: nothing that learns those of the first can name them. On each split, the
    first included, there is also:

    - `nc4`: the share of instances of which the linear classifier and the nearest mean state
      predict the same task, whether it is theirs or not. It is NC4 of Papyan, Han and Donoho, PNAS
      117, 2020, with this classifier instead of the network's last layer. That layer predicts
      tokens, not tasks.
    """
    seen, *others = states
    x, (names, task) = states[seen], np.unique(instances[seen].task, return_inverse=True)
    predict = fit_linear(x, instances[seen].task)
    columns: dict[str, Any] = {"run": run, "seed": seed, "step": step}
    columns |= {"position": position, "layer": state}
    probed = Probed([], {})
    with one_thread():
        for split, queries in states.items():
            guesses = {
                "probe_task": predict(queries),
                "centroid_task": names[nearest_centroid(x, task, queries)],
            }
            agreed = guesses["probe_task"] == guesses["centroid_task"]
            values = {"nc4": float(np.mean(agreed))}
            if split in others and np.isin(instances[split].task, names).any():
                guesses["neighbours_task"] = names[vote(x, task, queries, NEIGHBOURS)]
                right = {name: guess == instances[split].task for name, guess in guesses.items()}
                values |= {name: float(np.mean(each)) for name, each in right.items()}
                probed.decoded[split] = right["probe_task"]
            probed.rows.extend(score_rows(values, **columns, split=split))
    return probed


def fit_linear(x: Floats, labels: npt.NDArray[Any]) -> Callable[[Floats], npt.NDArray[Any]]:
    """Return a function that predicts the label of states, (M, D), after learning from (N, D).

    It is ridge regression on the standardised state; leave-one-out chooses the penalty. ``labels``
    are (N,), of two distinct values or more.
    """
    names, number = np.unique(labels, return_inverse=True)
    with one_thread():
        mean, scale = _standard(x)
        weights, intercept = ridge((x - mean) / scale, number)

    def predict(states: Floats) -> npt.NDArray[Any]:
        with one_thread():
            linear = (states - mean) / scale @ weights + intercept  # (M, K)
        return names[linear.argmax(axis=1)]  # type: ignore[no-any-return]

    return predict


def _standard(x: Floats) -> tuple[Floats, Floats]:
    """Return the mean and the standard deviation of each column of (N, D), as `StandardScaler`.

    The deviation of a column that varies no more than by rounding is 1.
    """
    mean = x.mean(axis=0, dtype=np.float64)  # (D,)
    deviation = x.std(axis=0, dtype=np.float64)
    rounding = len(x) * np.finfo(np.float64).eps
    constant = deviation**2 <= rounding * deviation**2 + (rounding * mean) ** 2
    return mean.astype(np.float32), np.where(constant, 1, deviation).astype(np.float32)


def ridge(z: Floats, task: Ints) -> tuple[Floats, Floats]:
    """Return the weights, (D, K), and the intercepts, (K,), of `RidgeClassifierCV`.

    ``z`` is (N, D), ``task`` (N,) in 0 .. K - 1. The target of each task is 1, and -1 for others.
    Of `ALPHAS`, the one with the least mean squared error of leave-one-out is chosen: Rifkin and
    Lippert, "Notes on Regularized Least Squares", 2007. One eigendecomposition serves all.
    """
    target = 2.0 * (task[:, None] == np.arange(task.max() + 1)) - 1  # (N, K)
    mean, x = target.mean(axis=0), z.astype(np.float64)
    offset = x.mean(axis=0)
    x -= offset
    target -= mean
    n, d = x.shape
    values, vectors = np.linalg.eigh(x.T @ x if n > d else x @ x.T)
    basis = x @ vectors if n > d else vectors  # (N, M), M the smaller of N and D
    along = basis.T @ target  # (M, K)
    squares, least = basis**2, np.inf
    for alpha in ALPHAS:
        gain = 1 / (values + alpha)
        fit, leverage = basis @ (gain[:, None] * along), squares @ gain  # (N, K), (N,)
        # What is left of the target; fewer rows than columns are fitted so well that a difference
        # would lose all digits.
        rest, room = (target - fit, 1 - leverage) if n > d else (alpha * fit, alpha * leverage)
        error = np.mean((rest / (room - 1 / n)[:, None]) ** 2)
        if error < least:
            least, chosen = error, gain[:, None] * along
    weights = vectors @ chosen if n > d else x.T @ (vectors @ chosen)  # (D, K)
    return weights.astype(np.float32), (mean - offset @ weights).astype(np.float32)


def nearest_centroid(x: Floats, task: Ints, queries: Floats) -> Ints:
    """Return the task whose mean state is the nearest to each query, the first if equal.

    ``x`` is (N, D), ``task`` (N,) in 0 .. K - 1, ``queries`` (M, D); the result is (M,), that of
    `NearestCentroid`.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    member = task == np.arange(task.max() + 1)[:, None]  # (K, N)
    centroids = member @ (x - mean) / member.sum(axis=1, keepdims=True)  # (K, D)
    along = (queries - mean) @ centroids.T  # (M, K)
    nearest: Ints = (2 * along - (centroids**2).sum(axis=1)).argmax(axis=1)
    return nearest


def vote(x: Floats, task: Ints, queries: Floats, k: int) -> Ints:
    """Return the task of most of the `k` nearest rows of `x` for each query, the first if equal.

    ``x`` is (N, D), ``task`` (N,) in 0 .. K - 1, ``queries`` (M, D); the result is (M,), that of
    `KNeighborsClassifier`. Fewer rows than `k` all vote.
    """
    queries, _, row = distinct(queries)
    voters = task[_nearest(x, queries, min(k, len(x)))]  # (M, k)
    return majority(voters, int(task.max()) + 1)[row]


def majority(voters: Ints, n_tasks: int) -> Ints:
    """Return the task, in 0 .. `n_tasks` - 1, of most of each row's voters, the first if equal.

    ``voters`` are (M, k); the result is (M,).
    """
    number = np.arange(len(voters))[:, None] * n_tasks + voters
    votes = np.bincount(number.ravel(), minlength=len(voters) * n_tasks)
    winner: Ints = votes.reshape(-1, n_tasks).argmax(axis=1)
    return winner


def _nearest(x: Floats, queries: Floats, k: int) -> Ints:
    """Return the indices of the `k` rows of `x`, (N, D), that are nearest to each query: (M, k).

    They are found in float32. If its rounding could decide, scikit-learn finds them in float64.
    """
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    points, centres = x - mean, queries - mean
    nearest, sure = np.empty((len(queries), k), np.int64), np.empty(len(queries), np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):  # such distances are not sure
        square, length = ((each**2).sum(axis=1) for each in (points, centres))  # (N,), (M,)
        # Twice the error of a sum of D products, and some more.
        error = (x.shape[1] + 8) * np.finfo(np.float32).eps * (length[:, None] + 2 * square.max())
        size = max(64, 2**18 // len(x))  # so that memory does not grow with M * N
        for part in (slice(first, first + size) for first in range(0, len(queries), size)):
            distance = -2 * centres[part] @ points.T  # (m, N)
            distance += square  # less the squared length of the query
            last = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]  # (m, 1)
            near = distance <= last + error[part]
            sure[part] = np.count_nonzero(near, axis=1) == k
            chosen = np.flatnonzero(near[sure[part]]) % len(x)  # faster than nonzero of a matrix
            nearest[part][sure[part]] = chosen.reshape(-1, k)
    if not sure.all():
        exact = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=1).fit(x)
        nearest[~sure] = exact.kneighbors(queries[~sure], return_distance=False)
    return nearest
