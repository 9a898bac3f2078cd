"""Test whether clusters are tasks or outputs.

    python docs/scripts/shared_outputs.py RUN [RUN ...]

For each block at the end of training it prints two shares of the pairs of unseen instances with the
same output: of pairs with two tasks, the share that KMeans separates; of pairs with one task, the
share that it keeps together. Clusters that were outputs would separate no pair.
"""

import sys
from pathlib import Path

import numpy as np

from tasklens.runs.load_run import load_run

SPLIT = "val_subset"


def shares(path: Path) -> dict[str, tuple[float, float]]:
    """Return {block: (share of pairs separated, share kept together)} of a run."""
    run = load_run(path)
    known, output = run.instances_by_split[SPLIT], run.targets(run.steps[-1])[SPLIT]
    same_output = output[:, None] == output
    same_task = known.task[:, None] == known.task
    other = ~np.eye(len(known.task), dtype=bool)
    clusters = run.clusters(run.steps[-1])
    kept = {}
    for block in (name for name in run.state_names if name.startswith("block")):
        labels = clusters[f"{SPLIT}/{block}/raw/labels"][0]
        same_cluster = labels[:, None] == labels
        separated = 1 - same_cluster[same_output & ~same_task].mean()
        together = same_cluster[same_output & same_task & other].mean()
        kept[block] = (float(separated), float(together))
    return kept


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for block, (separated, together) in shares(Path(name)).items():
            print(
                f"{name}  {block}  other task separated {separated:.2f}, "
                f"same task together {together:.2f}"
            )
