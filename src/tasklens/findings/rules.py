"""Define the findings and their rules: statistics, thresholds and reasons.

The findings are those of Wu and Varshney, "Clusters Emerge in Transformer-based Causal Language
Models" (arXiv 2402.12151).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasklens.findings import statistics
from tasklens.findings.curves import Curves
from tasklens.findings.statistics import TRAIN
from tasklens.scoring.bootstrap import Floats

PAIRS, INSTRUCTIONS = "val_subset", "val_instruction_subset"
SEEN_AND_UNSEEN, UNSEEN = (TRAIN, PAIRS), (PAIRS, INSTRUCTIONS)

FINDINGS = {
    "emergence": "ARI in the upper layers rises through training",
    "saturation": "the ARI saturates at a high value",
    "depth": "higher layers have a higher ARI",
    "depth below the last block": "without the last block, higher layers have a higher ARI",
    "baseline": "the ARI of embed stays low and hardly changes",
    "generalisation": "the ARI on unseen data follows the ARI on training data",
    "gradual": "the rise is gradual",
    "not from the inputs": "the inputs alone, or an untrained network, have a far lower ARI",
}


@dataclass(frozen=True)
class Rule:
    """One statistic of a run, and the range in which a check of it holds."""

    finding: str
    number: Callable[[Curves, str], Floats]
    """Compute the number, (B,), from a run and a split; see `tasklens.findings.statistics`."""
    statistic: str
    """Description of the number."""
    reason: str
    """Reason of the threshold."""
    above: float = -np.inf
    below: float = np.inf
    splits: tuple[str, ...] = SEEN_AND_UNSEEN
    purpose: str = ""
    """Name of the random numbers of the interval; empty: the statistic. It must not change, so that
    intervals do not."""
    tasks: int = 2
    """Least number of tasks; with fewer, the check is left out."""

    @property
    def threshold(self) -> str:
        """The threshold as text."""
        if np.isinf(self.below):
            return f"> {self.above:g}"
        if np.isinf(self.above):
            return f"< {self.below:g}"
        return f"{self.above:g} to {self.below:g}"

    @property
    def digits(self) -> int:
        """The number of decimals with which numbers are written."""
        limits = [abs(limit) for limit in (self.above, self.below) if np.isfinite(limit)]
        return 2 if max(limits, default=1) >= 0.1 else 3


#: Thresholds were set before the seeds that docs/results/reproduction.md reports were run.
# fmt: off
RULES = (
    Rule("emergence", statistics.rank_with_step, above=0.7,
         statistic="rank correlation of the upper blocks' mean ARI with the step, until saturation",
         reason="with twelve checkpoints in random order, the chance to exceed it is below 1 %"),
    Rule("emergence", statistics.upper_gain, above=0.2,
         statistic="rise of the upper blocks' mean ARI, final minus initial",
         reason="rounding alone changed a final ARI by 0.2 at one seed"),
    Rule("saturation", statistics.best_final, above=0.8,
         statistic="final ARI of the best layer, in the better space",
         reason="nine of ten instances are then in their task's cluster, if errors are random"),
    Rule("saturation", statistics.late_drift, above=-0.1, below=0.1,
         statistic="change over the last quarter of training, as a share of the rise",
         reason="an even rise makes a quarter of its way in this time"),
    Rule("depth", statistics.rank_with_layer, above=0.7,
         statistic="rank correlation of the final ARI with the layer",
         reason="with seven layers in random order, the chance to exceed it is 5 %"),
    Rule("depth", statistics.depth_of_best, above=0.5,
         statistic="number of the best layer / number of the last layer",
         purpose="the best layer, as a share of the last",
         reason="the upper half of the layers begins at 0.5"),
    Rule("depth", statistics.above_embedding, above=0.2,
         statistic="final ARI of the best layer, minus that of embed",
         purpose="final ARI of the best layer, minus that of layer 0",
         reason="rounding alone changed a final ARI by 0.2 at one seed"),
    Rule("depth below the last block", statistics.rank_with_layer_below, above=0.7,
         statistic="rank correlation of the final ARI with the layer, without the last block",
         purpose="rank correlation of the final ARI with the layer, the last left out",
         reason="as for depth"),
    Rule("depth below the last block", statistics.depth_of_best_below, above=0.5,
         statistic="number of the best layer / number of the last layer, "
                   "without the last block",
         purpose="the best layer but for the last, as a share of the last but one",
         reason="as for depth"),
    Rule("depth below the last block", statistics.above_embedding_below, above=0.2,
         statistic="final ARI of the best layer, minus that of embed, without the last block",
         purpose="final ARI of the best layer but for the last, minus that of layer 0",
         reason="as for depth"),
    Rule("baseline", statistics.embedding_final, below=0.2,
         statistic="final ARI of embed", purpose="final ARI of layer 0",
         reason="a quarter of what counts as high; an instruction's length alone gives up to 0.15"),
    Rule("baseline", statistics.embedding_range, below=0.1,
         statistic="range of the ARI of embed through training, divided by that of the best layer",
         purpose="range of layer 0's ARI through training over the best layer's",
         reason="\"hardly\" means less than a tenth"),
    Rule("generalisation", statistics.generalisation_gap, below=0.1, splits=UNSEEN,
         statistic="final ARI of the best layer, on train_subset minus on this split",
         purpose="final ARI of the best layer, training minus this",
         reason="half of the change by rounding alone"),
    Rule("generalisation", statistics.generalisation_correlation, above=0.9, splits=UNSEEN,
         statistic="correlation of the best layer's curve with its curve on train_subset",
         purpose="correlation of the best layer's curve with that on training",
         reason="the curves then share four fifths of their variance"),
    Rule("gradual", statistics.largest_jump, below=0.5,
         statistic="largest rise between neighbouring checkpoints, as a share of the whole",
         reason="a larger jump is most of the rise"),
    Rule("gradual", statistics.rise_duration, above=0.1,
         statistic="time from a tenth to nine tenths of the rise, as a share of training",
         reason="a gradual rise takes at least a tenth of training"),
    *(Rule("not from the inputs", number, below=0.5,
           statistic=f"ARI of {control}, divided by that of the best layer",
           purpose=f"ARI of {control} over the best layer's",
           reason="\"far lower\" means less than half: most of the ARI is then due to training")
      for control, number in (
          ("the input token", statistics.control_ratio("control:input")),
          ("the instruction's length", statistics.control_ratio("control:length")),
          ("the bag of symbols", statistics.control_ratio("control:symbols")),
          ("the untrained network's best layer", statistics.untrained_ratio),
      )),
)
# fmt: on
