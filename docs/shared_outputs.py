"""Are the last block's clusters tasks, or outputs? `python docs/shared_outputs.py RUN [RUN ...]`.

Of pairs of unseen instances that have one output and two tasks it prints, for each block at the
end of training, the share that KMeans keeps apart; of pairs with one output and one task, the share
that it keeps together. Clusters that were outputs would keep none of the first apart.
"""

import sys
from pathlib import Path

import numpy as np

from tasklens.data.instances import instances_of
from tasklens.runs.directory import RunDir
from tasklens.runs.experiment import load_dataset
from tasklens.runs.measuring import load_clusters
from tasklens.runs.settings import TrainingRunSettings, read_settings

SPLIT = "val_subset"


def shares(path: Path) -> dict[str, tuple[float, float]]:
    """Return {block: (share of pairs kept apart, share kept together)} of a run."""
    run = RunDir(path)
    settings = read_settings(run.config, TrainingRunSettings)
    dataset = load_dataset(run)
    known, output = instances_of(dataset, SPLIT), dataset.splits[SPLIT].output
    same_output = output[:, None] == output
    same_task = known.task[:, None] == known.task
    other = ~np.eye(len(known.task), dtype=bool)
    clusters = load_clusters(run, settings.train.steps)
    found = {}
    for i in range(settings.model.n_layer):
        labels = clusters[f"{SPLIT}/block{i + 1}/raw/labels"][0]
        same_cluster = labels[:, None] == labels
        apart = 1 - same_cluster[same_output & ~same_task].mean()
        together = same_cluster[same_output & same_task & other].mean()
        found[f"block{i + 1}"] = (float(apart), float(together))
    return found


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for block, (apart, together) in shares(Path(name)).items():
            print(
                f"{name}  {block}  other task apart {apart:.2f}, same task together {together:.2f}"
            )
