"""Compare our t-SNE with scikit-learn's over states and seeds: `tsne_quality.py RUN`.

Of a run's last checkpoint, states of `val_subset` and `train_subset` are embedded with several
seeds: by us, by scikit-learn's default, and by scikit-learn with a small angle, which nearly makes
its repulsion exact. One line for each state and side has means over the seeds and their standard
deviations: the KL divergence from scikit-learn's affinities of near neighbours, the trustworthiness
of 10 neighbours, and the ARI of KMeans on the map with the task. The last lines compare the sides:
the mean over the states of the differences of these means, with its standard error.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from numpy.typing import NDArray
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import adjusted_rand_score
from tsne import affinities, divergence

from tasklens.clustering.kmeans import kmeans
from tasklens.clustering.tsne import n_neighbors, tsne
from tasklens.core.workers import default_workers
from tasklens.runs.load_run import load_run

SPLITS = ("val_subset", "train_subset")
#: Angles of scikit-learn's Barnes-Hut method, by side; None is ours.
SIDES = {"ours": None, "default": 0.5, "small angle": 0.1}


def embed(x: NDArray[np.float32], perplexity: float, seed: int, angle: float | None) -> Any:
    """Return the map (N, 2) of the states (N, D)."""
    if angle is None:
        return tsne(x, perplexity=perplexity, neighbors="auto", max_iter=1000, pca=0, seed=seed)
    model = TSNE(perplexity=perplexity, angle=angle, random_state=seed, n_jobs=1)
    return model.fit_transform(x)


def judge(
    x: NDArray[np.float32], p: Any, task: Any, perplexity: float, seed: int, angle: float | None
) -> tuple[float, float, float]:
    """Return the KL divergence, the trustworthiness and the ARI of one map."""
    y = np.ascontiguousarray(embed(x, perplexity, seed, angle), dtype=np.float32)
    k = len(np.unique(task))
    labels = kmeans(y, k, seeds=[seed], n_init=10, max_iter=300, tol=1e-4).labels[0]
    ari = float(adjusted_rand_score(task, labels))
    return divergence(p, y), float(trustworthiness(x, y, n_neighbors=10)), ari


def main() -> None:
    """Measure, and print the lines."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--states", default="block2,block3,block4,block5,block6")
    options.add_argument("--perplexity", type=float, default=50.0)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--processes", type=int, default=default_workers())
    asked = options.parse_args()
    run, perplexity = load_run(asked.run), asked.perplexity
    means: dict[str, list[NDArray[np.float64]]] = {side: [] for side in SIDES}
    print(f"{'split':13} {'state':7} {'side':12} {'KL':>16} {'trust':>16} {'ARI':>16}")
    for split in SPLITS:
        task = run.instances_by_split[split].task
        for state in asked.states.split(","):
            x = np.array(run.states(state, run.steps[-1])[run.splits[split]])
            p = affinities(x, perplexity, n_neighbors("auto", perplexity, len(x)))
            for side, angle in SIDES.items():
                jobs = (
                    delayed(judge)(x, p, task, perplexity, seed, angle)
                    for seed in range(asked.seeds)
                )
                values = np.array(Parallel(n_jobs=asked.processes)(jobs))  # (seeds, 3)
                means[side].append(values.mean(axis=0))
                numbers = " ".join(
                    f"{mean:8.4f} ± {deviation:5.4f}"
                    for mean, deviation in zip(values.mean(axis=0), values.std(axis=0), strict=True)
                )
                print(f"{split:13} {state:7} {side:12} {numbers}", flush=True)
    ours = np.array(means.pop("ours"))  # (states, 3)
    for side, other in means.items():
        theirs = np.array(other)
        relative = ours[:, 0] / theirs[:, 0] - 1
        print(
            f"KL ours / {side} - 1: {relative.mean():+.2%}, {relative.min():+.2%} to "
            f"{relative.max():+.2%}"
        )
        for name, difference in zip(("trust", "ARI"), (ours - theirs)[:, 1:].T, strict=True):
            error = difference.std(ddof=1) / len(difference) ** 0.5
            print(
                f"{name} ours - {side}: {difference.mean():+.4f} ± {error:.4f}, "
                f"{difference.min():+.4f} to {difference.max():+.4f}"
            )


if __name__ == "__main__":
    main()
