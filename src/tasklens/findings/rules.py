"""What the findings are and what each is judged by: statistics, thresholds and their reasons.

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
    "saturation": "it saturates at a high value",
    "depth": "higher layers score higher",
    "depth below the last block": "higher layers score higher, the last block left aside",
    "baseline": "layer 0, the embedding, stays low and hardly moves",
    "generalisation": "validation follows training",
    "gradual": "the rise is gradual",
    "not from the inputs": "the inputs alone, or an untrained network, score far below",
}


@dataclass(frozen=True)
class Rule:
    """One statistic of a run and the side of a threshold that it should be on."""

    finding: str
    number: Callable[[Curves, str], Floats]
    """From a run and a split to the number, (B,); see `tasklens.findings.statistics`."""
    statistic: str
    """What the number is, in words."""
    reason: str
    """Why the threshold is what it is."""
    above: float = -np.inf
    below: float = np.inf
    splits: tuple[str, ...] = SEEN_AND_UNSEEN

    @property
    def threshold(self) -> str:
        """The threshold in words."""
        if np.isinf(self.below):
            return f"> {self.above:g}"
        if np.isinf(self.above):
            return f"< {self.below:g}"
        return f"{self.above:g} to {self.below:g}"


#: Thresholds were set before the seeds that docs/reproduction.md reports were run.
# fmt: off
RULES = (
    Rule("emergence", statistics.rank_with_step, above=0.7,
         statistic="rank correlation of the upper blocks' mean ARI with the step, until saturation",
         reason="of a dozen checkpoints in random order fewer than one in a hundred exceeds it"),
    Rule("emergence", statistics.upper_gain, above=0.2,
         statistic="rise of the upper blocks' mean ARI, final minus initial",
         reason="rounding alone was seen to move a final ARI by 0.2 at one seed"),
    Rule("saturation", statistics.best_final, above=0.8,
         statistic="final ARI of the best layer, in the better space",
         reason="nine instances of ten then lie in their task's cluster, "
                "where errors fall at random"),
    Rule("saturation", statistics.late_drift, above=-0.1, below=0.1,
         statistic="change over the last quarter of training, as a share of the rise",
         reason="a rise that goes on evenly makes a quarter of its way there"),
    Rule("depth", statistics.rank_with_layer, above=0.7,
         statistic="rank correlation of the final ARI with the layer",
         reason="of seven layers in random order one in twenty exceeds it"),
    Rule("depth", statistics.depth_of_best, above=0.5,
         statistic="the best layer, as a share of the last",
         reason="the upper half begins there"),
    Rule("depth", statistics.above_embedding, above=0.2,
         statistic="final ARI of the best layer, minus that of layer 0",
         reason="rounding alone was seen to move a final ARI by 0.2 at one seed"),
    Rule("depth below the last block", statistics.rank_with_layer_below, above=0.7,
         statistic="rank correlation of the final ARI with the layer, the last left out",
         reason="as for depth"),
    Rule("depth below the last block", statistics.depth_of_best_below, above=0.5,
         statistic="the best layer but for the last, as a share of the last but one",
         reason="as for depth"),
    Rule("depth below the last block", statistics.above_embedding_below, above=0.2,
         statistic="final ARI of the best layer but for the last, minus that of layer 0",
         reason="as for depth"),
    Rule("baseline", statistics.embedding_final, below=0.2,
         statistic="final ARI of layer 0",
         reason="a quarter of what counts as high; an instruction's length alone gives up to 0.15"),
    Rule("baseline", statistics.embedding_range, below=0.1,
         statistic="range of layer 0's ARI through training over the best layer's",
         reason="hardly is less than a tenth"),
    Rule("generalisation", statistics.generalisation_gap, below=0.1, splits=UNSEEN,
         statistic="final ARI of the best layer, training minus this",
         reason="half of what rounding alone was seen to move"),
    Rule("generalisation", statistics.generalisation_correlation, above=0.9, splits=UNSEEN,
         statistic="correlation of the best layer's curve with that on training",
         reason="the curves then share four fifths of their variance"),
    Rule("gradual", statistics.largest_jump, below=0.5,
         statistic="largest rise between neighbouring checkpoints, as a share of the whole",
         reason="one jump is one that makes most of the rise"),
    Rule("gradual", statistics.rise_duration, above=0.1,
         statistic="time from a tenth to nine tenths of the rise, as a share of training",
         reason="at least a tenth of training"),
    *(Rule("not from the inputs", number, below=0.5,
           statistic=f"ARI of {words} over the best layer's",
           reason="far below is less than half: most of the ARI is then the trained network's own")
      for words, number in (
          ("the input token", statistics.control_ratio("control:input")),
          ("the instruction's length", statistics.control_ratio("control:length")),
          ("the bag of symbols", statistics.control_ratio("control:symbols")),
          ("the untrained network's best layer", statistics.untrained_ratio),
      )),
)
# fmt: on
