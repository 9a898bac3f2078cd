"""Measure neighbours, and draw three maps: `python docs/scripts/maps_of_run.py runs/default`.

It writes docs/data/neighbours.csv and docs/images/tsne_run.png, of the blocks at the last
checkpoint on unseen pairs. `python docs/scripts/make_explanations.py` puts the numbers into the
page.
"""

import sys

import numpy as np
import pandas as pd
from make_explanations import DATA, IMAGES, small_png
from matplotlib.figure import Figure
from worked.neighbours import draw_map, facts, maps_of

from tasklens.report.style import in_style, new_figure, render
from tasklens.report.summary import mean_scores
from tasklens.runs.load_run import load_run
from tasklens.runs.run import Run

SPLIT, SEEN = "val_subset", "train_subset"
DRAWN = ("block3", "block5")


def neighbours(run: Run) -> pd.DataFrame:
    """Return the facts of each block, a row per block."""
    known = run.instances(SPLIT)
    task, x = (np.unique(each, return_inverse=True)[1] for each in (known.task, known.input))
    blocks = [name for name in run.state_names if name.startswith("block")]
    scores = mean_scores(run.score_table(), SPLIT, "ari")  # those that the page of the run shows
    rows = []
    for name in blocks:
        ari = {"ARI of the states": scores[name, run.steps[-1]]}
        rows.append({"state": name, **facts(run.states(name, split=SPLIT), task, x), **ari})
    return pd.DataFrame(rows)


@in_style
def draw_run_maps(run: Run, ari: dict[str, float]) -> Figure:
    """Draw the maps of two blocks, with the ARI of their states."""
    task, seen = (
        np.unique(run.instances(split).task, return_inverse=True)[1] for split in (SPLIT, SEEN)
    )
    figure = new_figure(5.2, 3.5)
    for line, name in zip(figure.subplots(2, 3), DRAWN, strict=True):
        maps = maps_of(run.states(name, split=SEEN), seen, run.states(name, split=SPLIT))
        for ax, (title, flat) in zip(line, maps.items(), strict=True):
            draw_map(ax, flat, task, title)
        line[0].set_ylabel(f"{name}, ARI {ari[name]:.2f}")
    figure.tight_layout(pad=0.4)
    return figure


if __name__ == "__main__":
    run = load_run(sys.argv[1])
    table = neighbours(run)
    table.to_csv(DATA / "neighbours.csv", index=False, float_format="%.4f")
    ari = dict(zip(table["state"], table["ARI of the states"], strict=True))
    (IMAGES / "tsne_run.png").write_bytes(small_png(render(draw_run_maps(run, ari), "png")))
