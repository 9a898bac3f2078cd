"""Plant the curves of stages of one model, whose scores are known."""

import numpy as np

from tasklens.data.instances import JUDGED
from tasklens.findings.curves import Curves
from tasklens.scoring.score_table import CONTROLS

NAMES = {0: "untrained", 1: "base", 2: "sft", 3: "dpo"}
#: ARI of each layer, in the order of `NAMES`.
ARI = {
    "embed": (0.0, 0.0, 0.0, 0.0),
    "block1": (0.1, 0.2, 0.6, 0.7),
    "block2": (0.05, 0.1, 0.9, 0.8),
}
DECODED = (0.25, 0.3, 0.9, 0.95)


def planted_stages() -> Curves:
    """Return the curves of a base model that has no clusters, and of two stages that have some."""
    noise = np.append(0.0, np.random.default_rng(0).normal(0, 0.01, 200))  # (B,)
    majority = dict.fromkeys(JUDGED, 0.25)
    curves = Curves("mine", 0, tuple(NAMES), step_names=NAMES, majority=majority)
    for split in JUDGED:
        for layer, values in ARI.items():
            curves.ari[split, layer, "raw"] = np.add.outer(noise, values)
            curves.decoded[split, layer] = np.add.outer(noise, DECODED)
        for control in CONTROLS:
            curves.controls[split, control] = 0 * noise
    return curves
