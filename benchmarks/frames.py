"""Maps that are comparable over time, against a fresh t-SNE at every checkpoint of a run.

Of some states of a run (its directory): how far the median point moves from checkpoint to
checkpoint, in deviations of the map, over all checkpoints and over the last five, either map laid
on the one before as well as turning and mirroring can; how well neighbours are kept
(trustworthiness of 10); and the seconds a map takes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.manifold import trustworthiness

from tasklens.clustering.map_frames import first_frame, laid_on, next_frame
from tasklens.report.view import ReportSettings
from tasklens.runs.directory import RunDir
from tasklens.runs.measuring import load_states
from tasklens.runs.sources import open_source


def main() -> None:
    """Measure, and print a line for each state and way."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--states", default="embed,block2,block4,block5,block6")
    options.add_argument("--split", default="val_subset")
    asked = options.parse_args()
    source, report = open_source(asked.run), ReportSettings()
    perplexity = report.perplexity
    print(f"{'state':8} {'map':6} {'moves':>7} {'last':>7} {'trustworthiness':>16} {'s':>6}")
    for state in asked.states.split(","):
        xs = [
            load_states(RunDir(asked.run), step)[f"{asked.split}/{state}"] for step in source.steps
        ]
        for name in ("ours", "fresh"):
            y = first_frame(xs[0], perplexity=perplexity, seed=0)
            moved, kept, seconds = [], [], []
            for x in xs[1:]:
                began, before = time.perf_counter(), y
                if name == "ours":
                    y = next_frame(x, before, perplexity=perplexity, stay=report.stay, seed=0)
                else:
                    y = laid_on(first_frame(x, perplexity=perplexity, seed=0), before)
                seconds.append(time.perf_counter() - began)
                deviation = np.sqrt(y.var(axis=0).sum())
                moved.append(np.median(np.linalg.norm(y - before, axis=1)) / deviation)
                kept.append(trustworthiness(x, y, n_neighbors=10))
            numbers = f"{np.mean(moved):7.2f} {np.mean(moved[-5:]):7.2f} {np.mean(kept):16.3f}"
            print(f"{state:8} {name:6} {numbers} {np.mean(seconds):6.2f}", flush=True)


if __name__ == "__main__":
    main()
