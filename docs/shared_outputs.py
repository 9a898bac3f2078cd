"""Are the last block's clusters tasks, or outputs? `python docs/shared_outputs.py RUN [RUN ...]`.

Of pairs of unseen instances that have one output and two tasks it prints, for each block at the
end of training, the share that KMeans keeps apart; of pairs with one output and one task, the share
that it keeps together. Clusters that were outputs would keep none of the first apart.
"""

import sys
from pathlib import Path

import numpy as np

from tasklens.runs.load_run import load_run

SPLIT = "val_subset"


def shares(path: Path) -> dict[str, tuple[float, float]]:
    """Return {block: (share of pairs kept apart, share kept together)} of a run."""
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
        apart = 1 - same_cluster[same_output & ~same_task].mean()
        together = same_cluster[same_output & same_task & other].mean()
        kept[block] = (float(apart), float(together))
    return kept


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for block, (apart, together) in shares(Path(name)).items():
            print(
                f"{name}  {block}  other task apart {apart:.2f}, same task together {together:.2f}"
            )
