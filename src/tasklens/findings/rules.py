"""What the findings are and what each is judged by: statistics, thresholds and their reasons.

The findings are those of Wu and Varshney, "Clusters Emerge in Transformer-based Causal Language
Models" (arXiv 2402.12151).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasklens.findings.curves import Curves
from tasklens.findings.statistics import (
    TRAIN,
    above_embedding,
    above_embedding_below,
    best_final,
    control_ratio,
    depth_of_best,
    depth_of_best_below,
    embedding_final,
    embedding_range,
    generalisation_correlation,
    generalisation_gap,
    largest_jump,
    late_drift,
    rank_with_layer,
    rank_with_layer_below,
    rank_with_step,
    rise_duration,
    untrained_ratio,
    upper_gain,
)
from tasklens.scoring.bootstrap import Floats

PAIRS, INSTRUCTIONS = "val_subset", "val_instruction_subset"
SEEN_AND_UNSEEN = (TRAIN, PAIRS)

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
    statistic: str
    """What the number is, in words."""
    number: Callable[[Curves, str], Floats]
    """From a run and a split to the number, (B,); see `tasklens.findings.statistics`."""
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
RULES = (
    Rule(
        "emergence",
        "rank correlation of the upper blocks' mean ARI with the step, until saturation",
        rank_with_step,
        "of a dozen checkpoints in random order fewer than one in a hundred exceeds it",
        above=0.7,
    ),
    Rule(
        "emergence",
        "rise of the upper blocks' mean ARI, final minus initial",
        upper_gain,
        "rounding alone was seen to move a final ARI by 0.2 at one seed",
        above=0.2,
    ),
    Rule(
        "saturation",
        "final ARI of the best layer, in the better space",
        best_final,
        "nine instances of ten then lie in their task's cluster, where errors fall at random",
        above=0.8,
    ),
    Rule(
        "saturation",
        "change over the last quarter of training, as a share of the rise",
        late_drift,
        "a rise that goes on evenly makes a quarter of its way there",
        above=-0.1,
        below=0.1,
    ),
    Rule(
        "depth",
        "rank correlation of the final ARI with the layer",
        rank_with_layer,
        "of seven layers in random order one in twenty exceeds it",
        above=0.7,
    ),
    Rule(
        "depth",
        "the best layer, as a share of the last",
        depth_of_best,
        "the upper half begins there",
        above=0.5,
    ),
    Rule(
        "depth",
        "final ARI of the best layer, minus that of layer 0",
        above_embedding,
        "rounding alone was seen to move a final ARI by 0.2 at one seed",
        above=0.2,
    ),
    Rule(
        "depth below the last block",
        "rank correlation of the final ARI with the layer, the last left out",
        rank_with_layer_below,
        "as for depth",
        above=0.7,
    ),
    Rule(
        "depth below the last block",
        "the best layer but for the last, as a share of the last but one",
        depth_of_best_below,
        "as for depth",
        above=0.5,
    ),
    Rule(
        "depth below the last block",
        "final ARI of the best layer but for the last, minus that of layer 0",
        above_embedding_below,
        "as for depth",
        above=0.2,
    ),
    Rule(
        "baseline",
        "final ARI of layer 0",
        embedding_final,
        "a quarter of what counts as high; an instruction's length alone gives up to 0.15",
        below=0.2,
    ),
    Rule(
        "baseline",
        "range of layer 0's ARI through training over the best layer's",
        embedding_range,
        "hardly is less than a tenth",
        below=0.1,
    ),
    Rule(
        "generalisation",
        "final ARI of the best layer, training minus this",
        generalisation_gap,
        "half of what rounding alone was seen to move",
        below=0.1,
        splits=(PAIRS, INSTRUCTIONS),
    ),
    Rule(
        "generalisation",
        "correlation of the best layer's curve with that on training",
        generalisation_correlation,
        "the curves then share four fifths of their variance",
        above=0.9,
        splits=(PAIRS, INSTRUCTIONS),
    ),
    Rule(
        "gradual",
        "largest rise between neighbouring checkpoints, as a share of the whole",
        largest_jump,
        "one jump is one that makes most of the rise",
        below=0.5,
    ),
    Rule(
        "gradual",
        "time from a tenth to nine tenths of the rise, as a share of training",
        rise_duration,
        "at least a tenth of training",
        above=0.1,
    ),
    *(
        Rule(
            "not from the inputs",
            f"ARI of {words} over the best layer's",
            number,
            "far below is less than half: most of the ARI is then the trained network's own",
            below=0.5,
        )
        for words, number in (
            ("the input token", control_ratio("control:input")),
            ("the instruction's length", control_ratio("control:length")),
            ("the bag of symbols", control_ratio("control:symbols")),
            ("the untrained network's best layer", untrained_ratio),
        )
    ),
)
