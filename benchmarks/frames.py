"""Compare maps that follow each other with a fresh t-SNE at every checkpoint of a run.

For some states of a run (its directory), three things are printed. The first is how far the median
point moves between checkpoints, in deviations of the map, over all of them and over the last five.
Each map is first turned and mirrored to fit the one before. The second is the trustworthiness of 10
neighbours, the third the silhouette of the tasks on the last map, the fourth the seconds per map.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score

from tasklens.clustering.map_frames import first_frame, laid_on, next_frame
from tasklens.report.view import ReportSettings
from tasklens.runs.load_run import load_run


def main() -> None:
    """Measure, and print one line for each state and each kind of map."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--states", default="embed,block2,block4,block5,block6")
    options.add_argument("--split", default="val_subset")
    options.add_argument("--exaggeration", type=float, default=ReportSettings().exaggeration)
    asked = options.parse_args()
    run, report = load_run(asked.run), ReportSettings()
    keys = {"perplexity": report.perplexity, "exaggeration": asked.exaggeration, "seed": 0}
    task = run.instances(asked.split).task
    head = f"{'trustworthiness':>16} {'silhouette':>11} {'s':>6}"
    print(f"{'state':8} {'map':6} {'moves':>7} {'last':>7} {head}")
    for state in asked.states.split(","):
        rows = run.splits[asked.split]
        xs = [np.array(run.states(state, step)[rows]) for step in run.steps]
        for name in ("ours", "fresh"):
            y = first_frame(xs[0], **keys)
            moved, kept, seconds = [], [], []
            for x in xs[1:]:
                began, before = time.perf_counter(), y
                if name == "ours":
                    y = next_frame(x, before, stay=report.stay, **keys)
                else:
                    y = laid_on(first_frame(x, **keys), before)
                seconds.append(time.perf_counter() - began)
                deviation = np.sqrt(y.var(axis=0).sum())
                moved.append(np.median(np.linalg.norm(y - before, axis=1)) / deviation)
                kept.append(trustworthiness(x, y, n_neighbors=10))
            numbers = f"{np.mean(moved):7.2f} {np.mean(moved[-5:]):7.2f} {np.mean(kept):16.3f}"
            gaps = f"{silhouette_score(y, task):11.2f} {np.mean(seconds):6.2f}"
            print(f"{state:8} {name:6} {numbers} {gaps}", flush=True)


if __name__ == "__main__":
    main()
