"""Scores of one model with its untrained twin, in which each finding holds or fails as planted."""

from typing import Any

import numpy as np

from tasklens.core.seeds import stream
from tasklens.data.instances import JUDGED
from tasklens.findings.curves import Curves
from tasklens.scoring.bootstrap import Floats

#: ARI of the model by layer: embed, and the blocks. The best is block 4, and block 3 is as good.
ARI = (0.05, 0.1, 0.3, 0.9, 0.905, 0.4, 0.6)
#: Accuracy of the linear classifier by layer.
DECODED = (0.25, 0.6, 0.9, 0.95, 0.9, 0.9, 0.9)
TWIN_ARI, TWIN_DECODED, MAJORITY = 0.1, 0.5, 0.25
CONTROLS = {
    "control:length": 0.1,
    "control:symbols": 0.2,
    "control:input": 0.0,
    "control:input_class": 0.15,
}
NAMES = {0: "untrained", 1: "trained"}
SPLIT_NAMES = dict(zip(JUDGED, ("kept", "held_out_context", "held_out_input"), strict=True))


def planted_model(
    ari: tuple[float, ...] = ARI,
    decoded: tuple[float, ...] = DECODED,
    *,
    twin: tuple[float, float] | None = (TWIN_ARI, TWIN_DECODED),
    controls: dict[str, float] = CONTROLS,
    unseen: float = 0.0,
    splits: int = 3,
    copies: int = 40,
    seed: int = 0,
    **changes: Any,
) -> Curves:
    """Return the curves of one model, with ``copies`` resampled copies that vary by 0.01.

    ``twin`` has the ARI and the accuracy of each layer of the untrained twin. ``unseen`` is added
    to the ARI of the other splits than the first.
    """
    names = dict(list(SPLIT_NAMES.items())[:splits])
    layers = ("embed", *(f"block{i}" for i in range(1, len(ari))))
    random = stream(seed, "planted model")

    def copied(*by_step: float) -> Floats:
        noise = 0.01 * random.standard_normal((1 + copies, 1))
        noise[0] = 0
        return np.array(by_step) + noise

    curves = Curves(
        "model",
        seed,
        (1,) if twin is None else (0, 1),
        split_names=names,
        step_names=NAMES if twin else {1: "trained"},
        majority=dict.fromkeys(names, MAJORITY),
        units=("prompts",),
        **changes,
    )
    for split, name in names.items():
        for layer, value, accuracy in zip(layers, ari, decoded, strict=True):
            before = () if twin is None else (twin[0],)
            shown = value + unseen * (name != "kept")
            curves.ari[split, layer, "raw"] = copied(*before, shown)
            if name != "kept":
                before = () if twin is None else (twin[1],)
                curves.decoded[split, layer] = copied(*before, accuracy)
        for control, value in controls.items():
            curves.controls[split, control] = copied(value)[:, 0]
    return curves
