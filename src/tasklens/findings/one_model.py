"""Define the findings of a model that is no series of checkpoints, and their rules.

The paper's findings are mostly of a training. Of one model the questions are: are there clusters,
are they more than controls give, are they there on unseen data, and can the task be read from them?
"""

from collections.abc import Callable

import numpy as np

from tasklens.data.instances import JUDGED
from tasklens.data.names import UNTRAINED
from tasklens.findings.curves import Curves
from tasklens.findings.rules import UNSEEN, Rule
from tasklens.findings.statistics import TRAIN, MissingError, judged_layer, share
from tasklens.scoring.bootstrap import Floats

MODEL_FINDINGS = {
    "clusters": "the hidden states of a layer form clusters by task",
    "above the controls": "an untrained twin, layer 0 and the prompts alone have a far lower ARI",
    "unseen data": "the same layer forms clusters by task on data that were held out",
    "decodable": "a linear classifier reads the task from that layer on data that were held out",
}
#: The remedies of the findings that need more than was measured.
NOTHING_HELD_OUT = (
    "Nothing shows that this is so on unseen data: hold some out, by --hold-out COLUMN or by a "
    "file per split"
)
NO_ROOM = "the untrained twin leaves no room above it on this split"
NO_TWIN = "there is no untrained twin: measure again with --untrained"


def best_layer_of(curves: Curves) -> str:
    """Return the layer whose hidden states have the highest ARI on the first split."""
    return judged_layer(curves, complete=False, space="raw")[0]


def best_ari(curves: Curves, split: str) -> Floats:
    """Return the ARI of the best layer, (B,)."""
    return _final(curves, split, best_layer_of(curves))


def ratio(control: Callable[[Curves, str], Floats]) -> Callable[[Curves, str], Floats]:
    """Return the statistic: a control, divided by the ARI of the best layer."""

    def number(curves: Curves, split: str) -> Floats:
        best = best_ari(curves, split)
        return share(control(curves, split) + np.zeros_like(best), best)

    return number


def twin_ari(curves: Curves, split: str) -> Floats:
    """Return the highest ARI of any layer of the untrained twin, in each copy, (B,)."""
    each = [_of_twin(curves, curves.ari[split, layer, "raw"]) for layer in curves.layers]
    highest: Floats = np.max(each, axis=0)
    return highest


def first_ari(curves: Curves, split: str) -> Floats:
    """Return the ARI of layer 0, (B,)."""
    return _final(curves, split, curves.layers[0])


def control_ari(name: str) -> Callable[[Curves, str], Floats]:
    """Return the statistic: the ARI of a control that needs no model."""

    def number(curves: Curves, split: str) -> Floats:
        if (split, name) not in curves.controls:
            raise MissingError(f"run {curves.run!r} has no {name}: measure it again")
        return curves.controls[split, name]

    return number


def decoded(curves: Curves, split: str) -> Floats:
    """Return the accuracy of the linear classifier in the best layer, (B,)."""
    return _decoded(curves, split, best_layer_of(curves))[:, -1]


def decoded_way(curves: Curves, split: str) -> Floats:
    """Return how far this accuracy is from that of the commonest task, 0, to 1."""
    if split not in curves.majority:
        raise MissingError("the share of the commonest task is not known")
    commonest = curves.majority[split]
    return (decoded(curves, split) - commonest) / (1 - commonest)


def decoded_above_twin(curves: Curves, split: str) -> Floats:
    """Return this accuracy, minus the highest in any layer of the untrained twin.

    MissingError if no accuracy could be `LEAST_ABOVE` higher.
    """
    each = [_of_twin(curves, _decoded(curves, split, layer)) for layer in curves.layers]
    highest = np.max(each, axis=0)
    if highest[0] > 1 - LEAST_ABOVE:
        raise MissingError(NO_ROOM)
    above: Floats = decoded(curves, split) - highest
    return above


def _final(curves: Curves, split: str, layer: str) -> Floats:
    if (split, layer, "raw") not in curves.ari:
        raise MissingError(f"run {curves.run!r} has no scores of {split}")
    return curves.final(split, layer)


def _decoded(curves: Curves, split: str, layer: str) -> Floats:
    if (split, layer) not in curves.decoded:
        raise MissingError(f"run {curves.run!r} has no linear classifier of {layer}")
    return curves.decoded[split, layer]


def _of_twin(curves: Curves, y: Floats) -> Floats:
    """Return the values of the untrained twin, (B,), of those by step, (B, S)."""
    for i, step in enumerate(curves.steps):
        if curves.step_names.get(step) == UNTRAINED:
            return y[:, i]
    raise MissingError(NO_TWIN)


#: With the finding and the split it names the random numbers of an interval.
ARI_OF_BEST = "ARI of the best layer"
#: How much higher than that of the twin an accuracy should be.
LEAST_ABOVE = 0.1
_FAR_LOWER = '"far lower" means less than half, as for the paper\'s findings'
_HALF_WAY = "half of the way from chance, 0, to a cluster per task, 1"

#: Thresholds were set before a pretrained model was judged by them.
# fmt: off
MODEL_RULES = (
    Rule("clusters", best_ari, above=0.5, splits=(TRAIN,),
         statistic=ARI_OF_BEST, reason=_HALF_WAY),
    *(Rule("above the controls", ratio(control), below=0.5, splits=JUDGED,
           statistic=f"ARI of {name}, divided by that of the best layer", reason=_FAR_LOWER)
      for control, name in (
          (twin_ari, "the best layer of the untrained twin"),
          (first_ari, "layer 0"),
          (control_ari("control:symbols"), "the bag of tokens"),
          (control_ari("control:length"), "the prompt's length"),
          (control_ari("control:input_class"), "the input's class"),
      )),
    Rule("unseen data", best_ari, above=0.5, splits=UNSEEN,
         statistic="ARI of the best layer, which the first split has chosen", reason=_HALF_WAY,
         purpose=ARI_OF_BEST),
    Rule("decodable", decoded_way, above=0.5, splits=UNSEEN,
         statistic="accuracy in the best layer, from that of the commonest task (0) to 1",
         reason="half of what a classifier can gain"),
    Rule("decodable", decoded_above_twin, above=LEAST_ABOVE, splits=UNSEEN,
         statistic="accuracy in the best layer, minus that in the untrained twin's best layer",
         reason="\"hardly\" means less than a tenth; a split on which the twin has over 0.9 is "
                "left out if there is another: no model could be above it there"),
)
# fmt: on
